//! The one door to AWS: how its services are reached ([`Session`]), how its calls fail ([`Failure`]), and, a module a
//! service, the few calls that Crosswatch makes. No other crate knows the SDK, but `crosswatch-ec2`: EC2's client takes
//! so long to build that what does not need it must not wait for it.
//!
//! A module takes and gives plain types. The SDK repeats a single call up to three times ([`Session`] says how); whether and
//! when to begin again is the caller's business, which [`Failure`] helps with.

pub mod alarms;
pub mod cloudwatch;
mod failure;
pub mod mutes;
pub mod probe;
mod session;
pub mod sns;
pub mod sqs;

use std::pin::Pin;

pub use failure::{Failure, Kind};
pub use session::{Loading, Session};

/// A call under way.
///
/// It is boxed where it is made: the code of an `async fn` is compiled again by each crate that awaits it, and here all of
/// the SDK lies behind it.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;
