//! A blocking client of the control socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::Error;
use crate::alarm_store::AlarmView;
use crate::ec2::Vpn;
use crate::faults::{Fault, Struck};
use crate::metrics::Datapoint;
use crate::record::{Count, Page};
use crate::sns::{Message, SmsState};

/// How long the gate may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// A gate's control socket. Each call is a connection of its own.
#[derive(Clone, Debug)]
pub struct Control {
    path: PathBuf,
}

impl Control {
    /// Of a gate that answers.
    ///
    /// # Errors
    /// Nobody answers there.
    pub fn connect(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let control = Self { path: path.into() };
        control.tunnels()?;
        Ok(control)
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets the table of VPN connections.
    ///
    /// # Errors
    /// It is wrong, or the gate does not answer; so with all that follow.
    pub fn set_tunnels(&self, table: &[Vpn]) -> Result<(), Error> {
        self.put("PUT", "/tunnels", table)
    }

    /// The table of VPN connections.
    ///
    /// # Errors
    /// See [`Self::set_tunnels`].
    pub fn tunnels(&self) -> Result<Vec<Vpn>, Error> {
        self.get("/tunnels")
    }

    /// Sets the state of SMS.
    ///
    /// # Errors
    /// See [`Self::set_tunnels`].
    pub fn set_sms(&self, state: &SmsState) -> Result<(), Error> {
        self.put("PUT", "/sms", state)
    }

    /// Orders a fault.
    ///
    /// # Errors
    /// See [`Self::set_tunnels`].
    pub fn order(&self, fault: &Fault) -> Result<(), Error> {
        self.put("POST", "/faults", fault)
    }

    /// The faults, and how often each struck.
    ///
    /// # Errors
    /// See [`Self::set_tunnels`].
    pub fn faults(&self) -> Result<Vec<Struck>, Error> {
        self.get("/faults")
    }

    /// Ends a fault.
    ///
    /// # Errors
    /// No fault has this id; see [`Self::set_tunnels`].
    pub fn heal(&self, id: &str) -> Result<(), Error> {
        self.call("DELETE", &format!("/faults/{id}"), &[]).map(drop)
    }

    /// Ends all faults.
    ///
    /// # Errors
    /// See [`Self::set_tunnels`].
    pub fn heal_all(&self) -> Result<(), Error> {
        self.call("DELETE", "/faults", &[]).map(drop)
    }

    /// The requests from number `since` on, of one service and operation where those are given.
    ///
    /// # Errors
    /// See [`Self::set_tunnels`].
    pub fn record(&self, service: Option<&str>, operation: Option<&str>, since: u64) -> Result<Page, Error> {
        let since = since.to_string();
        let pairs = [("service", service), ("operation", operation), ("since", Some(&since))];
        self.get(&with_query("/record", pairs.into_iter().filter_map(|(name, value)| Some((name, value?)))))
    }

    /// The sums over all requests.
    ///
    /// # Errors
    /// See [`Self::set_tunnels`].
    pub fn counts(&self) -> Result<Vec<Count>, Error> {
        self.get("/counts")
    }

    /// The datums of a metric that have these dimensions among theirs.
    ///
    /// # Errors
    /// See [`Self::set_tunnels`].
    pub fn datapoints(
        &self,
        metric: Option<&str>,
        dimensions: &[(&str, &str)],
    ) -> Result<Vec<Datapoint>, Error> {
        let dimensions: Vec<_> = dimensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let metric = metric.into_iter().map(|metric| ("metric", metric));
        self.get(&with_query(
            "/datapoints",
            metric.chain(dimensions.iter().map(|pair| ("dimension", pair.as_str()))),
        ))
    }

    /// The alarms, their states and how they came to them.
    ///
    /// # Errors
    /// See [`Self::set_tunnels`].
    pub fn alarms(&self) -> Result<Vec<AlarmView>, Error> {
        self.get("/alarms")
    }

    /// What SNS accepted.
    ///
    /// # Errors
    /// See [`Self::set_tunnels`].
    pub fn messages(&self) -> Result<Vec<Message>, Error> {
        self.get("/messages")
    }

    /// Forgets requests, sums, datums, messages and the alarms' histories; not tunnels, faults and alarms.
    ///
    /// # Errors
    /// See [`Self::set_tunnels`].
    pub fn clear(&self) -> Result<(), Error> {
        self.call("POST", "/clear", &[]).map(drop)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let body = self.call("GET", path, &[])?;
        serde_json::from_slice(&body).map_err(|error| self.failed(path, error.to_string()))
    }

    fn put<T: Serialize + ?Sized>(&self, method: &str, path: &str, value: &T) -> Result<(), Error> {
        let body = serde_json::to_vec(value).map_err(|error| self.failed(path, error.to_string()))?;
        self.call(method, path, &body).map(drop)
    }

    fn call(&self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |error: std::io::Error| self.failed(path, error.to_string());
        let mut stream = UnixStream::connect(&self.path).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER)).map_err(failed)?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).map_err(failed)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(failed)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) =
            answer.split_at(end.ok_or_else(|| self.failed(path, "a torn answer".to_owned()))? + 4);
        if head.starts_with(b"HTTP/1.1 200") {
            return Ok(body.to_vec());
        }
        let said: Json = serde_json::from_slice(body).unwrap_or_default();
        Err(self.failed(path, said["error"].as_str().unwrap_or("an error without words").to_owned()))
    }

    fn failed(&self, path: &str, why: String) -> Error {
        Error::Control { path: self.path.clone(), call: path.to_owned(), why }
    }
}

fn with_query<'a>(path: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    format!("{path}?{}", form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
}
