//! Files of the configuration that were edited and are wrong: what was in force stays, and somebody is told. Pure.

use std::collections::BTreeMap;

use crosswatch_judge::{State, Transition};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;

/// The built-in rule for a file that was edited and is wrong; its subject is the file's name.
pub(crate) const CONFIG_REFUSED: &str = "config-refused";

/// The files that are wrong, with what was told of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refused(BTreeMap<Name, String>);

impl Refused {
    /// An incident of the rule is open already.
    pub(crate) fn is_open(&mut self, file: &Name, why: &str) {
        self.0.insert(file.clone(), why.to_owned());
    }

    /// Every file that is wrong.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Name> {
        self.0.keys()
    }

    /// A file has become wrong, or is wrong otherwise than before. What was told of it already is not told
    /// again, also over a restart.
    pub(crate) fn refuse(&mut self, file: &Name, why: &str, now: Timestamp, out: &mut Vec<Transition>) {
        match self.0.insert(file.clone(), why.to_owned()) {
            Some(before) if before == why => return,
            Some(_) => out.push(transition(State::Resolved, file, "edited again, and still wrong", now)),
            None => {}
        }
        out.push(transition(State::Firing, file, why, now));
    }

    /// A file is right.
    pub(crate) fn mend(&mut self, file: &Name, now: Timestamp, out: &mut Vec<Transition>) {
        if self.0.remove(file).is_some() {
            out.push(transition(State::Resolved, file, "it is valid, and in force", now));
        }
    }
}

fn transition(state: State, file: &Name, reason: &str, at: Timestamp) -> Transition {
    Transition {
        at,
        state,
        rule: CONFIG_REFUSED.into(),
        // Built-in rules come after all of the config's.
        rule_index: usize::MAX,
        subject: file.clone(),
        link: None,
        value: None,
        reason: reason.to_owned(),
    }
}
