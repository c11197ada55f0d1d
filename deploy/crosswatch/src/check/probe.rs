//! `check --probe`: measures each probe for ten seconds with the real prober, and compares the round-trip times with the
//! thresholds of the latency rules.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use crosswatch_prober::{Engine, Probe, Protocol};
use crosswatch_shared::config::topology::{Host, Target};
use crosswatch_shared::observation::{Lost, Outcome};

use crate::config::{Config, news_thresholds};

/// How long probes are sent.
const FOR: Duration = Duration::from_secs(10);

/// How often the outcomes are taken.
const LOOK: Duration = Duration::from_millis(100);

/// From which part of a threshold on a round-trip time is near it.
const NEAR: f64 = 0.8;

/// What was seen of a probe.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    rtts_ms: Vec<f64>,
    lost: u64,
    /// Not sent: this machine is to blame.
    local: u64,
}

/// Measures, and prints a line a probe, then what is wrong with them.
pub(crate) fn run(config: &Config, site: Option<&str>) -> anyhow::Result<()> {
    let probes: Vec<_> =
        config.topology.probes().filter(|(_, probe)| site.is_none_or(|site| *probe.from == *site)).collect();
    let mut out = io::stdout().lock();
    let specs: Vec<Probe> = probes
        .iter()
        .map(|(_, probe)| {
            let (host, protocol) = match &probe.target {
                Target::Icmp(host) => (host, Protocol::Icmp),
                Target::Tcp(host, port) => (host, Protocol::Tcp(*port)),
                Target::Udp(host, port) => (host, Protocol::Udp(*port)),
            };
            Probe {
                protocol,
                address: address(host),
                every: probe.every,
                timeout: probe.timeout,
                burst: probe.burst,
                size: probe.size,
                beside: None,
            }
        })
        .collect();
    let seen = measure(specs, FOR)?;
    let thresholds = news_thresholds(config);
    let mut warnings = Vec::new();
    for ((link, probe), mut seen) in probes.into_iter().zip(seen) {
        let subject = format!("{}/{}/{}", link.name, probe.from, probe.name);
        let threshold = thresholds.get(&(link.name.clone(), probe.from.clone(), probe.name.clone())).copied();
        seen.rtts_ms.sort_by(f64::total_cmp);
        writeln!(out, "{}", line(&subject, &seen, threshold))?;
        warnings.extend(judge(&subject, &seen, threshold));
    }
    for warning in warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

/// Sends for so long, and waits for what is under way then.
fn measure(probes: Vec<Probe>, span: Duration) -> anyhow::Result<Vec<Seen>> {
    let mut seen = vec![Seen::default(); probes.len()];
    if probes.is_empty() {
        return Ok(seen);
    }
    let timeouts: HashMap<usize, Duration> =
        probes.iter().enumerate().map(|(place, probe)| (place, probe.timeout)).collect();
    let longest = timeouts.values().max().copied().unwrap_or_default();
    let engine = Engine::spawn(probes, |_, _| true, || {})?;
    let begun = Instant::now();
    let first = engine.take()?.now;
    while begun.elapsed() < span + longest + 2 * LOOK {
        std::thread::sleep(LOOK);
        for released in engine.take()?.outcomes {
            // What was sent later might not be decided before the end.
            if released.at.since(first) >= span {
                continue;
            }
            if let Some(seen) = seen.get_mut(released.probe) {
                match released.outcome {
                    Outcome::Reply { rtt_ms } => seen.rtts_ms.push(rtt_ms),
                    Outcome::Lost(Lost::Local) => seen.local += 1,
                    Outcome::Lost(_) => seen.lost += 1,
                }
            }
        }
    }
    Ok(seen)
}

/// An address to send to; none where a name cannot be resolved: then nothing can be sent, and that is told.
fn address(host: &Host) -> Option<IpAddr> {
    match host {
        Host::Address(address) => Some(*address),
        Host::Name(name) => (name.as_str(), 0).to_socket_addrs().ok()?.map(|found| found.ip()).next(),
    }
}

fn line(subject: &str, seen: &Seen, threshold: Option<f64>) -> String {
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.3} ms"));
    let sent = seen.rtts_ms.len() as u64 + seen.lost;
    format!(
        "{subject}: sent {sent}, lost {}, median {}, p99 {}, threshold {}",
        seen.lost,
        ms(percentile(&seen.rtts_ms, 50)),
        ms(percentile(&seen.rtts_ms, 99)),
        threshold.map_or("none".to_owned(), |ms| format!("{ms} ms")),
    )
}

