//! Two slots, both warm, one of them serving.
//!
//! The *serving* model and the *standby* model. A model comes into the standby slot, is warmed
//! there, and only then may be given traffic. Switching is a change of shares and nothing else,
//! so going back is as quick as going forward. Promotion swaps the two labels; what served until
//! then becomes the standby, still warm, until its retirement is decided.

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::ids::Name;
use crate::machine::Effect;
use crate::share::TrafficShare;

/// Which model serves, which stands by, and how far the second is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct BlueGreen {
    serving: Name,
    standby: Standby,
    /// Whether the standby model is the one that served before the last promotion.
    #[serde(default)]
    promoted: bool,
}

/// What is in the standby slot.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Standby {
    /// Nothing.
    Empty,
    /// A model that is being loaded or warmed, and must not get traffic.
    Warming {
        /// Its name.
        name: Name,
        /// Since when.
        since: Moment,
    },
    /// A warm model without traffic.
    Ready {
        /// Its name.
        name: Name,
    },
    /// A warm model that gets a share of the traffic.
    Live {
        /// Its name.
        name: Name,
        /// How much.
        share: TrafficShare,
    },
}

/// A step that cannot be taken from here.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BlueGreenError {
    /// The standby slot holds a model that gets traffic.
    #[error("{name} still gets {share} of the traffic; roll back or promote before deploying")]
    Busy {
        /// The model that is there.
        name: Name,
        /// What it gets.
        share: TrafficShare,
    },
    /// A model is being loaded or warmed.
    #[error("{name} is being warmed already; wait for it")]
    Warming {
        /// Which.
        name: Name,
    },
    /// There was no promotion that could be undone: none was made, or another model has taken the
    /// former one's place.
    #[error("there is no promotion to undo; deploy the model and switch to it")]
    NothingToUndo,
    /// There is no standby model.
    #[error("no model stands by; deploy one first")]
    Empty,
    /// The standby model is not warm yet.
    #[error("{name} is not ready; wait for its warm-up before giving it traffic")]
    NotReady {
        /// The model that is warming.
        name: Name,
    },
    /// Promotion before the standby model had all traffic.
    #[error("{name} gets {share} of the traffic; promote once it has all of it")]
    NotAtFull {
        /// The model that is live.
        name: Name,
        /// What it gets.
        share: TrafficShare,
    },
}

impl BlueGreen {
    /// `serving` serves everybody, and nothing stands by.
    #[must_use]
    pub const fn new(serving: Name) -> Self {
        Self { serving, standby: Standby::Empty, promoted: false }
    }

    /// `serving` serves whoever the other does not, as they are found in a router: `standby` is
    /// loaded there and has this share.
    #[must_use]
    pub fn found(serving: Name, standby: Option<Name>, share: TrafficShare) -> Self {
        let standby = match standby {
            None => Standby::Empty,
            Some(name) if share == TrafficShare::NONE => Standby::Ready { name },
            Some(name) => Standby::Live { name, share },
        };
        Self { serving, standby, promoted: false }
    }

    /// A model begins to load into the standby slot, replacing one that gets no traffic.
    ///
    /// # Errors
    ///
    /// [`BlueGreenError::Busy`] while the present standby model gets traffic,
    /// [`BlueGreenError::Warming`] while another one is on its way there.
    pub fn deploy(&mut self, now: Moment, name: Name) -> Result<(), BlueGreenError> {
        match &self.standby {
            Standby::Live { name, share } => {
                return Err(BlueGreenError::Busy { name: name.clone(), share: *share });
            }
            Standby::Warming { name, .. } => {
                return Err(BlueGreenError::Warming { name: name.clone() });
            }
            Standby::Empty | Standby::Ready { .. } => {}
        }
        self.standby = Standby::Warming { name, since: now };
        self.promoted = false;
        Ok(())
    }

    /// The model that was warming is warm. Has no effect on one that already is.
    ///
    /// # Errors
    ///
    /// [`BlueGreenError::Empty`] when nothing stands by.
    pub fn ready(&mut self) -> Result<(), BlueGreenError> {
        match &self.standby {
            Standby::Empty => Err(BlueGreenError::Empty),
            Standby::Warming { name, .. } => {
                self.standby = Standby::Ready { name: name.clone() };
                Ok(())
            }
            Standby::Ready { .. } | Standby::Live { .. } => Ok(()),
        }
    }

    /// The model that was warming could not be warmed; its slot is empty again.
    pub fn failed(&mut self) {
        if matches!(self.standby, Standby::Warming { .. }) {
            self.standby = Standby::Empty;
        }
    }

    /// Gives the standby model `share` of the traffic; all of it is the switch, none the way back.
    ///
    /// # Errors
    ///
    /// [`BlueGreenError::Empty`] or [`BlueGreenError::NotReady`].
    pub fn shift(&mut self, share: TrafficShare) -> Result<Vec<Effect>, BlueGreenError> {
        let name = match &self.standby {
            Standby::Empty => return Err(BlueGreenError::Empty),
            Standby::Warming { name, .. } => {
                return Err(BlueGreenError::NotReady { name: name.clone() });
            }
            Standby::Ready { name } | Standby::Live { name, .. } => name.clone(),
        };
        self.standby = if share == TrafficShare::NONE {
            Standby::Ready { name }
        } else {
            Standby::Live { name, share }
        };
        Ok(vec![Effect::Shift(share)])
    }

    /// Everything back to the serving model. Always possible, and may be repeated.
    pub fn roll_back(&mut self) -> Vec<Effect> {
        if let Standby::Live { name, .. } = &self.standby {
            self.standby = Standby::Ready { name: name.clone() };
        }
        vec![Effect::Shift(TrafficShare::NONE)]
    }

