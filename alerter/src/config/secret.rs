//! Secrets of the config: written in it, or in a file of their own.
//!
//! A file is read anew for each use, so that a secret can be replaced while the alerter runs. What a secret is appears in
//! no error, no log and no `Debug`.

use std::fmt;
use std::path::{Path, PathBuf};

use crosswatch_shared::config::document::{Table, Value};

/// The longest secret, in bytes: a URL that carries its token, at most.
const LONGEST: u64 = 2048;

/// A secret, or the file that it is in.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Itself.
    Value(String),
    /// The file that holds it, and whitespace around it at the most.
    File(PathBuf),
}

/// A secret's file that cannot be used; trying again helps once somebody has put it right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", .file.display())]
pub struct SecretError {
    file: PathBuf,
    problem: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Secret"),
            Self::File(file) => f.debug_tuple("Secret").field(file).finish(),
        }
    }
}

impl Secret {
    /// The secret; reads its file, if it is in one.
    ///
    /// # Errors
    /// The file cannot be read, or holds no secret.
    pub fn read(&self) -> Result<String, SecretError> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::File(file) => read(file).map_err(|problem| SecretError { file: file.clone(), problem }),
        }
    }

    /// Takes `key`, the secret itself, or `key_file`, the file it is in: `Some(None)` without either. `check` says what is
    /// wrong with one that is written in the config, without saying what it is.
    pub(super) fn take(
        table: &mut Table<'_>,
        key: &'static str,
        key_file: &'static str,
        check: impl FnOnce(&Value<'_>) -> Option<String>,
    ) -> Option<Option<Self>> {
        let folder = table.folder();
        let (value, file) = (table.get(key), table.get(key_file));
        match (value, file) {
            (None, None) => Some(None),
            (Some(value), None) => check(&value).map(|value| Some(Self::Value(value))),
            (None, Some(file)) => match file.text()? {
                "" => file.wrong(format!("'{key_file}' names no file; write its path, or '{key}' instead")),
                path => Some(Some(Self::File(folder.join(path)))),
            },
            (Some(_), Some(file)) => file.wrong(format!("'{key}' is there already; keep one of the two")),
        }
    }
}

fn read(file: &Path) -> Result<String, String> {
    let readable = "see that it is there and may be read by the alerter's user";
    let length = std::fs::metadata(file).map_err(|error| format!("{error}; {readable}"))?.len();
    if length > LONGEST {
        return Err(format!("it holds {length} bytes; a secret is one line of {LONGEST} at most"));
    }
    let text = std::fs::read(file).map_err(|error| format!("{error}; {readable}"))?;
    let secret = text.trim_ascii();
    if secret.is_empty() {
        return Err("it is empty; write the secret into it, as one line".to_owned());
    }
    if !secret.iter().all(u8::is_ascii_graphic) {
        return Err("it holds more than one word of ASCII; write the secret alone into it".to_owned());
    }
    Ok(String::from_utf8_lossy(secret).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_the_secret_and_whitespace_at_the_most_and_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let secret = Secret::File(file.clone());
        let missing = secret.read().unwrap_err().to_string();
        assert!(missing.contains("key: No such file"), "{missing}");
        for (text, read) in [("s3cret", "s3cret"), (" other\r\n", "other")] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(secret.read().unwrap(), read);
        }
        for wrong in ["", "\n", "hush hush", "húsh", &"x".repeat(2049)] {
            std::fs::write(&file, wrong).unwrap();
            let error = secret.read().unwrap_err().to_string();
            assert!(!error.contains('h') || !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn no_debug_output_shows_a_secret() {
        assert_eq!(format!("{:?}", Secret::Value("s3cret".to_owned())), "Secret");
    }
}
