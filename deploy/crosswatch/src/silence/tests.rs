use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command};

const CONFIG: &str = r#"
[site.us-east-1]
[site.eu-west-1]
[[link]]
name = "use1-euw1"
between = ["us-east-1", "eu-west-1"]
probe = [{ from = "us-east-1", icmp = "10.0.0.2" }]
"#;

/// A folder with a config, and with this file of silences unless it is empty.
fn folder(silences: &str) -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crosswatch.toml");
    fs::write(&path, CONFIG).unwrap();
    if !silences.is_empty() {
        fs::write(folder.path().join("silences.toml"), silences).unwrap();
    }
    let config = Config::load(&path).unwrap();
    (folder, config)
}

fn tool(words: &[&str]) -> Result<Tool, clap::Error> {
    let all = ["crosswatch", "silence"].iter().chain(words);
    match Cli::try_parse_from(all)?.command {
        Command::Silence(tool) => Ok(tool),
        other => panic!("{other:?}"),
    }
}

fn silence(config: &Config, words: &[&str]) -> Result<(), String> {
    run(config, tool(words).unwrap()).map_err(|error| format!("{error:#}"))
}

fn text(folder: &Path) -> String {
    fs::read_to_string(folder.join("silences.toml")).unwrap()
}

fn all(config: &Config) -> Vec<Silence> {
    let known = Known::of(&config.topology, &config.alerts);
    SilencesFile::of(&config.alerts.silences).read(&known, clock::now()).unwrap()
}

#[test]
fn what_is_added_is_read_as_it_was_meant_and_what_was_there_stays() {
    let before = "# ours\n[[silence]]\nrule = \"site-*\" # all of them\ncron = \"0 2 * * SUN\"\nlasts = \"2h\"\nwhy = \"patches\"\n";
    let (folder, config) = folder(before);
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(folder.path().join("silences.toml"), mode.clone()).unwrap();
    let now = clock::now();
    silence(
        &config,
        &[
            "add",
            "--link",
            "use1-*",
            "--site",
            "us-east-1",
            "--site",
            "eu-*",
            "--for",
            "2h",
            "--why",
            "a \"swap\"",
            "--by",
            "ana",
        ],
    )
    .unwrap();
    silence(
        &config,
        &[
            "add",
            "--rule",
            "*",
            "--cron",
            "30 1 * * *",
            "--zone",
            "Europe/Berlin",
            "--for",
            "90m",
            "--why",
            "backup",
        ],
    )
    .unwrap();
    assert!(text(folder.path()).starts_with(before), "{}", text(folder.path()));
    let [_, swap, backup] = &all(&config)[..] else { panic!("{}", text(folder.path())) };
    assert_eq!(silences::covers(swap), "link use1-*, site us-east-1 or eu-*");
    assert_eq!((&*swap.why, swap.by.as_deref()), ("a \"swap\"", Some("ana")));
    let until = swap.when.until(clock::now()).unwrap();
    assert!(until >= now + Duration::from_secs(7_200) && until <= clock::now() + Duration::from_secs(7_200));
    assert!(matches!(&backup.when, When::Every { lasts, .. } if *lasts == Duration::from_secs(5_400)));
    let kept = fs::metadata(folder.path().join("silences.toml")).unwrap().permissions();
    assert_eq!(kept.mode() & 0o777, 0o640);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside");
}

