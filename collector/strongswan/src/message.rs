//! VICI's messages: a tree of sections with keys, lists and sections, and its bytes. Pure.
//!
//! An element is a byte for its type; names have one byte of length before them, values two in network order (section
//! "Message format" of the plugin's README). Text that is not UTF-8 is read with its odd bytes replaced: names of
//! connections come from files, in whatever encoding those are.

/// How deep sections may lie in each other. charon's answers have four levels at most.
pub const DEPTH: usize = 16;

/// The longest name; its length is one byte.
pub const LONGEST_NAME: usize = u8::MAX as usize;

/// The longest value; its length is two bytes.
pub const LONGEST_VALUE: usize = u16::MAX as usize;

const SECTION_START: u8 = 1;
const SECTION_END: u8 = 2;
const KEY_VALUE: u8 = 3;
const LIST_START: u8 = 4;
const LIST_ITEM: u8 = 5;
const LIST_END: u8 = 6;

/// A section; a message is one without a name. Its entries keep their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section(Vec<(String, Value)>);

/// What stands under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A value; numbers are text, too.
    Text(String),
    /// A list of values.
    List(Vec<String>),
    /// A section.
    Section(Section),
}

/// The bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They end within an element.
    #[error("a message ends within an element")]
    Cut,
    /// They end within a section or list.
    #[error("a message ends within a section or a list")]
    Open,
    /// An element of a type that there is not.
    #[error("a message has an element of the unknown type {0}")]
    Unknown(u8),
    /// An element where it must not be: an end without its start, an item outside a list.
    #[error("a message has an element of type {0} out of its place")]
    Misplaced(u8),
    /// Sections lie too deep in each other.
    #[error("a message has sections more than {DEPTH} deep")]
    Deep,
}

/// A name or a value is longer than its length can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name of {LONGEST_NAME} bytes at most or a value of {LONGEST_VALUE} is longer than that")]
pub struct TooLong;

impl Section {
    /// With an entry more at its end.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: Value) -> Self {
        self.0.push((name.into(), value));
        self
    }

    /// Its entries: name and value.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// The sections in it, by name.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.entries().filter_map(|(name, value)| match value {
            Value::Section(section) => Some((name, section)),
            _ => None,
        })
    }

    /// The first section of this name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Self> {
        self.sections().find_map(|(of, section)| (of == name).then_some(section))
    }

    /// The first value of this name.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.entries().find_map(|(of, value)| match value {
            Value::Text(text) if of == name => Some(&**text),
            _ => None,
        })
    }

    /// The items of the first list of this name; none where there is none.
    #[must_use]
    pub fn list(&self, name: &str) -> &[String] {
        let mut lists = self.entries().filter_map(|(of, value)| match value {
            Value::List(items) if of == name => Some(&**items),
            _ => None,
        });
        lists.next().unwrap_or_default()
    }

    /// As bytes.
    ///
    /// # Errors
    /// A name or a value is too long.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut bytes = Vec::new();
        self.encode_into(&mut bytes)?;
        Ok(bytes)
    }

    fn encode_into(&self, bytes: &mut Vec<u8>) -> Result<(), TooLong> {
        for (name, value) in self.entries() {
            match value {
                Value::Text(text) => {
                    push_name(bytes, KEY_VALUE, name)?;
                    push_value(bytes, text)?;
                }
                Value::List(items) => {
                    push_name(bytes, LIST_START, name)?;
                    for item in items {
                        bytes.push(LIST_ITEM);
                        push_value(bytes, item)?;
                    }
                    bytes.push(LIST_END);
                }
                Value::Section(section) => {
                    push_name(bytes, SECTION_START, name)?;
                    section.encode_into(bytes)?;
                    bytes.push(SECTION_END);
                }
            }
        }
        Ok(())
    }

    /// From the bytes of a whole message.
    ///
    /// # Errors
    /// They are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut rest = Rest(bytes);
        let mut section = Self::default();
        // What the open sections are in, from the outermost, and their names.
        let mut outer: Vec<(Self, String)> = Vec::new();
        while let Some(element) = rest.next() {
            match element {
                SECTION_START if outer.len() == DEPTH => return Err(Malformed::Deep),
                SECTION_START => outer.push((std::mem::take(&mut section), rest.name()?)),
                SECTION_END => {
                    let (mut around, name) = outer.pop().ok_or(Malformed::Misplaced(element))?;
                    around.0.push((name, Value::Section(section)));
                    section = around;
                }
                KEY_VALUE => {
                    let name = rest.name()?;
                    section.0.push((name, Value::Text(rest.value()?)));
                }
                LIST_START => {
                    let name = rest.name()?;
                    section.0.push((name, Value::List(rest.items()?)));
                }
                LIST_ITEM | LIST_END => return Err(Malformed::Misplaced(element)),
                unknown => return Err(Malformed::Unknown(unknown)),
            }
        }
        if outer.is_empty() { Ok(section) } else { Err(Malformed::Open) }
    }
}

fn push_name(bytes: &mut Vec<u8>, element: u8, name: &str) -> Result<(), TooLong> {
    bytes.push(element);
    bytes.push(u8::try_from(name.len()).map_err(|_| TooLong)?);
    bytes.extend_from_slice(name.as_bytes());
    Ok(())
}

