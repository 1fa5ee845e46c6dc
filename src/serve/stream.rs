//! Answers that come item by item.
//!
//! [`Router::predict_stream`] waits for the first item, and then hands over the answer as a stream
//! that borrows nothing. Up to the first item everything is as with `predict`: a failure is an
//! `Err`, early enough for an honest status line, and the baseline may answer in the candidate's
//! stead. From the first item on nobody else may: the reader has seen part of one model's answer.
//!
//! A stream counts once, when it ends. Its latency is the time to its first item: how long the
//! whole takes depends on how much there is to say, and a candidate must not be taken back for
//! longer answers. So the guardrails on latency hold the time to the first item, and the deadline
//! is for it too; whole streams have a deadline of their own
//! ([`RouterBuilder::stream_deadline`](crate::serve::builder::RouterBuilder::stream_deadline)).
//! What else there is to know of streams is in
//! [`StreamCounts`](crate::observe::stream_counts::StreamCounts).
//!
//! | end of a stream | counts as |
//! |--|--|
//! | the end | `Ok`, or `Timeout` past a deadline |
//! | an error, before or amid the items | what the model's `status_of` says of it |
//! | a panic, before or amid the items | `Panicked` |
//! | dropped by its reader | `Cancelled`, or `Timeout` past a deadline |
//!
//! The last is as with `predict`: readers go away all the time, most of all from slow streams, and what
//! is known by then is counted.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::clock::{Clock, StdClock};
use crate::ids::Arm;
use crate::model::Call;
use crate::observe::stream_meter::{StreamEnd, StreamMeter};
use crate::observe::thread_place::Place;
use crate::outcome::Status;
use crate::serve::answer::Answer;
use crate::serve::catch::{Payload, caught, caught_future, discard};
use crate::serve::guard::OwnedGuard;
use crate::serve::inner::{Fallback, Inner};
use crate::serve::request::Request;
use crate::serve::router::Router;
use crate::serve::slots::Kept;
use crate::stream_model::{Items, StreamModel, SyncStreamModel};

/// An answer under way: its items, one after another. See [`Router::predict_stream`].
///
/// It may be sent to another thread and outlive the router it came from. The model that gives it
/// is not dropped before it ends. Dropped early, it stops and counts as the reader's going away.
/// After the end, an error or a panic nothing comes any more.
///
/// With the feature `stream` it is a `futures_core::Stream`; of a model that just computes it is an
/// iterator.
#[must_use = "a stream that is dropped counts the call as cancelled"]
pub struct ItemStream<M: StreamModel, C: Clock = StdClock> {
    /// The first item, until it is taken.
    first: Option<M::Item>,
    /// Stands above the model, so it goes before it.
    items: Option<M::Items>,
    of: Source<M, C>,
}

/// Whose items they are.
enum Source<M, C: Clock> {
    /// The arm's that was assigned, until they end.
    Assigned(Metered<M, C>),
    /// The baseline's, which answers in the stead of an arm that has failed. That is counted.
    StandIn(Kept<M>),
    /// Nobody's: there are no more, and the model may go.
    Over,
}

/// A call that is answered with a stream, which counts once: as it ends, or when it is dropped.
struct Metered<M, C: Clock> {
    guard: OwnedGuard<M, C>,
    meter: StreamMeter,
    open: bool,
}

/// How it went up to the first item.
enum Opening<M: StreamModel> {
    Begun(M::Items, M::Item),
    /// There are no items.
    Empty,
    Failed(Failure<M::Error>),
}

enum Failure<E> {
    Error(E),
    Panic(Payload),
}

