//! One charon: its files, its life, and what it is told by swanctl.
//!
//! It runs in a network namespace with a /run of its own, where it keeps its process id, so that it neither meets another
//! nor the machine's. All else is in its folder. It and swanctl are copies: AppArmor, where it is in force, would hold those
//! of the system to the system's paths.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::connection::{CHILD, Connection, Detection};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// The device through which packets go in and out of all of a charon's tunnels.
pub const DEVICE: &str = "ipsec0";

const CHARON: &str = "/usr/lib/ipsec/charon";
const SWANCTL: &str = "/usr/sbin/swanctl";

/// Debian's own package of libstrongswan has all of these but the last four.
const PLUGINS: &str =
    "random nonce hmac kdf sha1 sha2 aes gmp kernel-libipsec kernel-netlink socket-default vici";

/// Which Debian puts in a package of its own, libcharon-extra-plugins.
const IN_USER_SPACE: &str = "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so";

/// The longest path that a Unix socket's address holds, with the zero at its end.
const SOCKET_PATH: usize = 108;

/// What keeps a charon from its peers until it knows its connections: before, it would refuse them, and a peer that was
/// refused does not ask again.
const DEAF: &str = "inet crosswatch_ipsec_deaf";

/// How long it may take to come up, or to end; it takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to look.
const LOOK: Duration = Duration::from_millis(10);

/// What of strongSwan this machine lacks, if anything.
#[must_use]
pub fn missing() -> Option<&'static Path> {
    [CHARON, SWANCTL, IN_USER_SPACE].into_iter().map(Path::new).find(|file| !file.exists())
}

/// A charon in a namespace. Dropping it ends the one that was started by it, and leaves the folder.
#[derive(Debug)]
pub struct Charon {
    namespace: String,
    folder: PathBuf,
    detection: Detection,
    process: Option<Child>,
}

impl Charon {
    /// Of this namespace, with its files in this folder, which is made if absent; it does not run yet. The folder may not
    /// be below /run.
    ///
    /// # Errors
    /// strongSwan is not there; the folder cannot be made or its path cannot be used.
    pub fn new(namespace: &str, folder: &Path, detection: Detection) -> Result<Self> {
        let charon = Self::at(namespace, folder, detection);
        let folder = &charon.folder;
        let unusable = |why| Error::Folder { path: folder.clone(), why };
        let text = folder.to_str().filter(|text| !text.contains(['"', '\\', '\n']));
        let text = text.ok_or_else(|| unusable("strongSwan's files cannot have such a path"))?;
        if !folder.is_absolute() || folder.starts_with("/run") || folder.starts_with("/var/run") {
            return Err(unusable(
                "it must be an absolute path, and not below /run, which charon has to itself",
            ));
        }
        if charon.socket().as_os_str().len() >= SOCKET_PATH {
            return Err(unusable("a socket in it would have a path of more than 107 bytes"));
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(Error::file(folder))?;
        for program in [CHARON, SWANCTL] {
            let copied = fs::copy(program, charon.copy_of(program));
            copied.map_err(|source| Error::Program { program: program.into(), source })?;
        }
        // The last question waits as long as the others.
        let questions = detection.questions.max(1);
        let retransmit = detection.give_up.as_secs_f64() / f64::from(questions);
        let again = questions - 1;
        // kernel-libipsec makes routes all the same, and lets packets leave from any address that the policy has: the main table,
        // whose route says from which, comes first.
        let conf = format!(
            "charon {{\n load = {PLUGINS}\n install_routes = no\n routing_table_prio = 40000\n install_virtual_ip = no\n \
             retransmit_timeout = {retransmit:.3}\n retransmit_base = 1.0\n retransmit_tries = {again}\n \
             plugins {{\n  vici {{\n   socket = \"unix://{text}/charon.vici\"\n  }}\n }}\n \
             filelog {{\n  file {{\n   path = \"{text}/charon.log\"\n   flush_line = yes\n   time_format = %T\n   default = 1\n  }}\n }}\n\
             }}\nswanctl {{\n load = random\n}}\n"
        );
        charon.write("strongswan.conf", &conf)?;
        Ok(charon)
    }

    /// One whose folder is there already: it may run, started by somebody else.
    #[must_use]
    pub fn at(namespace: &str, folder: &Path, detection: Detection) -> Self {
        Self { namespace: namespace.to_owned(), folder: folder.to_owned(), detection, process: None }
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The process, if it was started by this.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        Some(Pid::from_raw(self.process.as_ref()?.id().try_into().ok()?))
    }

    /// Its VICI socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("charon.vici")
    }

