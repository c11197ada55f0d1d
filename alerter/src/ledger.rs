//! The ledger: every notification owed, tried and accepted. It is written before anything is sent.
//!
//! What is owed is written in the transaction of the state that causes it, one row for each incident, state, receiver
//! and channel, so a receiver with a webhook and a command owes itself both. A row is done when its receiver accepted
//! it; until then it is tried again, for ever. Whoever is owed a `firing` is owed the `resolved` too, also when the
//! incident ends before the `firing` was accepted: that one might have arrived all the same.
//!
//! What falls into a silence is `muted`: nobody is told until the silence is over, and then of what still fires. An incident
//! that ends before is `silenced`, and owes nobody anything.
//!
//! What fires by what had lain in the queue for long is `behind` in the same way, until the queue was read to its end. What ends
//! before is `behind` with its end, and then told by a digest.
//!
//! What a receiver's `at_most` holds back goes in a digest. An incident whose `firing` only a digest told is
//! over for that channel when all of that digest are, and then the digest's own `resolved` says so. If it was told on its own
//! afterwards that it is worse, it has a `resolved` of its own, too.

/// The SQL condition by which a row `it` may be told: a `resolved`, and what refines a `firing`, only once the `firing` was
/// accepted. By itself or in a digest, else the receiver would hear of the end first, and of a page without an end then.
macro_rules! in_its_turn {
    () => {
        "NOT EXISTS (
             SELECT 1 FROM notification AS first
             WHERE first.id = it.id AND first.receiver = it.receiver AND first.channel = it.channel
                 AND first.state = 'firing' AND first.standing = 'owed'
                 AND (it.state != 'firing' OR first.revision < it.revision))"
    };
}

mod body;
mod destination;
mod digest;
mod peer;
mod rows;
#[cfg(test)]
mod tests;
mod tries;
mod turn;

use crosswatch_judge::incident::{Ended, Event};
use crosswatch_judge::verdict::Symptom;
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::told;
use rusqlite::Connection;

use crate::catch_up::{self, CATCH_UP};
use crate::config::Receiver;
use crate::drill::Drill;
use crate::peer::Rank;
use rows::{Message, Told};

pub(crate) use body::{AT_MOST, Body, Held};
pub(crate) use destination::{Destination, kind_of};
pub(crate) use peer::tell_before;
pub(crate) use rows::kept;
pub(crate) use tries::{Due, accepted, clock_set_back, due, failed, next_try, rest_until, totals};
pub(crate) use turn::{announce, others_turn};

/// Why a page is kept back for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// This silence mutes it.
    Muted(String),
    /// It is of the past, and there is more to read.
    Behind,
}

impl Kept {
    /// How it stands in the ledger, and by what.
    fn words(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Muted(by) => ("muted", Some(by)),
            Self::Behind => ("behind", Some(CATCH_UP)),
        }
    }
}

/// A symptom of an open incident, and whom it tells.
#[derive(Clone, Debug)]
pub(crate) struct Telling<'a> {
    pub(crate) symptom: &'a Symptom,
    pub(crate) receivers: &'a [Name],
    /// The silence that mutes it now.
    pub(crate) muted: Option<String>,
}

/// The rules of the ledger: what is owed to whom, and when no more. The rows themselves are in the file each function is given.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    destinations: Vec<Destination>,
    /// There is another alerter, which is told what was accepted.
    tells: bool,
}

impl Ledger {
    /// For these receivers.
    #[must_use]
    pub(crate) fn new(receivers: &[Receiver]) -> Self {
        Self { destinations: receivers.iter().flat_map(Destination::of).collect(), tells: false }
    }

    /// Of an alerter beside another one.
    #[must_use]
    pub(crate) fn beside(mut self, rank: Rank) -> Self {
        self.destinations.iter_mut().for_each(|to| to.patience = rank.patience());
        Self { tells: true, ..self }
    }

    /// Whether there is another alerter.
    pub(crate) fn is_beside(&self) -> bool {
        self.tells
    }

