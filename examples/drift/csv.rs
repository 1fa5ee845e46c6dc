//! Comma-separated values, read strictly: what does not fit is reported by its line and counted.

use std::fmt;
use std::path::Path;

/// A table in memory: names of columns, and rows with the line each began on.
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
    pub bad: Vec<BadRow>,
    pub bad_count: usize,
}

pub struct Row {
    pub fields: Vec<String>,
}

/// A row that was left out.
pub struct BadRow {
    pub line: usize,
    pub why: String,
}

/// How many bad rows are kept to be shown.
const SHOWN: usize = 5;

#[derive(Debug)]
pub enum CsvError {
    Read(std::io::Error),
    NoHeader,
    EmptyName { column: usize },
    SameName { name: String },
    OpenQuote { line: usize },
}

impl std::error::Error for CsvError {}

impl fmt::Display for CsvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "cannot be read: {error}"),
            Self::NoHeader => f.write_str("is empty; its first line must name the columns"),
            Self::EmptyName { column } => {
                write!(f, "column {column} has no name in the first line")
            }
            Self::OpenQuote { line } => write!(
                f,
                "has a quote in the record that begins on line {line} which is never closed; whatever \
                 follows it is part of that field, so no row after it can be told"
            ),
            Self::SameName { name } => write!(f, "two columns are named {name:?}; rename one"),
        }
    }
}

impl Table {
    pub fn read(path: &Path) -> Result<Self, CsvError> {
        Self::parse(&std::fs::read(path).map_err(CsvError::Read)?)
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, CsvError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut records = Records { bytes, at: 0, line: 1 };
        let header = records.next().ok_or(CsvError::NoHeader)?;
        let columns: Vec<String> = header
            .fields
            .map_err(|wrong| match wrong {
                OPEN => CsvError::OpenQuote { line: header.line },
                _ => CsvError::NoHeader,
            })?
            .iter()
            .map(|name| name.trim().to_owned())
            .collect();
        for (at, name) in columns.iter().enumerate() {
            if name.is_empty() {
                return Err(CsvError::EmptyName { column: at + 1 });
            }
            if columns[..at].contains(name) {
                return Err(CsvError::SameName { name: name.clone() });
            }
        }
        let mut table = Self { columns, rows: Vec::new(), bad: Vec::new(), bad_count: 0 };
        for record in records {
            match record.fields {
                Ok(fields) if fields.len() == table.columns.len() => {
                    table.rows.push(Row { fields })
                }
                Ok(fields) => {
                    let (found, expected) = (fields.len(), table.columns.len());
                    table.refuse(record.line, format!("{found} fields, not {expected}"));
                }
                // Not one bad row: it has swallowed all that followed.
                Err(OPEN) => return Err(CsvError::OpenQuote { line: record.line }),
                Err(why) => table.refuse(record.line, why.to_owned()),
            }
        }
        Ok(table)
    }

    fn refuse(&mut self, line: usize, why: String) {
        self.bad_count += 1;
        if self.bad.len() < SHOWN {
            self.bad.push(BadRow { line, why });
        }
    }
}

/// Whether a field says that there is no value.
pub fn is_missing(field: &str) -> bool {
    matches!(
        field.trim(),
        "" | "?" | "NA" | "N/A" | "na" | "n/a" | "NaN" | "nan" | "null" | "NULL" | "None" | "none"
    )
}

const OPEN: &str = "a quoted field without an end";

struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
}

struct Record {
    line: usize,
    fields: Result<Vec<String>, &'static str>,
}

impl Iterator for Records<'_> {
    type Item = Record;

    /// One record by RFC 4180: quoted fields may hold commas, line ends, and quotes twice.
    fn next(&mut self) -> Option<Record> {
        // Empty lines are no rows.
        while matches!(self.bytes.get(self.at), Some(b'\n' | b'\r')) {
            self.line += usize::from(self.bytes[self.at] == b'\n');
            self.at += 1;
        }
        if self.at >= self.bytes.len() {
            return None;
        }
        let line = self.line;
        let (mut fields, mut field, mut wrong) = (Vec::new(), Vec::new(), None);
        let (mut quoted, mut closed) = (false, false);
        loop {
            let byte = self.bytes.get(self.at).copied();
            self.at += 1;
            match byte {
                Some(b'"') if quoted => {
                    if self.bytes.get(self.at) == Some(&b'"') {
                        field.push(b'"');
                        self.at += 1;
                    } else {
                        (quoted, closed) = (false, true);
                    }
                }
                Some(b'"') if field.is_empty() && !closed => quoted = true,
                Some(b'"') => wrong = wrong.or(Some("a quote inside a field that is not quoted")),
                Some(b',') if !quoted => {
                    fields.push(std::mem::take(&mut field));
                    closed = false;
                }
                Some(b'\n') if !quoted => {
                    self.line += 1;
                    break;
                }
                Some(b'\r') if !quoted && self.bytes.get(self.at) == Some(&b'\n') => {}
                None => {
                    if quoted {
                        wrong = Some(OPEN);
                    }
                    break;
                }
                Some(byte) => {
                    self.line += usize::from(byte == b'\n');
                    if closed {
                        wrong = wrong.or(Some("text after the end of a quoted field"));
                    }
                    field.push(byte);
                }
            }
        }
        fields.push(field);
        let fields = match wrong {
            Some(why) => Err(why),
            None => fields
                .into_iter()
                .map(|field| String::from_utf8(field).map_err(|_| "bytes that are not UTF-8"))
                .collect(),
        };
        Some(Record { line, fields })
    }
}
