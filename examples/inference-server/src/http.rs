//! What users send over HTTP, and what they are answered.
//!
//! Nothing here waits for a model on the reactor, and nothing is read further than its limit.
//! Connections are taken by a loop of our own and not by `axum::serve`, because a user id of a
//! megabyte deserves an answer in words, and because connections are counted and timed out.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::problem::Problem;
use crate::service::Service;

/// Serves `app` on at most `places` connections until `stop` is ready, then lets the requests under
/// way come to their end.
///
/// A connection that fails takes nothing else with it.
pub async fn serve(
    app: Router,
    listener: TcpListener,
    places: usize,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(places));
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            // The semaphore is never closed.
            place = Arc::clone(&places).acquire_owned() => tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => accepted.map(|(stream, _)| (stream, place)),
            },
        };
        let Ok((stream, place)) = accepted else {
            // Out of file descriptors, most likely: they come back when connections end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true); // slower without it, and no worse
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(HEADERS)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _ = connection.await; // a client that breaks off is no news
            drop(place);
        });
    }
    drop(listener);
    let _ = timeout(PATIENCE, graceful.shutdown()).await;
}

/// What is open to users.
pub fn for_users(service: Arc<Service>) -> Router {
    let hint = "GET /healthz or /readyz, POST /classify or /outcome; orders and GET /rollout are \
                at the address of --admin";
    unforeseen(
        Router::new()
            .route("/classify", post(classify))
            .route("/outcome", post(outcome))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz)),
        hint,
    )
    .with_state(service)
}

/// Answers in words for what is not there.
pub(crate) fn unforeseen<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    hint: &'static str,
) -> Router<S> {
    routes
        .fallback(move || async move {
            let error = "there is nothing at this address";
            Problem::new(StatusCode::NOT_FOUND, error, hint)
        })
        .method_not_allowed_fallback(|| async {
            let error = "this address does not take this method";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, error, "GET to look, POST to act")
        })
}

async fn classify(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (head, body) = request.into_parts();
    let user = text(&head.headers, "x-user-id", LONGEST_USER)?
        .ok_or_else(|| Problem::bad("x-user-id is missing", "send who asks in x-user-id"))?;
    let segment = text(&head.headers, "x-segment", LONGEST_SEGMENT)?;
    let content = read(&head.headers, body, service.body_limit()).await?;
    if content.is_empty() {
        return Err(Problem::bad("the body is empty", "send the content to classify as the body"));
    }
    let answer = service.classify(user, segment, content).await?;
    Ok(Json(json!({ "label": &*answer.label, "score": answer.score, "ticket": answer.ticket })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Truth {
    ticket: String,
    label: String,
}

async fn outcome(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let truth: Truth = json_body(request).await?;
    if truth.label.is_empty() || truth.label.len() > LONGEST_LABEL {
        let error = format!("a label of {} bytes is none", truth.label.len());
        return Err(Problem::bad(error, "send the true label, 1 to 64 bytes"));
    }
    let counted = service.truth(&truth.ticket, &truth.label)?;
    Ok(Json(json!({ "counted": counted })))
}

/// The process lives.
pub(crate) async fn healthz(State(service): State<Arc<Service>>) -> Json<Value> {
    Json(json!({ "status": "ok", "model": service.baseline() }))
}

/// It should be sent requests.
pub(crate) async fn readyz(State(service): State<Arc<Service>>) -> Response {
    match service.readiness() {
        Ok(()) => Json(json!({ "status": "ready", "model": service.baseline() })).into_response(),
        Err(why) => {
            let remedy = "send requests to another server meanwhile";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, why, remedy).into_response()
        }
    }
}

async fn json_body<T: for<'de> Deserialize<'de>>(request: Request) -> Result<T, Problem> {
    let (head, body) = request.into_parts();
    parsed(&read(&head.headers, body, JSON_LIMIT).await?)
}

pub(crate) fn parsed<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        Problem::bad(format!("the body is not the JSON expected: {error}"), "see the README")
    })
}

/// A header as text, if it is there.
fn text(headers: &HeaderMap, name: &str, longest: usize) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::bad(format!("{name} is given more than once"), "send it once"));
    }
    let value = value.as_bytes();
    if value.is_empty() {
        return Err(Problem::bad(format!("{name} is empty"), "send a value, or no such header"));
    }
    if value.len() > longest {
        let error = format!("{name} has {} bytes, at most {longest} are taken", value.len());
        return Err(Problem::bad(error, "send a shorter value, such as a hash of it"));
    }
    match std::str::from_utf8(value) {
        Ok(value) => Ok(Some(value.to_owned())),
        Err(_) => Err(Problem::bad(format!("{name} is not UTF-8"), "send text, or a hash in hex")),
    }
}

/// The body, unless it is larger than `limit`, broken off, or too slow in coming. A body that says
/// beforehand that it is too large is not read at all.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(Problem::too_large(limit));
    }
    match timeout(PATIENCE, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::too_large(limit)),
        Ok(Err(error)) => {
            let error = format!("the body broke off or is malformed: {error}");
            Err(Problem::bad(error, "send the whole body"))
        }
        Err(_) => {
            let error = format!("the body took longer than {} s", PATIENCE.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, error, "send it faster"))
        }
    }
}

/// The answer for whatever was not foreseen.
impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        problem.into_response()
    }
}

/// Connections of users served at once; more wait to be accepted.
pub const CONNECTIONS: usize = 128;
/// How long a client may take for its headers, or for its body.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of headers that are read before their length is complained about, in words up to
/// here and by a bare 431 beyond.
const HEADERS: usize = 2 << 20;
/// The most bytes of a JSON body.
pub(crate) const JSON_LIMIT: usize = 16 << 10;
const LONGEST_USER: usize = 256;
const LONGEST_SEGMENT: usize = 64;
const LONGEST_LABEL: usize = 64;
