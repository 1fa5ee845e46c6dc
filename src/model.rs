//! What the user brings: something that answers.
//!
//! [`Model`] is asynchronous and costs nothing over calling it directly. A model that just
//! computes implements [`SyncModel`] instead, or is a closure given to [`sync`], and is a `Model`
//! by that. Arms of different types go behind [`BoxModel`].

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::ids::Arm;
use crate::outcome::Status;

/// Why a model is being called. A model that has side effects looks at [`Call::is_shadow`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Call {
    /// Which arm the model serves as.
    pub arm: Arm,
    /// Who gets the answer.
    pub purpose: Purpose,
    /// How long the answer is awaited; later ones count as timed out. `None` when for ever.
    pub deadline: Option<Duration>,
}

/// Who gets the answer of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Purpose {
    /// The caller.
    Serve,
    /// Nobody: it is compared with another model's and thrown away. Charge nobody, send nothing,
    /// write nothing.
    Shadow,
}

impl Call {
    /// A call whose answer goes to the caller.
    #[must_use]
    pub const fn serving(arm: Arm) -> Self {
        Self { arm, purpose: Purpose::Serve, deadline: None }
    }

    /// A call whose answer is only compared.
    #[must_use]
    pub const fn shadow(arm: Arm) -> Self {
        Self { arm, purpose: Purpose::Shadow, deadline: None }
    }

    /// With a deadline.
    #[must_use]
    pub const fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Whether the answer is only compared and thrown away.
    #[must_use]
    pub const fn is_shadow(&self) -> bool {
        matches!(self.purpose, Purpose::Shadow)
    }
}

/// Something that answers requests.
///
/// ```
/// use pilotage::model::{Call, Model};
///
/// struct Greeter;
///
/// impl Model for Greeter {
///     type Input = str;
///     type Output = String;
///     type Error = std::io::Error;
///
///     async fn predict(&self, input: &str, _call: &Call) -> Result<String, Self::Error> {
///         Ok(format!("hello {input}"))
///     }
/// }
/// ```
pub trait Model: Send + Sync {
    /// What it is asked.
    type Input: ?Sized + Sync;
    /// What it answers.
    type Output: Send;
    /// How it fails.
    type Error: Send;

    /// Answers `input`.
    ///
    /// Called by the router within the caller's task, on whatever executor that runs, or by a
    /// shadow lane on its executor. It must not block longer than the caller's executor bears:
    /// heavy computing belongs on a pool of yours (`spawn_blocking` and the like), awaited here.
    /// The returned future may be dropped at any await, which counts as cancelled.
    ///
    /// # Errors
    ///
    /// The model's own. They reach the caller unchanged, unless the router's fallback policy lets
    /// the baseline answer instead. A panic is caught, counted, and treated as that policy says.
    fn predict(
        &self,
        input: &Self::Input,
        call: &Call,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;

    /// What an error counts as. [`Status::Timeout`] for an expired deadline of the model's own,
    /// [`Status::Cancelled`] where the caller is to blame (a malformed input), which then counts
    /// for neither arm; [`Status::Ok`] where the error is a rightful answer.
    ///
    /// Called right after a failed `predict`; must not block.
    fn status_of(&self, error: &Self::Error) -> Status {
        let _ = error;
        Status::Error
    }

    /// The error a caller is given when this model panicked and no other may answer. `None`, the
    /// default, lets the panic go on to the caller.
    fn error_for_panic(&self) -> Option<Self::Error> {
        None
    }

    /// Whether the model may be called with answers thrown away. `false` unless you say so,
    /// because a shadow call of a model that writes or charges does so twice.
    fn shadowable(&self) -> bool {
        false
    }
}

/// A model that just computes: no future, no executor.
///
/// Every `SyncModel` is a [`Model`]. Called through [`Router::predict_sync`] it needs no executor;
/// called through `predict` it computes inside the caller's task, so on an asynchronous server
/// put the whole call on a blocking pool unless it takes microseconds.
///
/// [`Router::predict_sync`]: crate::serve::router::Router::predict_sync
///
/// ```
/// use pilotage::model::{Call, SyncModel};
///
/// struct Length;
///
/// impl SyncModel for Length {
///     type Input = str;
///     type Output = usize;
///     type Error = std::convert::Infallible;
///
///     fn predict_sync(&self, input: &str, _call: &Call) -> Result<usize, Self::Error> {
///         Ok(input.len())
///     }
/// }
/// ```
pub trait SyncModel: Send + Sync {
    /// What it is asked.
    type Input: ?Sized + Sync;
    /// What it answers.
    type Output: Send;
    /// How it fails.
    type Error: Send;

