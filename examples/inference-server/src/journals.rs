//! What the journals of earlier rollouts say, for a server that starts again.
//!
//! The same command line must lead to the same server: after a promotion the promoted model serves,
//! and a candidate whose rollout is over does not begin again by itself. So the rollouts that are
//! over are looked through in their order, those that were put aside (`FILE.1`, `FILE.2`, and so on)
//! before the present one, from the baseline that the command line names.

use std::path::{Path, PathBuf};

use pilotage::control::journal_file::{JournalFile, JournalStore};
use pilotage::date::Date;
use pilotage::rollout::journal::Recovered;
use pilotage::rollout::pipeline::{End, Rollout, State};
use serde::Serialize;

/// A rollout that is over.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Over {
    /// The model that was the baseline when it began.
    pub baseline: String,
    /// The model that was to be proved.
    pub candidate: String,
    /// How it ended.
    pub end: End,
    /// When, where a wall clock was known.
    pub date: Option<String>,
    /// Why.
    pub reason: String,
}

/// All journals of a server.
#[derive(Debug)]
pub struct Journals {
    /// Where the present one is.
    pub path: PathBuf,
    /// What is over, oldest first; the present one last, if it is.
    pub over: Vec<Over>,
    /// The present one.
    pub present: Present,
}

/// The present journal.
#[derive(Debug)]
pub enum Present {
    /// There is none.
    Nothing,
    /// It can be gone on with: it is under way, or over and still to be seen.
    Rollout(Box<Recovered>),
    /// It cannot be read, and stays as it is.
    Unreadable(String),
}

impl Journals {
    /// Reads the journal at `path` and those that were put aside.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let mut over = Vec::new();
        for number in 1..MOST_ASIDE {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            let place = PathBuf::from(name);
            if !place.exists() {
                break;
            }
            // One that cannot be read says nothing; it is over in any case.
            if let Ok(Some(recovered)) = recover(&place) {
                over.extend(over_of(&recovered));
            }
        }
        let present = match recover(path) {
            Ok(Some(recovered)) => Present::Rollout(Box::new(recovered)),
            Ok(None) => Present::Nothing,
            Err(why) => Present::Unreadable(why),
        };
        if let Present::Rollout(recovered) = &present {
            over.extend(over_of(recovered));
        }
        Self { path: path.to_owned(), over, present }
    }

    /// The model that serves now, where `named` is the one that the command line names: whichever
    /// was promoted over it since, and over that one, and so on.
    #[must_use]
    pub fn baseline(&self, named: &str) -> String {
        let mut serves = named;
        for over in &self.over {
            if over.end == End::Promoted && over.baseline == serves {
                serves = &over.candidate;
            }
        }
        serves.to_owned()
    }

    /// The last rollout of `candidate` that is over.
    #[must_use]
    pub fn over_of(&self, candidate: &str) -> Option<&Over> {
        self.over.iter().rev().find(|over| over.candidate == candidate)
    }
}

impl Over {
    /// Whether the candidate was turned away.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.end != End::Promoted
    }
}

/// What is over of a rollout, if it is.
fn over_of(recovered: &Recovered) -> Option<Over> {
    let State::Ended(ended) = recovered.rollout.state() else { return None };
    let date = recovered.date.map(|(known, date)| dated(known, date, ended.at).to_string());
    Some(Over {
        baseline: recovered.about.baseline.to_string(),
        candidate: recovered.about.candidate.to_string(),
        end: ended.end,
        date,
        reason: ended.reason.clone(),
    })
}

fn dated(known: pilotage::clock::Moment, date: Date, at: pilotage::clock::Moment) -> Date {
    let (later, earlier) = (at.since(known).as_secs(), known.since(at).as_secs());
    let shift = i64::try_from(later).unwrap_or(0) - i64::try_from(earlier).unwrap_or(0);
    Date::from_unix(date.as_unix().saturating_add(shift))
}

/// The rollout in the journal at `path`, or the one that was kept beside it where that is later.
fn recover(path: &Path) -> Result<Option<Recovered>, String> {
    let mut file = JournalFile::new(path);
    let Some(bytes) = file.read().map_err(|error| error.to_string())? else { return Ok(None) };
    let recovered = Rollout::resume(&bytes).map_err(|error| error.to_string())?;
    let kept = file.kept().ok().flatten().and_then(|kept| Rollout::resume(&kept).ok());
    Ok(Some(match kept {
        Some(kept) if kept.about == recovered.about && kept.revision > recovered.revision => kept,
        _ => recovered,
    }))
}

const MOST_ASIDE: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn over(baseline: &str, candidate: &str, end: End) -> Over {
        let (baseline, candidate) = (baseline.to_owned(), candidate.to_owned());
        Over { baseline, candidate, end, date: None, reason: String::new() }
    }

    fn journals(over: Vec<Over>) -> Journals {
        Journals { path: "rollout.journal".into(), over, present: Present::Nothing }
    }

    #[test]
    fn what_was_promoted_serves_and_what_was_rolled_back_does_not() {
        let journals = journals(vec![
            over("v1", "v2", End::Promoted),
            over("v2", "v3", End::RolledBack),
            over("v2", "v4", End::Promoted),
        ]);
        assert_eq!(journals.baseline("v1"), "v4");
        assert_eq!(journals.baseline("v2"), "v4");
        assert_eq!(journals.baseline("v3"), "v3", "a command line that names another model");
        assert!(journals.over_of("v3").unwrap().is_rejected());
        assert!(journals.over_of("v5").is_none());
    }

    #[test]
    fn a_model_that_came_back_by_a_rollout_serves_again() {
        let back = vec![over("v1", "v2", End::Promoted), over("v2", "v1", End::Promoted)];
        assert_eq!(journals(back).baseline("v1"), "v1");
    }

    #[test]
    fn a_file_that_is_no_journal_is_named_and_not_taken_for_an_empty_one() {
        let path = std::env::temp_dir().join(format!("no-journal-{}", std::process::id()));
        std::fs::write(&path, b"something else entirely, and long enough to be looked at").unwrap();
        let journals = Journals::read(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(&journals.present, Present::Unreadable(why) if !why.is_empty()));
        assert!(matches!(Journals::read(&path).present, Present::Nothing));
    }
}
