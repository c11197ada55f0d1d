//! Who may look: requests must name a host that is meant, and beyond loopback whoever asks must know the token. Pure but for
//! the token's file and the machine's randomness; time is an argument.

use std::collections::HashMap;
use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE, HOST};
use subtle::ConstantTimeEq;

use crate::config;

/// The cookie's name.
pub(crate) const SESSION: &str = "crosswatch";
/// How long a session lasts.
pub(crate) const LASTS: Duration = Duration::from_secs(12 * 3_600);

/// How many sessions are kept; the oldest goes for a new one.
const SESSIONS: usize = 1_000;

/// How many wrong tokens an address may try in a minute.
const TRIES: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// How many addresses are remembered; beyond it strangers wait.
const ADDRESSES: usize = 4_096;

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It names a host that is not meant: a name of somebody else's that leads here, say.
    Host,
    /// Whoever asks has shown no token.
    Unknown,
    /// The token is wrong.
    Wrong,
    /// Too many wrong ones were tried from there.
    Often,
    /// The token cannot be read; why.
    Broken(String),
}

/// Who may look.
#[derive(Debug)]
pub(crate) struct Guard {
    token: Option<PathBuf>,
    hosts: Vec<String>,
    sessions: Mutex<Vec<(String, Instant)>>,
    tries: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

impl Guard {
    pub(crate) fn new(token: Option<PathBuf>, hosts: Vec<String>) -> Self {
        Self { token, hosts, sessions: Mutex::default(), tries: Mutex::default() }
    }

    /// Whether a request with these headers is answered.
    pub(crate) fn admit(&self, headers: &HeaderMap, peer: IpAddr, now: Instant) -> Result<(), Refusal> {
        if !self.is_meant(headers) {
            return Err(Refusal::Host);
        }
        if self.token.is_none() {
            return Ok(());
        }
        if let Some(bearer) = text(headers, AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")) {
            return self.check(bearer, peer, now);
        }
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let session = cookies
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == SESSION);
        match session {
            Some((_, session)) if self.is_open(session, now) => Ok(()),
            _ => Err(Refusal::Unknown),
        }
    }

    /// Whether a token is needed at all.
    pub(crate) fn wants_token(&self) -> bool {
        self.token.is_some()
    }

    /// Opens a session for whoever knows the token: the cookie's value.
    pub(crate) fn enter(&self, token: &str, peer: IpAddr, now: Instant) -> Result<String, Refusal> {
        self.check(token, peer, now)?;
        let mut random = [0_u8; 32];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut random))
            .map_err(|error| Refusal::Broken(format!("/dev/urandom: {error}")))?;
        let session: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|(_, until)| *until > now);
        if sessions.len() >= SESSIONS {
            sessions.remove(0);
        }
        sessions.push((session.clone(), now + LASTS));
        Ok(session)
    }

    fn is_open(&self, session: &str, now: Instant) -> bool {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // All are looked at, whichever it is.
        sessions.iter().fold(false, |open, (known, until)| {
            open | (bool::from(known.as_bytes().ct_eq(session.as_bytes())) && *until > now)
        })
    }

    /// Holds a token against the one in the file, if not too many were tried.
    fn check(&self, given: &str, peer: IpAddr, now: Instant) -> Result<(), Refusal> {
        let Some(file) = &self.token else { return Ok(()) };
        {
            let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
            tries.retain(|_, (_, since)| now.saturating_duration_since(*since) < MINUTE);
            let tried = tries.get(&peer).map_or(0, |(count, _)| *count);
            if tried >= TRIES || (tried == 0 && tries.len() >= ADDRESSES) {
                return Err(Refusal::Often);
            }
        }
        let token = config::token(file).map_err(|error| Refusal::Broken(error.to_string()))?;
        if token.as_bytes().ct_eq(given.as_bytes()).into() {
            return Ok(());
        }
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.entry(peer).or_insert((0, now)).0 += 1;
        Err(Refusal::Wrong)
    }

    /// A page on loopback without a token is there for whoever sits at this machine: a name of somebody else's that was made to
    /// lead to loopback would let his scripts read it.
    fn is_meant(&self, headers: &HeaderMap) -> bool {
        if self.token.is_some() && self.hosts.is_empty() {
            return true;
        }
        let Some(host) = text(headers, HOST) else { return false };
        let (name, port) = match host.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((address, port)) => (address, port.strip_prefix(':').unwrap_or(port)),
                None => return false,
            },
            None => host.rsplit_once(':').unwrap_or((host, "")),
        };
        let name = name.to_ascii_lowercase();
        let local = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        port.bytes().all(|byte| byte.is_ascii_digit()) && (local || self.hosts.contains(&name))
    }
}

