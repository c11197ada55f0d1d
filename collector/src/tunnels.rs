//! Which VPN connections are asked for when, and what the answers say. Pure.
//!
//! A configured VPN connection is a watch; those of one region and account are asked for together, so that one call
//! answers for many. What an answer says of one connection never depends on what it says of another: each gives its tunnels,
//! or a fault that names it.
//!
//! Faults are a state: a watch's stay until its next answer, so that each `collection` observation tells of all of the site's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crosswatch_aws::{Failure, Kind};
use crosswatch_ec2::{Select, Telemetry, VpnConnection};
use crosswatch_shared::config::topology::{Topology, VpnSelect};
use crosswatch_shared::observation::{Name, Tunnel};

/// However often the probes of a link begin to fail, its VPN connections are asked for no oftener.
pub const HASTY: Duration = Duration::from_secs(10);

/// How long a connection that was found by its tag and is found no more is told of. One that was replaced on purpose
/// must not be a fault for ever.
pub const MISSED: Duration = Duration::from_secs(3600);

/// So many faults are told in one observation.
const FAULTS: usize = 10;

/// The watches of a site, by account.
#[derive(Debug)]
pub struct Plan {
    accounts: Vec<Account>,
}

/// Where calls go: one client each.
#[derive(Debug)]
struct Account {
    region: Option<String>,
    role: Option<String>,
    watches: Vec<Watch>,
    running: bool,
    /// EC2 has asked for fewer calls.
    not_before: Option<Instant>,
}

/// A VPN connection of the config, or all with a tag.
#[derive(Debug)]
struct Watch {
    link: Name,
    select: VpnSelect,
    every: Duration,
    due: Instant,
    asked: Option<Instant>,
    /// What was found by the tag, and since when it is not found any more.
    found: BTreeMap<String, Option<Instant>>,
    faults: Vec<String>,
}

/// What is to be asked of one account now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// The account's place.
    pub account: usize,
    /// A call each.
    pub calls: Vec<Call>,
}

/// One call, and the watches that it answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is asked for.
    pub select: Select,
    /// The watches' places in their account, one for each value of `select`, in its order.
    pub watches: Vec<usize>,
    /// What is known to have the tag: to be asked for one by one should the answer be unreadable.
    pub known: Vec<String>,
}

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The watches' places in their account.
    pub watches: Vec<usize>,
    /// The connections that could be read.
    pub connections: Vec<VpnConnection>,
    /// Why these are not all, if they are not: then absence proves nothing.
    pub failed: Option<Failure>,
}

/// A VPN connection's tunnels, as they are observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The link it belongs to.
    pub link: Name,
    /// Its id.
    pub vpn: Name,
    /// Its tunnels.
    pub tunnels: Vec<Tunnel>,
}

impl Plan {
    /// For what this site's collector is to poll. All of it is due at once.
    #[must_use]
    pub fn new(topology: &Topology, site: &str, now: Instant) -> Self {
        let mut accounts: Vec<Account> = Vec::new();
        for (link, vpn) in topology.vpns().filter(|(_, vpn)| *vpn.site == *site) {
            let (region, role) = topology.account(vpn);
            let watch = Watch {
                link: link.name.clone(),
                select: vpn.select.clone(),
                every: vpn.every,
                due: now,
                asked: None,
                found: BTreeMap::new(),
                faults: Vec::new(),
            };
            let same = |of: &&mut Account| of.region.as_deref() == region && of.role.as_deref() == role;
            match accounts.iter_mut().find(same) {
                Some(account) => account.watches.push(watch),
                None => accounts.push(Account {
                    region: region.map(str::to_owned),
                    role: role.map(str::to_owned),
                    watches: vec![watch],
                    running: false,
                    not_before: None,
                }),
            }
        }
        Self { accounts }
    }

    /// Region and role of each account, in the order of their places.
    pub fn accounts(&self) -> impl Iterator<Item = (Option<&str>, Option<&str>)> {
        self.accounts.iter().map(|account| (account.region.as_deref(), account.role.as_deref()))
    }

    /// How often the account is asked at the most, in the regular course.
    #[must_use]
    pub fn every(&self, account: usize) -> Duration {
        let watches = self.accounts.get(account).map_or(&[][..], |account| &account.watches);
        watches.iter().map(|watch| watch.every).min().unwrap_or(HASTY)
    }

