//! Who may be on a candidate at all.
//!
//! The split says how many; an [`Audience`] says who. Whoever it places is no evidence: only where
//! the draw decides do the arms compare like with like.

use std::collections::HashSet;

use crate::ids::{Name, NameError, Segment};
use crate::route::layer::{Holdout, LayerRange};

/// Who takes part, in this order of precedence:
///
/// 1. a subject on the deny list is on the baseline;
/// 2. one on the allow list is on the candidate, as long as anybody is: a rollback takes it back;
/// 3. one outside of the segments, in the holdout, or outside of the layer's range is on the
///    baseline;
/// 4. everybody else is drawn.
///
/// A request of nobody known is on no list; where there is a holdout or a layer it is on the
/// baseline, since it cannot be shown to be outside of the one or inside of the other.
///
/// ```
/// use pilotage::route::audience::Audience;
///
/// let audience = Audience::builder()
///     .segments(["free", "trial"])
///     .allow(["tester-1"])
///     .deny(["bank-7"])
///     .build()?;
/// # let _ = audience;
/// # Ok::<(), pilotage::route::audience::AudienceError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Audience {
    deny: HashSet<Box<[u8]>>,
    allow: HashSet<Box<[u8]>>,
    /// `None` for all of them.
    segments: Option<Vec<Name>>,
    holdouts: Vec<Holdout>,
    range: Option<LayerRange>,
}

/// Collects who takes part; checks it at the end.
#[derive(Clone, Debug, Default)]
#[must_use = "an audience exists once it is built"]
pub struct AudienceBuilder {
    deny: Vec<Vec<u8>>,
    allow: Vec<Vec<u8>>,
    segments: Option<Vec<String>>,
    holdouts: Vec<Holdout>,
    range: Option<LayerRange>,
}

/// An audience that cannot be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AudienceError {
    /// More ids than a list may have.
    #[error("the {list} list has {len} ids; the most is 100000, for more use a segment")]
    TooMany {
        /// Which list.
        list: &'static str,
        /// How many.
        len: usize,
    },
    /// More holdouts than every request can be asked about.
    #[error("{len} holdouts were given; the most is 16")]
    TooManyHoldouts {
        /// How many.
        len: usize,
    },
    /// A segment's name cannot be used.
    #[error("audience: segment: {0}")]
    Segment(#[from] NameError),
    /// A segment the router does not know.
    #[error("audience: segment {segment} is not declared; declare it where the router is built")]
    Undeclared {
        /// The segment.
        segment: Name,
    },
    /// Nobody could be on the candidate.
    #[error("audience: no segment is named and none listed; nobody could take part")]
    Nobody,
}

/// How a request stands to an audience.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// It is on the baseline.
    Baseline,
    /// It is on the candidate, as long as anybody is.
    Candidate,
    /// The draw decides.
    Drawn,
}

/// An audience for one router: its segments by number.
#[derive(Debug)]
pub(crate) struct Admission {
    audience: Audience,
    segments: Option<[u64; 4]>,
}

impl Audience {
    /// Everybody, to begin with.
    pub fn builder() -> AudienceBuilder {
        AudienceBuilder::default()
    }

    /// With the numbers that `declared` gives its segments.
    pub(crate) fn admission(&self, declared: &[Name]) -> Result<Admission, AudienceError> {
        let Some(names) = &self.segments else {
            return Ok(Admission { audience: self.clone(), segments: None });
        };
        let mut bits = [0; 4];
        for name in names {
            let Some(at) = declared.iter().position(|known| known == name) else {
                return Err(AudienceError::Undeclared { segment: name.clone() });
            };
            let number = at + 1; // 0 is no segment
            bits[number / 64] |= 1 << (number % 64);
        }
        Ok(Admission { audience: self.clone(), segments: Some(bits) })
    }
}

impl AudienceBuilder {
    /// These subjects are never on the candidate.
    pub fn deny<S: AsRef<[u8]>>(mut self, subjects: impl IntoIterator<Item = S>) -> Self {
        self.deny.extend(subjects.into_iter().map(|id| id.as_ref().to_vec()));
        self
    }

    /// These subjects are on the candidate as long as anybody is, and are no evidence.
    pub fn allow<S: AsRef<[u8]>>(mut self, subjects: impl IntoIterator<Item = S>) -> Self {
        self.allow.extend(subjects.into_iter().map(|id| id.as_ref().to_vec()));
        self
    }

