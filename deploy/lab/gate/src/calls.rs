//! Who called what, written down for whoever compares it with what IAM grants: each caller's first call of each operation, over
//! all gates that are given the same folder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::json;

use crate::call::Call;

/// What was written down already, and where.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    file: Option<File>,
    seen: BTreeSet<(String, String, String)>,
}

impl Calls {
    /// Into a file of this process's own in the folder.
    pub(crate) fn into(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}.jsonl", std::process::id()));
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self { file: Some(file), seen: BTreeSet::new() })
    }

    pub(crate) fn note(&mut self, call: &Call) {
        let Some(file) = &mut self.file else { return };
        let (key, service, operation) = (&call.key, call.service.name(), &call.operation);
        if self.seen.insert((key.clone(), service.to_owned(), operation.clone())) {
            // Whoever reads it misses what is not there.
            let _ = writeln!(file, "{}", json!({"key": key, "service": service, "operation": operation}));
        }
    }
}
