//! The listener: connections, of which there are so many at most, each with so much time at most.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::site::Site;

/// How many connections there are at most; one more is closed at once.
pub(crate) const CONNECTIONS: usize = 512;
/// How long a request's head may take, and a connection may rest.
const HEAD: Duration = Duration::from_secs(10);
/// How large a request's head may be.
const HEAD_BYTES: usize = 16 << 10;
/// How long a connection lasts; whoever is live then comes again.
const LASTS: Duration = Duration::from_secs(600);
/// How long what is under way may take once it is to end.
const LAST_CALL: Duration = Duration::from_secs(2);
/// The pause after a connection could not be taken: the process has too many files open, say.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until it is stopped.
pub(crate) async fn serve(listener: TcpListener, site: Arc<Site>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, peer)) =
            accepted.inspect_err(|error| tracing::warn!(%error, "the page takes no connection"))
        else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::debug!(%peer, "too many connections to the page");
            continue;
        };
        let (site, stop) = (Arc::clone(&site), stop.clone());
        tokio::spawn(async move {
            connection(stream, peer.ip(), site, stop).await;
            drop(slot);
        });
    }
}

async fn connection(stream: TcpStream, peer: std::net::IpAddr, site: Arc<Site>, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, std::convert::Infallible>(site.answer(request, peer).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES).half_close(false);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        _ = &mut connection => true,
        () = tokio::time::sleep(LASTS) => false,
        () = stop.cancelled() => false,
    };
    if !ended {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_CALL, connection).await;
    }
}
