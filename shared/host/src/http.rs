//! The HTTP listener of a process: `/metrics` in Prometheus text, `/healthz`, `/readyz`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// The listener could not be opened or broke.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address could not be bound.
    #[error("cannot listen on {address}: {source}; name a free address in [http] listen, or port 0 for any")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Serving failed.
    #[error("serving on {address} failed: {source}")]
    Serve {
        /// The address served.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A bound listener, not serving yet.
#[derive(Debug)]
pub struct Http {
    listener: TcpListener,
    address: SocketAddr,
}

impl Http {
    /// Binds `address`; port 0 takes any free one, which [`Self::address`] tells.
    ///
    /// # Errors
    /// The address is in use, not ours, or not allowed.
    pub async fn bind(address: SocketAddr) -> Result<Self, HttpError> {
        let bound =
            TcpListener::bind(address).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|source| HttpError::Bind { address, source })?;
        Ok(Self { listener, address })
    }

    /// The address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`.
    ///
    /// # Errors
    /// The listener broke.
    pub async fn serve(
        self,
        registry: Registry,
        health: Health,
        stop: CancellationToken,
    ) -> Result<(), HttpError> {
        let address = self.address;
        axum::serve(self.listener, router(Arc::new(registry), health))
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
            .map_err(|source| HttpError::Serve { address, source })
    }
}

fn router(registry: Arc<Registry>, health: Health) -> Router {
    let metrics = move || async move {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => Ok((
                [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
                text,
            )),
            Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))),
        }
    };
    let ready = move || async move {
        match health.failures() {
            failures if failures.is_empty() => (StatusCode::OK, "ready\n".to_owned()),
            failures => (StatusCode::SERVICE_UNAVAILABLE, failures.join("\n") + "\n"),
        }
    };
    Router::new()
        .route("/metrics", get(metrics))
        // The process answers, so it lives; what it can do is for /readyz.
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    async fn ask(address: SocketAddr, path: &'static str) -> String {
        tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn readiness_follows_the_parts_and_metrics_are_shown() {
        let mut registry = crate::telemetry::registry();
        let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
        registry.register("crosswatch_test_batches", "Batches seen", counter.clone());
        counter.inc();
        let health = Health::default();
        let part = health.part("publisher");
        let http = Http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = http.address();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(http.serve(registry, health, stop.clone()));

        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let ready = ask(address, "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503") && ready.ends_with("publisher: starting\n"), "{ready}");
        part.ok();
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/metrics").await.contains("crosswatch_test_batches_total 1"));
        stop.cancel();
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_with_the_way_out() {
        let first = Http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = Http::bind(first.address()).await.unwrap_err().to_string();
        assert!(error.contains(&first.address().to_string()) && error.contains("[http] listen"), "{error}");
    }
}
