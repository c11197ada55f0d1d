//! A drill with real processes: what it says when a stage does not run, each hop when all do, and that nothing else comes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
mod program;

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use program::{Stage, command, until};
use serde_json::Value;

struct Scene {
    folder: tempfile::TempDir,
    _web: TcpListener,
}

impl Scene {
    fn new() -> Self {
        let web = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = web.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            r#"
            [site.here]
            [[link]]
            name = "l"
            between = ["here"]
            probe = [{{ from = "here", name = "web", tcp = "127.0.0.1:{port}" }}]
            [[rule]]
            name = "unreachable"
            metric = "ping_ok"
            below = 1
            notify = ["me"]
            [[rule]]
            name = "on-trial"
            metric = "ping_ok"
            below = 1
            [notify.me]
            command = ["tee", "-a", "pages.jsonl"]
            at_most = "1 per 1h"
            [http]
            listen = "127.0.0.1:0"
            "#
        );
        std::fs::write(folder.path().join("crosswatch.toml"), config).unwrap();
        Self { folder, _web: web }
    }

    fn start(&self, args: &[&str]) -> Stage {
        Stage::start(&mut command(self.folder.path(), args))
    }

    fn run(&self, args: &[&str]) -> Output {
        command(self.folder.path(), args).output().unwrap()
    }

    /// What a drill said, and why it failed.
    fn drill(&self, args: &[&str]) -> (String, Result<(), String>) {
        let output = self.run(&[&["drill"], args].concat());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (said, error) = (text(output.stdout), text(output.stderr));
        (said, if output.status.success() { Ok(()) } else { Err(error) })
    }

    fn pages(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("pages.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn has(&self, file: &str) -> bool {
        Path::new(self.folder.path()).join(file).exists()
    }
}

#[test]
fn each_hop_is_told_or_named_when_it_does_not_answer() {
    let scene = Scene::new();
    let (said, result) = scene.drill(&["--wait", "200ms"]);
    let error = result.unwrap_err();
    assert!(said.starts_with("drill-") && said.lines().count() == 1, "{said}");
    assert!(error.contains("the collector of here has not answered within 200ms"), "{error}");
    assert!(error.contains("'crosswatch collector --site here'; the request is withdrawn"), "{error}");
    assert!(!scene.has("data/drill/here.json"));

    let _collector = scene.start(&["collector", "--site", "here"]);
    until("the journal is there", || scene.has("data/journal/here.db").then_some(()));
    let (said, result) = scene.drill(&["--wait", "5s"]);
    let error = result.unwrap_err();
    assert!(said.contains("ms  collector observed it") && said.contains("ms  journal has it"), "{said}");
    assert!(error.contains("the alerter has not answered within 5s"), "{error}");

    // It lies in the queue, and whoever was promised a page gets it.
    let alerter = scene.start(&["alerter"]);
    // Both in their order: the second is tried once the first was accepted.
    alerter.says("state=\"resolved\" tries=1");
    assert_eq!(scene.pages().len(), 2);

    let (said, result) = scene.drill(&["--rule", "unreachable"]);
    assert_eq!(result, Ok(()), "{said}");
    let hops: Vec<&str> = said.lines().skip(1).filter_map(|line| Some(line.split_once(" ms  ")?.1)).collect();
    assert_eq!(
        hops,
        [
            "collector observed it",
            "journal has it",
            "ledger owes it",
            "me by command accepted firing",
            "me by command accepted resolved"
        ],
        "{said}"
    );
    let pages = scene.pages();
    let told: Vec<(&str, &str, bool)> = pages
        .iter()
        .map(|page| {
            let text = page["text"].as_str().unwrap();
            (page["rule"].as_str().unwrap(), text.split(" here").next().unwrap(), page["drill"] == true)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("drill", "DRILL FIRING drill", true),
            ("drill", "DRILL RESOLVED drill", true),
            ("unreachable", "DRILL FIRING unreachable", true),
            ("unreachable", "DRILL RESOLVED unreachable", true),
        ]
    );

    let status: Value = serde_json::from_slice(&scene.run(&["status", "--format", "json"]).stdout).unwrap();
    assert_eq!(
        (&status["incidents"], &status["owed"]),
        (&Value::from(vec![(); 0]), &Value::from(vec![(); 0]))
    );
    let exported = String::from_utf8(scene.run(&["export"]).stdout).unwrap();
    assert_eq!(exported.matches("\"kind\":\"drill\"").count(), 2, "{exported}");
    let explained = String::from_utf8(scene.run(&["explain", "l/here/web"]).stdout).unwrap();
    assert!(explained.contains("no incident of it is known"), "{explained}");
}

#[test]
fn a_drill_that_nobody_would_hear_is_refused() {
    let scene = Scene::new();
    for (args, why) in [
        (["--rule", "unreachabel"], "the config has no rule 'unreachabel'; the nearest is 'unreachable'"),
        (["--rule", "on-trial"], "rule 'on-trial' tells nobody: it has no notify"),
        (["--site", "there"], "--site there: the config has no such site; it has here"),
    ] {
        let (said, result) = scene.drill(&args);
        assert!(said.is_empty(), "{said}");
        let error = result.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    assert!(!scene.has("data/drill"), "nothing was asked for");
}
