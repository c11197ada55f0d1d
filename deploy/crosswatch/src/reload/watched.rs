//! What a file holds, and for how long. Pure: whoever reads it says what it read, and when.

use std::time::{Duration, Instant};

/// What a file holds, or why it cannot be read.
pub(crate) type Content = Result<Vec<u8>, String>;

/// A file that is watched.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// What has been decided about.
    settled: Option<Content>,
    /// What it holds otherwise, and since when.
    newer: Option<(Content, Instant)>,
}

impl Watched {
    /// It holds this at `at`: for how long it has, unless it is what has been decided about.
    pub(crate) fn look(&mut self, content: &Content, at: Instant) -> Option<Duration> {
        if self.settled.as_ref() == Some(content) {
            self.newer = None;
            return None;
        }
        match &self.newer {
            Some((newer, since)) if newer == content => Some(at.saturating_duration_since(*since)),
            _ => {
                self.newer = Some((content.clone(), at));
                Some(Duration::ZERO)
            }
        }
    }

    /// This has been decided about.
    pub(crate) fn settle(&mut self, content: Content) {
        self.settled = Some(content);
        self.newer = None;
    }
}

/// FNV-1a, folded to 48 bits, which a gauge holds exactly.
pub(crate) fn hash(text: &[u8]) -> i64 {
    let whole = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    i64::try_from((whole >> 48) ^ (whole & 0xffff_ffff_ffff)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_while_it_is_saved_is_young_each_time_and_what_was_decided_about_is_not_new() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let content = |text: &str| Ok(text.as_bytes().to_vec());
        let mut watched = Watched::default();
        watched.settle(content("old"));
        assert_eq!(watched.look(&content("old"), at(0)), None);
        assert_eq!(watched.look(&content(""), at(100)), Some(Duration::ZERO), "truncated");
        assert_eq!(watched.look(&content("ne"), at(200)), Some(Duration::ZERO), "half-way");
        assert_eq!(watched.look(&content("new"), at(300)), Some(Duration::ZERO));
        assert_eq!(watched.look(&content("new"), at(1_300)), Some(Duration::from_secs(1)));
        watched.settle(content("new"));
        assert_eq!(watched.look(&content("new"), at(1_400)), None);
        assert_eq!(watched.look(&Err("gone".to_owned()), at(1_500)), Some(Duration::ZERO));
        assert_eq!(watched.look(&content("new"), at(1_600)), None, "renamed over, and there again");
        assert_eq!(watched.look(&Err("gone".to_owned()), at(9_000)), Some(Duration::ZERO), "counted anew");
    }

    #[test]
    fn a_hash_is_of_the_content_alone_and_fits_a_gauge() {
        assert_eq!(hash(b""), hash(b""));
        assert_ne!(hash(b"below = 1"), hash(b"below = 2"));
        assert!((0..1 << 48).contains(&hash(b"below = 1")));
    }
}
