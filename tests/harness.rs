//! The harness itself: what it says it does to packets, processes and notifications, it does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crosswatch_tests::hook::{Answer, CommandHook, Hook};
use crosswatch_tests::http;
use crosswatch_tests::netns::{Namespace, Pair, Reject};
use crosswatch_tests::process::{self, Process, Stream};
use crosswatch_tests::root::require_root;

/// Far longer than anything here takes.
const BOUND: Duration = Duration::from_secs(30);

/// How one ping ended, as `ping` tells it.
#[derive(Debug, PartialEq, Eq)]
enum Ping {
    Reply,
    Lost,
    Refused,
}

fn ping(from: &Namespace, to: impl ToString) -> Ping {
    let output = from.exec(&format!("ping -n -c 1 -W 1 {}", to.to_string()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.code() {
        Some(0) => Ping::Reply,
        Some(1) if text.contains("+1 errors") => Ping::Refused,
        Some(1) => Ping::Lost,
        code => panic!("ping: {code:?}: {text} {}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn a_cut_drops_both_families_and_heals() {
    if !require_root("a_cut_drops_both_families_and_heals") {
        return;
    }
    let pair = Pair::new();
    for address in pair.b.addresses() {
        assert_eq!(ping(&pair.a, address), Ping::Reply);
        pair.b.cut();
        assert_eq!(ping(&pair.a, address), Ping::Lost);
        pair.b.heal();
        assert_eq!(ping(&pair.a, address), Ping::Reply);
    }
}

#[test]
fn a_refusal_is_told_from_a_loss() {
    if !require_root("a_refusal_is_told_from_a_loss") {
        return;
    }
    let pair = Pair::new();
    for how in [Reject::HostUnreachable, Reject::AdminProhibited] {
        pair.b.reject(how);
        for address in pair.b.addresses() {
            assert_eq!(ping(&pair.a, address), Ping::Refused, "{how:?} {address}");
        }
    }
    let connect =
        |address| pair.a.enter(|| TcpStream::connect_timeout(&address, BOUND).map_err(|error| error.kind()));
    for address in pair.b.addresses() {
        let listener = pair.b.enter(|| TcpListener::bind((address, 0)).unwrap());
        let target = listener.local_addr().unwrap();
        pair.b.heal();
        connect(target).unwrap();
        pair.b.reject(Reject::TcpReset);
        assert_eq!(connect(target).unwrap_err(), std::io::ErrorKind::ConnectionRefused);
        assert_eq!(ping(&pair.a, address), Ping::Reply, "a reset is for TCP only");
    }
}

#[test]
fn a_loss_takes_some_packets_and_leaves_others() {
    if !require_root("a_loss_takes_some_packets_and_leaves_others") {
        return;
    }
    let pair = Pair::new();
    pair.b.lose(50);
    // The chance that one of the two never comes is 2^-99.
    let output = pair.a.exec(&format!("ping -n -q -c 100 -i 0.002 -W 1 {}", pair.b.v4));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let received = text.split(", ").find_map(|part| part.strip_suffix(" received")).expect("ping's summary");
    let received: u32 = received.parse().unwrap();
    assert!((1..100).contains(&received), "{text}");
    pair.b.lose(100);
    assert_eq!(ping(&pair.a, pair.b.v4), Ping::Lost);
    pair.b.lose(0);
    assert_eq!(ping(&pair.a, pair.b.v4), Ping::Reply);
}

#[test]
fn pairs_do_not_reach_each_other_and_leave_nothing_behind() {
    if !require_root("pairs_do_not_reach_each_other_and_leave_nothing_behind") {
        return;
    }
    let first = Pair::new();
    let second = Pair::new();
    first.b.cut();
    assert_eq!(ping(&second.a, second.b.v4), Ping::Reply);

    let files = |pair: &Pair| -> Vec<PathBuf> { [&pair.a, &pair.b].iter().map(|side| side.file()).collect() };
    let all: Vec<_> = files(&first).into_iter().chain(files(&second)).collect();
    assert!(all.iter().all(|file| file.exists()), "{all:?}");
    drop(first);
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _second = second;
        std::panic::resume_unwind(Box::new("a failed test"))
    }));
    assert!(panicked.is_err());
    assert!(all.iter().all(|file| !file.exists()), "{all:?}");
}

/// Makes a namespace as a process would that was killed: its pid is one that can't be.
#[test]
fn namespaces_of_dead_processes_are_removed_and_what_ran_in_them_is_ended() {
    if !require_root("namespaces_of_dead_processes_are_removed_and_what_ran_in_them_is_ended") {
        return;
    }
    let orphan = Namespace::of_process(u32::MAX);
    let file = orphan.file();
    let mut inside = Process::start(orphan.command("sh").args(["-c", "echo up; exec sleep 1000"]));
    inside.wait_for_text("up", BOUND);
    std::mem::forget(orphan);
    crosswatch_tests::netns::remove_orphans();
    assert!(!file.exists());
    assert!(!inside.wait_exit(BOUND).success());
}

#[test]
fn ping_sockets_are_refused_until_allowed() {
    if !require_root("ping_sockets_are_refused_until_allowed") {
        return;
    }
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    let pair = Pair::new();
    let open = || {
        let kind = (AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), SockProtocol::Icmp);
        pair.a.enter(|| socket(kind.0, kind.1, kind.2, kind.3).map(drop))
    };
    assert_eq!(open(), Err(nix::Error::EACCES));
    pair.a.allow_ping_sockets(0..=i32::MAX as u32);
    assert_eq!(open(), Ok(()));
}

