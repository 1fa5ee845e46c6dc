//! The baseline alone, so that there is something to compare with.

use serde::{Deserialize, Serialize};

use crate::ids::Arm;
use crate::machine::Seen;
use crate::observe::snapshot::ArmCounts;
use crate::outcome::Status;
use crate::strategy::conclusion::{Conclusion, Step};

/// Watches the model that serves until enough is known of it.
///
/// The concurrent control decides later, not what is collected here; but a baseline that fails
/// half of its own calls is an incident and not a yardstick, and no rollout begins on one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    needed: u64,
    seen: ArmCounts,
}

impl Baseline {
    /// A baseline that is complete after `needed` judged calls.
    #[must_use]
    pub fn new(needed: u64) -> Self {
        Self { needed, seen: ArmCounts::default() }
    }

    /// Takes in a batch.
    pub fn observe(&mut self, seen: &Seen) {
        if let Some(counts) = seen.live.arm(Arm::BASELINE) {
            self.seen.merge(counts);
        }
    }

    /// What was seen.
    #[must_use]
    pub const fn counts(&self) -> &ArmCounts {
        &self.seen
    }

    /// What follows, without the sentence.
    #[must_use]
    pub fn step(&self) -> Step {
        let judged = self.seen.judged();
        if judged == 0 || judged < self.needed {
            Step::Wait
        } else if self.bad().saturating_mul(2) >= judged {
            Step::Pause
        } else {
            Step::Pass
        }
    }

    fn bad(&self) -> u64 {
        self.seen.failures().saturating_add(self.seen.of(Status::Timeout))
    }

    /// Whether there is a baseline.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        let (judged, bad, step) = (self.seen.judged(), self.bad(), self.step());
        let why = match step {
            Step::Wait if judged == 0 => "the baseline has served no request yet".to_owned(),
            Step::Wait => format!("{judged} of the {} calls a baseline needs", self.needed),
            Step::Pause | Step::TakeBack => {
                format!("the baseline itself fails {bad} of {judged} calls; mend it first")
            }
            Step::Pass => {
                let millis = |q| self.seen.latency.quantile(q).unwrap_or(0) as f64 / 1e6;
                format!(
                    "baseline of {judged} calls: {bad} failed or timed out, p50 {:.3} ms, p95 {:.3} ms",
                    millis(0.5),
                    millis(0.95)
                )
            }
        };
        Conclusion::new(step, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::ids::Epoch;
    use crate::observe::snapshot::Delta;
    use crate::share::TrafficShare;

    fn batch(ok: u64, error: u64) -> Seen {
        let ended = [ok, error, 0, 0, 0];
        let mut counts = ArmCounts { started: ok + error, ended, ..ArmCounts::default() };
        (0..ok).for_each(|_| counts.latency.record(1_000_000));
        let delta =
            Delta::new(Moment::ZERO, std::time::Duration::ZERO, Epoch::new(0), vec![counts]);
        Seen::live(TrafficShare::NONE, delta)
    }

    #[test]
    fn no_traffic_is_no_baseline() {
        let mut baseline = Baseline::new(10);
        assert_eq!(baseline.conclusion().step, Step::Wait);
        baseline.observe(&Seen::default());
        assert_eq!(baseline.conclusion().step, Step::Wait);
        baseline.observe(&batch(10, 0));
        assert_eq!(baseline.conclusion().step, Step::Pass);
    }

    #[test]
    fn a_broken_baseline_is_an_incident_and_not_a_yardstick() {
        let mut baseline = Baseline::new(10);
        baseline.observe(&batch(10, 10));
        let conclusion = baseline.conclusion();
        assert_eq!(conclusion.step, Step::Pause);
        assert!(conclusion.why.contains("10 of 20"), "{}", conclusion.why);
    }
}
