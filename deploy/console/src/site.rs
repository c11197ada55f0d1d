//! What is answered to which request.

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crosswatch_explain::Explanation;
use crosswatch_host::clock;
use crosswatch_shared::config::topology::{Link, Topology};
use crosswatch_shared::time::{NotATime, Timestamp};
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::drawing::{self, Told};
use crate::follow::Snapshot;
use crate::graph::{Graph, Span};
use crate::guard::{Guard, LASTS, Refusal, SESSION};
use crate::history::History;
use crate::html;
use crate::judged::{Alerter, Unexplained};
use crate::window::Window;

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// How many pages are drawn at a time; what waits longer than this is turned away.
const DRAWING: usize = 2;
const PATIENCE: Duration = Duration::from_secs(5);
/// How many may look live at a time.
const VIEWERS: usize = 256;
/// How often a live viewer hears something.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// How large the form with the token may be, and how long it may take.
const FORM_BYTES: usize = 4 << 10;
const FORM_TIME: Duration = Duration::from_secs(10);
/// How many incidents a page lists, and how far back.
const INCIDENTS: usize = 200;
/// How many bundles of evidence a link's page has.
const BUNDLES: usize = 20;
const INCIDENTS_BACK: Duration = Duration::from_secs(35 * 86_400);

const CSP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                   form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The site that is served.
pub(crate) struct Site {
    pub(crate) topology: Topology,
    pub(crate) told: watch::Receiver<Arc<Snapshot>>,
    /// The history's file.
    pub(crate) file: PathBuf,
    pub(crate) alerter: Arc<dyn Alerter>,
    pub(crate) guard: Guard,
    pub(crate) stop: CancellationToken,
    pub(crate) drawing: Arc<Semaphore>,
    /// What is past is judged anew for an explanation, which may take seconds: one at a time.
    pub(crate) explaining: Arc<Semaphore>,
    viewers: Arc<Semaphore>,
    /// The overview's first page as it was drawn last, and of which state.
    drawn: Mutex<Option<(u64, Bytes)>>,
}

/// What a request gets, when it is not what it asked for.
pub(crate) enum Failure {
    NotFound(String),
    Busy,
    Broken(String),
}

pub(crate) type Answer = Result<Response<Body>, Failure>;

impl Site {
    pub(crate) fn new(
        topology: Topology,
        told: watch::Receiver<Arc<Snapshot>>,
        file: PathBuf,
        alerter: Arc<dyn Alerter>,
        guard: Guard,
        stop: CancellationToken,
    ) -> Self {
        let [drawing, explaining, viewers] = [DRAWING, 1, VIEWERS].map(|of| Arc::new(Semaphore::new(of)));
        let drawn = Mutex::default();
        Self { topology, told, file, alerter, guard, stop, drawing, explaining, viewers, drawn }
    }

