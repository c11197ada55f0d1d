//! The receivers: each takes what it is sent at once, late, or not at all, and its answer may get lost. What it took is kept.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crosswatch_aws::{Failure, Kind};
use crosswatch_shared::time::Timestamp;

use super::books;
use super::fate::{Fate, Step};
use super::time::Time;
use crate::ledger::Destination;
use crate::notify::{NotifyError, TIMEOUT};

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It takes what it is sent, within a second.
    Well,
    /// It takes it, after this many milliseconds; beyond the notifier's patience its answer comes too late.
    Late(u64),
    /// It takes it, and its answer is lost.
    Mute,
    /// It answers that it does not.
    Refuses,
    /// It does not answer.
    Hangs,
    /// It asks for fewer calls.
    Throttles,
    /// Now this and now that.
    Erratic,
}

/// Something that a receiver took.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) receiver: String,
    pub(crate) channel: String,
    pub(crate) body: String,
    /// When, as its limit counts time.
    pub(crate) counted: Timestamp,
    pub(crate) at: Timestamp,
    /// The life that sent it.
    pub(crate) life: usize,
    /// For how long the machine had run when the answer was had; `None` for one that was lost.
    pub(crate) answered: Option<Duration>,
}

/// All receivers. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Receivers(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    time: Time,
    /// The ledger's file.
    file: PathBuf,
    fate: Fate,
    life: usize,
    rng: fastrand::Rng,
    manners: HashMap<(String, String), Manner>,
    taken: Vec<Taken>,
    /// What must not have been sent, and why.
    wrong: Vec<String>,
}

impl Receivers {
    pub(crate) fn new(seed: u64, time: &Time, file: PathBuf) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            time: time.clone(),
            file,
            fate: Fate::of(None),
            life: 0,
            rng: fastrand::Rng::with_seed(seed),
            manners: HashMap::new(),
            taken: Vec::new(),
            wrong: Vec::new(),
        })))
    }

    fn with<T>(&self, of: impl FnOnce(&mut Inner) -> T) -> T {
        of(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A new life sends to them.
    pub(crate) fn told_by(&self, life: usize, fate: &Fate) {
        self.with(|inner| (inner.life, inner.fate) = (life, fate.clone()));
    }

    pub(crate) fn behaves(&self, to: &Destination, manner: Manner) {
        self.with(|inner| {
            inner.manners.insert((to.receiver.to_string(), to.channel.to_string()), manner);
        });
    }

    /// All behave well from now on.
    pub(crate) fn all_well(&self) {
        self.with(|inner| inner.manners.clear());
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.with(|inner| inner.taken.clone())
    }

    pub(crate) fn wrong(&self) -> Vec<String> {
        self.with(|inner| inner.wrong.clone())
    }

    /// What a notifier does.
    pub(crate) async fn send(&self, to: &Destination, body: &str) -> Result<(), NotifyError> {
        let fate = self.with(|inner| inner.fate.clone());
        fate.pass(Step::Receiver).await;
        let (manner, there, back) = self.with(|inner| {
            let key = (to.receiver.to_string(), to.channel.to_string());
            let manner = match inner.manners.get(&key).copied().unwrap_or(Manner::Well) {
                Manner::Erratic => match inner.rng.u8(..8) {
                    0 => Manner::Late(inner.rng.u64(..12_000)),
                    1 => Manner::Mute,
                    2 | 3 => Manner::Refuses,
                    4 => Manner::Hangs,
                    5 => Manner::Throttles,
                    _ => Manner::Well,
                },
                manner => manner,
            };
            let mut millis = || Duration::from_millis(inner.rng.u64(1..500));
            (manner, millis(), millis())
        });
        tokio::time::sleep(there).await;
        fate.pass(Step::Receiver).await;
        match manner {
            Manner::Refuses => {
                return Err(NotifyError::Refused {
                    status: 503,
                    words: "not now".to_owned(),
                    rest: None,
                    way_out: None,
                });
            }
            Manner::Throttles => {
                return Err(NotifyError::Sns(Failure {
                    operation: "sns:Publish",
                    kind: Kind::Throttled,
                    code: "Throttled".to_owned(),
                    message: "rate exceeded".to_owned(),
                }));
            }
            Manner::Hangs => {
                tokio::time::sleep(TIMEOUT.saturating_sub(there)).await;
                return Err(NotifyError::NoAnswer("no answer in time".to_owned()));
            }
            Manner::Well | Manner::Late(_) | Manner::Mute | Manner::Erratic => {}
        }
        let taken = self.take(to, body);
        let late = match manner {
            Manner::Late(millis) => Duration::from_millis(millis),
            _ => back,
        };
        tokio::time::sleep(late.min(TIMEOUT.saturating_sub(there))).await;
        fate.pass(Step::Receiver).await;
        if manner == Manner::Mute || there + late > TIMEOUT {
            return Err(NotifyError::NoAnswer("no answer in time".to_owned()));
        }
        self.with(|inner| {
            let awake = inner.time.awake();
            if let Some(taken) = inner.taken.get_mut(taken) {
                taken.answered = Some(awake);
            }
        });
        Ok(())
    }

    fn take(&self, to: &Destination, body: &str) -> usize {
        self.with(|inner| {
            let (receiver, channel) = (to.receiver.to_string(), to.channel.to_string());
            if let Err(why) = books::may_be_sent(&inner.file, &receiver, &channel, body) {
                inner.wrong.push(format!("{} to {receiver} {channel}: {why}: {body}", inner.time.now()));
            }
            inner.taken.push(Taken {
                receiver,
                channel,
                body: body.to_owned(),
                counted: inner.time.counted(),
                at: inner.time.now(),
                life: inner.life,
                answered: None,
            });
            inner.taken.len() - 1
        })
    }
}
