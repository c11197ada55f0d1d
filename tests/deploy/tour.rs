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
        "1 of 6",
        "2 tunnels up, 2 expected",
        "2 of 6",
        "3 of 6",
        "an SMS:",
        "FIRING ",
        "4 of 6",
        "incident tunnels-down use1-euw1",
        "5 of 6",
        "6 of 6",
        "RESOLVED tunnels-down use1-euw1",
        "no open incidents",
    ];
    for part in shown {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("no '{part}' where it belongs: {told}")).1;
    }
    let status = lab("status");
    assert!(!status.status.success(), "no lab is up any more");
    assert!(String::from_utf8_lossy(&status.stdout).contains("no lab is up here"), "{status:?}");
}
