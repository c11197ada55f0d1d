//! JSON in the columns of the alerter's file: what it cannot say, or does not hold, is an error of the statement it is for.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// As a column holds it.
pub(crate) fn write(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(failed)
}

/// What a column holds.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(failed)
}

fn failed(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}
