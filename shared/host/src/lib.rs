//! What hosts a Crosswatch process, whichever stage it runs: its life from start to drain ([`lifecycle`]), whether each of
//! its parts is well ([`health`]), its logs and metrics ([`telemetry`]), the listener that shows both ([`http`]), who
//! supervises it ([`supervisor`]), the wall [`clock`], the pacing of retries ([`retry`]), and how memory is given back
//! ([`allocator`], [`code`]). It knows no stage.

pub mod allocator;
pub mod clock;
pub mod code;
pub mod health;
pub mod http;
pub mod lifecycle;
pub mod retry;
pub mod supervisor;
pub mod telemetry;
