//! Names: they tell this deployment's alarms from others, and are the text of an SMS.

/// The longest name that CloudWatch takes.
pub(crate) const LONGEST: usize = 255;

/// How long a namespace may stand in every name before it is cut.
const LONGEST_NAMESPACE: usize = 64;

/// How this deployment's alarms are told from others. Metric alarms begin with the namespace, so that they are found
/// by it; composites end with it, since what an SMS shows first must be the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// What the names of metric alarms begin with.
    pub prefix: String,
    /// What the names of composite alarms end with.
    pub suffix: String,
    /// The tag's key.
    pub key: &'static str,
    /// The tag's value.
    pub value: String,
}

impl Marks {
    /// Of the namespace, in which neither a space nor an `@` can stand.
    #[must_use]
    pub fn new(namespace: &str) -> Self {
        let short = cut(namespace, LONGEST_NAMESPACE);
        // A tag's value takes no '#', and of the characters that it takes a namespace has no '@'.
        let value = namespace.replace('#', "@");
        Self { prefix: format!("{short} "), suffix: format!(" ({short})"), key: "crosswatch", value }
    }

    /// Whether a metric alarm of this name may be one of ours.
    #[must_use]
    pub fn is_metric_alarm(&self, name: &str) -> bool {
        name.starts_with(&self.prefix)
    }

    /// Whether a composite alarm of this name may be one of ours.
    #[must_use]
    pub fn is_composite(&self, name: &str) -> bool {
        name.ends_with(&self.suffix)
    }

    pub(crate) fn metric_alarm(&self, rest: &str) -> String {
        format!("{}{}", self.prefix, cut(rest, LONGEST - self.prefix.len()))
    }

    pub(crate) fn composite(&self, rest: &str) -> String {
        format!("{}{}", cut(rest, LONGEST - self.suffix.len()), self.suffix)
    }
}

/// The text itself where it is plain and short enough; else what can be kept of it and a hash of the whole, so that
/// two texts stay two names.
fn cut(text: &str, most: usize) -> String {
    let plain = |c: char| c == ' ' || (c.is_ascii_graphic() && c != '"' && c != '\\');
    if text.len() <= most && text.chars().all(plain) {
        return text.to_owned();
    }
    let hash = format!("~{:016x}", fnv(text));
    let kept = text.chars().map(|c| if plain(c) { c } else { '_' }).take(most - hash.len());
    kept.chain(hash.chars()).collect()
}

/// FNV-1a: the same on every machine and in every version.
fn fnv(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_odd_names_stay_apart_and_within_the_limit() {
        let marks = Marks::new(&"N".repeat(255));
        let long = "x".repeat(300);
        let names = [
            marks.metric_alarm(&long),
            marks.metric_alarm(&format!("{long}y")),
            marks.composite(&long),
            marks.metric_alarm("a\"b"),
            marks.metric_alarm("a\\b"),
            marks.metric_alarm("aéb"),
        ];
        for (index, name) in names.iter().enumerate() {
            assert!(name.len() <= LONGEST && name.is_ascii() && !name.contains(['"', '\\']), "{name}");
            assert!(!names[..index].contains(name), "{name}");
        }
        assert!(marks.is_metric_alarm(&names[0]) && marks.is_composite(&names[2]));
        assert!(!Marks::new("N").is_metric_alarm(&names[0]), "a namespace is no other's beginning");
        assert_eq!(Marks::new("a#b/c").value, "a@b/c");
    }
}
