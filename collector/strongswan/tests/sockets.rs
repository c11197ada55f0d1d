//! What is asked may be absent, forbidden, something else, hanging, endless or hostile: each is an error that names the
//! socket, what happened and the way out. Real Unix sockets; charon itself is asked in `deploy/lab/ipsec`.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crosswatch_shared::observation::Tunnel;
use crosswatch_shared::time::Timestamp;
use crosswatch_strongswan::message::{Section, Value};
use crosswatch_strongswan::{Client, Failure, Kind, tunnels};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

const NOW: Timestamp = Timestamp::from_secs(1_000);
/// Longer than any answer here takes; it is waited for in full only where there is none, which is what is tested.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);

async fn ask(socket: &Path, patience: Duration) -> Result<Vec<Tunnel>, Failure> {
    tunnels(socket, "net", NOW, patience).await
}

/// What is asked fails so; the text names the socket and has these words.
fn assert_failure(asked: Result<Vec<Tunnel>, Failure>, socket: &Path, kind: Kind, words: &[&str]) {
    let failure = asked.unwrap_err();
    let text = failure.to_string();
    assert_eq!(failure.kind, kind, "{text}");
    assert!(text.starts_with(&format!("{}: ", socket.display())), "{text}");
    for word in words {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
}

/// A peer that does this with its one connection.
fn peer<F: Future<Output = ()> + Send + 'static>(
    play: impl FnOnce(UnixStream) -> F + Send + 'static,
) -> (TempDir, PathBuf, JoinHandle<()>) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("charon.vici");
    let listener = UnixListener::bind(&socket).unwrap();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        play(stream).await;
    });
    (folder, socket, task)
}

async fn send(stream: &mut UnixStream, packet: &[u8]) -> std::io::Result<()> {
    stream.write_u32(packet.len().try_into().unwrap()).await?;
    stream.write_all(packet).await
}

/// Reads a request, and gives its type and name.
async fn request(stream: &mut UnixStream) -> (u8, String) {
    let mut packet = vec![0; stream.read_u32().await.unwrap() as usize];
    stream.read_exact(&mut packet).await.unwrap();
    let name = &packet[2..2 + usize::from(packet[1])];
    (packet[0], String::from_utf8(name.to_vec()).unwrap())
}

fn event(name: &str, message: &Section) -> Vec<u8> {
    let mut packet = vec![7, name.len().try_into().unwrap()];
    packet.extend_from_slice(name.as_bytes());
    packet.extend_from_slice(&message.encode().unwrap());
    packet
}

#[tokio::test]
async fn an_absent_daemon_is_told_apart_from_what_is_not_vici() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("charon.vici");
    assert_failure(ask(&socket, LONG).await, &socket, Kind::NotRunning, &["no such socket", "start charon"]);

    // What a killed daemon leaves.
    drop(UnixListener::bind(&socket).unwrap());
    assert_failure(ask(&socket, LONG).await, &socket, Kind::NotRunning, &["nobody listens", "start charon"]);

    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert_failure(ask(&file, LONG).await, &file, Kind::Protocol, &["not a socket", "charon.plugins.vici"]);
    let below = file.join("charon.vici");
    assert_failure(ask(&below, LONG).await, &below, Kind::NotRunning, &["no such socket"]);

    let datagrams = folder.path().join("datagrams");
    let _datagrams = UnixDatagram::bind(&datagrams).unwrap();
    assert_failure(ask(&datagrams, LONG).await, &datagrams, Kind::Protocol, &["another sort"]);

    // Nobody takes the connections, and as many wait as may.
    let full = folder.path().join("full");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&full).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let _waiting = UnixStream::connect(&full).await.unwrap();
    assert_failure(ask(&full, LONG).await, &full, Kind::Timeout, &["others wait already"]);

    let long = folder.path().join("x".repeat(120));
    assert_failure(ask(&long, LONG).await, &long, Kind::Protocol, &["socket's path"]);
}

