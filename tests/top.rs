//! `crosswatch top` in a real terminal, 80 by 24, as over SSH: tmux is the terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::TcpListener;
use std::process::Command;

use crosswatch_tests::deployment::{BOUND, Deployment, terminate, wait_until};
use crosswatch_tests::peers::missing;
use crosswatch_tests::process::{Process, program};

/// A terminal with a command in it; dropped, both are gone.
struct Tmux(std::path::PathBuf);

impl Tmux {
    fn call(&self, args: &[&str]) -> String {
        let output = Command::new("tmux").arg("-S").arg(&self.0).args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn screen(&self) -> Vec<String> {
        self.call(&["capture-pane", "-p"]).lines().map(str::to_owned).collect()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.call(&["kill-server"]);
    }
}

#[test]
fn in_a_terminal_an_outage_is_seen_first_and_the_terminal_is_left_as_it_was() {
    let name = "in_a_terminal_an_outage_is_seen_first_and_the_terminal_is_left_as_it_was";
    if !missing(&["tmux"]).is_empty() {
        use std::io::Write as _;
        // Not `eprintln!`: the test runner would swallow it, for the test passes.
        let _ = writeln!(std::io::stderr(), "NOT RUN: {name}: tmux is missing");
        return;
    }
    let there = TcpListener::bind("127.0.0.1:0").unwrap();
    let deployment = Deployment::new(&format!(
        r#"
        [site.here]
        [[link]]
        name = "well"
        between = ["here"]
        probe = [{{ from = "here", name = "there", tcp = "{}", every = "200ms" }}]
        [[link]]
        name = "gone"
        between = ["here"]
        probe = [{{ from = "here", name = "nobody", tcp = "127.0.0.1:1", every = "200ms" }}]
        [[rule]]
        name = "ping-failed"
        metric = "ping_ok"
        below = 1
        breach = "3 of 3"
        [http]
        listen = "127.0.0.1:0"
        "#,
        there.local_addr().unwrap()
    ));
    let mut run = Process::start(Command::new(program()).arg("run").current_dir(deployment.path()));
    run.wait_for_text("listening on ", BOUND);
    let tmux = Tmux(deployment.path().join("tmux"));
    let folder = deployment.path().to_str().unwrap();
    // A shell, so that something is there when the program has ended.
    tmux.call(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "-c", folder, "sh"]);
    tmux.call(&["send-keys", &format!("PS1='ready> '; {} top", program().display()), "Enter"]);
    wait_until("the screen shows the outage, then the rest", || {
        let screen = tmux.screen();
        let place = |text: &str| screen.iter().position(|line| line.contains(text));
        let order =
            [place("Crosswatch "), place("target-down"), place("gone/here/nobody"), place("well/here/there")];
        order.iter().all(Option::is_some) && order.is_sorted() && place("q quit") == Some(23)
    });
    let screen = tmux.screen();
    let down = screen.iter().find(|line| line.starts_with("gone/here/nobody")).unwrap();
    assert!(down.contains("✕ DOWN") && down.contains("refused"), "{screen:#?}");
    tmux.call(&["send-keys", "e"]);
    wait_until("it is explained", || {
        let screen = tmux.screen();
        let shown = |text: &str| screen.iter().any(|line| line.contains(text));
        shown("gone/here/nobody at ") && shown("fires when 3 of the newest 3") && shown("q back")
    });
    tmux.call(&["send-keys", "q"]);
    wait_until("the list is back", || tmux.screen().iter().any(|line| line.contains("e explain")));
    tmux.call(&["send-keys", "q"]);
    wait_until("the shell is back, on its own screen", || {
        let screen = tmux.screen();
        screen.iter().any(|line| line.trim_end().ends_with("ready>"))
            && !screen.iter().any(|line| line.contains("q quit"))
    });
    terminate(run);
}
