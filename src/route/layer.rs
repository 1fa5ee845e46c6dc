//! Who takes part in which rollout, where rollouts must not meet.
//!
//! A [`Layer`] is one numbering of all subjects, by a salt of its own. Rollouts that would disturb
//! each other reserve ranges of it that do not overlap, so a subject is in one of them at most. A
//! [`Holdout`] is a range of every subject that no rollout touches, so that there is something to
//! compare a year of rollouts with.

use serde::{Deserialize, Serialize};

use crate::ids::Name;
use crate::route::bucket::{hash_of, inside, millionth, seed_of};
use crate::share::TrafficShare;

/// A stable share of the subjects that stays on the baseline, whatever is rolled out: the same
/// subjects in every router and every flag set that is given the same salt.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holdout {
    /// Who belongs to it follows from this; keep it for as long as the holdout lasts.
    pub salt: String,
    /// How many belong to it. Growing it only adds subjects.
    pub share: TrafficShare,
}

impl Holdout {
    /// Whether the subject belongs to it.
    #[must_use]
    pub fn holds(&self, subject: &[u8]) -> bool {
        inside(hash_of(subject, seed_of(&self.salt)), self.share)
    }
}

/// One numbering of all subjects, and who has reserved which part of it.
///
/// ```
/// use pilotage::route::layer::Layer;
/// use pilotage::share::TrafficShare;
///
/// let mut layer = Layer::new("ranking", "ranking-2026")?;
/// let one = layer.reserve("new-model", TrafficShare::HALF)?;
/// let other = layer.reserve("new-features", TrafficShare::percent(30.0)?)?;
/// let both = (0..1_000).filter(|user: &u32| {
///     let id = user.to_string();
///     one.holds(id.as_bytes()) && other.holds(id.as_bytes())
/// });
/// assert_eq!(both.count(), 0);
/// assert!(layer.reserve("a third", TrafficShare::HALF).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "LayerForm", into = "LayerForm")]
pub struct Layer {
    name: Name,
    salt: String,
    /// In the order of their ranges, which do not overlap.
    taken: Vec<Reservation>,
}

/// A rollout's part of a layer.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// Whose it is.
    pub rollout: Name,
    /// Where it begins, in parts per million.
    pub from_ppm: u32,
    /// Where it ends; the end itself is not part of it.
    pub to_ppm: u32,
}

/// Who is in a rollout's part of a layer.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerRange {
    /// The layer's.
    pub salt: String,
    /// Where it begins, in parts per million.
    pub from_ppm: u32,
    /// Where it ends; the end itself is not part of it.
    pub to_ppm: u32,
}

impl LayerRange {
    /// Whether the subject is in it.
    #[must_use]
    pub fn holds(&self, subject: &[u8]) -> bool {
        let at = millionth(hash_of(subject, seed_of(&self.salt)));
        (self.from_ppm..self.to_ppm).contains(&at)
    }
}

/// A part of a layer that cannot be reserved or given back.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// A name that cannot be used.
    #[error("layer: {0}")]
    Name(#[from] crate::ids::NameError),
    /// The rollout has a part already.
    #[error("layer {layer}: {rollout} has a part already; release it first")]
    Reserved {
        /// The layer.
        layer: Name,
        /// The rollout.
        rollout: Name,
    },
    /// Nobody would be in it.
    #[error("layer {layer}: a part of {share} holds nobody; ask for more")]
    Nothing {
        /// The layer.
        layer: Name,
        /// What was asked for.
        share: TrafficShare,
    },
    /// No gap is wide enough.
    #[error(
        "layer {layer}: {share} was asked for and the widest gap is {gap}; release a part, or ask for less"
    )]
    Full {
        /// The layer.
        layer: Name,
        /// What was asked for.
        share: TrafficShare,
        /// What could be had.
        gap: TrafficShare,
    },
    /// The rollout has none.
    #[error("layer {layer}: {rollout} has no part in it")]
    NotReserved {
        /// The layer.
        layer: Name,
        /// The rollout.
        rollout: Name,
    },
    /// A stored layer contradicts itself.
    #[error(
        "layer {layer}: the part of {rollout}, {from_ppm} to {to_ppm}, is empty, too wide or overlaps another"
    )]
    Malformed {
        /// The layer.
        layer: Name,
        /// The rollout.
        rollout: Name,
        /// Where its part begins.
        from_ppm: u32,
        /// Where it ends.
        to_ppm: u32,
    },
}

impl Layer {
    /// An empty layer.
    ///
    /// # Errors
    ///
    /// [`LayerError::Name`] when the name cannot be used.
    pub fn new(name: &str, salt: &str) -> Result<Self, LayerError> {
        Ok(Self { name: Name::new(name)?, salt: salt.to_owned(), taken: Vec::new() })
    }

