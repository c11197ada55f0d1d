//! Two regions and a centre, each stage a process of its own, between them SQS, CloudWatch and SNS as the lab has them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "regions/all_faults.rs"]
mod all_faults;
#[path = "regions/behind.rs"]
mod behind;
#[path = "regions/books.rs"]
mod books;
#[path = "regions/cut.rs"]
mod cut;
#[path = "regions/kills.rs"]
mod kills;
#[path = "regions/past.rs"]
mod past;
#[path = "regions/puts.rs"]
mod puts;
#[path = "regions/shown.rs"]
mod shown;
#[path = "regions/table.rs"]
mod table;
#[path = "regions/told.rs"]
mod told;
#[path = "regions/world.rs"]
mod world;
