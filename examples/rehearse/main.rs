//! x
use pilotage::rollout::plan::Plan;
use pilotage::sim::rehearsal::{Looks, Rehearsal};
use pilotage::sim::world::Climate;
use std::time::{Duration, Instant};
fn main() {
    for n in 0..5 {
        #[expect(clippy::disallowed_methods, reason = "x")]
        let t = Instant::now();
        let c = Rehearsal::begin(Plan::standard(), Climate::new(100.0), n, Looks::default())
            .unwrap()
            .run(Duration::from_secs(86400 * 20));
        println!("{:?} {:?} {:?} looks {} {:?}", c.end, c.at, c.toll, c.looks, t.elapsed());
        println!("{}", c.reason);
    }
}
