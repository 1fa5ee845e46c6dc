//! Lists of numbers: embeddings, logits, rankings.
//!
//! Lists of different lengths, and lists that hold a value that is not finite, are incomparable.
//! Lists of more than [`MOST`] numbers are too large.

use crate::compare::comparator::{Comparator, Incomparable};

/// The longest list that is compared.
pub const MOST: usize = 1 << 20;

/// A list of numbers, as the comparators of this file read it.
pub trait Numbers {
    /// How many.
    fn len(&self) -> usize;
    /// The number at `at`, which is below [`Numbers::len`].
    fn number(&self, at: usize) -> f64;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

macro_rules! numbers {
    ($($float:ty)*) => {$(
        impl Numbers for [$float] {
            fn len(&self) -> usize {
                <[$float]>::len(self)
            }

            fn number(&self, at: usize) -> f64 {
                f64::from(self[at])
            }
        }

        impl Numbers for Vec<$float> {
            fn len(&self) -> usize {
                <[$float]>::len(self)
            }

            fn number(&self, at: usize) -> f64 {
                f64::from(self[at])
            }
        }

        impl<const N: usize> Numbers for [$float; N] {
            fn len(&self) -> usize {
                N
            }

            fn number(&self, at: usize) -> f64 {
                f64::from(self[at])
            }
        }
    )*};
}

numbers!(f32 f64);

impl<V: Numbers + ?Sized> Numbers for std::sync::Arc<V> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn number(&self, at: usize) -> f64 {
        (**self).number(at)
    }
}

/// Both lists, of one length and finite.
pub(crate) fn read<V: Numbers + ?Sized>(
    baseline: &V,
    candidate: &V,
) -> Result<(Vec<f64>, Vec<f64>), Incomparable> {
    let lengths = (baseline.len(), candidate.len());
    if lengths.0 != lengths.1 {
        return Err(Incomparable::Lengths { baseline: lengths.0, candidate: lengths.1 });
    }
    if lengths.0 > MOST {
        return Err(Incomparable::TooLarge);
    }
    let numbers = |list: &V| (0..lengths.0).map(|at| list.number(at)).collect::<Vec<f64>>();
    let (a, b) = (numbers(baseline), numbers(candidate));
    if a.iter().chain(&b).all(|x| x.is_finite()) {
        Ok((a, b))
    } else {
        Err(Incomparable::NotFinite)
    }
}

/// Both lists over one power of two, so that no square overflows or vanishes; ratios stay the same.
fn scaled(mut a: Vec<f64>, mut b: Vec<f64>) -> (Vec<f64>, Vec<f64>) {
    for list in [&mut a, &mut b] {
        let most = list.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        if most > 0.0 {
            list.iter_mut().for_each(|x| *x /= most);
        }
    }
    (a, b)
}

/// The cosine of the angle between two vectors, taken as 0 beyond a right angle: 1 is the same
/// direction, 0 a right angle or more. Lengths do not count. Two zero vectors are the same; a zero
/// vector beside another has no direction and is incomparable.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cosine;

impl<V: Numbers + ?Sized> Comparator<V> for Cosine {
    fn compare(&self, baseline: &V, candidate: &V) -> Result<f64, Incomparable> {
        let (a, b) = read(baseline, candidate)?;
        let (a, b) = scaled(a, b);
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let (aa, bb, ab) = (dot(&a, &a), dot(&b, &b), dot(&a, &b));
        match (aa > 0.0, bb > 0.0) {
            (false, false) => Ok(1.0),
            (true, true) if a == b => Ok(1.0),
            (true, true) => Ok((ab / (aa.sqrt() * bb.sqrt())).clamp(0.0, 1.0)),
            _ => Err(Incomparable::Degenerate { what: "a zero vector has no direction" }),
        }
    }
}

/// One minus the distance of two vectors over the sum of their lengths: 1 is the same, 0 the
/// opposite direction. Two zero vectors are the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Euclidean;

impl<V: Numbers + ?Sized> Comparator<V> for Euclidean {
    fn compare(&self, baseline: &V, candidate: &V) -> Result<f64, Incomparable> {
        let (a, b) = read(baseline, candidate)?;
        let most = a.iter().chain(&b).fold(0.0_f64, |most, x| most.max(x.abs()));
        if most == 0.0 {
            return Ok(1.0);
        }
        let length = |list: &mut dyn Iterator<Item = f64>| list.map(|x| x * x).sum::<f64>().sqrt();
        let apart = length(&mut a.iter().zip(&b).map(|(a, b)| a / most - b / most));
        let both =
            length(&mut a.iter().map(|a| a / most)) + length(&mut b.iter().map(|b| b / most));
        Ok((1.0 - apart / both).clamp(0.0, 1.0))
    }
}

/// Which part of the `k` largest values' places both lists share: 1 is the same places in any
/// order, 0 none in common. Of equal values the first is the larger. Where lists are shorter than
/// `k`, all places are shared.
#[derive(Clone, Copy, Debug)]
pub struct TopK(usize);

impl TopK {
    /// Of the `k` largest values; 0 counts as 1.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self(k.max(1))
    }
}

impl<V: Numbers + ?Sized> Comparator<V> for TopK {
    fn compare(&self, baseline: &V, candidate: &V) -> Result<f64, Incomparable> {
        let (a, b) = read(baseline, candidate)?;
        let k = self.0.min(a.len());
        if k == 0 {
            return Ok(1.0);
        }
        let largest = |list: &[f64]| {
            let mut places: Vec<usize> = (0..list.len()).collect();
            let order =
                |x: &usize, y: &usize| (list[*y] + 0.0).total_cmp(&(list[*x] + 0.0)).then(x.cmp(y));
            places.select_nth_unstable_by(k - 1, order);
            places.truncate(k);
            places.sort_unstable();
            places
        };
        let (a, b) = (largest(&a), largest(&b));
        let shared = a.iter().filter(|place| b.binary_search(place).is_ok()).count();
        Ok(shared as f64 / k as f64)
    }
}

