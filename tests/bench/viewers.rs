//! Cut to notification with 100 live viewers of the page and with none, in turn over one running program: what watching costs the
//! watched.
//!
//! A service on loopback goes and comes back; a probe asks it every 100 ms, a rule fires at `3 of 3`, a webhook is told. A viewer
//! is who the page's script is: he hears the events, and asks for the overview anew at each.
//! `cargo bench -p crosswatch-tests --bench viewers -- [trials]`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crosswatch_tests::deployment::{BOUND, Deployment, terminate};
use crosswatch_tests::hook::Hook;
use crosswatch_tests::process::{Process, program};
use crosswatch_tests::service::Service;

const VIEWERS: usize = 100;
/// How many links besides the one that fails, so that a page is one.
const LINKS: usize = 100;

fn main() {
    let trials: usize = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(20);
    let (hook, mut service) = (Hook::new(), Service::start());
    let deployment = Deployment::new(&config(&service, &hook));
    let mut run = Process::start(Command::new(program()).arg("run").current_dir(deployment.path()));
    let line = run.wait_for_text("status page on http://", BOUND);
    let address: SocketAddr = line.text.trim_start_matches("status page on http://").parse().unwrap();
    run.wait_for_text("no open incidents", BOUND);

    println!("milliseconds from the end of the service to the webhook, {trials} trials of each, in turn");
    let mut told = 0;
    let mut times = [Vec::new(), Vec::new()];
    let asked = Arc::new(AtomicU64::new(0));
    // The first of each only shows that all is at work.
    for trial in 0..=trials {
        for (viewers, times) in [0, VIEWERS].into_iter().zip(&mut times) {
            let watching: Vec<_> = (0..viewers).map(|_| Viewer::start(address, &asked)).collect();
            thread::sleep(Duration::from_secs(2) + random_below(Duration::from_secs(1)));
            let begun = Instant::now();
            service.go();
            let firing = hook.wait_for(told + 1, BOUND)[told].clone();
            assert_eq!(firing.json()["state"], "firing", "{firing:?}");
            service.come_back();
            assert_eq!(hook.wait_for(told + 2, BOUND)[told + 1].json()["state"], "resolved");
            told += 2;
            watching.into_iter().for_each(Viewer::stop);
            if trial > 0 {
                times.push(firing.at - begun);
            }
        }
    }
    let [none, many] = times.map(|mut times| {
        times.sort();
        times
    });
    if trials > 0 {
        for (name, times) in [("no viewer", &none), ("100 viewers", &many)] {
            let ms = |of: Duration| of.as_secs_f64() * 1e3;
            println!(
                "{name:<12} median {:>6.1}  least {:>6.1}  worst {:>6.1}",
                ms(times[trials / 2]),
                ms(times[0]),
                ms(times[trials - 1])
            );
        }
        let ratio = many[trials / 2].as_secs_f64() / none[trials / 2].as_secs_f64();
        println!(
            "ratio of the medians {ratio:.3}; the viewers asked {} times",
            asked.load(Ordering::Relaxed)
        );
    }
    terminate(run);
}

fn config(service: &Service, hook: &Hook) -> String {
    let link = |number: usize| {
        format!(
            "[[link]]\nname = \"link-{number:03}\"\nbetween = [\"here\"]\n\
             probe = [{{ from = \"here\", name = \"p\", icmp = \"127.0.0.1\", every = \"1s\" }}]\n"
        )
    };
    let links: String = (0..LINKS).map(link).collect();
    format!(
        r#"
        [site.here]
        {links}
        [[link]]
        name = "watched"
        between = ["here"]
        probe = [{{ from = "here", name = "p", tcp = "{}", every = "100ms", timeout = "100ms" }}]
        [[rule]]
        name = "ping-failed"
        metric = "ping_ok"
        below = 1
        breach = "3 of 3"
        subjects = ["watched/*"]
        notify = ["hook"]
        [notify.hook]
        webhook = "{}"
        at_most = "100000 per 1h"
        [page]
        listen = "127.0.0.1:0"
        [http]
        listen = "127.0.0.1:0"
        "#,
        service.address(),
        hook.url()
    )
}

/// Who looks live.
struct Viewer {
    events: TcpStream,
    looking: JoinHandle<()>,
}

impl Viewer {
    fn start(address: SocketAddr, asked: &Arc<AtomicU64>) -> Self {
        let mut events = TcpStream::connect(address).unwrap();
        events.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let (mut heard, asked) = (events.try_clone().unwrap(), Arc::clone(asked));
        let looking = thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while heard.read(&mut bytes).is_ok_and(|count| count > 0) {
                let Ok(mut stream) = TcpStream::connect(address) else { continue };
                let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
                let mut page = Vec::new();
                let _ = stream.read_to_end(&mut page);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { events, looking }
    }

    fn stop(self) {
        let _ = self.events.shutdown(Shutdown::Both);
        self.looking.join().unwrap();
    }
}

fn random_below(most: Duration) -> Duration {
    let random = RandomState::new().hash_one(Instant::now());
    most.mul_f64((random % 1_000) as f64 / 1_000.0)
}
