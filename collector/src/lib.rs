//! The collector: probes on schedule, observations into the journal.
