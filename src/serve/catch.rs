//! Models that panic.
//!
//! A panic of a model is caught where the program unwinds (with `panic = "abort"` there is nothing
//! to catch), so that one bad input takes one request and not a worker.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

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
    let mut future = pin!(caught(make)?);
    poll_fn(|context| match caught(|| future.as_mut().poll(context)) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(payload) => Poll::Ready(Err(payload)),
    })
    .await
}

/// Drops what a panic carried. Its own drop may panic again, and so may what that carries: what
/// cannot be dropped in two attempts is left in memory.
#[cold]
pub(crate) fn discard(payload: Payload) {
    if let Err(again) = caught(|| drop(payload)) {
        std::mem::forget(again);
    }
}
