//! The monitors a user would run instead, started for a benchmark beside Crosswatch on the same targets.
//!
//! Each at the fastest setting that is practical. They are Debian's packages; what is missing is said by name.

use std::fmt::Display;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use crate::deployment::wait_until;
use crate::http;
use crate::netns::Namespace;
use crate::process::Process;

/// Makes the command that starts a program: in a namespace, or here.
pub type Launcher<'a> = &'a dyn Fn(&str) -> Command;

/// Which of these programs are not installed.
#[must_use]
pub fn missing<'a>(programs: &[&'a str]) -> Vec<&'a str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |program: &&str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    programs.iter().copied().filter(|program| !found(program)).collect()
}

/// blackbox_exporter, scraped by Prometheus each second.
#[derive(Debug)]
pub struct Blackbox {
    /// The prober.
    pub exporter: Process,
    /// The scraper and evaluator.
    pub prometheus: Process,
    prometheus_at: SocketAddr,
}

impl Blackbox {
    /// What must be installed.
    pub const PROGRAMS: [&'static str; 2] = ["prometheus-blackbox-exporter", "prometheus"];

    /// Starts both. `alertmanager` is told of a target with three failed probes in a row.
    #[must_use]
    pub fn start(
        folder: &Path,
        launch: Launcher,
        targets: &[String],
        alertmanager: Option<SocketAddr>,
    ) -> Self {
        let (exporter_at, prometheus_at) = (free_port(), free_port());
        // A failed probe is stamped when it began and seen 200 ms later. Three seconds and a little more hold the newest
        // three of those, whatever the phase of the evaluation; three seconds alone would often hold two.
        write(folder, "blackbox.yml", "modules: { icmp: { prober: icmp, timeout: 200ms } }\n");
        write(
            folder,
            "rules.yml",
            "groups: [{ name: down, rules: [{ alert: Down, expr: 'sum_over_time(probe_success[3s250ms]) == 0' }] }]\n",
        );
        let told = alertmanager
            .map_or_else(String::new, |at| format!("{{ static_configs: [{{ targets: ['{at}'] }}] }}"));
        write(
            folder,
            "prometheus.yml",
            &format!(
                "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
                 rule_files: [rules.yml]\n\
                 alerting: {{ alertmanagers: [{told}] }}\n\
                 scrape_configs:\n\
                 - job_name: icmp\n  metrics_path: /probe\n  params: {{ module: [icmp] }}\n  \
                 static_configs: [{{ targets: [{}] }}]\n  relabel_configs:\n  \
                 - {{ source_labels: [__address__], target_label: __param_target }}\n  \
                 - {{ source_labels: [__address__], target_label: instance }}\n  \
                 - {{ target_label: __address__, replacement: '{exporter_at}' }}\n",
                targets.iter().map(|target| format!("'{target}'")).collect::<Vec<_>>().join(", ")
            ),
        );
        let exporter = Process::start(
            launch(Self::PROGRAMS[0])
                .current_dir(folder)
                .args(["--config.file=blackbox.yml", &listen(exporter_at)]),
        );
        let prometheus = Process::start(launch(Self::PROGRAMS[1]).current_dir(folder).args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=tsdb",
            &listen(prometheus_at),
        ]));
        Self { exporter, prometheus, prometheus_at }
    }

    /// Waits until every target has this value of `probe_success`; call it in the namespace of the processes.
    pub fn wait_for_success(&self, value: u8, targets: usize) {
        // count(probe_success == value), spelled for a URL.
        let query = format!("/api/v1/query?query=count(probe_success%3D%3D{value})");
        let wanted = format!("\"{targets}\"]");
        wait_until("Prometheus sees its targets", || {
            http::get(self.prometheus_at, &query).is_ok_and(|response| response.body.contains(&wanted))
        });
    }
}

/// Alertmanager, which tells a webhook at once.
#[derive(Debug)]
pub struct Alertmanager {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Alertmanager {
    /// What must be installed.
    pub const PROGRAM: &'static str = "prometheus-alertmanager";

    /// Starts it.
    #[must_use]
    pub fn start(folder: &Path, namespace: &Namespace, webhook: &str) -> Self {
        let address = free_port();
        write(
            folder,
            "alertmanager.yml",
            &format!(
                "route: {{ receiver: hook, group_wait: 0s, group_interval: 1s, repeat_interval: 1h }}\n\
                 receivers: [{{ name: hook, webhook_configs: [{{ url: '{webhook}', send_resolved: true }}] }}]\n"
            ),
        );
        let process = Process::start(namespace.command(Self::PROGRAM).current_dir(folder).args([
            "--config.file=alertmanager.yml",
            "--storage.path=alertmanager",
            "--cluster.listen-address=",
            &listen(address),
        ]));
        namespace.enter(|| {
            wait_until("Alertmanager is ready", || {
                http::get(address, "/-/ready").is_ok_and(|response| response.status == 200)
            });
        });
        Self { process, address }
    }
}

/// A port of the loopback that was free a moment ago.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
    listener.local_addr().expect("the port taken")
}

fn listen(at: impl Display) -> String {
    format!("--web.listen-address={at}")
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.join(name).display()));
}