    /// Only these segments take part. The router must have declared them.
    pub fn segments<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        let names = names.into_iter().map(|name| name.as_ref().to_owned());
        self.segments.get_or_insert_with(Vec::new).extend(names);
        self
    }

    /// Whoever is in this holdout does not take part. May be given more than once.
    pub fn holdout(mut self, holdout: Holdout) -> Self {
        self.holdouts.push(holdout);
        self
    }

    /// Only whoever is in this part of a layer takes part.
    pub fn layer(mut self, range: LayerRange) -> Self {
        self.range = Some(range);
        self
    }

    /// The audience, checked.
    ///
    /// # Errors
    ///
    /// [`AudienceError`] when a list is too long, a segment's name cannot be used, or nobody could
    /// take part.
    pub fn build(self) -> Result<Audience, AudienceError> {
        for (list, ids) in [("deny", &self.deny), ("allow", &self.allow)] {
            if ids.len() > MOST_LISTED {
                return Err(AudienceError::TooMany { list, len: ids.len() });
            }
        }
        if self.holdouts.len() > MOST_HOLDOUTS {
            return Err(AudienceError::TooManyHoldouts { len: self.holdouts.len() });
        }
        let segments =
            self.segments.map(|names| names.iter().map(Name::new).collect::<Result<Vec<_>, _>>());
        let segments = segments.transpose()?;
        if self.allow.is_empty() && segments.as_ref().is_some_and(Vec::is_empty) {
            return Err(AudienceError::Nobody);
        }
        let set = |ids: Vec<Vec<u8>>| ids.into_iter().map(Vec::into_boxed_slice).collect();
        let (deny, allow) = (set(self.deny), set(self.allow));
        Ok(Audience { deny, allow, segments, holdouts: self.holdouts, range: self.range })
    }
}

impl Admission {
    /// How a request of this subject, if it is known, stands.
    pub(crate) fn standing(&self, subject: Option<&[u8]>, segment: Segment) -> Standing {
        let Audience { deny, allow, holdouts, range, .. } = &self.audience;
        if let Some(id) = subject {
            if deny.contains(id) {
                return Standing::Baseline;
            }
            if allow.contains(id) {
                return Standing::Candidate;
            }
        }
        if let Some(bits) = &self.segments {
            let number = segment.index();
            if bits.get(number / 64).is_none_or(|word| word >> (number % 64) & 1 == 0) {
                return Standing::Baseline;
            }
        }
        let outside = match subject {
            Some(id) => {
                holdouts.iter().any(|holdout| holdout.holds(id))
                    || range.as_ref().is_some_and(|range| !range.holds(id))
            }
            None => !holdouts.is_empty() || range.is_some(),
        };
        if outside { Standing::Baseline } else { Standing::Drawn }
    }
}

const MOST_LISTED: usize = 100_000;
const MOST_HOLDOUTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::TrafficShare;

    #[test]
    fn deny_wins_over_allow_and_allow_over_all_else() {
        let everybody = Holdout { salt: "h".to_owned(), share: TrafficShare::ALL };
        let audience = Audience::builder().segments(["a"]).holdout(everybody);
        let audience = audience.allow(["x", "y"]).deny(["y"]).build().unwrap();
        let declared = ["b", "a"].map(|name| Name::new(name).unwrap());
        let admission = audience.admission(&declared).unwrap();
        let (none, a, b) = (Segment::NONE, Segment::new(2), Segment::new(1));
        assert_eq!(admission.standing(Some(b"x"), b), Standing::Candidate);
        assert_eq!(admission.standing(Some(b"y"), a), Standing::Baseline);
        assert_eq!(admission.standing(Some(b"z"), a), Standing::Baseline, "held out");
        assert_eq!(admission.standing(None, a), Standing::Baseline, "might be held out");
        let open = Audience::builder().segments(["a"]).build().unwrap();
        let open = open.admission(&declared).unwrap();
        assert_eq!(open.standing(Some(b"z"), a), Standing::Drawn);
        for segment in [none, b, Segment::OTHER] {
            assert_eq!(open.standing(Some(b"z"), segment), Standing::Baseline);
        }
    }

    #[test]
    fn audiences_that_cannot_be_say_why() {
        let undeclared = Audience::builder().segments(["gone"]).build().unwrap();
        let error = undeclared.admission(&[]).unwrap_err().to_string();
        assert!(error.contains("gone is not declared"), "{error}");
        let none: [&str; 0] = [];
        assert_eq!(Audience::builder().segments(none).build().unwrap_err(), AudienceError::Nobody);
        let many = (0..100_001_u32).map(|id| id.to_string());
        let error = Audience::builder().deny(many).build().unwrap_err();
        assert_eq!(error, AudienceError::TooMany { list: "deny", len: 100_001 });
        assert!(Audience::builder().segments(["x\n"]).build().is_err());
    }
}
