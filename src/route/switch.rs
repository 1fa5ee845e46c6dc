//! The split in force: the one word both planes share.
//!
//! Control writes it, every request reads it once. It is a single `AtomicU64` on its own cache
//! line, so that a rollback is one store and no request can see half of a change: the share, the
//! slot that serves as baseline and the epoch that labels observations change in the same step.
//!
//! Who may give the candidate more is written beside it ([`Owner`]): one rollout, test, switch or
//! hand at a time. Anyone may take traffic back.

use crossbeam_utils::CachePadded;
use serde::{Deserialize, Serialize};

use crate::ids::Epoch;
use crate::route::bucket::millionth;
use crate::route::owner::{OwnedError, Owner, Register};
use crate::share::TrafficShare;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};

/// A place a model stands in. A rollout has two, and promotion swaps their roles rather than the
/// models, so that both stay warm.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// Where the first stable model stands.
    #[default]
    First,
    /// Where the first candidate stands.
    Second,
}

impl Slot {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// Its number, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Whom a split is for.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Everybody who is exposed.
    #[default]
    Everybody,
    /// Whom the router's [`Audience`](crate::route::audience::Audience) lets in.
    Audience,
}

/// How many arms a split has.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arms {
    /// Baseline and candidate.
    #[default]
    Two,
    /// Those of the router's [`ArmTable`](crate::route::arms::ArmTable) too.
    Table,
}

/// How traffic is split, in full.
///
/// A subject takes part when its exposure hash is inside `exposure`; one that takes part is on the
/// candidate when its arm hash is inside `candidate`. Everybody else is on the baseline.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Split {
    /// Which split this is. Observations carry it.
    pub epoch: Epoch,
    /// Where the baseline stands; the candidate stands in the other slot.
    pub primary: Slot,
    /// Who takes part at all. Those who do not are served by the baseline and are no evidence.
    pub exposure: TrafficShare,
    /// Of those who take part, who is served by the candidate.
    pub candidate: TrafficShare,
    /// Who may take part.
    #[serde(default)]
    pub entry: Entry,
    /// Which arms there are. Taking everything from the candidate ends those beyond two.
    #[serde(default)]
    pub arms: Arms,
}

impl Default for Split {
    fn default() -> Self {
        Self {
            epoch: Epoch::default(),
            primary: Slot::First,
            exposure: TrafficShare::ALL,
            candidate: TrafficShare::NONE,
            entry: Entry::Everybody,
            arms: Arms::Two,
        }
    }
}

impl Split {
    /// Everybody on the baseline, with this epoch.
    #[must_use]
    pub fn starting_at(epoch: Epoch) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// The next split, with `candidate` of those who take part on the candidate.
    #[must_use]
    pub const fn shifted(self, candidate: TrafficShare) -> Self {
        let arms = if candidate.ppm() == 0 { Arms::Two } else { self.arms };
        Self { epoch: self.epoch.next(), candidate, arms, ..self }
    }

    /// The next split, with these arms.
    #[must_use]
    pub const fn with_arms(self, arms: Arms) -> Self {
        Self { epoch: self.epoch.next(), arms, ..self }
    }

    /// The next split, with `exposure` of the subjects taking part.
    #[must_use]
    pub const fn exposed(self, exposure: TrafficShare) -> Self {
        Self { epoch: self.epoch.next(), exposure, ..self }
    }

    /// The next split, for these.
    #[must_use]
    pub const fn entered_by(self, entry: Entry) -> Self {
        Self { epoch: self.epoch.next(), entry, ..self }
    }

    /// The next split, with everybody on the baseline.
    #[must_use]
    pub const fn rolled_back(self) -> Self {
        self.shifted(TrafficShare::NONE)
    }

    /// The next split, where the candidate has become the baseline and nobody is on a candidate.
    #[must_use]
    pub const fn promoted(self) -> Self {
        Self {
            epoch: self.epoch.next(),
            primary: self.primary.other(),
            candidate: TrafficShare::NONE,
            arms: Arms::Two,
            ..self
        }
    }

