//! The runbook: whoever is paged finds what to do.

use std::collections::BTreeSet;
use std::fs;

use crosswatch_tests::tools::repository;

fn document(name: &str) -> String {
    fs::read_to_string(repository().join("docs").join(name)).unwrap()
}

#[test]
fn every_verdict_has_its_entry_in_the_runbook_and_no_other_has() {
    let incidents = document("incidents.md");
    let verdicts: BTreeSet<&str> = incidents
        .lines()
        .filter(|line| line.ends_with("| down |") || line.ends_with("| works less well |"))
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert!(verdicts.contains("black-hole") && verdicts.len() >= 14, "{verdicts:?}");

    let operations = document("operations.md");
    let runbook = operations.split_once("\n## Runbook\n").expect("the runbook").1;
    let entries: Vec<(&str, &str)> =
        runbook.split("\n### `").skip(1).filter_map(|entry| entry.split_once("`\n")).collect();
    let named: BTreeSet<&str> = entries.iter().map(|(verdict, _)| *verdict).collect();
    assert_eq!(named, verdicts);
    for (verdict, text) in entries {
        assert!(text.split_whitespace().count() > 20, "{verdict}: says nothing of what to do");
    }
}