    /// Answers a request from an address. A body is read of the token's form alone.
    pub(crate) async fn answer(self: &Arc<Self>, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let mut response = self.route(request, peer).await;
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_SECURITY_POLICY, CSP),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }

    async fn route(self: &Arc<Self>, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let for_programs = path.starts_with("/api/") || path == "/events";
        let admitted = self.guard.admit(&head.headers, peer, Instant::now());
        let open = path == "/login" || path.starts_with("/assets/");
        match admitted {
            Ok(()) => {}
            Err(Refusal::Unknown) if open => {}
            Err(refusal) => return refuse(&refusal, for_programs),
        }
        if path == "/login" {
            return match head.method {
                Method::POST => self.login(body, peer).await,
                Method::GET if self.guard.wants_token() => html_page(StatusCode::OK, html::login(None)),
                _ => see("/"),
            };
        }
        if head.method != Method::GET && head.method != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this only shows: ask with GET");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let answer = self.show(&path, &query).await;
        let response = answer.unwrap_or_else(|failure| failed(failure, for_programs));
        if head.method == Method::HEAD { response.map(|_| full(Bytes::new())) } else { response }
    }

    async fn show(self: &Arc<Self>, path: &str, query: &str) -> Answer {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts.as_slice() {
            [""] => self.overview(query),
            ["events"] => self.events(),
            ["incidents"] => self.draw(|site, snapshot, now| site.incidents(snapshot, now)).await,
            ["incident", id] => {
                let id = (*id).to_owned();
                self.draw(move |site, snapshot, now| site.incident(&id, snapshot, now)).await
            }
            ["incident", id, "report"] => {
                let id = (*id).to_owned();
                self.work(&self.explaining, move |site, _, now| site.report(&id, now)).await
            }
            ["link", name] => {
                let (name, query) = (decoded(name), query.to_owned());
                self.draw(move |site, snapshot, now| site.link(&name, &query, snapshot, now)).await
            }
            ["graph", name] => {
                let parts = name.rsplit_once('.').filter(|(_, kind)| ["svg", "png"].contains(kind));
                let no_graph = || Failure::NotFound("a graph ends in .svg or .png".to_owned());
                let (name, kind) = parts.ok_or_else(no_graph)?;
                let (name, query, as_png) = (decoded(name), query.to_owned(), kind == "png");
                self.draw(move |site, _, now| site.graph(&name, &query, as_png, now)).await
            }
            ["explain"] => {
                let query = query.to_owned();
                self.work(&self.explaining, move |site, _, now| site.explain(&query, now)).await
            }
            ["assets", name] => asset(name),
            ["api", "v1", rest @ ..] => api::answer(self, rest, query).await,
            _ => Err(Failure::NotFound("there is no such page".to_owned())),
        }
    }

    fn overview(&self, query: &str) -> Answer {
        let snapshot = self.told.borrow().clone();
        let from = get(query, "from").and_then(|value| value.parse::<usize>().ok()).unwrap_or(0);
        if from > 0 {
            return Ok(html_page(
                StatusCode::OK,
                html::overview::overview(&snapshot.overview, snapshot.version, from),
            ));
        }
        // Many look at the same: it is drawn once.
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let page = match &*drawn {
            Some((version, page)) if *version == snapshot.version => page.clone(),
            _ => {
                let page = Bytes::from(html::overview::overview(&snapshot.overview, snapshot.version, 0));
                *drawn = Some((snapshot.version, page.clone()));
                page
            }
        };
        Ok(html_page(StatusCode::OK, page))
    }

    fn incidents(&self, snapshot: &Snapshot, now: Timestamp) -> Answer {
        let incidents = self.alerter.incidents(now - INCIDENTS_BACK, Timestamp::MAX, None, INCIDENTS);
        let incidents = incidents.map_err(Failure::Broken)?;
        Ok(html_page(StatusCode::OK, html::overview::incidents_page(&incidents, snapshot.version)))
    }

    fn incident(&self, id: &str, snapshot: &Snapshot, now: Timestamp) -> Answer {
        let story = self.alerter.story(id).map_err(Failure::Broken)?;
        let story = story.ok_or(Failure::NotFound("there is no such incident".to_owned()))?;
        Ok(html_page(StatusCode::OK, html::incident::incident(&story, snapshot.version, now)))
    }

    /// To be kept, not to be shown here: it has a style of its own.
    fn report(&self, id: &str, now: Timestamp) -> Answer {
        let report = self.alerter.report(id, now).map_err(Failure::Broken)?;
        let report = report.ok_or_else(|| Failure::NotFound("there is no such incident".to_owned()))?;
        let mut response = html_page(StatusCode::OK, report);
        let name: String = id.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let kept = format!("attachment; filename=\"incident-{name}.html\"");
        if let Ok(kept) = HeaderValue::from_str(&kept) {
            response.headers_mut().insert(header::CONTENT_DISPOSITION, kept);
        }
        Ok(response)
    }

    pub(crate) fn link_named(&self, name: &str) -> Result<&Link, Failure> {
        let link = self.topology.links.iter().find(|link| *link.name == *name);
        link.ok_or(Failure::NotFound("the config has no such link".to_owned()))
    }

    pub(crate) fn history(&self) -> Result<Option<History>, Failure> {
        History::open(&self.file).map_err(|error| Failure::Broken(error.to_string()))
    }

    fn link(&self, name: &str, query: &str, snapshot: &Snapshot, now: Timestamp) -> Answer {
        let state = snapshot.overview.links.iter().find(|link| link.link == name);
        let state = state.ok_or(Failure::NotFound("the config has no such link".to_owned()))?;
        let window = Window::of_query(query, now);
        let span = Span::new(window.from(), window.to(), now);
        let told = self.told(name, &span)?;
        let svg = self.drawn(name, &told, span, now)?.svg();
        let evidence = match self.history()? {
            Some(history) => history
                .evidence(name, span.from, span.to, BUNDLES)
                .map_err(|error| Failure::Broken(error.to_string()))?,
            None => Vec::new(),
        };
        let why = window.is_live().then(|| self.why(name, None, now));
        let shown = html::link::Shown {
            link: state,
            version: snapshot.version,
            window,
            span,
            svg,
            incidents: &told.incidents,
            evidence: &evidence,
            bundles: BUNDLES,
            why: why.as_ref(),
        };
        Ok(html_page(StatusCode::OK, html::link::link(&shown)))
    }

    fn graph(&self, name: &str, query: &str, as_png: bool, now: Timestamp) -> Answer {
        let window = Window::of_query(query, now);
        let span = Span::new(window.from(), window.to(), now);
        let graph = self.drawn(name, &self.told(name, &span)?, span, now)?;
        if as_png {
            return Ok(typed(StatusCode::OK, "image/png", graph.png()));
        }
        let svg = graph.svg();
        Ok(typed(StatusCode::OK, "image/svg+xml; charset=utf-8", svg))
    }

    /// What was judged of a link within a span.
    fn told(&self, name: &str, span: &Span) -> Result<Told, Failure> {
        let incidents = self.alerter.incidents(span.from, span.to, Some(name), INCIDENTS);
        let silences = self.alerter.silences().map_err(Failure::Broken)?;
        Ok(Told { incidents: incidents.map_err(Failure::Broken)?, silences })
    }

    /// Why something pages, or why not; or why that cannot be told.
    fn why(&self, asked: &str, at: Option<Timestamp>, now: Timestamp) -> Result<Explanation, String> {
        self.alerter.explain(asked, at, now).map_err(|failure| match failure {
            Unexplained::Asked(why) => why,
            Unexplained::Broken(why) => {
                tracing::warn!(%why, "nothing can be explained");
                why
            }
        })
    }

    fn explain(&self, query: &str, now: Timestamp) -> Answer {
        let asked = get(query, "of").unwrap_or_default();
        let at = match get(query, "at").filter(|at| !at.trim().is_empty()) {
            None => Ok(None),
            Some(at) => at.trim().parse().map(Some).map_err(|error: NotATime| error.to_string()),
        };
        let explained = (!asked.is_empty()).then(|| self.why(&asked, at.clone()?, now));
        let status = if let Some(Err(_)) = explained { StatusCode::NOT_FOUND } else { StatusCode::OK };
        let at = at.unwrap_or_default();
        Ok(html_page(status, html::explain::explain(&asked, at, explained.as_ref())))
    }

    fn drawn(&self, name: &str, told: &Told, span: Span, now: Timestamp) -> Result<Graph, Failure> {
        let graph = drawing::graph(self.history()?.as_ref(), self.link_named(name)?, told, span, now);
        graph.map_err(|error| Failure::Broken(error.to_string()))
    }

    /// Runs what reads files on a thread for that, a few at a time.
    pub(crate) async fn draw(
        self: &Arc<Self>,
        draw: impl FnOnce(&Self, &Snapshot, Timestamp) -> Answer + Send + 'static,
    ) -> Answer {
        self.work(&self.drawing, draw).await
    }

    /// The same, where these slots limit how many.
    pub(crate) async fn work(
        self: &Arc<Self>,
        slots: &Arc<Semaphore>,
        draw: impl FnOnce(&Self, &Snapshot, Timestamp) -> Answer + Send + 'static,
    ) -> Answer {
        let slot = tokio::time::timeout(PATIENCE, Arc::clone(slots).acquire_owned()).await;
        let Ok(Ok(slot)) = slot else { return Err(Failure::Busy) };
        let site = Arc::clone(self);
        let drawn = tokio::task::spawn_blocking(move || {
            let snapshot = site.told.borrow().clone();
            let answer = draw(&site, &snapshot, clock::now());
            drop(slot);
            answer
        });
        drawn.await.unwrap_or_else(|error| Err(Failure::Broken(error.to_string())))
    }

    /// Says when something has changed, as server-sent events: `states` at once, `numbers` now and then.
    fn events(self: &Arc<Self>) -> Answer {
        let seat = Arc::clone(&self.viewers).try_acquire_owned().map_err(|_| Failure::Busy)?;
        let viewer =
            Viewer { told: self.told.clone(), stop: self.stop.clone(), states: 0, begun: false, _seat: seat };
        let events = stream::unfold(viewer, |mut viewer| async move {
            let event = viewer.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(event)), viewer))
        });
        let body = BodyExt::boxed(StreamBody::new(events));
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        Ok(response)
    }

    async fn login(&self, body: Incoming, peer: IpAddr) -> Response<Body> {
        let read = tokio::time::timeout(FORM_TIME, Limited::new(body, FORM_BYTES).collect()).await;
        let Ok(Ok(form)) = read else {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "the form holds a token and no more");
        };
        let form = form.to_bytes();
        let token = form_urlencoded::parse(&form)
            .find(|(key, _)| key == "token")
            .map(|(_, value)| value.into_owned());
        match self.guard.enter(token.as_deref().unwrap_or_default(), peer, Instant::now()) {
            Ok(session) => {
                let mut response = see("/");
                let cookie = format!(
                    "{SESSION}={session}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax",
                    LASTS.as_secs()
                );
                if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                    response.headers_mut().insert(header::SET_COOKIE, cookie);
                }
                response
            }
            Err(refusal) => refuse(&refusal, false),
        }
    }
}