fn text(headers: &HeaderMap, name: hyper::header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn headers(of: &[(hyper::header::HeaderName, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn guarded() -> (tempfile::TempDir, Guard) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, TOKEN).unwrap();
        let guard = Guard::new(Some(file), Vec::new());
        (folder, guard)
    }

    #[test]
    fn on_loopback_only_names_that_are_meant_are_answered() {
        let guard = Guard::new(None, vec!["status.example.com".to_owned()]);
        let ask = |host: &str| guard.admit(&headers(&[(HOST, host)]), PEER, Instant::now());
        for host in [
            "localhost:8420",
            "LOCALHOST",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:8420",
            "[::1]",
            "status.example.com",
        ] {
            assert_eq!(ask(host), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8420",
            "[::1",
            "10.0.0.1",
            "",
            "localhost:x",
        ] {
            assert_eq!(ask(host), Err(Refusal::Host), "{host}");
        }
        assert_eq!(guard.admit(&HeaderMap::new(), PEER, Instant::now()), Err(Refusal::Host));
    }

    #[test]
    fn a_session_is_opened_by_the_token_alone_and_ends() {
        let (_folder, guard) = guarded();
        let now = Instant::now();
        let with = |session: &str| headers(&[(COOKIE, &format!("a=b; {SESSION}={session}"))]);
        assert_eq!(guard.admit(&HeaderMap::new(), PEER, now), Err(Refusal::Unknown));
        assert_eq!(guard.enter("0123456789abcdef", PEER, now), Err(Refusal::Wrong));
        let session = guard.enter(TOKEN, PEER, now).unwrap();
        assert_eq!(guard.admit(&with(&session), PEER, now), Ok(()));
        for wrong in ["", "0", &session[1..], &session.replace(|_: char| true, "0")] {
            assert_eq!(guard.admit(&with(wrong), PEER, now), Err(Refusal::Unknown), "{wrong}");
        }
        assert_eq!(guard.admit(&with(&session), PEER, now + LASTS), Err(Refusal::Unknown));
        let bearer = |token: &str| headers(&[(AUTHORIZATION, &format!("Bearer {token}"))]);
        assert_eq!(guard.admit(&bearer(TOKEN), PEER, now), Ok(()));
        assert_eq!(guard.admit(&bearer("no"), PEER, now), Err(Refusal::Wrong));
    }

    #[test]
    fn who_guesses_waits_and_nobody_else_does() {
        let (_folder, guard) = guarded();
        let now = Instant::now();
        for _ in 0..TRIES {
            assert_eq!(guard.enter("wrong", PEER, now), Err(Refusal::Wrong));
        }
        assert_eq!(guard.enter(TOKEN, PEER, now), Err(Refusal::Often), "not even by the right one");
        let other = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
        assert!(guard.enter(TOKEN, other, now).is_ok());
        assert!(guard.enter(TOKEN, PEER, now + MINUTE).is_ok());
    }

    #[test]
    fn a_token_that_cannot_be_read_lets_nobody_in() {
        let (folder, guard) = guarded();
        std::fs::write(folder.path().join("token"), "").unwrap();
        assert!(matches!(guard.enter("", PEER, Instant::now()), Err(Refusal::Broken(_))));
    }
}
