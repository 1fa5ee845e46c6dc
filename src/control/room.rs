//! Room on a disk that is taken before it is needed.
//!
//! A disk that is full takes no new bytes, and it is then that a rollback may have to be remembered.
//! So a file of zeros lies beside the journal, as large as what may have to be kept; keeping
//! overwrites it in place, for which most file systems need no block more. (Those that never write
//! in place, such as Btrfs and ZFS, may need a few and hold some back for it.)
//!
//! It begins with a head of 16 bytes: `PLTROOM1` and the length of what is kept, or zeros where
//! nothing is. What follows is the journal's business.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

const MAGIC: [u8; 8] = *b"PLTROOM1";
const HEAD: usize = 16;
/// The least room that is taken, in bytes.
const LEAST: u64 = 256 << 10;
/// The most.
const MOST: u64 = 64 << 20;

/// Room that is taken already.
#[derive(Debug)]
pub(crate) struct Room {
    path: PathBuf,
}

impl Room {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Takes room for some times what a snapshot of this length needs, unless it is taken already.
    /// What is kept in it stays.
    pub(crate) fn reserve(&self, snapshot: usize) -> io::Result<()> {
        let wanted = (4 * snapshot as u64).clamp(LEAST, MOST);
        let mut file =
            OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
        let mut len = file.seek(SeekFrom::End(0))?;
        if len >= wanted {
            return Ok(());
        }
        // Written and not only declared: a hole in a file is no room.
        let zeros = [0; 64 << 10];
        while len < wanted {
            let part = zeros.len().min((wanted - len) as usize);
            file.write_all(&zeros[..part])?;
            len += part as u64;
        }
        file.sync_all()
    }

    /// Nothing is kept from now on.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match OpenOptions::new().write(true).open(&self.path) {
            Ok(mut file) => file.write_all(&[0; HEAD]).and_then(|()| file.sync_data()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Keeps these bytes instead of what was kept before.
    pub(crate) fn keep(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(&self.path)?;
        let (len, needed) = (file.metadata()?.len(), (HEAD + bytes.len()) as u64);
        if needed > len {
            let what = format!("{needed} bytes do not fit into the {len} that were reserved");
            return Err(io::Error::new(io::ErrorKind::StorageFull, what));
        }
        // The head last: until it is there, what was kept before is found damaged, and that counts.
        file.seek(SeekFrom::Start(HEAD as u64))?;
        file.write_all(bytes)?;
        file.sync_data()?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&MAGIC)?;
        file.write_all(&(bytes.len() as u64).to_le_bytes())?;
        file.sync_data()
    }

    /// What is kept. A head that nobody wrote gives the bytes as they are: they are no journal, and
    /// whoever reads them learns that something was kept.
    pub(crate) fn kept(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        let Some((head, body)) = bytes.split_at_checked(HEAD) else { return Ok(None) };
        if head.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let len = head[MAGIC.len()..].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        match body.get(..len) {
            Some(kept) if head[..MAGIC.len()] == MAGIC => Ok(Some(kept.to_vec())),
            _ => Ok(Some(head.to_vec())),
        }
    }

    /// Gives the room up; what is kept in it goes to `place`.
    pub(crate) fn set_aside(&self, place: &PathBuf) -> io::Result<()> {
        let done = match self.kept()? {
            Some(_) => fs::rename(&self.path, place),
            None => fs::remove_file(&self.path),
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
