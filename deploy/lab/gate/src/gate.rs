//! The gate itself: its listener, the way of a request through it, and what all of its parts share.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crosswatch_shared::time::Timestamp;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Error;
use crate::alarm_calls;
use crate::alarm_store::{Alarms, Publication};
use crate::alarms;
use crate::answer::{Answer, Refusal};
use crate::buckets::Buckets;
use crate::call::{Call, Input, Service};
use crate::calls::Calls;
use crate::control;
use crate::ec2::{self, Vpn};
use crate::faults::{Effect, Faults, Strike};
use crate::metrics::{self, Metrics};
use crate::mutes::{self, Mutes};
use crate::record::{self, Record};
use crate::sns::{self, Messages, SmsState};
use crate::sqs::{self, Handles};
use crate::sts;
use crate::upstream::{Emulator, Process, Upstream};

/// The largest body that is read.
const LARGEST: usize = 16 << 20;

/// How a gate is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The socket by which it is controlled; a dead one there is replaced.
    pub control: PathBuf,
    /// What is behind it.
    pub emulator: Emulator,
    /// How often alarms are evaluated; none: as AWS does, each minute, those with periods below one each 10 s.
    pub evaluate_every: Option<Duration>,
    /// How often `AWS/VPN TunnelState` is made of the table; 300 s on AWS.
    pub tunnel_state_every: Duration,
    /// How many messages of a queue may be in flight; 120,000 on AWS.
    pub in_flight_limit: usize,
    /// The folder in which it is written down who called what.
    pub calls: Option<PathBuf>,
}

impl Options {
    /// As AWS does, before this emulator.
    #[must_use]
    pub fn new(listen: SocketAddr, control: impl Into<PathBuf>, emulator: Emulator) -> Self {
        Self {
            listen,
            control: control.into(),
            emulator,
            evaluate_every: None,
            tunnel_state_every: Duration::from_secs(300),
            in_flight_limit: 120_000,
            calls: None,
        }
    }
}

/// A running gate. It ends when dropped, and the emulator that it started with it.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    control: PathBuf,
    _tasks: JoinSet<()>,
    _emulator: Option<Process>,
}

impl Gate {
    /// Starts the emulator where it is asked to, and answers from then on.
    ///
    /// # Errors
    /// The emulator does not start or answer, the address cannot be bound, the socket cannot be made.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let bind = |source| Error::Bind { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let socket = control::bind(&options.control)?;
        let (upstream, emulator) = Upstream::start(&options.emulator).await?;
        let calls = match &options.calls {
            None => Calls::default(),
            Some(folder) => {
                Calls::into(folder).map_err(|source| Error::Calls { folder: folder.clone(), source })?
            }
        };
        let state = Arc::new(State::new(upstream, &options, calls));
        let mut tasks = JoinSet::new();
        tasks.spawn(control::serve(Arc::clone(&state), socket));
        tasks.spawn(alarms::run(Arc::clone(&state), options.evaluate_every, options.tunnel_state_every));
        tasks.spawn(serve(state, listener));
        Ok(Self { address, control: options.control, _tasks: tasks, _emulator: emulator })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `AWS_ENDPOINT_URL` is set to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Nobody hears of it: a socket that stays is replaced by the next gate.
        let _ = std::fs::remove_file(&self.control);
    }
}

/// What all parts share.
pub(crate) struct State {
    pub(crate) upstream: Upstream,
    pub(crate) in_flight_limit: usize,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) record: Mutex<Record>,
    pub(crate) tunnels: Mutex<Vec<Vpn>>,
    pub(crate) handles: Mutex<Handles>,
    pub(crate) moves: Mutex<Vec<Json>>,
    pub(crate) metrics: Mutex<Metrics>,
    pub(crate) alarms: Mutex<Alarms>,
    pub(crate) mutes: Mutex<Mutes>,
    /// What changes of state by hand owe to SNS.
    pub(crate) owed: Mutex<Vec<Publication>>,
    pub(crate) messages: Mutex<Messages>,
    pub(crate) sms: Mutex<SmsState>,
    pub(crate) buckets: Mutex<Buckets>,
    calls: Mutex<Calls>,
    entries: AtomicU64,
}

impl State {
    fn new(upstream: Upstream, options: &Options, calls: Calls) -> Self {
        Self {
            upstream,
            in_flight_limit: options.in_flight_limit,
            faults: Mutex::default(),
            record: Mutex::default(),
            tunnels: Mutex::default(),
            handles: Mutex::default(),
            moves: Mutex::default(),
            metrics: Mutex::default(),
            alarms: Mutex::default(),
            mutes: Mutex::default(),
            owed: Mutex::default(),
            messages: Mutex::default(),
            sms: Mutex::default(),
            buckets: Mutex::default(),
            calls: Mutex::new(calls),
            entries: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    /// True for the first entry that it is asked for, false for the second, and so on.
    pub(crate) fn every_second(&self) -> bool {
        self.entries.fetch_add(1, Ordering::Relaxed).is_multiple_of(2)
    }
}

/// No lock is held across an await, and none is left in disorder by a panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(gate: Arc<State>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(connection(Arc::clone(&gate), stream, peer.ip().to_canonical().to_string()));
            }
            // Out of files, mostly: those in use are closed some day.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn connection(gate: Arc<State>, stream: TcpStream, source: String) {
    let _ = stream.set_nodelay(true);
    // A second handle on the connection, by which it can be reset.
    let Ok(socket) = SockRef::from(&stream).try_clone() else { return };
    let socket = Arc::new(socket);
    let service = service_fn(|request| one(Arc::clone(&gate), Arc::clone(&socket), source.clone(), request));
    // Ends with an error when it is reset, or when the client goes away.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Why a connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("reset")]
struct Reset;

async fn one(
    gate: Arc<State>,
    socket: Arc<Socket>,
    source: String,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Reset> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, LARGEST).collect().await.map_err(|_| Reset)?.to_bytes();
    let (call, flaw) = Call::read(source, parts, body);
    // A client that goes away does not undo what it asked for.
    let done = tokio::spawn(async move { through(&gate, call, flaw).await }).await;
    match done {
        Ok(Some(answer)) => Ok(response(answer)),
        Ok(None) | Err(_) => {
            // With no time to linger, closing is a reset.
            let _ = socket.set_linger(Some(Duration::ZERO));
            Err(Reset)
        }
    }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut builder = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        builder = builder.header(name, value);
    }
    builder.body(Full::new(answer.body)).unwrap_or_default()
}

