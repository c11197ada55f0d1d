//! The queue contract and its backends.