/// Spearman's correlation of ranks `ρ`, as `(1 + ρ) / 2`: 1 is the same order, 0 the reverse, and
/// a half no relation. Ties share their rank. Where all values of both lists are equal the order is
/// the same; where those of one are, there is nothing to correlate and the lists are incomparable,
/// as are lists of fewer than two values.
#[derive(Clone, Copy, Debug, Default)]
pub struct RankCorrelation;

impl<V: Numbers + ?Sized> Comparator<V> for RankCorrelation {
    fn compare(&self, baseline: &V, candidate: &V) -> Result<f64, Incomparable> {
        let (a, b) = read(baseline, candidate)?;
        if a.len() < 2 {
            return Err(Incomparable::Degenerate { what: "fewer than two values have no order" });
        }
        let (a, b) = (ranks(&a), ranks(&b));
        let middle = (a.len() as f64 - 1.0) / 2.0;
        let product = |x: &[f64], y: &[f64]| {
            x.iter().zip(y).map(|(x, y)| (x - middle) * (y - middle)).sum::<f64>()
        };
        let (aa, bb, ab) = (product(&a, &a), product(&b, &b), product(&a, &b));
        match (aa > 0.0, bb > 0.0) {
            (false, false) => Ok(1.0),
            (true, true) => Ok(f64::midpoint(1.0, ab / (aa.sqrt() * bb.sqrt())).clamp(0.0, 1.0)),
            _ => Err(Incomparable::Degenerate { what: "all values of one list are equal" }),
        }
    }
}

/// The rank of each value, from 0; equal values share the middle of theirs.
fn ranks(list: &[f64]) -> Vec<f64> {
    let mut places: Vec<usize> = (0..list.len()).collect();
    places.sort_unstable_by(|x, y| (list[*x] + 0.0).total_cmp(&(list[*y] + 0.0)));
    let mut ranks = vec![0.0; list.len()];
    let mut from = 0;
    while from < places.len() {
        let same = |at: &&usize| list[**at] == list[places[from]];
        let to = from + places[from..].iter().take_while(same).count();
        let rank = f64::midpoint(from as f64, to as f64 - 1.0);
        places[from..to].iter().for_each(|at| ranks[*at] = rank);
        from = to;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(got: Result<f64, Incomparable>, wanted: f64) {
        let got = got.unwrap();
        assert!((got - wanted).abs() < 1e-12, "{got}, not {wanted}");
    }

    #[test]
    fn known_angles_distances_and_orders() {
        near(Cosine.compare(&[1.0, 0.0], &[1.0, 1.0]), 0.5_f64.sqrt());
        near(Cosine.compare(&[1.0, 0.0], &[-1.0, 0.0]), 0.0);
        near(Cosine.compare(&[1e300, 1e300], &[1e-300, 1e-300]), 1.0);
        assert!(Cosine.compare(&[0.0, 0.0], &[1.0, 0.0]).is_err());
        near(Euclidean.compare(&[3.0, 0.0], &[0.0, 4.0]), 1.0 - 5.0 / 7.0);
        near(Euclidean.compare(&[f64::MAX], &[f64::MIN]), 0.0);
        near(TopK::new(2).compare(&[9.0, 8.0, 1.0], &[9.0, 1.0, 8.0]), 0.5);
        near(TopK::new(9).compare(&[9.0, 8.0], &[1.0, 8.0]), 1.0);
        near(RankCorrelation.compare(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), 0.0);
        // 1, 2.5, 2.5, 4 against 1, 2, 3, 4: rho = 4.5 / sqrt(4.5 * 5).
        let ties = RankCorrelation.compare(&[1.0, 2.0, 2.0, 9.0], &[1.0, 2.0, 3.0, 4.0]);
        near(ties, (1.0 + (4.5_f64 / 5.0).sqrt()) / 2.0);
        assert!(RankCorrelation.compare(&[1.0, 1.0], &[1.0, 2.0]).is_err());
    }

    #[test]
    fn lists_that_do_not_fit_are_incomparable() {
        let lengths = Incomparable::Lengths { baseline: 2, candidate: 1 };
        assert_eq!(Cosine.compare(&vec![1.0, 2.0], &vec![1.0]), Err(lengths));
        let nan = Euclidean.compare(&[f32::NAN], &[1.0]);
        assert_eq!(nan, Err(Incomparable::NotFinite));
        let long = vec![1.0_f32; MOST + 1];
        assert_eq!(TopK::new(1).compare(&long, &long), Err(Incomparable::TooLarge));
    }

    proptest! {
        #[test]
        fn every_similarity_is_one_and_does_not_depend_on_the_order(
            pairs in prop::collection::vec((-1e6..1e6_f64, -1e6..1e6_f64), 0..20), k in 0_usize..9,
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let comparators: [&dyn Comparator<Vec<f64>>; 4] =
                [&Cosine, &Euclidean, &TopK::new(k), &RankCorrelation];
            for comparator in comparators {
                match (comparator.compare(&a, &b), comparator.compare(&b, &a)) {
                    (Ok(one), Ok(two)) => {
                        prop_assert!((0.0..=1.0).contains(&one) && (one - two).abs() < 1e-9);
                    }
                    (one, two) => prop_assert_eq!(one.is_err(), two.is_err()),
                }
                if let Ok(same) = comparator.compare(&a, &a) {
                    prop_assert!(same > 1.0 - 1e-9);
                }
            }
        }
    }
}