    /// The standby model, which has all the traffic, becomes the serving one; what served stands
    /// by, warm.
    ///
    /// # Errors
    ///
    /// [`BlueGreenError::NotAtFull`] when it has less than all, [`BlueGreenError::NotReady`] or
    /// [`BlueGreenError::Empty`].
    pub fn promote(&mut self) -> Result<Vec<Effect>, BlueGreenError> {
        match &self.standby {
            Standby::Empty => Err(BlueGreenError::Empty),
            Standby::Warming { name, .. } => Err(BlueGreenError::NotReady { name: name.clone() }),
            Standby::Ready { name } => {
                Err(BlueGreenError::NotAtFull { name: name.clone(), share: TrafficShare::NONE })
            }
            Standby::Live { name, share } if *share != TrafficShare::ALL => {
                Err(BlueGreenError::NotAtFull { name: name.clone(), share: *share })
            }
            Standby::Live { name, .. } => {
                let promoted = name.clone();
                let retired = std::mem::replace(&mut self.serving, promoted);
                self.standby = Standby::Ready { name: retired };
                self.promoted = true;
                Ok(vec![Effect::Promote])
            }
        }
    }

    /// The model that served before the last promotion serves again, labels and traffic in one
    /// step; the one that was promoted stands by.
    ///
    /// # Errors
    ///
    /// [`BlueGreenError::NothingToUndo`] without a promotion whose former model still stands by.
    pub fn undo_promotion(&mut self) -> Result<Vec<Effect>, BlueGreenError> {
        let former = match &self.standby {
            Standby::Ready { name } | Standby::Live { name, .. } if self.promoted => name.clone(),
            _ => return Err(BlueGreenError::NothingToUndo),
        };
        let undone = std::mem::replace(&mut self.serving, former);
        self.standby = Standby::Ready { name: undone };
        self.promoted = false;
        Ok(vec![Effect::Restore])
    }

    /// The standby model's slot is emptied, if it gets no traffic.
    ///
    /// # Errors
    ///
    /// [`BlueGreenError::Busy`] while it does, [`BlueGreenError::Warming`] while a model is on its
    /// way there.
    pub fn retire(&mut self) -> Result<(), BlueGreenError> {
        match &self.standby {
            Standby::Live { name, share } => {
                return Err(BlueGreenError::Busy { name: name.clone(), share: *share });
            }
            Standby::Warming { name, .. } => {
                return Err(BlueGreenError::Warming { name: name.clone() });
            }
            Standby::Empty | Standby::Ready { .. } => {}
        }
        self.standby = Standby::Empty;
        self.promoted = false;
        Ok(())
    }

    /// The model that serves whoever the standby does not.
    #[must_use]
    pub const fn serving(&self) -> &Name {
        &self.serving
    }

    /// What stands by.
    #[must_use]
    pub const fn standby(&self) -> &Standby {
        &self.standby
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    #[test]
    fn a_model_that_is_not_warm_gets_no_traffic() {
        let mut slots = BlueGreen::new(name("v1"));
        assert_eq!(slots.shift(TrafficShare::ALL), Err(BlueGreenError::Empty));
        slots.deploy(Moment::ZERO, name("v2")).unwrap();
        let error = slots.shift(TrafficShare::ALL).unwrap_err();
        assert_eq!(error, BlueGreenError::NotReady { name: name("v2") });
        assert!(slots.promote().is_err());
    }

    #[test]
    fn promotion_swaps_the_labels_and_keeps_the_old_model_warm() {
        let mut slots = BlueGreen::new(name("v1"));
        slots.deploy(Moment::ZERO, name("v2")).unwrap();
        slots.ready().unwrap();
        slots.shift(TrafficShare::HALF).unwrap();
        assert!(matches!(slots.promote(), Err(BlueGreenError::NotAtFull { .. })));
        slots.shift(TrafficShare::ALL).unwrap();
        assert_eq!(slots.promote().unwrap(), [Effect::Promote]);
        assert_eq!(slots.serving(), &name("v2"));
        assert_eq!(slots.standby(), &Standby::Ready { name: name("v1") });
    }

    #[test]
    fn a_model_with_traffic_is_neither_replaced_nor_retired() {
        let mut slots = BlueGreen::new(name("v1"));
        slots.deploy(Moment::ZERO, name("v2")).unwrap();
        slots.ready().unwrap();
        slots.shift(TrafficShare::HALF).unwrap();
        assert!(matches!(slots.retire(), Err(BlueGreenError::Busy { .. })));
        let error = slots.deploy(Moment::ZERO, name("v3")).unwrap_err();
        assert!(error.to_string().contains("v2 still gets 50 %"), "{error}");
    }

    proptest! {
        #[test]
        fn rolling_back_is_possible_in_every_state(steps in prop::collection::vec(0..6_u8, 0..30)) {
            let mut slots = BlueGreen::new(name("v1"));
            for step in steps {
                match step {
                    0 => drop(slots.deploy(Moment::ZERO, name("v2"))),
                    1 => drop(slots.ready()),
                    2 => drop(slots.shift(TrafficShare::HALF)),
                    3 => drop(slots.shift(TrafficShare::ALL)),
                    4 => drop(slots.promote()),
                    _ => slots.failed(),
                }
                let mut again = slots.clone();
                prop_assert_eq!(again.roll_back(), [Effect::Shift(TrafficShare::NONE)]);
                let live = matches!(again.standby(), Standby::Live { .. });
                prop_assert!(!live);
                prop_assert_eq!(again.roll_back(), [Effect::Shift(TrafficShare::NONE)]);
            }
        }
    }
}
