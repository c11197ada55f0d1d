//! Which batches a consumer has seen: ranges of their numbers for each boot, in memory and in the consumer's file.
//!
//! A boot that nothing was heard of for longer than any queue keeps a message is forgotten: a collector that is run once a minute
//! has half a million boots a year.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::ranges::Ranges;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, Transaction, params};

/// How long a boot is remembered after its newest batch: a message may lie in a queue of SQS for 14 days, and as long again among
/// its dead letters before somebody moves it back.
pub const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);

/// That a boot goes on is written down no more often than this.
const NOTED: Duration = Duration::from_secs(24 * 3600);

/// It is looked no more often than this for boots to forget.
const LOOK: Duration = Duration::from_secs(3600);

/// A collector and its boot.
type Boot = (Name, Name);

/// The batches seen so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    boots: HashMap<Boot, OfBoot>,
    /// When it was last looked for boots to forget.
    looked: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct OfBoot {
    numbers: Ranges,
    /// When something was heard of it, by the consumer's clock; as exact as it is written down.
    heard: Timestamp,
}

/// What comes to be seen once its transaction is committed.
#[derive(Debug, Default)]
pub(crate) struct Additions {
    boots: HashMap<Boot, OfBoot>,
    forgotten: Vec<Boot>,
    looked: Option<Timestamp>,
}

impl Seen {
    pub(crate) fn load(db: &Connection) -> rusqlite::Result<Self> {
        let mut query = db.prepare(
            "SELECT collector, boot, first, last, coalesce(heard, unixepoch() * 1000000) FROM seen LEFT JOIN seen_boot USING (collector, boot)",
        )?;
        let mut rows = query.query([])?;
        let mut boots: HashMap<Boot, (Vec<(u64, u64)>, Timestamp)> = HashMap::new();
        while let Some(row) = rows.next()? {
            let text = |column| row.get::<_, String>(column).map(Name::from);
            let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            let heard = Timestamp::from_micros(row.get(4)?);
            let of = boots.entry((text(0)?, text(1)?)).or_insert_with(|| (Vec::new(), heard));
            of.0.push((number(2)?, number(3)?));
        }
        let of_boot = |(ranges, heard): (Vec<_>, _)| OfBoot { numbers: ranges.into_iter().collect(), heard };
        let boots = boots.into_iter().map(|(boot, of)| (boot, of_boot(of))).collect();
        Ok(Self { boots, looked: None })
    }

    pub(crate) fn contains(&self, batch: &Batch) -> bool {
        self.boots.get(&boot(batch)).is_some_and(|of| of.numbers.contains(batch.number))
    }

    /// Writes that these have been seen, received at `now`; [`Self::add`] follows once it is committed.
    pub(crate) fn write<'a>(
        &self,
        step: &Transaction<'_>,
        batches: impl Iterator<Item = &'a Batch>,
        now: Timestamp,
    ) -> rusqlite::Result<Additions> {
        let mut numbers: HashMap<Boot, Vec<u64>> = HashMap::new();
        for batch in batches {
            numbers.entry(boot(batch)).or_default().push(batch.number);
        }
        let mut additions = Additions::default();
        let mut begun = false;
        for (boot, numbers) in numbers {
            let known = self.boots.get(&boot);
            begun |= known.is_none();
            let heard = known.map(|of| of.heard).filter(|heard| now.since(*heard) < NOTED);
            if heard.is_none() {
                step.prepare_cached("INSERT OR REPLACE INTO seen_boot VALUES (?1, ?2, ?3)")?
                    .execute(params![boot.0, boot.1, now.as_micros()])?;
            }
            let mut ranges = known.map(|of| of.numbers.clone()).unwrap_or_default();
            for &number in &numbers {
                ranges.insert(number);
            }
            let grown: HashSet<_> = numbers.iter().filter_map(|&number| ranges.range(number)).collect();
            for (first, last) in grown {
                let (first, last) = (first.cast_signed(), last.cast_signed());
                step.prepare_cached(
                    "DELETE FROM seen WHERE collector = ?1 AND boot = ?2 AND first > ?3 AND first <= ?4",
                )?
                .execute(params![boot.0, boot.1, first, last])?;
                step.prepare_cached(
                    "INSERT INTO seen VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (collector, boot, first) DO UPDATE SET last = excluded.last",
                )?
                .execute(params![boot.0, boot.1, first, last])?;
            }
            additions.boots.insert(boot, OfBoot { numbers: ranges, heard: heard.unwrap_or(now) });
        }
        if begun && self.looked.is_none_or(|looked| now.since(looked) >= LOOK) {
            additions.looked = Some(now);
            self.forget(step, now, &mut additions)?;
        }
        Ok(additions)
    }

    /// Forgets the boots that were not heard of for long.
    fn forget(
        &self,
        step: &Transaction<'_>,
        now: Timestamp,
        additions: &mut Additions,
    ) -> rusqlite::Result<()> {
        for (boot, of) in &self.boots {
            // As exact as it is written down.
            if now.since(of.heard) < REMEMBERED + NOTED || additions.boots.contains_key(boot) {
                continue;
            }
            for sql in [
                "DELETE FROM seen WHERE collector = ?1 AND boot = ?2",
                "DELETE FROM seen_boot WHERE collector = ?1 AND boot = ?2",
            ] {
                step.prepare_cached(sql)?.execute(params![boot.0, boot.1])?;
            }
            additions.forgotten.push(boot.clone());
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, additions: Additions) {
        let Additions { boots, forgotten, looked } = additions;
        self.boots.extend(boots);
        for boot in forgotten {
            self.boots.remove(&boot);
        }
        self.looked = looked.or(self.looked);
    }
}

fn boot(batch: &Batch) -> Boot {
    (batch.origin.collector.clone(), batch.origin.boot.clone())
}
