//! The one line of a notification that a person reads first: at most one SMS, the most important words in front.
//!
//! An SMS holds 160 septets of the GSM 7-bit default alphabet (3GPP TS 23.038); one character outside it would
//! shrink the message to 70, so such characters become `?`. A few, such as `[`, come from its extension table and
//! take two septets.

/// How many septets a line may have.
pub(crate) const MOST: usize = 160;

/// What a reason is not cut below as long as names can be.
const REASON: usize = 48;

/// What a rule's name is not cut below.
const RULE: usize = 32;

/// One line of at most [`MOST`] septets: `FIRING ping-failed use1-euw1/us-east-1/icmp:10.1.0.10: 3 of 3 lost`.
///
/// What is too long loses the end of its reason first, then the middle of its names, whose ends tell them apart.
#[must_use]
pub(crate) fn line(state: &str, rule: &str, subject: &str, reason: &str) -> String {
    let state = septets(&state.to_uppercase(), MOST / 4);
    let [rule, subject, reason] = [rule, subject, reason].map(spell);
    let room = MOST - width(&state) - "  : ".len();
    let (of_rule, of_subject, of_reason) = (width(&rule), width(&subject), width(&reason));
    let of_reason = of_reason.min(room.saturating_sub(of_rule + of_subject).max(REASON));
    let of_rule = of_rule.min(room.saturating_sub(of_subject + of_reason).max(RULE));
    let of_subject = of_subject.min(room.saturating_sub(of_rule + of_reason));
    let (rule, subject) = (middle(&rule, of_rule), middle(&subject, of_subject));
    let reason = start(&reason, of_reason);
    if reason.is_empty() {
        return format!("{state} {rule} {subject}");
    }
    format!("{state} {rule} {subject}: {reason}")
}

/// A topic's subject for that line, as SNS takes it: at most 100 characters of printable ASCII.
#[must_use]
pub(crate) fn subject(line: &str) -> String {
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    line.chars().map(printable).take(100).collect()
}

/// The text in the alphabet, on one line.
fn spell(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| match c {
            c if c.is_whitespace() || c.is_control() => ' ',
            c if septets_of(c).is_some() => c,
            _ => '?',
        })
        .collect();
    text.trim().to_owned()
}

/// The text cut to a width at its end, a cut shown by `..`.
fn start(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    septets(text, most.saturating_sub(2)) + &"...."[..most.min(2)]
}

/// The text cut to a width in its middle, a cut shown by `..`.
fn middle(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let rest = most.saturating_sub(2);
    let tail: String = text.chars().rev().collect();
    let tail: String = septets(&tail, rest / 2).chars().rev().collect();
    septets(text, rest - rest / 2) + &".."[..most.min(2)] + &tail
}

/// The longest start of the text that is no wider.
fn septets(text: &str, most: usize) -> String {
    let mut width = 0;
    text.chars()
        .take_while(|&c| {
            width += septets_of(c).unwrap_or(1);
            width <= most
        })
        .collect()
}

/// How many septets the text takes.
fn width(text: &str) -> usize {
    text.chars().map(|c| septets_of(c).unwrap_or(1)).sum()
}

