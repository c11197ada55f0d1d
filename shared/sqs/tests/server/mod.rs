//! A real server that speaks SQS (ministack), and a gate before it that counts calls and can refuse them.

use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crosswatch_aws::Session;
use serde_json::{Value, json};

/// The server, for as long as this lives.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    _data: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let program = env::var_os("MINISTACK").unwrap_or_else(|| "ministack".into());
        // Free a moment ago; who takes it in between is told by the connection that fails.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let data = tempfile::tempdir().unwrap();
        let child = Command::new(&program)
            .env("GATEWAY_PORT", port.to_string())
            .current_dir(data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}; this test needs ministack: 'python3 -m venv V && V/bin/pip install ministack cbor2', \
                     then set MINISTACK=V/bin/ministack or put it into PATH",
                    program.display()
                )
            });
        let mut server = Self { child, port, _data: data };
        let until = Instant::now() + Duration::from_secs(120);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.child.try_wait().unwrap().is_none(), "ministack ended as soon as it was started");
            assert!(Instant::now() < until, "ministack does not listen");
            thread::sleep(Duration::from_millis(50));
        }
        server
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn session(&self) -> Session {
        Session::emulated(&self.endpoint(), "us-east-1")
    }

    /// Makes a queue, and gives its URL.
    pub(crate) fn queue(&self, name: &str) -> String {
        self.queue_with(name, &json!({}))
    }

    /// Makes a queue with these attributes.
    pub(crate) fn queue_with(&self, name: &str, attributes: &Value) -> String {
        let made = self.call("CreateQueue", &json!({ "QueueName": name, "Attributes": attributes }));
        made["QueueUrl"].as_str().unwrap_or_else(|| panic!("no queue: {made}")).to_owned()
    }

    pub(crate) fn send(&self, url: &str, body: &str) {
        let sent = self.call("SendMessage", &json!({ "QueueUrl": url, "MessageBody": body }));
        assert!(sent["MessageId"].is_string(), "{sent}");
    }

    /// Calls SQS, as a client in any language does, and gives the answer.
    pub(crate) fn call(&self, action: &str, body: &Value) -> Value {
        let body = body.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nx-amz-target: AmazonSQS.{action}\r\ncontent-type: \
             application/x-amz-json-1.0\r\nauthorization: AWS4-HMAC-SHA256 Credential=test/20261122/us-east-1/sqs/aws4_request, \
             SignedHeaders=host, Signature=0\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        );
        let answer = forward(self.port, request.as_bytes());
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (_, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
        serde_json::from_str(body.trim()).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forward(port: u16, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// What the gate answers in place of the server: an error code of SQS.
pub(crate) type Refusal = Option<(u16, &'static str)>;

/// A gate before the server.
pub(crate) struct Gate {
    port: u16,
    state: Arc<Mutex<State>>,
    closed: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    calls: Vec<String>,
    connections: usize,
    /// So many bytes a second come in, if that is bounded.
    rate: Option<u32>,
    refusals: Vec<(&'static str, Refusal)>,
}

impl Gate {
    pub(crate) fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::default(),
            closed: Arc::default(),
        };
        let (state, closed, port) = (Arc::clone(&gate.state), Arc::clone(&gate.closed), server.port);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if closed.load(Ordering::Relaxed) {
                    return;
                }
                let (stream, state) = (stream.unwrap(), Arc::clone(&state));
                state.lock().unwrap().connections += 1;
                thread::spawn(move || pass(stream, port, &state));
            }
        });
        gate
    }

    pub(crate) fn session(&self) -> Session {
        Session::emulated(&format!("http://127.0.0.1:{}", self.port), "us-east-1")
    }

    /// From now on this call, of queues whose URL ends so, is refused, or no more.
    pub(crate) fn refuse(&self, what: &'static str, refusal: Refusal) {
        let mut state = self.state.lock().unwrap();
        state.refusals.retain(|(known, _)| *known != what);
        state.refusals.push((what, refusal));
    }

    /// From now on what is sent comes in with so many bytes a second.
    pub(crate) fn slow(&self, rate: Option<u32>) {
        self.state.lock().unwrap().rate = rate;
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// How often this was called.
    pub(crate) fn calls(&self, action: &str) -> usize {
        self.state.lock().unwrap().calls.iter().filter(|call| *call == action).count()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// One call a connection.
fn pass(mut stream: TcpStream, port: u16, state: &Mutex<State>) -> Option<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 16 << 10];
    let (head, body) = loop {
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        let rate = state.lock().unwrap().rate;
        if let (Some(rate), Ok(read)) = (rate, u32::try_from(read)) {
            thread::sleep(Duration::from_secs(1) * read / rate);
        }
        request.extend_from_slice(&chunk[..read]);
        let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let header = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        let length: usize = header("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
        if request.len() >= end + 4 + length {
            let target = header("x-amz-target:").unwrap_or_default();
            break ((end, target), String::from_utf8_lossy(&request[end + 4..]).into_owned());
        }
    };
    let action = head.1.rsplit('.').next().unwrap_or_default().to_owned();
    let refusal = {
        let mut state = state.lock().unwrap();
        state.calls.push(action.clone());
        let matches = |what: &str| body.contains(what) || action == what.to_lowercase();
        state.refusals.iter().find(|(what, _)| matches(what)).and_then(|(_, refusal)| *refusal)
    };
    let answer = match refusal {
        Some((status, code)) => {
            let body =
                json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": "as the test asked" })
                    .to_string();
            format!(
                "HTTP/1.1 {status} No\r\ncontent-type: application/x-amz-json-1.0\r\nconnection: close\r\ncontent-length: \
                 {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        }
        None => {
            let mut whole = request[..head.0].to_vec();
            whole.extend_from_slice(b"\r\nconnection: close");
            whole.extend_from_slice(&request[head.0..]);
            forward(port, &whole)
        }
    };
    stream.write_all(&answer).ok()
}