/// Somebody who looks live.
struct Viewer {
    told: watch::Receiver<Arc<Snapshot>>,
    stop: CancellationToken,
    /// Of which states he was told last.
    states: u64,
    begun: bool,
    _seat: OwnedSemaphorePermit,
}

impl Viewer {
    async fn next(&mut self) -> Option<Bytes> {
        if self.begun {
            let changed = tokio::select! {
                () = self.stop.cancelled() => return None,
                changed = tokio::time::timeout(SIGN_OF_LIFE, self.told.changed()) => changed,
            };
            match changed {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
        let snapshot = self.told.borrow_and_update().clone();
        let event = if !self.begun || snapshot.states != self.states { "states" } else { "numbers" };
        (self.begun, self.states) = (true, snapshot.states);
        Some(Bytes::from(format!("event: {event}\ndata: {}\n\n", snapshot.version)))
    }
}

fn refuse(refusal: &Refusal, for_programs: bool) -> Response<Body> {
    let (status, words) = match refusal {
        Refusal::Host => (
            StatusCode::MISDIRECTED_REQUEST,
            "this page is for localhost; add the name you asked for to [page] hosts to be answered under it",
        ),
        Refusal::Unknown => (StatusCode::UNAUTHORIZED, "a token is needed: Authorization: Bearer <token>"),
        Refusal::Wrong => (StatusCode::UNAUTHORIZED, "this is not the token"),
        Refusal::Often => {
            (StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens from your address: wait a minute")
        }
        Refusal::Broken(why) => {
            tracing::error!(%why, "nobody can be let in");
            (StatusCode::SERVICE_UNAVAILABLE, "the token cannot be read; the log says why")
        }
    };
    let mut response = match refusal {
        Refusal::Host => text(status, words),
        _ if for_programs => api::problem(status, words),
        Refusal::Unknown => html_page(status, html::login(None)),
        _ => html_page(status, html::login(Some(words))),
    };
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    }
    response
}

fn failed(failure: Failure, for_programs: bool) -> Response<Body> {
    let (status, words) = match failure {
        Failure::NotFound(words) => (StatusCode::NOT_FOUND, words),
        Failure::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many ask at once: try again".to_owned()),
        Failure::Broken(why) => {
            tracing::warn!(%why, "a page cannot be drawn");
            (StatusCode::INTERNAL_SERVER_ERROR, why)
        }
    };
    if for_programs {
        api::problem(status, &words)
    } else {
        html_page(status, html::note("This cannot be shown", &words))
    }
}

/// What is embedded in the program.
fn asset(name: &str) -> Answer {
    let (kind, text) = match name {
        "page.css" => ("text/css; charset=utf-8", include_str!("assets/page.css")),
        "page.js" => ("text/javascript; charset=utf-8", include_str!("assets/page.js")),
        "icon.svg" => ("image/svg+xml", include_str!("assets/icon.svg")),
        _ => return Err(Failure::NotFound("there is no such file".to_owned())),
    };
    let mut response = typed(StatusCode::OK, kind, Bytes::from_static(text.as_bytes()));
    // An upgraded program has others under the same names.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=60"));
    Ok(response)
}

/// A value of a query.
pub(crate) fn get(query: &str, key: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(of, _)| of == key).map(|(_, value)| value.into_owned())
}

pub(crate) fn decoded(part: &str) -> String {
    // A plus is a plus in a path.
    let pair = part.replace('+', "%2B");
    form_urlencoded::parse(pair.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

fn full(bytes: impl Into<Bytes>) -> Body {
    BodyExt::boxed(Full::new(bytes.into()))
}

pub(crate) fn typed(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn html_page(status: StatusCode, page: impl Into<Bytes>) -> Response<Body> {
    typed(status, "text/html; charset=utf-8", page)
}

fn text(status: StatusCode, words: &str) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", format!("{words}\n"))
}

fn see(place: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::SEE_OTHER, place);
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(place));
    response
}
