//! What of a plan cannot work at the traffic there is.
//!
//! A plan that keeps every rule may still never end: a canary of 5 % of one request a second does
//! not show in two hours that errors have not doubled. [`Plan::lint`] says so before anything is
//! deployed, with the figure and what would help. It is a forecast and no verdict: the rollout
//! itself holds, and says why, where it does not come out as hoped.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::date::Date;
use crate::judge::guardrail::{Action, Guardrail, Measure, NoData};
use crate::judge::planner::Prospect;
use crate::rollout::freeze::thaw;
use crate::rollout::human::show_duration;
use crate::rollout::plan::Plan;
use crate::rollout::stage::{Stage, StageKind, Undecided};
use crate::share::TrafficShare;
use crate::stats::check::in_range;
use crate::stats::error::StatsError;
use crate::strategy::ab_test::plan::Horizon;
use crate::strategy::ab_test::stage::Compared;

/// The traffic a plan is to run at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Traffic {
    /// Requests a second, of everybody.
    pub requests_per_second: f64,
    /// The part of the baseline's calls that fail, from 0 to 1.
    pub error_rate: f64,
    /// The part that times out, from 0 to 1.
    pub timeout_rate: f64,
    /// The part of the answers whose truth arrives while the stage lasts, from 0 to 1.
    pub truths: f64,
    /// The part of the answers that carry a score, from 0 to 1.
    pub scores: f64,
    /// The part of the requests that a shadow is given, from 0 to 1.
    pub shadowed: f64,
}

/// Something that cannot work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lint {
    /// The stage; `None` for the plan itself.
    pub stage: Option<String>,
    /// Which field of it.
    pub field: &'static str,
    /// The figure that shows it, in one sentence.
    pub figure: String,
    /// What would help.
    pub remedy: String,
}

impl Traffic {
    /// So many requests a second, of which one in a thousand fails and as many time out; no truths,
    /// no scores, and everything shadowed.
    #[must_use]
    pub const fn new(requests_per_second: f64) -> Self {
        Self {
            requests_per_second,
            error_rate: 0.001,
            timeout_rate: 0.001,
            truths: 0.0,
            scores: 0.0,
            shadowed: 1.0,
        }
    }

    fn check(&self) -> Result<(), StatsError> {
        let most = 1e9;
        let expected = "above 0 and at most 1e9";
        in_range("requests per second", self.requests_per_second, 1e-9, most, expected)?;
        for (name, part) in [
            ("error rate", self.error_rate),
            ("timeout rate", self.timeout_rate),
            ("truths", self.truths),
            ("scores", self.scores),
            ("shadowed", self.shadowed),
        ] {
            in_range(name, part, 0.0, 1.0, "from 0 to 1")?;
        }
        Ok(())
    }

    /// Samples of `stage` in so much time: candidate calls, pairs, or the baseline's calls.
    fn samples(&self, stage: &Stage, time: Duration) -> f64 {
        let part = match stage.kind {
            StageKind::Baseline => 1.0,
            StageKind::Shadow => self.shadowed,
            StageKind::Canary | StageKind::AbTest | StageKind::Full => stage.share.fraction(),
        };
        self.requests_per_second * part * time.as_secs_f64()
    }
}

impl Plan {
    /// What cannot work at this traffic; nothing for a plan that can.
    ///
    /// Rates are forecast by the very rule that judges them ([`crate::judge::planner`]); latencies
    /// are not, since that takes more than a rate to know.
    ///
    /// # Errors
    ///
    /// [`StatsError`] for traffic that cannot be.
    ///
    /// ```
    /// use pilotage::rollout::lint::Traffic;
    /// use pilotage::rollout::plan::Plan;
    ///
    /// // One request in a hundred seconds: the canary never has its thousand samples.
    /// let lints = Plan::standard().lint(&Traffic::new(0.01))?;
    /// let lint = lints.iter().find(|lint| lint.stage.as_deref() == Some("5 %")).unwrap();
    /// assert_eq!(lint.field, "min_samples");
    /// println!("{lint}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lint(&self, traffic: &Traffic) -> Result<Vec<Lint>, StatsError> {
        traffic.check()?;
        let mut lints = Vec::new();
        for stage in self.stages() {
            samples(stage, traffic, &mut lints);
            if stage.kind.is_beside() {
                for guardrail in &stage.guardrails {
                    power(self, stage, guardrail, traffic, &mut lints);
                }
            }
            comparison(stage, traffic, &mut lints);
        }
        dates(self, &mut lints);
        Ok(lints)
    }
}

/// Too few samples within the stage's longest time.
fn samples(stage: &Stage, traffic: &Traffic, lints: &mut Vec<Lint>) {
    let longest = stage.at_most.saturating_add(given(stage.when_underpowered));
    let there = traffic.samples(stage, longest);
    if there >= stage.min_samples as f64 {
        return;
    }
    let takes = stage.min_samples as f64 / traffic.samples(stage, Duration::from_secs(1));
    let figure = format!(
        "{} are asked for, and in {} there are {there:.0}",
        stage.min_samples,
        show_duration(longest)
    );
    let remedy =
        format!("give at_most {} or more, or ask for fewer{}", hours(takes), or_more(stage));
    lints.push(lint(Some(stage), "min_samples", figure, remedy));
}

