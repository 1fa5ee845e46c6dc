//! A server on threads of its own, for a program that also does something else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::admin::for_operators;
use crate::http::{CONNECTIONS, for_users, serve};
use crate::service::Service;

/// A server that listens, until it is dropped.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

impl Running {
    /// Serves users at `address`; port 0 picks a free one.
    ///
    /// # Errors
    ///
    /// When the address is taken, or the system gives no threads.
    pub fn start(service: Arc<Service>, address: &str) -> io::Result<Self> {
        // One thread moves bytes; the models have their own.
        Self::of(for_users(service), address, 1, CONNECTIONS)
    }

    /// Serves operators at `address`, on threads and connections that users cannot take.
    ///
    /// # Errors
    ///
    /// As for [`Running::start`].
    pub fn admin(service: Arc<Service>, address: &str) -> io::Result<Self> {
        Self::of(for_operators(service), address, 2, OPERATORS)
    }

    fn of(app: Router, address: &str, threads: usize, places: usize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let stopped = async move {
            let _ = stopped.await; // an error says that the sender is gone: stop as well
        };
        let serving = runtime.spawn(serve(app, listener, places, stopped));
        Ok(Self { address, stop: Some(stop), serving: Some(serving), runtime: Some(runtime) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Takes no more connections, and waits a while for the answers under way.
impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let Some(runtime) = self.runtime.take() else { return };
        if let Some(serving) = self.serving.take() {
            let _ = runtime.block_on(serving);
        }
        runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

/// Connections of operators served at once.
const OPERATORS: usize = 128;
