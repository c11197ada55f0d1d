//! One site's collector: it owns the clock and carries what the prober found to the journal.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crosswatch_aws::Session;
use crosswatch_evidence as evidence;
use crosswatch_host::health::Part;
use crosswatch_prober::{Account, Engine, Probe, Protocol, Taken};
use crosswatch_shared::config::topology::{self, Host, Link, Target, Topology};
use crosswatch_shared::observation::{Body, Lost, Name, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use crosswatch_stamp::ntp::Stamp;
use crosswatch_stamp::packet::{ErrorEstimate, SenderPacket};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::appliances::Appliances;
use crate::boot;
use crate::captures::{Captured, Captures};
use crate::drill::Requests;
use crate::metrics::{Metrics, OfProtocol, OfSite};
use crate::news::News;
use crate::pace::Pace;
use crate::pack::Packer;
use crate::poll::{Polled, Polls};
use crate::resolve::{self, Lookup, Names, until};
use crate::rounds::{self, ROUND, Report, Rounds, Source};
use crate::spool::{Done, Journal, PRUNE, Spool};
use crate::tunnels::{Plan, Seen};

/// What is taken from the prober is taken at most so often: a thousand probes need no thousand looks.
const LOOK: Duration = Duration::from_millis(10);

/// How often it is looked for requests for drills.
const DRILLS: Duration = Duration::from_millis(900);

/// What a collector needs to know.
#[derive(Clone, Debug)]
pub struct Config<'a> {
    /// Whose probes it sends.
    pub site: Name,
    /// Its own name; `None`: the host's.
    pub collector: Option<Name>,
    /// What is to be probed from where.
    pub topology: &'a Topology,
    /// By link and probe, the round-trip time in milliseconds over which a reply is news: the lowest threshold of any
    /// rule for it.
    pub news_over: HashMap<(Name, Name), f64>,
    /// How many observations wait in memory at most while the journal takes nothing; usually [`WAITING`]. Beyond it the
    /// oldest are dropped, and the gap is recorded.
    ///
    /// [`WAITING`]: crate::pack::WAITING
    pub waiting: usize,
}

/// One site's collector, probing since it was opened.
pub struct Collector {
    site: Name,
    engine: Engine,
    ready: Arc<Notify>,
    probes: Vec<Of>,
    names: Names,
    polls: Polls,
    appliances: Appliances,
    captures: Captures,
    news: News,
    packer: Packer,
    pace: Pace,
    rounds: Rounds,
    reports: Vec<Report>,
    drills: Option<Requests>,
    /// When requests for drills are looked for next.
    drill_at: Instant,
    spool: Spool,
    /// Why the journal last took nothing.
    refused: Option<String>,
    metrics: OfSite,
    part: Part,
    epoch: u32,
    boot: Name,
    /// The prober's clock at the last look.
    now: Timestamp,
    looked: Instant,
    round_ends: Instant,
    prune_at: Instant,
}

/// What a probe's observations say of it.
struct Of {
    link: Name,
    probe: Name,
    /// Whether its last outcome that says something of the link was a loss.
    failing: bool,
    protocol: evidence::Protocol,
    /// Where it goes, once that is known.
    address: Option<IpAddr>,
}

