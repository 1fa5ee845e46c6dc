//! The candidate serves everybody; the old model stays warm.

use serde::{Deserialize, Serialize};

use crate::ids::Arm;
use crate::judge::guardrail::Guardrail;
use crate::judge::reference::{ReferenceJudge, Standing};
use crate::judge::stage::JudgeError;
use crate::judge::verdict::Reading;
use crate::machine::Seen;
use crate::observe::snapshot::ArmCounts;
use crate::strategy::conclusion::{Conclusion, Step};

/// The last stage before promotion.
///
/// Nothing is left to compare with at the same time, so the candidate is held against what the
/// baseline did in the stage before, with the limits of the guardrails on top. That is weaker than
/// a concurrent control: an incident that would have hit both models takes the candidate back. It
/// costs a healthy candidate its promotion then, and no user anything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Full {
    judge: ReferenceJudge,
}

impl Full {
    /// A stage held against `reference`, with the levels of
    /// [`crate::strategy::canary::Canary::new`].
    ///
    /// # Errors
    ///
    /// [`JudgeError`] when a guardrail or a level cannot be used.
    pub fn new(
        guardrails: Vec<Guardrail>,
        alpha: f64,
        beta: f64,
        planned: std::time::Duration,
        reference: &ArmCounts,
    ) -> Result<Self, JudgeError> {
        let judge = ReferenceJudge::new(guardrails, alpha, beta, planned, reference)?;
        Ok(Self { judge })
    }

    /// Takes in a batch.
    pub fn observe(&mut self, seen: &Seen) {
        if let Some(counts) = seen.live.arm(Arm::CANDIDATE) {
            self.judge.observe(seen.live.epoch, seen.live.lasted, counts);
        }
    }

    /// What was seen of the candidate in this stage.
    #[must_use]
    pub const fn seen(&self) -> &ArmCounts {
        self.judge.seen()
    }

    /// Each guardrail's numbers; the baseline's are those of the reference.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        self.judge.readings()
    }

    /// What follows, without the sentence: all that a look needs where nothing happens.
    #[must_use]
    pub fn step(&self) -> Step {
        match self.judge.standing() {
            Standing::Harm => Step::TakeBack,
            Standing::AsksForAPerson => Step::Pause,
            Standing::AllSafe => Step::Pass,
            Standing::Open => Step::Wait,
        }
    }

    /// What follows.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        Conclusion::new(self.step(), self.judge.to_string())
    }
}
