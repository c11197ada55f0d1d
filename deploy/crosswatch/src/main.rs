//! The program.

#[allow(
    dead_code,
    unused_imports,
    reason = "the commands that read it come with the stages"
)]
mod config;

fn main() {}