    /// The next split, with everybody on the model in `home`: back from a share, and back from a
    /// promotion.
    #[must_use]
    pub const fn returned_to(self, home: Slot) -> Self {
        Self { primary: home, ..self.rolled_back() }
    }

    /// Whether everybody is on the model in `home` already.
    #[must_use]
    pub const fn is_home(self, home: Slot) -> bool {
        self.candidate.ppm() == 0
            && self.primary.index() == home.index()
            && matches!(self.arms, Arms::Two)
    }

    /// Whether obeying this order instead of `in_force` can only take traffic from a candidate.
    const fn only_takes_back(self, in_force: Self) -> bool {
        self.candidate.ppm() == 0 && self.primary.index() == in_force.primary.index()
    }

    const fn pack(self) -> u64 {
        (self.epoch.number() as u64) << 48
            | (self.entry as u64) << ENTRY_BIT
            | (self.arms as u64) << ARMS_BIT
            | (self.is_plain() as u64) << PLAIN_BIT
            | (self.is_nearly_all() as u64) << NEARLY_ALL_BIT
            | 1 << SUBJECT_BIT
            | (self.primary.index() as u64) << PRIMARY_BIT
            | (self.exposure.ppm() as u64) << 20
            | self.candidate.ppm() as u64
    }

    /// Whether nothing but the candidate's share decides.
    const fn is_plain(self) -> bool {
        self.exposure.ppm() == TrafficShare::ALL.ppm()
            && matches!((self.entry, self.arms), (Entry::Everybody, Arms::Two))
    }

    /// Whether so many are on the candidate that hardly anybody is left to protect from it.
    pub(crate) const fn is_nearly_all(self) -> bool {
        self.exposure.ppm() == TrafficShare::ALL.ppm()
            && self.candidate.ppm() >= NEARLY_ALL
            && matches!(self.entry, Entry::Everybody)
    }

    #[inline]
    const fn unpack(word: u64) -> Self {
        Self {
            epoch: Epoch::new((word >> 48) as u16),
            primary: if word >> PRIMARY_BIT & 1 == 0 { Slot::First } else { Slot::Second },
            exposure: share_in(word >> 20),
            candidate: share_in(word),
            entry: if word >> ENTRY_BIT & 1 == 0 { Entry::Everybody } else { Entry::Audience },
            arms: if word >> ARMS_BIT & 1 == 0 { Arms::Two } else { Arms::Table },
        }
    }
}

/// Above the shares and the primary slot.
const ENTRY_BIT: u32 = 45;
const ARMS_BIT: u32 = 46;
/// The bit between it and the primary slot is never set: see [`Drawn::door`].
const NEARLY_ALL_BIT: u32 = PRIMARY_BIT + 2;
/// 75 %.
pub(crate) const NEARLY_ALL: u32 = 750_000;
/// Always set, where the key of a call says that its subject is known: so that a request takes both
/// the epoch and this from the word at once.
pub(crate) const SUBJECT_BIT: u32 = 43;
/// Where the key of a call has its arm. Without meaning in the word.
pub(crate) const ARM_BIT: u32 = 44;
const PRIMARY_BIT: u32 = 40;
const PLAIN_BIT: u32 = 47;

/// Whether a request is plain, as the bit of the word that says it of a split: one look at both
/// asks both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plainness(u64);

impl Plainness {
    /// A request with an id of bytes and nothing else.
    pub(crate) const PLAIN: Self = Self(1 << PLAIN_BIT);
    /// Any other.
    pub(crate) const OTHER: Self = Self(0);
}

/// A split as the word holds it: a request looks at what it needs and takes nothing apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed(u64);

impl Packed {
    /// The number of the slot the baseline stands in.
    #[inline]
    pub(crate) const fn primary(self) -> usize {
        (self.0 >> PRIMARY_BIT) as usize & 1
    }

