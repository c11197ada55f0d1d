use super::*;

const SMALL: &str = r#"
[site.a]
[[link]]
name = "l"
between = ["a"]
probe = [{ from = "a", icmp = "10.0.0.2" }]
"#;

fn config(text: &str) -> Config {
    let before = if text.contains("[queue]") { "silences = \"others.toml\"\n" } else { "" };
    Config::parse(format!("{before}{SMALL}{text}").as_bytes(), Path::new("crosswatch.toml")).unwrap()
}

#[test]
fn the_sections_that_need_a_restart_are_named_and_no_others() {
    let before = config("");
    let rules = "[[rule]]\nname = \"slow\"\nmetric = \"latency_ms\"\nabove = 9\nnotify = [\"me\"]\n[notify.me]\nconsole = true\n";
    assert_eq!(need_a_restart(&before, &config(rules)), [""; 0]);
    let all = "[site.b]\n[queue]\nkeep = \"1d\"\n[metrics]\nperiod = \"10s\"\n\
               [heartbeat]\nurl = \"http://127.0.0.1/\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
               [[link]]\nname = \"m\"\nbetween = [\"a\", \"b\"]\nprobe = [{ from = \"a\", icmp = \"10.0.0.3\" }]\n";
    let sections = ["site", "link", "queue", "metrics", "heartbeat", "silences", "http"];
    assert_eq!(need_a_restart(&before, &config(all)), sections);
}

#[test]
fn why_a_file_is_refused_fits_a_page_and_names_the_line() {
    let wrong = format!("{SMALL}[[rule]]\nname = \"slow\"\nmetric = \"latency\"\nabove = 9\n[[rule]]\n");
    let problems = Config::parse(wrong.as_bytes(), Path::new("crosswatch.toml")).unwrap_err();
    let why = Why::of(&problems);
    assert!(why.first.contains("more; line 9: 'metric' can't be 'latency'"), "{}", why.first);
    assert!(why.all.lines().count() > 1 && why.all.starts_with("crosswatch.toml:9:10:"), "{}", why.all);
}
