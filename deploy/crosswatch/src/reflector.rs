//! `crosswatch reflector`: answers STAMP test packets for probes elsewhere, and tells what it hears.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use crosswatch_host::health::Health;
use crosswatch_host::http::{Http, HttpError};
use crosswatch_host::lifecycle::Lifecycle;
use crosswatch_host::telemetry;
use crosswatch_stamp::mirror::{Heard, Policy};
use crosswatch_stamp::packet::PORT;
use crosswatch_stamp::prefix::Prefix;
use crosswatch_stamp::{Options, Reflector};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, LabelSetEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// How long the listeners may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// How often it is looked whether the thread that answers is well.
const LOOK: Duration = Duration::from_secs(1);

/// Where to listen, and whom to answer.
#[derive(Debug, Args)]
pub(crate) struct ReflectorArgs {
    /// A network that is answered, such as 10.0.0.0/16; may be given several times. Nobody else gets an answer.
    #[arg(long, value_name = "NETWORK", required = true)]
    allow: Vec<Prefix>,
    /// Where to listen, by UDP; may be given several times.
    #[arg(long, value_name = "ADDRESS:PORT", default_values_t = [SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT)])]
    listen: Vec<SocketAddr>,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9467")]
    http: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Reflector(#[from] crosswatch_stamp::Error),
}

/// Answers until SIGINT or SIGTERM.
pub(crate) fn run(args: ReflectorArgs) -> anyhow::Result<()> {
    telemetry::logs().map_err(anyhow::Error::msg)?;
    let ReflectorArgs { allow, listen, http } = args;
    let reflector = Arc::new(Reflector::spawn(Options { listen, policy: Policy::new(allow) })?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        let mut life = Lifecycle::<Ended>::new()?;
        let http = Http::bind(http).await.map_err(|error| anyhow::anyhow!("--http: {error}"))?;
        for address in reflector.addresses() {
            eprintln!("reflecting on {address}");
        }
        eprintln!("listening on http://{}", http.address());
        let mut registry = telemetry::registry();
        registry.register_collector(Box::new(Seen(reflector.clone())));
        let (health, stop) = (Health::default(), life.stop());
        health.part("reflector").ok();
        life.spawn("reflector", async move {
            let mut look = tokio::time::interval(LOOK);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    // Without its thread the process is of no use, and whoever started it starts it again.
                    _ = look.tick() => drop(reflector.counts()?),
                }
            }
        });
        let stop = life.stop();
        life.spawn("http", async move { Ok(http.serve(registry, health, stop).await?) });
        Ok(life.run(DRAIN).await?)
    })
}

/// What the reflector has counted, as metrics.
#[derive(Debug)]
struct Seen(Arc<Reflector>);

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // A reflector that has ended ends the process; a scrape in between has nothing to say.
        let (Ok(counts), Ok(heard)) = (self.0.counts(), self.0.heard()) else {
            return Ok(());
        };
        let fates = [
            ("reflected", counts.reflected),
            ("refused", counts.refused),
            ("malformed", counts.malformed),
            ("looped", counts.looped),
            ("unsent", counts.send_errors),
        ];
        let of = ConstCounter::new(0u64).metric_type();
        let help = "STAMP test packets by what became of them";
        let mut packets = encoder.encode_descriptor("crosswatch_reflector_packets", help, None, of)?;
        for (fate, count) in fates {
            ConstCounter::new(count).encode(packets.encode_family(&[("fate", fate)])?)?;
        }
        let name = "crosswatch_reflector_session_packets";
        let mut packets = encoder.encode_descriptor(name, "Packets of a sender that came here", None, of)?;
        for session in &heard {
            ConstCounter::new(session.packets).encode(packets.encode_family(&Session(session))?)?;
        }
        let of = ConstGauge::new(0i64).metric_type();
        let name = "crosswatch_reflector_session_missing";
        let help = "Numbers of a sender between the first and the newest that did not come here";
        let mut missing = encoder.encode_descriptor(name, help, None, of)?;
        for session in &heard {
            let count = i64::try_from(session.missing).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(missing.encode_family(&Session(session))?)?;
        }
        let name = "crosswatch_reflector_session_last_heard_seconds";
        let help = "When a sender's newest packet came here, in seconds since 1970: while it moves, the way to here works";
        let mut last = encoder.encode_descriptor(name, help, None, of)?;
        for session in &heard {
            let secs = session.last.as_micros() as f64 / 1e6;
            ConstGauge::new(secs).encode(last.encode_family(&Session(session))?)?;
        }
        Ok(())
    }
}

/// A session's labels.
#[derive(Debug)]
struct Session<'a>(&'a Heard);

impl prometheus_client::encoding::EncodeLabelSet for Session<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Heard { from, to, ssid, .. } = self.0;
        [("from", from.to_string()), ("to", to.to_string()), ("ssid", ssid.to_string())].encode(encoder)
    }
}
