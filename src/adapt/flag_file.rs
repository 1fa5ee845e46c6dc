//! A set of flags kept in a file: read whole or not at all, written so that a crash leaves the old
//! file or the new one.
//!
//! ```no_run
//! use pilotage::adapt::flag_file::{FlagFile, Read};
//! use pilotage::strategy::flag::FlagSet;
//!
//! let flags = FlagSet::builder().build()?;
//! let mut file = FlagFile::new("/etc/model-server/flags.toml")?;
//! match file.read_into(&flags)? {
//!     Read::Applied => println!("new flags are in force"),
//!     Read::Unchanged => {}
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The format follows from the ending: `.json` (feature `json`) or `.toml` (feature `toml`). There
//! is no YAML: its references make small files large. A file that was refused leaves the set as it
//! is; [`FlagFile::alert`] makes news of it, under one key however often it happens, so that a file
//! that goes bad again every minute is one alert.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::alert::alert::{Alert, Severity};
use crate::clock::Moment;
use crate::ids::Name;
use crate::strategy::flag::{FlagError, FlagSet, StoredFlags};

/// A file that holds a set of flags.
#[derive(Debug)]
pub struct FlagFile {
    path: PathBuf,
    format: Format,
    max_bytes: usize,
    in_force: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
enum Format {
    #[cfg(feature = "json")]
    Json,
    #[cfg(feature = "toml")]
    Toml,
}

/// What reading a file came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Read {
    /// The set now is what the file says.
    Applied,
    /// The file says what it said when it was last applied.
    Unchanged,
}

/// Why a file was not read or written. The set in force stays in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlagFileError {
    /// The ending says no format, or one whose feature is off.
    #[error("{path}: end the name with .json (feature `json`) or .toml (feature `toml`)")]
    Ending {
        /// The file.
        path: String,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// Too large to be read.
    #[error("{path} is larger than {most} bytes; split it, or allow more")]
    TooLarge {
        /// The file.
        path: String,
        /// What is allowed.
        most: usize,
    },
    /// Not in the format, or with a field that is not known.
    #[error("{path}: {problem}")]
    Syntax {
        /// The file.
        path: String,
        /// What is wrong, and where.
        problem: String,
    },
    /// The flags do not hold together.
    #[error("{path}: {source}")]
    Flags {
        /// The file.
        path: String,
        /// What is wrong with them.
        source: FlagError,
    },
}

impl FlagFile {
    /// A file at this path, which need not exist yet.
    ///
    /// # Errors
    ///
    /// [`FlagFileError::Ending`].
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, FlagFileError> {
        let path = path.into();
        let format = match path.extension().and_then(|ending| ending.to_str()) {
            #[cfg(feature = "json")]
            Some("json") => Format::Json,
            #[cfg(feature = "toml")]
            Some("toml") => Format::Toml,
            _ => return Err(FlagFileError::Ending { path: shown(&path) }),
        };
        Ok(Self { path, format, max_bytes: 1 << 20, in_force: None })
    }

    /// Sets the most bytes the file may have; 1 MiB unless set, about 2,000 flags.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Reads the file into the set, as a whole or not at all.
    ///
    /// # Errors
    ///
    /// [`FlagFileError`]; the set is then as it was.
    pub fn read_into(&mut self, flags: &FlagSet) -> Result<Read, FlagFileError> {
        let file = File::open(&self.path).map_err(|source| self.io(source))?;
        // One byte more than allowed, so that a file that grows while it is read is noticed.
        let mut bytes = Vec::new();
        let most = self.max_bytes as u64;
        file.take(most + 1).read_to_end(&mut bytes).map_err(|source| self.io(source))?;
        if bytes.len() > self.max_bytes {
            return Err(FlagFileError::TooLarge { path: shown(&self.path), most: self.max_bytes });
        }
        if self.in_force.as_deref() == Some(&bytes) {
            return Ok(Read::Unchanged);
        }
        let stored = self.parse(&bytes)?;
        flags
            .load(stored)
            .map_err(|source| FlagFileError::Flags { path: shown(&self.path), source })?;
        self.in_force = Some(bytes);
        Ok(Read::Applied)
    }

    /// The news that this file was refused, under one key however often it happens: hand it to
    /// whoever tells people, through an [`AlertPolicy`](crate::alert::policy::AlertPolicy).
    #[must_use]
    pub fn alert(&self, error: &FlagFileError, set: &Name, at: Moment) -> Alert {
        let summary = format!("the flag file was refused, the last good flags hold: {error}");
        let key = format!("flag-file/{}", shown(&self.path));
        Alert::new(key, Severity::Warning, set.clone(), at, summary)
    }

    /// Writes the set to the file: to a new file beside it first, flushed to the disk and then
    /// moved to its place.
    ///
    /// # Errors
    ///
    /// [`FlagFileError`]; the old file is then as it was.
    pub fn write_from(&mut self, flags: &FlagSet) -> Result<(), FlagFileError> {
        let stored = flags.stored();
        let text = match self.format {
            #[cfg(feature = "json")]
            Format::Json => serde_json::to_string_pretty(&stored).map_err(|e| e.to_string()),
            #[cfg(feature = "toml")]
            Format::Toml => toml::to_string(&stored).map_err(|e| e.to_string()),
        };
        let text = text.map_err(|problem| self.syntax(problem))?;
        replace(&self.path, text.as_bytes()).map_err(|source| self.io(source))?;
        self.in_force = Some(text.into_bytes());
        Ok(())
    }

    fn parse(&self, bytes: &[u8]) -> Result<StoredFlags, FlagFileError> {
        match self.format {
            #[cfg(feature = "json")]
            Format::Json => crate::adapt::json::parse(bytes)
                .and_then(serde_json::from_value)
                .map_err(|error| self.syntax(error.to_string())),
            #[cfg(feature = "toml")]
            Format::Toml => {
                let text = std::str::from_utf8(bytes).map_err(|e| self.syntax(e.to_string()))?;
                toml::from_str(text).map_err(|error| self.syntax(error.to_string()))
            }
        }
    }

    fn syntax(&self, problem: String) -> FlagFileError {
        FlagFileError::Syntax { path: shown(&self.path), problem }
    }

    fn io(&self, source: io::Error) -> FlagFileError {
        FlagFileError::Io { path: shown(&self.path), source }
    }
}

/// Replaces a file so that a crash at any point leaves the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let moved = written.and_then(|()| fs::rename(&beside, path));
    if moved.is_err() {
        let _ = fs::remove_file(&beside); // what matters is the first error
        return moved;
    }
    // The new name is on the disk once the folder is; where a folder cannot be opened, as on
    // Windows, the rename is all there is.
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match File::open(folder.unwrap_or(Path::new("."))) {
        Ok(folder) => folder.sync_all().or(Ok(())),
        Err(_) => Ok(()),
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string().escape_debug().collect()
}
