//! `drill`: one marked test page down the whole way of a real one, and how long each hop took. It leaves a request for a
//! collector that runs, and then only reads: the journal, and the alerter's file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use crosswatch_alerter::drill::{DRILL, PASSED};
use crosswatch_alerter::story::{self, Notice};
use crosswatch_collector::drill::{Request, Requests};
use crosswatch_collector::forward::{Stage, file as forwarders_file};
use crosswatch_host::clock;
use crosswatch_journal::{Reader, file};
use crosswatch_shared::config::topology::QueueKind;
use crosswatch_shared::config::values::{nearest, short, spell};
use crosswatch_shared::observation::{Body, Name};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{Names, decode_batch};

use crate::config::Config;
use crate::owner::as_owner_of;
use crate::run::{ALERTER_FILE, journals, known_site};

/// How often it is looked how far the drill has come.
const LOOK: Duration = Duration::from_millis(10);

/// How much of a journal is read at a time.
const PAGE_BATCHES: usize = 64;
const PAGE_BYTES: usize = 4 << 20;

/// Asks for a drill and tells of each hop as it is passed.
pub(crate) fn run(
    config: &Config,
    rule: Option<&str>,
    site: Option<String>,
    wait: Duration,
) -> anyhow::Result<()> {
    somebody(config, rule)?;
    let site = self::site(config, site)?;
    let queue = &config.topology.queue;
    let asked = clock::now();
    let id = format!("{DRILL}-{:x}-{:x}", asked.as_micros(), std::process::id());
    let journal = file(&journals(queue), &site);
    let mut drill = Drill {
        asked,
        journal: Search::from_the_end(&journal, &id)?,
        alerter: queue.path.join(ALERTER_FILE),
        forwarder: match queue.kind {
            QueueKind::Embedded => None,
            QueueKind::Sqs { .. } => Some(forwarders_file(&queue.path, &site, Stage::Alerter, 0)),
        },
        history: match queue.kind {
            QueueKind::Embedded => None,
            QueueKind::Sqs { .. } => {
                let history = file(&queue.path.join(crosswatch_alerter::HISTORY), &site);
                history.exists().then(|| Search::from_the_end(&history, &id)).transpose()?
            }
        },
        passed: Vec::new(),
        id,
    };
    let requests = Requests::of(&queue.path, &site);
    let request = Request { id: drill.id.clone(), rule: rule.map(str::to_owned), asked };
    as_owner_of(&queue.path, || requests.ask(&request)).with_context(|| {
        format!("a drill cannot be asked for in {}: the folder must be writable", queue.path.display())
    })?;
    writeln!(io::stdout(), "{}: asked the collector of {site} at {asked}", drill.id)?;
    let missing = loop {
        let missing = drill.look()?;
        if missing.is_none() || clock::now().since(asked) > wait {
            break missing;
        }
        std::thread::sleep(LOOK);
    };
    let Some(missing) = missing else {
        return Ok(());
    };
    let wait = spell(wait);
    match missing {
        Missing::Collector => {
            let withdrawn = as_owner_of(&queue.path, || requests.withdraw());
            let withdrawn = withdrawn.context("the request cannot be withdrawn")?;
            let then = if withdrawn {
                "the request is withdrawn"
            } else {
                "it took the request, and its journal takes nothing"
            };
            bail!(
                "the collector of {site} has not answered within {wait}: see that it runs over {}, as part of \
                 'crosswatch run' or as 'crosswatch collector --site {site}'; {then}",
                queue.path.display()
            )
        }
        Missing::Forwarder => bail!(
            "no queue of the alerter has taken it within {wait}: see /readyz of the collector of {site}; it goes on \
             trying, and the page comes if it arrives within {} of now",
            spell(PASSED)
        ),
        Missing::Alerter if drill.forwarder.is_some() && !drill.alerter.exists() => {
            writeln!(
                io::stdout(),
                "the alerter is not on this machine: its log tells of {}, and the page itself",
                drill.id
            )?;
            Ok(())
        }
        Missing::Alerter => bail!(
            "the alerter has not answered within {wait}: see that it runs over {}, as part of 'crosswatch run' or as \
             'crosswatch alerter', with receivers as this config has them; if it does within {}, the page still comes",
            drill.alerter.display(),
            spell(PASSED)
        ),
        Missing::Receivers(waiting) => {
            for line in &waiting {
                writeln!(io::stdout(), "{line}")?;
            }
            bail!("not all have accepted within {wait}; the alerter goes on trying")
        }
    }
}

/// Somebody must be told.
fn somebody(config: &Config, rule: Option<&str>) -> anyhow::Result<()> {
    let rules = || config.alerts.rules.iter();
    match rule {
        Some(name) => {
            let Some(rule) = rules().find(|of| *of.rule.name == *name) else {
                let near = nearest(name, rules().map(|of| &*of.rule.name));
                let near = near.map_or_else(String::new, |near| format!("; the nearest is '{near}'"));
                bail!("the config has no rule '{}'{near}", short(name));
            };
            ensure!(
                !rule.notify.is_empty(),
                "rule '{name}' tells nobody: it has no notify, so no page can come of it"
            );
        }
        None => ensure!(
            !config.alerts.receivers.is_empty(),
            "the config has no receiver: add [notify.NAME] with sms, topic, webhook, command or console"
        ),
    }
    Ok(())
}

