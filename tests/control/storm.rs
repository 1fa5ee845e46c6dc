//! The storm of `examples/chaos`, shorter: random orders from eight threads over real pilots.

use std::time::Duration;

use pilotage::sim::inject::Fault;

#[path = "../../examples/chaos/storm.rs"]
mod storm;

use storm::{Faults, Report, rollout};

fn blown(seeds: std::ops::Range<u64>, faults: Faults) {
    let mut report = Report::default();
    seeds.for_each(|seed| report.add(rollout(seed, faults)));
    assert_eq!(report.violated(), 0, "{:?} {:?}", report.violations, report.seeds);
    assert!(report.orders["abort"].taken > 0 && report.orders["promote_stage"].taken > 0);
}

#[test]
fn no_stop_is_lost_in_a_storm_of_orders() {
    blown(0..150, Faults::default());
}

#[test]
fn no_stop_is_lost_where_the_journal_is_slow_and_the_switch_fails() {
    let journal = Fault::Slow(Duration::from_millis(2));
    blown(1_000..1_080, Faults { journal, switch: Fault::Failing, ..Faults::default() });
}

#[test]
fn no_stop_is_lost_while_everything_hangs() {
    let blocked = Fault::Blocked(Duration::from_secs(60));
    let all = Faults { journal: blocked, switch: blocked, sink: blocked, alerter: blocked };
    blown(2_000..2_040, all);
}