    /// What it logs.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("charon.log")
    }

    /// What starts it, for whoever keeps processes himself; the process that is spawned becomes charon.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace, "unshare", "-m", "sh", "-c"])
            .arg("mount -t tmpfs -o mode=755 tmpfs /run && nft \"$1\" && exec \"$0\"")
            .arg(self.copy_of(CHARON))
            .arg(format!(
                "table {DEAF} {{}}\ndelete table {DEAF}\ntable {DEAF} {{\nchain input {{\n\
                 type filter hook input priority 0; policy accept;\nudp dport {{ 500, 4500 }} drop\n}}\n}}\n"
            ))
            .env("STRONGSWAN_CONF", self.conf());
        command
    }

    /// Starts it, and returns when it answers.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(&mut self) -> Result<()> {
        self.kill();
        let log = self.log();
        let output = File::options().create(true).append(true).open(&log).map_err(Error::file(&log))?;
        let mut command = self.command();
        // Before it has read where to log, it complains on standard error.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let process = command.spawn();
        self.process = Some(process.map_err(|source| Error::Program { program: "ip".into(), source })?);
        self.wait_until_it_answers()
    }

    /// Returns when it takes connections at its socket.
    ///
    /// # Errors
    /// It does not, for half a minute, or has ended.
    pub fn wait_until_it_answers(&mut self) -> Result<()> {
        let since = Instant::now();
        loop {
            if UnixStream::connect(self.socket()).is_ok() {
                return Ok(());
            }
            if let Some(process) = &mut self.process
                && let Ok(Some(_)) = process.try_wait()
            {
                self.process = None;
                return Err(Error::Ended {
                    namespace: self.namespace.clone(),
                    log: self.log(),
                    said: self.said(),
                });
            }
            if since.elapsed() > PATIENCE {
                let what = format!("charon's socket in {}", self.namespace);
                return Err(Error::Late { what, waited: PATIENCE, log: self.log() });
            }
            thread::sleep(LOOK);
        }
    }

    /// Tells it its connections and the secret, in place of those before. From then on it hears its peers.
    ///
    /// # Errors
    /// It does not take them.
    pub fn load(&self, connections: &[Connection], secret: &Secret) -> Result<()> {
        let sections: String = connections.iter().map(Connection::section).collect();
        let include = secret.file().display();
        let file =
            self.write("swanctl.conf", &format!("connections {{\n{sections}}}\ninclude \"{include}\"\n"))?;
        self.swanctl(&["--load-all", "--file", &file.to_string_lossy()])?;
        let mut hear = Command::new("ip");
        hear.args(["netns", "exec", &self.namespace, "nft"]);
        hear.arg(format!("table {DEAF} {{}}\ndelete table {DEAF}\n"));
        run(hear, &format!("nft in {}", self.namespace)).map(drop)
    }

    /// Brings a tunnel up, and returns when it is.
    ///
    /// # Errors
    /// The peer does not agree or does not answer.
    pub fn initiate(&self, connection: &str) -> Result<()> {
        self.swanctl(&["--initiate", "--ike", connection, "--child", CHILD, "--timeout", "20"]).map(drop)
    }

    /// Ends a tunnel's child SA at both ends, and returns when it has; the IKE SA stays.
    ///
    /// # Errors
    /// There is none.
    pub fn terminate(&self, connection: &str) -> Result<()> {
        self.swanctl(&["--terminate", "--ike", connection, "--child", CHILD, "--timeout", "20"]).map(drop)
    }

    /// Replaces a tunnel's child SA by a new one, without a gap; done some time after this returns.
    ///
    /// # Errors
    /// There is none.
    pub fn rekey(&self, connection: &str) -> Result<()> {
        self.swanctl(&["--rekey", "--ike", connection, "--child", CHILD]).map(drop)
    }

    /// Replaces a tunnel's IKE SA by a new one, which takes its child SA over; done some time after this returns.
    ///
    /// # Errors
    /// There is none.
    pub fn rekey_ike(&self, connection: &str) -> Result<()> {
        self.swanctl(&["--rekey", "--ike", connection]).map(drop)
    }

    /// Which of these tunnels are up as this end sees it; asked once for all.
    ///
    /// # Errors
    /// It does not answer.
    pub fn are_up<const N: usize>(&self, connections: [&str; N]) -> Result<[bool; N]> {
        // An IKE SA is a line, with its child SAs.
        let listed = self.swanctl(&["--list-sas", "--raw"])?;
        let is_up = |connection: &str| {
            let name = format!(" {{{connection} {{");
            listed.lines().any(|line| line.contains(&name) && line.contains(" state=INSTALLED "))
        };
        Ok(connections.map(is_up))
    }

    /// How many packets went out through a tunnel's present child SA; 0 without one.
    ///
    /// # Errors
    /// It does not answer.
    pub fn sent(&self, connection: &str) -> Result<u64> {
        let listed = self.list(connection)?;
        let counts = listed.split(" packets-out=").skip(1);
        let counts = counts.filter_map(|rest| rest.split([' ', '}']).next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }

    fn list(&self, connection: &str) -> Result<String> {
        self.swanctl(&["--list-sas", "--raw", "--ike", connection])
    }

    /// Ends it politely: it says goodbye to its peers.
    ///
    /// # Errors
    /// It is still there after half a minute, and is killed then.
    pub fn stop(&mut self) -> Result<()> {
        // It may have ended by itself.
        let _ = self.pid().map(|pid| kill(pid, Signal::SIGTERM));
        let Some(process) = &mut self.process else { return Ok(()) };
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if !matches!(process.try_wait(), Ok(None)) {
                self.process = None;
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        self.kill();
        let what = format!("the end of charon in {}", self.namespace);
        Err(Error::Late { what, waited: PATIENCE, log: self.log() })
    }

    /// Kills it: its peers are not told.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn swanctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("timeout");
        command.arg(PATIENCE.as_secs().to_string()).arg(self.copy_of(SWANCTL)).args(arguments);
        command.args(["--uri", &format!("unix://{}", self.socket().display())]);
        command.env("STRONGSWAN_CONF", self.conf());
        run(command, &format!("swanctl {} in {}", arguments.join(" "), self.namespace))
    }

    fn conf(&self) -> PathBuf {
        self.folder.join("strongswan.conf")
    }

    fn copy_of(&self, program: &str) -> PathBuf {
        let name = Path::new(program).file_name().unwrap_or_default();
        self.folder.join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(Error::file(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(Error::file(&path))?;
        Ok(path)
    }

    /// The last lines of its log.
    fn said(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
    }

    /// How the death of its peers is found out.
    #[must_use]
    pub fn detection(&self) -> Detection {
        self.detection
    }
}

impl Drop for Charon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end, and gives what it printed.
pub(crate) fn run(mut command: Command, called: &str) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|source| match source.kind() {
        ErrorKind::NotFound => Error::Program { program: command.get_program().into(), source },
        _ => Error::Command { command: called.to_owned(), said: source.to_string() },
    })?;
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(said.into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Error::Command { command: called.to_owned(), said: format!("{said}{errors}").trim().to_owned() })
}
