//! The config edited while the program runs: what is right is taken over, what is wrong is told, and neither needs a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crosswatch_tests::deployment::{BOUND, terminate, wait_until};
use crosswatch_tests::hook::Hook;
use crosswatch_tests::http;
use crosswatch_tests::inbox::Message;
use crosswatch_tests::process::{Process, Stream, program};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A probe that nobody answers, judged by these rules.
fn config(webhook: &Hook, rules: &str) -> String {
    format!(
        r#"
[site.here]

[[link]]
name = "loop"
between = ["here"]
probe = [{{ from = "here", name = "web", tcp = "127.0.0.1:1", every = "100ms", timeout = "100ms" }}]

{rules}

[notify.oncall]
webhook = "{}"

[http]
listen = "127.0.0.1:0"
"#,
        webhook.url()
    )
}

fn rule(breach: &str) -> String {
    format!(
        "[[rule]]\nname = \"unreachable\"\nmetric = \"ping_ok\"\nbelow = 1\nbreach = \"{breach}\"\nnotify = [\"oncall\"]\n"
    )
}

/// As editors do: written beside, and renamed over.
fn save(folder: &Path, text: &str) {
    fs::write(folder.join("next"), text).unwrap();
    fs::rename(folder.join("next"), folder.join("crosswatch.toml")).unwrap();
}

/// What was told of a rule, but for what refines it.
fn told(webhook: &Hook, rule: &str, count: usize) -> Vec<Value> {
    webhook.wait_until(BOUND, |messages| {
        let of_rule = |json: &Value| json["rule"] == rule && json.get("revision").is_none();
        let its: Vec<Value> = messages.iter().map(Message::json).filter(of_rule).collect();
        (its.len() >= count).then_some(its)
    })
}

/// What a gauge says of the config's file.
fn gauge(run: &Process, name: &str) -> String {
    let name = format!("{name}{{file=\"crosswatch.toml\"}}");
    let body = metrics(run);
    let line =
        body.lines().find(|line| line.starts_with(&name)).unwrap_or_else(|| panic!("no {name}: {body}"));
    line.rsplit(' ').next().unwrap().to_owned()
}

fn metrics(run: &Process) -> String {
    let printed = run.text(Stream::Err);
    let line = printed.lines().find(|line| line.contains("listening on http://")).unwrap();
    let address = line.rsplit("http://").next().unwrap().parse().unwrap();
    http::get(address, "/metrics").unwrap().body
}

#[test]
fn rules_are_edited_without_a_restart_and_a_bad_edit_is_told_and_changes_nothing() {
    let (folder, webhook) = (tempfile::tempdir().unwrap(), Hook::new());
    save(folder.path(), &config(&webhook, &rule("5000 of 5000")));
    let mut run = Process::start(Command::new(program()).current_dir(folder.path()).arg("run"));
    run.wait_for_text("listening on http://", BOUND);
    wait_until("the config is watched", || {
        metrics(&run).contains("crosswatch_config_hash{file=\"crosswatch.toml\"}")
    });
    let before = gauge(&run, "crosswatch_config_hash");

    save(folder.path(), &config(&webhook, &rule("3 of 3")));
    let firing = told(&webhook, "unreachable", 1).remove(0);
    assert_eq!(firing["reason"], "rule changed: 3 of 3 lost");
    run.wait_for_text("the rule was changed: breach 5000 of 5000 -> 3 of 3", BOUND);
    let after = gauge(&run, "crosswatch_config_hash");
    assert_ne!(before, after);

    // Half of it, as one sees it that looks while it is saved, and then all: no bad edit.
    let whole = config(&webhook, &format!("[queue]\nkeep = \"1d\"\n{}", rule("2 of 3")));
    fs::write(folder.path().join("crosswatch.toml"), &whole[..whole.len() / 2]).unwrap();
    save(folder.path(), &whole);
    run.wait_for_text("sections=\"queue\"", BOUND);

    // A bad one, and at once.
    save(folder.path(), &whole.replace("below = 1", "below = \"one\""));
    run.signal(Signal::SIGHUP);
    let refused = told(&webhook, "config-refused", 1).remove(0);
    let text = refused["text"].as_str().unwrap();
    assert!(
        text.starts_with(
            "FIRING config-refused crosswatch.toml: line 14: ping_ok has no baseline; write a number"
        ),
        "{text}"
    );
    assert_eq!(gauge(&run, "crosswatch_config_last_reload_successful"), "0");
    assert_ne!(gauge(&run, "crosswatch_config_hash"), before);

    // Mended, with the rule gone.
    save(folder.path(), &config(&webhook, ""));
    let [over, mended] =
        [told(&webhook, "unreachable", 2).remove(1), told(&webhook, "config-refused", 2).remove(1)];
    assert_eq!((&over["state"], &over["reason"]), (&"resolved".into(), &"rule removed".into()));
    assert_eq!((&mended["id"], &mended["state"]), (&refused["id"], &"resolved".into()));
    assert_eq!(gauge(&run, "crosswatch_config_last_reload_successful"), "1");
    assert!(run.is_running());
    terminate(run);
    assert_eq!(told(&webhook, "config-refused", 2).len(), 2, "each bad edit once");
}

#[test]
fn a_silence_that_is_added_mutes_and_what_still_fires_when_it_ends_pages() {
    let (folder, webhook) = (tempfile::tempdir().unwrap(), Hook::new());
    save(folder.path(), &config(&webhook, &rule("3 of 3")));
    let silence = |words: &[&str]| {
        // Root may have a umask that is for root alone, and the alerter is somebody else.
        let mut command = Command::new("sh");
        command.args(["-c", "umask 077; exec \"$0\" silence \"$@\""]).arg(program()).args(words);
        let output = command.current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let id = silence(&["add", "--link", "loop", "--for", "2h", "--why", "cable swap", "--by", "ana"]);
    let mode = fs::metadata(folder.path().join("silences.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let mut run = Process::start(Command::new(program()).current_dir(folder.path()).arg("run"));
    let status = |format: &str| {
        let output = Command::new(program())
            .current_dir(folder.path())
            .args(["status", "--format", format])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let muted = format!("muted: cable swap ({id})");
    wait_until("the outage is judged, and muted", || status("text").contains(&muted));
    let shown = format!("silence {id} of link loop until ");
    assert!(status("text").contains(&shown) && status("text").contains(": cable swap by ana"));
    let json: Value = serde_json::from_str(&status("json")).unwrap();
    assert_eq!(json["silences"][0]["id"], id.as_str());

    // One that is wrong: the former stays in force, and that is told.
    let path = folder.path().join("silences.toml");
    let right = fs::read_to_string(&path).unwrap();
    fs::write(&path, right.replace("\"loop\"", "\"lop\"")).unwrap();
    let refused = told(&webhook, "config-refused", 1).remove(0);
    let text = refused["text"].as_str().unwrap();
    assert!(
        text.starts_with("FIRING config-refused silences.toml: line 4: there is no link 'lop'; did you mean"),
        "{text}"
    );
    assert!(status("text").contains(&muted));
    fs::write(&path, right).unwrap();
    assert_eq!(told(&webhook, "config-refused", 2)[1]["state"], "resolved");

    silence(&["end", &id]);
    let page = told(&webhook, "unreachable", 1).remove(0);
    assert_eq!((&page["state"], &page["link"]), (&"firing".into(), &"loop".into()));
    assert!(run.is_running());
    run.wait_for_text("the silences are in force", BOUND);
    terminate(run);
}
