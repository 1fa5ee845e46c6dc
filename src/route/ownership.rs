//! Who moves a router's traffic.
//!
//! A router has one owner at a time: a rollout, an A/B test, a blue-green switch, or a person's
//! hand. Every order carries the generation of the owner that gives it, and a later owner has a
//! higher one. So an order of an owner that was replaced, however late it comes, is refused without
//! touching anything: the handle of an old rollout cannot take traffic from its successor, and of
//! two rollouts the second cannot begin while the first has no traffic yet.
//!
//! Ownership is of what *gives* traffic. Anyone may take it back, at any time
//! ([`SplitWord::roll_back`]).

use std::sync::{Arc, Weak};

use crate::route::owner::{GiveWay, OwnedError, Owner, Register, Registered};
use crate::route::switch::{Slot, Split, SplitWord, SwitchError};

/// The right to move a router's traffic, until it is dropped.
///
/// Dropping it leaves the split as it is; whoever should take traffic back does so before.
///
/// ```
/// use pilotage::route::switch::TrafficSwitch;
/// use pilotage::serve::router::Router;
/// use pilotage::share::TrafficShare;
///
/// let router = Router::builder("proxy").stable("blue", "http://blue:8080").build()?;
/// router.deploy("green", "http://green:8080")?;
///
/// let mine = router.own_traffic("ann by hand")?;
/// mine.shift(&router.split().shifted(TrafficShare::HALF))?;
///
/// // Nobody else gives the candidate more meanwhile; anybody may take it back.
/// let refused = router.switch().shift(&router.split().shifted(TrafficShare::ALL));
/// assert!(refused.unwrap_err().to_string().contains("ann by hand"));
/// router.switch().roll_back();
/// assert_eq!(router.split().candidate, TrafficShare::NONE);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it gives up the right to move traffic"]
pub struct Ownership {
    word: Arc<SplitWord>,
    generation: u64,
    home: Slot,
}

impl Ownership {
    /// Takes the right to move the traffic of `word`.
    ///
    /// # Errors
    ///
    /// [`OwnedError`] while somebody else has it.
    pub(crate) fn claim(
        word: &Arc<SplitWord>,
        what: &str,
        stage: &str,
    ) -> Result<Self, OwnedError> {
        let mut register = word.register().lock();
        if let Some(owner) = register.owner() {
            return Err(OwnedError { owner });
        }
        register.last += 1;
        let generation = register.last;
        let owner = Owner { what: what.to_owned(), stage: stage.to_owned(), generation };
        register.owner = Some(Registered { owner, give_way: None });
        word.set_generation(generation);
        word.clear_stop();
        let home = word.read().primary;
        let former = register.former.take();
        drop(register);
        if let Some(former) = former.and_then(|former| former.upgrade()) {
            former.superseded();
        }
        Ok(Self { word: Arc::clone(word), generation, home })
    }

    /// As [`Ownership::claim`], after the present owner was made to end what it does.
    pub(crate) fn take_over(
        word: &Arc<SplitWord>,
        what: &str,
        stage: &str,
    ) -> Result<Self, OwnedError> {
        let former = {
            let register = word.register().lock();
            register.owner.as_ref().and_then(|registered| registered.give_way.clone())
        };
        if let Some(former) = former.and_then(|former| former.upgrade()) {
            former.give_way(what);
        }
        Self::claim(word, what, stage)
    }

    /// Whom to tell when another takes over; without it nobody can.
    pub(crate) fn gives_way(&self, by: Weak<dyn GiveWay>) {
        let mut register = self.word.register().lock();
        if let Some(registered) = &mut register.owner {
            if registered.owner.generation == self.generation {
                registered.give_way = Some(by);
            }
        }
    }

    /// Which owner this is.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Where the model stands that was the baseline when this began.
    #[must_use]
    pub const fn home(&self) -> Slot {
        self.home
    }