impl Collector {
    /// Opens the sockets and begins to probe.
    ///
    /// # Errors
    /// When the site is not in the config, or this machine does not let it send or resolve.
    pub fn open(
        config: Config<'_>,
        journal: Box<dyn Journal>,
        metrics: &Metrics,
        part: Part,
    ) -> Result<Self, Error> {
        let Config { site, collector, topology, news_over, waiting } = config;
        if !topology.sites.iter().any(|of| of.name == site) {
            return Err(Error::UnknownSite { site });
        }
        let of_site: Vec<_> = topology.probes().filter(|(_, probe)| probe.from == site).collect();
        #[allow(clippy::disallowed_methods, reason = "the loop owns the clock")]
        let now = Instant::now();
        let hosts = of_site.iter().enumerate().filter_map(|(place, (_, probe))| match probe.target.host() {
            Host::Name(name) => Some((place, name.as_str())),
            Host::Address(_) => None,
        });
        let names = Names::new(hosts, now, resolve::system)
            .map_err(|error| Error::Resolver { site: site.clone(), why: error.to_string() })?;
        let mut sources = vec![Source::Journal];
        let uses = |of: fn(&Target) -> bool| of_site.iter().any(|(_, probe)| of(&probe.target));
        if uses(|target| matches!(target, Target::Icmp(_))) {
            sources.push(Source::Icmp);
        }
        if uses(|target| matches!(target, Target::Tcp(..))) {
            sources.push(Source::Tcp);
        }
        if uses(|target| matches!(target, Target::Udp(..))) {
            sources.push(Source::Udp);
        }
        if !names.is_empty() {
            sources.push(Source::Dns);
        }
        let ready = Arc::new(Notify::new());
        let wake = ready.clone();
        let small = |of: &topology::Probe| {
            of_site.iter().position(|(_, probe)| probe.size.is_none() && probe.target == of.target)
        };
        let probes = of_site.iter().map(|(_, probe)| spec(probe, small(probe))).collect();
        let news_over = |(link, probe): &(&Link, &topology::Probe)| {
            news_over.get(&(link.name.clone(), probe.name.clone())).copied()
        };
        let mut news = News::new(of_site.iter().map(news_over));
        let pressing = move |probe: usize, outcome: &Outcome| news.judge(probe, outcome);
        let engine = Engine::spawn(probes, pressing, move || wake.notify_one())
            .map_err(|source| Error::Prober { site: site.clone(), source })?;
        let former = journal
            .newest_boot()
            .map_err(|source| Error::Journal { site: site.clone(), why: source.to_string() })?;
        let collector = collector.unwrap_or_else(host_name);
        let boot = boot::begin(former.as_deref());
        let origin = Origin { site: site.clone(), collector, boot: boot.clone() };
        // Of probes the prober asks; here it is asked of tunnels.
        let news = News::new([]);
        let of = |(link, probe): &(&Link, &topology::Probe)| Of {
            link: link.name.clone(),
            probe: probe.name.clone(),
            failing: false,
            protocol: match probe.target {
                Target::Icmp(_) => evidence::Protocol::Icmp,
                Target::Tcp(_, port) => evidence::Protocol::Tcp { port },
                Target::Udp(_, port) => evidence::Protocol::Udp { port, payload: test_packet() },
            },
            address: address(&probe.target),
        };
        Ok(Self {
            engine,
            ready,
            probes: of_site.iter().map(of).collect(),
            names,
            polls: Polls::new(site.clone(), Plan::new(topology, &site, now)),
            appliances: Appliances::new(topology, &site, now),
            captures: Captures::default(),
            news,
            packer: Packer::new(origin, waiting),
            pace: Pace::new(now),
            rounds: Rounds::new(sources),
            reports: Vec::new(),
            drills: None,
            drill_at: now,
            spool: Spool::new(site.clone(), journal, now),
            refused: None,
            metrics: metrics.of(&site),
            part,
            epoch: 0,
            boot,
            now: Timestamp::MIN,
            looked: now,
            round_ends: now + ROUND,
            prune_at: now + PRUNE,
            site,
        })
    }

    /// Polls VPN connections by this session; otherwise by one of its own, which it loads when it needs one.
    #[must_use]
    pub fn with_session(mut self, session: Session) -> Self {
        self.polls.set_session(session);
        self
    }

    /// What these report is observed, too, round by round.
    #[must_use]
    pub fn observing(mut self, reports: Vec<Report>) -> Self {
        self.reports = reports;
        self
    }

    /// Drills that are asked for there are observed, too.
    #[must_use]
    pub fn drilled(mut self, requests: Requests) -> Self {
        self.drills = Some(requests);
        self
    }

