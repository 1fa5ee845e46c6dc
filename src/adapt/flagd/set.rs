//! The file in force.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::definition::{FlagdFlags, Options};
use super::error::FlagdError;

/// The flag file in force, replaced as a whole or not at all while readers go on.
pub struct FlagdSet {
    options: Options,
    current: ArcSwap<FlagdFlags>,
    writer: Mutex<()>,
}

impl FlagdSet {
    /// Begins with this file.
    ///
    /// # Errors
    ///
    /// [`FlagdError`] for what is wrong first.
    pub fn new(file: &[u8], options: Options) -> Result<Self, FlagdError> {
        let current = ArcSwap::from_pointee(FlagdFlags::parse(file, &options)?);
        Ok(Self { options, current, writer: Mutex::new(()) })
    }

    /// Takes a newer file. Says which flags were added, removed or are simply there, by name:
    /// what to tell those who listen for changes.
    ///
    /// # Errors
    ///
    /// [`FlagdError`] for what is wrong first; the file in force stays in force.
    pub fn load(&self, file: &[u8]) -> Result<Vec<String>, FlagdError> {
        let next = FlagdFlags::parse(file, &self.options)?;
        let _one_at_a_time = self.writer.lock();
        let before = self.current.load();
        let mut names: Vec<String> =
            before.names().chain(next.names()).map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        drop(before);
        self.current.store(Arc::new(next));
        Ok(names)
    }

    /// The flags in force, to be asked and dropped.
    #[must_use]
    pub fn flags(&self) -> Arc<FlagdFlags> {
        self.current.load_full()
    }
}

impl fmt::Debug for FlagdSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlagdSet")
            .field("options", &self.options)
            .field("flags", &self.current.load().names().count())
            .finish_non_exhaustive()
    }
}
