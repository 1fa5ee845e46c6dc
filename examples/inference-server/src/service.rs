//! The model server behind its doors: classify, learn the truth, roll a candidate out.
//!
//! Inference runs on threads of its own, a bounded number with a bounded queue; a request that
//! finds the queue full is turned away and counted. The candidate's shadow has its own threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::StatusCode;
use pilotage::alert::alert::Alert;
use pilotage::alert::alerter::FnAlerter;
use pilotage::control::driver::Driver;
use pilotage::control::pilot::{OrderError, Pilot};
use pilotage::control::pool::WorkerPool;
use pilotage::ids::Arm;
use pilotage::machine::Order;
use pilotage::outcome::{Outcome, Status};
use pilotage::rollout::plan::Plan;
use pilotage::serve::executor::Executor;
use pilotage::serve::request::Request;
use pilotage::serve::router::{Counted, OutcomeError, Router};
use pilotage::serve::shadow_lane::{LaneOptions, Offer, ShadowLane};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;

use crate::arm::{ModelArm, Sabotage};
use crate::model::{Answer, Classifier};
use crate::problem::Problem;
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
}

impl Default for Settings {
    /// No token, contents of 1 MiB, two threads, 64 waiting requests.
    fn default() -> Self {
        Self { token: None, body_limit: 1 << 20, threads: 2, queue: 64 }
    }
}

/// A server without its socket.
#[derive(Debug)]
pub struct Service {
    router: Router<ModelArm>,
    workers: WorkerPool,
    rollout: OnceLock<Rollout>,
    /// Why the candidate is not being rolled out.
    failed: OnceLock<String>,
    alerts: Arc<Mutex<VecDeque<Alert>>>,
    sealer: Sealer,
    token: Option<[u8; 32]>,
    body_limit: usize,
    overloaded: AtomicU64,
}

/// What stands beside the router while a candidate is being rolled out.
#[derive(Debug)]
struct Rollout {
    pilot: Pilot,
    lane: ShadowLane<ModelArm>,
    /// Ticks as long as it is kept.
    _driver: Driver,
}

/// Whether alerts are also written to standard error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loud {
    /// They are.
    Yes,
    /// They are only kept.
    No,
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

/// A server or rollout that cannot start.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

impl Service {
    /// A server of `baseline`.
    ///
    /// # Errors
    ///
    /// When the system gives no threads or random numbers.
    pub fn start(baseline: Arc<Classifier>, settings: &Settings) -> Result<Arc<Self>, StartError> {
        let name = baseline.name().to_owned();
        Ok(Arc::new(Self {
            router: Router::builder("file-type")
                .stable(&name, ModelArm::new(baseline))
                .segments(SEGMENTS)
                .build()?,
            workers: WorkerPool::new("inference", settings.threads, settings.queue)?,
            rollout: OnceLock::new(),
            failed: OnceLock::new(),
            alerts: Arc::default(),
            sealer: Sealer::new()?,
            token: settings.token.as_ref().map(|token| Sha256::digest(token.as_bytes()).into()),
            body_limit: settings.body_limit,
            overloaded: AtomicU64::new(0),
        }))
    }

    /// Begins to roll `candidate` out by `plan`, looking every `every`.
    ///
    /// # Errors
    ///
    /// When a rollout was begun before, or this one cannot begin. The baseline goes on serving.
    pub fn roll_out(
        &self,
        candidate: Arc<Classifier>,
        sabotage: Arc<Sabotage>,
        plan: Plan,
        every: Duration,
        loud: Loud,
    ) -> Result<(), StartError> {
        if self.rollout.get().is_some() {
            return Err("this server has a rollout already; start another for the next".into());
        }
        let name = candidate.name().to_owned();
        let arm = Arc::new(ModelArm::with_sabotage(candidate, sabotage));
        let same = |old: &Answer, new: &Answer| f64::from(u8::from(old.label == new.label));
        let threads = WorkerPool::new("shadow", SHADOW_THREADS, SHADOW_QUEUE)?;
        let lane = ShadowLane::new(Arc::clone(&arm), threads, same, LaneOptions::default())?;
        let alerts = Arc::clone(&self.alerts);
        let alerter = FnAlerter(move |alert: &Alert| {
            if loud == Loud::Yes {
                eprintln!("{alert}");
            }
            let mut alerts = alerts.lock().unwrap_or_else(PoisonError::into_inner);
            if alerts.len() == ALERTS {
                alerts.pop_front();
            }
            alerts.push_back(alert.clone());
        });
        let pilot = Pilot::builder().alerter(alerter).shadow(lane.clone()).start(
            &self.router,
            &name,
            arm,
            plan,
        )?;
        let driver = pilot.spawn(every)?;
        let _ = self.rollout.set(Rollout { pilot, lane, _driver: driver });
        Ok(())
    }

