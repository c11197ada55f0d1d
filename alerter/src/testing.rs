//! A webhook's far side for tests: a real server on loopback that does what it is told, answer by answer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crosswatch_judge::incident::{Event, Incidents, What};
use crosswatch_judge::{Engine, State, Transition};
use crosswatch_shared::config::topology::{Queue, QueueKind, Topology};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use rusqlite::Connection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Receiver, Secret, Template};
use crate::incident;
use crate::ledger::{Body, Ledger};
use crate::schema::SCHEMA;

/// How long a test waits for what must come.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// A file with the alerter's tables.
pub(crate) fn file() -> Connection {
    let file = Connection::open_in_memory().unwrap();
    tables(&file);
    file
}

pub(crate) fn tables(file: &Connection) {
    for migration in SCHEMA.migrations {
        file.execute_batch(migration).unwrap();
    }
}

/// The rule `ping-failed` fires for a subject of a link that is called the same, or no longer does: what becomes of
/// incidents is in the file then.
pub(crate) fn happens(file: &Connection, state: State, subject: &str, at: Timestamp) -> Vec<Event> {
    becomes(
        file,
        &Transition {
            at,
            state,
            rule: "ping-failed".into(),
            rule_index: 0,
            subject: subject.into(),
            link: Some(subject.into()),
            value: Some(0.0),
            reason: "3 of 3 lost".to_owned(),
        },
    )
}

/// What becomes of incidents by this is in the file then.
pub(crate) fn becomes(file: &Connection, transition: &Transition) -> Vec<Event> {
    let nothing = Topology {
        sites: Vec::new(),
        links: Vec::new(),
        queue: Queue { path: "".into(), kind: QueueKind::Embedded, keep: Duration::MAX, max_bytes: 0 },
        listen: None,
    };
    let saved = incident::saved(file).unwrap();
    let mut incidents =
        Incidents::restore(saved.iter().map(|(_, saved)| serde_json::from_str(saved).unwrap()));
    let transitions = std::slice::from_ref(transition);
    let events = Engine::new(Vec::new(), &nothing).tell(transitions, &mut incidents);
    events.iter().for_each(|event| incident::write(file, event).unwrap());
    incidents.take_changed().iter().for_each(|open| incident::save(file, open).unwrap());
    events
}

/// The same, and what is owed for it to these receivers.
pub(crate) fn happens_to(
    ledger: &Ledger,
    file: &Connection,
    state: State,
    subject: &str,
    receivers: &[Name],
    now: Timestamp,
) {
    owes(ledger, file, happens(file, state, subject, now), receivers, now);
}

/// What is owed for what became of incidents.
pub(crate) fn owes(
    ledger: &Ledger,
    file: &Connection,
    events: Vec<Event>,
    receivers: &[Name],
    now: Timestamp,
) {
    for event in events {
        match &event.what {
            What::Opened(symptom) => ledger.fired(file, &event, symptom, receivers, None, now).unwrap(),
            What::Closed(ended) => ledger.resolved(file, &event, ended, false, now).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// This status, with these further headers and body.
    Status(u16, &'static str, &'static str),
    /// Nothing, and keeps the connection.
    Hang,
    /// Nothing, and closes the connection.
    Close,
}

pub(crate) const OK: Answer = Answer::Status(200, "", "");

/// A server. What it received comes in order; without further answers it answers 200.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) requests: mpsc::UnboundedReceiver<String>,
    _server: AbortOnDropHandle<()>,
}

impl Endpoint {
    pub(crate) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?key=secret", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let (sender, requests) = mpsc::unbounded_channel();
        let server = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                open.spawn(serve(stream, Arc::clone(&script), sender.clone()));
            }
        });
        Self { url, requests, _server: AbortOnDropHandle::new(server) }
    }

    /// The next notification of a rule.
    pub(crate) async fn next_of(&mut self, rule: &str) -> Body {
        loop {
            let body = self.next().await;
            if body.rule == rule {
                return body;
            }
        }
    }

    /// The next notification.
    pub(crate) async fn next(&mut self) -> Body {
        let request = tokio::time::timeout(BOUND, self.requests.recv()).await;
        let request = request.expect("nothing came").unwrap();
        serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    }

    pub(crate) fn receiver(&self, name: &str) -> Receiver {
        Receiver {
            name: name.into(),
            sms: Vec::new(),
            texting: crate::config::Texting::default(),
            topic: None,
            webhook: Some(Secret::Value(self.url.clone())),
            template: Template::Plain,
            command: Vec::new(),
            console: false,
            at_most: None,
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<Mutex<VecDeque<Answer>>>,
    sender: mpsc::UnboundedSender<String>,
) {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        let whole = text.split_once("\r\n\r\n").filter(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            body.len() >= length.map_or(0, |length| length.parse().unwrap())
        });
        if whole.is_none() {
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(count) => read.extend_from_slice(&chunk[..count]),
            }
            continue;
        }
        read.clear();
        let answer = script.lock().unwrap().pop_front().unwrap_or(OK);
        let _ = sender.send(text);
        match answer {
            Answer::Close => return,
            Answer::Hang => std::future::pending().await,
            Answer::Status(status, headers, body) => {
                let length = body.len();
                let text =
                    format!("HTTP/1.1 {status} Word\r\n{headers}content-length: {length}\r\n\r\n{body}");
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// What SNS answers to a publication that it takes.
pub(crate) const TAKEN: Answer = Answer::Status(
    200,
    "content-type: text/xml\r\n",
    "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult><MessageId>1</MessageId>\
     </PublishResult><ResponseMetadata><RequestId>2</RequestId></ResponseMetadata></PublishResponse>",
);

/// What SNS answers to one that it does not.
pub(crate) fn refusal(status: u16, code: &str) -> Answer {
    let body = format!(
        "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>because</Message></Error><RequestId>2</RequestId></ErrorResponse>"
    );
    Answer::Status(status, "content-type: text/xml\r\n", body.leak())
}

/// A request to SNS: its region, and its parameters. Refuses what SNS would.
pub(crate) fn publication(request: &str) -> (String, std::collections::BTreeMap<String, String>) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
    let scope = head.split("Credential=").nth(1).expect("it is signed");
    let scope: Vec<&str> = scope.split('/').collect();
    assert_eq!(scope[3], "sns", "{head}");
    let pairs = body.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        (decoded(name), decoded(value))
    });
    let pairs: std::collections::BTreeMap<_, _> = pairs.collect();
    assert_eq!(pairs["Action"], "Publish");
    assert_eq!(pairs["Version"], "2010-03-31");
    assert!(pairs.contains_key("PhoneNumber") != pairs.contains_key("TopicArn"), "{pairs:?}");
    if let Some(subject) = pairs.get("Subject") {
        assert!((1..=100).contains(&subject.len()), "{subject}");
        assert!(subject.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{subject}");
    }
    (scope[2].to_owned(), pairs)
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}
