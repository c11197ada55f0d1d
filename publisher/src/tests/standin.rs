//! A stand-in for CloudWatch that is stricter than it: it takes what the API reference allows and not a byte more, keeps
//! what it took, and fails as it is told.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crosswatch_aws::Session;
use crosswatch_aws::cloudwatch::CloudWatch;
use crosswatch_window::Values;
use minicbor::data::Type;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// How the next request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// 500, nothing taken.
    Down,
    /// 400 as AWS throttles, nothing taken.
    Throttled,
    /// The connection is closed before anything was taken.
    Reset,
    /// It is taken, and the connection closed without an answer.
    AnswerLost,
    /// It is taken, and there is no answer until the caller is gone.
    Hangs,
    /// 403, nothing taken.
    Denied,
    /// 400 whatever is in it, as for a namespace that it does not like.
    Refused,
}

#[derive(Default)]
pub(crate) struct State {
    /// For the next requests; without one, `always`.
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) always: Option<Fault>,
    /// Whatever has a dimension of this value is refused.
    pub(crate) bad: Option<String>,
    /// At whatever has a dimension of this value it breaks down.
    pub(crate) breaks: Option<String>,
    /// The datums of each request taken.
    pub(crate) taken: Vec<Vec<Datum>>,
    /// How many requests came, taken or not.
    pub(crate) requests: usize,
    /// Why requests were refused.
    pub(crate) refused: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Datum {
    pub(crate) name: String,
    pub(crate) dimensions: Vec<(String, String)>,
    /// Seconds since the epoch.
    pub(crate) at: i64,
    pub(crate) values: Vec<(f64, u64)>,
    pub(crate) unit: String,
    pub(crate) resolution: i64,
}

/// A metric at a time.
pub(crate) type Key = (String, Vec<(String, String)>, i64);

impl State {
    /// What the metrics hold, all but heartbeats.
    pub(crate) fn held(&self) -> BTreeMap<Key, Values> {
        let mut held = BTreeMap::new();
        for datum in self.taken.iter().flatten().filter(|datum| datum.name != "Heartbeat") {
            let values = Values::new(datum.values.clone()).unwrap();
            let key = (datum.name.clone(), datum.dimensions.clone(), datum.at);
            let before: Option<Values> = held.remove(&key);
            held.insert(key, before.into_iter().fold(values, Values::merge));
        }
        held
    }

    pub(crate) fn heartbeats(&self) -> usize {
        self.taken.iter().flatten().filter(|datum| datum.name == "Heartbeat").count()
    }
}

pub(crate) struct StandIn {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) client: CloudWatch,
    _serving: AbortOnDropHandle<()>,
}

impl StandIn {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        let client = CloudWatch::new(&Session::emulated(&endpoint, "us-east-1"));
        Self { state, client, _serving: AbortOnDropHandle::new(serving) }
    }
}

/// Answers one request, then closes.
async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
    let header = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.map(str::to_owned)
    };
    let length: usize = header("content-length").unwrap().parse().unwrap();
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let mut body = bytes.split_off(end);
    assert!(
        head.starts_with("post /service/graniteserviceversion20100801/operation/putmetricdata "),
        "{head}"
    );
    assert_eq!(header("smithy-protocol").as_deref(), Some("rpc-v2-cbor"));
    let compressed = header("content-encoding").as_deref() == Some("gzip");
    assert_eq!(compressed, body.len() >= 10_240 || compressed, "large bodies are compressed");
    if compressed {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
        body = plain;
    }
    let (fault, answer) = answer(&body, &state);
    if fault == Fault::Hangs {
        // Until the caller has gone.
        while stream.read_buf(&mut bytes).await.ok()? > 0 {}
        return None;
    }
    let (status, code) = answer?;
    let body = match code {
        None => vec![0xbf, 0xff],
        Some(code) => {
            let mut body = minicbor::Encoder::new(Vec::new());
            body.map(2).unwrap().str("__type").unwrap().str(code).unwrap();
            body.str("message").unwrap().str("said the stand-in").unwrap();
            body.into_writer()
        }
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nsmithy-protocol: rpc-v2-cbor\r\ncontent-type: application/cbor\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(&body).await.ok()?;
    stream.shutdown().await.ok()
}