    /// Runs until it is stopped; then writes what is left.
    ///
    /// # Errors
    /// When the prober or the journal has ended by a defect, or what was left could not be written.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        // EC2 or the resolver may answer before the prober has anything: what they bring is of a time, too.
        self.look()?;
        loop {
            self.part.turned();
            let next = self.next();
            let ready = async {
                self.ready.notified().await;
                until(Some(self.looked + LOOK)).await;
            };
            tokio::select! {
                () = stop.cancelled() => break,
                done = self.spool.done() => self.done(done?),
                lookup = self.names.next() => self.looked_up(lookup),
                polled = self.polls.next() => self.polled(Source::Vpn, polled),
                polled = self.appliances.next() => self.polled(Source::Strongswan, polled),
                captured = self.captures.next() => self.captured(captured),
                () = ready => {}
                () = until(next) => {}
            }
            let now = self.look()?;
            self.round(now);
            self.drill(now);
            self.write(now);
        }
        self.finish().await
    }

    /// When there is something to do even if nothing comes.
    fn next(&self) -> Option<Instant> {
        let batch = self.spool.is_free().then(|| self.pace.due().min(self.prune_at));
        let soonest = [batch, self.spool.again_at(), Some(self.round_ends)];
        soonest.into_iter().flatten().min()
    }

    /// Takes what the prober has.
    fn look(&mut self) -> Result<Instant, Error> {
        let taken = self.engine.take().map_err(|source| Error::Prober { site: self.site.clone(), source })?;
        #[allow(clippy::disallowed_methods, reason = "the loop owns the clock")]
        let now = Instant::now();
        self.looked = now;
        self.take(taken);
        Ok(now)
    }

    fn take(&mut self, taken: Taken) {
        for released in taken.outcomes {
            self.enter(released.epoch);
            let Some(of) = self.probes.get_mut(released.probe) else {
                continue;
            };
            self.metrics.outcome(&released.outcome, released.detail.as_deref());
            if released.pressing {
                self.pace.news();
            }
            match released.outcome {
                Outcome::Lost(Lost::Local) => {}
                Outcome::Reply { .. } => of.failing = false,
                Outcome::Lost(_) if of.failing => {}
                Outcome::Lost(_) => {
                    of.failing = true;
                    self.polls.hasten(&of.link, self.looked);
                    self.appliances.hasten(&of.link, self.looked);
                    if let Some(target) = of.address {
                        let protocol = of.protocol.clone();
                        let request = evidence::Request { target, protocol, within: evidence::WITHIN };
                        self.captures.lost(&of.link, &of.probe, request, self.looked);
                    }
                }
            }
            let body = Body::Probe {
                link: of.link.clone(),
                probe: of.probe.clone(),
                outcome: released.outcome,
                detail: released.detail,
            };
            self.packer.observe(released.at, body);
        }
        self.enter(taken.epoch);
        if taken.dropped > 0 {
            self.packer.lose(taken.dropped, self.now.min(taken.now), taken.now);
        }
        self.now = taken.now;
        self.packer.promise(taken.through);
        account(&mut self.rounds, Source::Icmp, &self.metrics.icmp, &taken.icmp);
        account(&mut self.rounds, Source::Tcp, &self.metrics.tcp, &taken.tcp);
        account(&mut self.rounds, Source::Udp, &self.metrics.udp, &taken.udp);
    }

    /// A step of the wall clock is a new epoch of the prober's clock, and a new boot.
    fn enter(&mut self, epoch: u32) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.boot = boot::begin(Some(&self.boot));
            tracing::warn!(site = %self.site, boot = %self.boot, "the wall clock has stepped: a new boot begins");
            self.packer.begin(self.boot.clone());
        }
    }

    fn round(&mut self, now: Instant) {
        if now < self.round_ends {
            return;
        }
        // After a stall no round is made up for.
        while self.round_ends <= now {
            self.round_ends += ROUND;
        }
        // A disk can also hang without a word.
        if let Some(busy) = self.spool.busy_for(now) {
            self.rounds.took(Source::Journal, busy);
            if busy >= ROUND {
                self.rounds.failed(Source::Journal, 1, HANGS);
                self.part.failing(HANGS);
            }
        }
        let reported = self.reports.iter().map(Report::end);
        for body in self.rounds.end().into_iter().chain(reported) {
            self.packer.observe(self.now, body);
        }
    }

    /// Looks for a request once a second, which is as often as it wakes up in any case.
    fn drill(&mut self, now: Instant) {
        if now < self.drill_at {
            return;
        }
        self.drill_at = now + DRILLS;
        if let Some(body) = self.drills.as_ref().and_then(|requests| requests.take(self.now)) {
            tracing::info!(site = %self.site, ?body, "a drill was asked for");
            self.pace.news();
            self.packer.observe(self.now, body);
        }
    }

    /// Gives the journal what is due.
    fn write(&mut self, now: Instant) {
        self.metrics
            .waiting
            .set(i64::try_from(self.packer.waiting() + self.spool.unwritten()).unwrap_or(i64::MAX));
        if self.spool.again_at().is_some_and(|at| at <= now) {
            self.spool.again();
        } else if !self.spool.is_free() {
        } else if self.pace.due() <= now || self.packer.has_more() {
            if let Some(batch) = self.packer.batch() {
                self.pace.sent(now);
                self.spool.append(batch);
            }
        } else if self.prune_at <= now {
            self.prune_at = now + PRUNE;
            self.spool.prune(self.now);
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Appended { took } => {
                self.metrics.batches.inc();
                self.metrics.append.observe(took.as_secs_f64());
                self.rounds.took(Source::Journal, took);
                self.part.ok();
                self.lost();
            }
            Done::Refused { why, took } => {
                tracing::error!(site = %self.site, error = %why, waiting = self.packer.waiting(), "the journal took nothing; it is tried again");
                self.part.failing(format!("the journal takes nothing: {why}"));
                self.refused = Some(why.to_string());
                self.rounds.took(Source::Journal, took);
                self.rounds.failed(Source::Journal, 1, &format!("append: {why}"));
            }
            Done::Pruned(Ok(pruned)) => {
                let again_in = pruned.again_in();
                for gap in pruned.gaps {
                    tracing::error!(site = %self.site, "{gap}");
                    self.packer
                        .observe(self.now, rounds::collection(Source::Journal, Some(gap), Duration::ZERO));
                }
                self.prune_at = self.looked + again_in;
            }
            Done::Pruned(Err(why)) => {
                tracing::error!(site = %self.site, error = %why, "the journal could not be pruned; it is tried again");
                self.rounds.failed(Source::Journal, 1, &format!("prune: {why}"));
            }
        }
    }

    /// Records what was lost while the journal took nothing, now that it takes something again.
    fn lost(&mut self) {
        let Some(lost) = self.packer.take_lost() else {
            return;
        };
        self.metrics.dropped.inc_by(lost.count);
        // The round that told of the refusal may be among them.
        let why = self.refused.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        let error = format!(
            "{} observations from {} to {} were lost, since the journal took nothing{why}",
            lost.count, lost.from, lost.to
        );
        tracing::error!(site = %self.site, "{error}");
        let body = rounds::collection(Source::Journal, Some(error), Duration::ZERO);
        self.packer.observe(self.now, body);
    }

    fn looked_up(&mut self, lookup: Lookup) {
        self.rounds.took(Source::Dns, lookup.took);
        if let Some(error) = lookup.error {
            tracing::warn!(site = %self.site, error, "a name could not be resolved; its last address stays in use");
            self.rounds.failed(Source::Dns, 1, &error);
        }
        if let Some((probes, address)) = lookup.moved {
            for probe in probes {
                self.engine.set_address(probe, address);
                if let Some(of) = self.probes.get_mut(probe) {
                    of.address = Some(address);
                }
            }
        }
    }

    /// Goes at once: whoever is told of the loss is to see it.
    fn captured(&mut self, captured: Captured) {
        let Captured { link, probe, evidence } = captured;
        self.pace.news();
        self.packer.observe(self.now, Body::Evidence { link, probe, evidence });
    }

    /// Observed at the time that the answer came, since a promise may have been made for the time of the question.
    fn polled(&mut self, source: Source, polled: Polled) {
        let Polled { seen, fault, took } = polled;
        for Seen { link, vpn, tunnels } in seen {
            if self.news.tunnels(&link, &vpn, &tunnels) {
                self.pace.news();
            }
            self.packer.observe(self.now, Body::Tunnels { link, vpn, tunnels });
        }
        self.metrics.polled(fault.is_none());
        self.packer.observe(self.now, rounds::collection(source, fault, took));
    }

    /// Writes what is left, each batch tried once.
    async fn finish(mut self) -> Result<(), Error> {
        self.look()?;
        if self.spool.is_busy() {
            let done = self.spool.done().await?;
            self.done(done);
        }
        let mut closed = false;
        loop {
            if self.spool.again_at().is_some() {
                self.spool.again();
            } else if !closed || self.packer.waiting() > 0 {
                closed = true;
                let Some(batch) = self.packer.batch() else {
                    return Ok(());
                };
                self.spool.append(batch);
            } else {
                return Ok(());
            }
            match self.spool.done().await? {
                Done::Refused { why, .. } => {
                    let lost = self.packer.waiting() + self.spool.unwritten();
                    self.metrics.dropped.inc_by(lost as u64);
                    return Err(Error::Unwritten { site: self.site, lost, why });
                }
                done => self.done(done),
            }
        }
    }
}

