//! Edits: a configuration that is taken over while the alerter runs. Whoever watches the files reads and validates them
//! whole, and tells what became of them here.

use crosswatch_judge::mute::Silence;
use crosswatch_shared::observation::Name;
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;

/// How many edits wait for the alerter to take them.
const WAITING: usize = 4;

/// What became of a file.
#[derive(Clone, Debug)]
pub enum Edit {
    /// The config's file is right, and says this.
    Config {
        /// The file's name, without its folder.
        file: Name,
        /// What of its text is judged by, for the record.
        judged: String,
        /// All of the alerter's sections.
        config: Box<Config>,
    },
    /// The file of silences is right, and says this.
    Silences {
        /// The file's name, without its folder.
        file: Name,
        /// Its text; nothing where there is none.
        text: Vec<u8>,
        /// What it says.
        all: Vec<Silence>,
    },
    /// A file is wrong: what was in force stays.
    Refused {
        /// The file's name, without its folder.
        file: Name,
        /// What is wrong, in a line.
        why: String,
    },
}

/// By which a running alerter is told of edits. Clones are one.
#[derive(Clone, Debug)]
pub struct Edits(mpsc::Sender<Order>);

/// An edit, and whom to answer.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) edit: Edit,
    pub(crate) answer: oneshot::Sender<Result<(), String>>,
}

impl Edits {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Order>) {
        let (sender, orders) = mpsc::channel(WAITING);
        (Self(sender), orders)
    }

    /// Tells of an edit, and waits until it is in force and on the disk.
    ///
    /// # Errors
    /// It cannot be taken over, for this reason: nothing has changed. Or the alerter has ended.
    pub async fn tell(&self, edit: Edit) -> Result<(), String> {
        let ended = "the alerter has ended";
        let (answer, answered) = oneshot::channel();
        self.0.send(Order { edit, answer }).await.map_err(|_| ended)?;
        answered.await.map_err(|_| ended)?
    }
}

/// What else than rules' meanings is otherwise in `now`, a line each: whom rules tell, and the receivers. No secret is told.
pub(crate) fn differences(before: &Config, now: &Config) -> Vec<String> {
    let mut told = Vec::new();
    for rule in &now.rules {
        let former = before.rules.iter().find(|of| of.rule.name == rule.rule.name);
        if let Some(former) = former.filter(|former| former.notify != rule.notify) {
            let names = |of: &[Name]| if of.is_empty() { "nobody".to_owned() } else { of.join(", ") };
            told.push(format!(
                "rule {}: notify {} -> {}",
                rule.rule.name,
                names(&former.notify),
                names(&rule.notify)
            ));
        }
    }
    for receiver in &before.receivers {
        match now.receivers.iter().find(|of| of.name == receiver.name) {
            None => told.push(format!("receiver {} was removed", receiver.name)),
            Some(same) if same == receiver => {}
            Some(_) => told.push(format!("receiver {} was changed", receiver.name)),
        }
    }
    let added =
        now.receivers.iter().filter(|of| !before.receivers.iter().any(|former| former.name == of.name));
    told.extend(added.map(|receiver| format!("receiver {} was added", receiver.name)));
    told
}
