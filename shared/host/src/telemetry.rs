//! Logs and metrics of our own: `tracing` to standard error, and a Prometheus registry.

use std::io::IsTerminal;

use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

/// Sends logs to standard error: `info` and above, or what `CROSSWATCH_LOG` asks for (the filter syntax of
/// `tracing-subscriber`, such as `debug` or `crosswatch_alerter=trace`). Does nothing when called again.
///
/// # Errors
/// Names the part of `CROSSWATCH_LOG` that cannot be read.
pub fn logs() -> Result<(), String> {
    let filter = match std::env::var("CROSSWATCH_LOG") {
        Ok(text) => EnvFilter::try_new(&text).map_err(|error| format!("CROSSWATCH_LOG={text}: {error}"))?,
        Err(_) => EnvFilter::new("info"),
    };
    let terminal = std::io::stderr().is_terminal();
    // Fails only where a subscriber is set already, as a second call in a test does.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        .with_target(false)
        .try_init();
    Ok(())
}

/// An empty registry; each stage registers its own metrics, under their full names `crosswatch_<stage>_<what>`.
#[must_use]
pub fn registry() -> Registry {
    Registry::default()
}
