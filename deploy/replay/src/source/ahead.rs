//! Reading ahead: a source is read by one thread while others take what it gave.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::{Piece, Source, SourceError};

/// How many pieces and observations are handed over at once, and how many such pages lie ready for each taker: enough to
/// keep both sides busy, and a few megabytes.
const PIECES: usize = 4_096;
const OBSERVATIONS: usize = 8_192;
const READY: usize = 2;

/// Some pieces, and how far the source was then.
type Page = Arc<(Vec<Piece>, Option<f64>)>;

/// Gives every piece of a source to each of these takers, in the source's order. The source has a thread of its own, and
/// so has each taker but the first, which takes in this one.
///
/// `told` is called after each page with the number of observations so far and the source's progress.
///
/// # Errors
/// The source's own; every taker has had what came before it.
pub fn each_ahead<T: Send>(
    source: &mut (dyn Source + Send),
    takers: &mut [T],
    take: impl Fn(&mut T, &Piece) + Sync,
    mut told: impl FnMut(u64, Option<f64>),
) -> Result<(), SourceError> {
    thread::scope(|scope| {
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for _ in takers.iter() {
            let (sender, receiver) = sync_channel(READY);
            senders.push(sender);
            receivers.push(receiver);
        }
        let reading = scope.spawn(|| read(source, senders));
        let mut takers = takers.iter_mut().zip(receivers);
        let first = takers.next();
        for (taker, receiver) in takers {
            let take = &take;
            scope.spawn(move || taking(&receiver, |piece| take(taker, piece), |_| ()));
        }
        if let Some((taker, receiver)) = first {
            let mut observations = 0;
            taking(
                &receiver,
                |piece| take(taker, piece),
                |page| {
                    observations += page.0.iter().map(observed).sum::<u64>();
                    told(observations, page.1);
                },
            );
        }
        reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn taking(receiver: &Receiver<Page>, mut take: impl FnMut(&Piece), mut told: impl FnMut(&Page)) {
    while let Ok(page) = receiver.recv() {
        page.0.iter().for_each(&mut take);
        told(&page);
    }
}

fn read(source: &mut dyn Source, takers: Vec<SyncSender<Page>>) -> Result<(), SourceError> {
    let (mut pieces, mut observations) = (Vec::new(), 0);
    let send = |pieces: Vec<Piece>, progress| {
        let page = Arc::new((pieces, progress));
        // Who takes no more has panicked, and says so itself.
        takers.iter().all(|taker| taker.send(page.clone()).is_ok())
    };
    loop {
        let next = source.next();
        let ended = !matches!(next, Ok(Some(_)));
        if let Ok(Some(piece)) = &next {
            observations += observed(piece);
        }
        let error = match next {
            Ok(piece) => {
                pieces.extend(piece);
                None
            }
            Err(error) => Some(error),
        };
        if ended || pieces.len() >= PIECES || observations >= OBSERVATIONS as u64 {
            observations = 0;
            if !send(std::mem::take(&mut pieces), source.progress()) || ended {
                return error.map_or(Ok(()), Err);
            }
        }
    }
}

fn observed(piece: &Piece) -> u64 {
    match piece {
        Piece::Row(..) => 1,
        Piece::Batch(batch, _) => batch.observations.len() as u64,
        Piece::Skipped(_) => 0,
    }
}
