//! The plan of the demo: a journey of days in a minute.

use std::time::Duration;

use pilotage::judge::guardrail::Guardrail;
use pilotage::rollout::plan::{Plan, PlanError};
use pilotage::share::{ShareError, TrafficShare};

/// Shadow, 5 %, 25 %, 50 %, 100 %. `samples` is how many distinct samples there are.
///
/// The shadow asks for quality, proved in pairs: a loss of less than [`MARGIN`]. A candidate that
/// is as good is refused once in a hundred times; one that loses the whole margin passes once in
/// ten, which is what some 1,400 samples can tell. It passes after two thirds of them at the
/// earliest, and is refused as soon as that is shown.
///
/// # Errors
///
/// None, as long as the numbers here keep the rules of plans.
pub fn plan(samples: usize) -> Result<Plan, Box<dyn std::error::Error + Send + Sync>> {
    let share = |percent| -> Result<TrafficShare, ShareError> { TrafficShare::percent(percent) };
    let guardrails: Vec<Guardrail> = Guardrail::standard()
        .into_iter()
        // In a minute nobody can show a rate of 1 in 1,000; below 1 in 20 nobody minds here.
        .map(|rail| if rail.measure.is_rate() { rail.floor(0.05) } else { rail })
        .collect();
    let plan: Result<Plan, PlanError> = Plan::builder()
        .shadow(SHADOW, (samples as u64 * 2 / 3).max(1))
        .quality(MARGIN)
        .edit_last(|stage| {
            if let Some(quality) = &mut stage.quality {
                quality.alpha = 0.01;
            }
        })
        .canary(share(5.0)?, STAGE, 60)
        .canary(share(25.0)?, STAGE, 100)
        .canary(share(50.0)?, STAGE, 100)
        .full(STAGE, 100)
        .guardrails(&guardrails)
        .beta(BETA)
        .build();
    Ok(plan?)
}

/// The loss of accuracy that would not matter: two points.
pub const MARGIN: f64 = 0.02;
/// How often a proof may be wrong.
pub const BETA: f64 = 0.1;
/// How long the shadow lasts at least.
const SHADOW: Duration = Duration::from_secs(10);
/// How long a stage that serves users lasts at least.
const STAGE: Duration = Duration::from_secs(3);
