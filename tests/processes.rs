//! What an operator meets around a job: its HTTP listener, its refusals to start, its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use crosswatch_tests::deployment::{BOUND, Deployment, terminate, wait_until};
use crosswatch_tests::hook::{Answer, Hook};
use crosswatch_tests::http;
use crosswatch_tests::netns::{Namespace, Pair};
use crosswatch_tests::process::{Process, Stream};
use crosswatch_tests::root::require_root;
use nix::sys::signal::Signal;

const JOBS: [&[&str]; 4] = [&["run"], &["collector", "--site", "a"], &["publisher"], &["alerter"]];

/// The cable watched from one end.
fn config(more: &str) -> String {
    format!(
        r#"
        [site.a]
        [site.b]
        [[link]]
        name = "cable"
        between = ["a", "b"]
        probe = [{{ from = "a", icmp = "192.0.2.2", every = "200ms", timeout = "500ms" }}]
        [[rule]]
        name = "ping-failed"
        metric = "ping_ok"
        below = 1
        breach = "3 of 3"
        notify = ["oncall"]
        {more}
        "#
    )
}

const ANY_PORT: &str = "[notify.oncall]\ncommand = ['true']\n[http]\nlisten = '127.0.0.1:0'";

/// The address that a job says it listens on.
fn listening(process: &mut Process) -> SocketAddr {
    let line = process.wait_for_text("listening on http://", BOUND).text;
    line.rsplit_once('/').expect("an address").1.parse().unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn get(inside: &Namespace, address: SocketAddr, path: &str) -> http::Response {
    inside.enter(|| http::get(address, path)).unwrap_or_else(|error| panic!("{address}{path}: {error}"))
}

#[test]
fn every_job_listens_on_its_own_port_of_the_loopback_alone() {
    if !require_root("every_job_listens_on_its_own_port_of_the_loopback_alone") {
        return;
    }
    let pair = Pair::new();
    let deployment = Deployment::new(&config("[notify.oncall]\ncommand = ['true']"));
    let mut running = Vec::new();
    // `run` would take the collector's port and its journal.
    for (job, port, metric) in [
        (JOBS[1], 9464, "crosswatch_collector_"),
        (JOBS[2], 9465, "crosswatch_publisher_"),
        (JOBS[3], 9466, "crosswatch_alerter_"),
    ] {
        let mut process = deployment.start(&pair.a, job);
        let address = listening(&mut process);
        assert_eq!(address, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "{job:?}");
        wait_until(&format!("{job:?} is ready"), || get(&pair.a, address, "/readyz").status == 200);
        assert_eq!(get(&pair.a, address, "/readyz").body, "ready\n");
        let health = get(&pair.a, address, "/healthz");
        assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
        let metrics = get(&pair.a, address, "/metrics");
        assert!(metrics.status == 200 && metrics.body.contains(metric), "{}", metrics.body);
        assert!(metrics.body.ends_with("# EOF\n"), "OpenMetrics ends so: {}", metrics.body);
        assert_eq!(get(&pair.a, address, "/").status, 404);
        // The other end of the cable reaches the machine, but not its listener.
        let outside = SocketAddr::from((pair.a.v4, port));
        let refused = pair.b.enter(|| TcpStream::connect_timeout(&outside, BOUND)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        running.push(process);
    }
    running.into_iter().for_each(terminate);
}

#[test]
fn all_in_one_process_is_ready_when_all_of_it_is() {
    if !require_root("all_in_one_process_is_ready_when_all_of_it_is") {
        return;
    }
    let pair = Pair::new();
    let deployment = Deployment::new(&config(ANY_PORT));
    let mut run = deployment.start(&pair.a, JOBS[0]);
    let address = listening(&mut run);
    assert!(address.ip().is_loopback() && ![0, 9464].contains(&address.port()), "{address}");
    wait_until("it is ready", || get(&pair.a, address, "/readyz").status == 200);
    let metrics = get(&pair.a, address, "/metrics").body;
    for stage in ["collector", "publisher", "alerter"] {
        assert!(metrics.contains(&format!("\ncrosswatch_{stage}_")), "{stage}: {metrics}");
    }
    run.signal(Signal::SIGINT);
    assert!(run.wait_exit(BOUND).success(), "{:#?}", run.lines());
}

/// Starts a job that must refuse to: what it says.
fn refused(deployment: &Deployment, inside: &Namespace, job: &[&str]) -> String {
    let mut process = deployment.start(inside, job);
    let status = process.wait_exit(BOUND);
    let said = process.text(Stream::Err);
    assert_eq!(status.code(), Some(1), "{job:?}: {said}");
    said
}

#[test]
fn what_is_taken_is_refused_by_name() {
    if !require_root("what_is_taken_is_refused_by_name") {
        return;
    }
    let pair = Pair::new();
    let deployment = Deployment::new(&config(ANY_PORT));
    let running: Vec<_> = JOBS[1..].iter().map(|job| deployment.start(&pair.a, job)).collect();
    deployment.wait_for_probes("up");
    wait_until("the stages have their files", || {
        ["publisher.db", "alerter.db"].iter().all(|file| deployment.path().join("data").join(file).exists())
    });

    // A second one of each would count or tell twice.
    for (job, owner, of) in [
        (JOBS[1], &running[0], "the journal of site 'a'"),
        (JOBS[0], &running[1], "the publisher's file"),
        (JOBS[2], &running[1], "the publisher's file"),
        (JOBS[3], &running[2], "the alerter's file"),
    ] {
        let said = refused(&deployment, &pair.b, job);
        assert!(said.contains(of) && said.contains(&owner.id().to_string()), "{job:?}: {said}");
    }

    // A port that somebody has.
    let listener = pair.b.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let taken = listener.local_addr().unwrap().to_string();
    let elsewhere = Deployment::new(&config(&ANY_PORT.replace("127.0.0.1:0", &taken)));
    for job in JOBS {
        let said = refused(&elsewhere, &pair.b, job);
        assert!(said.contains(&taken) && said.contains("[http] listen"), "{job:?}: {said}");
    }
    running.into_iter().for_each(terminate);
}

#[test]
fn a_job_that_is_still_starting_ends_well_too() {
    if !require_root("a_job_that_is_still_starting_ends_well_too") {
        return;
    }
    let pair = Pair::new();
    for job in JOBS {
        let deployment = Deployment::new(&config(ANY_PORT));
        let mut process = deployment.start(&pair.a, job);
        // This is said before the stages are opened.
        listening(&mut process);
        terminate(process);
    }
}

#[test]
fn all_in_one_process_ends_well_in_the_middle_of_an_outage() {
    if require_root("all_in_one_process_ends_well_in_the_middle_of_an_outage") {
        end_in_an_outage(&JOBS[..1], Signal::SIGTERM);
    }
}

#[test]
fn every_job_ends_well_in_the_middle_of_an_outage() {
    if require_root("every_job_ends_well_in_the_middle_of_an_outage") {
        end_in_an_outage(&JOBS[1..], Signal::SIGINT);
    }
}

/// Ends the jobs while the cable is cut and the receiver takes the page but does not answer.
fn end_in_an_outage(jobs: &[&[&str]], signal: Signal) {
    let pair = Pair::new();
    let webhook = Hook::inside(&pair.a);
    webhook.answer(Answer::Hang);
    let receiver = format!("[notify.oncall]\nwebhook = '{}'\n[http]\nlisten = '127.0.0.1:0'", webhook.url());
    let deployment = Deployment::new(&config(&receiver));
    let running: Vec<_> = jobs.iter().map(|job| deployment.start(&pair.a, job)).collect();
    deployment.wait_for_probes("up");
    pair.b.cut();
    let _ = webhook.wait_for(1, BOUND);
    running.iter().for_each(|process| process.signal(signal));
    for mut process in running {
        let status = process.wait_exit(BOUND);
        assert!(status.success(), "{signal}: {status}: {:#?}", process.lines());
    }
    // The page is still owed.
    let status = deployment.status();
    assert_eq!(status["owed"].as_array().unwrap().len(), 1, "{status:#}");
}
