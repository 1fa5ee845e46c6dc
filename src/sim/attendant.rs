//! Whoever stands beside a rollout and says yes.
//!
//! A plan may wait for people: for an order to start, for an approval, for a drill, and for a clock
//! on the wall. A rehearsal is about what the machine decides, so all of that is given at once and
//! written into its history as such. A person who would have to look at evidence never comes: that
//! is a hold.

use crate::clock::Moment;
use crate::date::Date;
use crate::ids::Name;
use crate::machine::{Command, Drilled, Input, Order};
use crate::rollout::pipeline::{HoldKind, Rollout, State};

/// What is said to `rollout` at `now`, when the wall says `date`.
pub(crate) fn attend(rollout: &Rollout, now: Moment, date: Date) -> Vec<Input> {
    let mut said = Vec::new();
    let plan = rollout.plan();
    if plan.needs_wall_time() {
        said.push(Input::Wall(date));
    }
    if plan.fresh_drill().is_some() && matches!(rollout.state(), State::Waiting(_)) {
        let report = "taken for granted in a rehearsal".to_owned();
        said.push(Input::Drilled(Drilled { at: now, passed: true, report }));
    }
    let order = match rollout.hold().map(|hold| hold.kind) {
        Some(HoldKind::Start) => Some(Order::Start),
        Some(HoldKind::Approval) => Some(Order::Approve),
        _ => None,
    };
    if let (Some(order), Ok(who)) = (order, Name::new("rehearsal")) {
        let why = "taken for granted in a rehearsal".to_owned();
        said.push(Input::Command(Command { order, who, why, at: None }));
    }
    said
}

/// When a rollout by this plan begins, where nothing else says so: on the day before which it may
/// not, or on a Monday morning.
pub(crate) fn first_date(rollout: &Rollout) -> Date {
    rollout.plan().not_before().unwrap_or(Date::from_unix(MONDAY))
}

/// The first of January 2024, nine in the morning, UTC.
const MONDAY: i64 = 1_704_099_600;
