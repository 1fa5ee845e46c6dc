//! Models that panic.
//!
//! A panic of a model is caught where the program unwinds (with `panic = "abort"` there is nothing
//! to catch), so that one bad input takes one request and not a worker.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// What a panic carried.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Runs `work` and catches its panic. The state it may leave behind is the model's own, which is
/// called again at its own risk; ours is not touched inside.
#[inline]
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Payload> {
    catch_unwind(AssertUnwindSafe(work))
}

/// Awaits what `make` makes and catches a panic in making or polling it. Nothing is allocated.
#[inline]
pub(crate) async fn caught_future<F: Future>(
    make: impl FnOnce() -> F,
) -> Result<F::Output, Payload> {
    let future = pin!(caught(make)?);
    Caught(future).await
}

/// Polls in its stead and catches what comes.
struct Caught<'f, F>(Pin<&'f mut F>);

impl<F: Future> Future for Caught<'_, F> {
    type Output = Result<F::Output, Payload>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match caught(|| self.0.as_mut().poll(context)) {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(payload) => Poll::Ready(Err(payload)),
        }
    }
}

/// Drops what a panic carried. Its own drop may panic again, and so may what that carries: what
/// cannot be dropped in two attempts is left in memory.
#[cold]
pub(crate) fn discard(payload: Payload) {
    if let Err(again) = caught(|| drop(payload)) {
        std::mem::forget(again);
    }
}
