//! What replays put back where the journals themselves are the queue: a journal of its own beside theirs, which the stages
//! read too.
//!
//! Only collectors write the journals of sites, so that what is in one was seen, once, and in order. What is put back goes
//! into none of them; who reads a site's journal for what it saw never meets it.

use std::path::{Path, PathBuf};

/// The journal's name in its folder.
pub const NAME: &str = "replayed";

/// What a consumer's file calls its place in it: no site has this name, since none has a slash.
pub const PLACE: &str = "/replayed";

/// Its folder in the queue's folder.
#[must_use]
pub fn folder(queue: &Path) -> PathBuf {
    queue.join(NAME)
}
