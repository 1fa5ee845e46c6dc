//! A model that answers with a stream of items: tokens, frames, rows.
//!
//! [`StreamModel`] is asynchronous, as engines with a queue are; a model that computes its items one
//! by one implements [`SyncStreamModel`] instead, or is a closure given to [`sync`], and is a
//! `StreamModel` by that. Arms of different types go behind [`BoxStreamModel`].
//!
//! A stream is a value of its own that borrows nothing, so that it can be handed on as the body of
//! a response and outlive the handler that asked for it. It is polled through [`Items`], a trait of
//! this crate, because the standard library has none yet; the feature `stream` connects it with
//! `futures_core::Stream` both ways. `Items` needs no pinning: what has to stay where it is (a
//! generator) goes into a box once, as it would in any case to get a name.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;

use crate::model::Call;
use crate::outcome::Status;

/// The items of one answer, one after another.
///
/// ```
/// use pilotage::stream_model::{Items, iter};
/// use std::convert::Infallible;
/// use std::task::{Context, Poll, Waker};
///
/// let mut items = iter(["one", "two"].into_iter().map(Ok::<_, Infallible>));
/// let mut context = Context::from_waker(Waker::noop());
/// assert_eq!(items.poll_item(&mut context), Poll::Ready(Some(Ok("one"))));
/// assert_eq!(items.poll_item(&mut context), Poll::Ready(Some(Ok("two"))));
/// assert_eq!(items.poll_item(&mut context), Poll::Ready(None));
/// ```
pub trait Items {
    /// What comes.
    type Item;
    /// How the stream breaks off.
    type Error;

    /// The next item, `None` after the last, or the error with which the stream breaks off.
    /// Pending when it is not there yet: the context's waker is then woken once it may be.
    ///
    /// Called by whoever reads the answer, on its executor; must not block for longer than that
    /// bears. After the end or an error it is called no more, and dropped at once. Dropped earlier,
    /// the reader went away: stop generating.
    fn poll_item(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Self::Item, Self::Error>>>;
}

impl<S: Items + ?Sized> Items for Box<S> {
    type Item = S::Item;
    type Error = S::Error;

    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<S::Item, S::Error>>> {
        (**self).poll_item(context)
    }
}

/// Items of any type, for streams whose own cannot be named and arms that differ in it.
pub type BoxItems<T, E> = Box<dyn Items<Item = T, Error = E> + Send>;

/// An iterator as [`Items`]; see [`iter`].
#[derive(Clone, Debug)]
pub struct Iter<I>(I);

/// The items of an iterator. Each is computed when it is asked for, in the reader's task.
pub fn iter<I, T, E>(items: I) -> Iter<I::IntoIter>
where
    I: IntoIterator<Item = Result<T, E>>,
{
    Iter(items.into_iter())
}

impl<I, T, E> Items for Iter<I>
where
    I: Iterator<Item = Result<T, E>>,
{
    type Item = T;
    type Error = E;

    #[inline]
    fn poll_item(&mut self, _context: &mut Context<'_>) -> Poll<Option<Result<T, E>>> {
        Poll::Ready(self.0.next())
    }
}

/// Something that answers with a stream.
///
/// ```
/// use pilotage::model::Call;
/// use pilotage::stream_model::{BoxItems, StreamModel, iter};
///
/// struct Letters;
///
/// impl StreamModel for Letters {
///     type Input = str;
///     type Item = char;
///     type Error = std::io::Error;
///     type Items = BoxItems<char, Self::Error>;
///
///     async fn stream(&self, input: &str, _call: &Call) -> Result<Self::Items, Self::Error> {
///         // An engine would be asked here, and its stream be wrapped.
///         Ok(Box::new(iter(input.to_owned().chars().map(Ok).collect::<Vec<_>>())))
///     }
/// }
/// ```
pub trait StreamModel: Send + Sync {
    /// What it is asked.
    type Input: ?Sized + Sync;
    /// What its answers are made of.
    type Item: Send;
    /// How it fails, before or amid an answer.
    type Error: Send;
    /// An answer under way. [`BoxItems`] where it has no name.
    type Items: Items<Item = Self::Item, Error = Self::Error> + Send + 'static;

    /// Begins to answer `input`.
    ///
    /// Called by the router within the caller's task. It may await whatever must be done before
    /// items can come, and should leave the items to the stream it returns. The returned future
    /// may be dropped at any await, which counts as cancelled. [`Call::deadline`] is for the first
    /// item.
    ///
    /// # Errors
    ///
    /// The model's own; see [`Model::predict`](crate::model::Model::predict).
    fn stream(
        &self,
        input: &Self::Input,
        call: &Call,
    ) -> impl Future<Output = Result<Self::Items, Self::Error>> + Send;

