//! Streams in and out: [`futures_core::Stream`].
//!
//! What an engine gives goes in through [`from_stream`]; an answer
//! ([`ItemStream`]) is itself such a stream, to be handed to a
//! response as its body.
//!
//! ```
//! use pilotage::adapt::stream::{FromStream, from_stream};
//! use pilotage::model::Call;
//! use pilotage::serve::request::Request;
//! use pilotage::serve::router::Router;
//! use pilotage::stream_model::StreamModel;
//! use smol::channel::{Receiver, unbounded};
//! use smol::stream::{Stream, StreamExt};
//!
//! /// An engine whose tokens come through a channel, which is a stream of them.
//! struct Engine;
//!
//! impl StreamModel for Engine {
//!     type Input = str;
//!     type Item = String;
//!     type Error = std::io::Error;
//!     type Items = FromStream<Receiver<Result<String, Self::Error>>>;
//!
//!     async fn stream(&self, prompt: &str, _call: &Call) -> Result<Self::Items, Self::Error> {
//!         let (send, tokens) = unbounded();
//!         for word in prompt.split(' ') {
//!             send.try_send(Ok(word.to_owned())).map_err(std::io::Error::other)?;
//!         }
//!         Ok(from_stream(tokens))
//!     }
//! }
//!
//! /// What a web framework asks of a body.
//! fn body(stream: impl Stream<Item = Result<String, std::io::Error>> + Send + 'static) -> usize {
//!     smol::block_on(stream.count())
//! }
//!
//! let router = Router::builder("chat").stable("v1", Engine).build()?;
//! let answer = smol::block_on(router.predict_stream(Request::of("user-42"), "ship ahoy"))?;
//! assert_eq!(body(answer.output), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::clock::Clock;
use crate::serve::stream::ItemStream;
use crate::stream_model::{Items, StreamModel};

/// A stream as [`Items`]; see [`from_stream`].
pub struct FromStream<S: ?Sized>(Pin<Box<S>>);

/// The items of a stream, in a box, at one allocation: most streams may not be moved once they are
/// polled.
pub fn from_stream<S, T, E>(stream: S) -> FromStream<S>
where
    S: Stream<Item = Result<T, E>>,
{
    FromStream(Box::pin(stream))
}

impl<S: ?Sized> FromStream<S> {
    /// Of a stream that is in a box already.
    #[must_use]
    pub const fn boxed(stream: Pin<Box<S>>) -> Self {
        Self(stream)
    }
}

impl<S, T, E> Items for FromStream<S>
where
    S: Stream<Item = Result<T, E>> + ?Sized,
{
    type Item = T;
    type Error = E;

    #[inline]
    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, E>>> {
        self.0.as_mut().poll_next(context)
    }
}

impl<S: ?Sized> fmt::Debug for FromStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromStream")
    }
}

impl<M: StreamModel, C: Clock> Stream for ItemStream<M, C> {
    type Item = Result<M::Item, M::Error>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_item(context)
    }
}
