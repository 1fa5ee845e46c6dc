//! Where a journal's bytes are kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::control::file_identity::{KnownFile, Likeness};
use crate::control::file_lock::FileLock;
use crate::control::room::Room;
use crate::control::stop_file::StopFile;
pub use crate::control::store_error::{Fenced, Held};

/// Keeps the bytes of one rollout's journal.
///
/// Called by a thread of the pilot's own, never by a request and never by two threads at once. It may
/// block; while it does, no rollback, order to stop or status is held up, and nothing goes up. A panic counts as an
/// error. After an error nothing gives a candidate more traffic until [`replace`](Self::replace)
/// has succeeded.
///
/// A journal has one writer. [`lock`](Self::lock) is called before anything is read, and every
/// writer's entries have a higher
/// [generation](crate::rollout::journal::Position::generation) than those it found. A store of your
/// own needs the first four methods; over something that several processes can reach, give it the
/// others too.
pub trait JournalStore: Send {
    /// Makes this store the only writer, until it is dropped or its process ends. Asked again, it
    /// succeeds again. What cannot be locked succeeds too; then [`append`](Self::append) and
    /// [`replace`](Self::replace) must notice a second writer ([`Fenced`]), or nothing does.
    ///
    /// # Errors
    ///
    /// [`Held`], of the kind [`WouldBlock`](io::ErrorKind::WouldBlock), when there is another
    /// writer. Any other when it cannot be known now.
    fn lock(&mut self) -> io::Result<()> {
        Ok(())
    }

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
    /// When they may not be there. Part of them may be. [`Fenced`] when another process wrote since
    /// this one did; from then on this store writes nothing but [`note_stop`](Self::note_stop).
    fn append(&mut self, bytes: &[u8], durability: Durability) -> io::Result<()>;

    /// Puts these bytes in the place of all others, wholly or not at all, surviving a crash of the
    /// machine.
    ///
    /// # Errors
    ///
    /// When the old bytes are still the ones that count; [`Fenced`] when they are another process's,
    /// or were in the way of these.
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
    /// fewer bytes would have been kept; [`Fenced`] where the journal is another process's. A store that takes no room says so, which is what happens
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

    /// Leaves a note beside the journal, for whoever holds it: how a process that is [`Fenced`] or
    /// locked out passes on that a rollout was stopped. It adds to what was left before, may be
    /// called by any number of processes at once, and must survive a crash of the machine. The bytes
    /// are [`Stops::encode`](crate::rollout::journal_stops::Stops::encode)'s.
    ///
    /// # Errors
    ///
    /// When it may not be there. A store without such a place says so, which is what happens unless
    /// written otherwise; people are told then.
    fn note_stop(&mut self, note: &[u8]) -> io::Result<()> {
        let _ = note;
        Err(io::Error::new(io::ErrorKind::Unsupported, "this store has no place for a note"))
    }

    /// What others left with [`note_stop`](Self::note_stop) and was not cleared, notes apart or
    /// joined. The writer asks before it writes anything that gives a candidate more traffic, so it
    /// is cheap where there is nothing.
    ///
    /// # Errors
    ///
    /// When it cannot be known now: nothing gives a candidate more traffic then.
    fn stops(&mut self) -> io::Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    /// What [`stops`](Self::stops) gave last is in the journal by now and may go. What was left since
    /// stays.
    ///
    /// # Errors
    ///
    /// When it is still there. It is then given again.
    fn clear_stops(&mut self) -> io::Result<()> {
        Ok(())
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
/// `<path>.damaged.1` and so on after a recovery.
///
/// One file has one writer: `<path>.lock` is locked until this is dropped or the process ends, and
/// says who holds it. Where the file system has no locks, as over some networks, each writing looks
/// before and after whether the path still stands for the file that was written last. The process
/// that opened the journal last wins; the other one notices at its next writing and writes nothing
/// any more. `<path>.stop` is for what it must not forget.
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
    lock: Option<FileLock>,
    known: Known,
    /// Whether the journal can be added to: it was begun here, and nothing failed since.
    open: bool,
    fenced: Option<Fenced>,
    stops: StopFile,
    /// What others wrote to a journal as it was replaced, while it could not be noted.
    late: Vec<u8>,
}

/// What the path stood for when it was looked at last.
#[derive(Debug)]
enum Known {
    /// Nobody looked.
    Unread,
    Nothing,
    /// A file that was there.
    Theirs(KnownFile),
    /// A file that was written here.
    Ours(KnownFile),
}

/// The largest file that is read, in bytes.
pub const MOST_BYTES: u64 = 256 << 20;

impl JournalFile {
    /// The journal at this path. Nothing is opened or made before it is needed; its folder must be
    /// there.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let stops = StopFile::new(beside(&path, ".stop"), beside(&path, ".stop.done"));
        let (lock, known, open, fenced, late) = (None, Known::Unread, false, None, Vec::new());
        Self { path, lock, known, open, fenced, stops, late }
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
        beside(&self.path, ending)
    }

