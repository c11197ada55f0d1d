//! The section `heartbeat`: an outside service that pages when it hears nothing more.

use std::time::Duration;

use crosswatch_shared::config::document::{Table, Value};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::config::values;

use super::{Heartbeat, Secret};

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_hours(24);

/// Takes the section: `Some(None)` without it. Each alerter needs a URL of its own, since the beats of one would hide
/// the death of another.
pub(super) fn take(root: &mut Table<'_>, topology: Option<&Topology>) -> Option<Option<Heartbeat>> {
    let alerters = topology.map(|topology| topology.queues().1);
    let Some(mut section) = root.section("heartbeat")? else {
        return Some(None);
    };
    let place = section.place();
    let has_url = section.has("url") || section.has("url_file");
    let urls = match section.get("url") {
        Some(value) if value.is_array() => {
            let urls = value.each("[\"https://example.com/ping/1\"]", take_url);
            let _: Option<()> = section
                .get("url_file")
                .and_then(|file| file.wrong("'url' is there already; keep one of the two"));
            match (urls, alerters) {
                (Some(urls), Some(alerters)) if urls.len() != alerters => value.wrong(format!(
                    "'url' holds {} URLs for {alerters} alerters; write one for each, in the order of [queue] alerter",
                    urls.len()
                )),
                (urls, _) => urls.map(|urls| urls.into_iter().map(Secret::Value).collect()),
            }
        }
        value => {
            let one = Secret::take(&mut section, "url", "url_file", take_url);
            match (one, alerters, value) {
                (Some(Some(_)), Some(alerters @ 2..), _) => place.wrong(format!(
                    "there are {alerters} alerters, and the beats of one would hide the death of another; write url = \
                     [\"https://…\", …], one for each, in the order of [queue] alerter"
                )),
                (one, _, _) => one.map(|one| one.into_iter().collect::<Vec<_>>()),
            }
        }
    };
    let every = section.or("every", Duration::from_secs(60), |value| value.duration(SHORTEST..=LONGEST));
    section.finish();
    if !has_url {
        return place.missing(
            "[heartbeat] needs 'url', the address that the outside service waits for, or 'url_file', the file it is in",
        );
    }
    Some(Some(Heartbeat { urls: urls?, every: every? }))
}

fn take_url(value: &Value<'_>) -> Option<String> {
    value.parsed("https://example.com/ping/1", |text| values::http_url(text).map(|()| text.to_owned()))
}