    /// What an error counts as, before or amid the stream; see
    /// [`Model::status_of`](crate::model::Model::status_of).
    fn status_of(&self, error: &Self::Error) -> Status {
        let _ = error;
        Status::Error
    }

    /// The error that stands for a panic; see
    /// [`Model::error_for_panic`](crate::model::Model::error_for_panic).
    fn error_for_panic(&self) -> Option<Self::Error> {
        None
    }
}

/// A model that computes its items one by one: no future, no executor.
///
/// Every `SyncStreamModel` is a [`StreamModel`]. Called through [`Router::predict_stream_sync`] it
/// needs no executor, and the answer is an iterator.
///
/// [`Router::predict_stream_sync`]: crate::serve::router::Router::predict_stream_sync
///
/// ```
/// use pilotage::model::Call;
/// use pilotage::stream_model::SyncStreamModel;
///
/// struct Countdown;
///
/// impl SyncStreamModel for Countdown {
///     type Input = u32;
///     type Item = u32;
///     type Error = std::convert::Infallible;
///     type Items = Box<dyn Iterator<Item = Result<u32, Self::Error>> + Send>;
///
///     fn stream_sync(&self, from: &u32, _call: &Call) -> Result<Self::Items, Self::Error> {
///         Ok(Box::new((0..*from).rev().map(Ok)))
///     }
/// }
/// ```
pub trait SyncStreamModel: Send + Sync {
    /// What it is asked.
    type Input: ?Sized + Sync;
    /// What its answers are made of.
    type Item: Send;
    /// How it fails, before or amid an answer.
    type Error: Send;
    /// An answer under way.
    type Items: Iterator<Item = Result<Self::Item, Self::Error>> + Send + 'static;

    /// Begins to answer `input`, on the caller's thread. Items are computed when they are asked
    /// for.
    ///
    /// # Errors
    ///
    /// As for [`StreamModel::stream`].
    fn stream_sync(&self, input: &Self::Input, call: &Call) -> Result<Self::Items, Self::Error>;

    /// What an error counts as; see [`StreamModel::status_of`].
    fn status_of(&self, error: &Self::Error) -> Status {
        let _ = error;
        Status::Error
    }

    /// The error that stands for a panic; see [`StreamModel::error_for_panic`].
    fn error_for_panic(&self) -> Option<Self::Error> {
        None
    }
}

impl<S: SyncStreamModel> StreamModel for S {
    type Input = S::Input;
    type Item = S::Item;
    type Error = S::Error;
    type Items = Iter<S::Items>;

    async fn stream(&self, input: &S::Input, call: &Call) -> Result<Self::Items, S::Error> {
        self.stream_sync(input, call).map(Iter)
    }

    fn status_of(&self, error: &S::Error) -> Status {
        SyncStreamModel::status_of(self, error)
    }

    fn error_for_panic(&self) -> Option<S::Error> {
        SyncStreamModel::error_for_panic(self)
    }
}

impl<M: StreamModel> StreamModel for Arc<M> {
    type Input = M::Input;
    type Item = M::Item;
    type Error = M::Error;
    type Items = M::Items;

    fn stream(
        &self,
        input: &M::Input,
        call: &Call,
    ) -> impl Future<Output = Result<M::Items, M::Error>> + Send {
        (**self).stream(input, call)
    }

    fn status_of(&self, error: &M::Error) -> Status {
        (**self).status_of(error)
    }

    fn error_for_panic(&self) -> Option<M::Error> {
        (**self).error_for_panic()
    }
}

type Signature<I, A, E> = fn(&I) -> Result<A, E>;

/// A closure as a model that streams; see [`sync`].
pub struct FnStreamModel<I: ?Sized, A, E, F> {
    function: F,
    types: PhantomData<Signature<I, A, E>>,
}

/// A model of a closure that gives an iterator of items, or fails before the first.
///
/// ```
/// use pilotage::model::Call;
/// use pilotage::stream_model::{self, SyncStreamModel};
/// use std::convert::Infallible;
///
/// let words = stream_model::sync(|text: &str| {
///     let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
///     Ok(words.into_iter().map(Ok::<_, Infallible>))
/// });
/// # let call = Call::serving(pilotage::ids::Arm::BASELINE);
/// assert_eq!(words.stream_sync("one two", &call).into_iter().flatten().count(), 2);
/// ```
pub const fn sync<I: ?Sized, A, T, E, F>(function: F) -> FnStreamModel<I, A, E, F>
where
    F: Fn(&I) -> Result<A, E> + Send + Sync,
    A: Iterator<Item = Result<T, E>> + Send + 'static,
{
    FnStreamModel { function, types: PhantomData }
}

impl<I, A, T, E, F> SyncStreamModel for FnStreamModel<I, A, E, F>
where
    I: ?Sized + Sync,
    A: Iterator<Item = Result<T, E>> + Send + 'static,
    T: Send,
    E: Send,
    F: Fn(&I) -> Result<A, E> + Send + Sync,
{
    type Input = I;
    type Item = T;
    type Error = E;
    type Items = A;

    fn stream_sync(&self, input: &I, _call: &Call) -> Result<A, E> {
        (self.function)(input)
    }
}

impl<I: ?Sized, A, E, F> fmt::Debug for FnStreamModel<I, A, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnStreamModel").finish_non_exhaustive()
    }
}

