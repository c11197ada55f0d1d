//! smokeping_prober and blackbox_exporter, as Debian has them, on the targets of the bench `peers`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::wire::{Capture, far_targets};
use crate::{Rtts, Wire};

pub(crate) const SMOKEPING: &str = "prometheus-smokeping-prober";
pub(crate) const BLACKBOX: &str = "prometheus-blackbox-exporter";

/// Not measured: starting, and the first round.
const WARM_UP: Duration = Duration::from_secs(3);
/// smokeping_prober listens once all its pingers run, which takes it longer the more of the processor those need; and tells of
/// a thousand targets as slowly.
const PATIENCE: Duration = Duration::from_secs(300);

/// So many connections ask blackbox_exporter, each for its share of the targets, one after the other.
const ASKING: usize = 4;

/// What smokeping_prober tells of all its replies: it has no single ones.
pub(crate) struct Told {
    /// By target: how many, and their sum in microseconds.
    pub(crate) sums: BTreeMap<Ipv4Addr, (usize, f64)>,
    /// Over all targets: how many were up to so many microseconds.
    pub(crate) up_to: Vec<(f64, u64)>,
}

impl Told {
    /// The upper end of the bucket in which this part of all lies.
    pub(crate) fn percentile(&self, part: f64) -> f64 {
        let all = self.up_to.last().map_or(0, |(_, count)| *count) as f64;
        self.up_to.iter().find(|(_, count)| *count as f64 >= all * part).map_or(f64::NAN, |(bound, _)| *bound)
    }

    fn parse(text: &str) -> Self {
        let (mut sums, mut buckets) =
            (BTreeMap::<Ipv4Addr, (usize, f64)>::new(), BTreeMap::<u64, u64>::new());
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("smokeping_response_duration_seconds_") else { continue };
            let label = |name: &str| Some(rest.split_once(&format!("{name}=\""))?.1.split_once('"')?.0);
            let value: f64 = rest.rsplit_once(' ').unwrap().1.parse().unwrap();
            let of = sums.entry(label("host").unwrap().parse().unwrap()).or_default();
            if rest.starts_with("sum") {
                of.1 = value * 1e6;
            } else if rest.starts_with("count") {
                of.0 = value as usize;
            } else if let Some(bound) = label("le").and_then(|bound| bound.parse::<f64>().ok()) {
                // To the nanosecond, so that the same bound is the same key; infinity is the largest.
                *buckets.entry((bound * 1e9).round() as u64).or_default() += value as u64;
            }
        }
        let micros = |bound: u64| if bound == u64::MAX { f64::INFINITY } else { bound as f64 / 1e3 };
        let up_to = buckets.into_iter().map(|(bound, count)| (micros(bound), count)).collect();
        Self { sums, up_to }
    }
}

/// The processor's time over so many probes.
pub(crate) type Cost = (Duration, usize);

/// Its buckets are 5 µs wide up to 200 µs, 50 µs up to 1 ms, then half as much again each: more of them, and it has no time
/// left to tell of them.
pub(crate) fn smokeping(targets: u32, seconds: u64) -> (Cost, Told, Wire) {
    let (capture, mut wire) = (Capture::new(), Wire::default());
    let fine = (1..=40).map(|n| f64::from(n) * 5.0).chain((5..=20).map(|n| f64::from(n) * 50.0));
    let coarse = std::iter::successors(Some(1_500.0), |bound| Some(bound * 1.5)).take(16);
    let buckets: Vec<String> = fine.chain(coarse).map(|micros| format!("{:.9}", micros / 1e6)).collect();
    let hosts: Vec<String> = far_targets(targets).map(|target| target.to_string()).collect();
    let config = format!(
        "targets: [{{ hosts: [{}], interval: 1s, network: ip4, protocol: icmp }}]\n",
        hosts.join(", ")
    );
    let exporter = Exporter::start(
        SMOKEPING,
        9374,
        &config,
        &["--privileged", &format!("--buckets={}", buckets.join(","))],
    );
    let cost = exporter.measure(Duration::from_secs(seconds), &capture, &mut wire);
    // Whatever is on its way then comes a moment later, and is beyond what each count takes in.
    let told = Told::parse(&exporter.connect().ask("/metrics"));
    wire.read(&capture);
    (cost, told, wire)
}