/// Root may use any socket, so that as root this test runs itself again as nobody.
#[tokio::test]
async fn a_socket_of_another_user_is_denied() {
    const SOCKET: &str = "CROSSWATCH_TEST_SOCKET";
    if let Some(socket) = std::env::var_os(SOCKET) {
        return assert_denied(Path::new(&socket)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("charon.vici");
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o000)).unwrap();
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return assert_denied(&socket).await;
    }
    // Where the test was built nobody may not look.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
    command.args(["--exact", "a_socket_of_another_user_is_denied"]).env(SOCKET, &socket);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

async fn assert_denied(socket: &Path) {
    assert_failure(ask(socket, LONG).await, socket, Kind::Denied, &["may not use", "charon.group"]);
}

#[tokio::test]
async fn a_daemon_that_hangs_is_waited_for_no_longer_than_told() {
    // It takes the connection and says nothing; it confirms and says nothing; it stops within a packet.
    for said in [&b""[..], b"\0\0\0\x01\x05", b"\0\0\0\x01\x05\0\0"] {
        let (_folder, socket, task) = peer(async move |mut stream| {
            stream.write_all(said).await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
        });
        assert_failure(ask(&socket, SHORT).await, &socket, Kind::Timeout, &["within 0.2 s", "its log"]);
        task.await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_without_end_ends() {
    let endless = |message: Section| {
        async move |mut stream: UnixStream| {
            request(&mut stream).await;
            send(&mut stream, b"\x05").await.unwrap();
            while send(&mut stream, &event("list-conn", &message)).await.is_ok() {}
        }
    };
    // Fast and large: by its length. Small: by the time, for all of the asking is given as much as each of its steps.
    let large = Section::default().with("x", Value::List(vec!["x".repeat(60_000); 8]));
    let (_folder, socket, task) = peer(endless(large));
    assert_failure(
        ask(&socket, LONG).await,
        &socket,
        Kind::Protocol,
        &["list-conns does not end within 64 MiB"],
    );
    task.await.unwrap();

    let (_folder, socket, task) = peer(async |mut stream| {
        request(&mut stream).await;
        send(&mut stream, b"\x05").await.unwrap();
        while send(&mut stream, &event("list-conn", &Section::default())).await.is_ok() {
            tokio::time::sleep(SHORT / 20).await;
        }
    });
    assert_failure(ask(&socket, SHORT).await, &socket, Kind::Timeout, &["within 0.2 s"]);
    task.await.unwrap();
}

#[tokio::test]
async fn what_speaks_otherwise_is_told_so() {
    let cases: [(&[u8], &str); 7] = [
        // As an HTTP server answers what it cannot read.
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a packet of 1213486160 bytes"),
        (b"\0\0\0\0", "ends within its name"),
        (b"\0\0\0\x01\x2a", "unknown type 42"),
        (b"\0\0\0\x01\x01", "a response where"),
        (b"\0\0\0\x01\x06", "does not know list-conn"),
        (b"\0\0\0\x01\x05\0\0\0\x01\x02", "does not know list-conns"),
        (b"\0\0\0\x01\x05\0\0\0\x02\x01\x09", "unknown type 9"),
    ];
    for (said, words) in cases {
        let (_folder, socket, task) = peer(async move |mut stream| {
            stream.write_all(said).await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        });
        assert_failure(ask(&socket, LONG).await, &socket, Kind::Protocol, &[words]);
        task.await.unwrap();
    }
    // An IKE SA without what each has.
    let (_folder, socket, task) = peer(async |mut stream| {
        for (event_name, message) in [
            ("list-conn", Section::default()),
            ("list-sa", Section::default().with("a", Value::Section(Section::default()))),
        ] {
            request(&mut stream).await;
            send(&mut stream, b"\x05").await.unwrap();
            request(&mut stream).await;
            send(&mut stream, &event(event_name, &message)).await.unwrap();
            send(&mut stream, b"\x01").await.unwrap();
        }
    });
    assert_failure(ask(&socket, LONG).await, &socket, Kind::Protocol, &["IKE SA of connection a has no"]);
    task.await.unwrap();
}

#[tokio::test]
async fn a_daemon_that_dies_while_asked_is_not_running() {
    for said in [&b""[..], b"\0\0\0\x01\x05", b"\0\0\0\x01\x05\0\0\0\x50\x07"] {
        let (_folder, socket, task) = peer(async move |mut stream| {
            request(&mut stream).await;
            stream.write_all(said).await.unwrap();
        });
        assert_failure(ask(&socket, LONG).await, &socket, Kind::NotRunning, &["closed before", "its log"]);
        task.await.unwrap();
    }
}

/// Nothing that changes something is ever asked for: these are all the requests there are.
#[tokio::test]
async fn it_asks_for_lists_alone() {
    let (_folder, socket, task) = peer(async |mut stream| {
        let mut asked = Vec::new();
        for _ in 0..4 {
            let (kind, name) = request(&mut stream).await;
            let said: &[u8] = if kind == 3 { b"\x05" } else { b"\x01" };
            send(&mut stream, said).await.unwrap();
            asked.push((kind, name));
        }
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
        let asked: Vec<_> = asked.iter().map(|(kind, name)| (*kind, &**name)).collect();
        assert_eq!(asked, [(3, "list-conn"), (0, "list-conns"), (3, "list-sa"), (0, "list-sas")]);
    });
    assert_eq!(ask(&socket, LONG).await.unwrap(), []);
    task.await.unwrap();

    let (_folder, socket, task) = peer(async |mut stream| {
        assert_eq!(request(&mut stream).await, (0, "version".to_owned()));
        let answer = Section::default().with("daemon", Value::Text("charon".to_owned()));
        let answer = answer.with("version", Value::Text("5.9.8".to_owned())).encode().unwrap();
        send(&mut stream, &[&b"\x01"[..], &answer].concat()).await.unwrap();
    });
    let version = Client::connect(&socket, LONG).await.unwrap().version().await.unwrap();
    assert_eq!((&*version.daemon, &*version.version), ("charon", "5.9.8"));
    task.await.unwrap();
}

/// While an IKE SA is rekeyed, an answer may have the old one alone, which carries nothing any more.
#[tokio::test]
async fn a_tunnel_is_called_down_once_it_was_asked_for_three_times() {
    let text = |text: &str| Value::Text(text.to_owned());
    let named = |name: &str, section: Section| Section::default().with(name, Value::Section(section));
    let conn = Section::default().with("remote_addrs", Value::List(vec!["192.0.2.1".to_owned()]));
    let conn = conn.with("children", Value::Section(named("net", Section::default())));
    let child = Section::default().with("name", text("net")).with("state", text("INSTALLED"));
    let sa = Section::default().with("remote-host", text("192.0.2.1"));
    let old = sa.clone().with("state", text("REKEYED"));
    let new = sa.with("state", text("ESTABLISHED")).with("child-sas", Value::Section(named("net-1", child)));
    let (old, new) = (event("list-sa", &named("a", old)), event("list-sa", &named("a", new)));
    let conn = event("list-conn", &named("a", conn));
    for (answers, message) in [
        (vec![&old, &new], "a: IKE ESTABLISHED"),
        (vec![&old, &old, &new], "a: IKE ESTABLISHED"),
        (vec![&old; 3], "a: IKE REKEYED"),
    ] {
        let answers: Vec<_> = std::iter::once(&conn).chain(answers).cloned().collect();
        let (_folder, socket, task) = peer(async move |mut stream| {
            for (place, answer) in answers.iter().enumerate() {
                // Events are asked for once; a second time they would come twice.
                if place < 2 {
                    assert_eq!(request(&mut stream).await.0, 3);
                    send(&mut stream, b"\x05").await.unwrap();
                }
                assert_eq!(request(&mut stream).await.0, 0);
                send(&mut stream, answer).await.unwrap();
                send(&mut stream, b"\x01").await.unwrap();
            }
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty(), "asked for no more: {rest:?}");
        });
        let seen = ask(&socket, LONG).await.unwrap();
        assert_eq!(seen.iter().map(|tunnel| &*tunnel.message).collect::<Vec<_>>(), [message]);
        task.await.unwrap();
    }
}