    /// When something is to be asked next. An account that has not answered yet is not asked again.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.accounts.iter().filter(|account| !account.running).filter_map(Account::due).min()
    }

    /// What is to be asked now.
    pub fn begin(&mut self, now: Instant) -> Vec<Asking> {
        let due = |account: &Account| !account.running && account.due().is_some_and(|due| due <= now);
        let accounts = self.accounts.iter_mut().enumerate().filter(|(_, account)| due(account));
        accounts.map(|(place, account)| Asking { account: place, calls: account.begin(now) }).collect()
    }

    /// A probe of this link begins to fail: what is known of its tunnels is too old.
    pub fn hasten(&mut self, link: &Name, now: Instant) {
        let watches = self.accounts.iter_mut().flat_map(|account| &mut account.watches);
        for watch in watches.filter(|watch| watch.link == *link) {
            let soonest = watch.asked.map_or(now, |asked| now.max(asked + HASTY));
            watch.due = watch.due.min(soonest);
        }
    }

    /// An account asks for fewer calls.
    pub fn wait(&mut self, account: usize, until: Instant) {
        if let Some(account) = self.accounts.get_mut(account) {
            account.not_before = Some(until);
        }
    }

    /// What an account's answers say.
    pub fn end(&mut self, account: usize, answers: &[Answer], now: Instant) -> Vec<Seen> {
        let many = self.accounts.len() > 1;
        let Some(account) = self.accounts.get_mut(account) else {
            return Vec::new();
        };
        account.running = false;
        let place = account.place(many);
        let mut told = BTreeSet::new();
        let mut seen = Vec::new();
        for answer in answers {
            for &watch in &answer.watches {
                if let Some(watch) = account.watches.get_mut(watch) {
                    // A connection that its id and its tag find is one.
                    let of = watch.judge(answer, &place, now).into_iter();
                    seen.extend(of.filter(|seen| told.insert((seen.link.clone(), seen.vpn.clone()))));
                }
            }
        }
        seen
    }

    /// What is wrong at present, in one line.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let watches = self.accounts.iter().flat_map(|account| &account.watches);
        // A call that failed is a fault of all its watches, and told once.
        let mut known = BTreeSet::new();
        let faults: Vec<&str> = watches
            .flat_map(|watch| &watch.faults)
            .map(String::as_str)
            .filter(|fault| known.insert(*fault))
            .collect();
        let mut told = faults.iter().take(FAULTS).copied().collect::<Vec<_>>().join("; ");
        if faults.len() > FAULTS {
            told.push_str(&format!("; and {} more", faults.len() - FAULTS));
        }
        (!told.is_empty()).then_some(told)
    }
}

impl Account {
    fn due(&self) -> Option<Instant> {
        let due = self.watches.iter().map(|watch| watch.due).min()?;
        Some(self.not_before.map_or(due, |not_before| due.max(not_before)))
    }

    fn begin(&mut self, now: Instant) -> Vec<Call> {
        self.running = true;
        self.not_before = None;
        let mut ids = Call { select: Select::Ids(Vec::new()), watches: Vec::new(), known: Vec::new() };
        let mut tags: BTreeMap<&str, Call> = BTreeMap::new();
        for (place, watch) in self.watches.iter_mut().enumerate().filter(|(_, watch)| watch.due <= now) {
            watch.asked = Some(now);
            // What was missed is not made up for.
            watch.due = now + watch.every;
            let (call, value) = match &watch.select {
                VpnSelect::Id(id) => (&mut ids, id.to_string()),
                VpnSelect::Tag(key, value) => {
                    let select = || Select::Tag { key: key.clone(), values: Vec::new() };
                    let call = || Call { select: select(), watches: Vec::new(), known: Vec::new() };
                    (tags.entry(key).or_insert_with(call), value.clone())
                }
            };
            match &mut call.select {
                Select::Ids(values) | Select::Tag { values, .. } => values.push(value),
            }
            call.watches.push(place);
            call.known.extend(watch.found.keys().cloned());
        }
        let ids = (!ids.watches.is_empty()).then_some(ids);
        ids.into_iter().chain(tags.into_values()).collect()
    }

    /// Where a failure was, for a site that has several accounts.
    fn place(&self, many: bool) -> String {
        let parts: Vec<_> = [&self.region, &self.role].into_iter().flatten().map(String::as_str).collect();
        if many && !parts.is_empty() { format!(" ({})", parts.join(", ")) } else { String::new() }
    }
}

