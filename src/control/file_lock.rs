//! A lock that says who holds it.
//!
//! An advisory lock of the operating system on a file of its own, which stays where it is: a lock
//! file that comes and goes can be held twice. The system releases it when its holder ends, in
//! whichever way.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use fs4::{FileExt, TryLockError};

use crate::clock::{SystemWallClock, WallClock};
use crate::control::store_error::Held;

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock; `None` where the file system has none.
    ///
    /// # Errors
    ///
    /// [`Held`] when somebody else has it; any other when it cannot be known.
    pub(crate) fn acquire(path: &Path) -> io::Result<Option<Self>> {
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        // By its trait: newer standard libraries have a method of this name.
        match FileExt::try_lock(&file) {
            Ok(()) => {
                // A name that cannot be written, on a full disk, locks as well.
                let _ = file.set_len(0).and_then(|()| file.write_all(holder().as_bytes()));
                Ok(Some(Self { file }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut name = String::new();
                // Not on Windows, where a lock keeps readers out too.
                let _ = file.take(MOST_NAME).read_to_string(&mut name);
                let name = name.trim();
                let unknown = "another process, which left no name";
                Err(Held::by(if name.is_empty() { unknown } else { name }).into_error())
            }
            Err(TryLockError::Error(error)) if has_no_locks(&error) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing it would do; a name that is gone misleads nobody.
        let _ = self.file.set_len(0);
        let _ = FileExt::unlock(&self.file);
    }
}

fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok());
    let on = host.map_or_else(String::new, |host| format!(" on {}", host.trim()));
    format!("process {}{on} since {}\n", std::process::id(), SystemWallClock.date())
}

/// Whether the file system knows no locks, or its server for locks cannot be reached.
fn has_no_locks(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || (cfg!(unix) && error.raw_os_error().is_some_and(|code| NO_LOCKS.contains(&code)))
}

/// `ENOLCK`, `EOPNOTSUPP`, `ENOTSUP` and `ENOSYS`.
const NO_LOCKS: &[i32] = if cfg!(any(target_os = "linux", target_os = "android")) {
    &[37, 95, 38]
} else {
    &[77, 45, 102, 78]
};

const MOST_NAME: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_locks_is_told_from_a_lock_that_is_held() {
        for code in NO_LOCKS {
            assert!(has_no_locks(&io::Error::from_raw_os_error(*code)), "{code}");
        }
        assert!(has_no_locks(&io::ErrorKind::Unsupported.into()));
        for other in [io::ErrorKind::WouldBlock, io::ErrorKind::PermissionDenied] {
            assert!(!has_no_locks(&other.into()));
        }
        let error = Held::by("ann").into_error();
        assert!(!has_no_locks(&error) && error.kind() == io::ErrorKind::WouldBlock);
        assert_eq!(Held::of(&error), Some(&Held::by("ann")));
        assert_eq!(Held::of(&io::ErrorKind::WouldBlock.into()), None);
    }
}
