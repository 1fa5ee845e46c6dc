//! The whole journey in one file: shadow, 5 %, 50 %, 100 %, promoted.
//!
//! ```sh
//! cargo run --release --example first_rollout
//! ```
//!
//! Two models count the words of a text. The second is faster, and wrong once in a thousand texts.
//! Change `broken_every` to 5 and run it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pilotage::control::Pilot;
use pilotage::control::pool::WorkerPool;
use pilotage::judge::guardrail::Guardrail;
use pilotage::model;
use pilotage::outcome::Status;
use pilotage::rollout::plan::Plan;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::serve::shadow_lane::{LaneOptions, Offer, ShadowLane};
use pilotage::share::TrafficShare;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broken_every = 1_000;

    let old: Count = Box::new(|text| Ok(text.split_whitespace().count()));
    let router = Router::builder("word-count").stable("v1", model::sync(old)).build()?;

    let calls = AtomicU64::new(1);
    let new: Count = Box::new(move |text| {
        if calls.fetch_add(1, Ordering::Relaxed) % broken_every == 0 {
            return Err("out of memory".to_owned());
        }
        Ok(text.bytes().filter(|byte| *byte == b' ').count() + 1)
    });
    let new = Arc::new(model::sync(new).shadowable());

    // Where the candidate runs on copies of requests: a thread of its own, never the caller's.
    let pool = WorkerPool::new("shadow", 1, 1_024)?;
    let same = |old: &usize, new: &usize| f64::from(u8::from(old == new));
    let lane = Arc::new(ShadowLane::new(Arc::clone(&new), pool, same, LaneOptions::default())?);

    let second = Duration::from_secs(1);
    let guardrails: Vec<Guardrail> = [Guardrail::error_rate(), Guardrail::timeout_rate()]
        .map(|guardrail| guardrail.floor(0.01))
        .into();
    let plan = Plan::builder()
        .shadow(second, 200)
        .canary(TrafficShare::percent(5.0)?, second, 200)
        .canary(TrafficShare::HALF, second, 200)
        .full(second, 200)
        .guardrails(&guardrails)
        .build()?;
    let pilot = Pilot::builder().shadow(Arc::clone(&lane)).start(&router, "v2", new, plan)?;
    let _driver = pilot.spawn(Duration::from_millis(50))?;

    // The request handler of a server, more or less.
    let text: Arc<str> = "the quick brown fox jumps over the lazy dog".into();
    let mut told = 0;
    for user in 0_u64.. {
        let request = Request::of(user);
        if let Ok(answer) = router.predict_sync(&request, &text) {
            lane.offer(&request, || Offer {
                input: Arc::clone(&text),
                bytes: text.len(),
                status: Status::Ok,
                latency: Duration::from_micros(1),
                output: Some(answer.output),
                sample: None,
            });
        }
        std::thread::park_timeout(Duration::from_micros(200));
        if user % 100 == 0 {
            let history = pilot.status().history;
            for step in history.iter().skip(told) {
                println!(
                    "{:>6.2} s  {} -> {}: {}",
                    step.at.as_secs_f64(),
                    step.from,
                    step.to,
                    step.why
                );
            }
            told = history.len();
            if pilot.is_over() {
                break;
            }
        }
    }
    Ok(())
}

/// Both arms are of one type: a function behind a pointer.
type Count = Box<dyn Fn(&str) -> Result<usize, String> + Send + Sync>;
