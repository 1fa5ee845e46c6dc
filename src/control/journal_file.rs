//! Where a journal's bytes are kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

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
/// `<path>.old` remains until the next time. Whoever else writes to the file while it is open is
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
        if self.path.exists() {
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
        Ok(())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        self.open = None;
        for number in 1..=MOST_ASIDE {
            let place = self.beside(&format!(".{number}"));
            // `hard_link` refuses a name that is taken, where `rename` would take it.
            match fs::hard_link(&self.path, &place) {
                Ok(()) => {
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
}

const MOST_ASIDE: u32 = 10_000;
