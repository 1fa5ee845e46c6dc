//! Where work runs that no caller waits for.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use crate::clock::{Clock, Moment};

/// A piece of work to run once.
pub type Job = Box<dyn FnOnce() + Send>;

/// An executor that takes no more work now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the executor takes no more work now")]
pub struct Rejected;

/// Runs jobs somewhere else than on the caller's thread: a bounded pool of threads (see
/// [`WorkerPool`](crate::control::pool::WorkerPool)), or the runtime you already have.
///
/// ```
/// use pilotage::serve::executor::{Executor, Job, Rejected};
/// use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
///
/// /// Hands jobs to a thread of mine.
/// struct Mine(SyncSender<Job>);
///
/// impl Executor for Mine {
///     fn spawn(&self, job: Job) -> Result<(), Rejected> {
///         self.0.try_send(job).map_err(|_| Rejected)
///     }
/// }
///
/// let (sender, jobs) = sync_channel(16);
/// std::thread::spawn(move || jobs.into_iter().for_each(|job: Job| job()));
/// Mine(sender).spawn(Box::new(|| println!("done")))?;
/// # Ok::<(), Rejected>(())
/// ```
pub trait Executor: Send + Sync {
    /// Takes `job` to run soon on another thread, or rejects it.
    ///
    /// Called on the request's thread: it must not block, and must not run the job itself. The
    /// job may block for as long as a model takes, so on an asynchronous runtime use its pool for
    /// blocking work. A job never panics. One that is dropped unrun counts as shed.
    ///
    /// # Errors
    ///
    /// [`Rejected`] when there is no room. The caller counts the work as shed and goes on.
    fn spawn(&self, job: Job) -> Result<(), Rejected>;
}

impl<E: Executor + ?Sized> Executor for Arc<E> {
    fn spawn(&self, job: Job) -> Result<(), Rejected> {
        (**self).spawn(job)
    }
}

/// Runs a future on this thread until it is ready, or until `deadline` by `clock`, when it is
/// dropped. Only for jobs: it parks the thread.
pub(crate) fn run_until<F: Future, C: Clock>(
    future: F,
    clock: &C,
    deadline: Option<Moment>,
) -> Option<F::Output> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match deadline.map(|deadline| deadline.since(clock.now())) {
            None => std::thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => std::thread::park_timeout(left),
        }
    }
}
