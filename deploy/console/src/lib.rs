//! The console: what people see of Crosswatch, from its own history, offline.
//!
//! ```text
//! journals ─► follow ─┬─► history (percentiles, minutes and hours) ─► graph ─┐
//!                     └─► live ─► state ◄─ judged ◄─ the alerter's file      ├─► site ─► browser
//!                                   └────────────────────────────────────────┘
//! ```
//!
//! It reads what is there for others: it never makes a stage wait, and writes a file of its own alone.

mod api;
pub mod config;
pub mod drawing;
pub mod figures;
mod follow;
pub mod graph;
mod guard;
pub mod history;
mod html;
pub mod judged;
mod live;
mod serve;
mod site;
pub mod state;
mod text;
mod window;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use crosswatch_host::clock;
use crosswatch_host::health::Part;
use crosswatch_shared::config::topology::Topology;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use config::Config;
use figures::Figures;
use follow::{Follower, Snapshot};
use guard::Guard;
use judged::Alerter;
use live::Live;
use site::Site;

pub use text::spell;

/// The page cannot be served: trying again helps once somebody has put it right.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address could not be bound.
    #[error(
        "the page cannot listen on {address}: {source}; name a free address in [page] listen, or port 0 for any"
    )]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] config::TokenError),
    /// A thread could not be started.
    #[error("the page's thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// A page that listens, and is not served yet.
#[derive(Debug)]
pub struct Page {
    config: Config,
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Page {
    /// Listens where the config says; without that on 8420 of loopback, or any free port where another process has it.
    ///
    /// # Errors
    /// The address is in use, not ours, or not allowed; or the token cannot be read.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        if let Some(file) = &config.token_file {
            config::token(file)?;
        }
        let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), config::PORT);
        let asked = config.listen.unwrap_or(default);
        let bound = match TcpListener::bind(asked).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && config.listen.is_none() => {
                tracing::warn!(
                    "port {} is in use: the page takes another; [page] listen sets one",
                    config::PORT
                );
                TcpListener::bind(SocketAddr::new(default.ip(), 0)).await
            }
            bound => bound,
        };
        // Taken out of this runtime: it is served in one of its own.
        let std =
            bound.and_then(TcpListener::into_std).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = std.map_err(|source| Error::Bind { address: asked, source })?;
        Ok(Self { config, listener, address })
    }

    /// The address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Follows the journals in this folder, and serves, until it is stopped: in threads of its own, so that no stage waits for
    /// a page. What fails is tried again, told in `part` and on the page.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub async fn run(
        self,
        topology: Topology,
        journals: PathBuf,
        alerter: Arc<dyn Alerter>,
        figures: Figures,
        part: Part,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let file = topology.queue.path.join(history::FILE);
        let nothing =
            state::overview(&topology, &Live::default(), None, &Default::default(), Vec::new(), clock::now());
        let (told, watched) = watch::channel(Arc::new(Snapshot { version: 0, states: 0, overview: nothing }));
        let guard = Guard::new(self.config.token_file, self.config.hosts);
        let ended = part.clone();
        let site =
            Site::new(topology.clone(), watched, file.clone(), Arc::clone(&alerter), guard, stop.clone());
        let follower = Follower { file, journals, topology, alerter, figures, told, part };
        let until = stop.clone();
        let following = on_a_thread("page-history", move || follower.run(until))?;
        let (listener, until) = (self.listener, stop.clone());
        let serving = on_a_thread("page", move || async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => serve::serve(listener, Arc::new(site), until).await,
                Err(error) => tracing::error!(%error, "the page cannot be served"),
            }
        })?;
        // Should one of them end by a defect, the stages go on.
        for thread in [following, serving] {
            if thread.await.is_err() && !stop.is_cancelled() {
                ended.failing("ended by a defect".to_owned());
                tracing::error!("the page has ended by a defect; nothing else has");
                stop.cancelled().await;
            }
        }
        Ok(())
    }
}

/// Runs a task on a thread and a runtime of its own; what is given back ends with it, with an error if it panicked.
fn on_a_thread<F: Future<Output = ()>>(
    name: &str,
    task: impl FnOnce() -> F + Send + 'static,
) -> Result<tokio::sync::oneshot::Receiver<()>, Error> {
    let (done, end) = tokio::sync::oneshot::channel();
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            runtime.block_on(async move { task().await });
            let _ = done.send(());
        })
        .map_err(Error::Thread)?;
    Ok(end)
}
