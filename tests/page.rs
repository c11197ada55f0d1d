//! The status page in a real browser, over the real program: what a person sees, and without a reload.
//!
//! With `CROSSWATCH_PICTURES=FOLDER` it leaves the pictures there that the README shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crosswatch_journal::Writer;
use crosswatch_shared::observation::{Batch, Body, Lost, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use crosswatch_tests::browser::{Browser, require_browser};
use crosswatch_tests::deployment::{BOUND, Deployment, OUTAGE_RULE, terminate, wait_until};
use crosswatch_tests::process::{Process, program};
use crosswatch_tests::service::Service;
use serde_json::{Value, json};

/// Two links between three sites, one of them to this service.
fn deployment(service: &Service, more: &str) -> (Deployment, Process, String) {
    let deployment = Deployment::new(&format!(
        r#"
        [site.us-east-1]
        [site.eu-west-1]
        [site.ap-south-1]
        [[link]]
        name = "use1-euw1"
        between = ["us-east-1", "eu-west-1"]
        probe = [
          {{ from = "us-east-1", name = "there", tcp = "{0}", every = "100ms" }},
          {{ from = "eu-west-1", name = "back", tcp = "127.0.0.1:1", every = "100ms" }},
        ]
        [[link]]
        name = "use1-aps1"
        between = ["us-east-1", "ap-south-1"]
        probe = [{{ from = "us-east-1", name = "there", tcp = "{0}", every = "100ms" }}]
        {OUTAGE_RULE}
        [notify.oncall]
        console = true
        [page]
        listen = "127.0.0.1:0"
        {more}
        [http]
        listen = "127.0.0.1:0"
        "#,
        service.address()
    ));
    fs::write(deployment.path().join("token"), TOKEN).unwrap();
    fs::write(deployment.path().join("silences.toml"), silences()).unwrap();
    see_before(&deployment);
    let mut run = Process::start(Command::new(program()).arg("run").current_dir(deployment.path()));
    let line = run.wait_for_text("status page on ", BOUND);
    let url = line.text.trim_start_matches("status page on ").to_owned();
    (deployment, run, url)
}

/// A silence of half an hour that is over, with what would be markup elsewhere.
fn silences() -> String {
    let now = Timestamp::from(SystemTime::now());
    let ago = |minutes: u64| now - Duration::from_secs(60 * minutes);
    format!(
        r#"
        [[silence]]
        link = "use1-euw1"
        rule = "ping-failed"
        from = "{}"
        until = "{}"
        why = "router <b>swap</b>"
        "#,
        ago(50),
        ago(20)
    )
}

/// How long before the start something was seen, and how far from it an outage began and ended.
const BEFORE: Duration = Duration::from_secs(3 * 3_600);
const OUTAGE: std::ops::Range<u64> = 4_800..5_400;

/// What the sites saw in the hours before: some 80 ms, more while there is much to do, and for ten minutes nothing.
fn see_before(deployment: &Deployment) {
    let now = Timestamp::from(SystemTime::now());
    let journals = deployment.path().join("data/journal");
    fs::create_dir_all(&journals).unwrap();
    let probes = [
        ("us-east-1", "use1-euw1", "there"),
        ("eu-west-1", "use1-euw1", "back"),
        ("us-east-1", "use1-aps1", "there"),
    ];
    for site in ["us-east-1", "eu-west-1", "ap-south-1"] {
        let mut journal = Writer::open(&journals, site).unwrap();
        let mut seq = 0;
        for minute in 0..BEFORE.as_secs() / 60 {
            let mut observations = Vec::new();
            for second in minute * 60..minute * 60 + 60 {
                for (_, link, probe) in probes.iter().filter(|(of, ..)| *of == site) {
                    let lost = *link == "use1-euw1" && OUTAGE.contains(&second);
                    // As if at random, and the same each time.
                    let noise = (second * 7_919 + seq * 104_729) % 1_000;
                    let busy = 12.0 * (second as f64 / 1_500.0).sin().max(0.0);
                    let rtt_ms = 80.0 + busy + 0.01 * noise as f64 + if noise < 15 { 30.0 } else { 0.0 };
                    let outcome = if lost { Outcome::Lost(Lost::Timeout) } else { Outcome::Reply { rtt_ms } };
                    let (link, probe) = ((*link).into(), (*probe).into());
                    observations.push(Observation {
                        at: now - BEFORE + Duration::from_secs(second),
                        seq,
                        body: Body::Probe { link, probe, outcome, detail: None },
                    });
                    seq += 1;
                }
            }
            let through = now - BEFORE + Duration::from_secs(minute * 60 + 59);
            let origin = Origin { site: site.into(), collector: "c".into(), boot: "0".into() };
            journal.append_all([&Batch { origin, number: minute, through, observations }], through).unwrap();
        }
    }
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The class of the matrix's cell from one site to another.
fn cell(row: usize, column: usize) -> String {
    format!(
        "document.querySelector('.matrix tbody tr:nth-child({row}) td:nth-of-type({column})')?.className ?? ''"
    )
}

fn picture(browser: &Browser, name: &str) {
    let png = browser.picture();
    assert!(png.starts_with(b"\x89PNG"));
    if let Some(folder) = std::env::var_os("CROSSWATCH_PICTURES") {
        fs::write(std::path::Path::new(&folder).join(name), png).unwrap();
    }
}

/// What axe finds that keeps somebody from using the page; nothing where axe is not there, which is said.
fn barriers(browser: &Browser, test: &str) -> Vec<Value> {
    let Some(axe) = std::env::var_os("AXE") else {
        eprintln!("NOT RUN: {test}: AXE does not name axe.min.js");
        return Vec::new();
    };
    let axe = fs::read_to_string(axe).unwrap();
    let _ = browser.value(&format!("{axe}; 1"));
    let found =
        browser.value("axe.run(document, { resultTypes: ['violations'] }).then((all) => all.violations)");
    let serious = |of: &&Value| matches!(of["impact"].as_str(), Some("serious" | "critical"));
    let what =
        |of: &Value| json!({ "page": browser.text("location.href"), "id": of["id"], "nodes": of["nodes"] });
    found.as_array().expect("a list").iter().filter(serious).map(what).collect()
}

#[test]
fn an_outage_turns_the_cell_and_the_list_without_a_reload_and_a_graph_is_zoomed() {
    let name = "an_outage_turns_the_cell_and_the_list_without_a_reload_and_a_graph_is_zoomed";
    if !require_browser(name) {
        return;
    }
    let mut service = Service::start();
    let (_deployment, run, url) = deployment(&service, "");
    let browser = Browser::start();
    browser.go(&url);
    let (there, back) = (cell(1, 3), cell(2, 1));
    wait_until("one direction is up, and the other was down from the beginning", || {
        browser.text(&there).starts_with("up") && browser.text(&back).starts_with("down")
    });
    let _ = browser.value("window.mark = 1; document.querySelector('.links a').focus()");

    let begun = Instant::now();
    service.go();
    wait_until("the cell is down", || browser.text(&there).starts_with("down"));
    println!("from the end of the service to the cell: {:?}", begun.elapsed());
    let incidents = "document.querySelector('.incidents')?.textContent ?? ''";
    wait_until("the list has it", || browser.text(incidents).contains("use1-aps1"));
    println!("to the list: {:?}", begun.elapsed());
    assert_eq!(browser.value("window.mark"), json!(1), "it was loaded again");
    assert_eq!(browser.text("document.activeElement.tagName"), "A", "who was somewhere is there still");
    picture(&browser, "overview.png");

    browser.resize(375, 800);
    let incident = browser.text("document.querySelector('.incidents a').getAttribute('href')");
    for path in ["/", "/link/use1-euw1", "/incidents", "/explain?of=use1-euw1", &*incident] {
        browser.go(&format!("{url}{path}"));
        let wide = browser.value("document.documentElement.scrollWidth");
        assert!(wide.as_u64().unwrap() <= 375, "{path} is {wide} wide");
    }
    browser.go(&url);
    picture(&browser, "phone.png");
    browser.resize(1_200, 900);

    browser.go(&format!("{url}/link/use1-euw1?range=6h"));
    wait_until("what was seen before the start is on the graph", || {
        browser.go(&format!("{url}/link/use1-euw1?range=6h"));
        browser.value("document.querySelectorAll('.graph .loss.k4').length") != json!(0)
    });
    let lanes =
        browser.text("[...document.querySelectorAll('.graph text')].map((of) => of.textContent).join('; ')");
    assert!(lanes.contains("; incidents; silences;"), "{lanes}");
    let quiet = browser.text("document.querySelector('.graph .quiet title').textContent");
    assert!(quiet.contains("router <b>swap</b>") && quiet.contains("rule ping-failed"), "{quiet}");
    let why = browser.text("document.querySelector('pre').textContent");
    assert!(why.contains("link use1-euw1 at ") && why.contains("fires when 3 of the newest 3"), "{why}");
    wait_until("what was captured is there", || {
        browser.go(&format!("{url}/link/use1-euw1?range=1h"));
        browser.value("document.querySelectorAll('.bundle').length") != json!(0)
    });
    let _ = browser.value("document.querySelector('.bundle summary').click()");
    let bundle = browser.text("document.querySelector('.bundle[open] dl').innerText");
    assert!(bundle.contains("this machine") && bundle.contains("127.0.0.1"), "{bundle}");
    let version = || browser.text("document.getElementById('main').dataset.version");
    let before = version();
    wait_until("the page is as it is now", || version() != before);
    assert_eq!(
        browser.value("document.querySelectorAll('.bundle[open]').length"),
        json!(1),
        "who reads goes on"
    );
    // Another reads the PNG as it is meant.
    browser.go(&format!("{url}/graph/use1-euw1.png?range=6h"));
    assert_eq!(browser.value("document.images[0].naturalWidth"), json!(1_440));
    browser.resize(900, 820);
    let now = Timestamp::from(SystemTime::now());
    let (from, to) = (now - BEFORE, now - Duration::from_secs(60));
    browser.go(&format!("{url}/link/use1-euw1?from={from}&to={to}"));
    picture(&browser, "link.png");
    browser.resize(1_200, 900);

    browser.go(&format!("{url}/link/use1-euw1?range=1h"));
    let plot = browser.value(
        "(() => { const box = document.querySelector('svg.graph').getBoundingClientRect(); return [box.left, box.top, box.width]; })()",
    );
    let [left, top, width] = [0, 1, 2].map(|place| plot[place].as_f64().unwrap());
    browser.drag((left + width * 0.4, top + 60.0), (left + width * 0.7, top + 60.0));
    browser.wait_for_load();
    let search = browser.text("location.search");
    let range = search
        .trim_start_matches("?from=")
        .split_once("&to=")
        .map(|(from, to)| to.parse::<i64>().unwrap() - from.parse::<i64>().unwrap());
    // Of an hour three tenths of the picture, whose axis takes a little less than all of it.
    assert!(range.is_some_and(|range| (1_080..1_300).contains(&range)), "{search}");
    // Of a time that is over it is told on a page of its own, judged anew.
    let _ = browser.value(
        "[...document.querySelectorAll('main a')].find((of) => of.textContent.startsWith('Why')).click()",
    );
    browser.wait_for_load();
    let why = browser.text("document.querySelector('pre').textContent");
    assert!(why.contains("judged anew from"), "{why}");
    assert_eq!(browser.text("document.getElementById('of').value"), "use1-euw1");
    terminate(run);
}

#[test]
fn every_page_is_for_everybody_in_light_and_dark_and_without_scripts() {
    let name = "every_page_is_for_everybody_in_light_and_dark_and_without_scripts";
    if !require_browser(name) {
        return;
    }
    let service = Service::start();
    let (_deployment, run, url) = deployment(&service, "");
    let browser = Browser::start();
    browser.go(&url);
    let first = "document.querySelector('.incidents a')?.getAttribute('href') ?? ''";
    wait_until("an incident is open", || !browser.text(first).is_empty());
    let incident = browser.text(first);
    let mut found = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        for path in [
            "/",
            "/link/use1-euw1",
            "/incidents",
            &*incident,
            "/explain",
            "/explain?of=use1-euw1",
            "/login-nowhere",
        ] {
            browser.go(&format!("{url}{path}"));
            found.extend(barriers(&browser, name));
        }
    }
    assert!(found.is_empty(), "{}", serde_json::to_string_pretty(&found).unwrap());
    let dark = browser.text("getComputedStyle(document.body).backgroundColor");
    browser.prefer("light");
    assert_ne!(dark, browser.text("getComputedStyle(document.body).backgroundColor"));

    browser.allow_scripts(false);
    browser.go(&url);
    let text = browser.text("document.body.textContent");
    assert!(
        text.contains("of 2 links") && text.contains("target-down") || text.contains("link-lost"),
        "{text}"
    );
    assert_eq!(browser.value("document.querySelectorAll('.matrix td a').length"), json!(3));
    terminate(run);
}

#[test]
fn who_has_the_token_gets_in_and_nobody_else_sees_anything() {
    if !require_browser("who_has_the_token_gets_in_and_nobody_else_sees_anything") {
        return;
    }
    let service = Service::start();
    let (_deployment, run, url) = deployment(&service, "token_file = \"token\"");
    let browser = Browser::start();
    browser.go(&url);
    assert!(
        !browser.text("document.body.textContent").contains("use1"),
        "a name is shown to who has no token"
    );
    let found = barriers(&browser, "who_has_the_token_gets_in_and_nobody_else_sees_anything");
    assert!(found.is_empty(), "{found:?}");
    let enter = |token: &str| {
        let _ = browser.value(&format!(
            "document.getElementById('token').value = '{token}'; document.querySelector('form').requestSubmit()"
        ));
        browser.wait_for_load();
    };
    enter("wrong");
    assert!(browser.text("document.body.textContent").contains("not the token"));
    enter(TOKEN);
    assert!(browser.text("document.body.textContent").contains("use1-euw1"));
    assert_eq!(browser.text("document.cookie"), "", "no script sees the cookie");
    browser.go(&format!("{url}/link/use1-aps1"));
    assert!(browser.text("document.title").starts_with("use1-aps1"));
    terminate(run);
}
