//! `init`: writes a config to start from.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};

use crate::config;

/// Writes the commented starter, with this machine's gateway in it; never overwrites.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{shown} exists and is left as it is; name another file to write the starter config to")
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {shown}")),
    };
    let text = config::starter_text(config::default_gateway());
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {shown}"))?;
    let named = if path == Path::new(config::FILE) { String::new() } else { format!(" --config {shown}") };
    println!("wrote {shown}; 'crosswatch check{named}' validates it, 'crosswatch run{named}' starts it");
    Ok(())
}
