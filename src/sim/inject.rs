//! Dependencies that misbehave, for tests of whoever wires them in.
//!
//! Each wraps a journal store, a traffic switch, a metrics sink or an alerter and does to it what an
//! [`Injector`] says at that moment: keeps calls waiting, lets them fail or panic, answers twice.
//! What a rollout does then can be tried in a test with real threads.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::alert::alert::Alert;
use crate::alert::alerter::{AlertError, Alerter};
use crate::control::journal_file::{Durability, JournalStore};
use crate::observe::sink::{MetricsSink, SinkError};
use crate::observe::window::Window;
use crate::route::switch::{Split, SwitchError, TrafficSwitch};

/// What is done to each call.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It is answered so much later.
    Slow(Duration),
    /// It does not return before this time has passed or the fault is over, and then fails.
    Blocked(Duration),
    /// It is answered late: carried out at once, and returns so much later.
    Late(Duration),
    /// It fails, and does nothing.
    Failing,
    /// It panics.
    Panicking,
    /// It is carried out twice.
    Twice,
}

/// A fault that is no such thing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{given} is not a fault; give none, slow:500ms, blocked:10s, late:1s, failing, panicking or twice"
)]
pub struct FaultError {
    /// What was given.
    pub given: String,
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let error = || FaultError { given: text.to_owned() };
        let time = |text: &str| crate::rollout::human::parse_duration(text).ok().ok_or_else(error);
        Ok(match text.split_once(':') {
            Some(("slow", by)) => Self::Slow(time(by)?),
            Some(("blocked", by)) => Self::Blocked(time(by)?),
            Some(("late", by)) => Self::Late(time(by)?),
            None => match text {
                "none" => Self::None,
                "failing" => Self::Failing,
                "panicking" => Self::Panicking,
                "twice" => Self::Twice,
                _ => return Err(error()),
            },
            Some(_) => return Err(error()),
        })
    }
}

/// Says what is done to the calls of whatever was wrapped with it. Clones say the same.
#[derive(Clone, Debug, Default)]
pub struct Injector(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    fault: Mutex<Fault>,
    changed: Condvar,
}

impl Injector {
    /// From now on this is done. Calls that are kept waiting by another fault go on.
    pub fn set(&self, fault: Fault) {
        *self.0.fault.lock() = fault;
        self.0.changed.notify_all();
    }

    /// What is done now.
    #[must_use]
    pub fn fault(&self) -> Fault {
        *self.0.fault.lock()
    }

    /// Wraps something with it.
    pub fn wrap<T>(&self, inner: T) -> Faulty<T> {
        Faulty { inner, injector: self.clone() }
    }

    /// Waits, unless the fault becomes another one before.
    fn wait(&self, time: Duration) {
        let begun = now();
        let mut fault = self.0.fault.lock();
        let first = *fault;
        while *fault == first && begun.elapsed() < time {
            let _ = self.0.changed.wait_for(&mut fault, time.saturating_sub(begun.elapsed()));
        }
    }

    /// Makes a call as the fault says; `failed` makes the error of one that fails.
    fn call<T, E>(
        &self,
        mut call: impl FnMut() -> Result<T, E>,
        failed: impl Fn(&str) -> E,
    ) -> Result<T, E> {
        match self.fault() {
            Fault::None => call(),
            Fault::Slow(by) => {
                self.wait(by);
                call()
            }
            Fault::Blocked(by) => {
                self.wait(by);
                Err(failed("it was blocked"))
            }
            Fault::Late(by) => {
                let answer = call();
                self.wait(by);
                answer
            }
            Fault::Failing => Err(failed("it fails, as it was told to")),
            Fault::Panicking => panic!("it panics, as it was told to"),
            Fault::Twice => {
                call()?;
                call()
            }
        }
    }
}

/// Something that misbehaves as its [`Injector`] says.
pub struct Faulty<T> {
    inner: T,
    injector: Injector,
}

