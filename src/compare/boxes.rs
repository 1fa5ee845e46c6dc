//! Detections: boxes with a class.

use std::cmp::Ordering;

use crate::compare::comparator::{Comparator, Incomparable};

/// One detected thing: its class and its box, from the corner `(left, top)` to `(right, bottom)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// The class.
    pub class: u32,
    /// The smaller x.
    pub left: f64,
    /// The smaller y.
    pub top: f64,
    /// The larger x.
    pub right: f64,
    /// The larger y.
    pub bottom: f64,
}

impl Detection {
    fn area(&self) -> f64 {
        (self.right - self.left) * (self.bottom - self.top)
    }

    /// Intersection over union: 1 is the same box, 0 no area in common.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        if !(width > 0.0 && height > 0.0) {
            // Boxes without area are alike where they are equal.
            return if self.area() == 0.0 && self.corners() == other.corners() { 1.0 } else { 0.0 };
        }
        let shared = width * height;
        (shared / (self.area() + other.area() - shared)).clamp(0.0, 1.0)
    }

    fn corners(&self) -> [f64; 4] {
        [self.left, self.top, self.right, self.bottom]
    }

    fn is_box(&self) -> bool {
        self.area().is_finite()
            && self.corners().iter().all(|x| x.is_finite())
            && self.left <= self.right
            && self.top <= self.bottom
    }
}

/// The part of detections that have a partner in the other list: `2 · partners / (all of both)`,
/// which is the F1 score of one list judged by the other. 1 is that every box has a partner, 0 that
/// none has; two empty lists are the same.
///
/// Partners are of one class and overlap by an intersection over union of the given bound and more.
/// They are matched greedily, the closest first, each once. Boxes that are not finite or inside out
/// make the pair incomparable; lists that have more than [`MOST_PAIRS`] overlapping pairs, or
/// [`MOST_BOXES`] boxes, are too large.
///
/// ```
/// use pilotage::compare::boxes::{BoxMatch, Detection};
/// use pilotage::compare::comparator::Comparator;
///
/// let cat = Detection { class: 1, left: 0.0, top: 0.0, right: 10.0, bottom: 10.0 };
/// let moved = Detection { left: 1.0, right: 11.0, ..cat };
/// let dog = Detection { class: 2, ..cat };
/// let boxes = BoxMatch::new(0.5);
/// assert_eq!(boxes.compare(&vec![cat], &vec![moved]), Ok(1.0));
/// assert_eq!(boxes.compare(&vec![cat], &vec![dog]), Ok(0.0));
/// assert_eq!(boxes.compare(&vec![cat, dog], &vec![moved]), Ok(2.0 / 3.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxMatch {
    overlap: f64,
}

/// The most boxes of both lists together.
pub const MOST_BOXES: usize = 1 << 18;
/// The most pairs of boxes that are looked at.
pub const MOST_PAIRS: usize = 1 << 22;

impl BoxMatch {
    /// Partners overlap by `overlap` and more, from 0 to 1; 0.5 is usual. What is not a number from
    /// 0 to 1 counts as 0.5.
    #[must_use]
    pub fn new(overlap: f64) -> Self {
        Self { overlap: if (0.0..=1.0).contains(&overlap) { overlap } else { 0.5 } }
    }
}

impl Default for BoxMatch {
    fn default() -> Self {
        Self::new(0.5)
    }
}

impl<T: AsRef<[Detection]> + ?Sized> Comparator<T> for BoxMatch {
    fn compare(&self, baseline: &T, candidate: &T) -> Result<f64, Incomparable> {
        let (a, b) = (baseline.as_ref(), candidate.as_ref());
        let all = a.len() + b.len();
        if all > MOST_BOXES {
            return Err(Incomparable::TooLarge);
        }
        if !a.iter().chain(b).all(Detection::is_box) {
            return Err(Incomparable::NotFinite);
        }
        if all == 0 {
            return Ok(1.0);
        }
        let mut close = self.close(a, b)?;
        // The closest first; equal ones in a fixed order, so that the answer is one.
        close.sort_unstable_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2).cmp(&(y.1, y.2))));
        let (mut taken_a, mut taken_b) = (vec![false; a.len()], vec![false; b.len()]);
        let mut partners = 0_usize;
        for (_, i, j) in close {
            if !taken_a[i] && !taken_b[j] {
                (taken_a[i], taken_b[j]) = (true, true);
                partners += 1;
            }
        }
        Ok(2.0 * partners as f64 / all as f64)
    }
}