impl Watch {
    fn judge(&mut self, answer: &Answer, place: &str, now: Instant) -> Vec<Seen> {
        self.faults.clear();
        let mine = answer.connections.iter().filter(|connection| self.is(connection));
        let mine: Vec<&VpnConnection> = match &self.select {
            VpnSelect::Id(_) => mine.collect(),
            // It is listed for about an hour after its end.
            VpnSelect::Tag(..) => mine.filter(|connection| connection.state != DELETED).collect(),
        };
        let mut seen = Vec::new();
        for connection in &mine {
            let Some(id) = &connection.id else {
                self.faults.push(format!("{}: a connection has no id", self.name()));
                continue;
            };
            if let VpnSelect::Tag(..) = self.select {
                self.found.insert(id.clone(), None);
            }
            seen.extend(read(&self.link, id, connection, &mut self.faults));
        }
        match &answer.failed {
            Some(failure) if failure.code == "BadAnswer" && answer.watches.len() == 1 => {
                self.faults.push(format!("{}: {}{place}", self.name(), failure.code));
            }
            Some(failure) => self.faults.push(format!("{}{place}", failure.code)),
            None => self.miss(&mine, now),
        }
        seen
    }

    /// Tells of what should be in a whole answer and is not.
    fn miss(&mut self, mine: &[&VpnConnection], now: Instant) {
        let name = self.name();
        if mine.is_empty() {
            self.faults.push(match self.select {
                VpnSelect::Id(_) => format!("{name}: does not exist"),
                VpnSelect::Tag(..) => format!("{name}: no VPN connection has this tag"),
            });
        }
        let faults = &mut self.faults;
        self.found.retain(|id, gone| {
            if mine.iter().any(|connection| connection.id.as_ref() == Some(id)) {
                *gone = None;
                return true;
            }
            let since = *gone.get_or_insert(now);
            let told = now.saturating_duration_since(since) < MISSED;
            if told {
                faults.push(format!("{id}: is gone, which {name} had found"));
            }
            told
        });
    }

    /// The service's filters are not all that is relied upon.
    fn is(&self, connection: &VpnConnection) -> bool {
        match &self.select {
            VpnSelect::Id(id) => connection.id.as_deref() == Some(&**id),
            VpnSelect::Tag(key, value) => connection.tags.iter().any(|(k, v)| k == key && v == value),
        }
    }

    fn name(&self) -> String {
        match &self.select {
            VpnSelect::Id(id) => id.to_string(),
            VpnSelect::Tag(key, value) => format!("{key}={value}"),
        }
    }
}

const DELETED: &str = "deleted";

/// What one connection comes to: its tunnels, unless it is no more, and what is odd about it.
fn read(link: &Name, id: &str, connection: &VpnConnection, faults: &mut Vec<String>) -> Option<Seen> {
    match &*connection.state {
        DELETED => {
            faults.push(format!("{id}: is deleted"));
            return None;
        }
        "deleting" => faults.push(format!("{id}: is being deleted")),
        "available" if connection.telemetry.is_empty() => faults.push(format!("{id}: has no telemetry")),
        _ => {}
    }
    let mut tunnels = Vec::new();
    for (place, telemetry) in connection.telemetry.iter().enumerate() {
        match tunnel(place, telemetry) {
            Ok(tunnel) => tunnels.push(tunnel),
            Err(outside_ip) => faults.push(format!("{id}: the tunnel {outside_ip} is neither UP nor DOWN")),
        }
    }
    Some(Seen { link: link.clone(), vpn: id.into(), tunnels })
}

/// A tunnel, or the name of one whose status nobody knows: that is not the same as down.
fn tunnel(place: usize, telemetry: &Telemetry) -> Result<Tunnel, String> {
    // A connection just made has no addresses yet.
    let outside_ip = telemetry.outside_ip.clone().unwrap_or_else(|| format!("tunnel-{}", place + 1));
    let up = match telemetry.status.as_deref() {
        Some("UP") => true,
        Some("DOWN") => false,
        _ => return Err(outside_ip),
    };
    Ok(Tunnel {
        outside_ip,
        up,
        accepted_routes: telemetry.accepted_routes.and_then(|routes| u32::try_from(routes).ok()).unwrap_or(0),
        since: telemetry.last_change,
        message: telemetry.message.clone().unwrap_or_default(),
    })
}

/// Whether one of the answers asks for fewer calls.
#[must_use]
pub fn throttled(answers: &[Answer]) -> bool {
    let mut failures = answers.iter().filter_map(|answer| answer.failed.as_ref());
    failures.any(|failure| failure.kind == Kind::Throttled)
}

#[cfg(test)]
#[path = "tunnels_tests.rs"]
mod tests;
