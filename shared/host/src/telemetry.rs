//! Logs and metrics of our own: `tracing` to standard error, and a Prometheus registry.

use std::io::IsTerminal;

use prometheus_client::registry::Registry;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Targets that tell of requests and answers as they are: credentials, and the pre-shared keys of VPN connections. Below
/// `info` nothing of theirs is told, whatever is asked for.
const TELLTALES: [&str; 5] = ["aws_", "h2", "hyper", "hyper_util", "rustls"];

/// Sends logs to standard error: `info` and above, or what `CROSSWATCH_LOG` asks for (the filter syntax of
/// `tracing-subscriber`, such as `debug` or `crosswatch_alerter=trace`). Does nothing when called again.
///
/// # Errors
/// Names the part of `CROSSWATCH_LOG` that cannot be read.
pub fn logs() -> Result<(), String> {
    let filter = std::env::var("CROSSWATCH_LOG").unwrap_or_else(|_| "info".to_owned());
    let subscriber = subscriber(&filter, std::io::stderr, std::io::stderr().is_terminal())?;
    // Fails only where a subscriber is set already, as a second call in a test does.
    let _ = subscriber.try_init();
    Ok(())
}

/// What [`logs`] sets up, writing elsewhere.
///
/// # Errors
/// Names the filter that cannot be read.
pub fn subscriber<W>(filter: &str, writer: W, ansi: bool) -> Result<impl Subscriber + use<W>, String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let asked = EnvFilter::try_new(filter).map_err(|error| format!("CROSSWATCH_LOG={filter}: {error}"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi).with_target(false);
    Ok(tracing_subscriber::registry().with(lines.with_filter(asked.and(filter_fn(may_be_told)))))
}

fn may_be_told(metadata: &Metadata<'_>) -> bool {
    let within = |telltale: &str| {
        let rest = metadata.target().strip_prefix(telltale);
        rest.is_some_and(|rest| telltale.ends_with('_') || rest.is_empty() || rest.starts_with("::"))
    };
    *metadata.level() <= Level::INFO || !TELLTALES.iter().any(|telltale| within(telltale))
}

/// An empty registry; each stage registers its own metrics, under their full names `crosswatch_<stage>_<what>`.
#[must_use]
pub fn registry() -> Registry {
    Registry::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_tells_answers_as_they_are_is_silent_below_info_whatever_is_asked_for() {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = "trace,aws_smithy_runtime=trace,hyper=trace";
        let subscriber = subscriber(filter, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!("ours");
            tracing::trace!(target: "h2o", "another's");
            tracing::warn!(target: "aws_smithy_runtime::client", "warned");
            tracing::debug!(target: "aws_smithy_runtime::client::orchestrator", "canary");
            tracing::trace!(target: "hyper::proto", "canary");
            tracing::trace!(target: "h2", "canary");
        });
        let told = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(["ours", "another's", "warned"].iter().all(|line| told.contains(line)), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
}
