//! What operators send over HTTP, on a listener of their own.
//!
//! A stop is obeyed whatever its body is: it is given for the caller who may give it, and the body
//! only says who that is and why. It is waited for as long as [`BODY_PATIENCE`], and what could not
//! be read of it is said in the answer. All other orders are refused where they cannot be read.
//!
//! An order goes on when its connection breaks: it runs in a task of its own.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use pilotage::control::orders::Receipt;
use pilotage::machine::Order;
use pilotage::rollout::human::parse_duration;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::http::{JSON_LIMIT, healthz, parsed, read, readyz, unforeseen};
use crate::page::Page;
use crate::problem::Problem;
use crate::rollouts::{Place, Stopped, Wish};
use crate::service::Service;

/// What is open to operators.
pub fn for_operators(service: Arc<Service>) -> Router {
    let hint = "GET /rollout, /healthz or /readyz; POST /rollout/abort, kill, pause, resume, \
                approve, extend, retry, promote, start, drill or finish";
    unforeseen(
        Router::new()
            .route("/rollout", get(rollout))
            .route("/rollout/{order}", post(order))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz)),
        hint,
    )
    .with_state(service)
}

async fn rollout(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Problem> {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let query = request.uri().query().unwrap_or_default();
    let as_text = match query.split('&').find_map(|part| part.strip_prefix("format=")) {
        Some("text") => true,
        Some("json") => false,
        Some(other) => {
            let error = format!("there is no format `{other}`");
            return Err(Problem::bad(error, "format=text or format=json"));
        }
        None => accept.is_some_and(prefers_text),
    };
    let page = Page::of(&service);
    Ok(if as_text {
        let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        (plain, page.to_string()).into_response()
    } else {
        Json(page.to_json()).into_response()
    })
}

/// Whether an `Accept` header names text before JSON.
fn prefers_text(accept: &str) -> bool {
    let accept = accept.to_ascii_lowercase();
    let at = |kind| accept.find(kind).unwrap_or(usize::MAX);
    at("text/plain") < at("application/json")
}

async fn order(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let stops = match &name[..] {
        "abort" => Some(Order::Abort),
        "kill" => Some(Order::Kill),
        "pause" => Some(Order::Pause),
        name if OTHERS.contains(&name) => None,
        name => {
            let error = format!("there is no order `{name}`");
            let remedy = "abort, kill, pause, resume, approve, extend, retry, promote, start, \
                          drill or finish";
            return Err(Problem::new(StatusCode::NOT_FOUND, error, remedy));
        }
    };
    let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    service.authorise(given)?;
    let (head, body) = request.into_parts();
    let task = match stops {
        // On this thread, and not among those that may all be waiting for a journal.
        Some(order) => {
            tokio::spawn(async move { stop(&service, order, &head.headers, body).await })
        }
        None => tokio::spawn(async move {
            let body = read(&head.headers, body, JSON_LIMIT).await?;
            let obeyed = tokio::task::spawn_blocking(move || give(&service, &name, &body));
            obeyed.await.unwrap_or_else(|error| Err(lost(&error)))
        }),
    };
    task.await.unwrap_or_else(|error| Err(lost(&error))).map(Json)
}

async fn stop(
    service: &Service,
    order: Order,
    headers: &HeaderMap,
    body: Body,
) -> Result<Value, Problem> {
    let came = match timeout(BODY_PATIENCE, read(headers, body, JSON_LIMIT)).await {
        Ok(Ok(body)) => labels(&body),
        Ok(Err(problem)) => Err(problem.error().to_owned()),
        Err(_) => {
            let millis = BODY_PATIENCE.as_millis();
            Err(format!("the body had not come after {millis} ms"))
        }
    };
    let (given, unreadable) = came.unwrap_or_else(|fault| (Map::new(), Some(fault)));
    let said = |name: &str| given.get(name).and_then(Value::as_str);
    let who = said("who").unwrap_or("operator");
    let why = match (said("why"), &unreadable) {
        (Some(why), _) => why.to_owned(),
        (None, None) => NO_REASON.to_owned(),
        (None, Some(fault)) => format!("{NO_REASON} that could be read: {fault}"),
    };
    let mut answer = match service.rollouts().stop(order, who, &why)? {
        Stopped::Told(receipt) => answer(order.word(), &receipt),
        Stopped::Beginning => json!({
            "ordered": order.word(),
            "did": "stops the rollout that is just beginning; look at GET /rollout",
        }),
    };
    if let Some(fault) = unreadable {
        answer["unreadable"] = fault.into();
    }
    Ok(answer)
}

/// Who and why, and what is wrong with the rest.
fn labels(body: &[u8]) -> Result<(Map<String, Value>, Option<String>), String> {
    if body.is_empty() {
        return Ok((Map::new(), None));
    }
    let value: Value =
        serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
    let Value::Object(fields) = value else {
        return Err("the body is JSON, but no object".to_owned());
    };
    let mut faults = Vec::new();
    for (name, value) in &fields {
        match (&name[..], value) {
            ("who", Value::String(who)) if who.is_empty() => faults.push("who is empty".to_owned()),
            ("who" | "why", Value::String(_)) => {}
            ("who" | "why", _) => faults.push(format!("{name} is no text")),
            (name, _) => {
                let name: String = name.chars().take(40).collect();
                faults.push(format!("there is no field {name:?}"));
            }
        }
    }
    let fault = (!faults.is_empty()).then(|| faults.join("; "));
    Ok((fields, fault))
}

/// What an order may say that does not stop.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Said {
    who: Option<String>,
    why: Option<String>,
    stage: Option<String>,
    revision: Option<u64>,
    by: Option<String>,
    fully: Option<bool>,
    candidate: Option<String>,
    take_over: Option<bool>,
    again: Option<bool>,
}

