//! Each kind of verdict comes of a real fault, is told by one SMS when it begins and by one when it ends.
//! Which faults and verdicts, stands in `docs/incidents.md`.

use std::process::Command;

use crosswatch_lab::Site;
use crosswatch_tests::process::laboratory;
use crosswatch_tests::root::require_root;

use crate::world::{LINK, PROBES, VPN, World};

const DOCUMENT: &str = include_str!("../../docs/incidents.md");

/// A row of the document's tables.
struct Row {
    /// `loss --percent 60`
    fault: String,
    place: String,
    /// Those that the incident may have while the fault lasts.
    verdicts: Vec<String>,
    /// The one that its end is told with.
    end: String,
}

/// The rows of the tables of faults, in the order of the document: those for a plain lab, and those for tunnels.
fn tables() -> [Vec<Row>; 2] {
    let mut tables = DOCUMENT.split("| `lab fault …` |").skip(1).map(|table| {
        let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
        let words = |cell: &str| -> Vec<String> {
            cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
        };
        let row = |row: &str| {
            let cells: Vec<_> = row.split(" | ").map(words).collect();
            let [fault, place, verdicts, end] = cells.try_into().expect("four columns");
            let one = |mut words: Vec<String>| {
                assert_eq!(words.len(), 1, "{row}");
                words.remove(0)
            };
            Row { fault: one(fault), place: one(place), verdicts, end: one(end) }
        };
        rows.map(row).collect()
    });
    let both = [(); 2].map(|()| tables.next().expect("two tables"));
    assert!(tables.next().is_none());
    both
}

/// Rules for what the lab's own do not page for.
fn more_rules(text: String) -> String {
    const RULES: &str = r#"
[[rule]]
name = "redundancy-lost"
metric = "tunnels_up"
below = 2
clear = 2
subjects = ["*/vpn-*"]
notify = ["oncall"]

[[rule]]
name = "ec2-fails"
metric = "collection_ok"
below = 1
subjects = ["*/ec2:*"]
notify = ["oncall"]

[notify.oncall]
"#;
    text.replace("\n[notify.oncall]\n", RULES)
}

/// And for large packets, which only a lab with tunnels probes with, once a minute.
fn rules_for_tunnels(text: String) -> String {
    const RULE: &str = r#"
[[rule]]
name = "large-lost"
metric = "ping_ok"
below = 1
subjects = ["*@1300"]
notify = ["oncall"]

[notify.oncall]
"#;
    more_rules(text).replace("\n[notify.oncall]\n", RULE)
}

fn each_comes_of_its_fault(world: &mut World, rows: &[Row]) {
    let [lab, _] = laboratory();
    let mut seen = 0;
    for Row { fault, place, verdicts, end } in rows {
        let said = Command::new(lab)
            .arg("fault")
            .args(fault.split(' '))
            .arg("--folder")
            .arg(world.lab.folder())
            .output()
            .unwrap();
        assert!(said.status.success(), "{fault}: {}", String::from_utf8_lossy(&said.stderr));
        world.wait_for_texts(&mut seen, "FIRING", &[place]);
        world.wait_for_verdict(place, verdicts);
        world.lab.heal().unwrap();
        let text = world.wait_for_texts(&mut seen, "RESOLVED", &[place]).remove(0);
        assert!(text.starts_with(&format!("RESOLVED {end} {place}: over after ")), "{fault}: {text}");
    }
    // Nothing else was told, and nothing twice.
    assert_eq!(world.whole_texts().len(), seen, "{:#?}", world.whole_texts());
}

#[test]
fn each_verdict_comes_of_its_fault_between_regions_and_is_told_once_and_so_is_its_end() {
    if !require_root("each_verdict_comes_of_its_fault_between_regions_and_is_told_once_and_so_is_its_end") {
        return;
    }
    let mut world = World::prepared(more_rules, |_| ());
    world.wait_until_up();
    let [rows, _] = tables();
    each_comes_of_its_fault(&mut world, &rows);
}

#[test]
fn each_verdict_that_takes_tunnels_comes_of_its_fault_and_is_told_once_and_so_is_its_end() {
    if !require_root("each_verdict_that_takes_tunnels_comes_of_its_fault_and_is_told_once_and_so_is_its_end")
    {
        return;
    }
    let mut world = World::with_tunnels(rules_for_tunnels);
    let large = format!("{LINK}/{}/icmp:{}@1300", Site::UsEast1, Site::EuWest1.address());
    world.wait_until_these_are_up(&[&PROBES[..], &[VPN, &large]].concat());
    let [_, rows] = tables();
    each_comes_of_its_fault(&mut world, &rows);
}