impl<M: StreamModel, C: Clock> Router<M, C> {
    /// Answers a request with a stream: picks the arm, asks its model, waits for the first item,
    /// and counts the whole once it ends.
    ///
    /// Adds one allocation a stream, of 4.7 KB, and none an item, to the model's own; an item costs
    /// two readings of the clock. Dropping the future counts the call as the reader's going away. A
    /// panic of the candidate before its first item is caught and the baseline asked instead,
    /// unless the router's [`Fallback`] says otherwise; after the first item, an error or a panic
    /// ends the stream and is the reader's to see.
    ///
    /// ```
    /// use pilotage::serve::request::Request;
    /// use pilotage::serve::router::Router;
    /// use pilotage::stream_model;
    /// use std::convert::Infallible;
    ///
    /// let words = stream_model::sync(|text: &str| {
    ///     let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    ///     Ok(words.into_iter().map(Ok::<_, Infallible>))
    /// });
    /// let router = Router::builder("words").stable("v1", words).build()?;
    ///
    /// # pollster::block_on(async {
    /// let answer = router.predict_stream(Request::of("user-42"), "ship ahoy").await?;
    /// // `answer.ticket` can go out now, ahead of the items.
    /// let mut items = answer.output;
    /// let mut count = 0;
    /// while let Some(word) = items.next_item().await {
    ///     assert!(!word?.is_empty());
    ///     count += 1;
    /// }
    /// assert_eq!(count, 2);
    /// # Ok::<(), Infallible>(())
    /// # })?;
    /// let snapshot = router.snapshot();
    /// assert_eq!(snapshot.arms[0].streams.as_ref().unwrap().items, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The model's own, before the first item; never one of ours.
    ///
    /// # Panics
    ///
    /// With the model's own panic before the first item, where no other model may answer and the
    /// model has no [`error_for_panic`](StreamModel::error_for_panic). It is counted first.
    pub async fn predict_stream(
        &self,
        request: Request<'_>,
        input: &M::Input,
    ) -> Result<Answer<ItemStream<M, C>>, M::Error> {
        let mut metered = Metered::of(self.begin_owned(&request));
        let (arm, ticket) = (metered.guard.arm(), metered.guard.ticket());
        let diverted = metered.guard.diverted();
        let call = metered.guard.call();
        let failure = match open(metered.guard.model(), input, &call).await {
            Opening::Begun(items, first) => {
                metered.item();
                let of = Source::Assigned(metered);
                let stream = ItemStream { first: Some(first), items: Some(items), of };
                return Ok(Answer { output: stream, arm, fell_back: false, diverted, ticket });
            }
            Opening::Empty => {
                metered.end(Status::Ok, StreamEnd::Complete, false);
                let stream = ItemStream { first: None, items: None, of: Source::Over };
                return Ok(Answer { output: stream, arm, fell_back: false, diverted, ticket });
            }
            Opening::Failed(failure) => failure,
        };
        let error = metered.guard.model().error_of(&failure);
        let Some(kept) = metered.settle(&failure) else { return give_up(failure, error) };
        let inner = self.inner();
        let (first, items) = match open(kept.model(), input, inner.call_of_baseline()).await {
            Opening::Begun(items, first) => (Some(first), Some(items)),
            Opening::Empty => (None, None),
            Opening::Failed(Failure::Error(again)) => {
                failure.forget();
                return Err(again);
            }
            Opening::Failed(Failure::Panic(again)) => {
                discard(again);
                return give_up(failure, error);
            }
        };
        failure.forget();
        let stream = ItemStream { first, items, of: Source::StandIn(kept) };
        Ok(Answer { output: stream, arm, fell_back: true, diverted, ticket })
    }
}

impl<M: SyncStreamModel, C: Clock> Router<M, C> {
    /// As [`Router::predict_stream`], for models that just compute: on this thread, without a
    /// future. The answer is an iterator; it computes on the thread that asks it for items.
    ///
    /// ```
    /// use pilotage::serve::request::Request;
    /// use pilotage::serve::router::Router;
    /// use pilotage::stream_model;
    /// use std::convert::Infallible;
    ///
    /// let countdown = stream_model::sync(|from: &u32| Ok((0..*from).rev().map(Ok::<_, Infallible>)));
    /// let router = Router::builder("countdown").stable("v1", countdown).build()?;
    /// let answer = router.predict_stream_sync(&Request::of("user-42"), &3)?;
    /// assert_eq!(answer.output.collect::<Result<Vec<_>, _>>()?, [2, 1, 0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The model's own, before the first item; never one of ours.
    ///
    /// # Panics
    ///
    /// As [`Router::predict_stream`].
    pub fn predict_stream_sync(
        &self,
        request: &Request<'_>,
        input: &<M as SyncStreamModel>::Input,
    ) -> Result<Answer<ItemStream<M, C>>, <M as SyncStreamModel>::Error> {
        let answer = pin!(self.predict_stream(*request, input));
        match answer.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => unreachable!("a model that just computes is ready at once"),
        }
    }
}

impl<M: StreamModel, C: Clock> ItemStream<M, C> {
    /// The next item; `None` after the last, or the error with which the stream breaks off. May be
    /// dropped and called again: no item is lost.
    ///
    /// # Panics
    ///
    /// With the model's own panic, where it has no
    /// [`error_for_panic`](StreamModel::error_for_panic). It is counted first, and ends the stream.
    pub async fn next_item(&mut self) -> Option<Result<M::Item, M::Error>> {
        poll_fn(|context| self.poll_item(context)).await
    }

