//! The pre-shared key of a link. It stands in one file, for root alone, and nowhere else: not in a value of this program, an
//! argument or a log.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Where it stands. The file goes with the value that made it, unless that is told to keep it.
#[derive(Debug)]
pub struct Secret {
    file: PathBuf,
    keep: bool,
}

impl Secret {
    /// A new one, at random, in this file: as a section of swanctl.conf which says that it is for any two peers.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn make(file: &Path) -> Result<Self> {
        // One of before may have other permissions.
        let _ = fs::remove_file(file);
        let mut key = [0_u8; 32];
        let source = Path::new("/dev/urandom");
        File::open(source).and_then(|mut random| random.read_exact(&mut key)).map_err(Error::file(source))?;
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let section = format!("secrets {{\n ike-link {{\n  secret = 0x{hex}\n }}\n}}\n");
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let written = options.open(file).and_then(|mut file| file.write_all(section.as_bytes()));
        written.map_err(Error::file(file))?;
        Ok(Self { file: file.to_owned(), keep: false })
    }

    /// One that stands in this file already, and stays.
    #[must_use]
    pub fn at(file: &Path) -> Self {
        Self { file: file.to_owned(), keep: true }
    }

    /// Lets the file stay.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_file(&self.file);
        }
    }
}