    /// Where the next journal is written before it takes its place. Without a lock there may be two
    /// who write one.
    fn new_path(&self) -> PathBuf {
        match self.lock {
            Some(_) => self.beside(".new"),
            None => self.beside(&format!(".new.{}-{:p}", std::process::id(), self)),
        }
    }

    fn check(&self) -> io::Result<()> {
        self.fenced.clone().map_or(Ok(()), |fenced| Err(fenced.into_error()))
    }

    /// This store writes nothing from now on.
    fn fence(&mut self, what: &str) -> io::Error {
        let fenced = Fenced::because(what);
        self.open = false;
        self.fenced = Some(fenced.clone());
        fenced.into_error()
    }

    /// Looks whether the journal is the one that was written here last, and says whether there is
    /// one.
    fn check_ours(&mut self) -> io::Result<bool> {
        self.check()?;
        let Known::Ours(known) = &self.known else { return Ok(true) };
        match known.compare(&self.path)? {
            Likeness::Same => Ok(true),
            Likeness::Gone => Ok(false),
            Likeness::Grown => Err(self.fence("bytes were added to it")),
            Likeness::Other => Err(self.fence("it was replaced")),
        }
    }

    /// Puts the new journal where nothing must be, or says who was quicker.
    fn begin_at(&mut self, new: &Path) -> io::Result<()> {
        if !matches!(self.known, Known::Ours(_)) {
            // Whatever lies beside it belongs to a journal that is gone.
            self.room().clear()?;
            let done = self.beside(".stop.done");
            self.stops.set_aside(&done)?;
        }
        match fs::hard_link(new, &self.path) {
            Ok(()) => fs::remove_file(new),
            Err(_) if self.path.exists() => {
                let _ = fs::remove_file(new);
                Err(self.fence("another one was begun"))
            }
            // A file system without second names.
            Err(_) => fs::rename(new, &self.path),
        }
    }

    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // Elsewhere than on Unix a folder cannot be opened, and a rename is durable by itself.
        if cfg!(unix) { File::open(folder.unwrap_or(Path::new(".")))?.sync_all() } else { Ok(()) }
    }
}

impl JournalStore for JournalFile {
    fn lock(&mut self) -> io::Result<()> {
        if self.lock.is_none() {
            self.lock = FileLock::acquire(&self.beside(".lock"))?;
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let ours = matches!(self.known, Known::Ours(_));
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !ours {
                    self.known = Known::Nothing;
                }
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        (&file).take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(io::Error::other("it is larger than any journal; is the path right?"));
        }
        if !ours {
            self.known = Known::Theirs(KnownFile::new(file, &bytes)?);
        }
        Ok(Some(bytes))
    }

