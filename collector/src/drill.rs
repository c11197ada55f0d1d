//! Drills: who asks for one leaves a file in the folder of requests, and the site's collector observes it with its next look. A file
//! and not a port: who may write in the folder of the queue may ask, and nobody else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crosswatch_shared::observation::{Body, Name};
use crosswatch_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

/// An older request is thrown away: whoever asked has gone.
const PASSED: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The drill's id.
    pub id: String,
    /// The rule whose receivers it is for; without one all are.
    pub rule: Option<String>,
    /// When it was asked for.
    pub asked: Timestamp,
}

/// Where a site's requests are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requests {
    site: Name,
    path: PathBuf,
}

impl Requests {
    /// Of a site, in the queue's folder.
    #[must_use]
    pub fn of(queue: &Path, site: &Name) -> Self {
        Self { site: site.clone(), path: queue.join("drill").join(format!("{site}.json")) }
    }

    /// Leaves a request; one that is there already is replaced.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn ask(&self, request: &Request) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let whole = self.path.with_extension("new");
        fs::write(&whole, serde_json::to_vec(request)?)?;
        fs::rename(whole, &self.path)
    }

    /// Takes it back; whether it was there still.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn withdraw(&self) -> io::Result<bool> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether it waits to be taken.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.path.exists()
    }

    /// What a collector is asked to observe; each request once.
    pub(crate) fn take(&self, now: Timestamp) -> Option<Body> {
        let text = fs::read(&self.path).ok()?;
        // First of all, lest it be observed again and again where it cannot be removed.
        if let Err(error) = self.withdraw() {
            tracing::warn!(site = %self.site, %error, file = %self.path.display(), "a drill was asked for and cannot be taken");
            return None;
        }
        let request: Request = match serde_json::from_slice(&text) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(site = %self.site, %error, "a request for a drill means nothing, and was removed");
                return None;
            }
        };
        if now.since(request.asked).max(request.asked.since(now)) > PASSED {
            tracing::warn!(site = %self.site, asked = %request.asked, "a drill was asked for too long ago, and is passed over");
            return None;
        }
        Some(Body::Drill { id: request.id.into(), rule: request.rule.map(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_once_and_only_while_somebody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let requests = Requests::of(folder.path(), &"a".into());
        let now = Timestamp::from_secs(1_000);
        assert_eq!(requests.take(now), None);
        let ask = |asked| {
            let request = Request { id: "drill-1".to_owned(), rule: Some("r".to_owned()), asked };
            requests.ask(&request).unwrap();
        };
        ask(now);
        let taken = Some(Body::Drill { id: "drill-1".into(), rule: Some("r".into()) });
        assert_eq!(requests.take(now + Duration::from_secs(2)), taken);
        assert_eq!((requests.take(now), requests.waits()), (None, false));
        ask(now);
        assert_eq!(requests.take(now + Duration::from_secs(61)), None, "it is too old");
        assert!(!requests.waits(), "and gone");
        ask(now);
        assert_eq!((requests.withdraw().unwrap(), requests.take(now)), (true, None));
        fs::write(folder.path().join("drill/a.json"), "half a").unwrap();
        assert_eq!((requests.take(now), requests.waits()), (None, false));
    }
}