    /// Answers `input`, on the caller's thread or a shadow lane's, for as long as it takes.
    ///
    /// # Errors
    ///
    /// As for [`Model::predict`].
    fn predict_sync(&self, input: &Self::Input, call: &Call) -> Result<Self::Output, Self::Error>;

    /// What an error counts as; see [`Model::status_of`].
    fn status_of(&self, error: &Self::Error) -> Status {
        let _ = error;
        Status::Error
    }

    /// The error that stands for a panic; see [`Model::error_for_panic`].
    fn error_for_panic(&self) -> Option<Self::Error> {
        None
    }

    /// Whether shadow calls are welcome; see [`Model::shadowable`].
    fn shadowable(&self) -> bool {
        false
    }
}

impl<S: SyncModel> Model for S {
    type Input = S::Input;
    type Output = S::Output;
    type Error = S::Error;

    #[inline]
    async fn predict(&self, input: &S::Input, call: &Call) -> Result<S::Output, S::Error> {
        self.predict_sync(input, call)
    }

    fn status_of(&self, error: &S::Error) -> Status {
        SyncModel::status_of(self, error)
    }

    fn error_for_panic(&self) -> Option<S::Error> {
        SyncModel::error_for_panic(self)
    }

    fn shadowable(&self) -> bool {
        SyncModel::shadowable(self)
    }
}

impl<M: Model> Model for Arc<M> {
    type Input = M::Input;
    type Output = M::Output;
    type Error = M::Error;

    fn predict(
        &self,
        input: &M::Input,
        call: &Call,
    ) -> impl Future<Output = Result<M::Output, M::Error>> + Send {
        (**self).predict(input, call)
    }

    fn status_of(&self, error: &M::Error) -> Status {
        (**self).status_of(error)
    }

    fn error_for_panic(&self) -> Option<M::Error> {
        (**self).error_for_panic()
    }

    fn shadowable(&self) -> bool {
        (**self).shadowable()
    }
}

type Signature<I, O, E> = fn(&I) -> Result<O, E>;

/// A closure as a model; see [`sync`].
pub struct FnModel<I: ?Sized, O, E, F> {
    function: F,
    shadowable: bool,
    types: PhantomData<Signature<I, O, E>>,
}

/// A model of a closure: `sync(|text: &str| Ok::<_, MyError>(text.len()))`.
///
/// ```
/// use pilotage::model::{self, Call, SyncModel};
/// use std::convert::Infallible;
///
/// let model = model::sync(|text: &str| Ok::<_, Infallible>(text.len())).shadowable();
/// # let call = Call::serving(pilotage::ids::Arm::BASELINE);
/// assert_eq!(model.predict_sync("four", &call), Ok(4));
/// ```
pub const fn sync<I: ?Sized, O, E, F>(function: F) -> FnModel<I, O, E, F>
where
    F: Fn(&I) -> Result<O, E> + Send + Sync,
{
    FnModel { function, shadowable: false, types: PhantomData }
}

impl<I: ?Sized, O, E, F> FnModel<I, O, E, F> {
    /// Says that the closure has no side effects, so that it may be shadowed.
    #[must_use]
    pub fn shadowable(mut self) -> Self {
        self.shadowable = true;
        self
    }
}

impl<I, O, E, F> SyncModel for FnModel<I, O, E, F>
where
    I: ?Sized + Sync,
    O: Send,
    E: Send,
    F: Fn(&I) -> Result<O, E> + Send + Sync,
{
    type Input = I;
    type Output = O;
    type Error = E;

    #[inline]
    fn predict_sync(&self, input: &I, _call: &Call) -> Result<O, E> {
        (self.function)(input)
    }

    fn shadowable(&self) -> bool {
        self.shadowable
    }
}

impl<I: ?Sized, O, E, F> fmt::Debug for FnModel<I, O, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnModel").field("shadowable", &self.shadowable).finish_non_exhaustive()
    }
}