fn push_value(bytes: &mut Vec<u8>, value: &str) -> Result<(), TooLong> {
    let length = u16::try_from(value.len()).map_err(|_| TooLong)?;
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(value.as_bytes());
    Ok(())
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.next().ok_or(Malformed::Cut)
    }

    fn text(&mut self, length: usize) -> Result<String, Malformed> {
        let (text, rest) = self.0.split_at_checked(length).ok_or(Malformed::Cut)?;
        self.0 = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn name(&mut self) -> Result<String, Malformed> {
        let length = self.byte()?;
        self.text(length.into())
    }

    fn value(&mut self) -> Result<String, Malformed> {
        let length = u16::from_be_bytes([self.byte()?, self.byte()?]);
        self.text(length.into())
    }

    fn items(&mut self) -> Result<Vec<String>, Malformed> {
        let mut items = Vec::new();
        loop {
            match self.next() {
                Some(LIST_ITEM) => items.push(self.value()?),
                Some(LIST_END) => return Ok(items),
                Some(element @ (SECTION_START..=LIST_START)) => return Err(Malformed::Misplaced(element)),
                Some(unknown) => return Err(Malformed::Unknown(unknown)),
                None => return Err(Malformed::Open),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    /// The example of the plugin's README, with its bytes.
    #[test]
    fn the_example_of_the_protocol_reads_and_writes_as_it_is_printed() {
        let bytes = b"\x03\x04key1\0\x06value1\
            \x01\x08section1\x01\x0bsub-section\x03\x04key2\0\x06value2\x02\
            \x04\x05list1\x05\0\x05item1\x05\0\x05item2\x06\x02";
        let inner = Section::default().with("key2", text("value2"));
        let list = Value::List(vec!["item1".to_owned(), "item2".to_owned()]);
        let section =
            Section::default().with("sub-section", Value::Section(inner.clone())).with("list1", list);
        let message =
            Section::default().with("key1", text("value1")).with("section1", Value::Section(section.clone()));
        assert_eq!(Section::decode(bytes), Ok(message.clone()));
        assert_eq!(message.encode().unwrap(), bytes);
        assert_eq!((message.text("key1"), message.text("section1")), (Some("value1"), None));
        assert_eq!(message.section("section1"), Some(&section));
        assert_eq!(section.list("list1"), ["item1", "item2"]);
        assert!(section.list("no-list").is_empty());
        assert_eq!(section.sections().collect::<Vec<_>>(), [("sub-section", &inner)]);
    }

    #[test]
    fn what_is_out_of_its_place_is_told() {
        let wrong: [(&[u8], Malformed); 9] = [
            (b"\x02", Malformed::Misplaced(2)),
            (b"\x05\0\0", Malformed::Misplaced(5)),
            (b"\x06", Malformed::Misplaced(6)),
            (b"\x04\x01l\x03", Malformed::Misplaced(3)),
            (b"\x04\x01l", Malformed::Open),
            (b"\x01\x01s", Malformed::Open),
            (b"\x03\x01k\0\x02v", Malformed::Cut),
            (b"\x07", Malformed::Unknown(7)),
            (b"\x04\x01l\0", Malformed::Unknown(0)),
        ];
        for (bytes, error) in wrong {
            assert_eq!(Section::decode(bytes), Err(error), "{bytes:?}");
        }
        assert_eq!(Section::decode(&b"\x01\0".repeat(DEPTH + 1)), Err(Malformed::Deep));
        let deepest = [b"\x01\0".repeat(DEPTH), vec![SECTION_END; DEPTH]].concat();
        assert!(Section::decode(&deepest).is_ok());
    }

    #[test]
    fn what_no_length_can_tell_is_refused() {
        let long = |length| "x".repeat(length);
        assert!(Section::default().with(long(LONGEST_NAME), text(&long(LONGEST_VALUE))).encode().is_ok());
        assert_eq!(Section::default().with(long(LONGEST_NAME + 1), text("")).encode(), Err(TooLong));
        assert_eq!(Section::default().with("k", text(&long(LONGEST_VALUE + 1))).encode(), Err(TooLong));
    }

    fn sections() -> impl Strategy<Value = Section> {
        let leaf = prop_oneof![
            ".{0,12}".prop_map(Value::Text),
            prop::collection::vec(".{0,6}", 0..4).prop_map(Value::List),
        ];
        let value = leaf.prop_recursive(4, 32, 4, |value| {
            prop::collection::vec((".{0,8}", value), 0..4)
                .prop_map(|entries| Value::Section(Section(entries)))
        });
        prop::collection::vec((".{0,8}", value), 0..5).prop_map(Section)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(message in sections()) {
            prop_assert_eq!(Section::decode(&message.encode().unwrap()), Ok(message));
        }

        #[test]
        fn a_part_of_a_message_is_none_or_a_shorter_one(message in sections(), cut in 0.0..1.0) {
            let bytes = message.encode().unwrap();
            let part = &bytes[..(bytes.len() as f64 * cut) as usize];
            match Section::decode(part) {
                Ok(shorter) => prop_assert_eq!(shorter.encode().unwrap(), part),
                Err(error) => prop_assert!(matches!(error, Malformed::Cut | Malformed::Open), "{}", error),
            }
        }

        /// Bytes that are likely to be elements.
        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(prop_oneof![0_u8..8, any::<u8>()], 0..200)) {
            if let Ok(message) = Section::decode(&bytes) {
                // Odd bytes were replaced; what is left is a message as any other, unless a name grew too long by that.
                if let Ok(again) = message.encode() {
                    prop_assert_eq!(Section::decode(&again), Ok(message));
                }
            }
        }
    }
}
