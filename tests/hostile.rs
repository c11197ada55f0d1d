//! The page under those who mean ill, beside the real program at work: what it watches is judged as ever, and its memory stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crosswatch_tests::deployment::{BOUND, Deployment, OUTAGE_RULE, assert_each_once, terminate};
use crosswatch_tests::hook::Hook;
use crosswatch_tests::process::{Process, program};
use crosswatch_tests::service::Service;

/// How many ask all the time, and how many requests a second all of them send together, whether they are answered or not.
const ASKING: u32 = 16;
const OFFERED: u32 = 10_000;
/// How many requests one sends at once.
const AT_ONCE: u32 = 25;
/// How much more memory the process may have after than before, in bytes.
const MORE: u64 = 64 << 20;

/// What is asked for among requests for the overview, one after the other.
const ODD: [&str; 5] = [
    "/api/v1/state",
    "/link/l?range=<script>alert(1)</script>",
    "/link/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    "/api/v1/explain?of=%1b%5b2J%3Cscript%3E",
    "/incident/..%2f..%2fetc%2fpasswd",
];

/// What came of asking.
#[derive(Debug, Default)]
struct Tally {
    sent: AtomicU64,
    answered: AtomicU64,
    busy: AtomicU64,
    broken: AtomicU64,
}

/// Sends its share of the requests until it is stopped; another thread reads what is answered.
fn ask(address: SocketAddr, tally: &Arc<Tally>, stop: &AtomicBool) {
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let pause = Duration::from_secs(1) * AT_ONCE * ASKING / OFFERED;
    let (mut next, mut turn) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        let (answers, told) = (stream.try_clone().unwrap(), Arc::clone(tally));
        let reader = thread::spawn(move || read(answers, &told));
        while !stop.load(Ordering::Relaxed) {
            // Whoever is behind sends at once, as far as the other side takes it.
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next += pause;
            turn += 1;
            let requests = request("/").repeat(AT_ONCE as usize - 1) + &request(ODD[turn % ODD.len()]);
            if stream.write_all(requests.as_bytes()).is_err() {
                break;
            }
            tally.sent.fetch_add(u64::from(AT_ONCE), Ordering::Relaxed);
        }
        let _ = stream.shutdown(Shutdown::Both);
        reader.join().unwrap();
    }
}

/// Counts what is answered, to the connection's end.
fn read(mut answers: TcpStream, tally: &Tally) {
    const START: &str = "HTTP/1.1 200";
    let (mut bytes, mut text) = (vec![0; 1 << 16], String::new());
    while let Ok(count @ 1..) = answers.read(&mut bytes) {
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        assert!(!text.contains("<script>alert"), "{text}");
        let count = |status: &str| text.matches(&format!("HTTP/1.1 {status}")).count() as u64;
        tally.answered.fetch_add(count("200") + count("404"), Ordering::Relaxed);
        tally.busy.fetch_add(count("503"), Ordering::Relaxed);
        tally.broken.fetch_add(count("500"), Ordering::Relaxed);
        // The start of an answer may be in two pieces.
        let rest = text.char_indices().rev().nth(START.len() - 2).map_or(0, |(place, _)| place);
        text.drain(..rest);
    }
}

/// Sends ten megabytes where some bytes are expected, again and again.
fn flood(address: SocketAddr, stop: &AtomicBool) {
    let chunk = [b'x'; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        let head = "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10485760\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        for _ in 0..160 {
            if stop.load(Ordering::Relaxed) || stream.write_all(&chunk).is_err() {
                break;
            }
        }
    }
}

#[test]
fn ten_thousand_requests_a_second_slow_clients_and_ten_megabytes_leave_the_watching_as_it_is() {
    let hook = Hook::new();
    let mut service = Service::start();
    let deployment = Deployment::new(&format!(
        r#"
        [site.here]
        [[link]]
        name = "l"
        between = ["here"]
        probe = [{{ from = "here", name = "p", tcp = "{}", every = "100ms" }}]
        {OUTAGE_RULE}
        [notify.oncall]
        webhook = "{}"
        at_most = "100000 per 1h"
        [page]
        listen = "127.0.0.1:0"
        [http]
        listen = "127.0.0.1:0"
        "#,
        service.address(),
        hook.url()
    ));
    let mut run = Process::start(Command::new(program()).arg("run").current_dir(deployment.path()));
    let line = run.wait_for_text("status page on http://", BOUND);
    let address: SocketAddr = line.text.trim_start_matches("status page on http://").parse().unwrap();
    deployment.wait_for_probes("up");
    let before = run.resident();

    let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let begun = Instant::now();
    let mut threads = Vec::new();
    for _ in 0..ASKING {
        let (tally, stop) = (Arc::clone(&tally), Arc::clone(&stop));
        threads.push(thread::spawn(move || ask(address, &tally, &stop)));
    }
    let until = Arc::clone(&stop);
    threads.push(thread::spawn(move || flood(address, &until)));
    // Those who say half of what they want, and those who never read what they are told.
    let slow: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut stream = TcpStream::connect(address).unwrap();
            let said =
                if number % 2 == 0 { "GET / HTT" } else { "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n" };
            let _ = stream.write_all(said.as_bytes());
            stream
        })
        .collect();

    // Meanwhile the link fails and comes back, three times, and each is told once.
    for turn in 0..3 {
        for (state, count) in [("firing", 2 * turn + 1), ("resolved", 2 * turn + 2)] {
            let cut = Instant::now();
            if state == "firing" {
                service.go()
            } else {
                service.come_back()
            }
            let told = hook.wait_for(count, BOUND);
            assert_eq!(told[count - 1].json()["state"], state, "{told:#?}");
            println!("{state} after {:?}", told[count - 1].at - cut);
        }
    }
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let took = begun.elapsed();
    let after = run.resident();
    println!(
        "{OFFERED} a second to be sent; {tally:?} in {took:.1?}; {:.1} MB before, {:.1} MB after",
        before as f64 / 1e6,
        after as f64 / 1e6
    );
    assert!(tally.answered.load(Ordering::Relaxed) > 0);
    assert_eq!(tally.broken.load(Ordering::Relaxed), 0, "nothing that was asked breaks a page");
    assert!(after < before + MORE, "{before} bytes before, {after} after");
    drop(slow);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => assert!(text.starts_with("HTTP/1.1 200"), "who comes afterwards is served: {text}"),
    }
    terminate(run);
    // Nothing that was observed is lost or twice.
    assert!(assert_each_once(&deployment.export()) > 0);
    assert_eq!(hook.all().len(), 6, "{:#?}", hook.all());
}
