//! Evidence: what a collector's machine saw once a probe was lost, bundle by bundle.

use crosswatch_shared::evidence::{Control, Evidence, Hop, Neighbour, Part, Path, Route, Sweep};
use maud::{Markup, html};
use serde::Serialize;

use crate::graph::milliseconds;
use crate::history::Captured;
use crate::text::moment;

/// The bundles, each to be opened; the newest first.
pub(crate) fn evidence(all: &[Captured], most: usize) -> Markup {
    html! {
        section aria-labelledby="h-evidence" {
            h2 #h-evidence { "Evidence" }
            @if all.is_empty() { p { "Nothing was captured in this time." } }
            @for of in all {
                details.bundle {
                    summary {
                        time datetime=(of.evidence.at) { (moment(of.evidence.at)) }
                        " " strong { (of.site) "/" (of.probe) } " " (of.evidence.summary())
                    }
                    (bundle(&of.evidence))
                }
            }
            @if all.len() >= most { p { small { "The newest " (most) " of this time." } } }
        }
    }
}

fn bundle(of: &Evidence) -> Markup {
    html! {
        dl {
            dt { "asked" }
            dd { (word(&of.protocol)) " " (of.target) @if let Some(port) = of.port { ", port " (port) } ", in " (milliseconds(of.took_ms)) }
            dt { "route" } dd { (part(&of.route, route)) }
            dt { "next hop" } dd { (part(&of.neighbour, neighbour)) }
            dt { "path" } dd { (part(&of.path, path)) }
            dt { "packet sizes" } dd { (part(&of.sweep, sweep)) }
            dt { "this machine" } dd { (part(&of.loopback, control)) }
            dt { "gateway" } dd { (part(&of.gateway, control)) }
            @if !of.cut_off.is_empty() {
                dt { "not finished" } dd { @for piece in &of.cut_off { (word(piece)) " " } }
            }
        }
    }
}

fn part<T>(of: &Part<T>, show: impl FnOnce(&T) -> Markup) -> Markup {
    match of {
        Part::Seen(seen) => show(seen),
        Part::Absent { absent } => html! { small { (absent) } },
    }
}

/// As observations write it.
fn word(of: &impl Serialize) -> String {
    serde_json::to_value(of).ok().and_then(|of| of.as_str().map(str::to_owned)).unwrap_or_default()
}

fn route(of: &Route) -> Markup {
    html! {
        (word(&of.kind))
        @if let Some(gateway) = of.gateway { " via " (gateway) }
        @if let Some(interface) = &of.interface { " dev " (interface) }
        @if let Some(source) = of.source { " from " (source) }
        @if let Some(table) = of.table { ", table " (table) }
        @if let Some(mtu) = of.route_mtu.or(of.interface_mtu) { ", MTU " (mtu) }
    }
}

fn neighbour(of: &Neighbour) -> Markup {
    html! {
        (of.address) " is " (word(&of.state))
        @if let Some(address) = &of.link_address { " at " (address) }
    }
}

fn path(of: &Path) -> Markup {
    html! {
        @if of.hops.is_empty() { "nobody answers" }
        ol.path { @for hop in &of.hops { li { (self::hop(hop)) } } }
        @if of.reached { "reached" } @else if let Some(ttl) = of.hidden_from { "nobody answers from hop " (ttl) " on" }
    }
}

fn hop(of: &Hop) -> Markup {
    html! {
        (of.ttl) " "
        @match of.address { Some(address) => (address), None => "*" }
        " " (of.said.words())
        @if let Some(rtt) = of.rtt_ms { ", " (milliseconds(rtt)) }
        @if let Some(mtu) = of.mtu { ", MTU " (mtu) }
    }
}

fn sweep(of: &Sweep) -> Markup {
    html! {
        (of.passed) " bytes pass"
        @match of.failed { Some(failed) => { ", " (failed) " do not" }, None => { " of " (of.most) " tried at most" } }
        @if let Some(mtu) = of.told_mtu { ", told " (mtu) @if let Some(by) = of.told_by { " by " (by) } }
    }
}

fn control(of: &Control) -> Markup {
    html! {
        (of.address) " "
        @match of.rtt_ms { Some(rtt) => { "answers in " (milliseconds(rtt)) }, None => "does not answer" }
    }
}
