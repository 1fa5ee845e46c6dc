//! A few threads for work that no caller waits for.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::serve::executor::{Executor, Job, Rejected};

/// A bounded pool: so many threads, so many jobs waiting, and no more.
///
/// Dropping it lets the jobs that wait run to their end and does not wait for them; to wait, call
/// [`WorkerPool::shut_down`].
///
/// ```
/// use pilotage::control::pool::WorkerPool;
/// use pilotage::serve::executor::Executor;
/// use std::time::Duration;
///
/// let pool = WorkerPool::new("shadow", 2, 64)?;
/// pool.spawn(Box::new(|| println!("off the request path")))?;
/// assert!(pool.shut_down(Duration::from_secs(5)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WorkerPool {
    jobs: SyncSender<Job>,
    alive: Arc<Alive>,
}

#[derive(Default)]
struct Alive {
    threads: Mutex<usize>,
    changed: Condvar,
}

/// A pool whose threads could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the pool could not start thread {number}: {error}; lower the number of threads")]
pub struct PoolError {
    /// Which thread, from 0.
    pub number: usize,
    /// What the system said.
    pub error: std::io::Error,
}

impl WorkerPool {
    /// Starts `threads` threads, at least one, and lets `waiting` jobs wait, at least one.
    ///
    /// # Errors
    ///
    /// [`PoolError`] when the system starts no more threads; those started before end again.
    pub fn new(name: &str, threads: usize, waiting: usize) -> Result<Self, PoolError> {
        let (jobs, waiting) = sync_channel::<Job>(waiting.max(1));
        let waiting = Arc::new(Mutex::new(waiting));
        let alive = Arc::new(Alive::default());
        for number in 0..threads.max(1) {
            let (waiting, on_duty) = (Arc::clone(&waiting), OnDuty::new(&alive));
            std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || work(&waiting, &on_duty))
                .map_err(|error| PoolError { number, error })?;
        }
        Ok(Self { jobs, alive })
    }

    /// Takes no more jobs, and waits until those taken have run or `patience` is over. Says
    /// whether all threads have ended.
    #[must_use]
    pub fn shut_down(self, patience: Duration) -> bool {
        let Self { jobs, alive } = self;
        drop(jobs);
        let mut threads = alive.threads.lock();
        let gone = |threads: &mut usize| *threads > 0;
        !alive.changed.wait_while_for(&mut threads, gone, patience).timed_out()
    }
}

impl Executor for WorkerPool {
    fn spawn(&self, job: Job) -> Result<(), Rejected> {
        self.jobs.try_send(job).map_err(|_| Rejected)
    }
}

impl fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPool").field("threads", &*self.alive.threads.lock()).finish()
    }
}

/// Counts a thread as alive until it is dropped, also when the thread never started.
struct OnDuty(Arc<Alive>);

impl OnDuty {
    fn new(alive: &Arc<Alive>) -> Self {
        *alive.threads.lock() += 1;
        Self(Arc::clone(alive))
    }
}

impl Drop for OnDuty {
    fn drop(&mut self) {
        *self.0.threads.lock() -= 1;
        self.0.changed.notify_all();
    }
}

fn work(waiting: &Mutex<Receiver<Job>>, _on_duty: &OnDuty) {
    loop {
        // One thread waits for a job, the others for their turn to wait.
        let job = waiting.lock().recv();
        let Ok(job) = job else { return };
        // Jobs promise not to panic; a pool that shrinks by a broken promise helps nobody.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn every_job_taken_is_run_even_past_a_panic() {
        let pool = WorkerPool::new("test", 2, 100).unwrap();
        let run = Arc::new(AtomicUsize::new(0));
        for number in 0..50 {
            let run = Arc::clone(&run);
            pool.spawn(Box::new(move || {
                run.fetch_add(1, Ordering::SeqCst);
                assert_ne!(number % 10, 0, "a job that breaks its promise");
            }))
            .unwrap();
        }
        assert!(pool.shut_down(PATIENCE));
        assert_eq!(run.load(Ordering::SeqCst), 50);
    }

    #[test]
    fn a_full_pool_rejects_at_once() {
        let pool = WorkerPool::new("test", 1, 1).unwrap();
        let (open, gate) = channel::<()>();
        let (begun, has_begun) = channel();
        pool.spawn(Box::new(move || {
            begun.send(()).unwrap();
            gate.recv().unwrap();
        }))
        .unwrap();
        has_begun.recv().unwrap();
        pool.spawn(Box::new(|| {})).unwrap();
        assert_eq!(pool.spawn(Box::new(|| {})), Err(Rejected));
        assert!(
            !WorkerPool { jobs: pool.jobs.clone(), alive: Arc::clone(&pool.alive) }
                .shut_down(Duration::from_millis(1))
        );
        open.send(()).unwrap();
        assert!(pool.shut_down(PATIENCE));
    }
}