#[test]
fn output_is_seen_line_by_line_and_in_order() {
    let mut process = Process::start(
        Command::new("sh").args(["-c", "echo one; echo two; echo one; echo last >&2; exit 3"]),
    );
    let one = process.wait_for_text("one", BOUND);
    assert_eq!((one.stream, one.text.as_str()), (Stream::Out, "one"));
    let again = process.wait_for_text("one", BOUND);
    assert!(again.at >= one.at);
    assert_eq!(process.wait_exit(BOUND).code(), Some(3));
    assert_eq!(process.text(Stream::Out), "one\ntwo\none\n");
    assert_eq!(process.text(Stream::Err), "last\n");
}

#[test]
fn a_line_that_never_comes_ends_with_what_was_printed() {
    let mut process = Process::start(Command::new("echo").arg("something else"));
    let panic = catch_unwind(AssertUnwindSafe(|| process.wait_for_text("this", BOUND))).unwrap_err();
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains("something else"), "{text}");
}

#[test]
fn a_dropped_process_is_gone_and_no_other() {
    let sleep = || {
        let mut process = Process::start(Command::new("sh").args(["-c", "echo up; exec sleep 1000"]));
        process.wait_for_text("up", BOUND);
        process
    };
    let (first, second) = (sleep(), sleep());
    let exists = |id: u32| Path::new("/proc").join(id.to_string()).exists();
    let id = first.id();
    assert!(exists(id) && first.is_running());
    drop(first);
    assert!(!exists(id));
    assert!(exists(second.id()) && second.is_running());
    assert!(second.resident() > 0);
}

#[test]
fn the_program_is_built_and_starts() {
    let mut process = Process::start(Command::new(process::program()).arg("--version"));
    process.wait_exit(BOUND);
}

fn post(hook: &Hook, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&hook.address(), BOUND).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    write!(stream, "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    stream
}

fn status(stream: &TcpStream) -> String {
    http::read_message(stream).unwrap().start
}

#[test]
fn a_webhook_records_what_it_gets_and_answers_as_told() {
    let hook = Hook::new();
    assert!(status(&post(&hook, r#"{"n":1}"#)).contains("200"));
    hook.answer(Answer::Status(500));
    assert!(status(&post(&hook, r#"{"n":2}"#)).contains("500"));
    hook.answer(Answer::Hang);
    let mut hanging = post(&hook, r#"{"n":3}"#);
    let messages = hook.wait_for(3, BOUND);
    hanging.set_nonblocking(true).unwrap();
    assert_eq!(hanging.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

    let seen: Vec<_> = messages.iter().map(|m| (m.json()["n"].as_u64().unwrap(), m.accepted)).collect();
    assert_eq!(seen, [(1, true), (2, false), (3, false)]);
    assert!(messages.is_sorted_by_key(|message| message.at));
}

#[test]
fn an_answer_is_read_whole_however_its_length_is_told() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = http::read_message(&stream).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            request.start
        });
        let response = http::get(address, "/metrics").unwrap();
        assert_eq!((response.status, response.body.as_str()), (200, "hello"), "{answer}");
        assert_eq!(server.join().unwrap(), "GET /metrics HTTP/1.1");
    }
}

#[test]
fn a_webhook_dropped_listens_no_more() {
    let hook = Hook::new();
    let address = hook.address();
    drop(hook);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_webhook_inside_a_namespace_is_reached_there_alone() {
    if !require_root("a_webhook_inside_a_namespace_is_reached_there_alone") {
        return;
    }
    let pair = Pair::new();
    let hook = Hook::inside(&pair.a);
    assert!(pair.a.enter(|| status(&post(&hook, "{}"))).contains("200"));
    let address = hook.address();
    assert_eq!(address.ip(), Ipv4Addr::LOCALHOST);
    assert!(pair.b.enter(|| TcpStream::connect(address)).is_err());
}

#[test]
fn a_command_passes_on_its_input_and_exits_as_told() {
    let hook = CommandHook::new();
    let run = |body: &str| {
        let mut child = Command::new(hook.path()).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
        child.wait().unwrap().code()
    };
    assert_eq!(run(r#"{"text":"it's 100% down"}"#), Some(0));
    hook.exit_with(7);
    assert_eq!(run(r#"{"text":"again"}"#), Some(7));
    let messages = hook.wait_for(2, BOUND);
    let seen: Vec<_> =
        messages.iter().map(|m| (m.json()["text"].as_str().unwrap().to_owned(), m.accepted)).collect();
    assert_eq!(seen, [("it's 100% down".to_owned(), true), ("again".to_owned(), false)]);
}
