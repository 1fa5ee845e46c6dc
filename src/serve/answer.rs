//! What becomes of a call once its model has answered, or has not.

use crate::clock::Clock;
use crate::ids::Arm;
use crate::model::Model;
use crate::observe::thread_place::Place;
use crate::outcome::{Outcome, Status};
use crate::serve::catch::{Payload, caught, discard};
use crate::serve::guard::Guard;
use crate::serve::inner::Fallback;
use crate::serve::slots::Held;
use crate::serve::ticket::Ticket;

/// An answer, who gave it, and the ticket for a later truth.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct Answer<O> {
    /// What the model answered.
    pub output: O,
    /// Which arm the request was assigned to.
    pub arm: Arm,
    /// Whether that arm failed and the baseline answered in its stead.
    pub fell_back: bool,
    /// Whether that arm had as many calls as it may
    /// ([`CandidateLimit`](crate::serve::limit::CandidateLimit)), so that the baseline was asked in
    /// its stead.
    pub diverted: bool,
    /// Joins a later truth to this request.
    pub ticket: Ticket,
}

impl<O> Answer<O> {
    /// Whose model gave the answer: the assigned arm's, or the baseline's in its stead.
    pub const fn answered_by(&self) -> Arm {
        if self.fell_back || self.diverted { Arm::BASELINE } else { self.arm }
    }
}

/// How a call stands after its model has not answered.
pub(crate) enum Settled<'r, M, E> {
    /// The caller hears the model's own error.
    Done(E),
    Failed(Failed<'r, M, E>),
}

/// A call of which the arm assigned has failed. It is recorded; nobody has answered yet.
pub(crate) struct Failed<'r, M, E> {
    arm: Arm,
    ticket: Ticket,
    how: Failure<E>,
    /// The baseline, where it is to answer instead. Held before the call is counted: where there is
    /// none, nobody fell back on it.
    pub stand_in: Option<Held<'r, M>>,
}

pub(crate) enum Failure<E> {
    Error(E),
    /// With the error the model has for it, if any.
    Panic(Payload, Option<E>),
}

impl<M, C: Clock> Guard<'_, M, C> {
    #[inline]
    pub(crate) fn answer<O>(self, output: O) -> Answer<O> {
        let (arm, diverted) = (self.arm(), self.diverted());
        Answer { output, arm, fell_back: false, diverted, ticket: self.answered() }
    }
}

impl<'r, M: Model, C: Clock> Guard<'r, M, C> {
    #[cold]
    #[inline(never)]
    pub(crate) fn settle(self, unsettled: Result<M::Error, Payload>) -> Settled<'r, M, M::Error> {
        match unsettled {
            Ok(error) => self.settle_error(error),
            Err(payload) => Settled::Failed(self.settle_panic(payload)),
        }
    }

    fn settle_error(self, error: M::Error) -> Settled<'r, M, M::Error> {
        let arm = self.arm();
        let status = match caught(|| self.model().status_of(&error)) {
            Ok(status) => status,
            Err(payload) => {
                discard(payload);
                Status::Error
            }
        };
        let blames_the_model = matches!(status, Status::Error | Status::Timeout | Status::Panicked);
        let may_fall_back = self.inner().fallback == Fallback::OnFailure && blames_the_model;
        if let Some(stand_in) = self.stand_in(may_fall_back) {
            let ticket = self.finish_elsewhere(status);
            let how = Failure::Error(error);
            return Settled::Failed(Failed { arm, ticket, how, stand_in: Some(stand_in) });
        }
        let mut outcome = Outcome::ok();
        outcome.status = status;
        self.finish(outcome);
        Settled::Done(error)
    }

    fn settle_panic(self, payload: Payload) -> Failed<'r, M, M::Error> {
        let arm = self.arm();
        let error = caught(|| self.model().error_for_panic()).unwrap_or_else(|again| {
            discard(again);
            None
        });
        self.inner().note_panic(self.key());
        let stand_in = self.stand_in(self.inner().fallback != Fallback::Never);
        let ticket = if stand_in.is_some() {
            self.finish_elsewhere(Status::Panicked)
        } else {
            self.finish(Outcome::panicked())
        };
        Failed { arm, ticket, how: Failure::Panic(payload, error), stand_in }
    }

    /// The baseline, to answer in this arm's stead, if it may and is there.
    fn stand_in(&self, may: bool) -> Option<Held<'r, M>> {
        let inner = self.inner();
        // Who has asked the baseline already need not ask again.
        let may = may && self.arm() != Arm::BASELINE && !self.diverted();
        let primary = inner.word.packed().primary();
        may.then(|| inner.slots.hold_stand_in(Place::here(), primary)).flatten()
    }
}

impl<M, E> Failed<'_, M, E> {
    #[cold]
    pub(crate) fn give_up<O>(self) -> Result<Answer<O>, E> {
        match self.how {
            Failure::Error(error) => Err(error),
            Failure::Panic(payload, Some(error)) => {
                discard(payload);
                Err(error)
            }
            Failure::Panic(payload, None) => std::panic::resume_unwind(payload),
        }
    }

    /// What the caller hears after the baseline was asked in the arm's stead.
    #[cold]
    pub(crate) fn answered_by<N>(
        self,
        baseline: &N,
        again: Result<Result<N::Output, E>, Payload>,
    ) -> Result<Answer<N::Output>, E>
    where
        N: Model<Error = E>,
    {
        match again {
            Ok(Ok(output)) => {
                let Self { arm, ticket, how, .. } = self;
                if let Failure::Panic(payload, _) = how {
                    discard(payload);
                }
                Ok(Answer { output, arm, fell_back: true, diverted: false, ticket })
            }
            Ok(Err(error)) => {
                if let Failure::Panic(payload, _) = self.how {
                    discard(payload);
                }
                Err(error)
            }
            Err(payload) => {
                discard(payload);
                let _ = baseline;
                self.give_up()
            }
        }
    }
}