impl BoxMatch {
    /// Pairs that may be partners. Boxes are swept by class and from left to right, so only those
    /// that overlap in x are looked at.
    fn close(
        &self,
        a: &[Detection],
        b: &[Detection],
    ) -> Result<Vec<(f64, usize, usize)>, Incomparable> {
        let sorted = |boxes: &[Detection]| {
            let mut places: Vec<usize> = (0..boxes.len()).collect();
            places.sort_unstable_by(|x, y| by_class_and_left(&boxes[*x], &boxes[*y]));
            places
        };
        let (order_a, order_b) = (sorted(a), sorted(b));
        let mut close = Vec::new();
        let mut looked = 0;
        let mut next = 0;
        let mut open: Vec<usize> = Vec::new();
        for i in order_a {
            let one = &a[i];
            // All of b of this class, or an earlier one, that begin before this one ends.
            while let Some(j) = order_b.get(next).copied() {
                if (b[j].class, b[j].left) > (one.class, one.right) {
                    break;
                }
                open.push(j);
                next += 1;
            }
            // Later ones of a begin no earlier, so what has ended by now is over.
            looked += open.len();
            if looked > MOST_PAIRS {
                return Err(Incomparable::TooLarge);
            }
            open.retain(|j| b[*j].class == one.class && b[*j].right >= one.left);
            for j in &open {
                let iou = one.iou(&b[*j]);
                if iou > 0.0 && iou >= self.overlap {
                    close.push((iou, i, *j));
                }
            }
        }
        Ok(close)
    }
}

fn by_class_and_left(x: &Detection, y: &Detection) -> Ordering {
    x.class.cmp(&y.class).then(x.left.total_cmp(&y.left))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn square(class: u32, left: f64, top: f64) -> Detection {
        Detection { class, left, top, right: left + 10.0, bottom: top + 10.0 }
    }

    #[test]
    fn each_box_has_one_partner_and_the_closest_goes_first() {
        let old = vec![square(1, 0.0, 0.0)];
        let new = vec![square(1, 2.0, 0.0), square(1, 1.0, 0.0)];
        assert_eq!(BoxMatch::default().compare(&old, &new), Ok(2.0 / 3.0));
        assert_eq!(BoxMatch::default().compare(&Vec::new(), &new), Ok(0.0));
        assert_eq!(BoxMatch::default().compare(&Vec::new(), &Vec::new()), Ok(1.0));
    }

    #[test]
    fn what_is_no_box_is_incomparable() {
        let inside_out = Detection { class: 1, left: 5.0, top: 0.0, right: 1.0, bottom: 1.0 };
        let nan = Detection { left: f64::NAN, ..square(1, 0.0, 0.0) };
        for odd in [inside_out, nan] {
            assert!(BoxMatch::default().compare(&vec![odd], &vec![odd]).is_err());
        }
    }

    #[test]
    fn a_hundred_thousand_boxes_are_swept_and_a_heap_of_them_is_refused() {
        let spread: Vec<_> =
            (0..50_000).map(|at| square(at % 80, f64::from(at) * 3.0, 0.0)).collect();
        assert_eq!(BoxMatch::default().compare(&spread, &spread), Ok(1.0));
        let heap = vec![square(1, 0.0, 0.0); 10_000];
        assert_eq!(BoxMatch::default().compare(&heap, &heap), Err(Incomparable::TooLarge));
        let many = vec![square(1, 0.0, 0.0); MOST_BOXES];
        assert_eq!(BoxMatch::default().compare(&many, &many), Err(Incomparable::TooLarge));
    }

    proptest! {
        #[test]
        fn the_sweep_finds_the_pairs_that_all_pairs_have(
            a in prop::collection::vec((0..3_u32, 0..40_i32, 0..40_i32), 0..12),
            b in prop::collection::vec((0..3_u32, 0..40_i32, 0..40_i32), 0..12),
        ) {
            let boxes = |list: Vec<(u32, i32, i32)>| -> Vec<Detection> {
                list.into_iter().map(|(c, x, y)| square(c, x.into(), y.into())).collect()
            };
            let (a, b) = (boxes(a), boxes(b));
            let matcher = BoxMatch::new(0.3);
            let mut swept: Vec<_> =
                matcher.close(&a, &b).unwrap().into_iter().map(|(_, i, j)| (i, j)).collect();
            swept.sort_unstable();
            let mut all = Vec::new();
            for (i, x) in a.iter().enumerate() {
                for (j, y) in b.iter().enumerate() {
                    if x.class == y.class && x.iou(y) >= 0.3 {
                        all.push((i, j));
                    }
                }
            }
            prop_assert_eq!(swept, all);
        }
    }
}
