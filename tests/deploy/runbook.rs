//! docs/operations.md: whoever is paged finds what to do, and what the setup on AWS says can be done.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crosswatch_tests::process::program;
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

/// The blocks of a language in a document, without the indentation that a list gives them.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if line.trim_start() == format!("```{language}") {
            let indent = line.len() - line.trim_start().len();
            let inside = lines.by_ref().take_while(|line| line.trim_start() != "```");
            blocks
                .push(inside.map(|line| line.get(indent..).unwrap_or_default().to_owned() + "\n").collect());
        }
    }
    blocks
}

#[test]
fn each_stack_of_the_setup_is_given_what_its_template_asks_for_and_nothing_else() {
    let blocks = blocks(&document("operations.md"), "sh");
    let mut made = BTreeSet::new();
    for block in blocks {
        let Some((_, command)) = block.split_once("--template-file deploy/aws/") else { continue };
        let name = command.split_whitespace().next().unwrap();
        let template = fs::read_to_string(repository().join("deploy/aws").join(name)).unwrap();
        let parameters = template.split_once("\nParameters:\n").unwrap().1.split("\n\n").next().unwrap();
        let parameters: Vec<&str> = parameters.trim_start().split("\n  ").collect();
        // A parameter's name, and then its lines, which are indented further.
        let mut known: Vec<(&str, bool)> = Vec::new();
        for line in parameters {
            match known.last_mut() {
                Some((_, has_default)) if line.starts_with(' ') => {
                    *has_default |= line.trim().starts_with("Default:")
                }
                _ => known.push((line.trim_end_matches(':'), false)),
            }
        }
        let given = command.split_once("--parameter-overrides").expect(name).1.split_whitespace();
        let given: BTreeSet<&str> = given.filter_map(|word| Some(word.split_once('=')?.0)).collect();
        let names: BTreeSet<&str> = known.iter().map(|(name, _)| *name).collect();
        assert!(given.is_subset(&names), "{name} does not have {:?}", given.difference(&names));
        // One that is there keeps what it was given.
        if made.insert(name.to_owned()) {
            let needed: BTreeSet<&str> =
                known.iter().filter(|(_, has)| !has).map(|(name, _)| *name).collect();
            assert!(needed.is_subset(&given), "{name} also needs {:?}", needed.difference(&given));
        }
    }
    assert_eq!(made, ["central.yaml", "lambda.yaml", "region.yaml"].map(str::to_owned).into());
}

#[test]
fn the_config_of_the_setup_is_right() {
    let [config] = &*blocks(&document("operations.md"), "toml") else { panic!("one config is shown") };
    let queue = |name: &str| format!("\"https://sqs.us-east-1.amazonaws.com/123456789012/{name}\"");
    let mut config = config.replace("arn:…", "arn:aws:sns:us-east-1:123456789012:pages");
    for name in ["publisher", "alerter"] {
        config = config.replacen("\"…\"", &queue(name), 1);
    }
    config += "[notify.oncall]\nsms = [\"+15555550100\"]\n[site.eu-west-1]\nregion = \"eu-west-1\"\n[[link]]\nname = \"l\"\n\
               between = [\"eu-west-1\"]\nprobe = [{ from = \"eu-west-1\", icmp = \"10.0.0.10\" }]\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crosswatch.toml");
    fs::write(&file, &config).unwrap();
    let output = Command::new(program()).args(["check", "--config"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{config}\n{}", String::from_utf8_lossy(&output.stderr));
}
