//! A batch as the text of a message: its wire form as it is, or compressed.
//!
//! AWS bills a message by each 64 KiB begun. What fits the first is sent as plain JSON, which every tool shows; what
//! does not is compressed: `zstd:`, then base64 of the compressed wire form.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crosswatch_aws::sqs::BILLED;

/// What a compressed body begins with; no JSON does.
const COMPRESSED: &str = "zstd:";

/// The zstd level: beyond it a batch gets little smaller and much slower.
const LEVEL: i32 = 9;

/// The most bytes a wire form may have, so that a message cannot fill memory.
pub const LONGEST: usize = 64 << 20;

/// Why a body is no batch. Reading it again cannot help.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The text after the prefix is not base64.
    #[error("the body begins with '{COMPRESSED}', but what follows is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// The compressed bytes are damaged, or hold more than [`LONGEST`].
    #[error("the body cannot be decompressed: {0}")]
    Zstd(std::io::Error),
}

/// The body for a wire form.
#[must_use]
pub fn encode(wire: String) -> String {
    if wire.len() <= BILLED {
        return wire;
    }
    match zstd::bulk::compress(wire.as_bytes(), LEVEL) {
        Ok(compressed) => format!("{COMPRESSED}{}", STANDARD_NO_PAD.encode(compressed)),
        // Only for want of memory: then it goes as it is.
        Err(_) => wire,
    }
}

/// The wire form in a body.
///
/// # Errors
/// The body is not what [`encode`] makes.
pub fn decode(body: &str) -> Result<Vec<u8>, BodyError> {
    match body.strip_prefix(COMPRESSED) {
        None => Ok(body.as_bytes().to_vec()),
        Some(text) => {
            let compressed = STANDARD_NO_PAD.decode(text)?;
            zstd::bulk::decompress(&compressed, LONGEST).map_err(BodyError::Zstd)
        }
    }
}
