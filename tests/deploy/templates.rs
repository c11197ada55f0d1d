//! The templates: clean by cfn-lint and checkov, and made as stacks in the local AWS as far as that goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crosswatch_tests::process::Process;
use crosswatch_tests::tools::{repository, require};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(120);

/// What the local AWS lacks of what the templates ask for, by resource type: this part of them no test has seen work.
const LACKS: [&str; 8] = [
    "AWS::AutoScaling::AutoScalingGroup: starts no instance",
    "AWS::CloudWatch::Alarm: forgets its actions",
    "AWS::CloudWatch::Alarm: forgets what missing data means",
    "AWS::CloudWatch::Alarm: of an expression is refused",
    "AWS::EC2::Volume: is refused",
    "AWS::Lambda::EventInvokeConfig: is not kept",
    "AWS::Lambda::Function: forgets its concurrency",
    "AWS::SNS::Topic: forgets its key",
];

fn folder() -> PathBuf {
    repository().join("deploy/aws")
}

/// The Python that has cfn-lint, checkov and boto3.
fn python(test: &str) -> Option<Command> {
    let python = require("DEPLOY_TOOLS", test)?.join("bin/python");
    Some(Command::new(python))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn cfn_lint_finds_nothing_in_the_templates() {
    let Some(mut python) = python("cfn_lint_finds_nothing_in_the_templates") else { return };
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let templates = files.filter(|path| path.extension().is_some_and(|of| of == "yaml"));
    let cfn_lint = Path::new(python.get_program()).with_file_name("cfn-lint");
    let output = python.arg(cfn_lint).args(templates).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(text(&output), "");
}

#[test]
fn checkov_finds_nothing_but_what_is_argued_and_each_argument_is_needed() {
    let test = "checkov_finds_nothing_but_what_is_argued_and_each_argument_is_needed";
    let (Some(of_all), Some(of_bare)) = (python(test), python(test)) else { return };
    let (failed, argued) = checkov(of_all, &folder());
    assert_eq!(failed, BTreeSet::new());

    let bare = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap().replace("      checkov:\n", "      ignored:\n");
        fs::write(bare.path().join(path.file_name().unwrap()), text).unwrap();
    }
    let (needed, _) = checkov(of_bare, bare.path());
    assert!(!argued.is_empty());
    assert_eq!(argued, needed, "an argument for what would not fail is to be removed");
}

/// Checks that failed, and those that were skipped, each with its template and resource.
fn checkov(mut python: Command, folder: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    // Nothing is fetched from outside, nothing is sent there.
    python.args(["-m", "checkov.main", "--skip-download", "--framework", "cloudformation"]);
    let output = python.args(["--output", "json", "--directory"]).arg(folder).output().unwrap();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    let of = |kind: &str| {
        let checks = report["results"][kind].as_array().unwrap().iter();
        let name = |check: &Value| {
            let word = |key: &str| check[key].as_str().unwrap().trim_start_matches('/').to_owned();
            format!("{} {} {}", word("file_path"), word("resource"), word("check_id"))
        };
        checks.map(name).collect()
    };
    assert_eq!(report["summary"]["parsing_errors"], 0);
    (of("failed_checks"), of("skipped_checks"))
}

