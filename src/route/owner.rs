//! Who moves a router's traffic, as it is written beside the split.

use std::fmt;
use std::sync::{Arc, Weak};

/// Who moves a router's traffic now.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Owner {
    /// What it is, for people: `rollout of v2`, `blue-green`, `ann by hand`.
    pub what: String,
    /// Where it is: the stage of a rollout, the state of the others.
    pub stage: String,
    /// Tells it from every other owner this router had; a later one has a higher number.
    pub generation: u64,
}

/// Somebody else moves this router's traffic. Nothing was touched.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{} moves this router's traffic (now: {}); end it first, or take over from it", owner.what, owner.stage)]
#[non_exhaustive]
pub struct OwnedError {
    /// Who.
    pub owner: Owner,
}

/// Told to end what it does, since another takes over.
pub(crate) trait GiveWay: Send + Sync {
    /// Takes all traffic back and lets the router go. Must not wait for anything.
    fn give_way(self: Arc<Self>, to: &str);

    /// Told that another owner has begun after this one had let the router go: there is no way to
    /// come back, so what was kept for that can go. Must not wait for what hangs.
    fn superseded(self: Arc<Self>) {}
}

/// What is written beside a split about who moves it.
pub(crate) struct Register {
    /// The generation of the last owner there was.
    pub(super) last: u64,
    /// The last one that speaks to a switch outside.
    pub(super) last_outside: u64,
    pub(super) owner: Option<Registered>,
    /// The last owner, once it let the router go.
    pub(super) former: Option<Weak<dyn GiveWay>>,
}

pub(super) struct Registered {
    pub(super) owner: Owner,
    /// Whom to tell when another takes over.
    pub(super) give_way: Option<Weak<dyn GiveWay>>,
}

impl Register {
    pub(crate) const fn new() -> Self {
        Self { last: 0, last_outside: 0, owner: None, former: None }
    }

    pub(crate) fn owner(&self) -> Option<Owner> {
        self.owner.as_ref().map(|registered| registered.owner.clone())
    }

    /// Nobody owns it any more.
    pub(super) fn let_go(&mut self) {
        self.former = self.owner.take().and_then(|registered| registered.give_way);
    }

    pub(super) fn is(&self, generation: u64) -> bool {
        self.owner.as_ref().is_some_and(|registered| registered.owner.generation == generation)
    }
}

impl fmt::Debug for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Register").field("owner", &self.owner()).finish_non_exhaustive()
    }
}
