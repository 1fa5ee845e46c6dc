//! The model server behind its doors: classify, learn the truth, roll a candidate out.
//!
//! Inference runs on threads of its own, a bounded number with a bounded queue; a request that
//! finds the queue full is turned away and counted. The candidate's shadow has its own threads.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::StatusCode;
use pilotage::control::pool::WorkerPool;
use pilotage::ids::{Arm, Epoch};
use pilotage::outcome::{Outcome, Status};
use pilotage::serve::builder::CandidateLimit;
use pilotage::serve::executor::Executor;
use pilotage::serve::request::Request;
use pilotage::serve::router::{Counted, OutcomeError, Router};
use pilotage::serve::shadow_lane::Offer;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;

use crate::arm::ModelArm;
use crate::model::{Answer, Classifier};
use crate::problem::Problem;
use crate::rollouts::{RolloutSettings, Rollouts};
use crate::ticket::{Receipt, Sealer, fingerprint};

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The password of orders; without one nobody may give any.
    pub token: Option<String>,
    /// The most bytes of a content.
    pub body_limit: usize,
    /// Threads that call models for users.
    pub threads: usize,
    /// Requests that wait for such a thread.
    pub queue: usize,
    /// How many calls the candidate may have at once; by default what the router works out, so that
    /// one that hangs leaves threads for everybody else.
    pub candidate_calls: Option<u32>,
    /// Where counting of splits begins, after a restart that goes on with a rollout.
    pub epoch: Option<Epoch>,
    /// How rollouts are made.
    pub rollouts: RolloutSettings,
}

impl Default for Settings {
    /// No token, contents of 1 MiB, two threads, 64 waiting requests.
    fn default() -> Self {
        let rollouts = RolloutSettings::default();
        Self {
            token: None,
            body_limit: 1 << 20,
            threads: 2,
            queue: 64,
            candidate_calls: None,
            epoch: None,
            rollouts,
        }
    }
}

/// A server without its sockets.
#[derive(Debug)]
pub struct Service {
    router: Router<ModelArm>,
    workers: WorkerPool,
    queue: Queue,
    rollouts: Rollouts,
    sealer: Sealer,
    token: Option<[u8; 32]>,
    body_limit: usize,
    overloaded: AtomicU64,
    draining: AtomicBool,
}

/// Requests that wait for a thread.
#[derive(Debug, Default)]
struct Queue {
    waiting: AtomicUsize,
    /// Since when requests wait without one of them being begun.
    stuck_since: Mutex<Option<Instant>>,
}

/// What a user is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Classified {
    /// What the content is.
    pub label: Arc<str>,
    /// How sure the model is, from 0 to 1.
    pub score: f32,
    /// To be sent back with the truth.
    pub ticket: String,
}

/// A server that cannot start.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

impl Service {
    /// A server of `baseline`.
    ///
    /// # Errors
    ///
    /// When the system gives no threads or random numbers.
    pub fn start(baseline: Arc<Classifier>, settings: &Settings) -> Result<Arc<Self>, StartError> {
        let name = baseline.name().to_owned();
        let builder =
            Router::builder("file-type").stable(&name, ModelArm::new(baseline)).segments(SEGMENTS);
        let limit = settings.candidate_calls.map(CandidateLimit::Calls);
        let builder = builder.candidate_limit(limit.unwrap_or_default());
        let router = match settings.epoch {
            Some(epoch) => builder.epoch(epoch).build()?,
            None => builder.build()?,
        };
        Ok(Arc::new(Self {
            rollouts: Rollouts::new(router.clone(), settings.rollouts.clone()),
            router,
            workers: WorkerPool::new("inference", settings.threads, settings.queue)?,
            queue: Queue::default(),
            sealer: Sealer::new()?,
            token: settings.token.as_ref().map(|token| Sha256::digest(token.as_bytes()).into()),
            body_limit: settings.body_limit,
            overloaded: AtomicU64::new(0),
            draining: AtomicBool::new(false),
        }))
    }

    /// Its rollouts.
    #[must_use]
    pub const fn rollouts(&self) -> &Rollouts {
        &self.rollouts
    }

