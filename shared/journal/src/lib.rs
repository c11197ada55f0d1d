//! The journal: an append-only log of batches in SQLite.
