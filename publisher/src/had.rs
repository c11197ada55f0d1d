//! Which observations the publisher has had, by collector, boot and `seq`: what a replay puts back may have come before, or
//! still be to come.
//!
//! A batch holds all of its boot between its first `seq` and its last that is this publisher's. So of batches the spans are
//! noted, nearly always one a boot, and of what was put back each number. Batches themselves are known by their numbers
//! elsewhere; here they are only held against what was put back.

use std::time::Duration;

use crosswatch_queue::REMEMBERED;
use crosswatch_shared::observation::{Name, Observation, Origin};
use crosswatch_shared::ranges::Ranges;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, Transaction, params};
use rustc_hash::{FxHashMap, FxHashSet};

/// Its table; `put_back` is 1 for what came by a replay. Of the boots that were seen before there was this table nobody knows what
/// was had: all of them counts as had.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE had (
        collector TEXT NOT NULL, boot TEXT NOT NULL, put_back INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        PRIMARY KEY (collector, boot, put_back, first)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO had SELECT DISTINCT collector, boot, 0, 0, 9223372036854775807 FROM seen;
";

/// Its second table: when something of a boot came last, by the publisher's clock. What is older than any datapoint that is kept need
/// not be known: what a replay puts back of it is forgotten at once.
pub(crate) const BOOTS: &str = "
    CREATE TABLE had_boot (
        collector TEXT NOT NULL, boot TEXT NOT NULL, heard INTEGER NOT NULL,
        PRIMARY KEY (collector, boot)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO had_boot SELECT DISTINCT collector, boot, unixepoch() * 1000000 FROM had;
";

/// That a boot goes on is written down no more often than this.
const NOTED: Duration = Duration::from_secs(24 * 3600);

/// It is looked no more often than this for boots to forget.
const LOOK: Duration = Duration::from_secs(3600);

/// A collector and its boot.
type Boot = (Name, Name);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Had {
    batches: FxHashMap<Boot, Ranges>,
    put_back: FxHashMap<Boot, Ranges>,
    /// What was added since it was saved: a boot, whether by a replay, and a number of the range that grew.
    grown: FxHashSet<(Boot, bool, u64)>,
    heard: FxHashMap<Boot, Timestamp>,
    /// Of these it is to be saved when they were heard.
    noted: FxHashSet<Boot>,
    /// When it was last looked for boots to forget.
    looked: Option<Timestamp>,
}

impl Had {
    /// As the file has it.
    pub(crate) fn load(db: &Connection) -> rusqlite::Result<Self> {
        let mut query = db.prepare_cached("SELECT collector, boot, put_back, first, last FROM had")?;
        let mut rows = query.query([])?;
        let mut had = Self::default();
        while let Some(row) = rows.next()? {
            let text = |column| row.get::<_, String>(column).map(Name::from);
            let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            let of = if row.get(2)? { &mut had.put_back } else { &mut had.batches };
            of.entry((text(0)?, text(1)?)).or_default().insert_all(number(3)?, number(4)?);
        }
        let mut query = db.prepare_cached("SELECT collector, boot, heard FROM had_boot")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let text = |column| row.get::<_, String>(column).map(Name::from);
            had.heard.insert((text(0)?, text(1)?), Timestamp::from_micros(row.get(2)?));
        }
        Ok(had)
    }

    /// Something of a boot comes now.
    pub(crate) fn hear(&mut self, origin: &Origin, now: Timestamp) {
        let boot = (origin.collector.clone(), origin.boot.clone());
        if self.heard.get(&boot).is_none_or(|heard| now.since(*heard) >= NOTED) {
            self.heard.insert(boot.clone(), now);
            self.noted.insert(boot);
        }
    }

    /// Takes note of a batch. Gives whether any of it may have been put back before, so that each is to be asked for.
    pub(crate) fn batch(&mut self, origin: &Origin, observations: &[Observation]) -> bool {
        let seqs = || observations.iter().map(|observation| most(observation.seq));
        let (Some(first), Some(last)) = (seqs().min(), seqs().max()) else { return false };
        let boot = (origin.collector.clone(), origin.boot.clone());
        let meets = self.put_back.get(&boot).is_some_and(|of| of.meets(first, last));
        self.batches.entry(boot.clone()).or_default().insert_all(first, last);
        self.grown.insert((boot, false, last));
        meets
    }

    /// Whether an observation was put back.
    pub(crate) fn was_put_back(&self, origin: &Origin, seq: u64) -> bool {
        let boot = (origin.collector.clone(), origin.boot.clone());
        self.put_back.get(&boot).is_some_and(|of| of.contains(most(seq)))
    }

    /// Takes note of an observation that was put back; `false` where it was had before, either way.
    pub(crate) fn put_back(&mut self, origin: &Origin, seq: u64) -> bool {
        let (boot, seq) = ((origin.collector.clone(), origin.boot.clone()), most(seq));
        if self.batches.get(&boot).is_some_and(|of| of.contains(seq)) {
            return false;
        }
        let is_new = self.put_back.entry(boot.clone()).or_default().insert(seq);
        if is_new {
            self.grown.insert((boot, true, seq));
        }
        is_new
    }

    /// Saves what was added, and forgets what is older than datapoints are kept. Where the transaction does not commit, it
    /// is to be loaded anew.
    pub(crate) fn save(
        &mut self,
        tx: &Transaction<'_>,
        kept: Duration,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        self.save_ranges(tx)?;
        let noted = std::mem::take(&mut self.noted);
        for boot in &noted {
            if let Some(heard) = self.heard.get(boot) {
                tx.prepare_cached("INSERT OR REPLACE INTO had_boot VALUES (?, ?, ?)")?.execute(params![
                    boot.0,
                    boot.1,
                    heard.as_micros()
                ])?;
            }
        }
        if noted.is_empty() || self.looked.is_some_and(|looked| now.since(looked) < LOOK) {
            return Ok(());
        }
        self.looked = Some(now);
        // As exact as it is written down.
        let remembered = kept.max(REMEMBERED) + NOTED;
        let old =
            |(boot, heard): (&Boot, &Timestamp)| (now.since(*heard) >= remembered).then(|| boot.clone());
        let forgotten: Vec<Boot> = self.heard.iter().filter_map(old).collect();
        for boot in forgotten {
            for sql in [
                "DELETE FROM had WHERE collector = ? AND boot = ?",
                "DELETE FROM had_boot WHERE collector = ? AND boot = ?",
            ] {
                tx.prepare_cached(sql)?.execute([&boot.0, &boot.1])?;
            }
            self.heard.remove(&boot);
            self.batches.remove(&boot);
            self.put_back.remove(&boot);
        }
        Ok(())
    }

    fn save_ranges(&mut self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        let grown = std::mem::take(&mut self.grown);
        let ranges: FxHashSet<(Boot, bool, (u64, u64))> = grown
            .into_iter()
            .filter_map(|(boot, put_back, number)| {
                let of = if put_back { &self.put_back } else { &self.batches };
                let range = of.get(&boot)?.range(number)?;
                Some((boot, put_back, range))
            })
            .collect();
        let mut remove = tx.prepare_cached(
            "DELETE FROM had WHERE collector = ? AND boot = ? AND put_back = ? AND first BETWEEN ? AND ?",
        )?;
        let mut insert = tx.prepare_cached("INSERT INTO had VALUES (?, ?, ?, ?, ?)")?;
        for ((collector, boot), put_back, (first, last)) in ranges {
            let (first, last) = (first.cast_signed(), last.cast_signed());
            remove.execute(params![collector, boot, put_back, first, last])?;
            insert.execute(params![collector, boot, put_back, first, last])?;
        }
        Ok(())
    }
}

/// No boot comes so far; the file's numbers go no further.
fn most(seq: u64) -> u64 {
    seq.min(i64::MAX.cast_unsigned())
}
