//! Which batches a consumer has seen: ranges of their numbers for each boot, in memory and in the consumer's file.

use std::collections::{HashMap, HashSet};

use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::ranges::Ranges;
use rusqlite::{Connection, Transaction, params};

/// A collector and its boot.
type Boot = (Name, Name);

/// The batches seen so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    boots: HashMap<Boot, Ranges>,
}

/// What comes to be seen once its transaction is committed.
#[derive(Debug, Default)]
pub(crate) struct Additions {
    boots: HashMap<Boot, Ranges>,
}

impl Seen {
    pub(crate) fn load(db: &Connection) -> rusqlite::Result<Self> {
        let mut query = db.prepare("SELECT collector, boot, first, last FROM seen")?;
        let mut rows = query.query([])?;
        let mut boots: HashMap<Boot, Vec<(u64, u64)>> = HashMap::new();
        while let Some(row) = rows.next()? {
            let text = |column| row.get::<_, String>(column).map(Name::from);
            let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            boots.entry((text(0)?, text(1)?)).or_default().push((number(2)?, number(3)?));
        }
        let boots = boots.into_iter().map(|(boot, ranges)| (boot, ranges.into_iter().collect())).collect();
        Ok(Self { boots })
    }

    pub(crate) fn contains(&self, batch: &Batch) -> bool {
        self.boots.get(&boot(batch)).is_some_and(|ranges| ranges.contains(batch.number))
    }

    /// Writes that these have been seen; [`Self::add`] follows once it is committed.
    pub(crate) fn write<'a>(
        &self,
        step: &Transaction<'_>,
        batches: impl Iterator<Item = &'a Batch>,
    ) -> rusqlite::Result<Additions> {
        let mut numbers: HashMap<Boot, Vec<u64>> = HashMap::new();
        for batch in batches {
            numbers.entry(boot(batch)).or_default().push(batch.number);
        }
        let mut additions = Additions::default();
        for (boot, numbers) in numbers {
            let mut ranges = self.boots.get(&boot).cloned().unwrap_or_default();
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
            additions.boots.insert(boot, ranges);
        }
        Ok(additions)
    }

    pub(crate) fn add(&mut self, additions: Additions) {
        self.boots.extend(additions.boots);
    }
}

fn boot(batch: &Batch) -> Boot {
    (batch.origin.collector.clone(), batch.origin.boot.clone())
}
