//! What a release may spend on false alarms, and what it has spent.
//!
//! Every stage may take a harmless candidate back with probability α. Over a release those add up,
//! so a release has a budget, each stage is given a part of it before it begins, and a
//! [`Ledger`] shows who had how much. A stage that is run again is a new stage: it looks at new
//! data and may be wrong again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::judge::guardrail::{Action, Guardrail};
use crate::stats::error::{StatsError, open_unit};

/// A release's budget of false alarms.
///
/// ```
/// use pilotage::judge::guardrail::Guardrail;
/// use pilotage::judge::ledger::Ledger;
///
/// let mut ledger = Ledger::new(Ledger::USUAL)?;
/// let alpha = ledger.spend("canary 5 %", 0.005, &Guardrail::standard())?;
/// assert_eq!(alpha, 0.005);
/// assert!(ledger.spend("canary 25 %", 0.5, &Guardrail::standard()).is_err());
/// println!("{ledger}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    budget: f64,
    entries: Vec<Entry>,
}

/// What one stage was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    /// Which stage.
    pub stage: String,
    /// Its α.
    pub alpha: f64,
    /// What each guardrail that decides has of it.
    pub parts: Vec<(String, f64)>,
}

/// A stage that asks for more than is left.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// More than is left.
    #[error(
        "stage \"{stage}\" asks for {asked} of the budget of false alarms, but {left} is left; \
         lower its level or raise the budget"
    )]
    Overspent {
        /// Which stage.
        stage: String,
        /// What it asks for.
        asked: f64,
        /// What is left.
        left: f64,
    },
    /// Not a level.
    #[error(transparent)]
    Level(#[from] StatsError),
}

impl Ledger {
    /// Two releases of a hundred harmless ones are taken back.
    pub const USUAL: f64 = 0.02;

    /// A budget of which nothing is spent.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when it is not strictly between 0 and 1.
    pub fn new(budget: f64) -> Result<Self, StatsError> {
        Ok(Self { budget: open_unit("budget", budget)?, entries: Vec::new() })
    }

    /// Gives `alpha` to a stage and returns it.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] when it is not a level or more than is left; nothing is then given.
    pub fn spend(
        &mut self,
        stage: impl Into<String>,
        alpha: f64,
        guardrails: &[Guardrail],
    ) -> Result<f64, LedgerError> {
        open_unit("alpha", alpha)?;
        let (stage, left) = (stage.into(), self.left());
        // A millionth of the budget is rounding, not overspending.
        if alpha > left + 1e-6 * self.budget {
            return Err(LedgerError::Overspent { stage, asked: alpha, left });
        }
        let deciding = || guardrails.iter().filter(|one| one.action != Action::ReportOnly);
        let whole: f64 = deciding().map(|one| one.weight).sum();
        let part = |one: &Guardrail| (one.name.clone(), alpha * one.weight / whole);
        self.entries.push(Entry { stage, alpha, parts: deciding().map(part).collect() });
        Ok(alpha)
    }

    /// What is left.
    #[must_use]
    pub fn left(&self) -> f64 {
        (self.budget - self.spent()).max(0.0)
    }

    /// What was given to all stages together.
    #[must_use]
    pub fn spent(&self) -> f64 {
        self.entries.iter().map(|entry| entry.alpha).sum()
    }

    /// Every stage's part, in the order in which they were given.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "false alarms: {:.4} of {:.4} given", self.spent(), self.budget)?;
        for entry in &self.entries {
            writeln!(f, "  {:.5}  {}", entry.alpha, entry.stage)?;
            for (guardrail, alpha) in &entry.parts {
                writeln!(f, "    {alpha:.5}  {guardrail}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_that_share_a_budget_may_use_all_of_it_and_no_more() {
        let mut ledger = Ledger::new(Ledger::USUAL).unwrap();
        for stage in 1..=4 {
            ledger.spend(format!("stage {stage}"), 0.005, &Guardrail::standard()).unwrap();
        }
        let error = ledger.spend("one more", 0.001, &[]).unwrap_err();
        assert!(error.to_string().contains("\"one more\""), "{error}");
        let parts: f64 = ledger.entries()[0].parts.iter().map(|part| part.1).sum();
        assert!((parts - 0.005).abs() < 1e-15);
        assert!(ledger.to_string().contains("0.00200  error rate"), "{ledger}");
        assert!(Ledger::new(f64::NAN).is_err());
    }
}
