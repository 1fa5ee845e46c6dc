//! A router, as control holds it.

use std::sync::Arc;

use crate::clock::{Clock, Moment};
use crate::control::plane::{Plane, ShadowHandle};
use crate::ids::{Arm, Name};
use crate::machine::Shadowing;
use crate::observe::shadow::ShadowCounts;
use crate::observe::snapshot::{ArmCounts, Snapshot};
use crate::rollout::journal::About;
use crate::route::switch::SplitWord;
use crate::serve::router::Router;

/// Whose rollout one of `candidate` on this router is, where it is the first in its journal.
pub(super) fn about<M, C: Clock>(router: &Router<M, C>, candidate: &Name) -> About {
    let router_name = router.name().clone();
    About {
        baseline: router.model_name(Arm::BASELINE).unwrap_or_else(|| router_name.clone()),
        router: router_name,
        candidate: candidate.clone(),
        scheme: router.scheme().clone(),
        begun: 1,
    }
}

/// A router and its lane, as control holds them.
pub(super) struct Reins<M, C: Clock> {
    pub(super) router: Router<M, C>,
    pub(super) shadow: Option<Arc<dyn ShadowHandle>>,
}

impl<M: Send + Sync, C: Clock> Plane for Reins<M, C> {
    fn now(&self) -> Moment {
        self.router.clock().now()
    }

    fn collect(&self) {
        self.router.drain_aside();
    }

    fn snapshot(&self) -> Snapshot {
        self.router.snapshot()
    }

    fn totals(&self) -> Vec<ArmCounts> {
        self.router.totals()
    }

    fn word(&self) -> Arc<SplitWord> {
        self.router.switch()
    }

    fn shadow(&self, shadowing: Shadowing) {
        if let Some(lane) = &self.shadow {
            lane.shadow(shadowing);
        }
    }

    fn shadow_counts(&self) -> Option<ShadowCounts> {
        self.shadow.as_ref().map(|lane| lane.counts())
    }

    fn baseline(&self) -> Name {
        self.router.model_name(Arm::BASELINE).unwrap_or_else(|| self.router.name().clone())
    }

    fn candidate(&self) -> Option<Name> {
        self.router.model_name(Arm::CANDIDATE)
    }

    fn sinks_behind(&self) -> u64 {
        self.router.sinks_behind()
    }

    fn name(&self) -> Name {
        self.router.name().clone()
    }
}