    /// Gives `rollout` the first gap that is wide enough for `share` of all subjects. Who is in a
    /// part never changes while it is reserved.
    ///
    /// # Errors
    ///
    /// [`LayerError`] when the rollout has a part, the share is nothing, or no gap is wide enough.
    pub fn reserve(
        &mut self,
        rollout: &str,
        share: TrafficShare,
    ) -> Result<LayerRange, LayerError> {
        let rollout = Name::new(rollout)?;
        let layer = || self.name.clone();
        if self.taken.iter().any(|taken| taken.rollout == rollout) {
            return Err(LayerError::Reserved { layer: layer(), rollout });
        }
        if share == TrafficShare::NONE {
            return Err(LayerError::Nothing { layer: layer(), share });
        }
        let (mut from_ppm, mut widest) = (0, 0);
        for at in 0..=self.taken.len() {
            let end = self.taken.get(at).map_or(TrafficShare::ALL.ppm(), |next| next.from_ppm);
            if end - from_ppm >= share.ppm() {
                let to_ppm = from_ppm + share.ppm();
                self.taken.insert(at, Reservation { rollout, from_ppm, to_ppm });
                return Ok(LayerRange { salt: self.salt.clone(), from_ppm, to_ppm });
            }
            widest = widest.max(end - from_ppm);
            from_ppm = self.taken.get(at).map_or(end, |taken| taken.to_ppm);
        }
        let gap = TrafficShare::from_ppm(widest).unwrap_or(TrafficShare::NONE);
        Err(LayerError::Full { layer: layer(), share, gap })
    }

    /// Gives the part of `rollout` back, for others.
    ///
    /// # Errors
    ///
    /// [`LayerError::NotReserved`] when it has none.
    pub fn release(&mut self, rollout: &str) -> Result<(), LayerError> {
        let rollout = Name::new(rollout)?;
        match self.taken.iter().position(|taken| taken.rollout == rollout) {
            Some(at) => {
                self.taken.remove(at);
                Ok(())
            }
            None => Err(LayerError::NotReserved { layer: self.name.clone(), rollout }),
        }
    }

    /// Who has which part, in order.
    #[must_use]
    pub fn reservations(&self) -> &[Reservation] {
        &self.taken
    }

    /// The part of `rollout`, if it has one: after a restart.
    #[must_use]
    pub fn range_of(&self, rollout: &str) -> Option<LayerRange> {
        let taken = self.taken.iter().find(|taken| taken.rollout.as_str() == rollout)?;
        let (from_ppm, to_ppm) = (taken.from_ppm, taken.to_ppm);
        Some(LayerRange { salt: self.salt.clone(), from_ppm, to_ppm })
    }
}

/// A layer as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerForm {
    name: Name,
    salt: String,
    taken: Vec<Reservation>,
}

impl TryFrom<LayerForm> for Layer {
    type Error = LayerError;

    fn try_from(form: LayerForm) -> Result<Self, LayerError> {
        let LayerForm { name, salt, mut taken } = form;
        taken.sort_by_key(|taken| taken.from_ppm);
        let mut from = 0;
        for at in &taken {
            let fits = at.from_ppm >= from && at.from_ppm < at.to_ppm;
            if !fits || at.to_ppm > TrafficShare::ALL.ppm() {
                let Reservation { rollout, from_ppm, to_ppm } = at.clone();
                return Err(LayerError::Malformed { layer: name, rollout, from_ppm, to_ppm });
            }
            from = at.to_ppm;
        }
        Ok(Self { name, salt, taken })
    }
}

impl From<Layer> for LayerForm {
    fn from(layer: Layer) -> Self {
        Self { name: layer.name, salt: layer.salt, taken: layer.taken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(percent: f64) -> TrafficShare {
        TrafficShare::percent(percent).unwrap()
    }

    #[test]
    fn what_is_released_can_be_reserved_again() {
        let mut layer = Layer::new("l", "s").unwrap();
        layer.reserve("a", percent(40.0)).unwrap();
        layer.reserve("b", percent(40.0)).unwrap();
        let error = layer.reserve("c", percent(30.0)).unwrap_err();
        assert!(error.to_string().contains("widest gap is 20"), "{error}");
        layer.release("a").unwrap();
        let range = layer.reserve("c", percent(30.0)).unwrap();
        assert_eq!((range.from_ppm, range.to_ppm), (0, 300_000));
        assert_eq!(layer.range_of("c"), Some(range));
        assert!(matches!(layer.reserve("b", percent(1.0)), Err(LayerError::Reserved { .. })));
        assert!(matches!(layer.release("a"), Err(LayerError::NotReserved { .. })));
        assert!(matches!(layer.reserve("d", percent(0.0)), Err(LayerError::Nothing { .. })));
    }

    #[test]
    fn a_stored_layer_comes_back_or_says_what_contradicts_itself() {
        let mut layer = Layer::new("l", "s").unwrap();
        layer.reserve("a", percent(40.0)).unwrap();
        let stored = serde_json::to_string(&layer).unwrap();
        assert_eq!(serde_json::from_str::<Layer>(&stored).unwrap(), layer);
        for (from, to) in [(400_000, 400_000), (500_000, 400_000), (0, 1_000_001), (0, 9)] {
            let more = format!(r#","taken":[{{"rollout":"b","from_ppm":{from},"to_ppm":{to}}},"#);
            let bad = stored.replace(r#","taken":["#, &more);
            let error = serde_json::from_str::<Layer>(&bad).unwrap_err().to_string();
            assert!(error.contains("layer l: the part of"), "{error}");
        }
    }

    #[test]
    fn a_holdout_that_grows_only_gains_subjects() {
        let holdout = |share| Holdout { salt: "year".to_owned(), share };
        let (small, large) = (holdout(percent(1.0)), holdout(percent(5.0)));
        let ids: Vec<String> = (0..20_000).map(|user| format!("user-{user}")).collect();
        let held = ids.iter().filter(|id| small.holds(id.as_bytes())).count();
        assert!((120..280).contains(&held), "{held} of 200 expected");
        assert!(ids.iter().all(|id| !small.holds(id.as_bytes()) || large.holds(id.as_bytes())));
    }
}
