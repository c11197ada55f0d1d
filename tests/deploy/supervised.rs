//! A stage under systemd: what it tells the supervisor of itself.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use crosswatch_tests::deployment::{BOUND, Deployment, terminate};
use crosswatch_tests::process::{Process, program};

const CONFIG: &str = r#"
[site.here]
[[link]]
name = "loopback"
between = ["here"]
probe = [{ from = "here", tcp = "127.0.0.1:9" }]
[http]
listen = "127.0.0.1:0"
"#;

fn hear(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[test]
fn each_stage_says_that_it_is_ready_that_it_lives_and_that_it_stops() {
    let jobs: [&[&str]; 4] = [&["collector", "--site", "here"], &["publisher"], &["alerter"], &["run"]];
    for job in jobs {
        let deployment = Deployment::new(CONFIG);
        let path = deployment.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(BOUND)).unwrap();
        let mut command = Command::new(program());
        command.args(job).current_dir(deployment.path()).env("NOTIFY_SOCKET", &path);
        let patience = Duration::from_secs(8);
        let process = Process::start(command.env("WATCHDOG_USEC", patience.as_micros().to_string()));
        assert_eq!(hear(&socket), "READY=1", "{job:?}");
        assert_eq!(hear(&socket), "WATCHDOG=1", "{job:?}");
        assert_eq!(hear(&socket), "WATCHDOG=1", "{job:?}");
        terminate(process);
        let last = std::iter::repeat_with(|| hear(&socket)).find(|said| said != "WATCHDOG=1");
        assert_eq!(last.as_deref(), Some("STOPPING=1"), "{job:?}");
    }
}

/// Whoever supervises a shell that started it is not its supervisor.
#[test]
fn a_watchdog_that_waits_for_another_process_hears_nothing() {
    let deployment = Deployment::new(CONFIG);
    let path = deployment.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    let mut command = Command::new(program());
    command.arg("publisher").current_dir(deployment.path()).env("NOTIFY_SOCKET", &path);
    let process = Process::start(command.env("WATCHDOG_USEC", "200000").env("WATCHDOG_PID", "1"));
    assert_eq!(hear(&socket), "READY=1");
    terminate(process);
    assert_eq!(hear(&socket), "STOPPING=1");
}
