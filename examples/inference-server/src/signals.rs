//! How the process is asked to end: SIGTERM, SIGINT, or control-C.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// The signals that came since this was made.
#[derive(Debug)]
pub struct Signals {
    runtime: Runtime,
    came: UnboundedReceiver<()>,
}

impl Signals {
    /// From now on such a signal does not end the process by itself.
    ///
    /// # Errors
    ///
    /// When the system does not tell of signals.
    pub fn new() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (sender, came) = unbounded_channel();
        let _inside = runtime.enter();
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
                let (mut signal, sender) = (signal(kind)?, sender.clone());
                runtime.spawn(async move {
                    while signal.recv().await.is_some() {
                        let _ = sender.send(()); // nobody listens any more
                    }
                });
            }
        }
        #[cfg(not(unix))]
        runtime.spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                let _ = sender.send(());
            }
        });
        drop(_inside);
        Ok(Self { runtime, came })
    }

    /// Waits for the next one.
    pub fn wait(&mut self) {
        self.runtime.block_on(self.came.recv());
    }

    /// Whether one comes within `patience`.
    pub fn comes_within(&mut self, patience: Duration) -> bool {
        let came = &mut self.came;
        self.runtime.block_on(async { timeout(patience, came.recv()).await.is_ok() })
    }
}
