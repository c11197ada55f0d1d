//! What has to be done where there are alarms already.

use crate::alarm::Alarm;

/// An alarm that is there, as it is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Existing {
    /// Its name.
    pub name: String,
    /// Whether it is a composite, which is put and deleted apart.
    pub composite: bool,
    /// The alarm; `None` where it has something that none of ours has, such as metric math or a unit, or its actions
    /// are switched off.
    pub alarm: Option<Alarm>,
    /// Whether it has our tag; `None`: not asked, which is enough for one that [`suspects`] does not name.
    pub tagged: Option<bool>,
}

/// What has to be done, in the order in which it can be: metric alarms before the composites that name them, and
/// composites deleted before them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Alarms that are not there.
    pub create: Vec<Alarm>,
    /// Alarms that are otherwise, with what they are now.
    pub update: Vec<(Existing, Alarm)>,
    /// Alarms of ours that nobody wants.
    pub delete: Vec<Existing>,
    /// The names of alarms that are as they should be.
    pub same: Vec<String>,
    /// The names of alarms in our place that are not ours: they are left as they are.
    pub foreign: Vec<String>,
}

impl Changes {
    /// Whether nothing has to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.update.is_empty() && self.delete.is_empty()
    }
}

/// The names of those alarms whose tag decides: they are not as they should be.
#[must_use]
pub fn suspects(desired: &[Alarm], existing: &[Existing]) -> Vec<String> {
    let differs = |there: &&Existing| {
        let wanted = desired.iter().find(|alarm| alarm.name == there.name);
        wanted.is_none_or(|wanted| there.alarm.as_ref() != Some(wanted))
    };
    existing.iter().filter(differs).map(|there| there.name.clone()).collect()
}

/// Compares the alarms that should be there with those that are. `wanted_beside` says which names another place of the
/// same region wants, so that they are left to it.
///
/// Nothing without our tag is changed or deleted: such an alarm is foreign if its name is wanted, and else no concern of
/// ours.
#[must_use]
pub fn diff(desired: &[Alarm], existing: &[Existing], wanted_beside: impl Fn(&str) -> bool) -> Changes {
    let mut changes = Changes::default();
    for wanted in desired {
        match existing.iter().find(|there| there.name == wanted.name) {
            None => changes.create.push(wanted.clone()),
            Some(there) if there.alarm.as_ref() == Some(wanted) => changes.same.push(wanted.name.clone()),
            Some(there) if there.tagged != Some(true) => changes.foreign.push(wanted.name.clone()),
            Some(there) => changes.update.push((there.clone(), wanted.clone())),
        }
    }
    for there in existing {
        let wanted = desired.iter().any(|wanted| wanted.name == there.name) || wanted_beside(&there.name);
        if there.tagged == Some(true) && !wanted {
            changes.delete.push(there.clone());
        }
    }
    changes.create.sort_by_key(Alarm::is_composite);
    changes.update.sort_by_key(|(_, wanted)| wanted.is_composite());
    changes.delete.sort_by_key(|there| !there.composite);
    changes
}

impl Alarm {
    /// Whether it is a composite.
    #[must_use]
    pub fn is_composite(&self) -> bool {
        matches!(self.watch, crate::Watch::Composite(_))
    }
}
