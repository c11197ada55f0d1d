//! What is deployed besides the program: the stacks of `deploy/aws` and their function, packages, units, images.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "deploy/container.rs"]
mod container;
#[path = "deploy/fetch.rs"]
mod fetch;
#[path = "deploy/function.rs"]
mod function;
#[path = "deploy/image.rs"]
mod image;
#[path = "deploy/live.rs"]
mod live;
#[path = "deploy/need.rs"]
mod need;
#[path = "deploy/package.rs"]
mod package;
#[path = "deploy/runbook.rs"]
mod runbook;
#[path = "deploy/supervised.rs"]
mod supervised;
#[path = "deploy/templates.rs"]
mod templates;
#[path = "deploy/tour.rs"]
mod tour;
#[path = "deploy/volume.rs"]
mod volume;