    /// As [`ItemStream::next_item`], for who polls by hand.
    ///
    /// # Panics
    ///
    /// As [`ItemStream::next_item`].
    pub fn poll_item(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<M::Item, M::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let Some(items) = &mut self.items else { return Poll::Ready(None) };
        self.of.asked();
        let failure = match caught(|| items.poll_item(context)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Some(Ok(item)))) => {
                self.of.item();
                return Poll::Ready(Some(Ok(item)));
            }
            Ok(Poll::Ready(None)) => {
                self.of.complete();
                self.close();
                return Poll::Ready(None);
            }
            Ok(Poll::Ready(Some(Err(error)))) => Failure::Error(error),
            Err(payload) => Failure::Panic(payload),
        };
        let error = self.of.broken(&failure);
        self.close();
        Poll::Ready(Some(give_up(failure, error)))
    }

    /// Lets go of everything, once the stream is counted.
    fn close(&mut self) {
        self.let_go();
        self.of = Source::Over;
    }

    /// Drops what the model generates with. Its own drop may panic, which is nobody's to see.
    fn let_go(&mut self) {
        if let Some(items) = self.items.take() {
            if let Err(payload) = caught(|| drop(items)) {
                discard(payload);
            }
        }
    }
}

/// It is never pinned to anything: its items are polled through a plain reference.
impl<M: StreamModel, C: Clock> Unpin for ItemStream<M, C> {}

impl<M: StreamModel, C: Clock> Drop for ItemStream<M, C> {
    fn drop(&mut self) {
        // Counted by `Metered`, when it goes after this.
        self.let_go();
    }
}

impl<M: SyncStreamModel, C: Clock> Iterator for ItemStream<M, C> {
    type Item = Result<<M as SyncStreamModel>::Item, <M as SyncStreamModel>::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.poll_item(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => next,
            Poll::Pending => unreachable!("a model that just computes is ready at once"),
        }
    }
}

impl<M: StreamModel, C: Clock> Items for ItemStream<M, C> {
    type Item = M::Item;
    type Error = M::Error;

    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<M::Item, M::Error>>> {
        ItemStream::poll_item(self, context)
    }
}

impl<M: StreamModel, C: Clock> fmt::Debug for ItemStream<M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemStream").field("over", &self.items.is_none()).finish_non_exhaustive()
    }
}

/// Asks for a stream and its first item. A panic on the way is caught.
async fn open<M: StreamModel>(model: &M, input: &M::Input, call: &Call) -> Opening<M> {
    let mut items = match caught_future(|| model.stream(input, call)).await {
        Ok(Ok(items)) => items,
        Ok(Err(error)) => return Opening::Failed(Failure::Error(error)),
        Err(payload) => return Opening::Failed(Failure::Panic(payload)),
    };
    let first = poll_fn(|context| match caught(|| items.poll_item(context)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(first)) => Poll::Ready(Ok(first)),
        Err(payload) => Poll::Ready(Err(payload)),
    });
    let failed = match first.await {
        Ok(Some(Ok(item))) => return Opening::Begun(items, item),
        Ok(None) => None,
        Ok(Some(Err(error))) => Some(Failure::Error(error)),
        Err(payload) => Some(Failure::Panic(payload)),
    };
    if let Err(payload) = caught(|| drop(items)) {
        discard(payload);
    }
    failed.map_or(Opening::Empty, Opening::Failed)
}

/// What the caller hears of a failure that nobody makes up for.
fn give_up<T, E>(failure: Failure<E>, error_for_panic: Option<E>) -> Result<T, E> {
    match (failure, error_for_panic) {
        (Failure::Error(error), _) => Err(error),
        (Failure::Panic(payload), Some(error)) => {
            discard(payload);
            Err(error)
        }
        (Failure::Panic(payload), None) => std::panic::resume_unwind(payload),
    }
}

impl<E> Failure<E> {
    fn forget(self) {
        if let Self::Panic(payload) = self {
            discard(payload);
        }
    }
}

/// What a model says of its failures; it may panic in saying it.
trait Accounts: StreamModel {
    fn error_of(&self, failure: &Failure<Self::Error>) -> Option<Self::Error> {
        match failure {
            Failure::Error(_) => None,
            Failure::Panic(_) => caught(|| self.error_for_panic()).unwrap_or_else(|again| {
                discard(again);
                None
            }),
        }
    }