/// A guardrail that a candidate as good as the baseline does not pass in time.
fn power(
    plan: &Plan,
    stage: &Stage,
    guardrail: &Guardrail,
    traffic: &Traffic,
    lints: &mut Vec<Lint>,
) {
    let rate = match guardrail.measure {
        Measure::Errors => traffic.error_rate,
        Measure::Timeouts => traffic.timeout_rate,
        // Their rates are not part of the traffic.
        Measure::Latency { .. }
        | Measure::Pace { .. }
        | Measure::Score { .. }
        | Measure::Mark { .. }
        | Measure::Abandoned
        | Measure::WrongAnswers => return,
    };
    let deciding = |own: &&Guardrail| own.action != Action::ReportOnly;
    if !deciding(&guardrail) {
        return;
    }
    let whole: f64 = stage.guardrails.iter().filter(deciding).map(|own| own.weight).sum();
    let lasts = stage.at_most.saturating_add(given(stage.when_inconclusive));
    // A rate of nothing at all is forecast as next to nothing.
    let base_rate = rate.clamp(1e-7, 0.99);
    if traffic.samples(stage, lasts) * base_rate > PLENTY {
        return;
    }
    let prospect = Prospect {
        requests_per_second: traffic.requests_per_second,
        share: stage.share,
        lasts,
        base_rate,
        guardrail: guardrail.clone(),
        alpha: plan.alpha_of_a_stage() * guardrail.weight / whole,
        beta: plan.beta(),
        feared: Vec::new(),
    };
    let Ok(forecast) = prospect.forecast() else { return }; // what cannot be is not warned of
    if forecast.proof.probability >= ENOUGH {
        return;
    }
    // Doubled until it is enough, or until so many events came that it must be.
    let mut longer = prospect;
    for _ in 0..30 {
        longer.lasts = longer.lasts.saturating_mul(2);
        let there = traffic.samples(stage, longer.lasts) * base_rate;
        let is_enough =
            longer.forecast().is_ok_and(|forecast| forecast.proof.probability >= ENOUGH);
        if is_enough || there > PLENTY {
            break;
        }
    }
    let figure = format!(
        "a candidate as good as the baseline ({rate}) is shown to be within the {} of {} with \
         probability {:.2} only, by {:.0} requests in {}",
        guardrail.name,
        guardrail.limit,
        forecast.proof.probability,
        forecast.requests,
        show_duration(lasts)
    );
    let long = format!("give at_most {} or more", hours(longer.lasts.as_secs_f64()));
    let floor = format!("set floor above {:.4}, if nobody minds that rate", 2.0 * base_rate);
    lints.push(lint(
        Some(stage),
        "guardrails",
        figure,
        format!("{long}{}, or {floor}", or_more(stage)),
    ));
}

/// An A/B test that has nothing to compare, or never enough.
fn comparison(stage: &Stage, traffic: &Traffic, lints: &mut Vec<Lint>) {
    let Some(rule) = &stage.comparison else { return };
    let part = |of: &Compared| match of {
        Compared::Truths => traffic.truths,
        Compared::Scores => traffic.scores,
        _ => 1.0,
    };
    let most = rule.of.iter().map(part).fold(0.0, f64::max);
    if most <= 0.0 {
        let figure = "none of what it compares is reported".to_owned();
        let remedy = match rule.no_data {
            NoData::Skip => "report outcomes or scores; until then only guardrails decide",
            _ => "report outcomes or scores, or set no_data to skip; until then it holds",
        };
        lints.push(lint(Some(stage), "comparison", figure, remedy.to_owned()));
        return;
    }
    let (Horizon::Planned { per_arm, .. } | Horizon::FixedOneLook { per_arm }) = rule.horizon
    else {
        return;
    };
    let smaller = stage.share.fraction().min(stage.share.rest().fraction());
    let a_second = traffic.requests_per_second * smaller * most;
    let there = a_second * stage.at_most.as_secs_f64();
    if there < per_arm as f64 {
        let figure = format!(
            "its horizon is {per_arm} an arm, and in {} the smaller has {there:.0}",
            show_duration(stage.at_most)
        );
        let takes = hours(per_arm as f64 / a_second);
        let remedy = format!("give at_most {takes} or more, or an open horizon");
        lints.push(lint(Some(stage), "comparison", figure, remedy));
    }
    if let Undecided::Extend { .. } = stage.when_inconclusive {
        let figure = "a planned horizon is over when it is reached".to_owned();
        let remedy = "extend an open horizon, or hold".to_owned();
        lints.push(lint(Some(stage), "when_inconclusive", figure, remedy));
    }
}

