//! The words a user reads, run as written: the README's first command, its tour, and the examples in `docs`.
//!
//! In these documents a fenced block whose info string has a second word is a file of that name. A `console` block is
//! a session: a line that begins with `$ ` is a command, one that begins with `> ` goes on with it, and what follows is
//! all that it prints, on both streams. One shell runs all of a document's commands, in a folder of its own; each must
//! succeed. Other blocks are only shown.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crosswatch_tests::netns::{Namespace, Pair};
use crosswatch_tests::process::{self, Process, Stream};
use crosswatch_tests::root::require_root;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Far longer than anything here takes.
const BOUND: Duration = Duration::from_secs(180);

#[test]
fn the_first_command_watches_loopback_and_gateway_and_tells_of_a_cut() {
    if !require_root("the_first_command_watches_loopback_and_gateway_and_tells_of_a_cut") {
        return;
    }
    let readme = document("README.md");
    let shown: Vec<Vec<String>> = blocks(section(&readme, "## Two commands"))
        .into_iter()
        .filter(|block| block.info == "text")
        .map(|block| block.text.lines().map(shape).collect())
        .collect();
    let [greeting, cut] = &*shown else { panic!("README.md: what the first command prints: {shown:#?}") };

    let pair = Pair::new();
    let route = pair.a.exec(&format!("ip route add default via {}", pair.b.v4));
    assert!(route.status.success(), "{route:?}");
    let folder = tempfile::tempdir().unwrap();
    let mut run = Process::start(pair.a.command(process::program()).arg("run").current_dir(&folder));
    run.wait_for_text("Ctrl-C", BOUND);
    let printed: Vec<String> = run.lines().iter().map(|line| shape(&line.text)).collect();
    assert_eq!(&printed, greeting);

    pair.b.cut();
    run.wait_for(|line| line.stream == Stream::Out && line.text.contains("FIRING"), BOUND);
    pair.b.heal();
    run.wait_for(|line| line.stream == Stream::Out && line.text.contains("RESOLVED"), BOUND);
    let out = run.text(Stream::Out);
    let told: Vec<String> = out.lines().skip_while(|line| !line.contains("FIRING")).map(shape).collect();
    assert_eq!(&told, cut);
    run.signal(Signal::SIGINT);
    assert!(run.wait_exit(BOUND).success());
}

/// What differs from run to run is compared by its shape.
#[test]
fn the_tour_is_true() {
    // What an ordinary user has not always got, a namespace of root's has: a free port, and leave to ping.
    if !require_root("the_tour_is_true") {
        return;
    }
    let namespace = Namespace::of_process(std::process::id());
    let up = namespace.exec("ip link set lo up");
    assert!(up.status.success(), "{up:?}");
    let readme = document("README.md");
    run(section(&readme, "## A five-minute tour"), namespace.command("bash"), shape);
}

#[test]
fn the_examples_in_configuration_md_are_true() {
    run(&document("docs/configuration.md"), Command::new("bash"), str::to_owned);
}

/// Asks for a key that there is not in every table, to be told which there are.
#[test]
fn every_key_of_the_config_is_in_configuration_md() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[qqqqqqqq]\n[site.a]\nqqqqqqqq = 1\n\
                [[link]]\nname = 'l'\nbetween = ['a']\nqqqqqqqq = 1\n\
                probe = [{ from = 'a', icmp = '127.0.0.1', qqqqqqqq = 1 }]\n\
                vpn = [{ site = 'a', id = 'vpn-1', qqqqqqqq = 1 }]\n\
                [queue]\nkind = 'sqs'\npublisher = 'https://p'\nalerter = 'https://a'\nqqqqqqqq = 1\n\
                [metrics]\nqqqqqqqq = 1\n\
                [[rule]]\nname = 'r'\nmetric = 'ping_ok'\nbelow = 1\nqqqqqqqq = 1\n\
                [notify.me]\nconsole = true\nqqqqqqqq = 1\n[heartbeat]\nurl = 'https://h'\nqqqqqqqq = 1\n\
                [http]\nqqqqqqqq = 1\n";
    fs::write(folder.path().join("crosswatch.toml"), text).unwrap();
    let checked = Command::new(process::program()).arg("check").current_dir(&folder).output().unwrap();
    let told = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(told.lines().count(), text.matches("qqqqqqqq").count(), "{told}");
    let known = told.lines().flat_map(|line| line.split_once("known: ").expect(line).1.split(", "));
    let documented = document("docs/configuration.md");
    for key in known {
        // A section stands in a heading, a key in a table.
        let ways =
            [format!("`{key}`"), format!("`[{key}]`"), format!("`[[{key}]]`"), format!("`[{key}.NAME]`")];
        assert!(ways.iter().any(|way| documented.contains(way)), "{key} is not in docs/configuration.md");
    }
}

