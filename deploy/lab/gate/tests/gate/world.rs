//! A gate with an emulator of its own, and clients of each protocol.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use crosswatch_gate::{Control, Emulator, Gate, Options};
use serde_json::{Value as Json, json};

use crate::cbor::Value;

pub(crate) const REGION: &str = "us-east-1";

/// The emulator, or a word on standard error that this test did not run. `tests/run` installs and names it.
pub(crate) fn emulator(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("MINISTACK").map(PathBuf::from);
    if found.is_none() {
        // Not `eprintln!`: the test runner would swallow it, for the test passes.
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: {test}: MINISTACK does not name an emulator; see tests/run"
        );
    }
    found
}

pub(crate) struct World {
    pub(crate) gate: Gate,
    pub(crate) control: Control,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

/// An answer: status, error code or nothing, body.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) json: Json,
    pub(crate) text: String,
}

impl World {
    pub(crate) async fn new(test: &str) -> Option<Self> {
        Self::with(test, |_| {}).await
    }

    pub(crate) async fn with(test: &str, change: impl FnOnce(&mut Options)) -> Option<Self> {
        let emulator = emulator(test)?;
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("gate.sock");
        let mut options = Options::new("127.0.0.1:0".parse().unwrap(), &socket, Emulator::Program(emulator));
        change(&mut options);
        let gate = Gate::start(options).await.unwrap();
        let control = Control::connect(socket).unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        Some(Self { gate, control, client, _folder: folder })
    }

    pub(crate) fn order(&self, fault: Json) {
        self.control.order(&serde_json::from_value(fault).unwrap()).unwrap();
    }

    pub(crate) fn request(
        &self,
        path: &str,
        service: &str,
        region: &str,
        account: &str,
    ) -> reqwest::RequestBuilder {
        let credential = format!("{account}/20261122/{region}/{service}/aws4_request");
        self.client.post(format!("{}{path}", self.gate.url())).header(
            "authorization",
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=00"),
        )
    }

    pub(crate) fn unsigned(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.post(format!("{}{path}", self.gate.url()))
    }

    pub(crate) async fn sqs_in(
        &self,
        region: &str,
        operation: &str,
        input: Json,
    ) -> Result<Said, reqwest::Error> {
        let request =
            self.request("/", "sqs", region, "test").header("x-amz-target", format!("AmazonSQS.{operation}"));
        said(request.header("content-type", "application/x-amz-json-1.0").body(input.to_string())).await
    }

    pub(crate) async fn sqs(&self, operation: &str, input: Json) -> Said {
        self.sqs_in(REGION, operation, input).await.unwrap()
    }

    /// A queue's URL.
    pub(crate) async fn queue(&self, name: &str, attributes: Json) -> String {
        let made = self.sqs("CreateQueue", json!({"QueueName": name, "Attributes": attributes})).await;
        made.json["QueueUrl"].as_str().unwrap().to_owned()
    }

    /// The answer of CloudWatch, or the error's code and message.
    pub(crate) async fn cloudwatch(&self, operation: &str, input: Value) -> Result<Value, (String, String)> {
        let path = format!("/service/GraniteServiceVersion20100801/operation/{operation}");
        let request = self
            .request(&path, "monitoring", REGION, "test")
            .header("smithy-protocol", "rpc-v2-cbor")
            .header("content-type", "application/cbor")
            .body(input.write());
        let response = request.send().await.unwrap();
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header("smithy-protocol").as_deref(), Some("rpc-v2-cbor"), "{operation}");
        let code = header("x-amzn-query-error").map(|error| error.split(';').next().unwrap().to_owned());
        let status = response.status();
        let body = Value::read(&response.bytes().await.unwrap()).unwrap();
        if status.is_success() {
            Ok(body)
        } else {
            Err((code.unwrap(), body.text("message").unwrap().to_owned()))
        }
    }

    pub(crate) async fn form(&self, service: &str, account: &str, pairs: &[(&str, &str)]) -> Said {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(pairs);
        let request = self.request("/", service, REGION, account);
        said(request.header("content-type", "application/x-www-form-urlencoded").body(form.finish()))
            .await
            .unwrap()
    }

    pub(crate) async fn topic(&self, name: &str) -> String {
        let made = self.form("sns", "test", &[("Action", "CreateTopic"), ("Name", name)]).await;
        between(&made.text, "<TopicArn>", "</TopicArn>")
    }
}

pub(crate) async fn said(request: reqwest::RequestBuilder) -> Result<Said, reqwest::Error> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let error = response.headers().get("x-amzn-query-error").map(|value| value.to_str().unwrap().to_owned());
    let text = response.text().await?;
    let json: Json = serde_json::from_str(&text).unwrap_or_default();
    let code = match error {
        Some(error) => error.split([';']).next().unwrap().rsplit('.').next().unwrap().to_owned(),
        None if status >= 400 => between(&text, "<Code>", "</Code>"),
        None => String::new(),
    };
    Ok(Said { status, code, json, text })
}

pub(crate) fn between(text: &str, start: &str, end: &str) -> String {
    let found = text.split_once(start).and_then(|(_, rest)| rest.split_once(end));
    found.unwrap_or_else(|| panic!("no {start} in {text}")).0.to_owned()
}

/// CBOR of JSON; `{"at": seconds}` is a time.
pub(crate) fn cbor(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap()), Value::Int)
        }
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(cbor).collect()),
        Json::Object(fields) => match fields.get("at") {
            Some(at) => Value::Time(at.as_f64().unwrap()),
            None => Value::Map(fields.iter().map(|(name, value)| (name.clone(), cbor(value))).collect()),
        },
    }
}

pub(crate) fn seconds_now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Asks until there is an answer; the test's own runner ends one that never comes.
pub(crate) async fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