    /// The name of the model that is the baseline now.
    #[must_use]
    pub fn baseline(&self) -> String {
        self.rollouts.baseline()
    }

    /// The router, to read counts from.
    #[must_use]
    pub const fn router(&self) -> &Router<ModelArm> {
        &self.router
    }

    /// Requests that were turned away since the queue was full.
    #[must_use]
    pub fn overloaded(&self) -> u64 {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// From now on it is not ready: the process is about to end.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Why it should be sent no requests at present.
    ///
    /// # Errors
    ///
    /// The reason, in one sentence.
    pub fn readiness(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Acquire) {
            return Err("the server is about to end".to_owned());
        }
        if self.router.model(Arm::BASELINE).is_none() {
            return Err("no model is loaded".to_owned());
        }
        match self.queue.stuck_for() {
            Some(stuck) if stuck > STUCK => Err(format!(
                "{} requests wait, and none was begun for {} s",
                self.queue.waiting.load(Ordering::Relaxed),
                stuck.as_secs()
            )),
            _ => Ok(()),
        }
    }

    /// The most bytes of a content.
    #[must_use]
    pub const fn body_limit(&self) -> usize {
        self.body_limit
    }

    /// Answers what `content` is, on a thread for it.
    ///
    /// # Errors
    ///
    /// [`Problem`] when the queue is full or the model fails.
    pub async fn classify(
        self: &Arc<Self>,
        user: String,
        segment: Option<String>,
        content: Bytes,
    ) -> Result<Classified, Problem> {
        let (sender, answer) = oneshot::channel();
        let service = Arc::clone(self);
        let job = Box::new(move || {
            service.queue.begun();
            // Whoever went away while waiting is not served: no call begins.
            if !sender.is_closed() {
                service.classify_here(&user, segment.as_deref(), &content, sender);
            }
        });
        self.queue.waits();
        if self.workers.spawn(job).is_err() {
            self.queue.left();
            self.overloaded.fetch_add(1, Ordering::Relaxed);
            return Err(Problem::overloaded());
        }
        answer.await.unwrap_or_else(|_| Err(Problem::overloaded()))
    }

    fn classify_here(
        &self,
        user: &str,
        segment: Option<&str>,
        content: &[u8],
        reply: oneshot::Sender<Result<Classified, Problem>>,
    ) {
        let mut request = Request::of(user);
        if let Some(segment) = segment {
            request = request.segment(segment);
        }
        let began = Instant::now();
        let answered = self.router.predict_sync(&request, content);
        let latency = began.elapsed();
        let unit = fingerprint(content);
        let by_baseline = !matches!(&answered, Ok(answer) if answer.arm != Arm::BASELINE);
        let (status, output) = match &answered {
            Ok(answer) => (Status::Ok, Some(answer.output.clone())),
            Err(_) => (Status::Error, None),
        };
        // A caller that went away meanwhile does not hear this: its call is counted all the same.
        let _ = reply.send(match answered {
            Ok(answer) => Ok(Classified {
                ticket: self.sealer.seal(&Receipt {
                    ticket: answer.ticket,
                    label: fingerprint(answer.output.label.as_bytes()),
                    content: unit,
                    stand_in: answer.fell_back,
                }),
                label: answer.output.label,
                score: answer.output.score,
            }),
            Err(error) => Err(error.into()),
        });
        if let Some(rollout) = self.rollouts.present().filter(|_| by_baseline) {
            rollout.lane.offer(&request, || Offer {
                input: content.into(),
                bytes: content.len(),
                status,
                latency,
                output,
                sample: Some(unit),
            });
        }
    }

