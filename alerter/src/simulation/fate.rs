//! When a life of the alerter ends: at one of its own steps, wherever that is, or when somebody says so.
//!
//! A step is what it asks of its queue, of its disk, or of a receiver. From the step of its death on nothing that it asks is
//! answered, and nothing that it writes reaches the disk; it is then dropped where it waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tokio::sync::Notify;

/// Of whom a step asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Queue,
    Disk,
    Receiver,
}

/// The fate of one life. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Fate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fatal: Option<Step>,
    left: AtomicI64,
    dead: AtomicBool,
    died: Notify,
}

impl Fate {
    /// To die at this step of this kind, from 0; or when killed.
    pub(crate) fn of(fatal: Option<(Step, i64)>) -> Self {
        Self(Arc::new(Inner {
            fatal: fatal.map(|(kind, _)| kind),
            left: AtomicI64::new(fatal.map_or(0, |(_, step)| step)),
            dead: AtomicBool::new(false),
            died: Notify::new(),
        }))
    }

    /// A step is taken; `false` for one that leads nowhere any more.
    pub(crate) fn step(&self, kind: Step) -> bool {
        if self.0.fatal == Some(kind) && self.0.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.kill();
        }
        !self.is_dead()
    }

    /// Takes a step and goes on from there, if it is alive.
    pub(crate) async fn pass(&self, kind: Step) {
        if !self.step(kind) {
            std::future::pending().await
        }
    }

    pub(crate) fn kill(&self) {
        self.0.dead.store(true, Ordering::Relaxed);
        self.0.died.notify_one();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.dead.load(Ordering::Relaxed)
    }

    /// Waits until it is dead.
    pub(crate) async fn died(&self) {
        while !self.is_dead() {
            self.0.died.notified().await;
        }
    }
}
