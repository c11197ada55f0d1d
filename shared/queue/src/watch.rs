//! Waiting for a journal to be written, by any process, without asking it again and again: `inotify(7)` on the folder.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crosswatch_shared::observation::Name;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

/// How long an event is waited for before looking anyway: the folder may not have been there, or an event got lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// The same where the system gives no inotify.
const WITHOUT: Duration = Duration::from_millis(100);

/// A watch over the bells of some sites.
#[derive(Debug)]
pub(crate) struct Watch {
    folder: PathBuf,
    bells: HashSet<OsString>,
    inotify: Option<AsyncFd<Descriptor>>,
    complained: bool,
}

/// [`AsyncFd`] asks for the raw descriptor's trait.
#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    pub(crate) fn new(folder: &Path, sites: &[Name]) -> Self {
        let bell = |site: &Name| crosswatch_journal::bell(Path::new(""), site).into_os_string();
        Self {
            folder: folder.to_owned(),
            bells: sites.iter().map(bell).collect(),
            inotify: None,
            complained: false,
        }
    }

    /// Begins to watch, if it does not yet; what is written after this is noticed. To be called before looking.
    pub(crate) fn arm(&mut self) {
        let result = match &self.inotify {
            // Again and again, since the folder may have been made, or replaced, since; the same folder changes nothing.
            Some(inotify) => inotify.get_ref().watch(&self.folder),
            None => Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
                .map_err(Into::into)
                .and_then(|inotify| register(Descriptor(inotify)))
                .and_then(|inotify| self.inotify.insert(inotify).get_ref().watch(&self.folder)),
        };
        if let Err(error) = result
            && !std::mem::replace(&mut self.complained, true)
        {
            tracing::warn!(
                folder = %self.folder.display(), %error,
                "journals cannot be watched; they are looked at regularly instead"
            );
        }
    }

    /// Waits until one of the bells was rung, or it is time to look anyway, at `until` at the latest.
    pub(crate) async fn rung(&mut self, until: Instant) {
        let patience = if self.inotify.is_some() { PATIENCE } else { WITHOUT };
        let until = until.min(Instant::now() + patience);
        let Some(inotify) = &self.inotify else {
            return tokio::time::sleep_until(until).await;
        };
        let mut rung = false;
        while !rung {
            let mut ready = match timeout_at(until, inotify.readable()).await {
                Ok(Ok(ready)) => ready,
                // The runtime is going down and lets go of this task where it waits, which must be soon: who would
                // return here would look, wait and return again without an end.
                Ok(Err(_)) => std::future::pending().await,
                // It is time.
                Err(_) => return,
            };
            loop {
                match ready.get_inner().0.read_events() {
                    Ok(events) => {
                        // Without a name: the folder itself went, or events were lost.
                        rung |= events
                            .iter()
                            .any(|event| event.name.as_ref().is_none_or(|name| self.bells.contains(name)));
                    }
                    Err(Errno::EINTR) => {}
                    Err(_) => break ready.clear_ready(),
                }
            }
        }
    }
}

impl Descriptor {
    fn watch(&self, folder: &Path) -> std::io::Result<()> {
        let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONLYDIR;
        match self.0.add_watch(folder, events) {
            // The collector makes the folder when it begins.
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[allow(unsafe_code)]
fn register(descriptor: Descriptor) -> std::io::Result<AsyncFd<Descriptor>> {
    // SAFETY: `Descriptor` owns its descriptor, gives always the same one, and is not changed while `AsyncFd` holds it.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }.map_err(Into::into)
}
