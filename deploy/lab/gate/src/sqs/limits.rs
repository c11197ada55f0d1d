//! The limits of a message, a batch and a visibility, and what SQS says beyond them.

use std::collections::HashSet;

use serde_json::Value as Json;

use crate::answer::Refusal;
use crate::call::Input;

const BATCH: usize = 10;
pub(super) const BYTES: usize = 1 << 20;
pub(super) const LONGEST_VISIBILITY: i64 = 43_200;

pub(super) fn list(input: &Input) -> Option<&[Json]> {
    match input {
        Input::Json(json) => json.get("Entries")?.as_array().map(Vec::as_slice),
        _ => None,
    }
}

/// The bytes that count: body and attributes.
pub(super) fn size(message: &Json) -> usize {
    let length = |value: &Json| value.as_str().map_or(0, str::len);
    let attributes = message["MessageAttributes"].as_object().into_iter().flatten();
    let attributes = attributes.map(|(name, value)| {
        name.len()
            + length(&value["DataType"])
            + length(&value["StringValue"])
            + length(&value["BinaryValue"])
    });
    length(&message["MessageBody"]) + attributes.sum::<usize>()
}

pub(super) fn check_message(message: &Json) -> Result<(), Refusal> {
    let body = message["MessageBody"].as_str().unwrap_or("");
    if body.is_empty() {
        let message = "The request must contain the parameter MessageBody.";
        return Err(Refusal::new(400, "MissingParameter", message));
    }
    if let Some(bad) = body.chars().find(|c| !in_xml(*c)) {
        let message = format!("Invalid character U+{:04X} was found in the message body", u32::from(bad));
        return Err(Refusal::new(400, "InvalidMessageContents", message));
    }
    if message["MessageAttributes"].as_object().is_some_and(|attributes| attributes.len() > 10) {
        return Err(invalid("Number of message attributes exceeds the allowed maximum [10]."));
    }
    in_range(message, "DelaySeconds", 0, 900)
}

/// The characters of XML 1.0, which are all that a message may hold.
fn in_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

pub(super) fn check_batch(input: &Input) -> Result<&[Json], Refusal> {
    let entries = list(input).unwrap_or(&[]);
    if entries.is_empty() {
        return Err(Refusal::new(
            400,
            "EmptyBatchRequest",
            "There should be at least one entry in the request.",
        ));
    }
    if entries.len() > BATCH {
        return Err(Refusal::new(
            400,
            "TooManyEntriesInBatchRequest",
            format!("Maximum number of entries per request are 10. You have sent {}.", entries.len()),
        ));
    }
    let mut seen = HashSet::new();
    for entry in entries {
        let id = entry["Id"].as_str().unwrap_or("");
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if !(1..=80).contains(&id.len()) || !id.bytes().all(allowed) {
            let message = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. \
                           It can be at most 80 letters long.";
            return Err(Refusal::new(400, "InvalidBatchEntryId", message));
        }
        if !seen.insert(id) {
            return Err(Refusal::new(400, "BatchEntryIdsNotDistinct", format!("Id {id} repeated.")));
        }
    }
    Ok(entries)
}

pub(super) fn check_visibility(entry: &Json) -> Result<(&str, i64), Refusal> {
    in_range(entry, "VisibilityTimeout", 0, LONGEST_VISIBILITY)?;
    let seconds = entry["VisibilityTimeout"].as_i64().ok_or_else(|| {
        Refusal::new(400, "MissingParameter", "The request must contain the parameter VisibilityTimeout.")
    })?;
    let handle =
        entry["ReceiptHandle"].as_str().filter(|handle| !handle.is_empty()).ok_or_else(bad_handle)?;
    Ok((handle, seconds))
}

pub(super) fn in_range(input: &Json, name: &str, least: i64, most: i64) -> Result<(), Refusal> {
    match &input[name] {
        Json::Null => Ok(()),
        value if value.as_i64().is_some_and(|value| (least..=most).contains(&value)) => Ok(()),
        value => Err(invalid(format!(
            "Value {value} for parameter {name} is invalid. Reason: Must be >= {least} and <= {most}, if provided."
        ))),
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(400, "InvalidParameterValue", message)
}

pub(super) fn bad_handle() -> Refusal {
    Refusal::new(400, "ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
}
