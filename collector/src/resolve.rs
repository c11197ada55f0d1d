//! Names of targets, resolved again as their TTL asks.
//!
//! By the system's configuration: its name servers and search domains from `/etc/resolv.conf`, and `/etc/hosts`, which is
//! read anew for each lookup. A lookup that fails leaves the last address in use.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::task::JoinSet;

/// The shortest time between two lookups of a name, whatever its TTL.
const SHORTEST: Duration = Duration::from_secs(1);

/// The longest.
const LONGEST: Duration = Duration::from_secs(300);

/// When a name is looked up again that could not be resolved.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// The names in use.
pub(crate) struct Names {
    names: Vec<Name>,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    running: JoinSet<Found>,
    resolver: Option<TokioResolver>,
}

struct Name {
    host: String,
    probes: Vec<usize>,
    address: Option<IpAddr>,
}

struct Found {
    name: usize,
    answer: Result<(Vec<IpAddr>, Duration), String>,
    took: Duration,
}

/// A lookup's end.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// The probes that go elsewhere now, and to where.
    pub(crate) moved: Option<(Vec<usize>, IpAddr)>,
    /// What failed; names the name.
    pub(crate) error: Option<String>,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Names {
    /// For the targets that are names; none needs no resolver.
    pub(crate) fn new<'a>(
        targets: impl IntoIterator<Item = (usize, &'a str)>,
        now: Instant,
        resolver: impl FnOnce() -> Result<TokioResolver, NetError>,
    ) -> Result<Self, NetError> {
        let mut names: Vec<Name> = Vec::new();
        for (probe, host) in targets {
            match names.iter_mut().find(|name| name.host == host) {
                Some(name) => name.probes.push(probe),
                None => names.push(Name { host: host.to_owned(), probes: vec![probe], address: None }),
            }
        }
        Ok(Self {
            due: (0..names.len()).map(|name| Reverse((now, name))).collect(),
            running: JoinSet::new(),
            resolver: if names.is_empty() { None } else { Some(resolver()?) },
            names,
        })
    }

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Waits for the next lookup to end, and begins those that are due; for ever when there are no names.
    pub(crate) async fn next(&mut self) -> Lookup {
        loop {
            #[allow(clippy::disallowed_methods, reason = "lookups follow the steady clock")]
            let now = Instant::now();
            while let Some(&Reverse((at, name))) = self.due.peek()
                && at <= now
            {
                self.due.pop();
                self.begin(name);
            }
            let due = self.due.peek().map(|Reverse((at, _))| *at);
            tokio::select! {
                Some(found) = self.running.join_next() => match found {
                    Ok(found) => return self.end(found),
                    // Only a defect or the runtime's end; the name keeps its address.
                    Err(error) => tracing::error!(%error, "a lookup ended by a defect"),
                },
                () = until(due) => {}
            }
        }
    }

    fn begin(&mut self, name: usize) {
        let (Some(of), Some(resolver)) = (self.names.get(name), &self.resolver) else {
            return;
        };
        let (host, mut resolver) = (of.host.clone(), resolver.clone());
        self.running.spawn(async move {
            #[allow(clippy::disallowed_methods, reason = "how long a lookup takes")]
            let begun = Instant::now();
            if let Ok(hosts) = Hosts::from_system() {
                resolver.set_hosts(Arc::new(hosts));
            }
            let answer = match resolver.lookup_ip(host).await {
                Ok(found) => {
                    Ok((found.iter().collect(), found.valid_until().saturating_duration_since(begun)))
                }
                Err(error) => Err(error.to_string()),
            };
            let took = begun.elapsed();
            Found { name, answer, took }
        });
    }

    fn end(&mut self, found: Found) -> Lookup {
        let Found { name: place, answer, took } = found;
        let mut lookup = Lookup { moved: None, error: None, took };
        let Some(name) = self.names.get_mut(place) else {
            return lookup;
        };
        let wait = match answer {
            Ok((addresses, ttl)) => match choose(name.address, &addresses) {
                Some(address) => {
                    if name.address != Some(address) {
                        name.address = Some(address);
                        lookup.moved = Some((name.probes.clone(), address));
                    }
                    ttl.clamp(SHORTEST, LONGEST)
                }
                None => {
                    lookup.error = Some(format!("{}: has no address", name.host));
                    AFTER_FAILURE
                }
            },
            Err(error) => {
                lookup.error = Some(format!("{}: {error}", name.host));
                AFTER_FAILURE
            }
        };
        #[allow(clippy::disallowed_methods, reason = "lookups follow the steady clock")]
        let next = Instant::now() + wait;
        self.due.push(Reverse((next, place)));
        lookup
    }
}

