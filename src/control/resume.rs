//! A rollout goes on after a restart.
//!
//! Three things are looked at before anything is shown to anybody: the journal, what was kept in the
//! room beside it while it could not be written, and what a switch outside says is in force. Where
//! one of them says, or cannot rule out, that the candidate was taken back, it was taken back.

use std::sync::Arc;

use crate::clock::Clock;
use crate::control::alert_queue::AlertQueue;
use crate::control::found::{FindError, Found};
use crate::control::journal_writer::JournalWriter;
use crate::control::pilot::{Beginning, Pilot};
use crate::control::reins::{Reins, about};
use crate::control::start::PilotBuilder;
use crate::control::start_error::{ResumeError, StartError};
use crate::ids::Epoch;
use crate::machine::{Command, Effect, Order, Shadowing, Transition};
use crate::rollout::history::{HISTORY, Line};
use crate::rollout::journal::{Recovered, Snapshot as Standing};
use crate::rollout::pipeline::{End, State};
use crate::rollout::salvage::Cut;
use crate::rollout::stage::StageKind;
use crate::route::switch::{Split, TrafficSwitch};
use crate::serve::router::Router;
use crate::share::TrafficShare;

/// What a recovery left out of a damaged journal.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{cut}; the damaged journal is kept whole in {kept_in}")]
#[non_exhaustive]
pub struct CutOff {
    /// What does not count, and why.
    pub cut: Cut,
    /// Where the damaged journal is kept, whole.
    pub kept_in: String,
}

#[derive(Clone, Copy)]
enum Reading {
    /// A damaged journal is an error.
    Whole,
    /// Of a damaged journal, what can be trusted.
    Trusted,
}

impl PilotBuilder {
    /// Goes on with the rollout that the journal holds, after a restart: at the stage it was in,
    /// with its evidence, its orders and its history. `model` is the candidate, loaded and warm.
    ///
    /// `router` is built as before, its stable model the one that was the baseline last, everybody
    /// on it. Build it with [`Recovered::epoch`] (from
    /// [`Rollout::resume`](crate::rollout::pipeline::Rollout::resume)), so that tickets given out
    /// before the restart are known from its first request on; else its epoch is brought there
    /// now. A rollout that ended stays ended: an abort is not forgotten.
    ///
    /// A step back that was decided while the journal could not be written was kept beside it and is
    /// not forgotten either. Where that cannot be read, or where a
    /// [`switch`](Self::switch) outside says that everything was taken from the candidate after the
    /// journal's last entry, the rollout comes back as rolled back, and an operator's
    /// [`Order::Retry`] leads on.
    ///
    /// The time the process was gone is no evidence and counts as observed in no stage; dates and
    /// the age of drills go on, as far as a wall clock tells.
    ///
    /// # Errors
    ///
    /// [`ResumeError`]; stable goes on serving everybody, and the journal stays as it is. A damaged
    /// journal is one; see [`PilotBuilder::recover`].
    pub fn resume<M, C>(self, router: &Router<M, C>, model: Arc<M>) -> Result<Pilot, ResumeError>
    where
        M: Send + Sync + 'static,
        C: Clock + 'static,
    {
        self.go_on(router, model, Reading::Whole).map(|(pilot, _)| pilot)
    }

    /// As [`PilotBuilder::resume`], from as much of a damaged journal as can be trusted: its longest
    /// beginning in which every entry is what was written. For a person to call who has seen the
    /// error that `resume` gave; of a journal without damage it does what `resume` does.
    ///
    /// What does not count is returned, and the damaged journal is kept whole beside the new one
    /// ([`JournalStore::keep_damaged`](crate::control::journal_file::JournalStore::keep_damaged))
    /// before anything is cut off. Since a step back may have been written there, it counts as
    /// taken: a rollout that was in a stage comes back as rolled back, at nobody, and an operator's
    /// [`Order::Retry`] leads on with fresh evidence; one that had not begun comes back paused; one
    /// that was over stays over.
    ///
    /// # Errors
    ///
    /// [`ResumeError`], and the journal stays as it is: nothing of it can be trusted, a newer release
    /// wrote in it, or no copy of it could be kept.
    pub fn recover<M, C>(
        self,
        router: &Router<M, C>,
        model: Arc<M>,
    ) -> Result<(Pilot, Option<CutOff>), ResumeError>
    where
        M: Send + Sync + 'static,
        C: Clock + 'static,
    {
        self.go_on(router, model, Reading::Trusted)
    }

