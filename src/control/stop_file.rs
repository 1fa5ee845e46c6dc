//! What processes that may not write in a journal leave beside it.
//!
//! Many may add to it and one takes from it, and there may be no lock. So it is taken by renaming it,
//! and both sides look once more after what they did: who adds, whether its bytes are still under the
//! name; who takes, whether bytes came after those it had read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use crate::control::file_identity::{KnownFile, Likeness};

/// The file, and how much of it was read.
#[derive(Debug)]
pub(crate) struct StopFile {
    path: PathBuf,
    /// Where it goes once it was dealt with.
    done: PathBuf,
    read: Option<KnownFile>,
}

impl StopFile {
    pub(crate) const fn new(path: PathBuf, done: PathBuf) -> Self {
        Self { path, done, read: None }
    }

    /// Adds a note, surviving a crash of the machine. Says whether the file was made for it, so that
    /// its folder has to be synced.
    pub(crate) fn note(&self, note: &[u8]) -> io::Result<bool> {
        for _ in 0..MOST_TRIES {
            let made = !self.path.exists();
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            file.write_all(note)?;
            // Only whether it is the same file is asked: others may have added to it. If it is, who
            // takes it from now on finds the note in it.
            let mut known = KnownFile::new(file, &[])?;
            if matches!(known.compare(&self.path)?, Likeness::Same | Likeness::Grown) {
                known.file().sync_all()?;
                return Ok(made);
            }
        }
        Err(io::Error::other("what stops a rollout is taken away as fast as it is left"))
    }

    /// All notes, joined; `None` where there are none.
    pub(crate) fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        (&file).take(MOST_BYTES).read_to_end(&mut bytes)?;
        self.read = Some(KnownFile::new(file, &bytes)?);
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    /// What was read is dealt with; what came after it stays.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        let Some(mut read) = self.read.take() else { return Ok(()) };
        if read.compare(&self.path)? == Likeness::Other {
            return Ok(()); // another file, which nobody here has read
        }
        match fs::rename(&self.path, &self.done) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        let later = read.later()?;
        if later.is_empty() { Ok(()) } else { self.note(&later).map(drop) }
    }

    /// Gives it up; what is in it goes to `place`.
    pub(crate) fn set_aside(&mut self, place: &PathBuf) -> io::Result<()> {
        self.read = None;
        match fs::rename(&self.path, place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

const MOST_TRIES: u32 = 64;
const MOST_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_note_is_lost_that_is_left_while_others_are_taken() {
        let folder = std::env::temp_dir().join(format!("pilotage-stops-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let file = || StopFile::new(folder.join("stop"), folder.join("done"));
        let mut taken = Vec::new();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|writer| {
                    let notes = file();
                    scope.spawn(move || {
                        for number in 0..150 {
                            notes.note(format!("{writer}:{number};").as_bytes()).unwrap();
                        }
                    })
                })
                .collect();
            let mut notes = file();
            loop {
                let over = writers.iter().all(|writer| writer.is_finished());
                match notes.read().unwrap() {
                    Some(bytes) => taken.extend(bytes),
                    None if over => break,
                    None => {}
                }
                notes.clear().unwrap();
            }
        });
        let taken = String::from_utf8(taken).unwrap();
        for note in
            (0..3).flat_map(|writer| (0..150).map(move |number| format!("{writer}:{number};")))
        {
            assert!(taken.contains(&note), "{note}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
