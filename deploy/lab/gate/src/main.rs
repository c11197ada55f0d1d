//! `crosswatch-gate`: the gate as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use crosswatch_gate::{Emulator, Gate, Options};
use tokio::signal::unix::{SignalKind, signal};

/// A strict gate before a local AWS emulator: refuses what AWS refuses, injects faults, records, keeps alarms.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; clients set AWS_ENDPOINT_URL to it.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// The Unix socket to be controlled by: HTTP/1.1 and JSON.
    #[arg(long, value_name = "PATH")]
    control: PathBuf,
    #[command(flatten)]
    emulator: Behind,
    /// Evaluate all alarms this often, in milliseconds, in place of each minute and each 10 s.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    evaluate_every: Option<u64>,
    /// Make the metric AWS/VPN TunnelState this often, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "300000", value_parser = clap::value_parser!(u64).range(1..))]
    tunnel_state_every: u64,
    /// Write down who called what: each access key's first call of each operation, a line of JSON, in a file in this folder.
    #[arg(long, value_name = "FOLDER", env = "CROSSWATCH_CALLS")]
    calls: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Behind {
    /// Start this emulator, and end it with the gate; default: what the environment calls MINISTACK.
    #[arg(long, value_name = "PROGRAM")]
    ministack: Option<PathBuf>,
    /// An emulator that runs already.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // Listened to before anything is started, so that whoever asks to stop is heard.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
    let program = arguments.emulator.ministack.or_else(|| std::env::var_os("MINISTACK").map(PathBuf::from));
    let emulator = match (arguments.emulator.upstream, program) {
        (Some(url), _) => Emulator::Url(url),
        (None, Some(program)) => Emulator::Program(program),
        (None, None) => anyhow::bail!("name an emulator: --ministack PROGRAM or --upstream URL"),
    };
    let mut options = Options::new(arguments.listen, arguments.control, emulator);
    options.evaluate_every = arguments.evaluate_every.map(Duration::from_millis);
    options.tunnel_state_every = Duration::from_millis(arguments.tunnel_state_every);
    options.calls = arguments.calls;
    let gate = tokio::select! {
        gate = Gate::start(options) => gate?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    println!("gate listening on {}", gate.url());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    drop(gate);
    Ok(())
}