    fn go_on<M, C>(
        self,
        router: &Router<M, C>,
        model: Arc<M>,
        reading: Reading,
    ) -> Result<(Pilot, Option<CutOff>), ResumeError>
    where
        M: Send + Sync + 'static,
        C: Clock + 'static,
    {
        let mut this = self;
        let mut store = this.journal.take().ok_or(ResumeError::Nothing)?;
        let found = match reading {
            Reading::Whole => Found::read(&mut *store),
            Reading::Trusted => Found::salvage(&mut *store),
        };
        let Found { recovered: mut found, doubt, cut } = match found {
            Ok(found) => found.ok_or(ResumeError::Nothing)?,
            Err(FindError::Held { holder }) => return Err(ResumeError::Held { holder }),
            Err(FindError::Store(why)) => return Err(ResumeError::Store(why)),
            Err(FindError::Journal(error)) => return Err(error.into()),
        };
        let ownership = this.own(router, &found.about.candidate).map_err(StartError::from)?;
        let share = router.split().candidate;
        if share > TrafficShare::NONE {
            return Err(StartError::Busy { share }.into());
        }
        let promoted = is_of(&found, router)?;
        let date = this.wall.date();
        let gone = found.gone(Some(date));
        let here = router.clock().now();
        let now = here.after(found.at.after(gone).since(here));
        let outside = this.switch.as_deref();
        let doubt = doubt.or_else(|| taken_back_outside(&found, outside, router.split()));
        let before = found.rollout.clone();
        let distrusted = match &doubt {
            Some(why) => found.rollout.distrust(now, why),
            None => Vec::new(),
        };
        let mut distrusted = distrusted;
        if promoted {
            // The model that served before is not loaded here: one order cannot bring it back.
            let why = "after a restart the former model is not loaded any more".to_owned();
            distrusted.extend(found.rollout.close_watch(now, &why));
        }
        let end = match found.rollout.state() {
            State::Ended(ended) => Some(ended.end),
            State::Waiting(_) | State::Running(_) => None,
        };
        let effects = match (found.rollout.state(), end) {
            (State::Running(_), _) => {
                this.check_shadow(found.rollout.plan()).map_err(ResumeError::from)?;
                let stage = found.rollout.stage();
                let mut effects = vec![Effect::Shift(found.rollout.share())];
                if stage.is_some_and(|stage| stage.kind == StageKind::Shadow) {
                    effects.push(Effect::Shadow(Shadowing::On));
                }
                effects
            }
            (_, Some(End::Promoted)) if !promoted => vec![Effect::Promote],
            (_, Some(End::Promoted)) | (State::Waiting(_), _) => Vec::new(),
            // Whatever a switch outside was told last.
            (State::Ended(_), _) => vec![Effect::Shift(TrafficShare::NONE)],
        };
        // All of a damaged journal is kept before any of it is given up.
        let cut_off = match cut {
            Some((cut, bytes)) => {
                let kept = store.keep_damaged(&bytes);
                let kept_in = kept.map_err(|error| ResumeError::Store(error.to_string()))?;
                Some(CutOff { cut, kept_in })
            }
            None => None,
        };
        let alerts = AlertQueue::start(Arc::clone(&this.alerter), this.policy.clone())
            .map_err(StartError::from)?;
        // Also what was taken back: a retry leads out of that.
        if !matches!(end, Some(End::Aborted | End::Killed)) && !promoted {
            let _ = router.retire_idle();
            router
                .deploy_shared(found.about.candidate.as_str(), model)
                .map_err(StartError::from)?;
        }
        let word = router.switch();
        if is_behind(word.read().epoch, found.epoch()) {
            word.begin_at(found.epoch());
        }
        let place = before.stage().map_or_else(
            || end.map_or("waiting", |end| end.word()).to_owned(),
            |stage| stage.name.to_string(),
        );
        let torn = found.torn.map_or_else(String::new, |torn| {
            format!("; the last {} bytes of its journal were torn and are left out", torn.bytes)
        });
        let why = format!(
            "resumed after a restart{}{torn}",
            if gone.is_zero() {
                String::new()
            } else {
                format!("; it was gone for {} s", gone.as_secs())
            }
        );
        let transition =
            Transition { at: now, from: place.clone(), to: place, who: "pilotage".to_owned(), why };
        let mut history = found.history.clone();
        let most = HISTORY - 2;
        history.drain(..history.len().saturating_sub(most));
        history.push(Line::note(transition, Some(date), found.rollout.share()));
        history.extend(Line::of(&before, &found.rollout, &distrusted, Some(date)));
        let effects: Vec<Effect> = distrusted.into_iter().chain(effects).collect();
        // Written whole before anything is carried out; the old bytes stay beside it.
        let split = word.read();
        let mut standing = Standing::new(found.about.clone(), found.rollout.clone(), now, split);
        standing.date = Some(date);
        standing.promoted = promoted;
        standing.orders = found.orders.clone();
        standing.history = history.clone();
        let generation = found.generation.saturating_add(1);
        let journal =
            JournalWriter::begin(store, generation, found.revision, standing, split.epoch);
        let journal =
            journal.inspect_err(|_| drop(router.retire_idle())).map_err(ResumeError::Store)?;
        let outside = this.outside(&ownership).map_err(StartError::from)?;
        let beginning = Beginning {
            plane: Arc::new(Reins { router: router.clone(), shadow: this.shadow }),
            ownership,
            outside,
            wall: this.wall,
            alerts,
            about: found.about,
            ahead: now.since(here),
            journal: Some(journal),
            drill_due: this.drill_due,
            unattended: this.unattended,
            patience: this.patience,
            date: Some(date),
            rollout: found.rollout,
            history,
            promoted,
        };
        // An order to stop that was not handled yet is handled before anything is shown to anybody.
        let ends = |command: &Command| matches!(command.order, Order::Kill | Order::Abort);
        let ends = found.orders.iter().any(ends);
        let effects = if ends && doubt.is_none() { Vec::new() } else { effects };
        let pilot = Pilot::new(beginning, effects).map_err(StartError::from)?;
        for command in found.orders {
            // What has no effect any more is refused, and that is in the history.
            let _ = pilot.order(command.order, command.who.as_str(), &command.why);
        }
        Ok((pilot, cut_off))
    }
}

