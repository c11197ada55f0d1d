//! The page's interface for programs, over the real program: every route is described, and what is answered is what the description
//! says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use crosswatch_tests::deployment::{BOUND, Deployment, OUTAGE_RULE, terminate, wait_until};
use crosswatch_tests::described::wrong;
use crosswatch_tests::http;
use crosswatch_tests::process::{Process, program};
use serde_json::Value;

fn config() -> String {
    format!(
        r#"
        [site.us-east-1]
        [site.eu-west-1]
        [[link]]
        name = "use1-euw1"
        between = ["us-east-1", "eu-west-1"]
        probe = [
          {{ from = "us-east-1", name = "there", tcp = "127.0.0.1:1", every = "100ms" }},
          {{ from = "eu-west-1", name = "back", icmp = "127.0.0.1", every = "100ms" }},
        ]
        {OUTAGE_RULE}
        [[rule]]
        name = "slow"
        metric = "latency_ms"
        above = "2 x baseline"
        breach = "3 of 3"
        [notify.oncall]
        console = true
        [page]
        listen = "127.0.0.1:0"
        [http]
        listen = "127.0.0.1:0"
        "#
    )
}

const SILENCES: &str = r#"
    [[silence]]
    link = "use1-euw1"
    rule = "slow"
    until = "2099-01-01T00:00:00Z"
    why = "router swap"
"#;

fn get(address: SocketAddr, path: &str) -> (u16, Value) {
    let answer = http::get(address, path).unwrap();
    (
        answer.status,
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", answer.body)),
    )
}

#[test]
fn every_route_is_described_and_answers_as_it_is_described() {
    let deployment = Deployment::new(&config());
    fs::write(deployment.path().join("silences.toml"), SILENCES).unwrap();
    let mut run = Process::start(Command::new(program()).arg("run").current_dir(deployment.path()));
    let line = run.wait_for_text("status page on http://", BOUND);
    let address: SocketAddr = line.text.trim_start_matches("status page on http://").parse().unwrap();
    let state = || get(address, "/api/v1/state").1;
    let told = |state: &Value| state["judged"]["incidents"][0]["id"].as_str().map(str::to_owned);
    wait_until("an incident is open, and a silence on", || {
        let state = state();
        told(&state).is_some() && !state["judged"]["silences"][0].is_null()
    });
    let id = told(&state()).unwrap();
    let (status, described) = get(address, "/api/v1/openapi.json");
    assert_eq!((status, described["openapi"].as_str()), (200, Some("3.1.0")));
    let paths = described["paths"].as_object().unwrap();
    let known: Vec<&str> = paths.keys().map(String::as_str).collect();
    assert_eq!(known.len(), 6, "{known:?}");
    let documented = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/page.md")).unwrap();

    let values = HashMap::from([
        ("id", &*id),
        ("link", "use1-euw1"),
        ("of", "use1-euw1/us-east-1/there"),
        ("range", "1h"),
    ]);
    let seen = || get(address, "/api/v1/series?link=use1-euw1&range=1h").1;
    wait_until("what was seen is kept", || !seen()[0]["points"][0].is_null());
    for (path, route) in paths {
        assert!(documented.contains(&path.replace("{id}", "ID")), "docs/page.md does not tell of {path}");
        let mut url = path.clone();
        for parameter in route["get"]["parameters"].as_array().unwrap() {
            let name = parameter["name"].as_str().unwrap();
            let Some(value) = values.get(name) else { continue };
            if parameter["in"] == "path" {
                url = url.replace(&format!("{{{name}}}"), value);
            } else {
                url = format!("{url}{}{name}={value}", if url.contains('?') { '&' } else { '?' });
            }
        }
        let (status, answer) = get(address, &url);
        assert_eq!(status, 200, "{url}: {answer}");
        let schema = &route["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        assert_eq!(wrong(&described, schema, &answer, &url), [""; 0]);
        assert!(!answer.as_array().is_some_and(Vec::is_empty), "{url} answers with nothing");
        // The other side: what is not described is found.
        let odd = serde_json::json!({ "odd": 1 });
        assert!(
            path.ends_with("openapi.json") || !wrong(&described, schema, &odd, "odd").is_empty(),
            "{url}"
        );
    }
    let problem =
        &described["paths"]["/api/v1/state"]["get"]["responses"]["default"]["content"]["application/json"];
    for url in [
        "/api/v1/none",
        "/api/v1/explain?of=none",
        "/api/v1/explain?of=use1-euw1&at=soon",
        "/api/v1/incidents/none",
    ] {
        let (status, answer) = get(address, url);
        assert_eq!(
            (status, wrong(&described, &problem["schema"], &answer, url)),
            (404, Vec::new()),
            "{answer}"
        );
    }
    let report = http::get(address, &format!("/incident/{id}/report")).unwrap();
    assert!(report.status == 200 && report.body.contains("ping-failed"), "{}", report.body);
    // A moment of the past is judged anew, from the journals.
    let since = state()["links"][0]["directions"][0]["probes"][0]["since"].as_str().unwrap().to_owned();
    let then = get(address, &format!("/api/v1/explain?of=use1-euw1&at={since}")).1;
    assert_eq!(then["basis"]["by"], "history", "{then}");
    terminate(run);
}
