//! What hosts a Crosswatch process, whichever stage it runs: the lifecycle, health, telemetry, the HTTP listener that
//! shows them, the wall clock and the pacing of retries.

pub mod clock;
pub mod health;
pub mod http;
pub mod lifecycle;
pub mod retry;
pub mod telemetry;
