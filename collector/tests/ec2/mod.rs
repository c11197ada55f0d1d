//! A stand-in for EC2: `DescribeVpnConnections` by filters in the Query protocol, from a table that the test sets.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What stands where the pre-shared keys do.
pub(crate) const CANARY: &str = "canary-pre-shared-key";

/// A connection as it stands in the answer, and what the filters see of it.
#[derive(Clone)]
pub(crate) struct Connection {
    id: String,
    name: String,
    xml: String,
}

#[derive(Default)]
struct World {
    connections: Vec<Connection>,
    /// What every request gets instead.
    failing: Option<(u16, String)>,
    /// What the next requests get instead.
    next: VecDeque<(u16, String)>,
    asked: usize,
}

/// Serving until the test's end.
pub(crate) struct Ec2 {
    world: Arc<Mutex<World>>,
    port: u16,
}

impl Ec2 {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let world = Arc::new(Mutex::new(World::default()));
        let shared = world.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, world) = (stream.unwrap(), shared.clone());
                std::thread::spawn(move || serve(&stream, &world));
            }
        });
        Self { world, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, connections: Vec<Connection>) {
        self.world.lock().unwrap().connections = connections;
    }

    pub(crate) fn fail(&self, status: u16, body: &str) {
        self.world.lock().unwrap().failing = Some((status, body.to_owned()));
    }

    pub(crate) fn heal(&self) {
        self.world.lock().unwrap().failing = None;
    }

    /// The second request and those after it get these.
    pub(crate) fn then(&self, answers: &[(u16, &str)]) {
        let mut world = self.world.lock().unwrap();
        let good = answer(&world.connections);
        let answers = answers.iter().map(|(status, body)| (*status, (*body).to_owned()));
        world.next = [(200, good)].into_iter().chain(answers).collect();
    }

    pub(crate) fn asked(&self) -> usize {
        self.world.lock().unwrap().asked
    }
}

/// `telemetry` are items as [`telemetry`] makes them; the keys are in each, as in the real answer.
pub(crate) fn connection(id: &str, state: &str, name: &str, telemetry: &str) -> Connection {
    let keys = format!("&lt;pre_shared_key&gt;{CANARY}&lt;/pre_shared_key&gt;");
    let xml = format!(
        "<item><vpnConnectionId>{id}</vpnConnectionId><state>{state}</state>\
         <customerGatewayConfiguration>{keys}</customerGatewayConfiguration>\
         <options><tunnelOptionSet><item><preSharedKey>{CANARY}</preSharedKey></item></tunnelOptionSet></options>\
         <transitGatewayId>tgw-1</transitGatewayId>\
         <tagSet><item><key>Name</key><value>{name}</value></item></tagSet>\
         <vgwTelemetry>{telemetry}</vgwTelemetry></item>"
    );
    Connection { id: id.to_owned(), name: name.to_owned(), xml }
}

pub(crate) fn telemetry(ip: &str, status: &str, routes: &str) -> String {
    format!(
        "<item><outsideIpAddress>{ip}</outsideIpAddress><status>{status}</status>\
         <lastStatusChange>2025-11-20T08:00:00.123Z</lastStatusChange>\
         <statusMessage>2 BGP ROUTES</statusMessage><acceptedRouteCount>{routes}</acceptedRouteCount></item>"
    )
}

pub(crate) fn answer(connections: &[Connection]) -> String {
    let items: String = connections.iter().map(|connection| connection.xml.as_str()).collect();
    format!(
        "<?xml version=\"1.0\"?><DescribeVpnConnectionsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <requestId>r</requestId><vpnConnectionSet>{items}</vpnConnectionSet></DescribeVpnConnectionsResponse>"
    )
}

pub(crate) fn error(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><Response><Errors><Error><Code>{code}</Code><Message>as it says</Message></Error></Errors>\
         <RequestID>r</RequestID></Response>"
    )
}

/// Requests on one connection until the client closes it.
fn serve(stream: &TcpStream, world: &Mutex<World>) {
    let mut reader = BufReader::new(stream);
    while let Some(body) = request(&mut reader) {
        let mut world = world.lock().unwrap();
        world.asked += 1;
        let (status, body) = match (&world.failing, world.next.is_empty()) {
            (Some(failing), _) => failing.clone(),
            (None, false) => world.next.pop_front().unwrap(),
            (None, true) => describe(&body, &world.connections),
        };
        drop(world);
        let answer = format!(
            "HTTP/1.1 {status} Whatever\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if (&mut &*stream).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A signed POST's body.
fn request(reader: &mut impl BufRead) -> Option<String> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_ascii_lowercase());
    }
    assert_eq!(head[0], "post / http/1.1");
    assert!(head.iter().any(|line| line.starts_with("authorization: aws4-hmac-sha256 ")), "{head:?}");
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(String::from_utf8(body).unwrap())
}

/// What EC2 answers to one filter, and an error to anything else.
fn describe(body: &str, connections: &[Connection]) -> (u16, String) {
    let mut filter = None;
    let mut values = Vec::new();
    for pair in body.split('&') {
        let (key, value) = pair.split_once('=').unwrap();
        let value = decoded(value);
        match key {
            "Action" if value == "DescribeVpnConnections" => {}
            "Version" if value == "2016-11-15" => {}
            "Filter.1.Name" => filter = Some(value),
            _ if key.starts_with("Filter.1.Value.") => values.push(value),
            _ => return (400, error("UnknownParameter")),
        }
    }
    let of = |connection: &Connection| match filter.as_deref() {
        Some("vpn-connection-id") => Some(connection.id.clone()),
        Some("tag:Name") => Some(connection.name.clone()),
        _ => None,
    };
    if values.is_empty() || values.len() > 200 || filter.is_none() {
        return (400, error("InvalidParameterValue"));
    }
    let wanted = |connection: &&Connection| {
        of(connection).is_some_and(|name| values.iter().any(|value| glob(value.as_bytes(), name.as_bytes())))
    };
    let found: Vec<_> = connections.iter().filter(wanted).cloned().collect();
    (200, answer(&found))
}

/// `*` any text, `?` any character, a backslash makes the next one itself.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => glob(rest, text) || (!text.is_empty() && glob(pattern, &text[1..])),
        ([b'?', rest @ ..], [_, after @ ..]) => glob(rest, after),
        ([b'\\', c, rest @ ..] | [c, rest @ ..], [d, after @ ..]) if c == d => glob(rest, after),
        _ => false,
    }
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        if bytes[at] == b'%' {
            decoded.push(u8::from_str_radix(&text[at + 1..at + 3], 16).unwrap());
            at += 3;
        } else {
            decoded.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
            at += 1;
        }
    }
    String::from_utf8(decoded).unwrap()
}
