//! The terminal that `top` draws on: a screen of its own, keys one by one; left as it was found.

use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::screen::{Line, Look};

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// The end.
    Quit,
    /// So many lines further down; all the way up or down by the least and the largest number.
    Move(isize),
    /// Leave what is shown, or all of it.
    Back,
    /// Explain the first line of the list, or no more.
    Explain,
}

/// The terminal, until it is dropped.
pub(super) struct Terminal {
    found: Termios,
    keys: Receiver<Key>,
}

impl Terminal {
    pub(super) fn open() -> io::Result<Self> {
        let found = tcgetattr(io::stdin())?;
        let mut raw = found.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let terminal = Self { found, keys: keys() };
        // A screen of its own, without a cursor.
        write!(io::stdout(), "\x1b[?1049h\x1b[?25l")?;
        Ok(terminal)
    }

    /// Columns and lines; 80 by 24 where it does not say.
    pub(super) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => (80, 24),
        }
    }

    /// Draws from the top; what follows a line's end is erased, so that nothing flickers.
    pub(super) fn show(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        for (place, line) in lines.iter().enumerate() {
            if place > 0 {
                text.push_str("\r\n");
            }
            for (look, part) in line {
                text.push_str(code(*look));
                text.push_str(part);
                text.push_str("\x1b[0m");
            }
            text.push_str("\x1b[K");
        }
        text.push_str("\x1b[J");
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// What is pressed within this time.
    pub(super) fn key(&self, within: Duration) -> Option<Key> {
        match self.keys.recv_timeout(within) {
            Ok(key) => Some(key),
            Err(RecvTimeoutError::Timeout) => None,
            // Nobody is there any more.
            Err(RecvTimeoutError::Disconnected) => Some(Key::Quit),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = write!(io::stdout(), "\x1b[?25h\x1b[?1049l").and_then(|()| io::stdout().flush());
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.found);
    }
}

const fn code(look: Look) -> &'static str {
    match look {
        Look::Plain => "",
        Look::Strong => "\x1b[1m",
        Look::Faint => "\x1b[2m",
        Look::Good => "\x1b[34m",
        Look::Bad => "\x1b[1;37;41m",
        Look::Fires => "\x1b[1;31m",
        Look::Unknown => "\x1b[33m",
        Look::Silent => "\x1b[35m",
    }
}

/// Keys are waited for by a thread, which ends with the process.
fn keys() -> Receiver<Key> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = [0; 16];
        while let Ok(count @ 1..) = io::stdin().read(&mut bytes) {
            if let Some(key) = bytes.get(..count).and_then(key)
                && tell.send(key).is_err()
            {
                break;
            }
        }
    });
    told
}

/// What the bytes of a key mean, which come together.
fn key(bytes: &[u8]) -> Option<Key> {
    match bytes {
        // Escape alone.
        b"q" | b"\x1b" => Some(Key::Back),
        // Ctrl-C and Ctrl-D.
        b"\x03" | b"\x04" => Some(Key::Quit),
        b"e" | b"\r" | b"\n" => Some(Key::Explain),
        b"j" | b"\x1b[B" | b"\x1bOB" => Some(Key::Move(1)),
        b"k" | b"\x1b[A" | b"\x1bOA" => Some(Key::Move(-1)),
        b" " | b"\x1b[6~" => Some(Key::Move(10)),
        b"\x1b[5~" => Some(Key::Move(-10)),
        b"g" | b"\x1b[H" => Some(Key::Move(isize::MIN)),
        b"G" | b"\x1b[F" => Some(Key::Move(isize::MAX)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_sent_as_several_bytes_are_not_taken_for_escape() {
        assert_eq!(key(b"\x1b"), Some(Key::Back));
        assert_eq!(key(b"\x1b[A"), Some(Key::Move(-1)));
        assert_eq!(key(b"\x1b[1;5A"), None);
    }
}
