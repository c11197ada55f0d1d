//! The control socket: HTTP/1.1 and JSON over a Unix socket, which works across network namespaces.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::UnixListener;

use crate::Error;
use crate::ec2::{self, Vpn};
use crate::faults::Fault;
use crate::gate::{Never, State, lock};
use crate::sns::SmsState;

/// Makes the socket; one that nobody listens on any more is replaced.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, Error> {
    let failed = |source| Error::Socket { path: path.to_owned(), source };
    if path.exists() {
        if UnixStream::connect(path).is_ok() {
            return Err(failed(std::io::ErrorKind::AddrInUse.into()));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    UnixListener::bind(path).map_err(failed)
}

pub(crate) async fn serve(gate: Arc<State>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let gate = Arc::clone(&gate);
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(Arc::clone(&gate), request));
                    // A client that goes away takes its answer with it.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
}

/// A status, and the body or what is wrong.
type Outcome = Result<Vec<u8>, (u16, String)>;

async fn answer(gate: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Never> {
    let (parts, body) = request.into_parts();
    let outcome = match body.collect().await {
        Ok(body) => route(&gate, &parts.method, parts.uri.path(), parts.uri.query(), &body.to_bytes()),
        Err(error) => Err((400, error.to_string())),
    };
    let (status, body) = match outcome {
        Ok(body) => (200, body),
        Err((status, error)) => (status, json!({"error": error}).to_string().into_bytes()),
    };
    let response = Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(Full::new(body.into())).unwrap_or_default())
}

fn route(gate: &State, method: &Method, path: &str, query: Option<&str>, body: &[u8]) -> Outcome {
    let pairs: Vec<(String, String)> =
        form_urlencoded::parse(query.unwrap_or("").as_bytes()).into_owned().collect();
    let asked = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    match (method.as_str(), path) {
        ("PUT", "/tunnels") => {
            let table: Vec<Vpn> = read(body)?;
            ec2::check(&table).map_err(|error| (400, error))?;
            *lock(&gate.tunnels) = table;
            write(&json!({}))
        }
        ("GET", "/tunnels") => write(&*lock(&gate.tunnels)),
        ("PUT", "/sms") => {
            *lock(&gate.sms) = read::<SmsState>(body)?;
            write(&json!({}))
        }
        ("GET", "/sms") => write(&*lock(&gate.sms)),
        ("POST", "/faults") => {
            let fault: Fault = read(body)?;
            lock(&gate.faults).order(fault).map_err(|error| (400, error))?;
            write(&json!({}))
        }
        ("GET", "/faults") => write(&lock(&gate.faults).list()),
        ("DELETE", "/faults") => {
            lock(&gate.faults).clear();
            write(&json!({}))
        }
        ("DELETE", path) if path.starts_with("/faults/") => {
            let id = path.trim_start_matches("/faults/");
            if lock(&gate.faults).remove(id) {
                write(&json!({}))
            } else {
                Err((404, format!("no fault is called {id}")))
            }
        }
        ("GET", "/record") => {
            let since = match asked("since") {
                None => 0,
                Some(since) => since.parse().map_err(|_| (400, format!("since={since} is no number")))?,
            };
            let some = |name| asked(name).filter(|value| !value.is_empty());
            write(&lock(&gate.record).page(some("service"), some("operation"), since))
        }
        ("GET", "/counts") => write(&lock(&gate.record).counts()),
        ("GET", "/datapoints") => {
            let dimensions = pairs.iter().filter(|(key, _)| key == "dimension").map(|(_, pair)| {
                let pair = pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
                pair.ok_or_else(|| (400, "a dimension is asked for as dimension=NAME=VALUE".to_owned()))
            });
            let dimensions = dimensions.collect::<Result<Vec<_>, _>>()?;
            write(&lock(&gate.metrics).list(asked("metric"), &dimensions))
        }
        ("GET", "/alarms") => write(&lock(&gate.alarms).views()),
        ("GET", "/messages") => write(&lock(&gate.messages).list()),
        ("POST", "/clear") => {
            // What was seen goes; tunnels, faults, alarms and their states stay.
            lock(&gate.record).clear();
            lock(&gate.metrics).clear();
            lock(&gate.messages).clear();
            lock(&gate.alarms).forget_history();
            write(&json!({}))
        }
        _ => Err((404, format!("the gate has no {method} {path}"))),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, (u16, String)> {
    serde_json::from_slice(body).map_err(|error| (400, error.to_string()))
}

fn write<T: Serialize + ?Sized>(value: &T) -> Outcome {
    serde_json::to_vec(value).map_err(|error| (500, error.to_string()))
}
