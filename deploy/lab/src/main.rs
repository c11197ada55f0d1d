//! `lab`: two regions, a WAN and a centre on this machine, to try Crosswatch on.

mod tour;

use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use crosswatch_lab::{Cloud, Error, Fault, Lab, Options, SERVICES, Site, Status, Tunnel, follow, wan};

/// Two regions, a WAN between them and a centre with a local AWS, on this machine
///
/// Everything runs in network namespaces of its own: nothing outside is reached or changed. The regions are joined by two
/// real IPsec tunnels, unless 'up --plain' does without. Needs root, iproute2, nftables, and strongSwan for the tunnels.
#[derive(Debug, Parser)]
#[command(name = "lab", version, verbatim_doc_comment)]
struct Cli {
    /// Where config, logs and data are; two folders are two labs.
    #[arg(long, global = true, value_name = "FOLDER", default_value = "lab")]
    folder: PathBuf,
    #[command(subcommand)]
    job: Job,
}

#[derive(Debug, Subcommand)]
enum Job {
    /// Make a lab, and return when all of it is up.
    Up(Up),
    /// Walk through an outage in two minutes: up, cut, page, verdict, heal, all-clear; then take the lab down
    ///
    /// Without a local AWS or strongSwan on this machine it shows what it can without them.
    #[command(verbatim_doc_comment)]
    Tour(Tour),
    /// Show processes, faults and the WAN, and what 'crosswatch status' says; exit status 1 if a process does not answer.
    Status,
    /// Break something; several faults may be on at once.
    Fault {
        #[command(subcommand)]
        fault: FaultArgs,
    },
    /// End all faults.
    Heal,
    /// End all processes and remove the namespaces; config, logs and data stay.
    Down,
    /// Let the gate's telemetry follow the tunnels: started by 'up'.
    #[command(hide = true)]
    Telemetry,
    /// Forward packets between two regions: started by 'up'.
    #[command(hide = true)]
    Wan(WanArgs),
}

#[derive(Debug, Args)]
struct Up {
    /// The program 'crosswatch' [default: beside 'lab', else in PATH].
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// The program 'crosswatch-gate' [default: beside 'lab', else in PATH].
    #[arg(long, value_name = "FILE")]
    gate: Option<PathBuf>,
    /// The program 'ministack', the local AWS.
    #[arg(long, value_name = "FILE", env = "MINISTACK", default_value = "ministack")]
    ministack: PathBuf,
    /// Which AWS the stages have.
    #[arg(long, value_enum, default_value_t = Aws::Gate)]
    aws: Aws,
    /// Let the regions reach each other over the WAN as it is: no IPsec tunnels, which need strongSwan, and no reflectors.
    #[arg(long)]
    plain: bool,
    /// The WAN's delay each way, in milliseconds; a round trip takes twice as long.
    #[arg(long, value_name = "MS", default_value_t = 40)]
    delay_ms: u64,
    /// How often each probe is sent, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    every_ms: u64,
}