/// Dates that leave no time.
fn dates(plan: &Plan, lints: &mut Vec<Lint>) {
    // Any week will do where no date is named.
    let from = plan.not_before().unwrap_or(Date::from_unix(0));
    let shortest: Duration = plan
        .stages()
        .iter()
        .map(|stage| stage.warm_up.saturating_add(stage.at_least))
        .fold(Duration::ZERO, Duration::saturating_add);
    let Some(begins) = thaw(plan.freezes(), from) else {
        let figure = "no minute is left in which a stage may be left".to_owned();
        lints.push(lint(None, "freezes", figure, "leave some hours of the week free".to_owned()));
        return;
    };
    let Some(deadline) = plan.deadline() else { return };
    let (field, remedy) = ("deadline", "set it later, or shorten the stages".to_owned());
    if plan.not_before().is_some() && deadline.since(begins) < shortest {
        let figure = format!(
            "from {begins} until {deadline} there are {}, and the stages take {} at least",
            show_duration(deadline.since(begins)),
            show_duration(shortest)
        );
        lints.push(lint(None, field, figure, remedy));
    } else if thaw(plan.freezes(), begins.after(shortest)).is_none_or(|end| end >= deadline)
        && plan.not_before().is_some()
    {
        let figure = format!("a freeze holds the last stage until after {deadline}");
        lints.push(lint(None, field, figure, remedy));
    }
}

fn lint(stage: Option<&Stage>, field: &'static str, figure: String, remedy: String) -> Lint {
    Lint { stage: stage.map(|stage| stage.name.to_string()), field, figure, remedy }
}

/// What the plan itself adds.
fn given(then: Undecided) -> Duration {
    match then {
        Undecided::Extend { by, times } => by.saturating_mul(times),
        Undecided::Hold | Undecided::RollBack => Duration::ZERO,
    }
}

fn or_more(stage: &Stage) -> &'static str {
    if stage.kind.is_beside() && stage.share < TrafficShare::HALF {
        ", or a larger share"
    } else {
        ""
    }
}

fn hours(seconds: f64) -> String {
    if seconds.is_finite() {
        format!("{:.0}h", (seconds / 3600.0).ceil())
    } else {
        "for ever".to_owned()
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(stage) = &self.stage {
            write!(f, "stage {stage}: ")?;
        }
        write!(f, "{}: {}; {}", self.field, self.figure, self.remedy)
    }
}

/// A stage that fails a healthy candidate more often than one time in five is not fit for it.
const ENOUGH: f64 = 0.8;
/// With so many events on the candidate alone, a limit of twice the rate is shown beyond doubt.
const PLENTY: f64 = 1_000.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::freeze::{Days, Freeze};
    use crate::rollout::stage::ComparisonRule;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn of(plan: &Plan, traffic: &Traffic) -> Vec<(Option<String>, &'static str)> {
        let lints = plan.lint(traffic).unwrap();
        lints.into_iter().map(|lint| (lint.stage, lint.field)).collect()
    }

    #[test]
    fn the_standard_plan_works_at_a_hundred_requests_a_second() {
        let mut traffic = Traffic::new(100.0);
        traffic.truths = 0.1;
        assert_eq!(of(&Plan::standard(), &traffic), []);
        traffic.truths = 0.0;
        let told = of(&Plan::standard(), &traffic);
        assert_eq!(told, [(Some("A/B 50 %".to_owned()), "comparison")]);
    }

    #[test]
    fn a_canary_that_cannot_see_is_told_with_figure_and_remedy() {
        let lints = Plan::standard().lint(&Traffic::new(1.0)).unwrap();
        let own = lints
            .iter()
            .find(|own| own.stage.as_deref() == Some("5 %") && own.field == "guardrails");
        let text = own.unwrap_or_else(|| panic!("{lints:?}")).to_string();
        assert!(text.contains("probability") && text.contains("at_most"), "{text}");
    }

    #[test]
    fn dates_and_horizons_that_leave_no_time_are_told() {
        let always = Freeze::Weekly {
            days: Days::EVERY,
            from: "00:00".parse().unwrap(),
            to: "24:00".parse().unwrap(),
        };
        let share = TrafficShare::HALF;
        let mut rule = ComparisonRule { of: vec![Compared::Answers], ..ComparisonRule::default() };
        rule.horizon = Horizon::FixedOneLook { per_arm: 1_000_000_000 };
        let plan = || {
            Plan::builder()
                .ab_test(share, HOUR, 100, rule.clone())
                .when_undecided(Undecided::Extend { by: HOUR, times: 1 })
                .full(HOUR, 100)
        };
        let traffic = Traffic::new(1_000.0);
        let frozen = of(&plan().freeze(always).build().unwrap(), &traffic);
        for field in ["comparison", "when_inconclusive", "freezes"] {
            assert!(frozen.iter().any(|own| own.1 == field), "{field}: {frozen:?}");
        }
        let (from, until) = (Date::from_unix(0), Date::from_unix(3_600));
        let late = plan().not_before(from).deadline(until, Undecided::Hold).build().unwrap();
        assert!(of(&late, &traffic).contains(&(None, "deadline")));
    }

    #[test]
    fn traffic_that_cannot_be_is_refused() {
        for rate in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
            assert!(Plan::quick().lint(&Traffic::new(rate)).is_err(), "{rate}");
        }
        let mut traffic = Traffic::new(1.0);
        traffic.error_rate = 1.5;
        assert!(Plan::quick().lint(&traffic).is_err());
    }
}
