//! The section `queue`: what lies between the stages.

use std::time::Duration;

use super::{Queue, QueueKind};
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
            None
        }
    };
    table.finish();
    Some(Queue { path: folder.join(path?), kind: kind?, keep: keep?, max_bytes: max_bytes? })
}

fn take_embedded(table: &mut Table<'_>) -> Option<QueueKind> {
    let mut refused = false;
    for key in ["publisher", "alerter"] {
        if let Some(value) = table.get(key) {
            refused = true;
            let _: Option<()> =
                value.wrong(format!("'{key}' is for kind = \"sqs\"; leave it out, or write that kind"));
        }
    }
    (!refused).then_some(QueueKind::Embedded)
}

fn take_sqs(table: &mut Table<'_>) -> Option<QueueKind> {
    // One queue read by both would give each of them half.
    let mut unique =
        Unique::new("use of the queue", "each stage and each of its workers reads a queue of its own");
    let example = "\"https://sqs.us-east-1.amazonaws.com/123456789012/NAME\"";
    let mut urls = |value: &Value<'_>| {
        let mut url = |value: &Value<'_>| {
            let url = value.parsed("https://…", |text| url(text).map(|()| text.to_owned()))?;
            unique.check(value.place(), &url)?;
            Some(url)
        };
        if !value.is_array() {
            return Some(vec![url(value)?]);
        }
        let urls = value.each(example, url)?;
        if urls.is_empty() {
            return value
                .wrong(format!("the list of queues is empty; write at least one URL, such as {example}"));
        }
        Some(urls)
    };
    let publisher = table.need("publisher", example, &mut urls);
    let alerter = table.need("alerter", example, &mut urls);
    Some(QueueKind::Sqs { publisher: publisher?, alerter: alerter? })
}

fn url(text: &str) -> Result<(), String> {
    values::http_url(text).map_err(|_| {
        format!("'{}' is not the URL of a queue; it begins with https:// and a host", short(text))
    })
}
