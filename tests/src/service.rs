//! Somebody at the other end of a probe by TCP, who goes and comes again.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Takes every connection, until it is told to go.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    gone: Arc<AtomicBool>,
    answering: Option<JoinHandle<()>>,
}

impl Service {
    /// Listens at a free port of loopback.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut service = Self { address, gone: Arc::default(), answering: None };
        service.answer(listener);
        service
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on connections are refused.
    pub fn go(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        // It takes one more, and sees that it is to go.
        drop(TcpStream::connect(self.address));
        if let Some(answering) = self.answering.take() {
            answering.join().expect("a thread that ends");
        }
    }

    /// It listens again, where it did.
    pub fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).expect("the same port");
        self.answer(listener);
    }

    fn answer(&mut self, listener: TcpListener) {
        self.gone.store(false, Ordering::Relaxed);
        let until = Arc::clone(&self.gone);
        self.answering =
            Some(thread::spawn(move || while listener.accept().is_ok() && !until.load(Ordering::Relaxed) {}));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.go();
    }
}