/// Status and error code; nothing for a connection that breaks.
fn answer(body: &[u8], state: &Mutex<State>) -> (Fault, Option<(u16, Option<&'static str>)>) {
    let mut state = state.lock().unwrap();
    state.requests += 1;
    let fault = state.faults.pop_front().or(state.always).unwrap_or(Fault::None);
    match fault {
        Fault::Down => return (fault, Some((500, Some("InternalServiceError")))),
        Fault::Throttled => return (fault, Some((400, Some("Throttling")))),
        Fault::Denied => return (fault, Some((403, Some("AccessDenied")))),
        Fault::Refused => return (fault, Some((400, Some("InvalidParameterValue")))),
        Fault::Reset => return (fault, None),
        Fault::None | Fault::AnswerLost | Fault::Hangs => {}
    }
    let datums = decode(body);
    let has = |value: &Option<String>| {
        let value = value.as_deref();
        let dimensions = datums.iter().flatten().flat_map(|datum| &datum.dimensions);
        value.is_some() && dimensions.map(|(_, name)| name.as_str()).any(|name| Some(name) == value)
    };
    if has(&state.breaks) {
        return (fault, Some((500, Some("InternalServiceError"))));
    }
    let bad = if has(&state.bad) { Err("a bad datum".to_owned()) } else { Ok(()) };
    match datums.clone().and_then(|datums| check(body, &datums)).and(bad) {
        Ok(()) => state.taken.push(datums.unwrap()),
        Err(why) => {
            state.refused.push(why);
            return (fault, Some((400, Some("InvalidParameterValue"))));
        }
    }
    (fault, (fault == Fault::None).then_some((200, None)))
}

/// What the API reference allows.
fn check(body: &[u8], datums: &[Datum]) -> Result<(), String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seconds = |duration: Duration| duration.as_secs().cast_signed();
    let limits = [(body.len() <= 1_000_000, "1 MB"), ((1..=1_000).contains(&datums.len()), "1,000 datums")];
    for (holds, limit) in limits {
        holds.then_some(()).ok_or_else(|| limit.to_owned())?;
    }
    for datum in datums {
        let range = 2_f64.powi(-360)..=2_f64.powi(360);
        let names = datum.dimensions.iter().flat_map(|(name, value)| [name, value]);
        for (holds, limit) in [
            (datum.dimensions.len() <= 30, "30 dimensions"),
            ((1..=150).contains(&datum.values.len()), "150 values"),
            (datum.values.iter().all(|(value, _)| *value == 0.0 || range.contains(&value.abs())), "±2^360"),
            (datum.values.iter().all(|(_, count)| *count > 0), "counts"),
            (datum.at >= seconds(now) - 14 * 86_400, "two weeks back"),
            (datum.at <= seconds(now) + 7_200, "two hours ahead"),
            (names.into_iter().all(|name| !name.is_empty() && name.is_ascii()), "ASCII"),
            (["Milliseconds", "Count", "None"].contains(&&*datum.unit), "unit"),
            ([1, 60].contains(&datum.resolution), "resolution"),
        ] {
            holds.then_some(()).ok_or_else(|| format!("{limit}: {datum:?}"))?;
        }
    }
    Ok(())
}

/// A CBOR value, as far as a request has such.
#[derive(Clone, Debug)]
enum Cbor {
    Map(BTreeMap<String, Cbor>),
    List(Vec<Cbor>),
    Text(String),
    Number(f64),
}

fn decode(body: &[u8]) -> Result<Vec<Datum>, String> {
    let mut decoder = minicbor::Decoder::new(body);
    let Cbor::Map(request) = read(&mut decoder) else { panic!("no map") };
    assert_eq!(request.keys().collect::<Vec<_>>(), ["MetricData", "Namespace"]);
    let Cbor::List(datums) = &request["MetricData"] else { panic!("no list") };
    datums.iter().map(datum).collect()
}

fn datum(value: &Cbor) -> Result<Datum, String> {
    let Cbor::Map(fields) = value else { panic!("no map") };
    let list = |name: &str| match fields.get(name) {
        Some(Cbor::List(list)) => list.clone(),
        None => Vec::new(),
        other => panic!("{other:?}"),
    };
    let text = |fields: &BTreeMap<String, Cbor>, name: &str| match &fields[name] {
        Cbor::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    let number = |value: &Cbor| match value {
        Cbor::Number(number) => *number,
        other => panic!("{other:?}"),
    };
    let values: Vec<f64> = list("Values").iter().map(number).collect();
    let mut counts: Vec<u64> = list("Counts").iter().map(|count| number(count) as u64).collect();
    if counts.is_empty() {
        counts = vec![1; values.len()];
    }
    if counts.len() != values.len() {
        return Err("Values and Counts differ in length".to_owned());
    }
    let mut distinct = values.clone();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup();
    if distinct.len() != values.len() {
        return Err("a value comes twice".to_owned());
    }
    Ok(Datum {
        name: text(fields, "MetricName"),
        dimensions: list("Dimensions")
            .iter()
            .map(|dimension| {
                let Cbor::Map(dimension) = dimension else { panic!("no map") };
                (text(dimension, "Name"), text(dimension, "Value"))
            })
            .collect(),
        at: number(&fields["Timestamp"]) as i64,
        values: values.into_iter().zip(counts).collect(),
        unit: text(fields, "Unit"),
        resolution: number(&fields["StorageResolution"]) as i64,
    })
}

fn read(decoder: &mut minicbor::Decoder<'_>) -> Cbor {
    match decoder.datatype().unwrap() {
        Type::Map | Type::MapIndef => {
            let mut map = BTreeMap::new();
            let length = decoder.map().unwrap();
            while length
                .map_or_else(|| decoder.datatype().unwrap() != Type::Break, |n| (map.len() as u64) < n)
            {
                let key = decoder.str().unwrap().to_owned();
                map.insert(key, read(decoder));
            }
            if length.is_none() {
                decoder.skip().unwrap();
            }
            Cbor::Map(map)
        }
        Type::Array => {
            let length = decoder.array().unwrap().unwrap();
            Cbor::List((0..length).map(|_| read(decoder)).collect())
        }
        Type::Tag => {
            decoder.tag().unwrap();
            read(decoder)
        }
        Type::String => Cbor::Text(decoder.str().unwrap().to_owned()),
        Type::F64 => Cbor::Number(decoder.f64().unwrap()),
        Type::F32 => Cbor::Number(decoder.f32().unwrap().into()),
        _ => Cbor::Number(decoder.i64().unwrap() as f64),
    }
}