    /// Whether nothing but the candidate's share decides: all are exposed, there is no audience,
    /// and there are two arms; and the request, too, asks for nothing else.
    #[inline]
    pub(crate) const fn is_plain_to(self, request: Plainness) -> bool {
        self.0 & request.0 != 0
    }

    /// Whether a subject of this hash that takes part is on the candidate.
    #[inline]
    pub(crate) const fn on_candidate(self, hash: u64) -> bool {
        self.draw(hash).on_candidate()
    }

    /// What the hash of a subject that takes part decides.
    #[inline]
    pub(crate) const fn draw(self, hash: u64) -> Drawn {
        // Both are below 2^20, so each bit from there on says whether the difference is negative.
        let below = (millionth(hash) as u64).wrapping_sub(self.0 & 0xf_ffff);
        Drawn { split: self, below }
    }

    /// The whole split.
    pub(crate) const fn split(self) -> Split {
        Split::unpack(self.0)
    }
}

/// A draw under a split: below the candidate's share or not, as bits. Bits are taken where they are
/// needed, and stay where they are needed; a comparison would be made again for each use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn {
    split: Packed,
    below: u64,
}

impl Drawn {
    /// Whether the candidate serves.
    #[inline]
    pub(crate) const fn on_candidate(self) -> bool {
        self.below >> 63 == 1
    }

    /// Where the call comes for its model: the number of the slot that serves, 2 more where it is for
    /// the candidate, and 4 more where that and nearly all being on the candidate are both so or
    /// neither is. `Slots` knows these doors.
    #[inline]
    pub(crate) const fn door(self) -> usize {
        ((self.below ^ self.split.0) >> PRIMARY_BIT) as usize & 7
    }

    /// The epoch in the upper 16 bits, the arm below it, and the mark of a known subject: all of a
    /// call's key that comes from the split.
    #[inline]
    pub(crate) const fn key_bits(self) -> u64 {
        self.split.0 & (0xffff << 48 | 1 << SUBJECT_BIT) | self.below & 1 << ARM_BIT
    }
}

/// The share in the lowest 20 bits. Only `Split::pack` makes words, so it is at most the whole.
#[inline]
const fn share_in(bits: u64) -> TrafficShare {
    match TrafficShare::from_ppm((bits & 0xf_ffff) as u32) {
        Ok(share) => share,
        Err(_) => TrafficShare::NONE,
    }
}

/// Why a switch did not obey.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SwitchError {
    /// The split changed since the order was made, so the order no longer means what it meant.
    /// Read the split in force and decide again.
    #[error(
        "the order is for epoch {}, but after epoch {} comes {}; read the split in force and decide again",
        ordered.number(), in_force.number(), in_force.next().number()
    )]
    Superseded {
        /// The epoch of the order.
        ordered: Epoch,
        /// The epoch in force.
        in_force: Epoch,
    },
    /// What stands behind the switch could not be reached. The split in force stays as it is.
    #[error("the switch could not be reached: {reason}; the split stays as it is")]
    Unreachable {
        /// What went wrong, for people.
        reason: String,
    },
    /// Somebody else moves this router's traffic. Nothing was touched.
    #[error(transparent)]
    Owned(#[from] OwnedError),
    /// All traffic was taken from the candidate by hand, or by the router itself after panics,
    /// since the owner looked last. It stays where it is.
    #[error("all traffic was taken back since the order was made; the split stays as it is")]
    Stopped,
}