pub(crate) fn blackbox(targets: u32, seconds: u64) -> (Cost, Rtts, Wire) {
    let (capture, mut wire) = (Capture::new(), Wire::default());
    let config = "modules: { icmp: { prober: icmp, timeout: 1s, icmp: { preferred_ip_protocol: ip4 } } }\n";
    let exporter = Exporter::start(BLACKBOX, 9115, config, &[]);
    let targets: Vec<Ipv4Addr> = far_targets(targets).collect();
    let begun = Instant::now();
    let end = begun + WARM_UP + Duration::from_secs(seconds) + Duration::from_secs(1);
    let (cost, rtts) = thread::scope(|scope| {
        let asking: Vec<_> = (0..ASKING)
            .map(|part| {
                let (targets, mut connection) = (&targets, exporter.connect());
                scope.spawn(move || scrape(&mut connection, targets, part, begun, end))
            })
            .collect();
        let cost = exporter.measure(Duration::from_secs(seconds), &capture, &mut wire);
        (cost, asking.into_iter().flat_map(|thread| thread.join().unwrap()).collect())
    });
    wire.read(&capture);
    (cost, rtts, wire)
}

/// Asks for every so many of the targets once a second, at even distances, as Prometheus does.
fn scrape(
    connection: &mut Connection,
    targets: &[Ipv4Addr],
    part: usize,
    begun: Instant,
    end: Instant,
) -> Rtts {
    let mut rtts = Rtts::new();
    for round in 0.. {
        for place in (part..targets.len()).step_by(ASKING) {
            let at = begun + Duration::from_secs_f64(f64::from(round) + place as f64 / targets.len() as f64);
            if at >= end {
                return rtts;
            }
            thread::sleep(at.saturating_duration_since(Instant::now()));
            let page = connection.ask(&format!("/probe?module=icmp&target={}", targets[place]));
            let value = |name: &str| {
                let line = page.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim().parse::<f64>().ok()
            };
            let rtt = value("probe_icmp_duration_seconds{phase=\"rtt\"}").map(|seconds| seconds * 1e6);
            let rtt = rtt.filter(|_| value("probe_success ") == Some(1.0));
            rtts.entry(targets[place]).or_default().push(rtt);
        }
    }
    rtts
}

/// One of them, running; gone with this.
struct Exporter {
    child: Child,
    port: u16,
    config: PathBuf,
}

impl Exporter {
    fn start(program: &str, port: u16, config: &str, options: &[&str]) -> Self {
        let file = std::env::temp_dir().join(format!("crosswatch-{program}-{}.yml", std::process::id()));
        fs::write(&file, config).unwrap();
        let child = Command::new(program)
            .args([
                format!("--config.file={}", file.display()),
                format!("--web.listen-address=127.0.0.1:{port}"),
            ])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let exporter = Self { child, port, config: file };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "{program} does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        println!("{program} took {:.1?} to start", begun.elapsed());
        exporter
    }

    /// Reads the capture for a while; what its threads took in the second part of it, over how many requests.
    fn measure(&self, span: Duration, capture: &Capture, wire: &mut Wire) -> Cost {
        let mut read_for = |span: Duration| {
            let begun = Instant::now();
            while begun.elapsed() < span {
                thread::sleep(Duration::from_millis(50));
                wire.read(capture);
            }
            (self.processor(), wire.by_target.values().map(Vec::len).sum::<usize>())
        };
        let (before, after) = (read_for(WARM_UP), read_for(span));
        (after.0 - before.0, after.1 - before.1)
    }

    fn processor(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let used = |thread: std::io::Result<fs::DirEntry>| {
            let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(threads.filter_map(used).sum())
    }

    fn connect(&self) -> Connection {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Connection(stream)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
    }
}

/// Of HTTP/1.1, kept open as Prometheus does.
struct Connection(TcpStream);

impl Connection {
    fn ask(&mut self, path: &str) -> String {
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let (mut page, mut room) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            let read = self.0.read(&mut room).unwrap();
            assert!(read > 0, "{path}: cut short");
            page.extend_from_slice(&room[..read]);
            let Some(head) = page.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(&page[..head]).to_ascii_lowercase();
            let length = text.split_once("content-length: ");
            let length =
                length.map(|(_, rest)| rest.lines().next().unwrap().trim().parse::<usize>().unwrap());
            match length {
                Some(length) if page.len() >= head + 4 + length => {
                    return String::from_utf8_lossy(&page[head + 4..]).into_owned();
                }
                None if page.ends_with(b"\r\n0\r\n\r\n") => return unchunked(&page[head + 4..]),
                _ => {}
            }
        }
    }
}

fn unchunked(mut rest: &[u8]) -> String {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|end| end == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 4 + length..];
        if length == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}
