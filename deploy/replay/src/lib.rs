//! Replay of observations through the real rules.