/// [`Model`] in a form that can be made into an object, at one allocation a call. Every `Model` is
/// one; users meet it through [`BoxModel`].
#[async_trait]
pub trait DynModel<I: ?Sized + Sync, O, E>: Send + Sync {
    /// See [`Model::predict`].
    ///
    /// # Errors
    ///
    /// The model's own.
    async fn predict_dyn(&self, input: &I, call: &Call) -> Result<O, E>;
    /// See [`Model::status_of`].
    fn status_of_dyn(&self, error: &E) -> Status;
    /// See [`Model::error_for_panic`].
    fn error_for_panic_dyn(&self) -> Option<E>;
    /// See [`Model::shadowable`].
    fn shadowable_dyn(&self) -> bool;
}

#[async_trait]
impl<M: Model> DynModel<M::Input, M::Output, M::Error> for M {
    async fn predict_dyn(&self, input: &M::Input, call: &Call) -> Result<M::Output, M::Error> {
        self.predict(input, call).await
    }

    fn status_of_dyn(&self, error: &M::Error) -> Status {
        self.status_of(error)
    }

    fn error_for_panic_dyn(&self) -> Option<M::Error> {
        self.error_for_panic()
    }

    fn shadowable_dyn(&self) -> bool {
        self.shadowable()
    }
}

/// A model of any type with this input, output and error, so that two arms may be of different
/// types. Costs one allocation and one indirect call a request. Clones share the model.
///
/// ```
/// use pilotage::model::{self, BoxModel};
/// use pilotage::serve::router::Router;
/// use std::convert::Infallible;
///
/// let old: BoxModel<str, usize, Infallible> =
///     BoxModel::new(model::sync(|text: &str| Ok(text.len())));
/// let new = BoxModel::new(model::sync(|text: &str| Ok(text.chars().count())));
/// let router = Router::builder("length").stable("bytes", old).build()?;
/// router.deploy("chars", new)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BoxModel<I: ?Sized, O, E>(Arc<dyn DynModel<I, O, E>>);

impl<I: ?Sized + Sync, O, E> BoxModel<I, O, E> {
    /// Hides the type of `model`.
    #[must_use]
    pub fn new<M>(model: M) -> Self
    where
        M: Model<Input = I, Output = O, Error = E> + 'static,
    {
        Self(Arc::new(model))
    }
}

impl<I: ?Sized, O, E> Clone for BoxModel<I, O, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I: ?Sized, O, E> fmt::Debug for BoxModel<I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxModel")
    }
}

impl<I: ?Sized + Sync, O: Send, E: Send> Model for BoxModel<I, O, E> {
    type Input = I;
    type Output = O;
    type Error = E;

    async fn predict(&self, input: &I, call: &Call) -> Result<O, E> {
        self.0.predict_dyn(input, call).await
    }

    fn status_of(&self, error: &E) -> Status {
        self.0.status_of_dyn(error)
    }

    fn error_for_panic(&self) -> Option<E> {
        self.0.error_for_panic_dyn()
    }

    fn shadowable(&self) -> bool {
        self.0.shadowable_dyn()
    }
}
