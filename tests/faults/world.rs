//! The program with its config, its folder and its receiver, on the loopback of a namespace of its own, where single
//! addresses can be made to lose what is sent to them.

use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

pub(crate) use crosswatch_tests::deployment::{BOUND, wait_until};
use crosswatch_tests::hook::Hook;
use crosswatch_tests::http;
use crosswatch_tests::netns::Namespace;
use crosswatch_tests::process::{Process, program};
use nix::sys::signal::Signal;
use rusqlite::{Connection, OpenFlags};

/// A probe lost three times in a row is an outage, which three replies end.
pub(crate) const OUTAGE_RULE: &str = r#"
[[rule]]
name = "ping-failed"
metric = "ping_ok"
below = 1
breach = "3 of 3"
clear = 3
notify = ["hook"]
"#;

/// The two sites.
pub(crate) const SITES: [&str; 2] = ["here", "there"];

/// A config and what is around it. All of it goes when dropped.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) namespace: Namespace,
    pub(crate) hook: Hook,
}

impl World {
    /// Two sites with so many probes each, of 127.0.0.2 and on, by these rules; periods are of one second. `rules` has
    /// `notify = ["hook"]` where it wants.
    pub(crate) fn new([here, there]: [u8; 2], pace: &str, rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let namespace = Namespace::alone();
        namespace.allow_ping_sockets(0..=i32::MAX as u32);
        for command in [
            "add table inet faults",
            "add set inet faults lost { type ipv4_addr ; }",
            "add chain inet faults input { type filter hook input priority 0 ; }",
            "add rule inet faults input ip daddr @lost drop",
        ] {
            nft(&namespace, command);
        }
        let hook = Hook::inside(&namespace);
        let sites = iter::repeat_n(SITES[0], here.into()).chain(iter::repeat_n(SITES[1], there.into()));
        // Each is a link of its own, and so an incident of its own.
        let links: String = (2..)
            .zip(sites)
            .map(|(host, site): (u8, _)| {
                format!(
                    "[[link]]\nname = \"loop{host}\"\nbetween = [\"{site}\"]\n\
                     probe = [{{ from = \"{site}\", icmp = \"127.0.0.{host}\", {pace} }}]\n"
                )
            })
            .collect();
        let config = format!(
            "[site.here]\n[site.there]\n\
             {links}\
             [queue]\nkind = \"embedded\"\npath = \"data\"\n[metrics]\nkind = \"embedded\"\nperiod = \"1s\"\n\
             [notify.hook]\nwebhook = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n{rules}\n",
            hook.url()
        );
        fs::write(folder.path().join("crosswatch.toml"), config).unwrap();
        Self { folder, namespace, hook }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn journal(&self, site: &str) -> PathBuf {
        self.data().join("journal").join(format!("{site}.db"))
    }

    /// Starts a job; it listens when this returns.
    pub(crate) fn start(&self, job: &str) -> Program {
        let mut command = self.namespace.command(program());
        let mut process = Process::start(command.current_dir(self.folder.path()).args(job.split(' ')));
        let line = process.wait_for_text("listening on http://", BOUND).text;
        let address = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
        Program { process, address }
    }

    /// Runs a tool to its end, which must be a good one, and gives its standard output.
    pub(crate) fn tool(&self, arguments: &str) -> String {
        let output = self.try_tool(arguments);
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn try_tool(&self, arguments: &str) -> Output {
        let mut command = self.namespace.command(program());
        let command = command.current_dir(self.folder.path()).args(arguments.split(' '));
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// What is sent to these addresses, 127.0.0.n, is lost from now on, and what is sent to all others is not.
    pub(crate) fn lose(&self, hosts: &[u8]) {
        let hosts: Vec<String> = hosts.iter().map(|host| format!("127.0.0.{host}")).collect();
        let add = match hosts.as_slice() {
            [] => String::new(),
            hosts => format!(" ; add element inet faults lost {{ {} }}", hosts.join(" , ")),
        };
        nft(&self.namespace, &format!("flush set inet faults lost{add}"));
    }

    /// Waits until a journal's event time is so much later than that of this call.
    pub(crate) fn wait_for_event_time(&self, later: Duration) {
        let through = || SITES.map(|site| through(&self.journal(site)));
        let begun = through();
        wait_until("event time advances", || {
            let later = i64::try_from(later.as_micros()).unwrap();
            through().iter().zip(begun).all(|(now, begun)| *now >= begun + later)
        });
    }

    /// Lets the publisher and the alerter take what they have not had, and what is owed be delivered. Nothing else may
    /// run.
    pub(crate) fn drain(&self) {
        let programs = [self.start("publisher"), self.start("alerter")];
        for file in ["publisher.db", "alerter.db"] {
            wait_until(&format!("{file} has had all"), || {
                SITES.iter().all(|site| {
                    let last = number(&self.journal(site), "SELECT max(id) FROM batch");
                    let sql = format!("SELECT id FROM position WHERE journal = '{site}'");
                    number(&self.data().join(file), &sql) == last
                })
            });
        }
        let owed = "SELECT count(*) FROM notification WHERE standing IN ('owed', 'held')";
        wait_until("nothing is owed", || number(&self.data().join("alerter.db"), owed) == 0);
        for program in programs {
            program.stop();
        }
    }
}

/// The program at a job.
pub(crate) struct Program {
    pub(crate) process: Process,
    pub(crate) address: std::net::SocketAddr,
}

impl Program {
    /// Asks it to end, as a service manager does; it must end well.
    pub(crate) fn stop(mut self) {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait_exit(BOUND);
        assert!(status.success(), "{status}: {:#?}", self.process.lines());
    }

    /// What it answers to a path; call it through a world's namespace.
    pub(crate) fn get(&self, world: &World, path: &str) -> http::Response {
        world.namespace.enter(|| http::get(self.address, path)).unwrap()
    }

    /// The sum of a metric over all its labels that contain this text.
    pub(crate) fn metric(&self, world: &World, name: &str, label: &str) -> f64 {
        let text = self.get(world, "/metrics").body;
        text.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|line| line.contains(label))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }
}

/// The one number that a query of a file of ours gives; -1 while there is none, or no such file.
pub(crate) fn number(file: &Path, sql: &str) -> i64 {
    let read = || open(file)?.query_row(sql, [], |row| row.get(0));
    read().unwrap_or(-1)
}

/// Opens a file of ours to read.
pub(crate) fn open(file: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    db.busy_timeout(BOUND)?;
    Ok(db)
}

/// The newest promise in a journal, in microseconds.
pub(crate) fn through(journal: &Path) -> i64 {
    number(journal, "SELECT through FROM batch ORDER BY id DESC LIMIT 1")
}

fn nft(namespace: &Namespace, command: &str) {
    let output = namespace.exec(&format!("nft {command}"));
    assert!(output.status.success(), "nft {command}: {output:?}");
}
