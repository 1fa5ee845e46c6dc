//! Streams under an executor: tokens through a channel, a body that is read elsewhere, and readers
//! that go away.

use std::time::Duration;

use pilotage::adapt::stream::{FromStream, from_stream};
use pilotage::ids::Arm;
use pilotage::model::Call;
use pilotage::outcome::Status;
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::builder::Fallback;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;
use pilotage::stream_model::StreamModel;
use smol::channel::{Receiver, bounded};
use smol::stream::{Stream, StreamExt};

/// Streams the numbers below what it is asked, from a task of its own; 13 it refuses, 7 it ponders.
struct Engine;

impl StreamModel for Engine {
    type Input = u32;
    type Item = u32;
    type Error = String;
    type Items = FromStream<Receiver<Result<u32, String>>>;

    async fn stream(&self, input: &u32, call: &Call) -> Result<Self::Items, String> {
        let (send, tokens) = bounded(1);
        let (upto, refuses) = (*input, *input == 13 && call.arm == Arm::CANDIDATE);
        let generating = async move {
            if refuses {
                let _ = send.send(Err("unlucky".to_owned())).await;
                return;
            }
            if upto == 7 {
                smol::future::pending().await
            }
            for token in 0..upto {
                super::Yield(false).await;
                if send.send(Ok(token)).await.is_err() {
                    return; // The reader went away.
                }
            }
        };
        smol::spawn(generating).detach();
        Ok(from_stream(tokens))
    }
}

fn router() -> Router<Engine> {
    let router = Router::builder("tokens")
        .fallback(Fallback::OnFailure)
        .stable("v1", Engine)
        .build()
        .unwrap();
    router.deploy("v2", Engine).unwrap();
    router.switch().shift(&router.split().shifted(TrafficShare::ALL)).unwrap();
    router
}

/// Reads as a web framework would: a boxed stream that may go to any thread.
async fn body(
    stream: impl Stream<Item = Result<u32, String>> + Send + 'static,
) -> Result<Vec<u32>, String> {
    let mut stream: std::pin::Pin<Box<dyn Stream<Item = Result<u32, String>> + Send>> =
        Box::pin(stream);
    let mut read = Vec::new();
    while let Some(token) = stream.next().await {
        read.push(token?);
    }
    Ok(read)
}

/// 20 streams to their end, one covered by the baseline, one left before and one amid its items.
async fn serve(router: Router<Engine>) {
    for user in 0..20_u64 {
        let answer = router.predict_stream(Request::of(user), &5).await.unwrap();
        assert_eq!(answer.arm, Arm::CANDIDATE);
        assert_eq!(body(answer.output).await.unwrap(), [0, 1, 2, 3, 4]);
    }
    let covered = router.predict_stream(Request::of(1_u64), &13).await.unwrap();
    assert!(covered.fell_back);
    assert_eq!(body(covered.output).await.unwrap().len(), 13);
    let mut amid = router.predict_stream(Request::of(2_u64), &1_000_000).await.unwrap().output;
    for token in 0..3 {
        assert_eq!(amid.next().await, Some(Ok(token)));
    }
    drop(amid);
    let before = router.predict_stream(Request::of(3_u64), &7);
    assert!(smol::future::poll_once(before).await.is_none());
}

fn check(router: &Router<Engine>, tasks: u64) {
    let counts = router.snapshot().arms[Arm::CANDIDATE.index()].clone();
    assert_eq!(Status::ALL.map(|status| counts.of(status)), [20, 1, 0, 2, 0].map(|n| n * tasks));
    assert_eq!(counts.in_flight(), 0);
    let streams = counts.streams.unwrap();
    assert_eq!((streams.ended, streams.answered), (23 * tasks, 21 * tasks));
    assert_eq!((streams.items, streams.abandoned), (103 * tasks, tasks));
    assert_eq!(router.snapshot().arms[0].started, 0);
}

#[test]
fn streams_run_on_tokio_with_many_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let router = router();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..4).map(|_| tokio::spawn(serve(router.clone()))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    check(&router, 4);
}

#[test]
fn streams_run_on_smol_and_on_a_bare_block_on() {
    let first = router();
    smol::block_on(serve(first.clone()));
    check(&first, 1);
    let second = router();
    pollster::block_on(serve(second.clone()));
    check(&second, 1);
}

#[test]
fn a_body_that_is_cut_short_by_a_timer_counts_as_cancelled() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let router = router();
    runtime.block_on(async {
        let answer = router.predict_stream(Request::of("user"), &u32::MAX).await.unwrap();
        let reading = async {
            let mut stream = answer.output;
            while stream.next().await.is_some() {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_millis(20), reading).await.is_err());
    });
    let counts = &router.snapshot().arms[Arm::CANDIDATE.index()];
    assert_eq!((counts.of(Status::Cancelled), counts.in_flight()), (1, 0));
    assert_eq!(counts.streams.as_ref().unwrap().abandoned, 1);
}
