//! The same router under every way to run a future, and under none.

#[cfg(feature = "stream")]
mod streams;

use std::sync::Arc;
use std::time::Duration;

use pilotage::control::Pilot;
use pilotage::control::pool::WorkerPool;
use pilotage::ids::Arm;
use pilotage::model::{Call, Model};
use pilotage::outcome::Status;
use pilotage::rollout::plan::Plan;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::serve::shadow_lane::{LaneOptions, ShadowLane};
use pilotage::share::TrafficShare;

/// Awaits a few times before it answers, as a model behind a queue would; 13 makes it fail.
struct Queued(u64);

impl Model for Queued {
    type Input = u64;
    type Output = u64;
    type Error = String;

    async fn predict(&self, input: &u64, _call: &Call) -> Result<u64, String> {
        for _ in 0..3 {
            Yield(false).await;
        }
        if *input == 13 { Err("unlucky".into()) } else { Ok(input * self.0) }
    }

    fn shadowable(&self) -> bool {
        true
    }
}

/// Pending once, so that the executor has to come back.
struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    }
}

fn router() -> Router<Queued> {
    let router = Router::builder("runtimes").stable("v1", Queued(1)).build().unwrap();
    router.deploy("v2", Queued(2)).unwrap();
    let word = router.switch();
    let half = word.read().shifted(TrafficShare::HALF);
    pilotage::route::switch::TrafficSwitch::shift(&*word, &half).unwrap();
    router
}

/// A hundred requests; every answer is that of whose model gave it, and every call is counted.
async fn hundred(router: Router<Queued>, from: u64) {
    for user in from..from + 100 {
        let answer = router.predict(Request::of(user), &7).await.unwrap();
        assert_eq!(answer.output, if answer.answered_by() == Arm::CANDIDATE { 14 } else { 7 });
    }
    assert_eq!(router.predict(Request::of(from), &13).await, Err("unlucky".into()));
}

fn check(router: &Router<Queued>, tasks: u64) {
    router.drain();
    let totals = router.totals();
    let sum =
        |of: fn(&pilotage::observe::snapshot::ArmCounts) -> u64| totals.iter().map(of).sum::<u64>();
    assert_eq!(sum(|arm| arm.started), tasks * 101);
    assert_eq!(sum(|arm| arm.of(Status::Ok)), tasks * 100);
    assert_eq!(sum(|arm| arm.of(Status::Error)), tasks);
    assert_eq!(sum(|arm| arm.in_flight()), 0);
}

#[test]
fn it_serves_on_tokio_with_many_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let router = router();
    runtime.block_on(async {
        let tasks: Vec<_> =
            (0..8).map(|task| tokio::spawn(hundred(router.clone(), task * 1_000))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    check(&router, 8);
}

#[test]
fn it_serves_on_tokio_with_one_thread_and_a_time_out_counts_as_cancelled() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let router = router();
    runtime.block_on(hundred(router.clone(), 0));
    check(&router, 1);
    runtime.block_on(async {
        let call = async {
            let _guard = router.begin(&Request::of(1_u64));
            std::future::pending::<()>().await;
        };
        assert!(tokio::time::timeout(Duration::from_millis(5), call).await.is_err());
    });
    router.drain();
    let cancelled: u64 = router.totals().iter().map(|arm| arm.of(Status::Cancelled)).sum();
    assert_eq!(cancelled, 1);
}

#[test]
fn it_serves_on_smol() {
    let router = router();
    smol::block_on(async {
        let tasks: Vec<_> =
            (0..8).map(|task| smol::spawn(hundred(router.clone(), task * 1_000))).collect();
        for task in tasks {
            task.await;
        }
    });
    check(&router, 8);
}

#[test]
fn it_serves_on_a_bare_block_on() {
    let router = router();
    pollster::block_on(hundred(router.clone(), 0));
    check(&router, 1);
}

#[test]
fn it_serves_plain_threads() {
    let router = router();
    std::thread::scope(|scope| {
        for task in 0..4 {
            let router = router.clone();
            scope.spawn(move || pollster::block_on(hundred(router, task * 1_000)));
        }
    });
    check(&router, 4);
    // Without any future: begin, answer, finish.
    let guard = router.begin(&Request::of(5_u64));
    guard.finish(pilotage::outcome::Outcome::ok());
    router.drain();
    assert_eq!(router.totals().iter().map(|arm| arm.started).sum::<u64>(), 4 * 101 + 1);
}

#[test]
fn a_whole_rollout_runs_under_an_executor_it_knows_nothing_of() {
    let router = Router::builder("anywhere").stable("v1", Queued(1)).build().unwrap();
    let candidate = Arc::new(Queued(1));
    let pool = WorkerPool::new("shadow", 1, 4_096).unwrap();
    let same = |old: &u64, new: &u64| f64::from(u8::from(old == new));
    let options = LaneOptions { in_flight: 4_096, ..LaneOptions::default() };
    let lane = ShadowLane::new(Arc::clone(&candidate), pool, same, options).unwrap();
    let rates: Vec<_> = pilotage::judge::guardrail::Guardrail::standard()
        .into_iter()
        .filter(|guardrail| guardrail.measure.is_rate())
        .map(|guardrail| guardrail.floor(0.05))
        .collect();
    let second = Duration::from_millis(100);
    let plan = Plan::builder()
        .shadow(second, 50)
        .canary(TrafficShare::HALF, second, 50)
        .full(second, 50)
        .guardrails(&rates)
        .build()
        .unwrap();
    let pilot =
        Pilot::builder().shadow(lane.clone()).start(&router, "v2", candidate, plan).unwrap();
    let input = Arc::new(7_u64);
    smol::block_on(async {
        for user in 0_u64.. {
            let answer = lane.predict(&router, Request::of(user), &input, None).await.unwrap();
            assert_eq!(answer.output, 7);
            if user % 50 == 0 {
                smol::Timer::after(Duration::from_millis(5)).await;
                if !pilot.tick() || pilot.is_over() {
                    break;
                }
            }
            assert!(user < 200_000, "{}", pilot.status().reason);
        }
    });
    assert_eq!(
        pilot.end(),
        Some(pilotage::rollout::pipeline::End::Promoted),
        "{:?}",
        pilot.status()
    );
}