    /// Notes why there is no rollout, for people who look at `GET /rollout`.
    pub fn note_failure(&self, why: String) {
        let _ = self.failed.set(why); // the first reason is the one that matters
    }

    /// The name of the model that is the baseline now.
    #[must_use]
    pub fn baseline(&self) -> String {
        self.router.model_name(Arm::BASELINE).map_or_else(String::new, String::from)
    }

    /// The router, to read counts from.
    #[must_use]
    pub const fn router(&self) -> &Router<ModelArm> {
        &self.router
    }

    /// The rollout's pilot, once there is a rollout.
    #[must_use]
    pub fn pilot(&self) -> Option<&Pilot> {
        self.rollout.get().map(|rollout| &rollout.pilot)
    }

    /// The alerts so far, oldest first; the last [`ALERTS`] of them.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
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
            // Whoever went away while waiting is not served: no call begins.
            if !sender.is_closed() {
                service.classify_here(&user, segment.as_deref(), &content, sender);
            }
        });
        if self.workers.spawn(job).is_err() {
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
        if let Some(rollout) = self.rollout.get().filter(|_| by_baseline) {
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
        if let Some(rollout) = self.rollout.get() {
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

    /// Everything there is to know of the rollout and the server.
    #[must_use]
    pub fn status(&self) -> Value {
        let server = json!({
            "baseline": self.baseline(),
            "overloaded": self.overloaded.load(Ordering::Relaxed),
            "alerts": self.alerts(),
        });
        let rollout = self.pilot().map(Pilot::status);
        json!({ "server": server, "rollout": rollout, "no_rollout_because": self.failed.get() })
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
        let given = given.and_then(|given| given.strip_prefix(b"Bearer ")).unwrap_or_default();
        // Hashes are compared, of one length and in constant time, so that timing tells nothing.
        if Sha256::digest(given).as_slice().ct_eq(expected).into() {
            return Ok(());
        }
        let remedy = "send Authorization: Bearer with the server's PILOTAGE_TOKEN";
        Err(Problem::new(StatusCode::UNAUTHORIZED, "the token is missing or wrong", remedy))
    }

    /// Gives an order to the pilot.
    ///
    /// # Errors
    ///
    /// [`Problem`] when there is no rollout to give it to.
    pub fn order(&self, order: Order, who: &str, why: &str) -> Result<(), Problem> {
        let Some(pilot) = self.pilot() else {
            let error = "no rollout is under way";
            let remedy = "start the server with --candidate";
            return Err(Problem::new(StatusCode::CONFLICT, error, remedy));
        };
        pilot.order(order, who, why).map_err(|error| match error {
            OrderError::Over { .. } => {
                let remedy = "look at GET /rollout; a new rollout needs a new start";
                Problem::new(StatusCode::CONFLICT, error.to_string(), remedy)
            }
            OrderError::Full => Problem::overloaded(),
            _ => Problem::bad(error.to_string(), "name who gives the order in a few words"),
        })
    }
}

/// Segments of users that are told apart.
const SEGMENTS: [&str; 2] = ["free", "premium"];
/// Threads that ask the candidate in a shadow: as many as ask the baseline, so that it keeps up.
const SHADOW_THREADS: usize = 2;
/// Shadow calls that wait.
const SHADOW_QUEUE: usize = 256;
/// Alerts that are kept for `GET /rollout`.
const ALERTS: usize = 64;