/// What is wrong with it.
fn judge(subject: &str, seen: &Seen, threshold: Option<f64>) -> Vec<String> {
    let mut warnings = Vec::new();
    if seen.local > 0 {
        warnings.push(format!(
            "{subject}: {} could not be sent by this machine; see that the target's name resolves, and its limits",
            seen.local
        ));
    }
    if seen.lost > 0 {
        let sent = seen.rtts_ms.len() as u64 + seen.lost;
        warnings.push(format!(
            "{subject}: {} of {sent} were lost; see route, security groups and whether the target answers",
            seen.lost
        ));
    }
    let Some(threshold) = threshold else { return warnings };
    for (what, percent) in [("median", 50), ("p99", 99)] {
        if let Some(ms) = percentile(&seen.rtts_ms, percent)
            && ms >= NEAR * threshold
        {
            let how = if ms > threshold { "over" } else { "near" };
            warnings.push(format!(
                "{subject}: its {what} of {ms:.3} ms is {how} the threshold of {threshold} ms: raise that, or it fires \
                 without an outage"
            ));
            break;
        }
    }
    warnings
}

/// By nearest rank, of sorted values.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(rtts_ms: &[f64], lost: u64) -> Seen {
        Seen { rtts_ms: rtts_ms.to_vec(), lost, local: 0 }
    }

    #[test]
    fn a_line_tells_what_was_seen() {
        let of = seen(&[1.0, 2.0, 3.0, 40.0], 1);
        assert_eq!(
            line("l/s/p", &of, Some(200.0)),
            "l/s/p: sent 5, lost 1, median 2.000 ms, p99 40.000 ms, threshold 200 ms"
        );
        assert_eq!(line("p", &seen(&[], 0), None), "p: sent 0, lost 0, median -, p99 -, threshold none");
    }

    #[test]
    fn what_is_near_over_or_lost_is_warned_of() {
        let warned = |rtts: &[f64], lost| judge("p", &seen(rtts, lost), Some(100.0)).join("\n");
        assert_eq!(warned(&[79.0; 10], 0), "");
        assert!(
            warned(&[80.0; 10], 0).starts_with("p: its median of 80.000 ms is near the threshold of 100 ms")
        );
        assert!(warned(&[101.0; 10], 0).contains("median of 101.000 ms is over"));
        assert!(warned(&[1.0, 1.0, 100.0], 0).contains("p99 of 100.000 ms is near"));
        assert!(warned(&[1.0], 2).starts_with("p: 2 of 3 were lost"));
        assert!(judge("p", &seen(&[500.0], 0), None).is_empty(), "no rule, no threshold");
    }

    #[test]
    fn loopback_is_measured_by_the_real_prober() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let probe = |port| Probe {
            protocol: Protocol::Tcp(port),
            address: Some([127, 0, 0, 1].into()),
            every: Duration::from_millis(50),
            timeout: Duration::from_millis(500),
            burst: 1,
            size: None,
            beside: None,
        };
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let seen = measure(vec![probe(port), probe(closed)], Duration::from_secs(1)).unwrap();
        assert!(!seen[0].rtts_ms.is_empty() && seen[0].lost == 0, "{seen:?}");
        assert!(seen[1].rtts_ms.is_empty() && seen[1].lost > 0, "{seen:?}");
    }
}