const HANGS: &str = "the journal has not answered for a whole round";

fn account(rounds: &mut Rounds, source: Source, metrics: &OfProtocol, account: &Account) {
    metrics.add(account);
    rounds.took(source, account.lag);
    rounds.failed(source, account.local, account.local_error.as_deref().unwrap_or("failed on this machine"));
    rounds.failed(source, account.dropped, "messages dropped for want of room in the receive buffer");
    rounds.failed(source, account.skipped, "not sent in time: the process or the machine stood still");
}

/// What a UDP probe sends, for the packets of evidence; its number and time are of no session.
fn test_packet() -> Vec<u8> {
    let (sent, error) = (Stamp::ntp(0), ErrorEstimate::UNKNOWN);
    SenderPacket { sequence: 0, sent, error, ssid: 0 }.bytes().to_vec()
}

/// Where a target is, where the config says so.
fn address(target: &Target) -> Option<IpAddr> {
    match target.host() {
        Host::Address(address) => Some(*address),
        Host::Name(_) => None,
    }
}

/// What the prober sends for a probe; `beside` is the place of the probe of small packets to the same target.
fn spec(probe: &topology::Probe, beside: Option<usize>) -> Probe {
    Probe {
        protocol: match probe.target {
            Target::Icmp(_) => Protocol::Icmp,
            Target::Tcp(_, port) => Protocol::Tcp(port),
            Target::Udp(_, port) => Protocol::Udp(port),
        },
        address: address(&probe.target),
        every: probe.every,
        timeout: probe.timeout,
        burst: probe.burst,
        size: probe.size,
        beside: probe.size.and(beside),
    }
}

pub(crate) fn host_name() -> Name {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    Name::from(name.unwrap_or_else(|| "unnamed".to_owned()))
}

#[cfg(test)]
mod tests;
