//! The last gasp: what a collector says when it reaches no alerter, through the topic of its own region.
//!
//! Once when no alerter's queue, nor its standby, has taken a batch for [`AFTER`], and once when one does again. That the first was
//! said is kept in a file, so that a restart neither says it again nor forgets the second. SNS has no token against repetition:
//! where its answer is lost, or the process dies before the file is written, one message may come twice.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crosswatch_aws::Failure;
use crosswatch_aws::sns::Sns;
use crosswatch_host::retry::Backoff;
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use crosswatch_sqs::send::Attempt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long no alerter's queue takes anything before it is said.
pub const AFTER: Duration = Duration::from_secs(60);

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// So much of a site's name goes into a text of 160 characters.
const NAME: usize = 50;

/// How the forwarders to the alerter's queues fare. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Reach(Arc<Mutex<Vec<Queue>>>);

#[derive(Clone, Debug)]
enum Queue {
    /// Nothing was sent yet.
    Untried,
    Taking,
    Failing {
        since: Instant,
        code: String,
    },
}

/// How it is with all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No more is known than that one has not failed yet.
    Unknown,
    /// One takes batches.
    Reached,
    /// None does.
    Cut {
        /// Since when none does.
        since: Instant,
        /// The code of a failure.
        code: String,
    },
}

impl Reach {
    /// For so many queues.
    #[must_use]
    pub fn new(queues: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![Queue::Untried; queues])))
    }

    /// Something was sent to a queue, or not.
    pub fn attempted(&self, queue: usize, attempt: &Attempt) {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queues.get_mut(queue) else {
            return;
        };
        match (&attempt.failure, &queue) {
            (failure, _) if attempt.taken > 0 || failure.is_none() => *queue = Queue::Taking,
            (Some(failure), Queue::Untried | Queue::Taking) => {
                *queue = Queue::Failing { since: attempt.begun, code: failure.code.clone() };
            }
            _ => {}
        }
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> State {
        let queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cut: Option<(Instant, &str)> = None;
        for queue in queues.iter() {
            match queue {
                Queue::Taking => return State::Reached,
                Queue::Untried => {}
                Queue::Failing { since, code } if cut.is_none_or(|(latest, _)| *since > latest) => {
                    cut = Some((*since, code));
                }
                Queue::Failing { .. } => {}
            }
        }
        let untried = queues.iter().any(|queue| matches!(queue, Queue::Untried));
        match cut {
            Some((since, code)) if !untried => State::Cut { since, code: code.to_owned() },
            _ => State::Unknown,
        }
    }
}

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    Cut,
    Back,
}

/// Whether something is to be said, given whether the cut was said.
fn due(said: bool, state: &State, now: Instant) -> Option<Say> {
    match state {
        State::Cut { since, .. } if !said && now.saturating_duration_since(*since) >= AFTER => Some(Say::Cut),
        State::Reached if said => Some(Say::Back),
        _ => None,
    }
}

/// What a publication comes to.
pub type Publishing<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// Where it is said.
pub trait Topic: Send + Sync + 'static {
    /// Says it once; what fails may have been said nevertheless.
    fn publish<'a>(&'a self, subject: &'a str, text: &'a str) -> Publishing<'a>;
}

/// A topic of Amazon SNS.
#[derive(Clone, Debug)]
pub struct SnsTopic {
    /// In the topic's region.
    pub sns: Sns,
    /// Its ARN.
    pub arn: String,
}

impl Topic for SnsTopic {
    fn publish<'a>(&'a self, subject: &'a str, text: &'a str) -> Publishing<'a> {
        Box::pin(self.sns.topic(&self.arn, subject, text))
    }
}

/// Says it, for one site.
pub struct LastGasp {
    site: Name,
    reach: Reach,
    topic: Box<dyn Topic>,
    /// Is there from when the cut was said until the end of it was.
    file: PathBuf,
    said: bool,
}

impl LastGasp {
    /// For this site, with what it keeps in this folder, which is there.
    #[must_use]
    pub fn new(site: Name, reach: Reach, topic: Box<dyn Topic>, folder: &Path) -> Self {
        let file = folder.join("last-gasp");
        let said = file.exists();
        Self { site, reach, topic, file, said }
    }

    /// Watches until it is stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.watch() => {}
        }
    }

    async fn watch(&mut self) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            tokio::time::sleep(LOOK).await;
            let state = self.reach.state();
            let Some(say) = due(self.said, &state, Instant::now()) else {
                continue;
            };
            let text = text(&self.site, say, &state, SystemTime::now().into(), Instant::now());
            // Up to 100 characters of ASCII: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
            let subject = match say {
                Say::Cut => "Crosswatch: a collector is cut off",
                Say::Back => "Crosswatch: a collector is back",
            };
            match self.topic.publish(subject, &text).await {
                Ok(()) => {
                    tracing::warn!(site = %self.site, text, "said through the site's own topic");
                    backoff.reset();
                    self.said = say == Say::Cut;
                    if let Err(error) = self.keep(&text) {
                        tracing::error!(file = %self.file.display(), %error, "a restart may say again what was said");
                    }
                }
                Err(failure) => {
                    tracing::error!(site = %self.site, %failure, text, "the site's own topic does not take this; it is tried again");
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        }
    }

    fn keep(&self, text: &str) -> io::Result<()> {
        if self.said {
            let mut file = File::create(&self.file)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
        } else {
            fs::remove_file(&self.file)?;
        }
        // That the file is there, or not, is what counts.
        self.file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

/// One SMS: at most 160 characters of GSM-7.
fn text(site: &str, say: Say, state: &State, now: Timestamp, steady: Instant) -> String {
    let site = plain(site, NAME);
    match (say, state) {
        (Say::Cut, State::Cut { since, code }) => {
            let since = (now - steady.saturating_duration_since(*since)).to_string();
            let at = since.get(11..19).unwrap_or_default();
            format!(
                "CUT OFF {site}: collector reaches no alerter since {at}Z ({}); it goes on probing",
                plain(code, 30)
            )
        }
        _ => format!("BACK {site}: its collector reaches the alerter again"),
    }
}

/// Of the characters that ASCII and the GSM alphabet have in common, each one septet (3GPP TS 23.038), at most so many.
fn plain(text: &str, most: usize) -> String {
    let one = |c: char| if (' '..='~').contains(&c) && !"[\\]^`{|}~".contains(c) { c } else { '?' };
    text.chars().map(one).take(most).collect()
}

#[cfg(test)]
mod tests;