#[derive(Debug, Args)]
struct Tour {
    /// Let the lab stay up afterwards.
    #[arg(long)]
    keep: bool,
    /// The program 'ministack', the local AWS [default: in PATH, else as tests/run installed it; without it there is none].
    #[arg(long, value_name = "FILE", env = "MINISTACK")]
    ministack: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Aws {
    /// The local AWS behind the gate, which refuses what AWS refuses and can fail.
    Gate,
    /// The local AWS alone: no tunnels to poll, nothing is throttled.
    Emulator,
    /// None: the embedded queue and store.
    None,
}

#[derive(Debug, Subcommand)]
enum FaultArgs {
    /// What the regions send each other vanishes; tunnels stay UP.
    BlackHole,
    /// What one region sends the other vanishes; the other way goes on, and tunnels stay UP.
    OneWay {
        /// The region that sends in vain.
        #[arg(long, value_enum, default_value_t = SiteArg::UsEast1)]
        from: SiteArg,
    },
    /// TCP that a region is sent over the link vanishes; pings pass.
    Filtered {
        /// The region whose TCP does not come in.
        #[arg(long, value_enum, default_value_t = SiteArg::UsEast1)]
        to: SiteArg,
    },
    /// The host of a region refuses TCP connections that come over the link.
    Refused {
        /// The region of the host.
        #[arg(long, value_enum, default_value_t = SiteArg::UsEast1)]
        by: SiteArg,
    },
    /// Larger packets of the WAN vanish, and nobody is told; tunnels stay UP.
    Mtu {
        /// How large packets may be, with up to 77 bytes that a tunnel adds.
        #[arg(long, default_value_t = 1300)]
        bytes: u16,
    },
    /// Round trips over the WAN take longer.
    Slow {
        /// How long a round trip takes.
        #[arg(long, default_value_t = 250)]
        ms: u64,
    },
    /// Round trips over the WAN fail at random.
    #[command(visible_alias = "loss-20")]
    Loss {
        /// How many in a hundred.
        #[arg(long, default_value_t = 20)]
        percent: u8,
    },
    /// A region does not reach the centre; the link goes on.
    QueueCut(SiteArgs),
    /// A region reaches neither the centre nor the other region.
    RegionCut(SiteArgs),
    /// AWS answers requests by a throttling error.
    Throttled {
        /// Of this service only, otherwise of each.
        #[arg(long, value_parser = SERVICES)]
        service: Option<String>,
        /// One in so many requests of a service; 1 means all.
        #[arg(long, default_value_t = 2)]
        one_in: u32,
    },
    /// All packets of a tunnel vanish, and its ends find out within 12 s; in a plain lab EC2 tells so, and packets go on.
    #[command(visible_alias = "both-down")]
    TunnelDown {
        /// Which.
        #[arg(long, value_enum, default_value_t = TunnelArg::Both)]
        tunnel: TunnelArg,
    },
    /// A region's collector is killed; 'heal' starts it again.
    CollectorDead(SiteArgs),
}

#[derive(Debug, Args)]
struct SiteArgs {
    /// Which region.
    #[arg(long, value_enum, default_value_t = SiteArg::UsEast1)]
    site: SiteArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SiteArg {
    #[value(name = "us-east-1")]
    UsEast1,
    #[value(name = "eu-west-1")]
    EuWest1,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TunnelArg {
    #[value(name = "1")]
    First,
    #[value(name = "2")]
    Second,
    Both,
}

#[derive(Debug, Args)]
struct WanArgs {
    /// The regions' namespaces: given twice.
    #[arg(long = "region", num_args = 1, required = true)]
    regions: Vec<String>,
    /// The control socket to make.
    #[arg(long)]
    socket: PathBuf,
    /// The delay each way, in milliseconds.
    #[arg(long)]
    delay_ms: u64,
    /// By how many milliseconds more or less, evenly spread.
    #[arg(long, default_value_t = 0)]
    jitter_ms: u64,
    /// Makes its choices those of another run with the same packets.
    #[arg(long)]
    seed: Option<u64>,
    /// Write down each packet that was handed over, and how long it was under way: a line of JSON each.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(Cli { folder, job }: Cli) -> Result<ExitCode> {
    match job {
        Job::Up(up) => {
            let lab = Lab::up(options(folder, up)?)?;
            let status = Status::of(&lab);
            // It stays up, whoever reads of it.
            lab.keep();
            say(&status.to_string())?;
        }
        Job::Tour(Tour { keep, ministack }) => tour::run(tour::options(folder, ministack)?, keep)?,
        Job::Status => return status(&folder),
        Job::Fault { fault } => {
            let fault = fault.into();
            let mut lab = Lab::open(&folder)?;
            lab.fault(fault)?;
            tell_faults(&lab)?;
        }
        Job::Heal => {
            let mut lab = Lab::open(&folder)?;
            lab.heal()?;
            tell_faults(&lab)?;
        }
        Job::Down => {
            Lab::down(&folder)?;
            say(&format!("down; config, logs and data stay in {}\n", folder.display()))?;
        }
        Job::Telemetry => match follow(&folder)? {},
        Job::Wan(WanArgs { regions, socket, delay_ms, jitter_ms, seed, record }) => {
            let namespaces = regions.try_into();
            let namespaces = namespaces.map_err(|_| anyhow::anyhow!("--region must be given twice"))?;
            let [delay, jitter] = [delay_ms, jitter_ms].map(Duration::from_millis);
            let policy = wan::Policy { delay, jitter, ..wan::Policy::default() };
            match wan::serve(wan::Options { namespaces, socket, policy, seed, record })? {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn options(folder: PathBuf, up: Up) -> Result<Options> {
    let this = env::current_exe().context("cannot tell where 'lab' itself is")?;
    let program = up.program.unwrap_or_else(|| beside(&this, "crosswatch"));
    let cloud = match up.aws {
        Aws::Gate => Cloud::Gate {
            gate: up.gate.unwrap_or_else(|| beside(&this, "crosswatch-gate")),
            ministack: up.ministack,
        },
        Aws::Emulator => Cloud::Emulator { ministack: up.ministack },
        Aws::None => Cloud::None,
    };
    let delay = Duration::from_millis(up.delay_ms);
    let every = Duration::from_millis(up.every_ms);
    Ok(Options { cloud, plain: up.plain, delay, every, ..Options::new(folder, program, this) })
}

/// A program that was built together with this one, or else one in PATH.
fn beside(this: &Path, name: &str) -> PathBuf {
    let beside = this.with_file_name(name);
    if beside.exists() { beside } else { name.into() }
}

fn status(folder: &Path) -> Result<ExitCode> {
    let lab = match Lab::open(folder) {
        Err(error @ Error::Down { .. }) => {
            say(&format!("{error}\n"))?;
            return Ok(ExitCode::FAILURE);
        }
        lab => lab?,
    };
    let status = Status::of(&lab);
    say(&format!("{status}\n"))?;
    // What it prints goes where our output goes.
    let told = Command::new(lab.program()).arg("status").arg("--config").arg(lab.config_path()).status();
    if let Err(error) = told {
        say(&format!("{} status: {error}\n", lab.program().display()))?;
    }
    Ok(if status.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell_faults(lab: &Lab) -> Result<()> {
    if lab.faults().is_empty() {
        return say("no fault\n");
    }
    let lines: String = lab.faults().iter().map(|fault| format!("fault {}\n", fault.describe())).collect();
    say(&lines)
}

/// Prints; a reader that has seen enough, as `head` does, is no error.
fn say(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot print"),
    }
}

impl From<FaultArgs> for Fault {
    fn from(fault: FaultArgs) -> Self {
        match fault {
            FaultArgs::BlackHole => Self::BlackHole,
            FaultArgs::OneWay { from } => Self::OneWay { from: from.into() },
            FaultArgs::Filtered { to } => Self::Filtered { to: to.into() },
            FaultArgs::Refused { by } => Self::Refused { by: by.into() },
            FaultArgs::Mtu { bytes } => Self::Mtu { largest: bytes },
            FaultArgs::Slow { ms } => Self::Slow { rtt: Duration::from_millis(ms) },
            FaultArgs::Loss { percent } => Self::Loss { percent },
            FaultArgs::QueueCut(of) => Self::QueueCut { site: of.site.into() },
            FaultArgs::RegionCut(of) => Self::RegionCut { site: of.site.into() },
            FaultArgs::Throttled { service, one_in } => Self::Throttled { service, one_in },
            FaultArgs::TunnelDown { tunnel } => Self::TunnelDown { tunnel: tunnel.into() },
            FaultArgs::CollectorDead(of) => Self::CollectorDead { site: of.site.into() },
        }
    }
}

impl From<SiteArg> for Site {
    fn from(site: SiteArg) -> Self {
        match site {
            SiteArg::UsEast1 => Self::UsEast1,
            SiteArg::EuWest1 => Self::EuWest1,
        }
    }
}

impl From<TunnelArg> for Tunnel {
    fn from(tunnel: TunnelArg) -> Self {
        match tunnel {
            TunnelArg::First => Self::First,
            TunnelArg::Second => Self::Second,
            TunnelArg::Both => Self::Both,
        }
    }
}