    /// The receiver accepted it; so the other alerter is told, if there is one. Gives whether it is.
    pub(crate) fn accepted(&self, file: &Connection, number: i64, now: Timestamp) -> rusqlite::Result<bool> {
        let tells = accepted(file, number, now)? && self.tells;
        if tells {
            peer::tell(file, number, now)?;
        }
        Ok(tells)
    }

    /// The other alerter says that a receiver has accepted something. Gives whether that was news.
    pub(crate) fn heard(
        &self,
        file: &Connection,
        told: &told::Told,
        now: Timestamp,
    ) -> rusqlite::Result<bool> {
        let is_it = |to: &&Destination| *to.receiver == *told.receiver && *to.channel == *told.channel;
        match self.destinations.iter().find(is_it) {
            Some(to) => peer::heard(file, told, to, now),
            // Of this config nobody is: it may be another's there.
            None => peer::heard(file, told, &Destination::unknown(&told.receiver, &told.channel), now),
        }
    }

    /// Every channel of every receiver.
    #[must_use]
    pub(crate) fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// A rule fires that tells these receivers, or would if it were not kept back: those of them are told who have not
    /// been of its incident.
    pub(crate) fn fired(
        &self,
        file: &Connection,
        event: &Event,
        symptom: &Symptom,
        receivers: &[Name],
        kept: Option<&Kept>,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        let body = Body::firing(event, symptom, "firing");
        for to in self.destinations.iter().filter(|to| receivers.contains(&to.receiver)) {
            match (rows::first_told(file, &body.id, to)?, kept) {
                (None, None) => rows::owe(file, &body, to, Message::Single, now)?,
                (None, Some(kept)) => rows::owe(file, &body, to, Message::Kept(kept), now)?,
                (Some((first, standing)), None) if rows::is_kept(&standing) => {
                    rows::release(file, first, &body, to, now)?;
                }
                (Some((first, standing)), Some(Kept::Behind)) if standing == "muted" => {
                    rows::keep(file, first, &Kept::Behind, now)?;
                }
                (Some(_), _) => {}
            }
        }
        Ok(())
    }

