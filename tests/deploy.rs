//! What is deployed besides the program: the stacks of `deploy/aws`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "deploy/templates.rs"]
mod templates;
