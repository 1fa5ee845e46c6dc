//! A server on threads of its own, for a program that also does something else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::http::serve;
use crate::service::Service;

/// A server that listens, until it is dropped.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    runtime: Runtime,
}

impl Running {
    /// Starts to serve at `address`; port 0 picks a free one.
    ///
    /// # Errors
    ///
    /// When the address is taken, or the system gives no threads.
    pub fn start(service: Arc<Service>, address: &str) -> io::Result<Self> {
        // One thread moves bytes; the models have their own.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let stopped = async move {
            let _ = stopped.await; // an error says that the sender is gone: stop as well
        };
        let serving = runtime.spawn(serve(service, listener, stopped));
        Ok(Self { address, stop: Some(stop), serving: Some(serving), runtime })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the process is asked to end (control-C).
    ///
    /// # Errors
    ///
    /// When the system does not tell of signals.
    pub fn wait_for_interrupt(&self) -> io::Result<()> {
        self.runtime.block_on(tokio::signal::ctrl_c())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(serving) = self.serving.take() {
            let _ = self.runtime.block_on(serving);
        }
    }
}
