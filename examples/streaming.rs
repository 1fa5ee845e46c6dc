//! Tokens, one by one: two language models behind one router, and what is seen of their streams.
//!
//! Run with `cargo run --release --example streaming`.
//!
//! The models only play at being models: each waits before its first token and between tokens as a
//! real one would, a hundred times faster, and the candidate breaks off now and then. Half of the
//! users go to it. What a server would do with an answer is in `serve`; what an operator would ask
//! is printed at the end. An asynchronous server does the same with `Router::predict_stream` and the
//! feature `stream`, by which an answer is a `futures_core::Stream` to be sent as a body.

use std::time::Duration;

use pilotage::ids::Arm;
use pilotage::model::Call;
use pilotage::observe::snapshot::ArmCounts;
use pilotage::outcome::{Outcome, Status};
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::builder::Fallback;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;
use pilotage::stream_model::SyncStreamModel;

/// How fast a model is, in microseconds, and every how many answers it breaks off.
struct Poet {
    first: u64,
    between: u64,
    breaks_off: Option<u64>,
}

/// A poem under way.
struct Poem {
    words: std::vec::IntoIter<String>,
    wait: u64,
    between: u64,
    breaks_after: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
#[error("the model lost its thread")]
struct LostThread;

impl SyncStreamModel for Poet {
    type Input = str;
    type Item = String;
    type Error = LostThread;
    type Items = Poem;

    fn stream_sync(&self, prompt: &str, call: &Call) -> Result<Poem, LostThread> {
        let number: u64 = prompt.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(1);
        let unlucky = self.breaks_off.is_some_and(|every| number % every == 0);
        // Some break off before the first token: those the baseline takes over.
        if unlucky && number % 2 == 0 {
            return Err(LostThread);
        }
        let words = ["the", "pilot", "knows", "the", "shoals", "of", "harbour", "number"];
        let mut words: Vec<String> = words.map(str::to_owned).into();
        words.push(number.to_string());
        if call.arm == Arm::CANDIDATE {
            words.extend(["and", "every", "light", "beside", "the", "way"].map(str::to_owned));
        }
        Ok(Poem {
            words: words.into_iter(),
            wait: self.first,
            between: self.between,
            breaks_after: unlucky.then_some(4),
        })
    }
}

impl Iterator for Poem {
    type Item = Result<String, LostThread>;

    #[expect(clippy::disallowed_methods, reason = "a model takes its time")]
    fn next(&mut self) -> Option<Self::Item> {
        std::thread::sleep(Duration::from_micros(std::mem::replace(&mut self.wait, self.between)));
        match &mut self.breaks_after {
            Some(0) => Some(Err(LostThread)),
            Some(left) => {
                *left -= 1;
                self.words.next().map(Ok)
            }
            None => self.words.next().map(Ok),
        }
    }
}

/// What a handler does: sends each token as it comes. This reader loses patience at times.
fn serve(router: &Router<Poet>, user: u64) -> usize {
    let prompt = format!("a poem about harbour {user}");
    let Ok(answer) = router.predict_stream_sync(&Request::of(user), &prompt) else {
        return 0; // An honest 500: nothing was sent yet.
    };
    let patience = if user % 20 == 0 { 3 } else { usize::MAX };
    let mut sent = 0;
    for token in answer.output.take(patience) {
        match token {
            Ok(_) => sent += 1,
            Err(_) => return sent, // Broken off: what was sent is sent.
        }
    }
    // A thumbs-up comes later, and counts for the arm that was asked.
    let _ = router.outcome(answer.ticket, Outcome::correct(true));
    sent
}

fn shown(name: &str, arm: &ArmCounts) {
    let Some(streams) = &arm.streams else { return };
    let millis = |nanos: Option<u64>| nanos.unwrap_or(0) as f64 / 1e6;
    println!("{name}");
    println!(
        "  {} streams: {} to their end, {} failed ({} amid their tokens), {} left by the reader",
        streams.ended,
        arm.of(Status::Ok),
        arm.of(Status::Error),
        streams.broken,
        streams.abandoned,
    );
    println!("  {} failed before the first token and were answered by the other", arm.fell_back);
    println!(
        "  first token {:.2} ms (p50), {:.2} ms (p95); between tokens {:.2} ms (mean), {:.2} ms (p99)",
        millis(streams.first.quantile(0.5)),
        millis(streams.first.quantile(0.95)),
        streams.mean_gap().unwrap_or(0.0) / 1e6,
        millis(streams.gaps.quantile(0.99)),
    );
    println!("  {} tokens, {:.1} a stream", streams.items, streams.mean_items().unwrap_or(0.0));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let router = Router::builder("poet")
        .deadline(Duration::from_millis(500))
        .stream_deadline(Duration::from_secs(10))
        .fallback(Fallback::OnFailure)
        .stable("poet-7b", Poet { first: 900, between: 150, breaks_off: None })
        .build()?;
    router.deploy("poet-8b", Poet { first: 600, between: 250, breaks_off: Some(25) })?;
    router.switch().shift(&router.split().shifted(TrafficShare::HALF))?;

    let sent: usize = (0..400).map(|user| serve(&router, user)).sum();
    router.drain();
    println!("{sent} tokens sent to 400 readers\n");
    let snapshot = router.snapshot();
    for (arm, role) in [(Arm::BASELINE, "baseline"), (Arm::CANDIDATE, "candidate")] {
        if let (Some(counts), Some(name)) = (snapshot.arm(arm), router.model_name(arm)) {
            shown(&format!("{role}, {}", name.as_str()), counts);
        }
    }
    Ok(())
}
