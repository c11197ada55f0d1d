//! SQS keeps the contract of a queue: the suite that every backend passes, on a real server.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../queue/tests/batches/mod.rs"]
mod batches;
#[allow(dead_code, reason = "each test file uses a part")]
mod server;
#[path = "../../queue/tests/suite/mod.rs"]
mod suite;

use std::cell::Cell;

use crosswatch_queue::{Place, Queue, Source};
use crosswatch_shared::config::topology::SqsQueue;
use crosswatch_shared::observation::Batch;
use crosswatch_shared::wire;
use crosswatch_sqs::body;
use crosswatch_sqs::receive::Receiver;
use server::Server;
use suite::{Backend, keeps_the_contract};

struct Queues<'a> {
    server: &'a Server,
    queue: SqsQueue,
    turn: u64,
}

impl Backend for Queues<'_> {
    /// Every third goes to the standby, and some to both.
    fn send(&mut self, batch: &Batch) {
        let body = body::encode(wire::encode_batch(batch));
        self.turn += 1;
        if !self.turn.is_multiple_of(3) {
            self.server.send(&self.queue.url, &body);
        }
        if self.turn.is_multiple_of(3) || self.turn.is_multiple_of(5) {
            self.server.send(self.queue.standby.as_ref().unwrap(), &body);
        }
    }

    fn open(&self) -> Source {
        let (session, queue) = (self.server.session(), self.queue.clone());
        Source::new(move |_: &[Place]| Ok(Receiver::open(&session, &queue)))
    }

    fn queue(&self) -> Box<dyn Queue> {
        Box::new(Receiver::open(&self.server.session(), &self.queue))
    }
}

#[test]
fn sqs_keeps_the_contract() {
    let server = Server::start();
    let made = Cell::new(0);
    keeps_the_contract(|_| {
        made.set(made.get() + 1);
        let url = server.queue(&format!("first-{}", made.get()));
        let standby = Some(server.queue(&format!("standby-{}", made.get())));
        Queues { server: &server, queue: SqsQueue { url, standby, second: None }, turn: 0 }
    });
}