/// Whether the candidate has become this router's baseline already.
///
/// # Errors
///
/// When the journal is not about this router and its models.
fn is_of<M, C: Clock>(found: &Recovered, router: &Router<M, C>) -> Result<bool, ResumeError> {
    let theirs = &found.about;
    let ours = about(router, &theirs.candidate);
    let other = |what, theirs: &dyn std::fmt::Display, ours: &dyn std::fmt::Display| {
        Err(ResumeError::Other { what, theirs: theirs.to_string(), ours: ours.to_string() })
    };
    if theirs.router != ours.router {
        return other("router", &theirs.router, &ours.router);
    }
    if theirs.scheme != ours.scheme {
        return other("salt", &theirs.scheme.salt(), &ours.scheme.salt());
    }
    let decided =
        matches!(found.rollout.state(), State::Ended(ended) if ended.end == End::Promoted);
    if decided && ours.baseline == theirs.candidate {
        return Ok(true);
    }
    if found.promoted {
        return other("baseline", &theirs.candidate, &ours.baseline);
    }
    if theirs.baseline != ours.baseline {
        return other("baseline", &theirs.baseline, &ours.baseline);
    }
    Ok(false)
}

/// Whether `epoch` comes before `target`, as far as numbers that wrap can tell.
const fn is_behind(epoch: Epoch, target: Epoch) -> bool {
    let ahead = target.number().wrapping_sub(epoch.number());
    ahead != 0 && ahead < 1 << 15
}

/// Why a switch outside is taken to know of a step back that the journal lacks.
///
/// It says that nobody is on the candidate, and its epoch is not before the journal's, whose last
/// word is that somebody is. A switch that forgot everything says an earlier epoch, or only repeats
/// what this process begins with; neither proves anything.
fn taken_back_outside(
    found: &Recovered,
    switch: Option<&dyn TrafficSwitch>,
    here: Split,
) -> Option<String> {
    let outside = switch?.in_force()?;
    let (theirs, ours) = (outside.epoch, found.split.epoch);
    let proves = outside.candidate == TrafficShare::NONE
        && outside.primary == found.split.primary
        && outside != here
        && (theirs == ours || is_behind(ours, theirs));
    (proves && found.split.candidate > TrafficShare::NONE).then(|| {
        format!(
            "the switch says that nobody is on the candidate since epoch {}, where the journal's last word is {} in epoch {}: it was taken back",
            theirs.number(), found.split.candidate, ours.number()
        )
    })
}
