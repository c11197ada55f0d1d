//! A line on the terminal that says how far something long has come, at which rate, and how long it may take yet.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crosswatch_replay::print::{count, span};

/// How often it is drawn anew.
const EVERY: Duration = Duration::from_millis(200);

/// See the module. Nothing is drawn where standard error is no terminal.
pub(crate) struct Progress {
    begun: Instant,
    drawn: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), drawn: None, is_terminal: io::stderr().is_terminal() }
    }

    /// So many observations were taken, this part of the whole.
    pub(crate) fn tell(&mut self, observations: u64, part: Option<f64>) {
        if !self.is_terminal || self.drawn.is_some_and(|drawn| drawn.elapsed() < EVERY) {
            return;
        }
        self.drawn = Some(Instant::now());
        // To a terminal that is gone nothing needs to be drawn.
        let _ = write!(io::stderr(), "\r\x1b[K{}", line(observations, part, self.begun.elapsed()));
    }

    /// Takes the line away.
    pub(crate) fn end(self) {
        if self.drawn.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(observations: u64, part: Option<f64>, passed: Duration) -> String {
    let seconds = passed.as_secs_f64().max(0.001);
    let rate = count((observations as f64 / seconds) as u64);
    let told = format!("{} observations, {rate} a second", count(observations));
    match part {
        Some(part) if part > 0.01 => {
            let left = seconds * (1.0 - part).max(0.0) / part;
            let bar = "#".repeat((part.min(1.0) * 20.0) as usize);
            format!("[{bar:<20}] {:.0} %, {told}, {} left", part * 100.0, span(left))
        }
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_rate_and_the_time_left() {
        let told = line(2_000_000, Some(0.25), Duration::from_secs(2));
        assert_eq!(
            told,
            "[#####               ] 25 %, 2,000,000 observations, 1,000,000 a second, 6.0 s left"
        );
        assert_eq!(line(10, None, Duration::from_secs(1)), "10 observations, 10 a second");
    }
}