/// What moves traffic: the word of this process by default, or a load balancer of yours.
///
/// ```
/// use pilotage::route::switch::{Split, SplitWord, SwitchError, TrafficSwitch};
/// use std::sync::Mutex;
///
/// /// Tells a proxy, and remembers what it was told.
/// struct Proxy(Mutex<Split>);
///
/// impl TrafficSwitch for Proxy {
///     fn shift(&self, order: &Split) -> Result<(), SwitchError> {
///         // here: PUT /weights {"candidate": order.candidate.fraction()}
///         *self.0.lock().unwrap() = *order;
///         Ok(())
///     }
///     fn in_force(&self) -> Option<Split> {
///         self.0.lock().ok().map(|split| *split)
///     }
/// }
///
/// let switch: Box<dyn TrafficSwitch> = Box::new(Proxy(Mutex::new(Split::default())));
/// let order = switch.in_force().unwrap().rolled_back();
/// switch.shift(&order)?;
/// # Ok::<(), SwitchError>(())
/// ```
pub trait TrafficSwitch: Send + Sync {
    /// Brings `order` into force.
    ///
    /// Called by control, from a thread of its own, never by a request and never under a lock. It
    /// may block: what gives the candidate more waits for it, what takes traffic back does not.
    /// Giving the same order twice must be harmless. An order that takes all traffic from the
    /// candidate is a rollback; it should succeed whatever else is wrong, and may come from a
    /// second thread while an earlier call has not returned. A panic is caught and treated as
    /// [`SwitchError::Unreachable`].
    ///
    /// # Errors
    ///
    /// [`SwitchError`] when the order is not in force afterwards. Control keeps the old split in
    /// its books, reports the error and tries again, a rollback first.
    fn shift(&self, order: &Split) -> Result<(), SwitchError>;

    /// As [`shift`](Self::shift) with an order that takes everything from the candidate, for good:
    /// its rollout ended without a promotion. A rollout that begins orders no traffic as well, so
    /// whoever sends people to a candidate beside the split learns here that this is over. Does
    /// what `shift` does unless written otherwise.
    ///
    /// # Errors
    ///
    /// As for `shift`.
    fn take_back(&self, order: &Split) -> Result<(), SwitchError> {
        self.shift(order)
    }

    /// The split in force, or `None` when that cannot be told now.
    ///
    /// Called by control, at start and before each order that gives the candidate more; it may
    /// block as `shift` may. An answer of `None` holds a rollout where it is.
    fn in_force(&self) -> Option<Split>;

    /// Told that `split`, which this switch obeyed, is in force in this process as well. Called
    /// after a promotion, for a switch that has something to tidy up. Does nothing unless written
    /// otherwise.
    fn settled(&self, split: &Split) {
        let _ = split;
    }

    /// Told which owner's orders follow ([`Owner::generation`]), before the first of them. Does
    /// nothing unless written otherwise.
    fn bind(&self, generation: u64) {
        let _ = generation;
    }
}

impl<S: TrafficSwitch + ?Sized> TrafficSwitch for std::sync::Arc<S> {
    fn shift(&self, order: &Split) -> Result<(), SwitchError> {
        (**self).shift(order)
    }

    fn take_back(&self, order: &Split) -> Result<(), SwitchError> {
        (**self).take_back(order)
    }

    fn in_force(&self) -> Option<Split> {
        (**self).in_force()
    }

    fn settled(&self, split: &Split) {
        (**self).settled(split);
    }

    fn bind(&self, generation: u64) {
        (**self).bind(generation);
    }
}

/// The switch of this process: one word that every request reads.
///
/// It obeys an order whose epoch follows the one in force, so that of two deciders only one can
/// advance and a promotion decided before an operator's rollback comes too late. It always obeys
/// an order that takes everything from the candidate, whatever its epoch: stop wins.
///
/// Whoever moves traffic for longer than one order owns the word ([`Ownership`]): as long as there
/// is an owner, an order of anybody else that gives a candidate more is refused.
///
/// [`Ownership`]: crate::route::ownership::Ownership
///
/// ```
/// use pilotage::route::switch::{SplitWord, TrafficSwitch};
/// use pilotage::share::TrafficShare;
///
/// let word = SplitWord::default();
/// let five = word.read().shifted(TrafficShare::percent(5.0)?);
/// word.shift(&five)?;
/// let promotion = five.promoted();
/// word.roll_back();                                  // somebody pulled the cord meanwhile
/// assert!(word.shift(&promotion).is_err());
/// assert_eq!(word.read().candidate, TrafficShare::NONE);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SplitWord {
    word: CachePadded<AtomicU64>,
    /// Whether somebody took all traffic back beside the owner.
    stopped: AtomicBool,
    /// The owner's generation, 0 without one: what can be asked without a lock.
    generation: AtomicU64,
    /// Held for moments only, never while user code runs.
    register: Mutex<Register>,
}

