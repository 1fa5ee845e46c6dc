//! Whether a file is still the one that was seen.
//!
//! The last fence, where a file system has no locks: a file's identity, its length, and its last
//! bytes, which end in the checksum of a frame with the writer's generation in it. The file is kept
//! open, so that the system gives its number to no other; and it is looked at by opening its path
//! anew, since over a network only that asks the server.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// A file as it was seen last.
#[derive(Debug)]
pub(crate) struct KnownFile {
    file: File,
    id: Identity,
    len: u64,
    tail: Vec<u8>,
    /// So many bytes behind `len` may be ours: they were written, and the writing failed.
    unsure: u64,
}

/// What a path stands for now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Likeness {
    /// The file, as it was seen.
    Same,
    /// The file, and bytes behind those that were seen.
    Grown,
    /// Another file, or other bytes.
    Other,
    /// Nothing.
    Gone,
}

impl KnownFile {
    /// `file`, which holds `bytes`.
    pub(crate) fn new(file: File, bytes: &[u8]) -> io::Result<Self> {
        let id = identity(&file.metadata()?);
        let mut this = Self { file, id, len: 0, tail: Vec::new(), unsure: 0 };
        this.wrote(bytes);
        Ok(this)
    }

    pub(crate) const fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// These bytes are behind the others now.
    pub(crate) fn wrote(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.unsure = 0;
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
    }

    /// Cuts off what was written of so many bytes, where that is possible.
    pub(crate) fn failed(&mut self, bytes: usize) {
        self.unsure = if self.file.set_len(self.len).is_ok() { 0 } else { bytes as u64 };
    }

    pub(crate) fn compare(&self, path: &Path) -> io::Result<Likeness> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Likeness::Gone),
            Err(error) => return Err(error),
        };
        let found = file.metadata()?;
        if identity(&found) != self.id || found.len() < self.len {
            return Ok(Likeness::Other);
        }
        let mut tail = vec![0; self.tail.len()];
        file.seek(SeekFrom::Start(self.len - tail.len() as u64))?;
        file.read_exact(&mut tail)?;
        Ok(if tail != self.tail {
            Likeness::Other
        } else if found.len() <= self.len + self.unsure {
            Likeness::Same
        } else {
            Likeness::Grown
        })
    }

    /// What is behind the bytes that were seen, also where the path stands for another file by now.
    pub(crate) fn later(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.len))?;
        self.file.read_to_end(&mut bytes)?;
        if bytes.len() as u64 <= self.unsure {
            bytes.clear();
        }
        Ok(bytes)
    }
}

#[cfg(unix)]
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(file: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino())
}

/// Elsewhere than on Unix the last bytes must do.
#[cfg(not(unix))]
type Identity = ();

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {}

/// How many of the last bytes are compared: a frame's checksum and some of its payload.
const TAIL: usize = 32;

#[cfg(test)]
mod tests {
    use std::fs::{OpenOptions, read, write};
    use std::io::Write;

    use super::*;

    #[test]
    fn what_a_failed_writing_left_is_cut_off_or_taken_for_ours() {
        let path = std::env::temp_dir().join(format!("pilotage-known-{}", std::process::id()));
        write(&path, b"one two").unwrap();
        let file = OpenOptions::new().read(true).append(true).open(&path).unwrap();
        let mut known = KnownFile::new(file, b"one ").unwrap();
        assert_eq!(known.compare(&path).unwrap(), Likeness::Grown);
        known.failed(3);
        assert_eq!(known.compare(&path).unwrap(), Likeness::Same);
        assert_eq!(read(&path).unwrap(), b"one ");

        // Where it cannot be cut off, as much as was to be written may be there.
        let mut known = KnownFile::new(File::open(&path).unwrap(), b"one ").unwrap();
        known.failed(3);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        for (bytes, likeness, later) in
            [(&b"two"[..], Likeness::Same, &b""[..]), (b"!", Likeness::Grown, b"two!")]
        {
            file.write_all(bytes).unwrap();
            assert_eq!(known.compare(&path).unwrap(), likeness);
            assert_eq!(known.later().unwrap(), later);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(known.compare(&path).unwrap(), Likeness::Gone);
    }
}
