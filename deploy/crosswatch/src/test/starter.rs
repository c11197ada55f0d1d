//! The cases to start from, which `init` writes beside the config.

use std::path::Path;

use crate::config;

/// Cases of the starter's rules that they pass, for a config of this name.
pub(crate) fn starter_text(config: &Path) -> String {
    let name = config.file_name().unwrap_or_default().to_string_lossy();
    let named = if name == config::FILE {
        "# config = \"crosswatch.toml\"         # the file beside this one; --config names another\n"
            .to_owned()
    } else {
        // What JSON quotes TOML understands.
        format!("config = {}\n", serde_json::Value::from(&*name))
    };
    format!("{HEAD}{named}{CASES}")
}

const HEAD: &str = r#"# Cases for `crosswatch test`: what is seen, second by second, and what is to come of it. Change a rule, and see what
# the change means before anybody is paged for it.
"#;

const CASES: &str = r#"
[[case]]
name = "three losses page, ten replies in a row end it"
# Of a probe: milliseconds of a reply, lost, lost:unreachable, _ for nothing; x10 ten times, 80+5x10 growing by 5.
series = { "loopback/here/icmp:127.0.0.1" = "0.05x10 lost x3 0.05x10" }
# In the order of their times, from the start of the case; also value and reason, where they matter.
transitions = [
  { at = "+12s", state = "firing", rule = "ping-failed", subject = "loopback/here/icmp:127.0.0.1" },
  { at = "+22s", state = "resolved", rule = "ping-failed", subject = "loopback/here/icmp:127.0.0.1" },
]
notifications = [
  { at = "+12s", to = "console", state = "firing", rule = "ping-failed", subject = "loopback/here/icmp:127.0.0.1", text = "FIRING link-lost loopback: the only probe lost (ping-failed)" },
  { at = "+22s", to = "console", state = "resolved", rule = "ping-failed", subject = "loopback/here/icmp:127.0.0.1" },
]

[[case]]
name = "two losses page nobody"
series = { "loopback/here/icmp:127.0.0.1" = "0.05x10 lost x2 0.05x10" }
transitions = []

[[case]]
name = "a collector that dies is told of, though no rule can judge what it does not see"
series = { "loopback/here/icmp:127.0.0.1" = "0.05", here = "alive x10 dead x10 alive x5" }
rules = ["site-silent", "ping-failed"]
notifications = [
  { at = "+13s", to = "console", state = "firing", rule = "site-silent", subject = "here" },
  { at = "+20s", to = "console", state = "resolved", rule = "site-silent", subject = "here" },
]
"#;

#[cfg(test)]
mod tests {
    use crosswatch_ruletest::{config_of, play, read};

    use super::*;
    use crate::config::Config;

    #[test]
    fn the_starters_cases_pass_with_the_starters_rules_whatever_it_is_called() {
        let config = Config::starter(Some("10.0.0.1".parse().unwrap())).unwrap();
        for (path, named) in [("crosswatch.toml", None), ("etc/my \"own\".toml", Some("x/my \"own\".toml"))] {
            let text = starter_text(Path::new(path));
            let file = Path::new("x/rules.test.toml");
            let own = config_of(file, text.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(own.as_deref(), named.map(Path::new));
            let cases = read(file, text.as_bytes(), &config.topology, &config.alerts);
            let cases = cases.unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(cases.len(), 3);
            for case in cases {
                let played = play(&case, &config.topology, &config.alerts).unwrap();
                assert_eq!(case.differs(&played), None, "{}", case.name);
            }
        }
    }
}
