//! The lab's folder: what is in it by which name, and paths that mean the same from wherever they are used.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::record::Cloud;

pub(crate) const CONFIG: &str = "crosswatch.toml";
pub(crate) const LOGS: &str = "logs";
pub(crate) const DATA: &str = "data";
/// The charons' files, and the secret of the tunnels: while the lab is up.
pub(crate) const IPSEC: &str = "ipsec";
pub(crate) const WAN_SOCKET: &str = "wan.sock";
pub(crate) const GATE_SOCKET: &str = "gate.sock";

/// The longest path that a Unix socket's address holds, with the zero at its end.
const SOCKET_PATH: usize = 108;

/// The path of a Unix socket in a folder.
pub(crate) fn socket(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    if path.as_os_str().len() < SOCKET_PATH { Ok(path) } else { Err(Error::LongPath { path }) }
}

pub(crate) fn make(folder: &Path) -> Result<PathBuf> {
    let file = |source| Error::File { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(file)?;
    folder.canonicalize().map_err(file)
}

/// Removes a file or a folder, if it is there.
pub(crate) fn clear(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Err(error) => Err(error),
        Ok(of) if of.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|source| Error::File { path: path.to_owned(), source }),
    }
}

/// Processes run in the lab's folder: a path in the present one must not change its meaning. A bare name is searched for
/// in PATH.
pub(crate) fn absolute(program: &Path) -> PathBuf {
    if program.components().count() == 1 && !program.is_absolute() {
        return program.to_owned();
    }
    std::path::absolute(program).unwrap_or_else(|_| program.to_owned())
}

impl Cloud {
    pub(crate) fn absolute(self) -> Self {
        match self {
            Self::Gate { gate, ministack } => {
                Self::Gate { gate: absolute(&gate), ministack: absolute(&ministack) }
            }
            Self::Emulator { ministack } => Self::Emulator { ministack: absolute(&ministack) },
            Self::None => Self::None,
        }
    }
}
