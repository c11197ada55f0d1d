//! The gate before the real emulator, asked by raw HTTP and through the AWS SDK.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alarms;
#[allow(dead_code)]
#[path = "../../src/cbor.rs"]
mod cbor;
mod ec2;
mod faults;
mod metrics;
mod mutes;
mod program;
mod sdk;
mod sns;
mod sqs;
mod world;
