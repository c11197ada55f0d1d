//! `lab tour`: what a newcomer runs first.

use std::process::Command;

use crosswatch_tests::process::{laboratory, program};
use crosswatch_tests::root::require_root;
use crosswatch_tests::tools::require;

#[test]
fn the_tour_shows_a_page_its_verdict_and_the_all_clear_and_leaves_nothing_running() {
    let test = "the_tour_shows_a_page_its_verdict_and_the_all_clear_and_leaves_nothing_running";
    if !require_root(test) {
        return;
    }
    let Some(ministack) = require("MINISTACK", test) else { return };
    let (_, [lab, _]) = (program(), laboratory());
    let folder = tempfile::tempdir().unwrap();
    let lab = |command: &str| {
        let mut run = Command::new(lab);
        run.arg(command)
            .arg("--folder")
            .arg(folder.path().join("lab"))
            .env("MINISTACK", &ministack)
            .output()
            .unwrap()
    };
    let output = lab("tour");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}{failed}");
    let mut rest = told.as_str();
    let shown = [
        "1 of 7",
        "2 tunnels up, 2 expected",
        "2 of 7",
        "3 of 7",
        "an SMS:",
        "FIRING ",
        "4 of 7",
        "incident tunnels-down use1-euw1",
        "5 of 7",
        "6 of 7",
        "RESOLVED tunnels-down use1-euw1",
        "no open incidents",
        "7 of 7",
        "crosswatch report ",
        ".html\n",
    ];
    for part in shown {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("no '{part}' where it belongs: {told}")).1;
    }
    let files = std::fs::read_dir(folder.path().join("lab")).unwrap();
    let reports: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|file| file.extension().is_some_and(|of| of == "html"))
        .collect();
    let [report] = reports.as_slice() else { panic!("{reports:?}") };
    let report = std::fs::read_to_string(report).unwrap();
    for part in ["tunnels-down", "RESOLVED", "<svg"] {
        assert!(report.contains(part), "no '{part}' in the report");
    }
    let status = lab("status");
    assert!(!status.status.success(), "no lab is up any more");
    assert!(String::from_utf8_lossy(&status.stdout).contains("no lab is up here"), "{status:?}");
}