/// How many septets a character takes; `None` for one outside the alphabet.
fn septets_of(c: char) -> Option<usize> {
    const BASIC: &str = "@£$¥èéùìòÇØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => Some(1),
        '^' | '{' | '}' | '\\' | '[' | '~' | ']' | '|' | '€' => Some(2),
        c if BASIC.contains(c) => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosswatch_judge::verdict::Kind;
    use proptest::prelude::*;

    #[test]
    fn the_usual_line_is_whole() {
        assert_eq!(
            line("firing", "ping-failed", "use1-euw1/us-east-1/icmp:10.1.0.10", "3 of 3 lost"),
            "FIRING ping-failed use1-euw1/us-east-1/icmp:10.1.0.10: 3 of 3 lost"
        );
    }

    #[test]
    fn a_long_line_keeps_both_ends_of_its_names_and_the_start_of_its_reason() {
        let subject = format!("link-one/{}/icmp:10.1.0.10", "x".repeat(200));
        let text = line("resolved", &"rule-".repeat(20), &subject, &"because ".repeat(30));
        assert_eq!(width(&text), MOST, "{text}");
        assert!(text.starts_with("RESOLVED rule-rule-"), "{text}");
        assert!(text.contains(" link-one/xxx"), "{text}");
        assert!(text.contains("xxx/icmp:10.1.0.10: because because"), "{text}");
        assert!(text.ends_with(".."), "{text}");
    }

    #[test]
    fn a_reason_is_cut_before_a_name() {
        let subject = "link/site/".to_owned() + &"n".repeat(60);
        let text = line("firing", "latency-high", &subject, &"r".repeat(200));
        assert!(text.contains(&format!("latency-high {subject}: rrr")), "{text}");
    }

    /// What a person reads first.
    const WORDS: [&str; 5] = ["firing", "worse", "resolved", "drill firing", "drill resolved"];

    /// What names the config admits at their longest, and what else a subject or reason may hold.
    fn longest() -> impl Strategy<Value = (String, String, String)> {
        let name = "[a-zA-Z0-9._-]{64}";
        let probe = prop_oneof!["[a-zA-Z0-9._:-]{64}", "icmp:[a-z.-]{253}", "tcp:\\[[0-9a-f:]{39}\\]:65535"];
        let rule = prop_oneof![
            "[a-zA-Z0-9._:-]{64}",
            Just("site-silent".to_owned()),
            Just("alerter-blind".to_owned()),
            Just("at-most".to_owned()),
        ];
        let reason = prop_oneof!["[ -~]{0,300}", "[€{}\\[\\]~^|\\\\]{0,300}", "[日本語éüß☃ ]{0,300}"];
        (rule, (name, name, probe).prop_map(|(link, site, probe)| format!("{link}/{site}/{probe}")), reason)
    }

    #[test]
    fn a_subject_is_printable_ascii_of_100_characters_at_most() {
        assert_eq!(subject("FIRING a\u{e9}: b"), "FIRING a?: b");
        assert_eq!(subject(&"x".repeat(160)).len(), 100);
    }

    proptest! {
        #[test]
        fn the_longest_names_fit_with_the_most_important_words_first(
            firing in any::<bool>(), (rule, subject, reason) in longest(),
        ) {
            let state = if firing { "FIRING" } else { "RESOLVED" };
            let text = line(&state.to_lowercase(), &rule, &subject, &reason);
            prop_assert!(text.chars().all(|c| septets_of(c).is_some()), "{}", text);
            prop_assert!(width(&text) <= MOST, "{} is {} wide", text, width(&text));
            // The state, the start of the rule, then of the subject, whose link and target are both told.
            let start = format!("{state} {}", &rule[..rule.len().min(15)]);
            prop_assert!(text.starts_with(&start), "{}", text);
            prop_assert!(text.contains(&format!(" {}", &subject[..15])), "{}", text);
            prop_assert!(text.contains(&subject[subject.len() - 15..]), "{}", text);
        }

        #[test]
        fn of_every_kind_of_verdict_it_is_one_sms_that_tells_the_kind_and_the_place(
            kind in 0..Kind::ALL.len(), word in 0..WORDS.len(), place in "[a-zA-Z0-9._-]{1,64}",
            summary in "[ -~]{0,400}|[\u{e9}\u{fc}\u{df}\u{2603}\u{65e5}\u{672c}\u{20ac}\\[\\]{}~^|]{0,200}|\\PC{0,300}",
        ) {
            let (kind, word) = (Kind::ALL[kind].word(), WORDS[word]);
            let text = line(word, kind, &place, &summary);
            prop_assert!(text.chars().all(|c| septets_of(c).is_some()), "{}", text);
            prop_assert!(width(&text) <= MOST, "{} is {} wide", text, width(&text));
            let start = format!("{} {kind} {place}", word.to_uppercase());
            prop_assert!(text.starts_with(&start), "{} does not begin with {}", text, start);
        }

        #[test]
        fn it_is_always_one_sms(
            firing in any::<bool>(), rule in "\\PC{0,80}|[a-z{}\\[\\]-]{0,300}", subject in ".{0,90}|[a-z{}~€/]{0,400}",
            reason in ".{0,300}",
        ) {
            let text = line(if firing { "firing" } else { "resolved" }, &rule, &subject, &reason);
            prop_assert!(text.chars().all(|c| septets_of(c).is_some()), "{}", text);
            prop_assert!(width(&text) <= MOST, "{} is {} wide", text, width(&text));
        }
    }
}
