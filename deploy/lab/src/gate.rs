//! The control socket of `crosswatch-gate`, which stands before the local AWS: tunnels, faults, and what it saw.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::http::{self, Answer, Request};

/// A client of the gate's control socket; each call is a connection of its own.
#[derive(Clone, Debug)]
pub struct Gate {
    socket: PathBuf,
}

impl Gate {
    /// The gate that listens on this socket.
    #[must_use]
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The VPN connections that EC2 tells of from now on, as the gate's `PUT /tunnels` takes them.
    ///
    /// # Errors
    /// The gate does not answer, or refuses them.
    pub fn set_tunnels(&self, table: &impl Serialize) -> Result<()> {
        self.send("PUT", "/tunnels", Some(table)).map(drop)
    }

    /// Adds a fault, as `POST /faults` takes it: `id`, `match`, `effect`, `one_in`, `times`.
    ///
    /// # Errors
    /// The gate does not answer, or refuses it.
    pub fn add_fault(&self, fault: &impl Serialize) -> Result<()> {
        self.send("POST", "/faults", Some(fault)).map(drop)
    }

    /// Ends the fault of this id, if there is one: a gate that was started anew has none.
    ///
    /// # Errors
    /// The gate does not answer.
    pub fn remove_fault(&self, id: &str) -> Result<()> {
        let path = format!("/faults/{id}");
        let answer = self.ask("DELETE", &path, "")?;
        if answer.status == 404 {
            return Ok(());
        }
        answer.ok().map(drop).map_err(|why| failed(&format!("DELETE {path}"), why))
    }

    /// What is at a path: `/messages`, `/alarms`, `/datapoints`, `/record`, `/counts`.
    ///
    /// # Errors
    /// The gate does not answer, or not with JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        let body = self.send("GET", path, None::<&()>)?;
        serde_json::from_str(&body).map_err(|error| failed(&format!("GET {path}"), error.to_string()))
    }

    fn send(&self, method: &str, path: &str, body: Option<&impl Serialize>) -> Result<String> {
        let what = format!("{method} {path}");
        let body = body.map(serde_json::to_string).transpose();
        let body = body.map_err(|error| failed(&what, error.to_string()))?.unwrap_or_default();
        self.ask(method, path, &body)?.ok().map_err(|why| failed(&what, why))
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let headers = [("content-type", "application/json")];
        let request = Request { method, path, headers: &headers, body };
        let answer = http::over_unix(&self.socket, request);
        answer.map_err(|error| failed(&format!("{method} {path}"), error.to_string()))
    }
}

fn failed(what: &str, why: String) -> Error {
    Error::Service { service: "the gate", what: what.to_owned(), why }
}