/// The site asked for; else the first whose collector has a journal here.
fn site(config: &Config, asked: Option<String>) -> anyhow::Result<Name> {
    if let Some(asked) = asked {
        return Ok(known_site(config, asked.into())?);
    }
    let folder = journals(&config.topology.queue);
    let mut sites = config.topology.sites.iter().map(|site| &site.name);
    let first = sites.clone().next();
    let here = sites.find(|site| file(&folder, site).exists());
    here.or(first).cloned().context("the config has no site")
}

/// A drill under way.
struct Drill {
    id: String,
    asked: Timestamp,
    journal: Search,
    /// With SQS: the file of the forwarder to the alerter's first queue.
    forwarder: Option<PathBuf>,
    /// With SQS, where the alerter is on this machine.
    history: Option<Search>,
    alerter: PathBuf,
    /// The hops that were told.
    passed: Vec<(usize, String)>,
}

/// Which hop has not answered.
enum Missing {
    Collector,
    Forwarder,
    Alerter,
    /// Who has not accepted yet, a line each.
    Receivers(Vec<String>),
}

impl Drill {
    /// Tells of the hops that were passed since, in their order; the first that was not, if any.
    fn look(&mut self) -> anyhow::Result<Option<Missing>> {
        let Some(found) = self.journal.look()? else {
            return Ok(Some(Missing::Collector));
        };
        self.passed(0, "collector observed it", found.observed)?;
        self.passed(0, "journal has it", found.written)?;
        // What the alerter has needs no other proof of its way there.
        let entries = story::notices(&self.alerter, &self.id)?;
        if let (Some(forwarder), true) = (&self.forwarder, entries.is_empty()) {
            let places = crosswatch_queue::places(forwarder).unwrap_or_default();
            if !places.iter().any(|place| place.id >= found.id) {
                return Ok(Some(Missing::Forwarder));
            }
            self.passed(0, "alerter's queue took it", clock::now())?;
        }
        if let Some(history) = &mut self.history
            && let Some(found) = history.look()?
        {
            self.passed(0, "alerter received it", found.written)?;
        }
        let Some(first) = entries.first() else {
            return Ok(Some(Missing::Alerter));
        };
        self.passed(0, "ledger owes it", first.created)?;
        let mut waiting = Vec::new();
        let mut accepted: Vec<(Timestamp, usize, &Notice)> = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            match entry.accepted_at {
                Some(at) => accepted.push((at, place, entry)),
                None => waiting.push(format!(
                    "{} by {} has not accepted {}: {}",
                    entry.receiver,
                    entry.channel,
                    entry.state,
                    entry.error.as_deref().unwrap_or("not tried yet")
                )),
            }
        }
        accepted.sort_by_key(|(at, ..)| *at);
        for (at, place, entry) in accepted {
            let hop = format!("{} by {} accepted {}", entry.receiver, entry.channel, entry.state);
            self.passed(place, &hop, at)?;
        }
        Ok((!waiting.is_empty()).then_some(Missing::Receivers(waiting)))
    }

    /// Tells of a hop once; of several that are called the same, such as two phones of a receiver, the place tells which it is.
    fn passed(&mut self, place: usize, hop: &str, at: Timestamp) -> io::Result<()> {
        let known = (place, hop.to_owned());
        if self.passed.contains(&known) {
            return Ok(());
        }
        self.passed.push(known);
        writeln!(io::stdout(), "{:>9.1} ms  {hop}", at.millis_since(self.asked))
    }
}

/// Looks for the drill in a journal, from where it ended when it was asked for.
struct Search {
    reader: Reader,
    id: String,
    after: i64,
    names: Names,
    found: Option<Found>,
}

/// Where the drill is in a journal.
#[derive(Clone, Copy)]
struct Found {
    id: i64,
    observed: Timestamp,
    written: Timestamp,
}

impl Search {
    fn from_the_end(path: &Path, id: &str) -> anyhow::Result<Self> {
        let mut reader = Reader::open(path)?;
        let after = reader.newest(None, 1, PAGE_BYTES)?.first().map_or(0, |entry| entry.id);
        Ok(Self { reader, id: id.to_owned(), after, names: Names::default(), found: None })
    }

    fn look(&mut self) -> anyhow::Result<Option<Found>> {
        if self.found.is_some() {
            return Ok(self.found);
        }
        for entry in self.reader.after(self.after, PAGE_BATCHES, PAGE_BYTES)? {
            self.after = entry.id;
            let Ok(decoded) = decode_batch(&entry.payload, &mut self.names) else { continue };
            let is_it = |body: &Body| matches!(body, Body::Drill { id, .. } if **id == *self.id);
            let observation = decoded.batch.observations.iter().find(|of| is_it(&of.body));
            if let Some(observation) = observation {
                self.found =
                    Some(Found { id: entry.id, observed: observation.at, written: entry.written_at });
                break;
            }
        }
        Ok(self.found)
    }
}
