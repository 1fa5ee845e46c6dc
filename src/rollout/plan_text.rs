//! A plan as it is written and read.
//!
//! What is written is complete: every field, so that a stored plan means the same after a default
//! has changed. What is read may leave out whatever is usual.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

use crate::date::Date;
use crate::ids::Name;
use crate::judge::guardrail::{Action, Guardrail, Measure, NoData, Prior};
use crate::rollout::freeze::{Days, Freeze};
use crate::rollout::human::{self, parse_share, share_of_number};
use crate::rollout::plan::Plan;
use crate::rollout::plan_builder::{
    DEFAULT_ALPHA, DEFAULT_BETA, PlanBuilder, ROLLBACK_WINDOW, usual,
};
use crate::rollout::plan_error::PlanError;
use crate::rollout::stage::{
    AgreementRule, ComparisonRule, QualityRule, Stage, StageKind, Undecided,
};
use crate::rollout::tree::{Tree, short};
use crate::share::TrafficShare;

impl<'de> Deserialize<'de> for Plan {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        read(Tree::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl Plan {
    /// The plan that any self-describing format holds, with the error that says what is wrong with
    /// it: the format's own where the text is no text of that format, else the plan's.
    ///
    /// # Errors
    ///
    /// The outer error is the format's; the inner is the plan's, with stage, field and value.
    pub fn read_from<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Result<Self, PlanError>, D::Error> {
        Ok(read(Tree::deserialize(from)?))
    }
}

fn read(tree: Tree) -> Result<Plan, PlanError> {
    let mut fields = Fields::of(tree, String::new())?;
    let alpha = fields.take("alpha")?.unwrap_or(DEFAULT_ALPHA);
    let beta = fields.take("beta")?.unwrap_or(DEFAULT_BETA);
    let not_before = fields.date("not_before")?;
    let start_by_hand = fields.take("start_by_hand")?.unwrap_or(false);
    let deadline = fields.date("deadline")?;
    let when_late = fields.take("when_late")?.unwrap_or_default();
    let fresh_drill = fields.duration("fresh_drill")?;
    let rollback_window = fields.duration("rollback_window")?.unwrap_or(ROLLBACK_WINDOW);
    let mut freezes = Vec::new();
    for tree in fields.list("freezes")?.unwrap_or_default() {
        freezes.push(freeze(tree)?);
    }
    let remedy = "list at least a canary and a full stage";
    let stages = fields.list("stages")?;
    let stages =
        stages.ok_or(PlanError::Missing { place: String::new(), field: "stages", remedy })?;
    fields.finish(PLAN_FIELDS)?;
    // Counted before they are read: ten thousand stages are refused as what they are.
    if stages.len() > 64 {
        return Err(PlanError::TooManyStages { stages: stages.len() });
    }
    let mut builder = PlanBuilder::default().alpha(alpha).beta(beta);
    for (at, tree) in stages.into_iter().enumerate() {
        builder = builder.stage(stage(tree, at)?);
    }
    let builder = builder.edit(|plan| {
        plan.not_before = not_before;
        plan.start_by_hand = start_by_hand;
        plan.deadline = deadline;
        plan.when_late = when_late;
        plan.fresh_drill = fresh_drill;
        plan.freezes = freezes;
        plan.rollback_window = rollback_window;
    });
    builder.build()
}

fn stage(tree: Tree, at: usize) -> Result<Stage, PlanError> {
    let name = match &tree {
        Tree::Table(fields) => match fields.get("name") {
            Some(Tree::Text(name)) => short(name),
            _ => (at + 1).to_string(),
        },
        _ => (at + 1).to_string(),
    };
    let mut fields = Fields::of(tree, format!("stage {name}: "))?;
    let kind: StageKind = fields
        .take("kind")?
        .ok_or_else(|| fields.missing("kind", "give baseline, shadow, canary, ab_test or full"))?;
    let share = match (fields.share("share")?, kind) {
        (Some(share), _) => share,
        (None, StageKind::Baseline | StageKind::Shadow) => TrafficShare::NONE,
        (None, StageKind::Full) => TrafficShare::ALL,
        (None, StageKind::Canary | StageKind::AbTest) => {
            return Err(fields.missing("share", "give for example \"5 %\""));
        }
    };
    let at_least = fields.duration("at_least")?;
    let at_least = at_least.ok_or_else(|| fields.missing("at_least", "give for example \"2h\""))?;
    let min_samples = fields.take("min_samples")?.unwrap_or(1_000);
    let mut stage = usual(kind, share, at_least, min_samples);
    fields.set("name", &mut stage.name)?;
    if let Some(warm_up) = fields.duration("warm_up")? {
        stage.warm_up = warm_up;
    }
    if let Some(at_most) = fields.duration("at_most")? {
        stage.at_most = at_most;
    }
    fields.set("approval", &mut stage.approval)?;
    fields.set("when_inconclusive", &mut stage.when_inconclusive)?;
    fields.set("when_underpowered", &mut stage.when_underpowered)?;
    fields.set("when_no_data", &mut stage.when_no_data)?;
    if let Some(list) = fields.list("guardrails")? {
        if list.len() > MOST_GUARDRAILS {
            let value = format!("a list of {}", list.len());
            return Err(fields.misfit("guardrails", value, "the most is 64".to_owned()));
        }
        let place = fields.place.clone();
        stage.guardrails =
            list.into_iter().map(|tree| guardrail(tree, &place)).collect::<Result<_, _>>()?;
    }
    stage.agreement = fields.rule::<AgreementRule>("agreement")?.unwrap_or(stage.agreement);
    stage.quality = fields.rule::<QualityRule>("quality")?.unwrap_or(stage.quality);
    let usually = (kind == StageKind::AbTest).then(ComparisonRule::default);
    stage.comparison = fields.rule::<ComparisonRule>("comparison")?.unwrap_or(usually);
    fields.finish(STAGE_FIELDS)?;
    Ok(stage)
}

/// `"p95"`, or `{ guardrail = "p95", limit = 1.4 }`, or one with a measure of its own.
fn guardrail(tree: Tree, place: &str) -> Result<Guardrail, PlanError> {
    let place = format!("{place}guardrails: ");
    if let Tree::Text(word) = &tree {
        return preset(word).ok_or_else(|| unknown_preset(&place, word));
    }
    let mut fields = Fields::of(tree, place)?;
    let word: Option<String> = fields.take("guardrail")?;
    let measure: Option<Measure> = fields.take("measure")?;
    let mut own = match (word, measure) {
        (Some(_), Some(_)) => {
            let both = "give one of both".to_owned();
            return Err(fields.misfit("guardrail", "given beside measure".to_owned(), both));
        }
        (Some(word), None) => preset(&word).ok_or_else(|| unknown_preset(&fields.place, &word))?,
        (None, Some(measure)) => of_measure(measure),
        (None, None) => {
            return Err(
                fields.missing("guardrail", "give a usual one such as \"p95\", or a measure")
            );
        }
    };
    fields.set("name", &mut own.name)?;
    fields.set("null", &mut own.null)?;
    fields.set("limit", &mut own.limit)?;
    fields.set("weight", &mut own.weight)?;
    fields.set("min_events", &mut own.min_events)?;
    fields.set("floor", &mut own.floor)?;
    fields.set::<Action>("action", &mut own.action)?;
    fields.set::<NoData>("no_data", &mut own.no_data)?;
    fields.set::<Prior>("prior", &mut own.prior)?;
    fields.finish(GUARDRAIL_FIELDS)?;
    Ok(own)
}

fn preset(word: &str) -> Option<Guardrail> {
    Some(match word {
        "error_rate" | "errors" => Guardrail::error_rate(),
        "timeout_rate" | "timeouts" => Guardrail::timeout_rate(),
        "abandonment_rate" | "abandoned" => Guardrail::abandonment_rate(),
        "p50" => Guardrail::p50(),
        "p95" => Guardrail::p95(),
        "p99" => Guardrail::p99(),
        "pace" => Guardrail::pace(),
        "wrong_answers" => Guardrail::wrong_answers(),
        _ => return None,
    })
}

fn of_measure(measure: Measure) -> Guardrail {
    let mut own = match measure {
        Measure::Errors => Guardrail::error_rate(),
        Measure::Timeouts => Guardrail::timeout_rate(),
        Measure::Abandoned => Guardrail::abandonment_rate(),
        Measure::Latency { quantile } => {
            Guardrail::p95().named(format!("p{} latency", quantile * 100.0))
        }
        Measure::Pace { quantile } => {
            Guardrail::pace().named(format!("p{} pace", quantile * 100.0))
        }
        Measure::Score { low, high } => Guardrail::score("score", low, high),
        Measure::Mark { number } => Guardrail::mark(number, format!("mark {number}")),
        Measure::WrongAnswers => Guardrail::wrong_answers(),
    };
    own.measure = measure;
    own
}

fn unknown_preset(place: &str, word: &str) -> PlanError {
    PlanError::Field {
        place: place.to_owned(),
        field: "guardrail".to_owned(),
        value: format!("{:?}", short(word)),
        problem:
            "the usual ones are error_rate, timeout_rate, abandonment_rate, p50, p95, p99, pace and \
             wrong_answers"
                .to_owned(),
    }
}

fn freeze(tree: Tree) -> Result<Freeze, PlanError> {
    let mut fields = Fields::of(tree, "freezes: ".to_owned())?;
    if let Some(until) = fields.date("until")? {
        let from = fields.date("from")?;
        let from =
            from.ok_or_else(|| fields.missing("from", "give the date on which it begins"))?;
        fields.finish("from, until (dates), or days, from, to (hours)")?;
        return Ok(Freeze::Dated { from, until });
    }
    let days = match fields.take::<Vec<String>>("days")? {
        Some(names) => Days::named(names)?,
        None => Days::EVERY,
    };
    let from: Option<String> = fields.take("from")?;
    let to: Option<String> = fields.take("to")?;
    let missing = |field| fields.missing(field, "give a time such as \"18:00\", or until, a date");
    let from = from.ok_or_else(|| missing("from"))?.parse()?;
    let to = to.ok_or_else(|| missing("to"))?.parse()?;
    fields.finish("from, until (dates), or days, from, to (hours)")?;
    Ok(Freeze::Weekly { days, from, to })
}

/// The fields of one table, taken one by one, each with its place in the message.
struct Fields {
    place: String,
    left: BTreeMap<String, Tree>,
}

impl Fields {
    fn of(tree: Tree, place: String) -> Result<Self, PlanError> {
        match tree {
            Tree::Table(left) => Ok(Self { place, left }),
            other => Err(PlanError::Field {
                field: if place.is_empty() { "the plan".to_owned() } else { "it".to_owned() },
                place,
                value: other.to_string(),
                problem: "a table of fields is needed".to_owned(),
            }),
        }
    }

    fn misfit(&self, field: &str, value: String, problem: String) -> PlanError {
        PlanError::Field { place: self.place.clone(), field: field.to_owned(), value, problem }
    }

    fn missing(&self, field: &'static str, remedy: &'static str) -> PlanError {
        PlanError::Missing { place: self.place.clone(), field, remedy }
    }

    fn read<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(Tree) -> Result<T, String>,
    ) -> Result<Option<T>, PlanError> {
        match self.left.remove(field) {
            None | Some(Tree::Nothing) => Ok(None),
            Some(tree) => {
                let shown = tree.to_string();
                read(tree).map(Some).map_err(|problem| self.misfit(field, shown, problem))
            }
        }
    }

    fn take<T: DeserializeOwned>(&mut self, field: &'static str) -> Result<Option<T>, PlanError> {
        self.read(field, |tree| T::deserialize(tree).map_err(|misfit| misfit.to_string()))
    }

    fn set<T: DeserializeOwned>(
        &mut self,
        field: &'static str,
        to: &mut T,
    ) -> Result<(), PlanError> {
        if let Some(value) = self.take(field)? {
            *to = value;
        }
        Ok(())
    }

    /// A rule, or `"off"` for none.
    fn rule<T: DeserializeOwned>(
        &mut self,
        field: &'static str,
    ) -> Result<Option<Option<T>>, PlanError> {
        self.read(field, |tree| match tree {
            Tree::Text(word) if word == OFF => Ok(None),
            tree => T::deserialize(tree).map(Some).map_err(|misfit| misfit.to_string()),
        })
    }

    fn duration(&mut self, field: &'static str) -> Result<Option<Duration>, PlanError> {
        self.read(field, |tree| human::read_duration(tree).map_err(|misfit| misfit.to_string()))
    }

    fn share(&mut self, field: &'static str) -> Result<Option<TrafficShare>, PlanError> {
        self.read(field, |tree| match tree {
            Tree::Text(text) => parse_share(&text),
            Tree::Whole(number) => share_of_number(number as f64),
            Tree::Number(number) => share_of_number(number),
            _ => Err("write for example \"5 %\"".to_owned()),
        })
    }

    fn date(&mut self, field: &'static str) -> Result<Option<Date>, PlanError> {
        self.read(field, |tree| match tree {
            Tree::Text(text) => {
                text.parse().map_err(|error: crate::date::DateError| error.to_string())
            }
            // TOML has dates of its own, which come as a table of one text.
            Tree::Table(fields) => match fields.into_values().next() {
                Some(Tree::Text(text)) => {
                    text.parse().map_err(|error: crate::date::DateError| error.to_string())
                }
                _ => Err("write for example \"2026-03-29T01:30:00Z\"".to_owned()),
            },
            _ => Err("write for example \"2026-03-29T01:30:00Z\"".to_owned()),
        })
    }

    fn list(&mut self, field: &'static str) -> Result<Option<Vec<Tree>>, PlanError> {
        self.read(field, |tree| match tree {
            Tree::List(items) => Ok(items),
            _ => Err("a list is needed".to_owned()),
        })
    }

    fn finish(self, known: &str) -> Result<(), PlanError> {
        match self.left.into_keys().next() {
            None => Ok(()),
            Some(field) => {
                let (place, field, known) = (self.place, short(&field), known.to_owned());
                Err(PlanError::Unknown { place, field, known })
            }
        }
    }
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let text = |date: Option<Date>| date.map(|date| date.to_string());
        PlanForm {
            alpha: self.alpha,
            beta: self.beta,
            not_before: text(self.not_before),
            start_by_hand: self.start_by_hand,
            deadline: text(self.deadline),
            when_late: self.when_late,
            fresh_drill: self.fresh_drill.map(human::show_duration),
            rollback_window: human::show_duration(self.rollback_window),
            freezes: &self.freezes,
            stages: &self.stages,
        }
        .serialize(to)
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { agreement, quality, comparison, .. } = self;
        // What is usual for a kind of stage and not wanted here is written down as such.
        let wanted = |given: bool, kind| given || self.kind == kind;
        StageForm {
            name: &self.name,
            kind: self.kind,
            share: self.share.to_string(),
            warm_up: human::show_duration(self.warm_up),
            at_least: human::show_duration(self.at_least),
            at_most: human::show_duration(self.at_most),
            min_samples: self.min_samples,
            approval: self.approval,
            when_inconclusive: self.when_inconclusive,
            when_underpowered: self.when_underpowered,
            when_no_data: self.when_no_data,
            guardrails: &self.guardrails,
            agreement: wanted(agreement.is_some(), StageKind::Shadow).then_some(Rule(agreement)),
            quality: quality.is_some().then_some(Rule(quality)),
            comparison: wanted(comparison.is_some(), StageKind::AbTest).then_some(Rule(comparison)),
        }
        .serialize(to)
    }
}