#[test]
fn the_examples_in_rules_md_are_true() {
    run(&document("docs/rules.md"), Command::new("bash"), str::to_owned);
}

#[test]
fn the_examples_in_formats_md_are_true() {
    run(&document("docs/formats.md"), Command::new("bash"), str::to_owned);
}

#[test]
fn the_examples_in_replay_md_are_true() {
    run(&document("docs/replay.md"), Command::new("bash"), str::to_owned);
}

/// Those that hold an invariant: words in backticks with three underscores or more.
#[test]
fn the_tests_that_architecture_md_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let document = document("docs/architecture.md");
    let test = |word: &&str| {
        word.matches('_').count() >= 3
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let named: Vec<&str> = document.split('`').skip(1).step_by(2).filter(test).collect();
    assert!(!named.is_empty());
    for test in named {
        let found = Command::new("git")
            .args(["grep", "--quiet", "--extended-regexp", &format!("fn {test}\\("), "--", "*.rs"])
            .current_dir(&root)
            .status()
            .expect("git");
        assert!(found.success(), "there is no test {test}");
    }
}

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// From this heading to the next of its kind.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, rest) = document.split_once(&format!("\n{heading}\n")).expect(heading);
    rest.split("\n## ").next().unwrap()
}

#[derive(Debug)]
struct Block {
    info: String,
    text: String,
}

/// The fenced blocks, in their order.
fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let text = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n"));
        blocks.push(Block { info: info.to_owned(), text: text.collect() });
    }
    blocks
}

/// A command, and the lines that it prints.
#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    command: String,
    output: Vec<String>,
}

fn steps(session: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in session.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), output: Vec::new() });
            continue;
        }
        let step = steps.last_mut().expect("a session begins with a command");
        match line.strip_prefix("> ") {
            Some(more) if step.output.is_empty() => step.command += &format!("\n{more}"),
            _ => step.output.push(line.to_owned()),
        }
    }
    steps
}

/// Begins the output of each command, with the place of the command after it.
const MARK: &str = "-- step ";

/// Runs a document's sessions; fails where a command fails or prints something else, both read through `seen`.
fn run(document: &str, mut shell: Command, seen: fn(&str) -> String) {
    let folder = tempfile::tempdir().unwrap();
    let mut wanted: Vec<Step> = Vec::new();
    let mut script = String::from("set -e\n");
    for Block { info, text } in blocks(document) {
        if info == "console" {
            for step in steps(&text) {
                script += &format!("echo '{MARK}{}'\n{}\n", wanted.len(), step.command);
                wanted.push(step);
            }
        } else if let Some((_, name)) = info.split_once(' ') {
            script += &format!("cat > {name} <<'END OF FILE'\n{text}END OF FILE\n");
        }
    }
    assert!(!wanted.is_empty(), "no session in the document");
    fs::write(folder.path().join("script"), script).unwrap();

    let program = process::program().parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    shell.args(["-c", "exec bash script 2>&1"]).current_dir(&folder).env("PATH", path).env("LC_ALL", "C");
    let mut bash = Process::start(shell.process_group(0));
    let _jobs = Jobs(Pid::from_raw(bash.id().cast_signed()));
    let status = bash.wait_exit(BOUND);

    let mut printed: Vec<Step> = Vec::new();
    for line in bash.text(Stream::Out).lines() {
        if let Some(place) = line.strip_prefix(MARK) {
            let command = wanted.get(place.parse::<usize>().unwrap()).unwrap().command.clone();
            printed.push(Step { command, output: Vec::new() });
        } else if !(line.starts_with("script: line ") && line.contains(" Terminated ")) {
            // What the shell itself says of a job that was ended is said at different times by different shells.
            printed.last_mut().unwrap().output.push(line.to_owned());
        }
    }
    let read = |lines: &[String]| -> Vec<String> {
        let machine = nix::unistd::gethostname().unwrap().into_string().unwrap();
        lines.iter().map(|line| seen(&line.replace(&format!("\"{machine}\""), "\"laptop\""))).collect()
    };
    for (printed, wanted) in printed.iter().zip(&wanted) {
        let (is, should) = (printed.output.join("\n"), wanted.output.join("\n"));
        let command = &wanted.command;
        assert_eq!(
            read(&printed.output),
            read(&wanted.output),
            "$ {command}\nprinted:\n{is}\ninstead of:\n{should}"
        );
    }
    let last = &wanted[printed.len() - 1].command;
    assert!(status.success() && printed.len() == wanted.len(), "$ {last}\nended it: {status}");
}

