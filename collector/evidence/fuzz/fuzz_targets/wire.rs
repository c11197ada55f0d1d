//! Evidence off the wire: what can be read can be told, written and read again.
#![no_main]

use crosswatch_shared::evidence::{Evidence, TEXT};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(evidence) = serde_json::from_slice::<Evidence>(bytes) {
        assert!(evidence.summary().chars().count() <= TEXT);
        let again = serde_json::to_vec(&evidence).unwrap();
        assert_eq!(serde_json::from_slice::<Evidence>(&again).unwrap(), evidence);
    }
});
