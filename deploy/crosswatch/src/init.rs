//! `init`: writes a config to start from, and cases that test its rules.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};

use crate::{config, test};

/// Writes the commented starter, with this machine's gateway in it, and cases beside it; never overwrites.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    if !write(path, &config::starter_text(config::default_gateway()))? {
        bail!("{shown} exists and is left as it is; name another file to write the starter config to");
    }
    let named = if path == Path::new(config::FILE) { String::new() } else { format!(" --config {shown}") };
    println!("wrote {shown}; 'crosswatch check{named}' validates it, 'crosswatch run{named}' starts it");
    let cases = path.with_file_name(test::FILE);
    let shown = cases.display();
    if write(&cases, &test::starter_text(path))? {
        let named = if cases == Path::new(test::FILE) { String::new() } else { format!(" {shown}") };
        println!("wrote {shown}; 'crosswatch test{named}' plays its cases through the rules");
    } else {
        println!("{shown} exists and is left as it is");
    }
    Ok(())
}

/// Whether it was written: a file that is there is not touched.
fn write(path: &Path, text: &str) -> anyhow::Result<bool> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error).with_context(failed),
    };
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)?;
    Ok(true)
}
