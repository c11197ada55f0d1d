//! CBOR, as far as CloudWatch's protocol goes: what the AWS SDKs write is read, and answers are written.
//!
//! Numbers stay as they came, NaN and infinity included: those must be seen in order to be refused.

/// A CBOR item.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
    /// Seconds since the epoch (tag 1).
    Time(f64),
}

/// The bytes are no CBOR that this protocol uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotCbor;

const DEEPEST: u32 = 32;

impl Value {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, NotCbor> {
        let mut reader = Reader { bytes, at: 0 };
        let value = reader.item(0)?;
        if reader.at == bytes.len() { Ok(value) } else { Err(NotCbor) }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out);
        out
    }

    /// A field of a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(fields) => fields
                .iter()
                .find(|(name, value)| name == key && *value != Self::Null)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Self::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A list, empty where there is none.
    pub(crate) fn list(&self, key: &str) -> &[Self] {
        match self.get(key) {
            Some(Self::List(items)) => items,
            _ => &[],
        }
    }

    pub(crate) fn int(&self, key: &str) -> Option<i64> {
        match self.get(key) {
            Some(Self::Int(number)) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Float(number) | Self::Time(number) => Some(*number),
            // What a service counts stays far below 2^53.
            Self::Int(number) => Some(*number as f64),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The texts of a list.
    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        self.list(key).iter().filter_map(Self::as_text).map(str::to_owned).collect()
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(0xf6),
            Self::Bool(value) => out.push(if *value { 0xf5 } else { 0xf4 }),
            Self::Int(number) => match u64::try_from(*number) {
                Ok(number) => head(out, 0, number),
                Err(_) => head(out, 1, !number.cast_unsigned()),
            },
            Self::Float(number) => {
                out.push(0xfb);
                out.extend(number.to_be_bytes());
            }
            Self::Text(text) => {
                head(out, 3, text.len() as u64);
                out.extend(text.as_bytes());
            }
            Self::Bytes(bytes) => {
                head(out, 2, bytes.len() as u64);
                out.extend(bytes);
            }
            Self::List(items) => {
                head(out, 4, items.len() as u64);
                items.iter().for_each(|item| item.write_to(out));
            }
            Self::Map(fields) => {
                head(out, 5, fields.len() as u64);
                for (name, value) in fields {
                    Self::Text(name.clone()).write_to(out);
                    value.write_to(out);
                }
            }
            Self::Time(seconds) => {
                out.push(0xc1);
                Self::Float(*seconds).write_to(out);
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

fn head(out: &mut Vec<u8>, major: u8, number: u64) {
    let major = major << 5;
    let bytes = number.to_be_bytes();
    match number {
        0..24 => out.push(major | bytes[7]),
        24..0x100 => out.extend([major | 24, bytes[7]]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend(&bytes[6..]);
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend(bytes);
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The break that ends an item of unknown length.
const BREAK: u8 = 0xff;

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, NotCbor> {
        let byte = *self.bytes.get(self.at).ok_or(NotCbor)?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, count: u64) -> Result<&[u8], NotCbor> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count)).ok_or(NotCbor)?;
        let taken = self.bytes.get(self.at..end).ok_or(NotCbor)?;
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self, info: u8) -> Result<u64, NotCbor> {
        let length = match info {
            0..24 => return Ok(u64::from(info)),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(NotCbor),
        };
        Ok(self.take(length)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Whether the next item of a list or map is there: `left` counts down where the length was given.
    fn more(&mut self, left: &mut Option<u64>) -> Result<bool, NotCbor> {
        match left {
            Some(0) => Ok(false),
            Some(count) => {
                *count -= 1;
                Ok(true)
            }
            None if self.bytes.get(self.at) == Some(&BREAK) => {
                self.at += 1;
                Ok(false)
            }
            None => Ok(true),
        }
    }

    fn string(&mut self, major: u8, info: u8) -> Result<Vec<u8>, NotCbor> {
        if info != 31 {
            let length = self.number(info)?;
            return Ok(self.take(length)?.to_vec());
        }
        let mut whole = Vec::new();
        loop {
            match self.byte()? {
                BREAK => return Ok(whole),
                part if part >> 5 == major && part & 31 != 31 => {
                    let length = self.number(part & 31)?;
                    whole.extend(self.take(length)?);
                }
                _ => return Err(NotCbor),
            }
        }
    }

    fn item(&mut self, depth: u32) -> Result<Value, NotCbor> {
        if depth > DEEPEST {
            return Err(NotCbor);
        }
        let first = self.byte()?;
        let (major, info) = (first >> 5, first & 31);
        Ok(match major {
            0 => Value::Int(i64::try_from(self.number(info)?).map_err(|_| NotCbor)?),
            1 => Value::Int(!i64::try_from(self.number(info)?).map_err(|_| NotCbor)?),
            2 => Value::Bytes(self.string(major, info)?),
            3 => Value::Text(String::from_utf8(self.string(major, info)?).map_err(|_| NotCbor)?),
            4 => {
                let mut left = if info == 31 { None } else { Some(self.number(info)?) };
                let mut items = Vec::new();
                while self.more(&mut left)? {
                    items.push(self.item(depth + 1)?);
                }
                Value::List(items)
            }
            5 => {
                let mut left = if info == 31 { None } else { Some(self.number(info)?) };
                let mut fields = Vec::new();
                while self.more(&mut left)? {
                    let Value::Text(name) = self.item(depth + 1)? else { return Err(NotCbor) };
                    fields.push((name, self.item(depth + 1)?));
                }
                Value::Map(fields)
            }
            6 => {
                let tag = self.number(info)?;
                let item = self.item(depth + 1)?;
                if tag == 1 { Value::Time(item.number().ok_or(NotCbor)?) } else { item }
            }
            _ => match info {
                20 => Value::Bool(false),
                21 => Value::Bool(true),
                22 | 23 => Value::Null,
                25 => Value::Float(half(self.number(25)?)),
                26 => Value::Float(f64::from(f32::from_bits(
                    u32::try_from(self.number(26)?).map_err(|_| NotCbor)?,
                ))),
                27 => Value::Float(f64::from_bits(self.number(27)?)),
                _ => return Err(NotCbor),
            },
        })
    }
}

/// A number of 16 bits, as RFC 8949, appendix D, decodes it.
fn half(bits: u64) -> f64 {
    let (exponent, mantissa) = ((bits >> 10) & 31, (bits & 1023) as f64);
    let number = match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2f64.powi(i32::try_from(exponent).unwrap_or(0) - 25),
    };
    if bits & 0x8000 == 0 { number } else { -number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let value = Value::Map(vec![
            ("text".into(), "ä".into()),
            (
                "list".into(),
                Value::List([0, 23, 24, 255, 65_536, -1, -500, i64::MIN, i64::MAX].map(Value::Int).into()),
            ),
            ("float".into(), Value::Float(-0.25)),
            ("at".into(), Value::Time(1.5)),
            ("yes".into(), Value::Bool(true)),
            ("none".into(), Value::Null),
            ("bytes".into(), Value::Bytes(vec![7; 300])),
        ]);
        assert_eq!(Value::read(&value.write()), Ok(value));
    }

    #[test]
    fn lengths_left_open_and_short_floats_are_read() {
        // {_ "a": [_ 1, 1.5 (half)], "b": (_ "x", "y")}, then what is torn.
        let bytes = *b"\xbf\x61a\x9f\x01\xf9\x3e\x00\xff\x61b\x7f\x61x\x61y\xff\xff";
        let expected = Value::Map(vec![
            ("a".into(), Value::List(vec![Value::Int(1), Value::Float(1.5)])),
            ("b".into(), "xy".into()),
        ]);
        assert_eq!(Value::read(&bytes), Ok(expected));
        for end in 0..bytes.len() {
            assert_eq!(Value::read(&bytes[..end]), Err(NotCbor), "{end}");
        }
        assert!(matches!(Value::read(b"\xfb\x7f\xf8\0\0\0\0\0\0"), Ok(Value::Float(nan)) if nan.is_nan()));
    }
}
