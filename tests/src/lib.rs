//! The harness of the end-to-end tests: two network namespaces joined by a cable, the built program as a child process,
//! and receivers for what it notifies.
//!
//! Everything here is real (packets, processes, sockets) and everything made is removed again, also when a test panics.
//! A harness has nobody to hand an error to: what goes wrong panics, with what was being done and what was seen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod browser;
pub mod deployment;
pub mod described;
pub mod hook;
pub mod http;
pub mod inbox;
pub mod judged;
pub mod machine;
pub mod netns;
pub mod peers;
pub mod process;
pub mod root;
pub mod service;
pub mod tools;
