//! How a server begins: with the models of the command line, or where its journal left off.

use std::error::Error;
use std::sync::Arc;

use pilotage::rollout::pipeline::{End, State};

use crate::journals::{Journals, Present};
use crate::model::Classifier;
use crate::rollouts::Wish;
use crate::service::{Service, Settings};

/// A server that begins, and what people should know of its beginning.
#[derive(Debug)]
pub struct Begun {
    /// The server.
    pub service: Arc<Service>,
    /// Sentences for the log. What is wrong is also shown by `GET /rollout`.
    pub said: Vec<String>,
}

/// Starts a server of `baseline`, or of what was promoted over it since; and goes on with the rollout
/// of the journal, or begins that of `candidate`. A candidate begins by itself once: whose rollout is
/// over begins again by an order only.
///
/// # Errors
///
/// When there is no model to serve. A rollout's trouble is not the users': the baseline serves then.
pub fn begin(
    baseline: &str,
    candidate: Option<&str>,
    settings: &Settings,
) -> Result<Begun, Box<dyn Error + Send + Sync>> {
    let models = &settings.rollouts.models;
    let journals = settings.rollouts.journal.as_deref().map(Journals::read);
    let (mut said, mut notes) = (Vec::new(), Vec::new());
    let serves =
        journals.as_ref().map_or_else(|| baseline.to_owned(), |all| all.baseline(baseline));
    let model = if serves == baseline {
        Classifier::load(models, baseline)?
    } else {
        match Classifier::load(models, &serves) {
            Ok(model) => {
                said.push(format!(
                    "{serves} was promoted over {baseline}, says the journal, and serves in its place"
                ));
                model
            }
            Err(error) => {
                notes.push(format!(
                    "{serves} was promoted, says the journal, and cannot be loaded: {error}; \
                     {baseline} serves"
                ));
                Classifier::load(models, baseline)?
            }
        }
    };
    let mut settings = settings.clone();
    if let Some(Journals { present: Present::Rollout(recovered), .. }) = &journals {
        settings.epoch = Some(recovered.epoch());
    }
    let serves = model.name().to_owned();
    let service = Service::start(Arc::new(model), &settings)?;
    let wanted = match &journals {
        Some(journals) => {
            service.rollouts().remember(journals);
            go_on(&service, journals, &serves, candidate, &mut said, &mut notes)
        }
        None => candidate,
    };
    if let Some(candidate) = wanted {
        let who = "inference-server".to_owned();
        let why = "the command line names it".to_owned();
        let wish = Wish { candidate: candidate.to_owned(), who, why, ..Wish::default() };
        match service.rollouts().start(&wish) {
            Ok(()) => said.push(format!("{candidate} is being rolled out")),
            Err(problem) => notes.push(format!("{candidate} is not rolled out: {problem}")),
        }
    }
    for note in notes {
        service.rollouts().note(note.clone());
        said.push(format!("error: {note}"));
    }
    Ok(Begun { service, said })
}

/// Goes on with the journal's rollout; returns the candidate that is to begin instead, if any.
fn go_on<'a>(
    service: &Service,
    journals: &Journals,
    serves: &str,
    candidate: Option<&'a str>,
    said: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> Option<&'a str> {
    let path = journals.path.display();
    let recovered = match &journals.present {
        Present::Nothing => return once(journals, serves, candidate, notes),
        Present::Unreadable(why) => {
            notes.push(format!(
                "the journal {path} cannot be read, so no rollout goes on or begins: {why}; \
                 {serves} serves everybody"
            ));
            return None;
        }
        Present::Rollout(recovered) => recovered,
    };
    let about = &recovered.about;
    let theirs = about.candidate.as_str();
    let ended = match recovered.rollout.state() {
        State::Ended(ended) => Some(ended.end),
        _ => None,
    };
    // Another candidate than that of a rollout that is over may begin.
    let next = match ended {
        Some(_) if candidate != Some(theirs) => once(journals, serves, candidate, notes),
        _ => None,
    };
    if next.is_some() {
        return next;
    }
    let of = if ended == Some(End::Promoted) { theirs } else { about.baseline.as_str() };
    if of != serves {
        notes.push(format!(
            "the journal {path} is about {theirs} over {}, and {serves} serves; it is left alone: \
             move it elsewhere, or name its baseline",
            about.baseline
        ));
        return None;
    }
    let resumed = Classifier::load(&service.rollouts().settings().models, theirs)
        .map_err(Into::into)
        .and_then(|model| service.rollouts().resume(recovered, Arc::new(model)));
    match (resumed, ended) {
        (Ok(()), None) => {
            said.push(format!("the rollout of {theirs} goes on where the journal left it"));
            if let Some(other) = candidate.filter(|name| *name != theirs) {
                notes.push(format!(
                    "{other} is not rolled out: the journal's rollout of {theirs} is under way"
                ));
            }
        }
        (Ok(()), Some(End::Promoted)) => {}
        (Ok(()), Some(_)) => {
            // Only where the command line asks for it is there anything to explain.
            once(journals, serves, candidate, notes);
        }
        (Err(error), _) => notes.push(format!(
            "the rollout of {theirs} does not go on: {error}; {serves} serves everybody"
        )),
    }
    None
}

/// The candidate, if it was never rolled out before.
fn once<'a>(
    journals: &Journals,
    serves: &str,
    candidate: Option<&'a str>,
    notes: &mut Vec<String>,
) -> Option<&'a str> {
    let candidate = candidate?;
    let Some(over) = journals.over_of(candidate) else { return Some(candidate) };
    if candidate == serves || over.end == End::Promoted {
        return None; // as it should be: it serves, or another was promoted over it since
    }
    let when = over.date.as_deref().map_or_else(String::new, |date| format!(" at {date}"));
    let end = over.end.word().replace('_', " ");
    notes.push(format!(
        "{candidate} does not begin again by itself: it was {end}{when} ({}); \
         POST /rollout/start with {{\"candidate\": \"{candidate}\", \"again\": true}} begins it",
        over.reason
    ));
    None
}