/// The system's resolver; IPv4 first, since it asks for IPv6 only where a name has no IPv4 address. It keeps no answers:
/// a name is asked for only when its answer is no longer good.
pub(crate) fn system() -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.cache_size = 0;
    builder.build()
}

/// The address in use while it is among the answers, else the first.
fn choose(present: Option<IpAddr>, answers: &[IpAddr]) -> Option<IpAddr> {
    present.filter(|present| answers.contains(present)).or_else(|| answers.first().copied())
}

/// Until then; for ever without a time.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use std::net::SocketAddr;
    use tokio::net::UdpSocket;
    use tokio::sync::mpsc;

    /// A name server that answers each question with what it is given next: an address and a TTL, or SERVFAIL.
    async fn server() -> (SocketAddr, mpsc::UnboundedSender<Option<([u8; 4], u32)>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (answers, mut next) = mpsc::unbounded_channel::<Option<([u8; 4], u32)>>();
        tokio::spawn(async move {
            let mut present = None;
            loop {
                let mut question = [0; 512];
                let Ok((length, from)) = socket.recv_from(&mut question).await else {
                    return;
                };
                if let Ok(answer) = next.try_recv() {
                    present = answer;
                }
                // The question ends with the root label, the type and the class.
                let end = 12 + question[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
                let mut reply = question[..end].to_vec();
                reply[2] = 0x81;
                reply[3] = 0x80;
                reply[6..12].fill(0);
                match present {
                    Some((address, ttl)) if question[end - 3] == 1 => {
                        reply[7] = 1;
                        reply.extend([0xc0, 12, 0, 1, 0, 1]);
                        reply.extend(ttl.to_be_bytes());
                        reply.extend([0, 4]);
                        reply.extend(address);
                    }
                    Some(_) => {}
                    None => reply[3] = 0x82,
                }
                socket.send_to(&reply, from).await.unwrap();
            }
        });
        (address, answers)
    }

    fn resolver(server: SocketAddr) -> Result<TokioResolver, NetError> {
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, vec![], vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        builder.build()
    }

    #[tokio::test]
    async fn a_name_follows_its_ttl_and_keeps_its_address_through_a_failure() {
        let (server, answers) = server().await;
        let targets = [(0, "target.test."), (3, "target.test.")];
        answers.send(Some(([10, 0, 0, 1], 0))).unwrap();
        let mut names = Names::new(targets, Instant::now(), || resolver(server)).unwrap();
        let first = names.next().await;
        assert_eq!(first.moved, Some((vec![0, 3], [10, 0, 0, 1].into())), "{first:?}");
        answers.send(None).unwrap();
        let failed = names.next().await;
        assert_eq!(failed.moved, None);
        assert!(failed.error.unwrap().starts_with("target.test.: "));
        answers.send(Some(([10, 0, 0, 2], 60))).unwrap();
        let moved = names.next().await;
        assert_eq!(moved.moved, Some((vec![0, 3], [10, 0, 0, 2].into())));
    }

    #[tokio::test]
    async fn localhost_needs_no_name_server() {
        let mut names = Names::new([(0, "localhost")], Instant::now(), system).unwrap();
        let (_, address) = names.next().await.moved.unwrap();
        assert!(address.is_loopback());
    }

    #[test]
    fn an_address_that_still_holds_is_kept() {
        let [a, b] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        assert_eq!(choose(Some(b), &[a, b]), Some(b));
        assert_eq!(choose(Some(b), &[a]), Some(a));
        assert_eq!(choose(None, &[a, b]), Some(a));
        assert_eq!(choose(Some(a), &[]), None);
    }
}