    /// Whether it still holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.word.generation() == self.generation
    }

    /// From now on this owner, and no earlier one, speaks to a switch outside.
    pub(crate) fn speak_outside(&self) {
        let mut register = self.word.register().lock();
        register.last_outside = register.last_outside.max(self.generation);
    }

    /// Whether no later owner speaks to a switch outside.
    pub(crate) fn speaks_outside(&self) -> bool {
        self.word.register().lock().last_outside == self.generation
    }

    /// Says where the owner is, for whoever is refused because of it.
    pub fn set_stage(&self, stage: &str) {
        let mut register = self.word.register().lock();
        if let Some(registered) = &mut register.owner {
            if registered.owner.generation == self.generation && registered.owner.stage != stage {
                stage.clone_into(&mut registered.owner.stage);
            }
        }
    }

    /// Brings `order` into force.
    ///
    /// # Errors
    ///
    /// [`SwitchError::Owned`] where this no longer holds, [`SwitchError::Stopped`] where somebody
    /// took all traffic back beside it and the order is another than that, and
    /// [`SwitchError::Superseded`] where the split changed since the order was made. Nothing was
    /// touched then.
    pub fn shift(&self, order: &Split) -> Result<(), SwitchError> {
        let register = self.word.register().lock();
        self.check(&register)?;
        let gives = !order.is_home(self.word.read().primary);
        if cfg!(not(pilotage_mutant = "stopped_ignored")) && gives && self.word.is_stopped() {
            return Err(SwitchError::Stopped);
        }
        self.word.obey(order)
    }

    /// As [`Ownership::shift`], and gives the right up in the same step: what is in force then, this
    /// owner does not take back any more.
    ///
    /// # Errors
    ///
    /// As for [`Ownership::shift`].
    pub(crate) fn shift_and_release(&self, order: &Split) -> Result<(), SwitchError> {
        let mut register = self.word.register().lock();
        self.check(&register)?;
        if self.word.is_stopped() {
            return Err(SwitchError::Stopped);
        }
        self.word.obey(order)?;
        register.let_go();
        self.word.set_generation(0);
        Ok(())
    }

    /// Gives the right up where the candidate was promoted and nobody has taken that back. Says
    /// whether it did.
    pub(crate) fn release_promoted(&self) -> bool {
        let mut register = self.word.register().lock();
        let promoted = self.word.read().primary != self.home;
        if promoted && register.is(self.generation) {
            register.let_go();
            self.word.set_generation(0);
        }
        promoted
    }

    /// Takes all traffic back to the model that was the baseline when this began, also where the
    /// candidate was promoted meanwhile. Returns the split in force, `None` where this no longer
    /// holds: then nothing was touched.
    #[expect(clippy::must_use_candidate, reason = "it is called for its effect")]
    pub fn return_home(&self) -> Option<Split> {
        let register = self.word.register().lock();
        #[cfg(pilotage_mutant = "home_without_lock")]
        let register = {
            drop(register);
            Register::new()
        };
        let holds = register.is(self.generation);
        if cfg!(not(pilotage_mutant = "home_without_lock")) && !holds {
            return None;
        }
        let home = self.home;
        let new = self.word.replace(|now| (!now.is_home(home)).then(|| now.returned_to(home)));
        Some(new.unwrap_or_else(|now| now))
    }

    /// Takes all traffic from the candidate; whoever is the baseline by now serves everybody. Returns
    /// the split in force, `None` where this no longer holds: then nothing was touched.
    #[expect(clippy::must_use_candidate, reason = "it is called for its effect")]
    pub fn take_back(&self) -> Option<Split> {
        let register = self.word.register().lock();
        if !register.is(self.generation) {
            return None;
        }
        let back = |now: Split| (!now.is_home(now.primary)).then(|| now.rolled_back());
        Some(self.word.replace(back).unwrap_or_else(|now| now))
    }

    /// Whether somebody took all traffic back beside this owner.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.holds() && self.word.is_stopped()
    }

    /// Goes on after a stop that this owner has heard of and was told to overcome.
    pub(crate) fn clear_stop(&self) {
        let register = self.word.register().lock();
        if register.is(self.generation) {
            self.word.clear_stop();
        }
    }

    /// Gives the right up, so that another can have it.
    pub fn release(&self) {
        let mut register = self.word.register().lock();
        if register.is(self.generation) {
            register.let_go();
            self.word.set_generation(0);
        }
    }

    /// Takes the right anew after [`Ownership::release`], where nobody else has had it since.
    pub(crate) fn reclaim(&self, what: &str, stage: &str) -> Result<(), OwnedError> {
        let mut register = self.word.register().lock();
        match register.owner() {
            Some(owner) if owner.generation == self.generation => return Ok(()),
            Some(owner) => return Err(OwnedError { owner }),
            None => {}
        }
        if register.last != self.generation {
            let what = "a later owner, which is done,".to_owned();
            let stage = "nothing".to_owned();
            let generation = register.last;
            return Err(OwnedError { owner: Owner { what, stage, generation } });
        }
        let generation = self.generation;
        let owner = Owner { what: what.to_owned(), stage: stage.to_owned(), generation };
        register.owner = Some(Registered { owner, give_way: None });
        self.word.set_generation(generation);
        Ok(())
    }

    fn check(&self, register: &Register) -> Result<(), SwitchError> {
        match register.owner() {
            Some(owner) if owner.generation == self.generation => Ok(()),
            Some(owner) => Err(OwnedError { owner }.into()),
            None => {
                let (what, stage) = ("nobody".to_owned(), "given up".to_owned());
                Err(OwnedError { owner: Owner { what, stage, generation: 0 } }.into())
            }
        }
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::route::switch::TrafficSwitch;
    use crate::share::TrafficShare;

    fn word() -> Arc<SplitWord> {
        Arc::new(SplitWord::default())
    }

    #[test]
    fn of_two_owners_the_second_is_refused_and_told_who_is_there() {
        let word = word();
        let first = Ownership::claim(&word, "rollout of v2", "baseline").unwrap();
        let error = Ownership::claim(&word, "rollout of v3", "").unwrap_err();
        assert_eq!(
            (error.owner.what.as_str(), error.owner.stage.as_str()),
            ("rollout of v2", "baseline")
        );
        drop(first);
        assert!(Ownership::claim(&word, "rollout of v3", "").is_ok());
    }

    #[test]
    fn an_order_of_an_owner_that_was_replaced_touches_nothing() {
        let word = word();
        let first = Ownership::claim(&word, "a", "").unwrap();
        first.release();
        let second = Ownership::claim(&word, "b", "").unwrap();
        second.shift(&word.read().shifted(TrafficShare::HALF)).unwrap();
        let before = word.read();
        assert!(first.return_home().is_none());
        assert!(matches!(first.shift(&before.promoted()), Err(SwitchError::Owned(_))));
        assert!(first.reclaim("a", "").is_err());
        drop(first);
        assert_eq!(word.read(), before);
        assert!(second.holds());
    }

    #[test]
    fn a_hand_beside_the_owner_takes_back_and_never_gives() {
        let word = word();
        let owner = Ownership::claim(&word, "a", "").unwrap();
        assert!(word.shift(&word.read().shifted(TrafficShare::HALF)).is_err());
        owner.shift(&word.read().shifted(TrafficShare::HALF)).unwrap();
        word.shift(&word.read().rolled_back()).unwrap();
        assert_eq!(word.read().candidate, TrafficShare::NONE);
        assert!(owner.is_stopped());
        let again = owner.shift(&word.read().shifted(TrafficShare::HALF));
        assert_eq!(again, Err(SwitchError::Stopped));
        owner.clear_stop();
        owner.shift(&word.read().shifted(TrafficShare::HALF)).unwrap();
    }

    #[test]
    fn a_stop_before_anything_was_given_is_remembered() {
        let word = word();
        let owner = Ownership::claim(&word, "a", "").unwrap();
        let decided = word.read().shifted(TrafficShare::HALF);
        word.roll_back();
        assert!(owner.shift(&decided).is_err());
        assert_eq!(word.read().candidate, TrafficShare::NONE);
    }

    #[test]
    fn a_rollback_where_nothing_is_to_be_taken_back_changes_nothing() {
        let word = word();
        let before = word.read();
        for _ in 0..100_000 {
            word.roll_back();
        }
        assert_eq!(word.read(), before);
        let owner = Ownership::claim(&word, "a", "").unwrap();
        (0..100_000).for_each(|_| assert!(owner.return_home().is_some()));
        assert_eq!(word.read(), before);
        for _ in 0..100_000 {
            word.roll_back();
        }
        assert!(word.read().epoch.number() <= 1, "once, so that orders made before are refused");
    }

    #[test]
    fn the_way_home_leads_back_from_a_promotion_too() {
        let word = word();
        let owner = Ownership::claim(&word, "a", "").unwrap();
        owner.shift(&word.read().shifted(TrafficShare::ALL)).unwrap();
        owner.shift(&word.read().promoted()).unwrap();
        assert_eq!(word.read().primary, Slot::Second);
        let split = owner.return_home().unwrap();
        assert_eq!((split.primary, split.candidate), (Slot::First, TrafficShare::NONE));
    }

    #[test]
    fn an_owner_that_let_go_may_come_back_where_nobody_was_there_meanwhile() {
        let word = word();
        let owner = Ownership::claim(&word, "a", "").unwrap();
        owner.release();
        assert!(!owner.holds());
        owner.reclaim("a", "again").unwrap();
        assert_eq!(word.owner().unwrap().stage, "again");
        owner.release();
        drop(Ownership::claim(&word, "b", "").unwrap());
        assert!(owner.reclaim("a", "").is_err(), "the models may be others by now");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::thread;

    use super::*;
    use crate::share::TrafficShare;

    fn word() -> Arc<SplitWord> {
        Arc::new(SplitWord::default())
    }

    #[test]
    fn loom_after_a_hand_has_rolled_back_the_owner_gives_nothing_more() {
        loom::model(|| {
            let word = word();
            let owner = Ownership::claim(&word, "a", "").unwrap();
            let hand = {
                let word = Arc::clone(&word);
                thread::spawn(move || {
                    word.roll_back();
                    word.read()
                })
            };
            // Decided anew each time, as a pilot does that finds its order superseded.
            for _ in 0..2 {
                let _ = owner.shift(&word.read().shifted(TrafficShare::HALF));
            }
            let after = hand.join().unwrap();
            assert_eq!(after.candidate, TrafficShare::NONE, "when it returned");
            assert_eq!(word.read().candidate, TrafficShare::NONE, "and from then on");
            let more = owner.shift(&word.read().shifted(TrafficShare::ALL));
            assert_eq!(more, Err(SwitchError::Stopped));
        });
    }

    #[test]
    fn loom_a_promotion_is_released_or_comes_home_and_the_stop_knows_which() {
        loom::model(|| {
            let word = word();
            let owner = Arc::new(Ownership::claim(&word, "a", "").unwrap());
            let promoting = {
                let (word, owner) = (Arc::clone(&word), Arc::clone(&owner));
                thread::spawn(move || {
                    let order = word.read().promoted();
                    owner.shift_and_release(&order).is_ok()
                })
            };
            let home = owner.return_home();
            let promoted = promoting.join().unwrap();
            let split = word.read();
            match home {
                // It came first, or found the promotion and took it back: never after the release.
                Some(home) => {
                    assert!(home.is_home(Slot::First));
                    assert!(promoted == !split.is_home(Slot::First));
                    assert!(promoted == !owner.holds());
                }
                None => assert!(promoted && split.is_home(Slot::Second) && !owner.holds()),
            }
        });
    }

    #[test]
    fn loom_what_came_home_stays_home_beside_a_later_owner() {
        loom::model(|| {
            let word = word();
            let first = Arc::new(Ownership::claim(&word, "a", "").unwrap());
            first.shift(&word.read().shifted(TrafficShare::HALF)).unwrap();
            let stop = {
                let first = Arc::clone(&first);
                thread::spawn(move || first.return_home().is_some())
            };
            first.release();
            let second = Ownership::claim(&word, "b", "").unwrap();
            let order = word.read().shifted(TrafficShare::ALL);
            let shifted = second.shift(&order);
            let came_home = stop.join().unwrap();
            // An order of an owner that was replaced touches nothing of its successor's.
            assert_eq!(shifted, Ok(()), "{came_home}");
            assert_eq!(word.read().candidate, TrafficShare::ALL);
        });
    }
}
