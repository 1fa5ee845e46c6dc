//! What a comparator is, and how one is made of another.

use std::future::Future;

/// Says how alike two outputs are.
///
/// ```
/// use pilotage::compare::comparator::{By, Comparator, Exact, from_fn};
///
/// struct Answer { label: String, score: f64 }
///
/// // Only the label counts.
/// let labels = By::new(|answer: &Answer| answer.label.clone(), Exact);
/// let old = Answer { label: "cat".into(), score: 0.91 };
/// let new = Answer { label: "cat".into(), score: 0.87 };
/// assert_eq!(labels.compare(&old, &new), Ok(1.0));
///
/// // Or a closure of one's own.
/// let near = from_fn(|a: &Answer, b: &Answer| 1.0 - (a.score - b.score).abs());
/// assert!(near.compare(&old, &new).unwrap() > 0.95);
/// ```
pub trait Comparator<T: ?Sized>: Send + Sync {
    /// The similarity of two outputs to one request, from 0 to 1; each comparator says what these
    /// mean.
    ///
    /// Called on a shadow lane's executor, never on the request path: it may take its time, and
    /// may block. It should bound its work all the same, since a slow comparator fills the lane.
    /// The same two outputs should always give the same answer. A panic is caught, and counts as
    /// incomparable; so does a similarity that is not a number from 0 to 1.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] when there is no similarity. The pair then counts as incomparable, and
    /// neither as a match nor as a disagreement.
    fn compare(&self, baseline: &T, candidate: &T) -> Result<f64, Incomparable>;
}

/// Two outputs that have no similarity.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Incomparable {
    /// One is of another kind than the other.
    #[error("the outputs are of different kinds")]
    Kinds,
    /// Lists that must be of one length are not.
    #[error("the baseline's output has {baseline} elements, the candidate's {candidate}")]
    Lengths {
        /// The baseline's length.
        baseline: usize,
        /// The candidate's length.
        candidate: usize,
    },
    /// A value is NaN or infinite.
    #[error("an output holds a value that is not a finite number")]
    NotFinite,
    /// Weights that are no probabilities: negative, or not of sum 1.
    #[error("an output is not a list of probabilities")]
    NotProbabilities,
    /// The question has no answer for these values, for example the direction of a zero vector.
    #[error("the outputs are degenerate: {what}")]
    Degenerate {
        /// In what way.
        what: &'static str,
    },
    /// A comparison would take more work than the comparator allows itself.
    #[error("the outputs are too large to compare within bounds")]
    TooLarge,
    /// The comparator answered something else than a number from 0 to 1.
    #[error("the comparator said {said}, which is not a similarity from 0 to 1")]
    OutOfRange {
        /// What it answered.
        said: f64,
    },
    /// The comparator panicked.
    #[error("the comparator panicked")]
    Panicked,
    /// The comparator did not answer in time.
    #[error("the comparator did not answer in time")]
    TimedOut,
    /// The comparator could not do its work, for example because a judge model failed.
    #[error("the comparator failed")]
    Failed,
}

/// `similarity`, if it is one.
///
/// # Errors
///
/// [`Incomparable::OutOfRange`] when it is NaN or outside 0 to 1.
pub fn checked(similarity: f64) -> Result<f64, Incomparable> {
    if (0.0..=1.0).contains(&similarity) {
        Ok(similarity)
    } else {
        Err(Incomparable::OutOfRange { said: similarity })
    }
}

/// A comparator that has to wait for something: an embedding, a judge model.
///
/// It is awaited on a shadow lane's executor until the lane's deadline; see
/// [`LaneBuilder::compare_async`](crate::serve::shadow_lane::LaneBuilder::compare_async).
pub trait AsyncComparator<T: ?Sized>: Send + Sync {
    /// As [`Comparator::compare`]; the future is dropped at the deadline. It is polled on one thread
    /// from its beginning to its end, so it need not be `Send`.
    fn compare(
        &self,
        baseline: &T,
        candidate: &T,
    ) -> impl Future<Output = Result<f64, Incomparable>>;
}

/// 1 when the outputs are equal, 0 when they are not.
///
/// Floating-point numbers are better compared by [`crate::compare::numeric::Numeric`]: to be equal
/// is much to ask of them, and NaN is not even equal to itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exact;

impl<T: PartialEq + ?Sized> Comparator<T> for Exact {
    fn compare(&self, baseline: &T, candidate: &T) -> Result<f64, Incomparable> {
        Ok(f64::from(u8::from(baseline == candidate)))
    }
}

/// Compares what `part` takes out of each output: a label, an embedding, a rounded score.
/// 0 and 1 mean what they mean to the comparator of the parts.
#[derive(Clone, Copy, Debug)]
pub struct By<F, C> {
    part: F,
    comparator: C,
}

impl<F, C> By<F, C> {
    /// Compares the `part`s of two outputs by `comparator`.
    pub const fn new(part: F, comparator: C) -> Self {
        Self { part, comparator }
    }
}

impl<T, U, F, C> Comparator<T> for By<F, C>
where
    T: ?Sized,
    F: Fn(&T) -> U + Send + Sync,
    C: Comparator<U>,
{
    fn compare(&self, baseline: &T, candidate: &T) -> Result<f64, Incomparable> {
        self.comparator.compare(&(self.part)(baseline), &(self.part)(candidate))
    }
}

/// A closure as a comparator; see [`from_fn`].
#[derive(Clone, Copy, Debug)]
pub struct FnComparator<F>(F);

/// A comparator of a closure that answers a similarity, 1 for the same and 0 for nothing alike. An
/// answer that is NaN or outside 0 to 1 is [`Incomparable::OutOfRange`].
pub const fn from_fn<T, F>(similarity: F) -> FnComparator<F>
where
    T: ?Sized,
    F: Fn(&T, &T) -> f64 + Send + Sync,
{
    FnComparator(similarity)
}

impl<T: ?Sized, F: Fn(&T, &T) -> f64 + Send + Sync> Comparator<T> for FnComparator<F> {
    fn compare(&self, baseline: &T, candidate: &T) -> Result<f64, Incomparable> {
        checked((self.0)(baseline, candidate))
    }
}

impl<T: ?Sized, C: Comparator<T> + ?Sized> Comparator<T> for Box<C> {
    fn compare(&self, baseline: &T, candidate: &T) -> Result<f64, Incomparable> {
        (**self).compare(baseline, candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_similarity_is_a_number_from_0_to_1() {
        for said in [f64::NAN, f64::INFINITY, -0.1, 1.1, f64::NEG_INFINITY] {
            assert!(matches!(checked(said), Err(Incomparable::OutOfRange { .. })), "{said}");
            let liar = from_fn(move |_: &u8, _: &u8| said);
            assert!(liar.compare(&1, &1).is_err());
        }
        assert_eq!((checked(0.0), checked(1.0)), (Ok(0.0), Ok(1.0)));
    }

    #[test]
    fn a_comparator_of_parts_sees_the_parts_alone() {
        let by_parity = By::new(|n: &u32| n % 2, Exact);
        assert_eq!(by_parity.compare(&3, &7), Ok(1.0));
        assert_eq!(by_parity.compare(&3, &8), Ok(0.0));
        let boxed: Box<dyn Comparator<u32>> = Box::new(by_parity);
        assert_eq!(boxed.compare(&2, &4), Ok(1.0));
    }
}
