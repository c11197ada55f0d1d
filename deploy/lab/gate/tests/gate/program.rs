//! The program: its line, its socket, and that nothing is left of it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crosswatch_gate::Control;

use crate::world::{emulator, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_program_says_where_it_listens_and_ends_its_emulator() {
    let Some(emulator) = emulator("the_program_says_where_it_listens_and_ends_its_emulator") else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("gate.sock");
    // A dead socket is replaced.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crosswatch-gate"));
        command.args(["--listen", "127.0.0.1:0", "--control"]).arg(&socket).arg("--ministack").arg(&emulator);
        command.env("TMPDIR", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut gate = start().spawn().unwrap();
    let mut line = String::new();
    BufReader::new(gate.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("gate listening on ").unwrap().to_owned();
    assert!(url.starts_with("http://127.0.0.1:"), "{line}");
    Control::connect(&socket).unwrap();
    let second = start().output().unwrap();
    assert!(String::from_utf8_lossy(&second.stderr).contains("cannot make the control socket"));

    // Its emulator is its child, found by its parent.
    let children = format!("/proc/{0}/task/{0}/children", gate.id());
    let child: u32 =
        std::fs::read_to_string(children).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    gate.kill().unwrap();
    gate.wait().unwrap();
    if std::path::Path::new("/usr/bin/setpriv").exists() {
        // Killed, the gate cannot end it: the kernel does.
        until(|| {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        })
        .await;
    }
}
