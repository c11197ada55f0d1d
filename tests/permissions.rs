//! What the roles of `deploy/aws` grant, compared with what the stages called.
//!
//! `tests/run` gives every gate of the suite a folder (`CROSSWATCH_CALLS`) in which it writes down who called what, and runs this
//! test afterwards: it is left out of an ordinary `cargo test`, where nothing would be written down yet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use crosswatch_tests::deployment::json_lines;
use crosswatch_tests::tools::{not_run, repository, require};

const TEST: &str = "the_roles_grant_what_the_stages_call_and_no_more";

/// Each role of the templates, and the access key's id of those who are it in the lab.
const ROLES: [(&str, &str); 4] = [
    ("central PublisherRole", "publisher"),
    ("central AlerterRole", "alerter"),
    ("region CollectorRole", "collector"),
    ("lambda CollectorRole", "collector-once"),
];

/// Granted, and never called in the suite: why not.
const UNREACHED: [(&str, &str, &str); 16] = [
    (
        "central AlerterRole",
        "kms:Decrypt",
        "SNS calls KMS in the publisher's name; the local AWS encrypts no topic",
    ),
    ("central AlerterRole", "kms:GenerateDataKey", "likewise"),
    (
        "central AlerterRole",
        "sqs:SendMessage",
        "of two alerters alone, to the other's queue: deploy/crosswatch/tests/two_alerters.rs has no gate",
    ),
    ("region CollectorRole", "kms:Decrypt", "likewise"),
    ("region CollectorRole", "kms:GenerateDataKey", "likewise"),
    ("region CollectorRole", "sts:AssumeRole", "the lab is one account; the gate's own tests assume roles"),
    ("lambda CollectorRole", "sts:AssumeRole", "likewise"),
    ("lambda CollectorRole", "logs:CreateLogStream", "Lambda itself writes the log, in the function's name"),
    ("lambda CollectorRole", "logs:PutLogEvents", "likewise"),
    (
        "reader VpnReader",
        "ec2:DescribeVpnConnections",
        "what a collector calls under the role; the lab is one account",
    ),
    ("central InstanceRole", "ec2:AttachVolume", "deploy/systemd/use-volume, at the instance's start"),
    (
        "central InstanceRole",
        "s3:GetObject",
        "deploy/systemd/fetch-config, and the package at the instance's start",
    ),
    (
        "central InstanceRole",
        "sts:AssumeRole",
        "the SDK, to become a stage: the lab gives stages keys of their own",
    ),
    ("region InstanceRole", "ec2:AttachVolume", "as in central.yaml"),
    ("region InstanceRole", "s3:GetObject", "as in central.yaml"),
    ("region InstanceRole", "sts:AssumeRole", "as in central.yaml"),
];

#[test]
fn the_roles_grant_what_the_stages_call_and_no_more() {
    let (Some(calls), Some(tools)) = (require("CROSSWATCH_CALLS", TEST), require("DEPLOY_TOOLS", TEST))
    else {
        return;
    };
    let called = called(&calls);
    if called.is_empty() {
        return not_run(TEST, "no gate wrote down anything: the tests with the lab did not run");
    }
    let script = repository().join("tests/deploy/roles.py");
    let output =
        Command::new(tools.join("bin/python")).arg(script).arg(repository().join("deploy/aws")).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let granted: BTreeMap<String, BTreeSet<String>> = serde_json::from_slice(&output.stdout).unwrap();

    assert_eq!(differences(&granted, &called), Vec::<String>::new());
}

/// By access key, the actions that IAM would have been asked for.
fn called(folder: &std::path::Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut called: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        for line in json_lines(&fs::read_to_string(entry.unwrap().path()).unwrap()) {
            let word = |key: &str| line[key].as_str().unwrap();
            let action = action(word("service"), word("operation"));
            called.entry(word("key").to_owned()).or_default().insert(action);
        }
    }
    called
}

/// IAM knows no batches.
fn action(service: &str, operation: &str) -> String {
    format!("{service}:{}", operation.trim_end_matches("Batch"))
}

fn differences(
    granted: &BTreeMap<String, BTreeSet<String>>,
    called: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let none = BTreeSet::new();
    let mut differences = Vec::new();
    for (role, grants) in granted {
        let key = ROLES.iter().find(|(of, _)| of == role).map(|(_, key)| *key);
        let calls = key.map_or(&none, |key| called.get(key).unwrap_or(&none));
        let unreached: BTreeSet<String> = UNREACHED
            .iter()
            .filter(|(of, ..)| of == role)
            .map(|(_, action, _)| (*action).to_owned())
            .collect();
        for action in calls.difference(grants) {
            differences.push(format!("{role} lacks {action}, which was called"));
        }
        for action in grants.difference(calls).filter(|action| !unreached.contains(*action)) {
            differences.push(format!("{role} grants {action}, which was never called"));
        }
        for action in unreached.difference(grants) {
            differences.push(format!("UNREACHED has {action} of {role}, which does not grant it"));
        }
        for action in unreached.intersection(calls) {
            differences.push(format!("UNREACHED has {action} of {role}, which was called"));
        }
    }
    let roles = UNREACHED.iter().map(|(role, ..)| *role).chain(ROLES.iter().map(|(role, _)| *role));
    for role in roles.filter(|role| !granted.contains_key(*role)).collect::<BTreeSet<_>>() {
        differences.push(format!("there is no role {role}"));
    }
    differences
}

#[test]
fn a_grant_too_many_and_one_too_few_are_told() {
    let of = |actions: &[&str]| actions.iter().map(|action| (*action).to_owned()).collect::<BTreeSet<_>>();
    let mut granted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (role, action, _) in UNREACHED {
        granted.entry(role.to_owned()).or_default().insert(action.to_owned());
    }
    granted.insert("central PublisherRole".to_owned(), of(&["sqs:ReceiveMessage", "sqs:DeleteMessage"]));
    let called = BTreeMap::from([
        ("publisher".to_owned(), of(&["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility"])),
        ("collector".to_owned(), of(&["sts:AssumeRole"])),
    ]);
    assert_eq!(
        differences(&granted, &called),
        [
            "central PublisherRole lacks sqs:ChangeMessageVisibility, which was called",
            "central PublisherRole grants sqs:DeleteMessage, which was never called",
            "UNREACHED has sts:AssumeRole of region CollectorRole, which was called",
        ]
    );
}