#[derive(serde::Serialize)]
struct PlanForm<'a> {
    alpha: f64,
    beta: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    start_by_hand: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    when_late: Undecided,
    #[serde(skip_serializing_if = "Option::is_none")]
    fresh_drill: Option<String>,
    rollback_window: String,
    #[serde(skip_serializing_if = "<[Freeze]>::is_empty")]
    freezes: &'a [Freeze],
    stages: &'a [Stage],
}

#[derive(serde::Serialize)]
struct StageForm<'a> {
    name: &'a Name,
    kind: StageKind,
    share: String,
    warm_up: String,
    at_least: String,
    at_most: String,
    min_samples: u64,
    approval: bool,
    when_inconclusive: Undecided,
    when_underpowered: Undecided,
    when_no_data: Undecided,
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<Rule<'a, AgreementRule>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<Rule<'a, QualityRule>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Rule<'a, ComparisonRule>>,
    guardrails: &'a [Guardrail],
}

struct Rule<'a, T>(&'a Option<T>);

impl<T: Serialize> Serialize for Rule<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(rule) => rule.serialize(to),
            None => to.serialize_str(OFF),
        }
    }
}

const OFF: &str = "off";
const MOST_GUARDRAILS: usize = 64;
const PLAN_FIELDS: &str = "alpha, beta, not_before, start_by_hand, deadline, when_late, \
                           fresh_drill, rollback_window, freezes and stages";
const STAGE_FIELDS: &str = "name, kind, share, warm_up, at_least, at_most, min_samples, approval, \
                            when_inconclusive, when_underpowered, when_no_data, guardrails, \
                            agreement, quality and comparison";
const GUARDRAIL_FIELDS: &str = "guardrail, measure, name, null, limit, weight, min_events, floor, \
                                action, no_data and prior";
