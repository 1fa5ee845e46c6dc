//! Recorded traffic, read row by row.
//!
//! A trace is a CSV file (RFC 4180) whose header names the columns
//! `at_ms,subject,segment,baseline_outcome,baseline_latency_ms,baseline_score,candidate_outcome,candidate_latency_ms,candidate_score`,
//! in any order; other columns are ignored. Each row is one request with what each model would have
//! answered. It is read once from front to back, so a trace may be larger than memory; a row that
//! cannot be used is an error of its own, with its line, and the next row is read as if it had not
//! been there.
//!
//! A quoted field ends on its own line: a quotation mark that nobody closes costs its row and not
//! the rest of the file.

use std::cell::Cell;
use std::io::{self, BufRead, Read};

use crate::outcome::Status;

/// One request, and what each model answered.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Row<'a> {
    /// The line it stands on, from 1.
    pub line: u64,
    /// When it came, in nanoseconds of the trace's own clock.
    pub at: u64,
    /// Whose request it is; empty when nobody knows.
    pub subject: &'a str,
    /// The segment of the subject; empty for none.
    pub segment: &'a str,
    /// How the baseline answered.
    pub baseline: Answer,
    /// How the candidate answered.
    pub candidate: Answer,
}

/// How a model answered.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// Ok, error or timeout.
    pub status: Status,
    /// How long it took, in nanoseconds.
    pub nanos: u64,
    /// The score that was given with it.
    pub score: Option<f64>,
}

impl Answer {
    /// An answer of this status after so many nanoseconds.
    #[must_use]
    pub const fn new(status: Status, nanos: u64) -> Self {
        Self { status, nanos, score: None }
    }

    /// Whether it is no answer to be glad of.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.status != Status::Ok
    }
}

/// What ends the reading of a trace, or a row of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file could not be read.
    #[error("line {line}: {error}")]
    Io {
        /// The line that was being read.
        line: u64,
        /// Why not.
        error: io::Error,
    },
    /// A row that cannot be used. Reading goes on with the next.
    #[error("line {line}: {problem}")]
    Row {
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        problem: Problem,
    },
}

/// What is wrong with a row.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It has another number of columns than the header.
    #[error("{found} columns instead of {expected}")]
    Columns {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A number cannot be read, is not finite, is negative, or is too large.
    #[error("{column} is \"{value}\"; it must be {expected}")]
    Number {
        /// Where.
        column: &'static str,
        /// What was there.
        value: String,
        /// What can be.
        expected: &'static str,
    },
    /// An outcome nobody knows.
    #[error("{column} is \"{value}\"; it must be ok, error or timeout")]
    Outcome {
        /// Where.
        column: &'static str,
        /// What was there.
        value: String,
    },
    /// A row that came before the one above it.
    #[error("at_ms is {at}, before the {before} of an earlier row; sort the trace by at_ms")]
    OutOfOrder {
        /// When it says it came.
        at: String,
        /// When an earlier one came.
        before: String,
    },
    /// A quotation mark that is not closed, or stands inside a field that is not quoted.
    #[error("a quotation mark is out of place")]
    Quoting,
    /// Bytes that are not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// More bytes than any row has.
    #[error("it is longer than {LONGEST_LINE} bytes")]
    TooLong,
}

impl Problem {
    /// The word under which such rows are counted.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Columns { .. } => "columns",
            Self::Number { .. } => "number",
            Self::Outcome { .. } => "outcome",
            Self::OutOfOrder { .. } => "out_of_order",
            Self::Quoting => "quoting",
            Self::NotUtf8 => "not_utf8",
            Self::TooLong => "too_long",
        }
    }
}

/// A header that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is no line at all.
    #[error("the trace is empty; its first line must name the columns")]
    Empty,
    /// A column is missing.
    #[error("the first line names no column {column}; it must name {}", COLUMNS.join(","))]
    Missing {
        /// Which.
        column: &'static str,
    },
    /// A column stands twice.
    #[error("the first line names column {column} twice")]
    Twice {
        /// Which.
        column: &'static str,
    },
    /// The line cannot be read.
    #[error("the first line cannot be read: {problem}")]
    Unreadable {
        /// Why not.
        problem: Problem,
    },
}

/// The longest row that is read, in bytes.
pub const LONGEST_LINE: usize = 65_536;

/// The columns a trace must have.
pub const COLUMNS: [&str; 9] = [
    "at_ms",
    "subject",
    "segment",
    "baseline_outcome",
    "baseline_latency_ms",
    "baseline_score",
    "candidate_outcome",
    "candidate_latency_ms",
    "candidate_score",
];

