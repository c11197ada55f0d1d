//! `top`: the status in a terminal, once a second: incidents, links, and for each probe the round-trip times since it began. It reads
//! what `status` reads, so that it works over SSH beside running stages, with or without a page.

mod screen;
mod terminal;

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use anyhow::ensure;
use crosswatch_explain::words;
use crosswatch_host::clock;

use crate::config::Config;
use crate::explain;
use crate::status::{self, Status};
use screen::Screen;
use terminal::{Key, Terminal};

/// How often it is read how things are.
const EVERY: Duration = Duration::from_secs(1);
/// How many round-trip times of a probe are kept.
const KEPT: usize = 120;

/// Shows it until `q`, Escape or Ctrl-C.
pub(crate) fn run(config: &Config) -> anyhow::Result<()> {
    ensure!(
        io::stdout().is_terminal() && io::stdin().is_terminal(),
        "top draws on a terminal; 'crosswatch status' prints the same once"
    );
    let mut terminal = Terminal::open()?;
    let mut screen = Screen::default();
    loop {
        match status::read(config, clock::now()) {
            Ok(status) => screen.take(status),
            Err(error) => screen.problem = Some(format!("{error:#}")),
        }
        let next = Instant::now() + EVERY;
        loop {
            let (width, height) = terminal.size();
            terminal.show(&screen.draw(width, height))?;
            match terminal.key(next.saturating_duration_since(Instant::now())) {
                Some(Key::Quit) => return Ok(()),
                Some(Key::Back) if !screen.explains() => return Ok(()),
                Some(Key::Back) => screen.back(),
                Some(Key::Explain) if screen.explains() => screen.back(),
                Some(Key::Explain) => {
                    if let Some(subject) = screen.first_subject() {
                        let explained = explain::of(
                            &config.topology,
                            &config.alerts,
                            (&subject, None, None),
                            clock::now(),
                        );
                        screen.explain(&explained.map_or_else(|error| error.to_string(), |of| words(&of)));
                    }
                }
                Some(Key::Move(lines)) => screen.scroll(lines),
                None => break,
            }
        }
    }
}

/// The newest round-trip times of each probe, as they were read.
type Newest = HashMap<String, Vec<Option<f64>>>;

/// Takes what was read just now to what was read before; an outcome that was read already is not taken again.
fn remember(newest: &mut Newest, before: Option<&Status>, now: &Status) {
    let seen: HashMap<&str, _> = before
        .iter()
        .flat_map(|status| &status.links)
        .flat_map(|link| &link.probes)
        .map(|probe| (probe.subject.as_str(), probe.last_at))
        .collect();
    for probe in now.links.iter().flat_map(|link| &link.probes) {
        let is_new = probe.last_at.is_some() && seen.get(probe.subject.as_str()) != Some(&probe.last_at);
        if is_new {
            let kept = newest.entry(probe.subject.clone()).or_default();
            kept.push(probe.rtt_ms);
            let beyond = kept.len().saturating_sub(KEPT);
            kept.drain(..beyond);
        }
    }
}
