//! Probabilities over the same classes.
//!
//! Both lists must be finite, not negative, and sum to 1 within [`SLACK`]: a softmax in single
//! precision does, logits do not, and are incomparable rather than silently normalised.

use crate::compare::comparator::{Comparator, Incomparable};
use crate::compare::vector::{Numbers, read};

/// How far from 1 a sum of probabilities may be.
pub const SLACK: f64 = 1e-3;

/// One minus half the sum of the absolute differences (total variation): 1 is the same
/// distribution, 0 is no class in common. It is one minus the largest difference of the
/// probabilities of any event.
#[derive(Clone, Copy, Debug, Default)]
pub struct TotalVariation;

impl<V: Numbers + ?Sized> Comparator<V> for TotalVariation {
    fn compare(&self, baseline: &V, candidate: &V) -> Result<f64, Incomparable> {
        let (p, q) = distributions(baseline, candidate)?;
        let apart: f64 = p.iter().zip(&q).map(|(p, q)| (p - q).abs()).sum();
        Ok((1.0 - apart / 2.0).clamp(0.0, 1.0))
    }
}

/// One minus Jensen and Shannon's distance in base 2: 1 is the same distribution, 0 is no class in
/// common. It minds small probabilities more than [`TotalVariation`] does.
#[derive(Clone, Copy, Debug, Default)]
pub struct JensenShannon;

impl<V: Numbers + ?Sized> Comparator<V> for JensenShannon {
    fn compare(&self, baseline: &V, candidate: &V) -> Result<f64, Incomparable> {
        let (p, q) = distributions(baseline, candidate)?;
        if p.len() < 2 {
            return Ok(1.0); // one class has all of it on both sides
        }
        let distance = crate::stats::divergence::jensen_shannon_distance(&p, &q)
            .map_err(|_| Incomparable::NotProbabilities)?;
        Ok((1.0 - distance / std::f64::consts::LN_2.sqrt()).clamp(0.0, 1.0))
    }
}

fn distributions<V: Numbers + ?Sized>(
    baseline: &V,
    candidate: &V,
) -> Result<(Vec<f64>, Vec<f64>), Incomparable> {
    let (mut p, mut q) = read(baseline, candidate)?;
    for list in [&mut p, &mut q] {
        let sum: f64 = list.iter().sum();
        if list.iter().any(|x| *x < 0.0) || (sum - 1.0).abs() > SLACK {
            return Err(Incomparable::NotProbabilities);
        }
        list.iter_mut().for_each(|x| *x /= sum);
    }
    Ok((p, q))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_distributions() {
        let (sure, even, other) = ([1.0, 0.0], [0.5, 0.5], [0.0, 1.0]);
        let both: [&dyn Comparator<[f64; 2]>; 2] = [&TotalVariation, &JensenShannon];
        for comparator in both {
            assert_eq!(comparator.compare(&even, &even), Ok(1.0));
            assert!(comparator.compare(&sure, &other).unwrap() < 1e-12);
        }
        assert_eq!(TotalVariation.compare(&sure, &even), Ok(0.5));
        // JS divergence of (1, 0) and (1/2, 1/2) in bits: 0.311278.
        let similarity = JensenShannon.compare(&sure, &even).unwrap();
        assert!((similarity - (1.0 - 0.311_278_124_459_132_8_f64.sqrt())).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_distribution_is_incomparable() {
        let fine = vec![0.5_f32, 0.5];
        for odd in [vec![0.7, 0.7], vec![-0.5, 1.5], vec![0.0, 0.0]] {
            let said = TotalVariation.compare(&fine, &odd);
            assert_eq!(said, Err(Incomparable::NotProbabilities), "{odd:?}");
        }
        assert!(JensenShannon.compare(&fine, &vec![f32::NAN, 1.0]).is_err());
        assert!(JensenShannon.compare(&fine, &vec![1.0]).is_err());
        assert!(TotalVariation.compare(&Vec::<f64>::new(), &Vec::new()).is_err());
    }
}
