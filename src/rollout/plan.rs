//! The whole journey of a model, written down before it begins.
//!
//! A [`Plan`] is a list of stages that a candidate must pass in order: nothing is skipped, except
//! by an operator's recorded override. What a plan says was checked when it was built or loaded;
//! a plan that exists can be run.
//!
//! A plan is data: it is built ([`Plan::builder`]), or read from any self-describing format of
//! `serde`. `adapt::plan_file` reads TOML and JSON (features `toml` and `json`). Only `stages` must
//! be given, and of a stage only `kind`, `at_least` and, beside the baseline, `share`:
//!
//! ```toml
//! alpha = 0.02                      # a healthy candidate is taken back with this chance at most
//! beta = 0.05                       # one proof of harmlessness is wrong with this chance at most
//! not_before = "2026-03-30T08:00:00Z"
//! start_by_hand = false             # wait for the order to start
//! deadline = "2026-04-10"           # promoted by then, or ...
//! when_late = "hold"                # ... "hold" or "roll_back"
//! fresh_drill = "168h"              # a rollback drill no older than this, before anything begins
//! rollback_window = "48h"           # so long after the promotion one order takes it back
//! freezes = [
//!     { days = ["fri"], from = "18:00", to = "24:00" },
//!     { from = "2026-12-20", until = "2027-01-02" },
//! ]
//!
//! [[stages]]
//! kind = "shadow"                   # baseline, shadow, canary, ab_test, full
//! at_least = "24h"
//! agreement = { above = 0.85 }
//!
//! [[stages]]
//! name = "first users"              # "5 %" unless given
//! kind = "canary"
//! share = "5 %"                     # or "500 ppm"
//! warm_up = "5m"                    # no evidence before
//! at_least = "2h"
//! at_most = "12h"                   # four times at_least unless given
//! min_samples = 1000
//! approval = true                   # a person agrees before it goes on
//! when_inconclusive = "hold"        # or "roll_back", or { extend = { by = "6h", times = 2 } }
//! when_underpowered = "hold"
//! when_no_data = "hold"
//! guardrails = ["error_rate", "timeout_rate", { guardrail = "p95", limit = 1.4 }]
//!
//! [[stages]]
//! kind = "ab_test"
//! share = "50 %"
//! at_least = "24h"
//! comparison = { of = ["truths"], margin = 0.02, segments = ["free", "premium"] }
//!
//! [[stages]]
//! kind = "full"
//! at_least = "48h"
//! ```

use std::time::Duration;

use crate::date::Date;
use crate::rollout::freeze::Freeze;

pub use crate::rollout::plan_error::PlanError;
pub use crate::rollout::stage::{AgreementRule, QualityRule, Stage, StageKind, Undecided};

/// A journey that can be run.
///
/// ```
/// use std::time::Duration;
///
/// use pilotage::rollout::plan::Plan;
/// use pilotage::share::TrafficShare;
///
/// let hour = Duration::from_secs(3600);
/// let plan = Plan::builder()
///     .shadow(hour, 1_000)
///     .canary(TrafficShare::percent(5.0)?, hour, 1_000)
///     .full(hour, 1_000)
///     .build()?;
/// assert_eq!(plan.stages().len(), 3);
///
/// // Nothing may serve everybody straight from the shadow.
/// let hasty = Plan::builder().shadow(hour, 1_000).full(hour, 1_000).build();
/// assert!(hasty.unwrap_err().to_string().contains("add one before it"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(super) stages: Vec<Stage>,
    pub(super) alpha: f64,
    pub(super) beta: f64,
    pub(super) not_before: Option<Date>,
    pub(super) start_by_hand: bool,
    pub(super) deadline: Option<Date>,
    pub(super) when_late: Undecided,
    pub(super) fresh_drill: Option<Duration>,
    pub(super) freezes: Vec<Freeze>,
    pub(super) rollback_window: Duration,
}

impl Plan {
    /// The stages, in order.
    #[must_use]
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The chance, at the most, that a healthy candidate is taken back anywhere on the journey.
    #[must_use]
    pub const fn alpha(&self) -> f64 {
        self.alpha
    }

    /// The chance, at the most, that one proof of harmlessness is wrong.
    #[must_use]
    pub const fn beta(&self) -> f64 {
        self.beta
    }

    /// What of [`Plan::alpha`] each stage may spend: the same for all that can take a model back. A
    /// stage that is tried again spends it again.
    #[must_use]
    pub fn alpha_of_a_stage(&self) -> f64 {
        let spending = self.stages.iter().filter(|s| s.kind != StageKind::Baseline).count();
        self.alpha / spending.max(1) as f64
    }

    /// When it may begin; `None` for at once.
    #[must_use]
    pub const fn not_before(&self) -> Option<Date> {
        self.not_before
    }

    /// Whether it waits for an operator's order to start.
    #[must_use]
    pub const fn start_by_hand(&self) -> bool {
        self.start_by_hand
    }

    /// When the candidate should have been promoted; `None` for whenever it is ready.
    #[must_use]
    pub const fn deadline(&self) -> Option<Date> {
        self.deadline
    }

    /// What is done with a candidate that is not promoted by the deadline.
    #[must_use]
    pub const fn when_late(&self) -> Undecided {
        self.when_late
    }

    /// How old the last rollback drill may be when the rollout begins; `None` for no drill.
    #[must_use]
    pub const fn fresh_drill(&self) -> Option<Duration> {
        self.fresh_drill
    }

    /// When no stage is left forward.
    #[must_use]
    pub fn freezes(&self) -> &[Freeze] {
        &self.freezes
    }

    /// For how long after the promotion the former baseline stays warm and one order brings it back;
    /// zero for not at all. See [`watch`](crate::rollout::watch).
    #[must_use]
    pub const fn rollback_window(&self) -> Duration {
        self.rollback_window
    }

    /// Whether it has dates or hours in it, so that its rollout must be told what a wall clock reads
    /// ([`crate::machine::Input::Wall`]).
    #[must_use]
    pub fn needs_wall_time(&self) -> bool {
        self.not_before.is_some() || self.deadline.is_some() || !self.freezes.is_empty()
    }
}
