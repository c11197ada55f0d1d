//! The engine against the slow, obvious model, in small random worlds.

mod model;
mod replayed;
mod worlds;

use proptest::prelude::*;

use model::{Line, model};
use replayed::{replayed, replayed_in_lives};
use worlds::world;

proptest! {
    // A failure is kept as a scenario, not as a seed.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_prints_what_the_model_prints(world in world()) {
        let expected = model(&world.rules, &world.topology, &world.rows);
        let found = replayed(&world.rules, &world.topology, &world.rows);
        prop_assert!(found == expected, "{}", told(&expected, &found));
    }

    #[test]
    fn an_engine_that_is_stopped_and_restored_prints_the_same(world in world(), life in 1..8_usize) {
        let expected = model(&world.rules, &world.topology, &world.rows);
        let found = replayed_in_lives(&world.rules, &world.topology, &world.rows, life);
        prop_assert!(found == expected, "{}", told(&expected, &found));
    }
}

fn told(expected: &[Line], found: &[Line]) -> String {
    let mut text = String::new();
    for (title, lines, others) in [("model", expected, found), ("engine", found, expected)] {
        text += &format!("{title}:\n");
        for line in lines {
            let (at, state, rule, subject, value) = line;
            let mark = if others.contains(line) { ' ' } else { '!' };
            text += &format!("{mark} {at} {state} {rule} {subject} {value:?}\n");
        }
    }
    text
}