#[test]
fn a_silence_that_is_on_ends_now_and_others_go() {
    let (folder, config) = folder("");
    silence(&config, &["add", "--link", "use1-euw1", "--for", "2h", "--why", "swap"]).unwrap();
    silence(
        &config,
        &["add", "--link", "*", "--from", "2100-01-01T00:00:00Z", "--for", "2h", "--why", "later"],
    )
    .unwrap();
    silence(&config, &["add", "--link", "*", "--cron", "0 2 * * *", "--for", "1h", "--why", "nightly"])
        .unwrap();
    assert!(text(folder.path()).starts_with("# What is not paged"), "{}", text(folder.path()));
    let ids: Vec<String> = all(&config).into_iter().map(|silence| silence.id).collect();
    for id in &ids {
        silence(&config, &["end", id]).unwrap();
    }
    let [over] = &all(&config)[..] else { panic!("{}", text(folder.path())) };
    assert!(over.id == ids[0] && over.when.is_over(clock::now()));
    let error = silence(&config, &["end", &ids[0]]).unwrap_err();
    assert!(error.contains("ended at") && error.contains(&ids[0]), "{error}");
    let error = silence(&config, &["end", "none"]).unwrap_err();
    assert!(error.contains("there is no silence 'none'"), "{error}");
}

#[test]
fn what_is_wrong_changes_nothing() {
    let wrong = "[[silence]]\nlink = \"use1-euw2\"\nuntil = \"2100-01-01T00:00:00Z\"\nwhy = \"w\"\n";
    let (folder, config) = folder(wrong);
    let error =
        silence(&config, &["add", "--link", "use1-euw1", "--for", "2h", "--why", "swap"]).unwrap_err();
    assert!(error.contains("silences.toml:2:8: there is no link 'use1-euw2'"), "{error}");
    assert_eq!(text(folder.path()), wrong);

    let (folder, config) = self::folder("");
    for (words, part) in [
        (
            &["--link", "use1-euw2", "--for", "2h"][..],
            "there is no link 'use1-euw2'; did you mean 'use1-euw1'?",
        ),
        (&["--link", "*", "--cron", "0 2 * *", "--for", "2h"], "five fields"),
        (&["--link", "*", "--until", "2020-01-01T00:00:00Z"], "is not after"),
    ] {
        let words: Vec<&str> = ["add", "--why", "w"].iter().chain(words).copied().collect();
        let error = silence(&config, &words).unwrap_err();
        assert!(error.contains(part), "{error}");
        assert!(!folder.path().join("silences.toml").exists());
    }
    for words in [
        &["add", "--for", "2h", "--why", "w"][..],
        &["add", "--link", "*", "--why", "w"],
        &["add", "--link", "*", "--for", "2h"],
        &["add", "--link", "*", "--for", "2h", "--until", "2100-01-01T00:00:00Z", "--why", "w"],
        &["add", "--link", "*", "--for", "soon", "--why", "w"],
    ] {
        assert!(tool(words).is_err(), "{words:?}");
    }
}

#[test]
fn two_at_once_are_both_added() {
    let (_folder, config) = folder("");
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let config = &config;
            scope.spawn(move || {
                for _ in 0..5 {
                    silence(config, &["add", "--link", "*", "--for", "2h", "--why", name]).unwrap();
                }
            });
        }
    });
    assert_eq!(all(&config).len(), 20);
}

#[test]
fn a_silence_is_listed_with_when_it_is() {
    let (_folder, config) = folder(
        "[[silence]]\nid = \"a\"\nlink = \"*\"\nfrom = \"2026-11-22T07:00:00Z\"\nuntil = \"2026-11-22T09:00:00Z\"\nwhy = \"swap\"\nby = \"ana\"\n\
         [[silence]]\nid = \"b\"\nrule = \"*\"\ncron = \"0 2 * * *\"\nlasts = \"1h\"\nwhy = \"nightly\"\n",
    );
    let lines = |now: &str| -> Vec<String> {
        all(&config).iter().map(|silence| line(silence, now.parse().unwrap())).collect()
    };
    assert_eq!(
        lines("2026-11-22T08:00:00Z"),
        [
            "a  on until 2026-11-22T09:00:00.000000Z  link *: swap, by ana",
            "b  again at 2026-11-23T02:00:00.000000Z  rule *: nightly",
        ]
    );
    assert!(lines("2026-11-22T06:00:00Z")[0].starts_with("a  from 2026-11-22T07:00:00.000000Z until"));
    assert!(lines("2026-11-22T09:00:00Z")[0].starts_with("a  over since 2026-11-22T09:00:00.000000Z"));
}