impl Said {
    /// The fields that are there and mean nothing for this order.
    fn check(&self, name: &str) -> Result<(), Problem> {
        let fields = [
            ("by", self.by.is_some(), name == "extend"),
            ("fully", self.fully.is_some(), name == "promote"),
            ("candidate", self.candidate.is_some(), name == "start"),
            ("take_over", self.take_over.is_some(), name == "start"),
            ("again", self.again.is_some(), name == "start"),
            ("stage", self.stage.is_some(), name != "drill"),
            ("revision", self.revision.is_some(), name != "drill"),
        ];
        match fields.iter().find(|(_, there, fits)| *there && !fits) {
            Some((field, ..)) => {
                let error = format!("{field} means nothing for {name}");
                Err(Problem::bad(error, "leave it out; see the README"))
            }
            None => Ok(()),
        }
    }
}

/// Gives an order that does not stop. May wait.
fn give(service: &Service, name: &str, body: &Bytes) -> Result<Value, Problem> {
    let said: Said = if body.is_empty() { Said::default() } else { parsed(body)? };
    said.check(name)?;
    let rollouts = service.rollouts();
    let who = said.who.unwrap_or_else(|| "operator".to_owned());
    let why = said.why.unwrap_or_else(|| NO_REASON.to_owned());
    let order = match name {
        "drill" => {
            let drill = rollouts.drill()?;
            let (passed, text) = (drill.passed(), drill.to_string());
            return Ok(json!({ "passed": passed, "report": text, "steps": steps(&drill) }));
        }
        "start" => match said.candidate {
            Some(candidate) => {
                if who.is_empty() {
                    return Err(Problem::bad("who is empty", "name who begins the rollout"));
                }
                let (take_over, again) = (said.take_over == Some(true), said.again == Some(true));
                let wish = Wish { candidate, take_over, again, who, why };
                rollouts.start(&wish)?;
                let now = rollouts.present().map(|present| present.pilot.at());
                return Ok(json!({ "ordered": "start", "candidate": wish.candidate, "now": now }));
            }
            // A rollout that waits for its start.
            None if rollouts.present().is_some_and(|present| !present.pilot.is_over()) => {
                Order::Start
            }
            None => {
                let remedy = "send {\"candidate\": NAME}";
                return Err(Problem::bad("start says of which candidate", remedy));
            }
        },
        "resume" => Order::Resume,
        "approve" => Order::Approve,
        "retry" => Order::Retry,
        "finish" => Order::Finish,
        "promote" if said.fully == Some(true) => Order::PromoteFully,
        "promote" => Order::PromoteStage,
        _ => {
            let Some(by) = &said.by else {
                return Err(Problem::bad("extend says by how much", "send {\"by\": \"2h\", …}"));
            };
            let by = parse_duration(by).map_err(|error| Problem::bad(error, "such as \"2h\""))?;
            Order::Extend { by }
        }
    };
    let place = Place { stage: said.stage, revision: said.revision };
    Ok(answer(name, &rollouts.order(order, &place, &who, &why)?))
}

fn answer(name: &str, receipt: &Receipt) -> Value {
    json!({
        "ordered": name,
        "did": receipt.did,
        "recorded": receipt.recorded,
        "warning": receipt.warning,
    })
}

fn steps(drill: &pilotage::control::drill::Drill) -> Vec<Value> {
    let shown = |step: &pilotage::control::drill::DrillStep| {
        let millis = step.took.as_secs_f64() * 1e3;
        json!({ "what": step.what, "took_ms": millis, "failed": step.failed })
    };
    drill.steps.iter().map(shown).collect()
}

fn lost(error: &tokio::task::JoinError) -> Problem {
    let error = format!("the order broke off: {error}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error, "look at GET /rollout what it did")
}

const OTHERS: [&str; 8] =
    ["resume", "approve", "extend", "retry", "promote", "start", "drill", "finish"];
const NO_REASON: &str = "no reason given";
/// How long a stop waits for the body that says who gives it and why.
const BODY_PATIENCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_given_to_who_asks_for_it_first() {
        assert!(prefers_text("text/plain"));
        assert!(prefers_text("Text/Plain, application/json;q=0.5"));
        assert!(!prefers_text("application/json, text/plain"));
        assert!(!prefers_text("*/*"));
        assert!(!prefers_text("text/html"));
    }

    #[test]
    fn what_can_be_read_of_a_stop_is_used_and_the_rest_is_named() {
        let (said, fault) = labels(br#"{"who": "ann", "why": 5, "wyh": "typo"}"#).unwrap();
        assert_eq!(said["who"], "ann");
        assert_eq!(fault.unwrap(), "why is no text; there is no field \"wyh\"");
        assert!(labels(b"{who: ann}").unwrap_err().contains("not JSON"));
        assert!(labels(b"[1]").unwrap_err().contains("no object"));
        assert_eq!(labels(b"").unwrap(), (Map::new(), None));
    }
}
