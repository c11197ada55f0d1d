//! A batch as the text of a message: its wire form as it is, or compressed.
//!
//! AWS bills a message by each 64 KiB begun. What fits the first is sent as plain JSON, which every tool shows; what
//! does not is compressed: `zstd:`, then base64 of the compressed wire form. Text of the two characters that JSON has and
//! SQS refuses is compressed, too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crosswatch_aws::sqs::{BILLED, BYTES};
use zstd::zstd_safe;

use crate::send::LEAST;

/// What a compressed body begins with; no JSON does.
const COMPRESSED: &str = "zstd:";

/// The zstd level. `benches/billed.rs` has the figures: the lowest with room below 330 billed sends for a million
/// observations; higher ones cost more time than they save chunks.
const LEVEL: i32 = 6;

/// The most bytes a wire form may have, so that a message cannot fill memory.
pub const LONGEST: usize = 16 << 20;

/// The characters that XML, and so SQS, does not have, though JSON writes them as they are.
const REFUSED: [char; 2] = ['\u{fffe}', '\u{ffff}'];

/// Why a body is no batch. Reading it again cannot help.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The text after the prefix is not base64.
    #[error("the body begins with '{COMPRESSED}', but what follows is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// The compressed bytes are damaged.
    #[error("the body cannot be decompressed: {0}")]
    Zstd(std::io::Error),
    /// It does not say how long its wire form is, or is longer than [`LONGEST`].
    #[error("the body cannot be decompressed: it would be {}, and {LONGEST} bytes are the most", length(*.0))]
    Length(Option<u64>),
}

fn length(length: Option<u64>) -> String {
    length.map_or_else(|| "of a length that it does not tell".to_owned(), |length| format!("{length} bytes"))
}

/// The body for a wire form.
#[must_use]
pub fn encode(wire: String) -> String {
    encode_in(wire, BILLED)
}

/// The same for a message that may have been made for a slow way: no longer than it was then. Who receives it reads either.
#[must_use]
pub fn encode_again(wire: String) -> String {
    encode_in(wire, LEAST)
}

/// The same, compressed already where it is longer than this.
fn encode_in(wire: String, plain: usize) -> String {
    if wire.len() <= plain && !wire.contains(REFUSED) {
        return wire;
    }
    match zstd::bulk::compress(wire.as_bytes(), LEVEL) {
        Ok(compressed) => format!("{COMPRESSED}{}", STANDARD_NO_PAD.encode(compressed)),
        // Only for want of memory: then it goes as it is.
        Err(_) => wire,
    }
}

/// The body for a wire form; `None` when it is too much for one message, and is to be made into two.
#[must_use]
pub fn fitting(wire: String) -> Option<String> {
    fitting_in(wire, BYTES)
}

/// The same for a message that shall have no more than so many bytes, since the way to the queue takes no more in its time.
#[must_use]
pub fn fitting_in(wire: String, most: usize) -> Option<String> {
    let body = (wire.len() <= LONGEST).then(|| encode_in(wire, BILLED.min(most)));
    body.filter(|body| body.len() <= most.min(BYTES))
}

/// The wire form in a body.
///
/// # Errors
/// The body is not what [`encode`] makes. No more than [`LONGEST`] bytes were taken for it.
pub fn decode(body: &str) -> Result<Vec<u8>, BodyError> {
    let Some(text) = body.strip_prefix(COMPRESSED) else {
        return Ok(body.as_bytes().to_vec());
    };
    let compressed = STANDARD_NO_PAD.decode(text)?;
    let damaged = |why: &str| BodyError::Zstd(std::io::Error::other(why.to_owned()));
    let told =
        zstd_safe::get_frame_content_size(&compressed).map_err(|_| damaged("it has no header of zstd"))?;
    match told.map(|told| (told, usize::try_from(told))) {
        // The buffer is as long as the header says; what is longer than it says is refused.
        Some((_, Ok(told))) if told <= LONGEST => {
            zstd::bulk::decompress(&compressed, told).map_err(BodyError::Zstd)
        }
        told => Err(BodyError::Length(told.map(|(told, _)| told))),
    }
}

/// How many requests AWS bills for so many bytes of bodies in one call.
#[must_use]
pub fn billed(bytes: usize) -> u64 {
    bytes.div_ceil(BILLED).max(1) as u64
}
