//! Labelled samples: a file of bytes and an index that says where each sample lies.
//!
//! A pack is believed only after every row was held against the bytes, because a replay of the
//! wrong bytes looks exactly like a bad model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use sha2::{Digest, Sha256};

use crate::features::strip;

/// One labelled input.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sample {
    /// Its number in the index.
    pub id: u64,
    /// What it truly is.
    pub label: String,
    /// The package it was taken from: samples of one package are alike.
    pub package: String,
    /// What a user would send.
    pub content: Vec<u8>,
}

/// A pack that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file of the pack cannot be read.
    #[error("{path}: {cause}; --samples names a directory with index.csv and samples.pack",
        path = .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The index disagrees with itself or with the bytes.
    #[error("{path}, line {line}: {fault}", path = .path.display())]
    Row {
        /// The index.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong, with the value.
        fault: String,
    },
    /// The pack holds bytes that no row speaks of.
    #[error("{path} has {size} bytes, but the rows of index.csv end at byte {end}",
        path = .path.display())]
    Leftover {
        /// The pack.
        path: PathBuf,
        /// Its size, in bytes.
        size: usize,
        /// Where the last row ends.
        end: usize,
    },
}

/// Reads the pack in `directory` and holds every row against the bytes.
///
/// # Errors
///
/// [`PackError`], with the file, the line and the value at fault.
pub fn read(directory: &Path) -> Result<Vec<Sample>, PackError> {
    let index_path = directory.join("index.csv");
    let pack_path = directory.join("samples.pack");
    let unreadable = |path: &Path, cause| PackError::Unreadable { path: path.to_owned(), cause };
    let index = fs::read_to_string(&index_path).map_err(|cause| unreadable(&index_path, cause))?;
    let bytes = fs::read(&pack_path).map_err(|cause| unreadable(&pack_path, cause))?;

    let fault =
        |line: usize, fault: String| PackError::Row { path: index_path.clone(), line, fault };
    let mut lines = (1..).zip(index.lines());
    match lines.next() {
        Some((_, HEADER)) => {}
        Some((line, other)) => {
            return Err(fault(line, format!("the header is `{other}`, expected `{HEADER}`")));
        }
        None => return Err(fault(1, format!("the file is empty, expected `{HEADER}`"))),
    }
    let mut samples = Vec::new();
    let mut seen = Seen::default();
    let mut end = 0;
    for (line, row) in lines {
        let sample = sample(row, &bytes, &mut end)
            .and_then(|(sample, hash)| seen.check(line, &sample, hash).map(|()| sample))
            .map_err(|what| fault(line, what))?;
        samples.push(sample);
    }
    if samples.is_empty() {
        return Err(fault(2, "no samples follow the header".to_owned()));
    }
    if end != bytes.len() {
        return Err(PackError::Leftover { path: pack_path, size: bytes.len(), end });
    }
    Ok(samples)
}

/// The sample of one row, and the hash it states. `end` is where the row before it ended.
fn sample(row: &str, bytes: &[u8], end: &mut usize) -> Result<(Sample, String), String> {
    if row.contains('"') {
        return Err("quoted fields are not understood; no field may hold a comma".to_owned());
    }
    let fields: Vec<&str> = row.split(',').collect();
    let [id, label, offset, len, registry, package, .., hash] = fields[..] else {
        return Err(format!("{} fields, expected {FIELDS}", fields.len()));
    };
    if fields.len() != FIELDS {
        return Err(format!("{} fields, expected {FIELDS}", fields.len()));
    }
    let number = |name: &str, text: &str| {
        text.parse::<usize>().map_err(|_| format!("{name} `{text}` is not a whole number"))
    };
    let (offset, len) = (number("offset", offset)?, number("len", len)?);
    if label.is_empty() {
        return Err("the label is empty".to_owned());
    }
    if len == 0 {
        return Err("len is 0: an empty sample proves nothing".to_owned());
    }
    if offset != *end {
        return Err(format!("offset {offset}, but the row before ends at {end}"));
    }
    let content = offset
        .checked_add(len)
        .and_then(|past| bytes.get(offset..past))
        .ok_or_else(|| format!("{len} bytes from {offset}, but the pack has {}", bytes.len()))?;
    *end = offset + len;
    let found = hex(&Sha256::digest(strip(content)));
    if found != hash {
        return Err(format!("sha256 is {found}, but the row says `{hash}`"));
    }
    let id = number("id", id)? as u64;
    let package = format!("{registry}/{package}");
    Ok((Sample { id, label: label.to_owned(), package, content: content.to_vec() }, found))
}

