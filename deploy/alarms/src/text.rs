//! What `plan` shows.

use std::fmt::Write as _;

use crate::changes::{Changes, Existing};
use crate::{Alarm, Difference, Place};

/// The changes at each place and the differences, as lines.
#[must_use]
pub fn plan_text(places: &[(Place, Changes)], differences: &[Difference]) -> String {
    let mut text = String::new();
    for (place, changes) in places {
        if changes.is_empty() && changes.foreign.is_empty() {
            continue;
        }
        let _ = match &place.role {
            Some(role) => writeln!(text, "{} as {role}", place.region),
            None => writeln!(text, "{}", place.region),
        };
        for alarm in &changes.create {
            let _ = writeln!(text, "  + {}\n      {}", alarm.name, alarm.line());
        }
        for (there, wanted) in &changes.update {
            let _ = writeln!(text, "  ~ {}", wanted.name);
            for line in changed(there, wanted) {
                let _ = writeln!(text, "      {line}");
            }
        }
        for there in &changes.delete {
            let _ = writeln!(text, "  - {}", there.name);
        }
        for name in &changes.foreign {
            let _ = writeln!(
                text,
                "  ! {name}\n      is there without the tag of this deployment and stays as it is"
            );
        }
    }
    for Difference { of, text: what } in differences {
        let _ = writeln!(text, "note: {of}: {what}");
    }
    text
}

/// How many of each, as a line without its end.
#[must_use]
pub fn summary(places: &[(Place, Changes)]) -> String {
    let count = |of: fn(&Changes) -> usize| places.iter().map(|(_, changes)| of(changes)).sum::<usize>();
    let mut text = format!(
        "{} to create, {} to change, {} to delete, {} as they should be",
        count(|changes| changes.create.len()),
        count(|changes| changes.update.len()),
        count(|changes| changes.delete.len()),
        count(|changes| changes.same.len()),
    );
    let foreign = count(|changes| changes.foreign.len());
    if foreign > 0 {
        let _ = write!(text, ", {foreign} not ours");
    }
    text
}

/// Each field that differs, old and new.
fn changed(there: &Existing, wanted: &Alarm) -> Vec<String> {
    let Some(alarm) = &there.alarm else {
        return vec!["was changed by hand into what Crosswatch does not make; is put anew".to_owned()];
    };
    let old = alarm.fields();
    let new = wanted.fields();
    let was = |key: &str| old.iter().find(|(known, _)| *known == key).map_or("", |(_, value)| value.as_str());
    new.iter()
        .filter(|(key, value)| was(key) != value)
        .map(|(key, value)| format!("{key}: {} → {value}", was(key)))
        .collect()
}