/// What the services answer for after the stacks were made.
#[test]
fn the_stacks_are_made_in_the_local_aws_and_what_it_lacks_of_them_is_known() {
    let test = "the_stacks_are_made_in_the_local_aws_and_what_it_lacks_of_them_is_known";
    let (Some(mut python), Some(ministack)) = (python(test), require("MINISTACK", test)) else { return };
    // Free now; whoever takes it meanwhile makes the emulator say so.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut emulator = Process::start(Command::new(ministack).env("GATEWAY_PORT", port.to_string()));
    emulator.wait_for_text("Running on", BOUND);

    let script = repository().join("tests/deploy/stacks.py");
    let endpoint = format!("http://127.0.0.1:{port}");
    let output = python.arg(script).arg(endpoint).arg(folder()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let seen: BTreeMap<String, Value> = serde_json::from_slice(&output.stdout).unwrap();

    let lacks: BTreeSet<String> = seen.values().filter_map(lack).flatten().collect();
    assert_eq!(lacks, LACKS.map(str::to_owned).into(), "{}", text(&output));
    let is = |name: &str| &seen.get(name).unwrap_or_else(|| panic!("no {name}"))["is"];

    for queue in ["central Publisher", "central Alerter", "standby Publisher", "standby Alerter"] {
        let (queue, dead) = (is(&format!("{queue}Queue")), is(&format!("{queue}Dead")));
        assert_eq!(queue["MessageRetentionPeriod"], (4 * 86_400).to_string());
        assert_eq!(dead["MessageRetentionPeriod"], (14 * 86_400).to_string());
        let redrive = parsed(&queue["RedrivePolicy"]);
        assert_eq!(
            (&redrive["maxReceiveCount"], &redrive["deadLetterTargetArn"]),
            (&json!(100), &dead["QueueArn"])
        );
        for of in [queue, dead] {
            assert_eq!(of["SqsManagedSseEnabled"], "true");
            assert!(denies_plain_text(&parsed(&of["Policy"])), "{of}");
        }
        let allowed = allowed(&parsed(&queue["Policy"]));
        assert_eq!(allowed, ["sqs:SendMessage to {\"AWS\":[\"000000000000\"]}"]);
    }
    for topic in ["central Topic", "region Topic"] {
        let key = topic.replace("Topic", "TopicKey");
        let by_alarms = "kms:Decrypt,kms:GenerateDataKey* to {\"Service\":\"cloudwatch.amazonaws.com\"}";
        assert!(allowed(is(&key)).contains(&by_alarms.to_owned()), "{}", is(&key));
        assert!(denies_plain_text(&parsed(&is(topic)["Policy"])));
    }
    assert!(denies_plain_text(is("central BucketPolicy")));
    assert!(is("central Bucket")["public"].as_object().unwrap().values().all(|blocked| *blocked == true));
    for stack in ["central", "region"] {
        assert_eq!(is(&format!("{stack} SecurityGroup"))["in"], json!([]), "nothing comes in");
        let template = is(&format!("{stack} Template"));
        assert_eq!(template["metadata"]["HttpTokens"], "required", "IMDSv2 alone");
        assert_eq!(template["key"], Value::Null, "no SSH");
        assert_eq!(is(&format!("{stack} Group"))["size"], json!([1, 1]));
        let profile = is(&format!("{stack} Profile"))[0].as_str().unwrap().to_owned();
        assert!(profile.starts_with("crosswatch-instance-"), "{profile}");
    }
    // A first start that finds no package yet, and each volume as what it is named by.
    for (stack, region, volume) in
        [("central", "us-east-1", "absent-Data"), ("region", "us-east-1", "absent-OtherSpool")]
    {
        let template = is(&format!("{stack} Template"));
        let script = template["script"].as_str().unwrap();
        assert!(script.starts_with("#!/bin/bash\n"), "{script}");
        let fetched =
            script.find(&format!("\nuntil aws s3 cp --region {region} s3://crosswatch-0")).expect(script);
        let attached = script.find(&format!("\n/usr/lib/crosswatch/use-volume us-east-1 {volume}\n"));
        assert!(fetched < attached.expect(script));
        assert!(!script.contains("${"), "{script}");
        runs_as_far_as_its_package(script);
        let role = is(&format!("{stack} InstanceRole")).to_string();
        assert!(role.contains(&format!("volume/{volume}\"")), "{role}");
    }
    let alerter = is("central AlerterRole")["policies"]["alert"].clone();
    for (action, resource) in [
        ("sns:Publish", "arn:aws:sns:eu-west-1:000000000000:peer-pages"),
        ("kms:GenerateDataKey", "arn:aws:kms:eu-west-1:000000000000:key/peer"),
    ] {
        let allows = |of: &Value| of["Action"].to_string().contains(action) && of["Resource"] == resource;
        assert!(statements(&alerter, "Allow").iter().any(allows), "{action}: {alerter}");
    }
    assert_eq!(is("lambda Minute")[0]["RetryPolicy"]["MaximumRetryAttempts"], 0);
    assert_eq!(is("lambda Function")["Runtime"], "provided.al2023");
}

/// By stand-ins: it asks for the package until it is there, and goes on then.
fn runs_as_far_as_its_package(script: &str) {
    let folder = tempfile::tempdir().unwrap();
    let tool = |name: &str, does: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\necho \"{name} $*\" >>\"$LOG\"\n{does}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    tool("aws", "[ $(grep -c ^aws \"$LOG\") -ge 3 ]");
    tool("sleep", "");
    // Nothing of this machine is touched.
    tool("tar", "exit 9");
    let log = folder.path().join("log");
    let mut bash = Command::new("bash");
    let output = bash.args(["-c", script]).env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
    let output = output.env("LOG", &log).output().unwrap();
    assert_eq!(output.status.code(), Some(9), "{output:?}");
    let log = fs::read_to_string(log).unwrap();
    let called: Vec<&str> = log.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(called, ["aws", "sleep", "aws", "sleep", "aws", "tar"]);
    assert!(text(&output).contains("no package in crosswatch-"), "{output:?}");
}

/// What of a resource is not there.
fn lack(seen: &Value) -> Option<Vec<String>> {
    let (kind, is) = (seen["type"].as_str().unwrap(), &seen["is"]);
    let nothing = match kind {
        "AWS::EC2::Volume" => "is refused",
        "AWS::CloudWatch::Alarm" => "of an expression is refused",
        _ => "is not kept",
    };
    let lacks: &[(&str, bool)] = match kind {
        _ if is.is_null() => &[(nothing, true)],
        "AWS::CloudWatch::Alarm" => &[
            ("forgets its actions", is["AlarmActions"].as_array().is_none_or(Vec::is_empty)),
            ("forgets what missing data means", is["TreatMissingData"].is_null()),
        ],
        "AWS::AutoScaling::AutoScalingGroup" => &[("starts no instance", is["instances"] == 0)],
        "AWS::SNS::Topic" => &[("forgets its key", is["KmsMasterKeyId"].is_null())],
        "AWS::Lambda::Function" => &[("forgets its concurrency", is["concurrency"].is_null())],
        _ => &[],
    };
    let lacks = lacks.iter().filter(|(_, lacks)| *lacks);
    Some(lacks.map(|(what, _)| format!("{kind}: {what}")).collect())
}

fn parsed(text: &Value) -> Value {
    serde_json::from_str(text.as_str().unwrap_or_else(|| panic!("{text} is no policy"))).unwrap()
}

fn statements(policy: &Value, effect: &str) -> Vec<Value> {
    policy["Statement"].as_array().unwrap().iter().filter(|of| of["Effect"] == effect).cloned().collect()
}

/// `ACTION,ACTION to PRINCIPAL`, but for the account itself, which administers keys.
fn allowed(policy: &Value) -> Vec<String> {
    let of = statements(policy, "Allow").into_iter().map(|statement| {
        let actions = match &statement["Action"] {
            Value::Array(actions) => {
                actions.iter().map(|of| of.as_str().unwrap()).collect::<Vec<_>>().join(",")
            }
            action => action.as_str().unwrap().to_owned(),
        };
        format!("{actions} to {}", statement["Principal"])
    });
    of.collect()
}

fn denies_plain_text(policy: &Value) -> bool {
    let plain = json!({"Bool": {"aws:SecureTransport": "false"}});
    statements(policy, "Deny").iter().any(|of| of["Principal"] == "*" && of["Condition"] == plain)
}