    fn status_of_failure(&self, failure: &Failure<Self::Error>) -> Status {
        match failure {
            Failure::Panic(_) => Status::Panicked,
            Failure::Error(error) => caught(|| self.status_of(error)).unwrap_or_else(|payload| {
                discard(payload);
                Status::Error
            }),
        }
    }
}

impl<M: StreamModel> Accounts for M {}

impl<M: StreamModel, C: Clock> Source<M, C> {
    fn asked(&mut self) {
        if let Self::Assigned(Metered { guard, meter, .. }) = self {
            meter.asked(|| guard.nanos());
        }
    }

    fn item(&mut self) {
        if let Self::Assigned(metered) = self {
            metered.item();
        }
    }

    fn complete(&mut self) {
        if let Self::Assigned(metered) = self {
            metered.end(Status::Ok, StreamEnd::Complete, false);
        }
    }

    /// Counts a failure amid the stream, and gives the model's error for it if it was a panic.
    fn broken(&mut self, failure: &Failure<M::Error>) -> Option<M::Error> {
        match self {
            Self::Assigned(metered) => {
                let error = metered.guard.model().error_of(failure);
                metered.broken(failure, false);
                error
            }
            Self::StandIn(kept) => kept.model().error_of(failure),
            Self::Over => None,
        }
    }
}

impl<M, C: Clock> Metered<M, C> {
    const fn of(guard: OwnedGuard<M, C>) -> Self {
        Self { guard, meter: StreamMeter::new(), open: true }
    }

    fn item(&mut self) {
        if let Some(full) = self.meter.item(self.guard.nanos()) {
            self.guard.inner().streams.gaps(self.guard.key(), full);
        }
    }

    /// Counts the stream as ended, once.
    fn end(&mut self, mut status: Status, end: StreamEnd, fell_back: bool) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        let nanos = self.guard.nanos();
        self.meter.end(nanos);
        let first = self.meter.first().unwrap_or(nanos);
        let inner = self.guard.inner();
        let late =
            first > inner.deadline_nanos || self.meter.waited() > inner.stream_deadline_nanos;
        if late && (status == Status::Ok || end == StreamEnd::Abandoned) {
            status = Status::Timeout;
        }
        inner.streams.ended(self.guard.key(), &self.meter, end);
        let nanos = if status == Status::Ok { first } else { nanos };
        self.guard.finish_as(status, nanos, fell_back);
    }
}

impl<M: StreamModel, C: Clock> Metered<M, C> {
    /// Counts a failure before the first item, and gives the baseline if it is to answer instead.
    fn settle(&mut self, failure: &Failure<M::Error>) -> Option<Kept<M>> {
        let may = match (self.guard.inner().fallback, failure) {
            (Fallback::Never, _) => false,
            (Fallback::OnPanic, _) => matches!(failure, Failure::Panic(_)),
            (Fallback::OnFailure, _) => true,
        };
        let may = may && self.guard.arm() != Arm::BASELINE && !self.guard.diverted();
        // Held before the call is counted: where there is none, nobody fell back on it.
        let kept = may.then(|| self.guard.inner().keep_baseline()).flatten();
        let fell_back = self.broken(failure, kept.is_some());
        kept.filter(|_| fell_back)
    }

    /// Counts a failure; with `may_fall_back`, as one the baseline makes up for, unless the model's
    /// own account blames nobody for it. Says whether it was counted so.
    fn broken(&mut self, failure: &Failure<M::Error>, may_fall_back: bool) -> bool {
        let status = self.guard.model().status_of_failure(failure);
        let blames_the_model = matches!(status, Status::Error | Status::Timeout | Status::Panicked);
        let fell_back = may_fall_back && blames_the_model;
        if let Failure::Panic(_) = failure {
            self.guard.inner().note_panic(self.guard.key());
        }
        let end = if blames_the_model { StreamEnd::Broken } else { StreamEnd::Excused };
        self.end(status, end, fell_back);
        fell_back
    }
}

impl<M, C: Clock> Drop for Metered<M, C> {
    fn drop(&mut self) {
        self.end(Status::Cancelled, StreamEnd::Abandoned, false);
    }
}

impl<M, C: Clock> Inner<M, C> {
    /// The baseline, for a stream that it gives in the stead of an arm that failed.
    fn keep_baseline(&self) -> Option<Kept<M>> {
        let held = self.slots.hold_stand_in(Place::here(), self.word.packed().primary())?;
        Some(self.slots.keep(held))
    }
}
