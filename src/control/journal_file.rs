//! Where a journal's bytes are kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::control::room::Room;

/// Keeps the bytes of one rollout's journal.
///
/// Called by a pilot's tick and by whoever gives an order, never by a request and never by two
/// threads at once. It may block; while it does, a rollback is not held up. A panic counts as an
/// error. After an error nothing gives a candidate more traffic until [`replace`](Self::replace)
/// has succeeded.
pub trait JournalStore: Send {
    /// All bytes; `None` when nothing was ever kept.
    ///
    /// # Errors
    ///
    /// When they cannot be read now.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>>;

    /// Adds bytes behind those that are there. They must survive a crash of the process when this
    /// returns; with [`Durability::Synced`] a crash of the machine too.
    ///
    /// # Errors
    ///
    /// When they may not be there. Part of them may be.
    fn append(&mut self, bytes: &[u8], durability: Durability) -> io::Result<()>;

    /// Puts these bytes in the place of all others, wholly or not at all, surviving a crash of the
    /// machine.
    ///
    /// # Errors
    ///
    /// When the old bytes are still the ones that count.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Keeps the bytes elsewhere, unaltered, so that another journal can begin.
    ///
    /// # Errors
    ///
    /// When they stay where they are.
    fn set_aside(&mut self) -> io::Result<()>;

    /// Keeps bytes in room that was taken for them with the last [`replace`](Self::replace), so that
    /// it succeeds where [`append`](Self::append) fails for want of space. They take the place of
    /// what was kept before, and must survive a crash of the machine. A rollback that cannot be
    /// written into the journal is written here, or nowhere.
    ///
    /// A `replace` that succeeds afterwards makes what is kept obsolete; it may stay or go.
    ///
    /// # Errors
    ///
    /// When they may not be there; of the kind [`StorageFull`](io::ErrorKind::StorageFull) where
    /// fewer bytes would have been kept. A store that takes no room says so, which is what happens
    /// unless written otherwise: a rollback in its outage is then lost to a crash, and people are
    /// told.
    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        let _ = bytes;
        Err(io::Error::new(io::ErrorKind::Unsupported, "this store reserves no room"))
    }

    /// What [`keep`](Self::keep) kept last; `None` when that is nothing. Bytes that were damaged are
    /// given as they are: that something was kept counts, even where it cannot be read.
    ///
    /// # Errors
    ///
    /// When it cannot be read now.
    fn kept(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Copies the bytes of a damaged journal to a place of their own, where nothing overwrites them,
    /// surviving a crash of the machine; and says where, for people. Nothing is cut off a journal
    /// before this has succeeded.
    ///
    /// # Errors
    ///
    /// When the copy may not be there; a store that has no such place says so, which is what happens
    /// unless written otherwise, and a damaged journal is not recovered then.
    fn keep_damaged(&mut self, bytes: &[u8]) -> io::Result<String> {
        let _ = bytes;
        Err(io::Error::new(io::ErrorKind::Unsupported, "this store has no place for a copy"))
    }
}

/// What bytes must survive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// The end of the process.
    Written,
    /// The end of the machine.
    Synced,
}

/// A journal in a file.
///
/// It is replaced by writing `<path>.new`, syncing it, and renaming it over the old one, of which
/// `<path>.old` remains until the next time. Beside it lies `<path>.room`, a quarter of a megabyte
/// or more that is taken when the journal begins, so that a rollback can be kept on a full disk; and
/// `<path>.damaged.1` and so on after a recovery. Whoever else writes to the file while it is open is
/// noticed and refused; one file belongs to one process.
///
/// ```
/// use pilotage::control::journal_file::{Durability, JournalFile, JournalStore};
///
/// let folder = std::env::temp_dir().join(format!("journal-doc-{}", std::process::id()));
/// std::fs::create_dir_all(&folder)?;
/// let mut file = JournalFile::new(folder.join("rollout.journal"));
/// assert_eq!(file.read()?, None);
/// file.replace(b"begin")?;
/// file.append(b" and go on", Durability::Synced)?;
/// assert_eq!(file.read()?.unwrap(), b"begin and go on");
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    open: Option<(File, u64)>,
}

/// The largest file that is read, in bytes.
pub const MOST_BYTES: u64 = 256 << 20;

impl JournalFile {
    /// The journal at this path. Nothing is opened or made before it is needed; its folder must be
    /// there.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), open: None }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn room(&self) -> Room {
        Room::new(self.beside(".room"))
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(ending);
        name.into()
    }

    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // Elsewhere than on Unix a folder cannot be opened, and a rename is durable by itself.
        if cfg!(unix) { File::open(folder.unwrap_or(Path::new(".")))?.sync_all() } else { Ok(()) }
    }
}

impl JournalStore for JournalFile {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(io::Error::other("it is larger than any journal; is the path right?"));
        }
        Ok(Some(bytes))
    }

    fn append(&mut self, bytes: &[u8], durability: Durability) -> io::Result<()> {
        let Some((file, len)) = &mut self.open else {
            return Err(io::Error::other("the journal was not begun"));
        };
        // By its path: another file under our name is another journal.
        let found = fs::metadata(&self.path)?.len();
        if found != *len {
            let (was, len) = (*len, found);
            self.open = None;
            return Err(io::Error::other(format!(
                "somebody else wrote to the journal: it had {was} bytes and has {len}"
            )));
        }
        let done = file.write_all(bytes).and_then(|()| match durability {
            Durability::Written => Ok(()),
            Durability::Synced => file.sync_data(),
        });
        match done {
            Ok(()) => *len += bytes.len() as u64,
            Err(_) => {
                // What was written of it is cut off again; if not, it is a torn end.
                let _ = file.set_len(*len);
                self.open = None;
            }
        }
        done
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open = None;
        let new = self.beside(".new");
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        let room = self.room();
        room.reserve(bytes.len())?;
        if !self.path.exists() {
            // Whatever is kept there belongs to a journal that is gone.
            room.clear()?;
        } else {
            let old = self.beside(".old");
            match fs::remove_file(&old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // A second name for the old bytes, where there are such; the journal's own name never
            // stands for nothing.
            fs::hard_link(&self.path, &old).or_else(|_| fs::copy(&self.path, &old).map(drop))?;
        }
        fs::rename(&new, &self.path)?;
        self.sync_folder()?;
        let file = OpenOptions::new().append(true).open(&self.path)?;
        self.open = Some((file, bytes.len() as u64));
        // If this fails, its number still says that it is older than what was written now.
        let _ = room.clear();
        Ok(())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        self.open = None;
        for number in 1..=MOST_ASIDE {
            let place = self.beside(&format!(".{number}"));
            // `hard_link` refuses a name that is taken, where `rename` would take it.
            match fs::hard_link(&self.path, &place) {
                Ok(()) => {
                    self.room().set_aside(&self.beside(&format!(".{number}.room")))?;
                    fs::remove_file(&self.path)?;
                    return self.sync_folder();
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("10000 journals were put aside here already; move some away"))
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.room().keep(bytes)
    }

    fn kept(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.room().kept()
    }

    fn keep_damaged(&mut self, bytes: &[u8]) -> io::Result<String> {
        for number in 1..=MOST_ASIDE {
            let place = self.beside(&format!(".damaged.{number}"));
            match OpenOptions::new().write(true).create_new(true).open(&place) {
                Ok(mut file) => {
                    file.write_all(bytes)?;
                    file.sync_all()?;
                    self.sync_folder()?;
                    return Ok(place.display().to_string());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("10000 damaged journals lie here already; move some away"))
    }
}

const MOST_ASIDE: u32 = 10_000;