/// Reads a trace.
///
/// Memory: one line, at most [`LONGEST_LINE`] bytes.
///
/// ```
/// use pilotage::sim::trace::TraceReader;
///
/// let csv = "\
/// at_ms,subject,segment,baseline_outcome,baseline_latency_ms,baseline_score,candidate_outcome,candidate_latency_ms,candidate_score
/// 0,anna,eu,ok,12.5,,timeout,30000,
/// 5,bert,eu,fine,12.5,,ok,11,0.9
/// ";
/// let mut trace = TraceReader::new(csv.as_bytes())?;
/// let row = trace.next_row()?.expect("a row");
/// assert_eq!((row.subject, row.candidate.nanos), ("anna", 30_000_000_000));
/// let error = trace.next_row().unwrap_err().to_string();
/// assert_eq!(error, "line 3: baseline_outcome is \"fine\"; it must be ok, error or timeout");
/// assert!(trace.next_row()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TraceReader<R> {
    source: R,
    line: u64,
    bytes: Vec<u8>,
    /// The fields of a line that has quoted ones, without their marks.
    unquoted: String,
    fields: Vec<(usize, usize)>,
    /// Where each of [`COLUMNS`] stands, and how many there are in all.
    places: [usize; 9],
    width: usize,
    /// When the last usable row came. In a cell, since a row borrows the reader that notes it.
    last: Cell<u64>,
}

impl<R: BufRead> TraceReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] when the first line cannot be read or lacks a column.
    pub fn new(source: R) -> Result<Self, HeaderError> {
        let mut reader = Self {
            source,
            line: 0,
            bytes: Vec::new(),
            unquoted: String::new(),
            fields: Vec::new(),
            places: [0; 9],
            width: 0,
            last: Cell::new(0),
        };
        let line = match reader.next_line() {
            Ok(true) => reader.split(),
            Ok(false) => return Err(HeaderError::Empty),
            Err(TraceError::Io { error, .. }) => return Err(error.into()),
            Err(TraceError::Row { problem, .. }) => Err(problem),
        };
        let line = line.map_err(|problem| HeaderError::Unreadable { problem })?;
        let names: Vec<String> = reader
            .fields
            .iter()
            .map(|(from, to)| reader.text(line)[*from..*to].trim().to_owned())
            .collect();
        for (place, column) in reader.places.iter_mut().zip(COLUMNS) {
            let mut found = names.iter().enumerate().filter(|(_, name)| *name == column);
            *place = found.next().ok_or(HeaderError::Missing { column })?.0;
            if found.next().is_some() {
                return Err(HeaderError::Twice { column });
            }
        }
        reader.width = names.len();
        Ok(reader)
    }

    /// The line read last.
    #[must_use]
    pub const fn line(&self) -> u64 {
        self.line
    }

    /// The next row; `None` at the end. Empty lines are passed over.
    ///
    /// # Errors
    ///
    /// [`TraceError::Row`] for a row that cannot be used, after which the next can be asked for;
    /// [`TraceError::Io`] when the file cannot be read any further.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, TraceError> {
        if !self.next_line()? {
            return Ok(None);
        }
        let line = self.line;
        let form = self.split().map_err(|problem| TraceError::Row { line, problem })?;
        self.read(form).map(Some).map_err(|problem| TraceError::Row { line, problem })
    }

    fn read(&self, form: Form) -> Result<Row<'_>, Problem> {
        if self.fields.len() != self.width {
            return Err(Problem::Columns { found: self.fields.len(), expected: self.width });
        }
        let text = self.text(form);
        let field = |column: usize| {
            let (from, to) = self.fields[self.places[column]];
            &text[from..to]
        };
        let answer = |column: usize| -> Result<Answer, Problem> {
            Ok(Answer {
                status: status(field(column).trim(), COLUMNS[column])?,
                nanos: millis(field(column + 1).trim(), COLUMNS[column + 1], LONGEST)?,
                score: score(field(column + 2).trim(), COLUMNS[column + 2])?,
            })
        };
        let row = Row {
            line: self.line,
            at: millis(field(0).trim(), COLUMNS[0], LATEST)?,
            subject: field(1),
            segment: field(2).trim(),
            baseline: answer(3)?,
            candidate: answer(6)?,
        };
        let last = self.last.replace(row.at.max(self.last.get()));
        if row.at < last {
            let shown = |nanos: u64| (nanos as f64 / 1e6).to_string();
            return Err(Problem::OutOfOrder { at: shown(row.at), before: shown(last) });
        }
        Ok(row)
    }

    fn text(&self, form: Form) -> &str {
        match form {
            // It was checked when it was split.
            Form::Plain => std::str::from_utf8(&self.bytes).unwrap_or_default(),
            Form::Unquoted => &self.unquoted,
        }
    }

    /// Reads the next line that is not empty; `false` at the end of the file.
    fn next_line(&mut self) -> Result<bool, TraceError> {
        loop {
            self.bytes.clear();
            let line = self.line + 1;
            let io = |error| TraceError::Io { line, error };
            let most = LONGEST_LINE as u64 + 2;
            let mut source = (&mut self.source).take(most);
            let read = source.read_until(b'\n', &mut self.bytes).map_err(io)?;
            if read == 0 {
                return Ok(false);
            }
            self.line = line;
            let ended = self.bytes.last() == Some(&b'\n');
            if !ended && read as u64 == most {
                self.skip_line().map_err(io)?;
                return Err(TraceError::Row { line, problem: Problem::TooLong });
            }
            if ended {
                self.bytes.pop();
            }
            if self.bytes.last() == Some(&b'\r') {
                self.bytes.pop();
            }
            if line == 1 && self.bytes.starts_with(BYTE_ORDER_MARK) {
                self.bytes.drain(..BYTE_ORDER_MARK.len());
            }
            if !self.bytes.is_empty() {
                return Ok(true);
            }
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.source.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(buffer.len(), |at| at + 1);
            self.source.consume(used);
            if end.is_some() {
                return Ok(());
            }
        }
    }

    /// Finds the fields of the line.
    fn split(&mut self) -> Result<Form, Problem> {
        self.fields.clear();
        let Ok(text) = std::str::from_utf8(&self.bytes) else { return Err(Problem::NotUtf8) };
        if !self.bytes.contains(&b'"') {
            let mut from = 0;
            for (at, byte) in self.bytes.iter().enumerate() {
                if *byte == b',' {
                    self.fields.push((from, at));
                    from = at + 1;
                }
            }
            self.fields.push((from, self.bytes.len()));
            return Ok(Form::Plain);
        }
        self.unquoted.clear();
        let mut rest = text;
        loop {
            let from = self.unquoted.len();
            let after = if let Some(quoted) = rest.strip_prefix('"') {
                unquote(quoted, &mut self.unquoted)?
            } else {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err(Problem::Quoting);
                }
                self.unquoted.push_str(&rest[..end]);
                &rest[end..]
            };
            self.fields.push((from, self.unquoted.len()));
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None if after.is_empty() => return Ok(Form::Unquoted),
                None => return Err(Problem::Quoting),
            }
        }
    }
}

