//! The pages: what they show, and that nothing of what they are given is markup.

use std::collections::HashMap;
use std::time::Duration;

use crosswatch_shared::evidence::{Evidence, Part, Protocol, Route, RouteKind};

use super::overview::LINKS;
use super::*;
use crate::history::Captured;
use crate::live::Live;
use crate::state::tests::{LOSS, REPLY, incident, now, saw, topology};
use crate::state::{Overview, overview as seen};
use crosswatch_alerter::status::Standing;
use crosswatch_alerter::story::{Notice, Story};

const HOSTILE: &str = "<script>alert(1)</script>\"'&\u{1b}[31m\u{0}\u{202e}x";

fn view(links: &[&str], live: &Live, judged: Option<&Standing>) -> Overview {
    seen(&topology(links), live, judged, &HashMap::new(), Vec::new(), now())
}

/// What was captured, with all that may be text in it.
fn hostile() -> Captured {
    let target = "10.1.0.10".parse().unwrap();
    let mut evidence = Evidence::new(now(), Protocol::Icmp, target, None);
    evidence.path = Part::absent(HOSTILE);
    let kind = RouteKind::Unicast;
    let interface = Some(HOSTILE.to_owned());
    let (source, gateway, table, route_mtu, interface_mtu) = (None, None, None, None, None);
    evidence.route = Part::Seen(Route { kind, source, gateway, interface, table, route_mtu, interface_mtu });
    Captured { site: HOSTILE.to_owned(), probe: HOSTILE.to_owned(), evidence }
}

fn assert_harmless(page: &str) {
    assert!(!page.contains("<script>alert") && !page.contains("style="), "{page}");
    assert!(!page.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{page}");
}

#[test]
fn the_overview_says_what_is_wrong_before_all_else() {
    let mut live = Live::default();
    saw(&mut live, "l", "a", &[REPLY]);
    saw(&mut live, "l", "b", &[LOSS, LOSS, LOSS]);
    let judged = Standing { incidents: vec![incident("l", "black-hole", "l/b/p")], ..Standing::default() };
    let page = super::overview::overview(&view(&["l"], &live, Some(&judged)), 7, 0);
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is not in {page}"));
    assert!(
        place("1 down of 1 links") < place("black-hole")
            && place("black-hole") < place("<table class=\"matrix\"")
    );
    assert!(page.contains("td class=\"up s0\"") && page.contains("td class=\"down s0\""), "{page}");
    assert!(page.contains("data-version=\"7\""));
}

#[test]
fn a_thousand_links_take_less_than_200_kilobytes_and_each_is_on_a_page() {
    let names: Vec<String> = (0..1_000).map(|number| format!("us-east-1-to-eu-west-1-{number:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let overview = view(&names, &Live::default(), None);
    let pages: Vec<String> =
        (0..5).map(|page| super::overview::overview(&overview, 1, page * LINKS)).collect();
    assert!(
        pages.iter().all(|page| page.len() < 200_000),
        "{:?}",
        pages.iter().map(String::len).collect::<Vec<_>>()
    );
    for name in names {
        assert_eq!(
            pages
                .iter()
                .filter(|page| page.contains(&format!("<th scope=\"row\"><a href=\"/link/{name}\"")))
                .count(),
            1,
            "{name}"
        );
    }
    assert_eq!(
        super::overview::overview(&overview, 1, usize::MAX),
        super::overview::overview(&overview, 1, 800)
    );
}

#[test]
fn names_and_messages_with_markup_and_control_characters_are_text() {
    let mut live = Live::default();
    let mut judged = Standing::default();
    judged.incidents.push(incident(HOSTILE, HOSTILE, HOSTILE));
    live.tunnels(&HOSTILE.into(), &HOSTILE.into(), now(), &[]);
    let mut overview = view(&[HOSTILE], &live, Some(&judged));
    overview.problems.push(HOSTILE.to_owned());
    assert_harmless(&super::overview::overview(&overview, 1, 0));
    let notice = Notice {
        state: HOSTILE.to_owned(),
        revision: 1,
        receiver: HOSTILE.to_owned(),
        channel: HOSTILE.to_owned(),
        standing: HOSTILE.to_owned(),
        muted_by: None,
        is_digest: false,
        created: now(),
        attempts: 1,
        next_try: None,
        error: Some(HOSTILE.to_owned()),
        accepted_at: None,
        text: HOSTILE.to_owned(),
        evidence: Vec::new(),
    };
    let evidence = vec![HOSTILE.to_owned()];
    let story = Story { incident: judged.incidents[0].clone(), evidence, told: vec![notice] };
    assert_harmless(&super::incident::incident(&story, 1, now()));
    assert_harmless(&note(HOSTILE, HOSTILE));
    assert_harmless(&login(Some(HOSTILE)));
    let window = crate::window::Window::of_query("", now());
    let shown = super::link::Shown {
        link: &overview.links[0],
        version: 1,
        window,
        span: crate::graph::Span::new(window.from(), window.to(), now()),
        svg: String::new(),
        incidents: &judged.incidents,
        evidence: &[hostile()],
        bundles: 1,
        why: Some(&Err(HOSTILE.to_owned())),
    };
    let page = super::link::link(&shown);
    assert_harmless(&page);
    assert!(page.contains("unicast dev &lt;script&gt;") && page.contains("1 of this time"), "{page}");
    assert_harmless(&super::explain::explain(HOSTILE, None, Some(&Err(HOSTILE.to_owned()))));
    assert!(
        super::why_href("a b/c&d", Some(now()))
            .ends_with("/explain?of=a+b%2Fc%26d&at=2026-11-22T08%3A00%3A00.000000Z")
    );
}

#[test]
fn an_incident_tells_what_happened_in_its_order_and_who_was_told_when() {
    let mut of = incident("l", "black-hole", "l/a/p");
    of.resolved_at = Some(now());
    of.resolved_reason = Some("30 in a row not below 1".to_owned());
    let notice = |accepted_at| Notice {
        state: "firing".to_owned(),
        revision: 0,
        receiver: "oncall".to_owned(),
        channel: "webhook".to_owned(),
        standing: "owed".to_owned(),
        muted_by: None,
        is_digest: false,
        created: now() - Duration::from_secs(60),
        attempts: 3,
        next_try: None,
        error: Some("503".to_owned()),
        accepted_at,
        text: "FIRING".to_owned(),
        evidence: Vec::new(),
    };
    let told = |accepted| {
        let told = vec![notice(accepted)];
        let story = Story { incident: of.clone(), evidence: Vec::new(), told };
        super::incident::incident(&story, 1, now())
    };
    let page = told(Some(now() - Duration::from_secs(59)));
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is not in {page}"));
    assert!(
        place("fires for l/a/p") < place("oncall was told")
            && place("oncall was told") < place("The incident is over")
    );
    let page = told(None);
    assert!(page.contains("owed: 503") && !page.contains("oncall was told"), "{page}");
}
