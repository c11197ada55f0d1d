//! The section `queue`: what lies between the stages.

use std::time::Duration;

use super::{Queue, QueueKind, SqsQueue};
use crate::config::document::{Table, Unique, Value};
use crate::config::values::{self, LONGEST, short};

const KEEP: Duration = Duration::from_hours(7 * 24);
const MAX_BYTES: u64 = 1 << 30;
/// Below this a journal could not even hold what is on its way.
const LEAST_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy)]
enum Kind {
    Embedded,
    Sqs,
}

/// Takes the section; without it, the embedded queue in the folder `data`.
pub(super) fn take(root: &mut Table<'_>) -> Option<Queue> {
    let folder = root.folder();
    let Some(mut table) = root.section("queue")? else {
        return Some(Queue {
            path: folder.join("data"),
            kind: QueueKind::Embedded,
            keep: KEEP,
            max_bytes: MAX_BYTES,
        });
    };
    let kind = table
        .or("kind", Kind::Embedded, |value| value.word(&[("embedded", Kind::Embedded), ("sqs", Kind::Sqs)]));
    let path = table.or("path", "data", |value| match value.text()? {
        "" => value.wrong("'path' must not be empty; write a folder such as \"data\""),
        path if path.contains('\0') => value.wrong("'path' must not contain a NUL character"),
        path => Some(path),
    });
    let keep = table.or("keep", KEEP, |value| value.duration(Duration::from_secs(1)..=LONGEST));
    let max_bytes = table.or("max_size", MAX_BYTES, |value| {
        value.parsed("1GiB", |text| match values::size(text)? {
            bytes if bytes < LEAST_BYTES => Err("must be at least 1MiB".to_owned()),
            bytes => Ok(bytes),
        })
    });
    let kind = match kind {
        Some(Kind::Sqs) => take_sqs(&mut table),
        Some(Kind::Embedded) => take_embedded(&mut table),
        None => {
            table.get("publisher");
            table.get("alerter");
            table.get("standby");
            table.get("second_alerter");
            None
        }
    };
    table.finish();
    Some(Queue { path: folder.join(path?), kind: kind?, keep: keep?, max_bytes: max_bytes? })
}

fn take_embedded(table: &mut Table<'_>) -> Option<QueueKind> {
    let mut refused = false;
    for key in ["publisher", "alerter", "standby", "second_alerter"] {
        if let Some(value) = table.get(key) {
            refused = true;
            let _: Option<()> =
                value.wrong(format!("'{key}' is for kind = \"sqs\"; leave it out, or write that kind"));
        }
    }
    (!refused).then_some(QueueKind::Embedded)
}

const EXAMPLE: &str = "\"https://sqs.us-east-1.amazonaws.com/123456789012/NAME\"";

fn take_sqs(table: &mut Table<'_>) -> Option<QueueKind> {
    // One queue read by both would give each of them half.
    let mut unique =
        Unique::new("use of the queue", "each stage and each of its workers reads a queue of its own");
    let publisher = table.need("publisher", EXAMPLE, |value| take_urls(value, &mut unique));
    let alerter = table.need("alerter", EXAMPLE, |value| take_urls(value, &mut unique));
    let second = table.maybe("second_alerter", |value| {
        let urls = take_urls(value, &mut unique)?;
        match &alerter {
            Some(first) if first.len() != urls.len() => value.wrong(format!(
                "'alerter' has {} and 'second_alerter' {}; write one second queue for each, in their order",
                first.len(),
                urls.len()
            )),
            _ => Some(urls),
        }
    });
    let standby = table.maybe("standby", |value| {
        let mut table = value.table("the standby queues")?;
        let mut of = |key: &'static str, first: Option<&Vec<String>>| {
            table.maybe(key, |value| {
                let urls = take_urls(value, &mut unique)?;
                match first {
                    Some(first) if first.len() != urls.len() => value.wrong(format!(
                        "'{key}' has {} and its standby {}; write one standby for each queue, in their order",
                        first.len(),
                        urls.len()
                    )),
                    _ => Some(urls),
                }
            })
        };
        let publisher = of("publisher", publisher.as_ref());
        let alerter = of("alerter", alerter.as_ref());
        table.finish();
        Some((publisher?, alerter?))
    });
    let (publisher_standby, alerter_standby) = standby?.unwrap_or_default();
    Some(QueueKind::Sqs {
        publisher: queues(publisher?, publisher_standby, None),
        alerter: queues(alerter?, alerter_standby, second?),
    })
}

fn take_urls(value: &Value<'_>, unique: &mut Unique) -> Option<Vec<String>> {
    let mut url = |value: &Value<'_>| {
        let url = value.parsed("https://…", |text| url(text).map(|()| text.to_owned()))?;
        unique.check(value.place(), &url)?;
        Some(url)
    };
    if !value.is_array() {
        return Some(vec![url(value)?]);
    }
    let urls = value.each(EXAMPLE, url)?;
    if urls.is_empty() {
        return value
            .wrong(format!("the list of queues is empty; write at least one URL, such as {EXAMPLE}"));
    }
    Some(urls)
}

fn queues(urls: Vec<String>, standby: Option<Vec<String>>, second: Option<Vec<String>>) -> Vec<SqsQueue> {
    let mut standby = standby.unwrap_or_default().into_iter();
    let mut second = second.unwrap_or_default().into_iter();
    urls.into_iter().map(|url| SqsQueue { url, standby: standby.next(), second: second.next() }).collect()
}

fn url(text: &str) -> Result<(), String> {
    if text.ends_with(".fifo") {
        return Err(format!(
            "'{}' is a FIFO queue, which costs more and keeps an order that batches have of their own; write a standard queue's URL",
            short(text)
        ));
    }
    values::http_url(text).map_err(|_| {
        format!("'{}' is not the URL of a queue; it begins with https:// and a host", short(text))
    })
}