/// Where the fields of a line are found.
#[derive(Clone, Copy)]
enum Form {
    /// In the line itself.
    Plain,
    /// In a copy without quotation marks.
    Unquoted,
}

/// Copies a quoted field, whose first mark is gone already, and returns what follows its last.
fn unquote<'a>(mut quoted: &'a str, to: &mut String) -> Result<&'a str, Problem> {
    loop {
        let end = quoted.find('"').ok_or(Problem::Quoting)?;
        to.push_str(&quoted[..end]);
        quoted = &quoted[end + 1..];
        match quoted.strip_prefix('"') {
            Some(more) => {
                to.push('"');
                quoted = more;
            }
            None => return Ok(quoted),
        }
    }
}

/// Milliseconds as nanoseconds.
fn millis(text: &str, column: &'static str, most: f64) -> Result<u64, Problem> {
    if let Some(nanos) = plain_millis(text).filter(|nanos| *nanos as f64 <= most * 1e6) {
        return Ok(nanos);
    }
    match text.parse::<f64>() {
        Ok(value) if (0.0..=most).contains(&value) => Ok((value * 1e6) as u64),
        _ => Err(Problem::Number {
            column,
            value: shown(text),
            expected: if most < LATEST {
                "from 0 to 86400000 milliseconds (a day)"
            } else {
                "from 0 to 9000000000000 milliseconds"
            },
        }),
    }
}

/// The same for digits with or without a point, exactly: the float nearest to a time in this
/// century is up to 128 nanoseconds off.
fn plain_millis(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let fits = (1..=13).contains(&whole.len()) && (1..=6).contains(&fraction.len());
    if !(fits && digits(whole) && digits(fraction)) {
        return None;
    }
    let number = |part: &str| part.bytes().fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'));
    let scale = 10_u64.pow(6 - fraction.len() as u32);
    Some(number(whole) * 1_000_000 + number(fraction) * scale)
}

fn score(text: &str, column: &'static str) -> Result<Option<f64>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Some(value)),
        _ => Err(Problem::Number {
            column,
            value: shown(text),
            expected: "empty or a finite number",
        }),
    }
}

fn status(text: &str, column: &'static str) -> Result<Status, Problem> {
    match text {
        "ok" => Ok(Status::Ok),
        "error" => Ok(Status::Error),
        "timeout" => Ok(Status::Timeout),
        other => Err(Problem::Outcome { column, value: shown(other) }),
    }
}

/// What stood there, short and without anything a terminal obeys.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

