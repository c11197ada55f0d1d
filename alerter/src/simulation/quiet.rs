//! Silence, as the queue's own record has it: nobody is said to be silent of whom something just came, and whoever is silent
//! while the queue is read is said to be.

use std::collections::BTreeSet;
use std::time::Duration;

use crosswatch_shared::observation::Name;

use super::books::{Books, Lives};
use super::broker::Given;
use super::oracle::Told;
use super::world::World;
use crate::silence::{ALERTER, ALERTER_BLIND, SILENT, SITE_SILENT};

/// After so many holds without a batch it must have been said; one of all sites together comes a hold later than others.
const SAID: u32 = 6;

/// From which page to which something was said to be so; the last for what was never taken back.
type Span = (usize, usize);

pub(crate) fn check(world: &World, books: &Books, pages: &[Given], lives: &Lives, wrong: &mut Vec<String>) {
    let watched: BTreeSet<Name> = world.topology.probes().map(|(_, probe)| probe.from.clone()).collect();
    let silent = world.hold * SILENT;
    let blind = spans(books, ALERTER_BLIND, ALERTER, pages, wrong);
    for &(from, to) in &blind {
        if let Some(site) = watched.iter().find(|site| heard_of(site, pages, from) < silent) {
            wrong.push(format!("the alerter was said to be blind, and {site} was heard: {:?}", pages[from]));
        }
        if pages.get(to).is_some_and(|page| page.sites.is_empty()) {
            wrong.push(format!("the alerter was said to see again by nothing: {:?}", pages[to]));
        }
    }
    for site in &watched {
        let its = spans(books, SITE_SILENT, site, pages, wrong);
        for &(from, to) in &its {
            if heard_of(site, pages, from) < silent {
                wrong.push(format!("{site} was said to be silent, and was heard: {:?}", pages[from]));
            }
            if pages.get(to).is_some_and(|page| !page.sites.contains(site)) {
                wrong.push(format!("{site} was said to be heard again by nothing: {:?}", pages[to]));
            }
        }
        let said = |page: usize| {
            let alone = its.iter().any(|&(from, to)| from <= page && page <= to);
            // Once one of all is heard again the others have a hold to show whether they are, too.
            let until = |to: usize| pages.get(to).map_or(Duration::MAX, |to| to.awake + world.hold * 2);
            alone || blind.iter().any(|&(from, to)| from <= page && pages[page].awake <= until(to))
        };
        for page in watched_in_vain(site, pages, world.hold, lives) {
            if !said(page) {
                wrong.push(format!("{site} was silent, and nobody was told: {:?}", pages[page]));
                break;
            }
        }
    }
}

/// For how long the machine had run, at this page, since something new of the site was given.
fn heard_of(site: &Name, pages: &[Given], page: usize) -> Duration {
    // The clocks are read some steps of the runtime's timer apart.
    const SLACK: Duration = Duration::from_millis(100);
    let last = pages[..=page].iter().rev().find(|given| given.fresh.contains(site));
    last.map_or(Duration::MAX, |last| pages[page].awake.saturating_sub(last.awake) + SLACK)
}

/// When it was said, by the page that decided it. A transition's time is the wall clock's when its page was received.
fn spans(books: &Books, rule: &str, subject: &str, pages: &[Given], wrong: &mut Vec<String>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut page = 0;
    for Told { at, state, .. } in books.told.get(&(rule.to_owned(), subject.to_owned())).into_iter().flatten()
    {
        // Several pages may be of one moment: the one that can have brought it about, where there is one.
        let then = |given: &&Given| given.wall == *at;
        let brings = |given: &&Given| {
            state == "firing" || given.sites.iter().any(|site| rule != SITE_SILENT || **site == *subject)
        };
        let mut after = pages.iter().skip(page);
        let Some(place) = after
            .clone()
            .position(|given| then(&given) && brings(&given))
            .or_else(|| after.position(|given| then(&given)))
        else {
            wrong.push(format!("{rule} {subject} was {state} at {at}, when nothing was received"));
            continue;
        };
        page += place;
        match state.as_str() {
            "firing" => spans.push((page, usize::MAX)),
            _ => spans.iter_mut().last().into_iter().for_each(|span| span.1 = page),
        }
    }
    spans
}

/// The pages by which nothing had come of a site for long, while the queue was read to its end again and again.
fn watched_in_vain<'a>(
    site: &'a Name,
    pages: &'a [Given],
    hold: Duration,
    lives: &'a Lives,
) -> impl Iterator<Item = usize> + 'a {
    let mut since: Option<Duration> = None;
    let mut before: Option<&Given> = None;
    pages.iter().enumerate().filter_map(move |(number, page)| {
        let steady = before.is_some_and(|before| {
            before.life == page.life && page.awake.saturating_sub(before.awake) <= hold && page.empty
        });
        let well = !lives.unwell.iter().any(|&(from, to)| from <= page.awake && page.awake <= to + hold);
        before = Some(page);
        if !steady || !well || page.sites.contains(site) {
            since = None;
            return None;
        }
        let since = *since.get_or_insert(page.awake);
        (page.awake.saturating_sub(since) >= hold * SAID).then_some(number)
    })
}