/// [`StreamModel`] in a form that can be made into an object, at two allocations a stream. Every
/// `StreamModel` is one; users meet it through [`BoxStreamModel`].
#[async_trait]
pub trait DynStreamModel<I: ?Sized + Sync, T, E>: Send + Sync {
    /// See [`StreamModel::stream`].
    ///
    /// # Errors
    ///
    /// The model's own.
    async fn stream_dyn(&self, input: &I, call: &Call) -> Result<BoxItems<T, E>, E>;
    /// See [`StreamModel::status_of`].
    fn status_of_dyn(&self, error: &E) -> Status;
    /// See [`StreamModel::error_for_panic`].
    fn error_for_panic_dyn(&self) -> Option<E>;
}

#[async_trait]
impl<M: StreamModel> DynStreamModel<M::Input, M::Item, M::Error> for M {
    async fn stream_dyn(
        &self,
        input: &M::Input,
        call: &Call,
    ) -> Result<BoxItems<M::Item, M::Error>, M::Error> {
        Ok(Box::new(self.stream(input, call).await?))
    }

    fn status_of_dyn(&self, error: &M::Error) -> Status {
        self.status_of(error)
    }

    fn error_for_panic_dyn(&self) -> Option<M::Error> {
        self.error_for_panic()
    }
}

/// A model of any type that streams such items, so that two arms may be of different types. Costs
/// two allocations a stream and one indirect call an item. Clones share the model.
///
/// ```
/// use pilotage::serve::request::Request;
/// use pilotage::serve::router::Router;
/// use pilotage::stream_model::{self, BoxStreamModel};
/// use std::convert::Infallible;
///
/// let bytes = stream_model::sync(|text: &str| {
///     Ok(text.as_bytes().to_vec().into_iter().map(|byte| Ok(char::from(byte))))
/// });
/// let chars = stream_model::sync(|text: &str| {
///     Ok(text.chars().collect::<Vec<_>>().into_iter().map(Ok))
/// });
/// // The two closures and their iterators are of different types; the arms are of one.
/// type Arm = BoxStreamModel<str, char, Infallible>;
/// let router = Router::builder("letters").stable("bytes", Arm::new(bytes)).build()?;
/// router.deploy("chars", Arm::new(chars))?;
///
/// # pollster::block_on(async {
/// let answer = router.predict_stream(Request::of("user-42"), "abc").await?;
/// let mut letters = answer.output;
/// let mut text = String::new();
/// while let Some(letter) = letters.next_item().await {
///     text.push(letter?);
/// }
/// assert_eq!(text, "abc");
/// # Ok::<(), Infallible>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BoxStreamModel<I: ?Sized, T, E>(Arc<dyn DynStreamModel<I, T, E>>);

impl<I: ?Sized + Sync, T, E> BoxStreamModel<I, T, E> {
    /// Hides the type of `model`.
    #[must_use]
    pub fn new<M>(model: M) -> Self
    where
        M: StreamModel<Input = I, Item = T, Error = E> + 'static,
    {
        Self(Arc::new(model))
    }
}

impl<I: ?Sized, T, E> Clone for BoxStreamModel<I, T, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I: ?Sized, T, E> fmt::Debug for BoxStreamModel<I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxStreamModel")
    }
}

impl<I, T, E> StreamModel for BoxStreamModel<I, T, E>
where
    I: ?Sized + Sync,
    T: Send + 'static,
    E: Send + 'static,
{
    type Input = I;
    type Item = T;
    type Error = E;
    type Items = BoxItems<T, E>;

    async fn stream(&self, input: &I, call: &Call) -> Result<BoxItems<T, E>, E> {
        self.0.stream_dyn(input, call).await
    }

    fn status_of(&self, error: &E) -> Status {
        self.0.status_of_dyn(error)
    }

    fn error_for_panic(&self) -> Option<E> {
        self.0.error_for_panic_dyn()
    }
}
