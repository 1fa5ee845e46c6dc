//! What control sees of a router, whatever it serves.
//!
//! A [`Pilot`](crate::control::pilot::Pilot) holds a router through this trait, so that it has no
//! type parameters and fits into any application state.

use std::sync::Arc;

use crate::clock::{Clock, Moment};
use crate::ids::Name;
use crate::machine::Shadowing;
use crate::model::Model;
use crate::observe::shadow::ShadowCounts;
use crate::observe::snapshot::{ArmCounts, Snapshot};
use crate::route::switch::{Split, SplitWord};
use crate::serve::shadow_lane::ShadowLane;

/// The control plane's hold on the data plane.
pub(crate) trait Plane: Send + Sync {
    /// The present moment of the clock that times requests.
    fn now(&self) -> Moment;
    /// Folds what requests recorded into counts, and feeds the metrics sinks.
    fn collect(&self);
    /// The counts of the split in force.
    fn snapshot(&self) -> Snapshot;
    /// Counts of all splits since the router was built, by arm.
    fn totals(&self) -> Vec<ArmCounts>;
    /// The word every request reads.
    fn word(&self) -> Arc<SplitWord>;
    /// Begins or ends running the candidate on copies of requests.
    fn shadow(&self, shadowing: Shadowing);
    /// What the shadow saw so far; `None` where there is no lane.
    fn shadow_counts(&self) -> Option<ShadowCounts>;
    /// The baseline's name.
    fn baseline(&self) -> Name;
    /// The name of the model where candidates stand.
    fn candidate(&self) -> Option<Name>;
    /// Windows that metrics sinks were not told in time.
    fn sinks_behind(&self) -> u64;
    /// The rollout's name.
    fn name(&self) -> Name;
    /// A copy of the split in force.
    fn split(&self) -> Split {
        self.word().read()
    }
}

/// A shadow lane, as a pilot holds it.
pub trait ShadowHandle: Send + Sync {
    /// Begins or ends running the candidate on copies of requests. Called by a pilot's tick; must
    /// not wait for shadow calls under way.
    fn shadow(&self, shadowing: Shadowing);

    /// Everything counted so far. Called by a pilot's tick.
    fn counts(&self) -> ShadowCounts;
}

impl<S: ShadowHandle + ?Sized> ShadowHandle for Arc<S> {
    fn shadow(&self, shadowing: Shadowing) {
        (**self).shadow(shadowing);
    }

    fn counts(&self) -> ShadowCounts {
        (**self).counts()
    }
}

impl<M, C> ShadowHandle for ShadowLane<M, C>
where
    M: Model + 'static,
    M::Input: Send,
    C: Clock + 'static,
{
    fn shadow(&self, shadowing: Shadowing) {
        match shadowing {
            Shadowing::On => self.resume(),
            Shadowing::Off => self.pause(),
        }
    }

    fn counts(&self) -> ShadowCounts {
        Self::counts(self) // the lane's own, of the same name
    }
}