impl Default for SplitWord {
    fn default() -> Self {
        Self::new(Split::default())
    }
}

impl SplitWord {
    /// A switch with this split in force.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new(split: Split) -> Self {
        Self {
            word: CachePadded::new(AtomicU64::new(split.pack())),
            stopped: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            register: Mutex::new(Register::new()),
        }
    }

    /// The same; nothing of `loom`'s can be made in a constant.
    #[cfg(loom)]
    pub fn new(split: Split) -> Self {
        Self {
            word: CachePadded::new(AtomicU64::new(split.pack())),
            stopped: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            register: Mutex::new(Register::new()),
        }
    }

    /// The split in force. One `Acquire` load.
    #[inline]
    #[must_use]
    pub fn read(&self) -> Split {
        // Pairs with the Release of `replace`: who sees a split sees the model deployed before it.
        Split::unpack(self.word.load(Ordering::Acquire))
    }

    /// The split in force as it stands in the word, for the request path.
    #[inline]
    pub(crate) fn packed(&self) -> Packed {
        Packed(self.word.load(Ordering::Acquire))
    }

    /// Takes all traffic from the candidate, from any thread, in any state, as often as wanted.
    /// Returns the split now in force. Calls that begin after this returns are on the baseline, and
    /// the owner, if there is one, gives the candidate nothing more: its rollout is over.
    ///
    /// Where nothing is to be taken back nothing changes.
    pub fn roll_back(&self) -> Split {
        // First the note, then the word. An owner that reads the note afterwards is refused; one
        // that read it before has its order refused by the epoch, or taken back here.
        #[cfg(not(pilotage_mutant = "stopped_after_word"))]
        let first = !self.stopped.swap(true, Ordering::AcqRel) && self.generation() != 0;
        #[cfg(pilotage_mutant = "stopped_after_word")]
        let first = !self.is_stopped() && self.generation() != 0;
        let now = self
            .replace(|now| (first || !now.is_home(now.primary)).then(|| now.rolled_back()))
            .unwrap_or_else(|now| now);
        #[cfg(pilotage_mutant = "stopped_after_word")]
        self.stopped.store(true, Ordering::Release);
        now
    }

    /// Who moves traffic now.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.register.lock().owner()
    }

    /// The generation of the owner, 0 where there is none. One load.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether all traffic was taken back beside the owner.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Everybody on the baseline from this epoch on, for a router whose epochs go on after a restart.
    pub(crate) fn begin_at(&self, epoch: Epoch) {
        let _ = self.replace(|now| Some(Split { epoch, ..now.rolled_back() }));
    }

    /// The owner has heard of it, or another one begins.
    pub(crate) fn clear_stop(&self) {
        self.stopped.store(false, Ordering::Release);
    }

    pub(crate) fn register(&self) -> &Mutex<Register> {
        &self.register
    }

    pub(crate) fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }

    /// Obeys an order of whoever may give it, which was checked.
    pub(crate) fn obey(&self, order: &Split) -> Result<(), SwitchError> {
        self.replace(|now| {
            if now.epoch.next() == order.epoch {
                Some(*order)
            } else if now == *order {
                Some(now)
            } else if order.only_takes_back(now) {
                // An order made before an audience came must not let everybody in.
                Some(Split { epoch: now.epoch.next(), entry: now.entry, ..*order })
            } else {
                None
            }
        })
        .map(drop)
        .map_err(|now| SwitchError::Superseded { ordered: order.epoch, in_force: now.epoch })
    }

    /// Replaces the split by what `next` makes of it, or leaves it where `next` says `None`. Never
    /// waits for a reader; a race with another writer is settled by trying again.
    pub(crate) fn replace(&self, next: impl Fn(Split) -> Option<Split>) -> Result<Split, Split> {
        let mut new = Split::default();
        self.word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                new = next(Split::unpack(word))?;
                Some(new.pack())
            })
            .map(|_| new)
            .map_err(Split::unpack)
    }
}