impl<T> fmt::Debug for Faulty<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("fault", &self.injector.fault()).finish_non_exhaustive()
    }
}

impl<T: JournalStore> JournalStore for Faulty<T> {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.inner.read()
    }

    /// Twice would be another journal: it is written once then.
    fn append(&mut self, bytes: &[u8], durability: Durability) -> io::Result<()> {
        let Self { inner, injector } = self;
        let mut done = false;
        injector.call(
            || {
                if std::mem::replace(&mut done, true) {
                    return Ok(());
                }
                inner.append(bytes, durability)
            },
            |why| io::Error::other(why.to_owned()),
        )
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { inner, injector } = self;
        injector.call(|| inner.replace(bytes), |why| io::Error::other(why.to_owned()))
    }

    fn set_aside(&mut self) -> io::Result<()> {
        self.inner.set_aside()
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { inner, injector } = self;
        injector.call(|| inner.keep(bytes), |why| io::Error::other(why.to_owned()))
    }

    fn kept(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.inner.kept()
    }

    fn keep_damaged(&mut self, bytes: &[u8]) -> io::Result<String> {
        self.inner.keep_damaged(bytes)
    }
}

impl<T: TrafficSwitch> TrafficSwitch for Faulty<T> {
    fn shift(&self, order: &Split) -> Result<(), SwitchError> {
        let failed = |why: &str| SwitchError::Unreachable { reason: why.to_owned() };
        self.injector.call(|| self.inner.shift(order), failed)
    }

    fn take_back(&self, order: &Split) -> Result<(), SwitchError> {
        let failed = |why: &str| SwitchError::Unreachable { reason: why.to_owned() };
        self.injector.call(|| self.inner.take_back(order), failed)
    }

    fn in_force(&self) -> Option<Split> {
        self.inner.in_force()
    }

    fn settled(&self, split: &Split) {
        self.inner.settled(split);
    }

    fn bind(&self, generation: u64) {
        self.inner.bind(generation);
    }
}

impl<T: MetricsSink> MetricsSink for Faulty<T> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn window(&self, window: &Window) -> Result<(), SinkError> {
        let failed =
            |why: &str| SinkError { sink: self.inner.name().to_owned(), reason: why.to_owned() };
        self.injector.call(|| self.inner.window(window), failed)
    }
}

impl<T: Alerter> Alerter for Faulty<T> {
    fn alert(&self, alert: &Alert) -> Result<(), AlertError> {
        self.injector.call(|| self.inner.alert(alert), |why| AlertError::new(why))
    }
}

#[expect(clippy::disallowed_methods, reason = "a fault keeps real callers waiting")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_as_it_is_written() {
        assert_eq!("slow:500ms".parse(), Ok(Fault::Slow(Duration::from_millis(500))));
        assert_eq!("blocked:10s".parse(), Ok(Fault::Blocked(Duration::from_secs(10))));
        assert_eq!("failing".parse(), Ok(Fault::Failing));
        for bad in ["", "slow", "slow:", "slow:soon", "failing:1s", "blocked:-1s"] {
            let error = bad.parse::<Fault>().unwrap_err();
            assert!(error.to_string().contains("blocked:10s"), "{error}");
        }
    }

    #[test]
    fn a_call_that_is_kept_waiting_goes_on_when_the_fault_is_over() {
        let injector = Injector::default();
        injector.set(Fault::Blocked(Duration::from_secs(60)));
        let told = injector.wrap(|_: &Alert| ());
        let alert = Alert::new(
            "k",
            crate::alert::alert::Severity::Info,
            crate::ids::Name::new("r").unwrap(),
            crate::clock::Moment::ZERO,
            "s",
        );
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| told.alert(&alert));
            injector.set(Fault::None);
            assert!(waits.join().unwrap().is_err() || told.alert(&alert).is_ok());
        });
        assert!(told.alert(&alert).is_ok());
    }
}
