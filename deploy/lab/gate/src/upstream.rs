//! The emulator behind the gate: started and ended with it, or found at a URL.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use reqwest::Client;
use serde_json::Value as Json;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::answer::{Answer, Refusal};
use crate::call::{Call, Service};

/// How long the emulator may take to answer first.
const READY: Duration = Duration::from_secs(120);

/// Where the emulator comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Emulator {
    /// A program like `ministack`: started on a free loopback port that `GATEWAY_PORT` tells it.
    Program(PathBuf),
    /// One that runs already, such as `http://127.0.0.1:4566`.
    Url(String),
}

/// A client of the emulator.
#[derive(Debug)]
pub(crate) struct Upstream {
    client: Client,
    base: String,
}

/// The emulator's process; it dies with this.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Its home, its state and its log.
    _folder: tempfile::TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its whole group: what it started goes, too. One that has ended already has no group.
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

impl Upstream {
    pub(crate) async fn start(emulator: &Emulator) -> Result<(Self, Option<Process>), Error> {
        // The emulator speaks plain HTTP; the client wants cryptography all the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client =
            Client::builder().no_proxy().build().map_err(|error| Error::Client(error.to_string()))?;
        match emulator {
            Emulator::Url(url) => {
                let base = url.trim_end_matches('/').to_owned();
                Ok((Self { client, base }, None))
            }
            Emulator::Program(program) => {
                let (port, mut process, log) = spawn(program)?;
                let upstream = Self { client, base: format!("http://127.0.0.1:{port}") };
                upstream.wait(program, &mut process, &log).await?;
                Ok((upstream, Some(process)))
            }
        }
    }

    async fn wait(&self, program: &Path, process: &mut Process, log: &Path) -> Result<(), Error> {
        let deadline = Instant::now() + READY;
        let url = format!("{}/_ministack/health", self.base);
        loop {
            if self.client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let ended = process.child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > deadline {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                let tail: Vec<_> = said.lines().rev().take(10).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                return Err(Error::Emulator {
                    program: program.to_owned(),
                    why: ended.map_or_else(|| "no answer in 120 s".to_owned(), |status| status.to_string()),
                    said: tail.join("\n"),
                });
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends a call on, as it came or with another body.
    pub(crate) async fn forward(&self, call: &Call, body: Option<Vec<u8>>) -> Answer {
        let mut request = self.client.request(call.method.clone(), format!("{}{}", self.base, call.target));
        for (name, value) in &call.headers {
            // Of the connection, not of the request.
            if !["connection", "content-length", "transfer-encoding", "expect"].contains(&name.as_str()) {
                request = request.header(name, value);
            }
        }
        let body = body.map_or_else(|| call.body.clone(), Into::into);
        read(request.body(body), &call.service).await
    }

    /// A call to SQS of the gate's own, on behalf of a caller: same account, region and host.
    pub(crate) async fn sqs(&self, on_behalf: &Call, operation: &str, input: &Json) -> Json {
        let mut request = self
            .client
            .post(format!("{}/", self.base))
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", format!("AmazonSQS.{operation}"));
        for name in ["authorization", "host", "x-amz-date", "x-amz-security-token"] {
            if let Some(value) = on_behalf.headers.get(name) {
                request = request.header(name, value);
            }
        }
        let answer = read(request.body(input.to_string()), &Service::Sqs).await;
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// Publishes to a topic, as CloudWatch does.
    pub(crate) async fn publish(
        &self,
        account: &str,
        region: &str,
        topic: &str,
        subject: &str,
        message: &str,
    ) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", "Publish")
            .append_pair("Version", "2010-03-31")
            .append_pair("TopicArn", topic)
            .append_pair("Subject", subject)
            .append_pair("MessageStructure", "json")
            .append_pair("Message", message)
            .finish();
        let scope = format!("{account}/20260101/{region}/sns/aws4_request");
        let request = self
            .client
            .post(format!("{}/", self.base))
            .header("content-type", "application/x-www-form-urlencoded")
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"),
            );
        read(request.body(form), &Service::Sns).await
    }
}

async fn read(request: reqwest::RequestBuilder, service: &Service) -> Answer {
    let failed = |error: reqwest::Error| {
        Refusal::new(503, "EmulatorUnreachable", format!("the gate cannot reach the emulator: {error}"))
            .answer(service)
    };
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return failed(error),
    };
    let status = response.status().as_u16();
    let kept = response.headers().iter().filter(|(name, _)| {
        !["connection", "content-length", "transfer-encoding", "date", "server"].contains(&name.as_str())
    });
    let headers: Vec<_> = kept
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect();
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(error) => return failed(error),
    };
    let code = (status >= 400).then(|| error_code(&body));
    let why = code.as_ref().map(|code| format!("{code}: said by the emulator"));
    Answer { status, headers, body, code, why }
}

/// The code of an error answer: JSON's `__type`, or XML's `Code`.
fn error_code(body: &[u8]) -> String {
    if let Ok(json) = serde_json::from_slice::<Json>(body) {
        let code = json["__type"].as_str().unwrap_or("Unknown");
        return code.rsplit('#').next().unwrap_or(code).to_owned();
    }
    let text = String::from_utf8_lossy(body);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map_or("Unknown", |(code, _)| code).to_owned()
}

fn spawn(program: &Path) -> Result<(u16, Process, PathBuf), Error> {
    let failed = |source| Error::Spawn { program: program.to_owned(), source };
    let folder = tempfile::Builder::new().prefix("crosswatch-gate-").tempdir().map_err(failed)?;
    // The port is free now; a program that takes it between here and there makes the emulator end, which is told.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    drop(listener);
    let log = folder.path().join("log");
    let output = std::fs::File::create(&log).map_err(failed)?;
    let errors = output.try_clone().map_err(failed)?;
    // The kernel ends it when the gate is killed; without setpriv only an orderly end of the gate does.
    let setpriv = ["/usr/bin/setpriv", "/bin/setpriv"].into_iter().find(|path| Path::new(path).exists());
    let mut command = match setpriv {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    let child = command
        .env("GATEWAY_PORT", port.to_string())
        .env("BIND_HOST", "127.0.0.1")
        .env("TMPDIR", folder.path())
        .env("HOME", folder.path())
        .env("STATE_DIR", folder.path().join("state"))
        .env("S3_DATA_DIR", folder.path().join("s3"))
        .env("PERSIST_STATE", "0")
        .env("LOG_LEVEL", "WARNING")
        .env_remove("AWS_ENDPOINT_URL")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    Ok((port, Process { child, _folder: folder }, log))
}
