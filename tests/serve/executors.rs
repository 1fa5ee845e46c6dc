//! The same router under every executor, and under none.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pilotage::model::{Call, Model};
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;

use crate::{block_on, shift};

/// Waits for one turn of the executor before it answers, on whichever executor that is.
struct Patient;

impl Model for Patient {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    async fn predict(&self, input: &u64, _call: &Call) -> Result<u64, Infallible> {
        OneTurn(false).await;
        Ok(*input)
    }
}

struct OneTurn(bool);

impl Future for OneTurn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn router() -> Router<Patient> {
    let router = Router::builder("executors").stable("old", Patient).build().unwrap();
    router.deploy("new", Patient).unwrap();
    shift(&router, TrafficShare::HALF);
    router
}

/// A hundred requests, and the tasks may move between threads while they wait.
async fn hundred(router: Router<Patient>) {
    for user in 0..100 {
        assert_eq!(router.predict(Request::of(user), &user).await.unwrap().output, user);
    }
}

fn all_counted(router: &Router<Patient>, calls: u64) {
    let snapshot = router.snapshot();
    assert_eq!(snapshot.arms.iter().map(|arm| arm.ended[0]).sum::<u64>(), calls);
    assert!(snapshot.arms.iter().all(|arm| arm.in_flight() == 0 && arm.started > 0));
}

#[test]
fn it_serves_on_tokio_with_tasks_that_move_between_threads() {
    let router = router();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap();
    let tasks: Vec<_> = (0..20).map(|_| runtime.spawn(hundred(router.clone()))).collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    all_counted(&router, 2_000);
}

#[test]
fn it_serves_on_tokio_with_one_thread() {
    let router = router();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(hundred(router.clone()));
    all_counted(&router, 100);
}

#[test]
fn it_serves_on_smol() {
    let router = router();
    let tasks: Vec<_> = (0..20).map(|_| smol::spawn(hundred(router.clone()))).collect();
    smol::block_on(async {
        for task in tasks {
            task.await;
        }
    });
    all_counted(&router, 2_000);
}

#[test]
fn it_serves_on_a_bare_block_on() {
    let router = router();
    pollster::block_on(hundred(router.clone()));
    block_on(hundred(router.clone()));
    all_counted(&router, 200);
}

#[test]
fn it_serves_on_plain_threads() {
    let router = router();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| block_on(hundred(router.clone())));
        }
    });
    all_counted(&router, 800);
}

#[test]
fn a_model_may_call_the_router_it_stands_in() {
    let router = router();
    let nested = async {
        let inner = router.predict(Request::of("inner"), &1);
        let outer = router.predict(Request::of("outer"), &2);
        (inner.await.unwrap().output, outer.await.unwrap().output)
    };
    assert_eq!(pollster::block_on(nested), (1, 2));
    all_counted_of(&router, 2);
}

fn all_counted_of(router: &Router<Patient>, calls: u64) {
    let totals = router.totals();
    assert_eq!(totals.iter().map(|arm| arm.ended[0]).sum::<u64>(), calls);
}
