//! What is changed where other alarms are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use crosswatch_alarms::{Alarm, Existing, diff, suspects};
use proptest::prelude::*;

use world::{CLASSIC, World, classic_rules};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is there, ours or not: what is done makes it as it should be, nothing is left to do then, and
    /// what is not ours is as it was.
    #[test]
    fn what_is_done_once_is_done(
        kept in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 11),
        extra in proptest::collection::vec((any::<bool>(), any::<bool>()), 0..6),
    ) {
        let world = World::new(CLASSIC, classic_rules());
        let desired = world.alarms();
        prop_assert_eq!(desired.len(), kept.len());
        let mut there: Vec<Existing> = Vec::new();
        for (alarm, (present, changed, ours)) in desired.iter().zip(&kept) {
            if *present {
                let mut alarm = alarm.clone();
                if *changed {
                    alarm.description.push('!');
                }
                let (name, composite) = (alarm.name.clone(), alarm.is_composite());
                there.push(Existing { name, composite, alarm: Some(alarm), tagged: Some(*ours) });
            }
        }
        for (index, (ours, composite)) in extra.iter().enumerate() {
            let name = format!("Crosswatch extra {index}");
            there.push(Existing { name, composite: *composite, alarm: None, tagged: Some(*ours) });
        }
        let foreign: Vec<Existing> = there.iter().filter(|there| there.tagged == Some(false)).cloned().collect();

        let changes = diff(&desired, &there, |_| false);
        prop_assert!(changes.delete.iter().all(|there| there.tagged == Some(true)));
        let asked = suspects(&desired, &there);
        for (there, _) in &changes.update {
            prop_assert!(asked.contains(&there.name));
        }
        prop_assert!(changes.delete.iter().all(|there| asked.contains(&there.name)));

        there.retain(|there| !changes.delete.contains(there) && !changes.update.iter().any(|(old, _)| old == there));
        let puts = changes.create.iter().chain(changes.update.iter().map(|(_, wanted)| wanted));
        there.extend(puts.map(|alarm| Existing {
            name: alarm.name.clone(),
            composite: alarm.is_composite(),
            alarm: Some(alarm.clone()),
            tagged: Some(true),
        }));
        let again = diff(&desired, &there, |_| false);
        prop_assert!(again.is_empty(), "{again:?}");
        prop_assert!(foreign.iter().all(|foreign| there.contains(foreign)));

        let gone = diff(&[], &there, |_| false);
        prop_assert!(gone.create.is_empty() && gone.delete.iter().all(|there| there.tagged == Some(true)));
    }
}

/// Two roles may lead to one account: each sees the other's alarms.
#[test]
fn what_another_place_of_the_region_wants_is_left_to_it() {
    let desired = World::new(CLASSIC, classic_rules()).alarms();
    let there: Vec<_> = desired
        .iter()
        .map(|alarm| Existing {
            name: alarm.name.clone(),
            composite: alarm.is_composite(),
            alarm: Some(alarm.clone()),
            tagged: Some(true),
        })
        .collect();
    assert_eq!(diff(&[], &there, |_| true).delete, []);
    let deleted = diff(&[], &there, |_| false).delete;
    assert_eq!(deleted.len(), there.len());
    assert!(deleted.is_sorted_by_key(|there| !there.composite), "composites first: {deleted:?}");
    let created = diff(&desired, &[], |_| false).create;
    assert!(created.is_sorted_by_key(Alarm::is_composite), "composites last: {created:?}");
}