/// The way of a request: fault, refusal, effect, record. `None` resets the connection.
async fn through(gate: &State, call: Call, flaw: Option<Refusal>) -> Option<Answer> {
    if call.service == Service::Emulator {
        return Some(gate.upstream.forward(&call, None).await);
    }
    let strike = lock(&gate.faults).strike(&call);
    if !strike.latency.is_zero() {
        tokio::time::sleep(strike.latency).await;
    }
    let struck = match &strike.end {
        Some(Effect::Reset { .. }) => {
            write_down(gate, &call, None, "Reset");
            return None;
        }
        Some(Effect::Status { status, code }) => {
            Some(Refusal::new(*status, code.clone(), "a fault that was ordered"))
        }
        Some(_) => Some(Refusal::throttled(&call.service)),
        None => None,
    };
    if let Some(refusal) = struck {
        let mut answer = refusal.answer(&call.service);
        answer.why = None;
        write_down(gate, &call, Some(&answer), "");
        return Some(answer);
    }
    let answer = match flaw {
        Some(flaw) => flaw.answer(&call.service),
        None => dispatch(gate, &call, &strike).await.unwrap_or_else(|refusal| refusal.answer(&call.service)),
    };
    if strike.lose_answer {
        write_down(gate, &call, Some(&answer), "AnswerLost");
        return None;
    }
    write_down(gate, &call, Some(&answer), "");
    Some(answer)
}

async fn dispatch(gate: &State, call: &Call, strike: &Strike) -> Result<Answer, Refusal> {
    match &call.service {
        Service::Sqs => sqs::answer(gate, call, strike).await,
        Service::CloudWatch => cloudwatch(gate, call).await,
        Service::Sns => sns::answer(gate, call).await,
        Service::Ec2 => ec2::answer(call, &lock(&gate.tunnels)),
        Service::Sts => sts::answer(call, gate.now()),
        Service::Other(_) | Service::Emulator => Ok(gate.upstream.forward(call, None).await),
    }
}

async fn cloudwatch(gate: &State, call: &Call) -> Result<Answer, Refusal> {
    if !lock(&gate.buckets).take(call, std::time::Instant::now()) {
        return Err(Refusal::throttled(&call.service));
    }
    if call.operation != "PutMetricData" {
        let Some(answer) = alarm_calls::answer(gate, call).or_else(|| mutes::answer(gate, call)) else {
            return Ok(gate.upstream.forward(call, None).await);
        };
        let owed = std::mem::take(&mut *lock(&gate.owed));
        alarms::publish(gate, owed).await;
        return answer;
    }
    let datums = metrics::read(call, gate.now())?;
    let answer = gate.upstream.forward(call, None).await;
    if answer.is_success() {
        let mut metrics = lock(&gate.metrics);
        for (series, stored) in datums {
            metrics.add(series, stored);
        }
    }
    Ok(answer)
}

fn write_down(gate: &State, call: &Call, answer: Option<&Answer>, reset: &str) {
    let (entries, billed, summary) = match (&call.service, &call.input) {
        (Service::Sqs, _) => {
            let summary = answer.map_or(Json::Null, |answer| sqs::summary(call, answer));
            (sqs::entries(call), sqs::billed(call), summary)
        }
        (Service::CloudWatch, Input::Cbor(input)) => {
            let (datums, names) = (input.list("MetricData").len() as u64, input.texts("AlarmNames"));
            let entries = if datums > 0 { datums } else { (names.len() as u64).max(1) };
            (entries, 1, json!({"names": names}))
        }
        (Service::Sns, _) => (1, 1, json!({"text": call.text("Message")})),
        (Service::Ec2, _) => (1, 1, json!({"ids": call.numbered("VpnConnectionId")})),
        (Service::Sts, _) => (1, 1, json!({"session": call.text("RoleSessionName")})),
        _ => (1, 1, Json::Null),
    };
    lock(&gate.calls).note(call);
    let is_reset = !reset.is_empty();
    let code = if is_reset { Some(reset.to_owned()) } else { answer.and_then(|answer| answer.code.clone()) };
    lock(&gate.record).push(record::Request {
        n: 0,
        at: gate.now(),
        source: call.source.clone(),
        region: call.region.clone(),
        account: call.account.clone(),
        service: call.service.name().to_owned(),
        operation: call.operation.clone(),
        resource: call.resource(),
        status: answer.filter(|_| !is_reset).map(|answer| answer.status),
        code,
        bytes: call.body.len() as u64,
        billed,
        entries,
        refused: answer.and_then(|answer| answer.why.clone()),
        summary,
    });
}

/// For servers whose service cannot fail.
pub(crate) type Never = Infallible;
