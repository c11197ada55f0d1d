//! The metrics: their names, and which of them are published.

/// A metric that is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// How many tunnels of a VPN connection are up; dimensions Link, Vpn.
    TunnelsUp,
    /// 1 for a tunnel that is up, 0 for one that is down; dimensions Link, Vpn, Tunnel (its outside address).
    TunnelState,
    /// 1 for a reply, 0 for a loss, so that the average is the rate; dimensions Link, Site, Probe.
    PingSuccess,
    /// Round-trip time of a reply in milliseconds; dimensions Link, Site, Probe.
    PingLatency,
    /// Mean difference of consecutive round-trip times of a period in milliseconds; dimensions Link, Site, Probe.
    Jitter,
    /// 1 for a collection round that succeeded, 0 for one that failed; dimensions Site, Source.
    CollectionSuccess,
    /// How long a collection round took in milliseconds; dimensions Site, Source.
    CollectionLatency,
    /// From a batch's `through` to its receipt by the publisher in milliseconds; dimension Site. Negative where the
    /// collector's clock is ahead.
    PipelineDelay,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 8] = [
        Self::TunnelsUp,
        Self::PingSuccess,
        Self::PingLatency,
        Self::CollectionSuccess,
        Self::CollectionLatency,
        Self::PipelineDelay,
        Self::TunnelState,
        Self::Jitter,
    ];

    /// Published unless the config says otherwise. The others follow from these or multiply them, and CloudWatch bills
    /// each metric.
    pub const DEFAULT: [Self; 6] = [
        Self::TunnelsUp,
        Self::PingSuccess,
        Self::PingLatency,
        Self::CollectionSuccess,
        Self::CollectionLatency,
        Self::PipelineDelay,
    ];

    /// Its name in the config, in the store and in CloudWatch.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TunnelsUp => "TunnelsUp",
            Self::TunnelState => "TunnelState",
            Self::PingSuccess => "PingSuccess",
            Self::PingLatency => "PingLatency",
            Self::Jitter => "Jitter",
            Self::CollectionSuccess => "CollectionSuccess",
            Self::CollectionLatency => "CollectionLatency",
            Self::PipelineDelay => "PipelineDelay",
        }
    }

    /// The metric of that name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.word() == word)
    }
}

/// Which metrics are published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricSet(u8);

impl MetricSet {
    /// Whether it is one of them.
    #[must_use]
    pub const fn has(self, metric: Metric) -> bool {
        self.0 & (1 << metric as u8) != 0
    }
}

impl FromIterator<Metric> for MetricSet {
    fn from_iter<I: IntoIterator<Item = Metric>>(metrics: I) -> Self {
        Self(metrics.into_iter().fold(0, |set, metric| set | 1 << metric as u8))
    }
}
