//! Man pages and completions of the program's own command line, for its packages.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

/// Writes `man/*.1` and `completions/*` into a folder.
pub(crate) fn run(folder: &Path) -> anyhow::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    clap_mangen::generate_to(Cli::command(), &man).with_context(|| man.display().to_string())?;
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut Cli::command(), "crosswatch", &completions)
            .with_context(|| completions.display().to_string())?;
    }
    Ok(())
}