/// Milliseconds since 1970 up to the year 2255; also what fits into nanoseconds twice.
const LATEST: f64 = 9e12;
/// A day in milliseconds.
const LONGEST: f64 = 86_400_000.0;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reader(text: &str) -> TraceReader<&[u8]> {
        TraceReader::new(text.as_bytes()).unwrap()
    }

    fn with_rows(rows: &str) -> String {
        format!("{}\n{rows}", COLUMNS.join(","))
    }

    /// How each row reads: its subject, or the line and the word of its problem.
    fn told(bytes: &[u8]) -> Vec<String> {
        let mut reader = TraceReader::new(bytes).unwrap();
        let mut told = Vec::new();
        loop {
            match reader.next_row() {
                Ok(None) => return told,
                Ok(Some(row)) => told.push(row.subject.to_owned()),
                Err(TraceError::Row { line, problem }) => {
                    told.push(format!("{line} {}", problem.word()));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn columns_may_stand_in_any_order_after_a_mark_and_with_any_line_end() {
        let text = "\u{feff}subject,segment,note,candidate_score,candidate_latency_ms,candidate_outcome,\
            baseline_score,baseline_latency_ms,baseline_outcome,at_ms\r\n\
            \"o\"\"neil, jr\",eu,x,0.5,12.25,ok,,7,timeout,1700000000123\r\n\r\n";
        let mut reader = reader(text);
        let row = reader.next_row().unwrap().unwrap();
        assert_eq!((row.subject, row.segment), ("o\"neil, jr", "eu"));
        assert_eq!(row.at, 1_700_000_000_123_000_000);
        assert_eq!(row.candidate.nanos, 12_250_000);
        assert_eq!((row.candidate.score, row.baseline.score), (Some(0.5), None));
        assert_eq!(row.baseline.status, Status::Timeout);
        assert!(reader.next_row().unwrap().is_none());
    }

    #[test]
    fn each_bad_row_is_told_with_its_line_and_costs_no_other() {
        let rows = [
            "0,good-1,,ok,1,,ok,1,",
            "1,short,,ok,1,,ok,1",
            "1,long,,ok,1,,ok,1,,",
            "x,text,,ok,1,,ok,1,",
            "NaN,nan,,ok,1,,ok,1,",
            "1,nan,,ok,NaN,,ok,1,",
            "1,negative,,ok,1,,ok,-1,",
            "1,nothing,,ok,,,ok,1,",
            "1,endless,,ok,inf,,ok,1,",
            "1,score,,ok,1,inf,ok,1,",
            "1,outcome,,OK,1,,ok,1,",
            "1,\"open,,ok,1,,ok,1,",
            "1,in\"side,,ok,1,,ok,1,",
            "1,\"after\"x,,ok,1,,ok,1,",
            "-1,before,,ok,1,,ok,1,",
            "5,good-2,,ok,1,,ok,1,",
            "4.999,early,,ok,1,,ok,1,",
            "5,good-3,\"a,b\",ok,1,0.5,error,1,-2",
        ];
        let mut bytes = with_rows(&rows.join("\n")).into_bytes();
        bytes.extend_from_slice(b"\n6,\xff\xfe,,ok,1,,ok,1,\n6,");
        bytes.extend(std::iter::repeat_n(b'a', LONGEST_LINE * 3));
        bytes.extend_from_slice(b",,ok,1,,ok,1,\n7,good-4,,ok,1,,ok,1,");
        let expected = [
            "good-1",
            "3 columns",
            "4 columns",
            "5 number",
            "6 number",
            "7 number",
            "8 number",
            "9 number",
            "10 number",
            "11 number",
            "12 outcome",
            "13 quoting",
            "14 quoting",
            "15 quoting",
            "16 number",
            "good-2",
            "18 out_of_order",
            "good-3",
            "20 not_utf8",
            "21 too_long",
            "good-4",
        ];
        assert_eq!(told(&bytes), expected);
    }

    #[test]
    fn a_header_without_a_column_is_refused_by_name() {
        let error = TraceReader::new("at_ms,subject\n".as_bytes()).unwrap_err();
        assert!(error.to_string().contains("names no column segment"), "{error}");
        let twice = format!("{},segment\n", COLUMNS.join(","));
        let error = TraceReader::new(twice.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("segment twice"), "{error}");
        assert!(matches!(TraceReader::new(&b""[..]), Err(HeaderError::Empty)));
    }

    #[test]
    fn what_is_shown_of_a_bad_value_cannot_steer_a_terminal() {
        let text = with_rows("\u{1b}[31m,s,,ok,1,,ok,1,");
        let error = reader(&text).next_row().unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(b','), Just(b'"'), Just(b'\n'), Just(b'1')], 0..600)) {
            let mut text = with_rows("").into_bytes();
            text.extend(&bytes);
            let rows = bytes.split(|byte| *byte == b'\n').count();
            prop_assert!(told(&text).len() <= rows);
        }
    }
}