    /// Learns what an answered content truly was, and says what that was counted for.
    ///
    /// # Errors
    ///
    /// [`Problem`] when the ticket is not one of ours or came before.
    pub fn truth(&self, ticket: &str, label: &str) -> Result<&'static str, Problem> {
        let receipt = self.sealer.open(ticket)?;
        let truth = fingerprint(label.as_bytes());
        let outcome =
            if receipt.stand_in { Outcome::ok() } else { Outcome::correct(receipt.label == truth) };
        let counted = self.router.outcome_of_unit(receipt.ticket, receipt.content, outcome);
        let counted = counted.map_err(|error| match error {
            OutcomeError::Duplicate => {
                Problem::new(StatusCode::CONFLICT, error.to_string(), "send each truth once")
            }
            _ => Problem::new(StatusCode::NOT_FOUND, error.to_string(), "send a ticket once given"),
        })?;
        if let Some(rollout) = self.rollouts.present() {
            let right = move |answer: &Answer| fingerprint(answer.label.as_bytes()) == truth;
            rollout.lane.truth(receipt.content, right);
        }
        Ok(match counted {
            Counted::InForce => "in_force",
            Counted::Past => "past",
            Counted::SameUnit => "same_sample",
            _ => "counted",
        })
    }

    /// Whether `given`, an `Authorization` header, may give orders.
    ///
    /// # Errors
    ///
    /// [`Problem`] when nobody may, or this one may not.
    pub fn authorise(&self, given: Option<&[u8]>) -> Result<(), Problem> {
        let Some(expected) = &self.token else {
            let error = "orders are not taken, because no token is set";
            let remedy = "start the server with PILOTAGE_TOKEN in its environment";
            return Err(Problem::new(StatusCode::FORBIDDEN, error, remedy));
        };
        let given = given.and_then(bearer).unwrap_or_default();
        // Hashes are compared, of one length and in constant time, so that timing tells nothing.
        if Sha256::digest(given).as_slice().ct_eq(expected).into() {
            return Ok(());
        }
        let remedy = "send Authorization: Bearer with the server's PILOTAGE_TOKEN";
        Err(Problem::new(StatusCode::UNAUTHORIZED, "the token is missing or wrong", remedy))
    }
}

impl Queue {
    fn waits(&self) {
        if self.waiting.fetch_add(1, Ordering::AcqRel) == 0 {
            self.since(Some(Instant::now()));
        }
    }

    fn begun(&self) {
        let left = self.waiting.fetch_sub(1, Ordering::AcqRel) - 1;
        self.since((left > 0).then(Instant::now));
    }

    /// A request that was turned away waits no longer; that is no sign of life.
    fn left(&self) {
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.since(None);
        }
    }

    fn since(&self, since: Option<Instant>) {
        *self.stuck_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn stuck_for(&self) -> Option<Duration> {
        let since = *self.stuck_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.filter(|_| self.waiting.load(Ordering::Acquire) > 0).map(|since| since.elapsed())
    }
}

/// The token of an `Authorization` header; the scheme's name is taken in any case (RFC 9110, 11.1).
fn bearer(given: &[u8]) -> Option<&[u8]> {
    let given = given.trim_ascii();
    let space = given.iter().position(u8::is_ascii_whitespace)?;
    let (scheme, token) = given.split_at(space);
    scheme.eq_ignore_ascii_case(b"bearer").then(|| token.trim_ascii())
}

/// Segments of users that are told apart.
const SEGMENTS: [&str; 2] = ["free", "premium"];
/// How long requests may wait without one being begun before it is not ready.
const STUCK: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_is_one_in_any_case_and_with_spaces_around_it() {
        for given in ["Bearer a b", "bearer a b", "BEARER   a b ", " bEaReR\ta b"] {
            assert_eq!(bearer(given.as_bytes()), Some(&b"a b"[..]), "{given:?}");
        }
        for given in ["", "Bearer", "Bearera b", "Basic a b", "a b Bearer"] {
            assert_eq!(bearer(given.as_bytes()), None, "{given:?}");
        }
    }

    #[test]
    fn requests_that_are_turned_away_do_not_make_a_stuck_queue_look_alive() {
        let queue = Queue::default();
        assert_eq!(queue.stuck_for(), None);
        queue.waits();
        let stuck = queue.stuck_for().unwrap();
        queue.waits();
        queue.left();
        assert!(queue.stuck_for().unwrap() >= stuck);
        queue.begun();
        assert_eq!(queue.stuck_for(), None);
    }
}
