//! The section `notify`: who is told, and how.

use std::ffi::OsStr;

use crosswatch_shared::config::aws;
use crosswatch_shared::config::document::{Named, Table, Unique, Value};
use crosswatch_shared::config::values::{self, short};

use super::{Receiver, Texting, webhook};

/// Takes the receivers; also the names of those that are wrong in something else, so that nobody calls them unknown.
pub(super) fn take(root: &mut Table<'_>) -> (Vec<Receiver>, Vec<String>) {
    let Some(Some(section)) = root.section("notify") else {
        return (Vec::new(), Vec::new());
    };
    let named = section.named();
    let names = named.iter().map(|named| named.name.to_owned()).collect();
    (named.into_iter().filter_map(take_receiver).collect(), names)
}

fn take_receiver(named: Named<'_>) -> Option<Receiver> {
    let name = match values::name(named.name) {
        Ok(()) => Some(named.name.into()),
        Err(message) => named.place.wrong(message),
    };
    let mut table = named.value.table("a receiver")?;
    let place = table.place();
    let ways = ["sms", "topic", "webhook", "command", "console"];
    let some_way = ways.iter().chain(&webhook::WAYS).any(|way| table.has(way));
    let sms = table.or("sms", Vec::new(), take_sms);
    let texting = take_texting(&mut table);
    let topic = table.maybe("topic", |value| value.parsed(aws::TOPIC, aws::topic));
    let webhook = webhook::take(&mut table);
    let command = table.or("command", Vec::new(), take_command);
    let console = table.or("console", false, |value| {
        // A receiver with console = false would be told by nobody and look as if it were.
        if value.boolean()? {
            Some(true)
        } else {
            value.wrong("'console' must be true; leave it out instead")
        }
    });
    let at_most = table.maybe("at_most", |value| value.parsed("10 per 1h", values::rate));
    table.finish();
    if !some_way {
        return place.missing(format!(
            "receiver '{}' is told by no way; add one or more of {}",
            short(named.name),
            ways.join(", ")
        ));
    }
    let (webhook, template) = webhook?;
    Some(Receiver {
        name: name?,
        sms: sms?,
        texting: texting?,
        topic: topic?,
        webhook,
        template,
        command: command?,
        console: console?,
        at_most: at_most?,
    })
}

fn take_texting(table: &mut Table<'_>) -> Option<Texting> {
    let no_sms = !table.has("sms");
    let sender_id = table.maybe("sender_id", |value| value.parsed("CROSSWATCH", sender_id));
    let origination_number =
        table.maybe("origination_number", |value| value.parsed("+15555550199", phone_number));
    let max_price = table.maybe("max_price", |value| match value.number()? {
        // SNS takes five digits after the point.
        price if (0.00001..=100.0).contains(&price) => Some(price),
        _ => value.wrong("'max_price' must be from 0.00001 to 100 US dollars a text, such as 0.05"),
    });
    let region = table.maybe("region", |value| value.parsed("us-east-1", aws::region));
    if no_sms {
        let mut refused = false;
        for key in ["sender_id", "origination_number", "max_price", "region"] {
            if let Some(value) = table.get(key) {
                refused = true;
                let _: Option<()> = value
                    .wrong(format!("'{key}' says how 'sms' is sent; add sms = [\"+…\"], or leave it out"));
            }
        }
        if refused {
            return None;
        }
    }
    Some(Texting {
        sender_id: sender_id?,
        origination_number: origination_number?,
        max_price: max_price?,
        region: region?,
    })
}

/// As SNS takes it: 1 to 11 letters and digits, a letter at least, no spaces.
fn sender_id(text: &str) -> Result<String, String> {
    let valid = (1..=11).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    if valid {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "'{}' is not a sender id; write 1 to 11 letters and digits, a letter at least, such as \"CROSSWATCH\"",
            short(text)
        ))
    }
}

fn take_sms(value: &Value<'_>) -> Option<Vec<String>> {
    let mut unique = Unique::new("number", "leave this one out");
    let numbers = value.each("[\"+15555550100\"]", |value| {
        let number = value.parsed("+15555550100", phone_number)?;
        unique.check(value.place(), &number)?;
        Some(number)
    })?;
    if numbers.is_empty() {
        return value.wrong("'sms' holds no number; write at least one, such as [\"+15555550100\"]");
    }
    Some(numbers)
}

/// E.164: a plus sign, then up to 15 digits, of which the first, the country code's, is not 0.
fn phone_number(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix('+').unwrap_or_default();
    let valid = (7..=15).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0');
    if valid {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "'{}' is not a phone number as E.164 writes it: + and country code, then digits only, such as \"+15555550100\"",
            short(text)
        ))
    }
}

fn take_command(value: &Value<'_>) -> Option<Vec<String>> {
    let example = "[\"/usr/local/bin/page\", \"--urgent\"]";
    let words = value.each(example, |value| match value.text()? {
        text if text.contains('\0') => value.wrong("an entry of 'command' must not contain a NUL character"),
        text => Some(text.to_owned()),
    })?;
    match words.first() {
        Some(program) if !OsStr::new(program).is_empty() => Some(words),
        _ => value.wrong(format!("'command' names no program; write one, such as {example}")),
    }
}