    /// What is kept back of an incident that fires on is told as it is now, to those for whom some of its symptoms is not muted:
    /// as far as it is due.
    pub(crate) fn release(
        &self,
        file: &Connection,
        event: &Event,
        symptoms: &[Telling<'_>],
        due: catch_up::Due,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        for to in &self.destinations {
            let mut its = symptoms.iter().filter(|of| of.receivers.contains(&to.receiver));
            let free = its.clone().find(|of| of.muted.is_none());
            let muted = its.next().and_then(|of| of.muted.as_deref());
            let told = rows::told(file, &event.incident.id, to)?;
            for kept in told.iter().filter(|of| of.is_kept()) {
                match (free, muted) {
                    (None, Some(by)) if kept.standing == "behind" => {
                        rows::keep(file, kept.number, &Kept::Muted(by.to_owned()), now)?
                    }
                    (None, _) => {}
                    (Some(_), _) if kept.created > due.fires => {}
                    (Some(free), _) if kept.revision == 0 => {
                        let body = Body::firing(event, free.symptom, "firing");
                        rows::release(file, kept.number, &body, to, now)?;
                    }
                    (Some(free), _) if event.incident.verdict.kind.is_down() => {
                        worsen(file, event, free.symptom, &told, to, now)?;
                    }
                    // What was worse for a while only: once it is again, that is news.
                    (Some(_), _) => rows::abandon(file, kept.number, now)?,
                }
            }
        }
        Ok(())
    }

    /// What ended while the alerter was behind, as far as it is due: a digest tells of what began meanwhile, too; who was told
    /// before is told the end.
    pub(crate) fn release_ended(
        &self,
        file: &Connection,
        due: catch_up::Due,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        rows::hold_ended(file, due.ended, now)?;
        for to in &self.destinations {
            for number in rows::kept_ends(file, to, due.fires)? {
                rows::release_end(file, number, to, now)?;
            }
        }
        Ok(())
    }

    /// What the other alerter has told meanwhile is known now: the rest is tried, each when its patience is over.
    pub(crate) fn go_on(&self, file: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        self.destinations.iter().try_for_each(|to| rows::go_on(file, to, now))
    }

    /// More is known of an incident: a webhook is told once more, which its receiver knows by the id. Where the limit has no
    /// room it is not: the end tells the verdict, too, and nothing is held back for this.
    pub(crate) fn refined(&self, file: &Connection, event: &Event, now: Timestamp) -> rusqlite::Result<()> {
        let Some(symptom) = event.incident.symptoms.last() else {
            return Ok(());
        };
        let mut body = Body::firing(event, symptom, "firing");
        for to in self.destinations.iter().filter(|to| &*to.channel == "webhook") {
            let told = rows::told(file, &body.id, to)?;
            let (Some(first), Some(newest)) = (told.first(), told.last()) else {
                continue;
            };
            // What is kept back is told as it is then, and whom a digest tells knows the digest, and no page to refine.
            let is_paged = !["silenced", "held", "digested"].contains(&&*first.standing);
            if !is_paged || told.iter().any(Told::is_kept) {
                continue;
            }
            // Of what is known now only the newest is worth telling; but that it is worse is what somebody must hear.
            if newest.revision > 0 && newest.standing == "owed" && !newest.is_worse {
                rows::abandon(file, newest.number, now)?;
            }
            if let Some(limit) = to.at_most
                && !rows::history(file, to, now)?.admits(limit, now)
            {
                continue;
            }
            body.revision = newest.revision + 1;
            body.worse = told.iter().any(|of| of.is_worse && of.standing != "abandoned");
            rows::owe(file, &body, to, Message::Single, now)?;
        }
        Ok(())
    }

    /// What only worked less well is down: all who were told, and not that it is down, are told once more, on every channel,
    /// unless it is kept back.
    pub(crate) fn worse(
        &self,
        file: &Connection,
        event: &Event,
        kept: Option<&Kept>,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        let Some(symptom) = event.incident.symptoms.last() else {
            return Ok(());
        };
        for to in &self.destinations {
            let told = rows::told(file, &event.incident.id, to)?;
            let (Some(first), Some(newest)) = (told.first(), told.last()) else {
                continue;
            };
            // Who was told nothing is told all once that is kept back no more.
            let untold = first.is_kept() || first.standing == "silenced";
            if untold || told.iter().any(Told::tells_down) {
                continue;
            }
            match (told.iter().find(|of| of.is_kept()), kept) {
                (_, None) => worsen(file, event, symptom, &told, to, now)?,
                (Some(kept), Some(Kept::Behind)) if kept.standing == "muted" => {
                    rows::keep(file, kept.number, &Kept::Behind, now)?;
                }
                (Some(_), Some(_)) => {}
                (None, Some(kept)) => {
                    let mut body = Body::firing(event, symptom, "worse");
                    body.revision = newest.revision + 1;
                    rows::owe(file, &body, to, Message::Kept(kept), now)?;
                }
            }
        }
        Ok(())
    }

    /// An incident was closed: tells all who were owed its `firing`, whoever its rules would tell now. One of the past is kept
    /// back, since the other alerter may have told of it.
    pub(crate) fn resolved(
        &self,
        file: &Connection,
        event: &Event,
        ended: &Ended,
        past: bool,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        let message = if past { Message::Kept(&Kept::Behind) } else { Message::Single };
        let body = Body::resolved(event, ended);
        for to in &self.destinations {
            let told = rows::told(file, &body.id, to)?;
            let Some(first) = told.first() else {
                continue;
            };
            // Of what came after the first nothing needs to be said any more.
            let unsaid = |of: &&Told| of.is_kept() || ["owed", "held"].contains(&&*of.standing);
            for later in told.iter().skip(1).filter(unsaid) {
                rows::abandon(file, later.number, now)?;
            }
            let mut digests: Vec<&String> = told.iter().filter_map(|of| of.digest.as_ref()).collect();
            digests.dedup();
            for digest in digests {
                digest::resolve(file, digest, to, message, ended.at, now)?;
            }
            // It was told by a digest, and then on its own that it is worse: each of them has its end.
            let alone = |of: &Told| of.digest.is_none() && ["accepted", "owed"].contains(&&*of.standing);
            let alone = told.iter().skip(1).any(alone);
            match (&*first.standing, &first.digest) {
                ("held", _) => rows::owe(file, &body, to, Message::Held, now)?,
                ("muted", _) => rows::silenced(file, first.number)?,
                ("behind", _) => rows::owe(file, &body, to, Message::Kept(&Kept::Behind), now)?,
                ("silenced", _) => {}
                (_, Some(_)) if !alone => {}
                _ => rows::owe(file, &body, to, message, now)?,
            }
        }
        Ok(())
    }

    /// A drill: these receivers get a firing and its resolved, both marked, whatever room their limits have.
    pub(crate) fn drill(
        &self,
        file: &Connection,
        drill: &Drill,
        receivers: &[Name],
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        for to in self.destinations.iter().filter(|to| receivers.contains(&to.receiver)) {
            for state in ["firing", "resolved"] {
                rows::owe(file, &Body::drill(drill, state), to, Message::Drill, now)?;
            }
        }
        Ok(())
    }

    /// When the next digest is due; `None` when nothing is held back, or all of it waits for a digest before it.
    pub(crate) fn next_digest(
        &self,
        file: &Connection,
        now: Timestamp,
    ) -> rusqlite::Result<Option<Timestamp>> {
        let mut next: Option<Timestamp> = None;
        for to in &self.destinations {
            if let Some(due) = rows::history(file, to, now)?.digest_due(to.at_most) {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        Ok(next)
    }

    /// Makes the digests that are due.
    pub(crate) fn make_digests(&self, file: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        for to in &self.destinations {
            let due = rows::history(file, to, now)?.digest_due(to.at_most);
            if due.is_some_and(|due| due <= now) {
                digest::make(file, to, now)?;
            }
        }
        Ok(())
    }

    /// Gives up what is owed to receivers and channels that the config has no more: how many to whom.
    pub(crate) fn abandon(&self, file: &Connection) -> rusqlite::Result<Vec<(String, String, i64)>> {
        let mut gone = rows::owed(file)?;
        gone.retain(|(receiver, channel, _)| {
            let is_it = |to: &Destination| *to.receiver == **receiver && *to.channel == **channel;
            !self.destinations.iter().any(is_it)
        });
        for (receiver, channel, _) in &gone {
            rows::abandon_all(file, receiver, channel)?;
        }
        Ok(gone)
    }
}

/// It is down: who was told that it works less well is told so. Whom a limit kept from being told anything yet is told that it
/// fires as it is now, on its own if there is room by now.
fn worsen(
    file: &Connection,
    event: &Event,
    symptom: &Symptom,
    told: &[Told],
    to: &Destination,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let (Some(first), Some(newest)) = (told.first(), told.last()) else {
        return Ok(());
    };
    let kept = told.iter().find(|of| of.is_kept());
    if first.standing == "held" {
        kept.map_or(Ok(()), |kept| rows::abandon(file, kept.number, now))?;
        return rows::release(file, first.number, &Body::firing(event, symptom, "firing"), to, now);
    }
    let mut body = Body::firing(event, symptom, "worse");
    let Some(kept) = kept else {
        body.revision = newest.revision + 1;
        return rows::owe(file, &body, to, Message::Single, now);
    };
    body.revision = kept.revision;
    if told.iter().any(Told::tells_down) {
        return rows::abandon(file, kept.number, now);
    }
    rows::release(file, kept.number, &body, to, now)
}