/// The rows already read, by what must not occur twice.
#[derive(Default)]
struct Seen {
    ids: HashMap<u64, usize>,
    hashes: HashMap<String, usize>,
}

impl Seen {
    fn check(&mut self, line: usize, sample: &Sample, hash: String) -> Result<(), String> {
        if let Some(before) = self.ids.insert(sample.id, line) {
            return Err(format!("id {} stands on line {before} already", sample.id));
        }
        match self.hashes.insert(hash, line) {
            Some(before) => Err(format!("the same content stands on line {before} already")),
            None => Ok(()),
        }
    }
}

/// Bytes as lower case hexadecimal text.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a string cannot fail
        text
    })
}

const HEADER: &str = "id,label,offset,len,registry,package,version,licence,path,sha256_of_stripped";
const FIELDS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    struct Pack {
        directory: PathBuf,
    }

    impl Pack {
        fn new(name: &str, rows: &[String], bytes: &[u8]) -> Self {
            let name = format!("pilotage-pack-{}-{name}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            fs::create_dir_all(&directory).unwrap();
            let index = format!("{HEADER}\n{}\n", rows.join("\n"));
            fs::write(directory.join("index.csv"), index).unwrap();
            fs::write(directory.join("samples.pack"), bytes).unwrap();
            Self { directory }
        }

        fn error(&self) -> String {
            read(&self.directory).unwrap_err().to_string()
        }
    }

    impl Drop for Pack {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }

    fn row(id: u64, offset: usize, content: &[u8]) -> String {
        let hash = hex(&Sha256::digest(strip(content)));
        format!("{id},txt,{offset},{},r,p,1,MIT,f.txt,{hash}", content.len())
    }

    #[test]
    fn a_pack_gives_its_samples_in_order() {
        let pack = Pack::new("whole", &[row(7, 0, b"one "), row(8, 4, b"two")], b"one two");
        let samples = read(&pack.directory).unwrap();
        let contents: Vec<&[u8]> = samples.iter().map(|sample| &sample.content[..]).collect();
        assert_eq!(contents, [&b"one "[..], b"two"]);
    }

    #[test]
    fn a_changed_byte_is_found() {
        let error = Pack::new("changed", &[row(0, 0, b"one")], b"onf").error();
        assert!(error.contains("line 2: sha256 is"), "{error}");
    }

    #[test]
    fn a_row_past_the_end_is_refused() {
        let error = Pack::new("past", &[row(0, 0, b"one")], b"on").error();
        assert!(error.contains("line 2: 3 bytes from 0, but the pack has 2"), "{error}");
    }

    #[test]
    fn rows_that_overlap_or_leave_a_gap_are_refused() {
        let error = Pack::new("gap", &[row(0, 0, b"one"), row(1, 4, b"two")], b"one.two").error();
        assert!(error.contains("line 3: offset 4, but the row before ends at 3"), "{error}");
    }

    #[test]
    fn bytes_that_no_row_speaks_of_are_refused() {
        let error = Pack::new("left", &[row(0, 0, b"one")], b"one more").error();
        assert!(error.contains("8 bytes, but the rows of index.csv end at byte 3"), "{error}");
    }

    #[test]
    fn an_id_or_a_content_counts_once() {
        let rows = [row(0, 0, b"one"), row(0, 3, b"two")];
        let error = Pack::new("ids", &rows, b"onetwo").error();
        assert!(error.contains("line 3: id 0 stands on line 2 already"), "{error}");
        let rows = [row(0, 0, b"one"), row(1, 3, b"one")];
        let error = Pack::new("twins", &rows, b"oneone").error();
        assert!(error.contains("line 3: the same content stands on line 2"), "{error}");
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let huge = row(0, 0, b"one").replace(",0,3,", ",0,18446744073709551615,");
        let error = Pack::new("huge", &[huge], b"one").error();
        assert!(error.contains("18446744073709551615 bytes from 0"), "{error}");
        let minus = row(0, 0, b"one").replace(",0,3,", ",-1,3,");
        let error = Pack::new("minus", &[minus], b"one").error();
        assert!(error.contains("offset `-1` is not a whole number"), "{error}");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = read(Path::new("no/such/directory")).unwrap_err().to_string();
        assert!(error.contains("no/such/directory") && error.contains("--samples"), "{error}");
    }
}