/// A person's hand: obeyed as long as nobody owns the word, and always where it only takes back.
impl TrafficSwitch for SplitWord {
    fn shift(&self, order: &Split) -> Result<(), SwitchError> {
        let register = self.register.lock();
        if let Some(owner) = register.owner() {
            if !order.only_takes_back(self.read()) {
                return Err(OwnedError { owner }.into());
            }
            drop(register);
            self.roll_back();
            return Ok(());
        }
        self.obey(order)
    }

    fn in_force(&self) -> Option<Split> {
        Some(self.read())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(ppm: u32) -> TrafficShare {
        TrafficShare::from_ppm(ppm).unwrap()
    }

    #[test]
    fn promotion_swaps_roles_and_traffic_in_one_step() {
        let word = SplitWord::default();
        word.shift(&word.read().shifted(TrafficShare::ALL)).unwrap();
        word.shift(&word.read().promoted()).unwrap();
        let split = word.read();
        assert_eq!((split.primary, split.candidate), (Slot::Second, TrafficShare::NONE));
        assert_eq!(split.epoch, Epoch::new(2));
    }

    #[test]
    fn a_late_rollback_does_not_let_everybody_in() {
        let word = SplitWord::default();
        let rollback = word.read().rolled_back();
        word.shift(&word.read().shifted(share(50_000))).unwrap();
        word.shift(&word.read().entered_by(Entry::Audience)).unwrap();
        word.shift(&rollback).unwrap();
        let split = word.read();
        assert_eq!((split.candidate, split.entry), (TrafficShare::NONE, Entry::Audience));
    }

    #[test]
    fn the_same_order_twice_is_harmless() {
        let word = SplitWord::default();
        let order = word.read().shifted(share(50_000));
        word.shift(&order).unwrap();
        word.shift(&order).unwrap();
        assert_eq!(word.read(), order);
    }

    #[test]
    fn of_two_deciders_only_one_advances() {
        let word = SplitWord::default();
        let (one, two) = (word.read().shifted(share(1)), word.read().shifted(share(2)));
        word.shift(&one).unwrap();
        let error = word.shift(&two).unwrap_err();
        assert!(error.to_string().contains("decide again"), "{error}");
        assert_eq!(word.read(), one);
    }

    #[test]
    fn a_late_rollback_is_obeyed_all_the_same() {
        let word = SplitWord::default();
        let rollback = word.read().rolled_back();
        word.shift(&word.read().shifted(share(50_000))).unwrap();
        word.shift(&word.read().shifted(share(250_000))).unwrap();
        word.shift(&rollback).unwrap();
        assert_eq!(word.read().candidate, TrafficShare::NONE);
        assert_eq!(word.read().epoch, Epoch::new(3));
    }

    proptest! {
        #[test]
        fn a_word_holds_the_whole_split(
            epoch: u16, second: bool, listed: bool, table: bool, exposure in 0_u32..=1_000_000, candidate in 0_u32..=1_000_000,
        ) {
            let split = Split {
                epoch: Epoch::new(epoch),
                primary: if second { Slot::Second } else { Slot::First },
                exposure: share(exposure),
                candidate: share(candidate),
                entry: if listed { Entry::Audience } else { Entry::Everybody },
                arms: if table { Arms::Table } else { Arms::Two },
            };
            prop_assert_eq!(Split::unpack(split.pack()), split);
        }
    }
}
