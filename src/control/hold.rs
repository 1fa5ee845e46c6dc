//! What whoever moves a router's traffic has in common, whatever it is: the right to do so, which is
//! given up when it is dropped or another takes over, and then takes the candidate's traffic along.

use std::sync::Arc;
use std::time::Duration;

use crate::alert::alert::{Alert, Severity};
use crate::clock::Moment;
use crate::control::alert_queue::AlertQueue;
use crate::control::unattended::{Attended, LastLook, attend};
use crate::ids::Name;
use crate::route::owner::{GiveWay, OwnedError};
use crate::route::ownership::Ownership;
use crate::route::switch::{Split, SplitWord, SwitchError};
use crate::share::TrafficShare;

/// The right to move a router's traffic, and whom to tell when it is lost.
pub(super) struct Hold {
    word: Arc<SplitWord>,
    pub(super) ownership: Arc<Ownership>,
    alerts: AlertQueue,
    router: Name,
    what: &'static str,
    now: Box<dyn Fn() -> Moment + Send + Sync>,
    looked: LastLook,
    unattended: Option<Duration>,
}

/// A router that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum HoldError {
    #[error(transparent)]
    Owned(#[from] OwnedError),
    #[error(transparent)]
    Thread(#[from] std::io::Error),
}

impl Hold {
    /// Takes the right to move the traffic of `word`. After so long without a look, if that is
    /// given, everything goes back.
    pub(super) fn of(
        word: Arc<SplitWord>,
        router: &Name,
        what: &'static str,
        stage: &str,
        alerts: AlertQueue,
        now: Box<dyn Fn() -> Moment + Send + Sync>,
        unattended: Option<Duration>,
    ) -> Result<Arc<Self>, HoldError> {
        let ownership = Arc::new(Ownership::claim(&word, what, stage)?);
        let (looked, router) = (LastLook::now(), router.clone());
        let hold = Self { word, ownership, alerts, router, what, now, looked, unattended };
        let hold = Arc::new(hold);
        let weak = Arc::downgrade(&hold);
        hold.ownership.gives_way(weak.clone());
        if unattended.is_some() {
            attend(weak)?;
        }
        Ok(hold)
    }

    pub(super) fn renew(&self) {
        self.looked.renew();
    }

    pub(super) fn shift(&self, next: impl Fn(Split) -> Split) -> Result<Split, SwitchError> {
        loop {
            let order = next(self.word.read());
            match self.ownership.shift(&order) {
                Ok(()) => return Ok(order),
                Err(SwitchError::Superseded { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn tell(&self, key: &str, severity: Severity, summary: String) {
        let alert = Alert::new(key, severity, self.router.clone(), (self.now)(), summary);
        self.alerts.send(alert.once());
    }

    fn let_go(&self, why: &str) {
        let share = self.word.read().candidate;
        let took = self.ownership.take_back();
        if took.is_some() && share > TrafficShare::NONE {
            let summary = format!("{} took {share} back from the candidate: {why}", self.what);
            self.tell("let_go", Severity::Critical, summary);
        }
    }
}

impl Attended for Hold {
    fn attend(self: Arc<Self>) -> Option<Duration> {
        let limit = self.unattended?;
        let age = self.looked.age();
        if age <= limit {
            return Some((limit - age).max(limit / 16));
        }
        if self.word.read().candidate > TrafficShare::NONE {
            let age = age.as_secs_f64();
            self.let_go(&format!("nobody has looked after it for {age:.0} s; tick it"));
        }
        Some(limit / 4)
    }
}

impl GiveWay for Hold {
    fn give_way(self: Arc<Self>, to: &str) {
        self.let_go(&format!("{to} takes the router over"));
        self.ownership.release();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.let_go("it was dropped, and nobody looks after the candidate any more");
        self.ownership.release();
    }
}
