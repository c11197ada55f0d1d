//! The file of silences, edited: whole or not at all, with all that people wrote in it, and by one at a time.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use crosswatch_alerter::silences::{self, Known};
use crosswatch_judge::mute::{Silence, When};
use crosswatch_shared::time::Timestamp;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::Refused;
use crate::owner;

/// What a file begins with that is made here.
const HEAD: &str =
    "# What is not paged, and until when; see docs/configuration.md. 'crosswatch silence' edits it.\n";

/// The file, which may be absent.
pub(crate) struct SilencesFile {
    path: PathBuf,
}

impl SilencesFile {
    /// At this path; what a symbolic link leads to is edited, not replaced.
    pub(crate) fn of(path: &Path) -> Self {
        Self { path: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()) }
    }

    /// What it says.
    pub(crate) fn read(&self, known: &Known, now: Timestamp) -> anyhow::Result<Vec<Silence>> {
        Ok(silences::parse(self.text()?.as_bytes(), &self.path, Some(known), now)?)
    }

    /// Edits it. What comes of that is read as an alerter does before it takes the file's place.
    pub(crate) fn edit(
        &self,
        known: &Known,
        now: Timestamp,
        edit: impl FnOnce(&mut DocumentMut, &[Silence]) -> Result<(), Refused>,
    ) -> anyhow::Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        // The file itself is replaced: who waits for it would wait for one that is gone.
        let lock = File::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", folder.display()))?;
        let text = self.text()?;
        let all = silences::parse(text.as_bytes(), &self.path, Some(known), now)?;
        let mut document: DocumentMut =
            text.parse().with_context(|| format!("{}: cannot be edited", self.path.display()))?;
        edit(&mut document, &all)?;
        let mut text = document.to_string();
        if !self.path.exists() {
            text.insert_str(0, HEAD);
        }
        silences::parse(text.as_bytes(), &self.path, Some(known), now)?;
        // Among the stages' own files it is theirs, too.
        owner::as_owner_of(folder, || replace(&self.path, &text))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn text(&self) -> anyhow::Result<String> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let path = self.path.display();
                Err(error).with_context(|| {
                    format!("cannot read {path}, which may be the stages' own: call it with sudo")
                })
            }
            read => read.with_context(|| format!("cannot read {}", self.path.display())),
        }
    }
}

/// Puts a text in a file's place, of which a reader sees either the former or all of this.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
        // Whatever the umask: an alerter that runs as a user of its own must read what root makes.
        let mode = || Permissions::from_mode(0o644);
        file.set_permissions(fs::metadata(path).map_or_else(|_| mode(), |former| former.permissions()))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// Adds a silence, after all others.
pub(super) fn add(document: &mut DocumentMut, mut table: Table) -> Result<(), Refused> {
    if !document.is_empty() {
        table.decor_mut().set_prefix("\n");
    }
    let all = document.entry("silence").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    all.as_array_of_tables_mut().ok_or(Refused::Form)?.push(table);
    Ok(())
}

/// Ends the silence of an id. `all` is what the document says, in its order.
pub(super) fn end(
    document: &mut DocumentMut,
    all: &[Silence],
    id: &str,
    now: Timestamp,
) -> Result<(), Refused> {
    let Some((place, silence)) = all.iter().enumerate().find(|(_, silence)| silence.id == id) else {
        let known = all.iter().map(|silence| silence.id.clone()).collect();
        return Err(Refused::Unknown { id: id.to_owned(), known });
    };
    let tables = document.get_mut("silence").and_then(Item::as_array_of_tables_mut).ok_or(Refused::Form)?;
    match &silence.when {
        When::Once { until, .. } if *until <= now => {
            return Err(Refused::Over { id: id.to_owned(), at: *until });
        }
        When::Once { .. } if silence.when.until(now).is_some() => {
            let table = tables.get_mut(place).ok_or(Refused::Form)?;
            // Its id must stay what it was, of which the end may be a part.
            table["id"] = value(id);
            let decor = table.get("until").and_then(Item::as_value).map(|until| until.decor().clone());
            let mut until = toml_edit::Value::from(now.to_string());
            if let Some(decor) = decor {
                *until.decor_mut() = decor;
            }
            table["until"] = Item::Value(until);
        }
        When::Once { .. } | When::Every { .. } => drop(tables.remove(place)),
    }
    Ok(())
}