/// What the shell has started; ended with the test, however that ends.
struct Jobs(Pid);

impl Drop for Jobs {
    fn drop(&mut self) {
        // There may be none left.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

/// The line with each number, span of time and UUID replaced by a sign for it, and one space for several.
fn shape(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        let mut shape = String::new();
        let mut rest = word;
        while let Some(first) = rest.chars().next() {
            let length = if let Some(length) = uuid(rest) {
                shape.push_str("UUID");
                length
            } else if first.is_ascii_digit() {
                shape.push('9');
                number(rest)
            } else {
                shape.push(first);
                first.len_utf8()
            };
            rest = &rest[length..];
        }
        shape
    });
    let words: Vec<String> = words.collect();
    let mut shapes: Vec<&str> = Vec::new();
    for word in &words {
        // `41s`, `3m 20s` and `5h 7m` are each a span.
        let span = ["9s", "9m", "9h", "9d"].contains(&word.as_str());
        match shapes.last() {
            Some(&"SPAN") if span => {}
            _ => shapes.push(if span { "SPAN" } else { word }),
        }
    }
    shapes.join(" ")
}

/// The length of the UUID that the text begins with.
fn uuid(text: &str) -> Option<usize> {
    const LENGTH: usize = 36;
    let fits = |(place, c): (usize, char)| match place {
        8 | 13 | 18 | 23 => c == '-',
        _ => c.is_ascii_hexdigit(),
    };
    let start = text.get(..LENGTH)?;
    start.char_indices().all(fits).then_some(LENGTH)
}

/// The length of the number that the text begins with: digits, with a fraction and an exponent where they are.
fn number(text: &str) -> usize {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let mut length = digits(text);
    for signs in [&["."][..], &["e-", "e"]] {
        let rest = &text[length..];
        let sign = signs.iter().find(|sign| rest.strip_prefix(**sign).is_some_and(|rest| digits(rest) > 0));
        if let Some(sign) = sign {
            length += sign.len() + digits(&rest[sign.len()..]);
        }
    }
    length
}

#[test]
fn shapes_are_equal_for_what_differs_from_run_to_run_only() {
    let same = [
        ("up   0.047 ms   for 41s", "up 12 ms for 3m 20s"),
        ("2026-11-22T16:44:09.620932Z n=5  avg=1.000", "2027-01-02T00:00:00.000001Z n=17 avg=0.5"),
        (
            r#"{"boot":"01a20426-eb56-770c-ac43-20aafccd091c","rtt_ms":0.0547}"#,
            r#"{"boot":"12345678-aaaa-bbbb-cccc-dddddddddddd","rtt_ms":5.4e-5}"#,
        ),
    ];
    for (one, other) in same {
        assert_eq!(shape(one), shape(other));
    }
    for (one, other) in [("up 1 ms", "DOWN 1 ms"), ("lost: refused", "lost: timeout"), ("for 1s", "for 1")] {
        assert_ne!(shape(one), shape(other));
    }
}
