//! Mending what the recovering TOML parser stops at, so that the rest of the file is read and judged too.
//!
//! After a header without its `]`, a key without its `=`, an array without its `]` or an inline table without its `}`,
//! that parser drops or takes in what follows. What was meant is plain there. It is put in, in a copy of the text, and the place of the repair is a
//! problem like any other.

use toml::de::DeTable;

/// Each repair reads the whole text again.
const MOST_REPAIRS: usize = 32;

/// A text with what it lacked put in.
pub(super) struct Repaired {
    text: String,
    /// In the order of the original text.
    repairs: Vec<Repair>,
}

/// Something was put in.
pub(super) struct Repair {
    /// Where, in the original text.
    pub(super) at: usize,
    /// What is wrong there.
    pub(super) message: String,
    put_in: &'static str,
}

impl Repaired {
    /// Repairs what can be.
    pub(super) fn of(text: &str) -> Self {
        let mut repaired = Self { text: text.to_owned(), repairs: Vec::new() };
        for _ in 0..MOST_REPAIRS {
            let (_, errors) = DeTable::parse_recoverable(&repaired.text);
            let Some((at, put_in, message)) = next_repair(&repaired.text, &errors) else {
                break;
            };
            let repair = Repair { at: repaired.original(at), message, put_in };
            repaired.text.insert_str(at, put_in);
            repaired.repairs.push(repair);
            repaired.repairs.sort_by_key(|repair| repair.at);
        }
        repaired
    }

    /// What is to be read.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// In the order of the text.
    pub(super) fn repairs(&self) -> &[Repair] {
        &self.repairs
    }

    /// The place in the original text of a place in the repaired one.
    pub(super) fn original(&self, at: usize) -> usize {
        let mut put_in = 0;
        for repair in &self.repairs {
            let start = repair.at + put_in;
            if at <= start {
                break;
            }
            put_in += repair.put_in.len().min(at - start);
        }
        at.saturating_sub(put_in)
    }
}

/// Where to put in what, and what was wrong.
fn next_repair(text: &str, errors: &[toml::de::Error]) -> Option<(usize, &'static str, String)> {
    let starts_line = |at: usize| {
        let before = text.get(..at).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        line.trim().is_empty()
    };
    let unclosed = |what: &str| errors.iter().any(|error| error.message().starts_with(what));
    let array = unclosed("unclosed array, ");
    let table = unclosed("unclosed inline table");
    errors.iter().find_map(|error| {
        let at = error.span()?.start;
        if !text.is_char_boundary(at) {
            return None;
        }
        let message = error.message();
        if message.starts_with("unclosed table") || message.starts_with("unclosed array table") {
            Some((at, "]", "a header lacks its ']' here".to_owned()))
        } else if message.starts_with("key with no value") {
            Some((at, "=", "a key has no value; write KEY = VALUE".to_owned()))
        } else if table && message.contains("inline table element") {
            let put_in = match text.get(at..)?.chars().next()? {
                '{' => "}, ",
                _ => "}",
            };
            Some((at, put_in, "the table above is not closed; write its '}' before this".to_owned()))
        } else if array && message.starts_with("missing comma") && starts_line(at) {
            let message =
                "the array above is not closed; write its ']' before this line, or a ',' if it goes on";
            Some((at, "]\n", message.to_owned()))
        } else {
            None
        }
    })
}