    fn append(&mut self, bytes: &[u8], durability: Durability) -> io::Result<()> {
        self.check()?;
        if !self.open {
            return Err(io::Error::other("the journal was not begun"));
        }
        // Until all of it is done.
        self.open = false;
        if !self.check_ours()? {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the journal is gone"));
        }
        let Known::Ours(known) = &mut self.known else {
            return Err(io::Error::other("the journal was not begun"));
        };
        let file = known.file();
        let done = file.write_all(bytes).and_then(|()| match durability {
            Durability::Written => Ok(()),
            Durability::Synced => file.sync_data(),
        });
        if let Err(error) = done {
            // What was written of it is cut off again; if not, it is a torn end.
            known.failed(bytes.len());
            return Err(error);
        }
        known.wrote(bytes);
        // Whoever took it over in between may not have seen these bytes.
        if !self.check_ours()? {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the journal is gone"));
        }
        self.open = true;
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open = false;
        let there = match &self.known {
            Known::Ours(_) => self.check_ours()?,
            Known::Unread => {
                self.check()?;
                self.path.exists()
            }
            Known::Nothing => {
                self.check()?;
                false
            }
            Known::Theirs(known) => {
                let likeness = known.compare(&self.path)?;
                self.check()?;
                match likeness {
                    // What was added since it was read is noted below.
                    Likeness::Same | Likeness::Grown => true,
                    Likeness::Gone => false,
                    Likeness::Other => return Err(self.fence("it was replaced after it was read")),
                }
            }
        };
        let new = self.new_path();
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().create_new(true).read(true).append(true).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.room().reserve(bytes.len())?;
        if there {
            let old = self.beside(".old");
            match fs::remove_file(&old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // A second name for the old bytes, where there are such; the journal's own name never
            // stands for nothing.
            fs::hard_link(&self.path, &old).or_else(|_| fs::copy(&self.path, &old).map(drop))?;
            fs::rename(&new, &self.path)?;
        } else {
            self.begin_at(&new)?;
        }
        let before = std::mem::replace(&mut self.known, Known::Ours(KnownFile::new(file, bytes)?));
        // What another process wrote after it was read, and may have acknowledged, is not lost: it
        // is a note. What it writes from now on it will notice itself.
        if let Known::Ours(mut old) | Known::Theirs(mut old) = before {
            self.late.extend(old.later()?);
        }
        self.sync_folder()?;
        if !self.late.is_empty() {
            self.stops.note(&self.late)?;
            self.sync_folder()?;
            self.late.clear();
        }
        if !self.check_ours()? {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the journal is gone"));
        }
        self.open = true;
        // If this fails, its number still says that it is older than what was written now.
        let _ = self.room().clear();
        Ok(())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        self.check_ours()?;
        if let Known::Theirs(known) = &self.known {
            let likeness = known.compare(&self.path)?;
            if matches!(likeness, Likeness::Grown | Likeness::Other) {
                return Err(self.fence("it went on after it was read"));
            }
        }
        self.open = false;
        for number in 1..=MOST_ASIDE {
            let place = self.beside(&format!(".{number}"));
            // `hard_link` refuses a name that is taken, where `rename` would take it.
            match fs::hard_link(&self.path, &place) {
                Ok(()) => {
                    self.room().set_aside(&self.beside(&format!(".{number}.room")))?;
                    let stops = self.beside(&format!(".{number}.stop"));
                    self.stops.set_aside(&stops)?;
                    fs::remove_file(&self.path)?;
                    self.known = Known::Nothing;
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
        // The room is the journal's: what a later writer keeps there is not overwritten.
        self.check_ours()?;
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

    fn note_stop(&mut self, note: &[u8]) -> io::Result<()> {
        if self.stops.note(note)? { self.sync_folder() } else { Ok(()) }
    }

    fn stops(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let late = Some(&self.late).filter(|late| !late.is_empty()).cloned();
        Ok(self.stops.read()?.into_iter().chain(late).collect())
    }

    fn clear_stops(&mut self) -> io::Result<()> {
        self.check_ours()?;
        self.late.clear();
        self.stops.clear()
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(ending);
    name.into()
}

const MOST_ASIDE: u32 = 10_000;
