//! The collector's own metrics, for all sites of the process.

use crosswatch_prober::Account;
use crosswatch_shared::observation::{Detail, Lost, Name, Outcome};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

type Site = [(&'static str, Name); 1];
type SiteAnd = [(&'static str, Name); 2];
type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Every collector's, told apart by the label `site`. Registered once a process.
#[derive(Clone, Debug)]
pub struct Metrics {
    sent: Family<SiteAnd, Counter>,
    skipped: Family<SiteAnd, Counter>,
    late: Family<SiteAnd, Counter>,
    duplicate: Family<SiteAnd, Counter>,
    stray: Family<SiteAnd, Counter>,
    lag: Family<SiteAnd, Seconds>,
    outcomes: Family<SiteAnd, Counter>,
    unstamped: Family<SiteAnd, Counter>,
    overflowed: Family<SiteAnd, Counter>,
    directed: Family<SiteAnd, Counter>,
    waiting: Family<Site, Gauge>,
    dropped: Family<Site, Counter>,
    batches: Family<Site, Counter>,
    append: Family<Site, Histogram, fn() -> Histogram>,
    polls: Family<SiteAnd, Counter>,
}

/// One site's.
#[derive(Debug)]
pub(crate) struct OfSite {
    pub(crate) icmp: OfProtocol,
    pub(crate) tcp: OfProtocol,
    pub(crate) udp: OfProtocol,
    replies: Counter,
    /// There and back.
    directed: [Counter; 2],
    lost: [(Lost, Counter); 5],
    pub(crate) waiting: Gauge,
    pub(crate) dropped: Counter,
    pub(crate) batches: Counter,
    pub(crate) append: Histogram,
    polls: [Counter; 2],
}

/// One site's, of one protocol.
#[derive(Debug)]
pub(crate) struct OfProtocol {
    sent: Counter,
    skipped: Counter,
    late: Counter,
    duplicate: Counter,
    stray: Counter,
    lag: Seconds,
    unstamped: Counter,
    overflowed: Counter,
}

impl Metrics {
    /// Registers them, as `crosswatch_collector_…`.
    pub fn register(registry: &mut Registry) -> Self {
        let append: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_25, 4.0, 9));
        let metrics = Self {
            sent: Family::default(),
            skipped: Family::default(),
            late: Family::default(),
            duplicate: Family::default(),
            stray: Family::default(),
            lag: Family::default(),
            outcomes: Family::default(),
            unstamped: Family::default(),
            overflowed: Family::default(),
            directed: Family::default(),
            waiting: Family::default(),
            dropped: Family::default(),
            batches: Family::default(),
            append: Family::new_with_constructor(append),
            polls: Family::default(),
        };
        let Self {
            sent,
            skipped,
            late,
            duplicate,
            stray,
            lag,
            outcomes,
            unstamped,
            overflowed,
            directed,
            waiting,
            dropped,
            batches,
            append,
            polls,
        } = metrics.clone();
        let registry = registry.sub_registry_with_prefix("crosswatch_collector");
        registry.register("probes_sent", "Probes sent, or tried to", sent);
        registry.register("skipped_sends", "Slots that passed unused for want of time", skipped);
        registry.register("late_replies", "Replies that came after their timeout", late);
        registry.register("duplicate_replies", "Replies that came again", duplicate);
        registry.register("stray_replies", "Replies to nothing that was asked", stray);
        registry.register("send_lag_seconds", "The latest sending's lag since the last look", lag);
        registry.register("outcomes", "Outcomes of probes by kind", outcomes);
        registry.register(
            "user_stamped_replies",
            "Replies timed by this process's clock, since the kernel stamped nothing",
            unstamped,
        );
        registry.register(
            "overflowed_messages",
            "Messages dropped for want of room in a socket's buffer; silence then is local",
            overflowed,
        );
        registry.register("lost_packets", "UDP packets lost, by the way they were lost on", directed);
        registry.register("spool_observations", "Observations not in the journal yet", waiting);
        registry.register("dropped_observations", "Observations lost for want of room", dropped);
        registry.register("batches", "Batches appended to the journal", batches);
        registry.register("append_seconds", "How long the journal took for a batch", append);
        registry.register(
            "vpn_polls",
            "Polls of VPN connections by outcome: ok, or failed in any way",
            polls,
        );
        metrics
    }

    pub(crate) fn of(&self, site: &Name) -> OfSite {
        let one = [("site", site.clone())];
        let two = |key, value: &str| [("site", site.clone()), (key, Name::from(value))];
        let protocol = |protocol: &str| {
            let labels = two("protocol", protocol);
            OfProtocol {
                sent: self.sent.get_or_create_owned(&labels),
                skipped: self.skipped.get_or_create_owned(&labels),
                late: self.late.get_or_create_owned(&labels),
                duplicate: self.duplicate.get_or_create_owned(&labels),
                stray: self.stray.get_or_create_owned(&labels),
                lag: self.lag.get_or_create_owned(&labels),
                unstamped: self.unstamped.get_or_create_owned(&labels),
                overflowed: self.overflowed.get_or_create_owned(&labels),
            }
        };
        let outcome = |word: &str| self.outcomes.get_or_create_owned(&two("outcome", word));
        OfSite {
            icmp: protocol("icmp"),
            tcp: protocol("tcp"),
            udp: protocol("udp"),
            replies: outcome("reply"),
            directed: ["forward", "back"]
                .map(|way| self.directed.get_or_create_owned(&two("direction", way))),
            lost: Lost::ALL.map(|lost| (lost, outcome(lost.word()))),
            waiting: self.waiting.get_or_create_owned(&one),
            dropped: self.dropped.get_or_create_owned(&one),
            batches: self.batches.get_or_create_owned(&one),
            append: self.append.get_or_create_owned(&one),
            polls: ["failed", "ok"].map(|word| self.polls.get_or_create_owned(&two("outcome", word))),
        }
    }
}

impl OfSite {
    pub(crate) fn polled(&self, ok: bool) {
        self.polls[usize::from(ok)].inc();
    }

    pub(crate) fn outcome(&self, outcome: &Outcome, detail: Option<&Detail>) {
        for (way, counter) in
            detail.map(|detail| [detail.forward, detail.back]).iter().flatten().zip(&self.directed)
        {
            // What an overtaken reply takes back a counter cannot.
            counter.inc_by(way.and_then(|way| u64::try_from(way.lost).ok()).unwrap_or(0));
        }
        match outcome {
            Outcome::Reply { .. } => {
                self.replies.inc();
            }
            Outcome::Lost(lost) => {
                for (_, counter) in self.lost.iter().filter(|(of, _)| of == lost) {
                    counter.inc();
                }
            }
        }
    }
}

impl OfProtocol {
    pub(crate) fn add(&self, account: &Account) {
        self.sent.inc_by(account.sent);
        self.skipped.inc_by(account.skipped);
        self.late.inc_by(account.late);
        self.duplicate.inc_by(account.duplicate);
        self.stray.inc_by(account.stray);
        self.unstamped.inc_by(account.user_stamped);
        self.overflowed.inc_by(account.dropped);
        if account.sent > 0 {
            self.lag.set(account.lag.as_secs_f64());
        }
    }
}
