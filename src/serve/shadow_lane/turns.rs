//! So many at once, and no more.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Moment;

/// Who runs and who waits, whatever the executor would run at once. Only jobs come here, so its
/// lock is never on the request path.
#[derive(Debug)]
pub(super) struct Turns<W> {
    at_once: usize,
    state: Mutex<State<W>>,
}

#[derive(Debug)]
struct State<W> {
    running: Vec<(u64, Moment)>,
    next: u64,
    waiting: VecDeque<W>,
}

/// A turn that was given; to be handed back by [`Turns::leave`].
#[derive(Debug)]
pub(super) struct Turn(u64);

impl<W> Turns<W> {
    pub(super) fn new(at_once: usize) -> Self {
        let state = State { running: Vec::new(), next: 0, waiting: VecDeque::new() };
        Self { at_once: at_once.max(1), state: Mutex::new(state) }
    }

    /// A turn for `work`, or nothing when it has to wait: then whoever leaves takes it over.
    pub(super) fn enter(&self, work: W, now: Moment) -> Option<(Turn, W)> {
        let mut state = self.state.lock();
        if state.running.len() >= self.at_once {
            state.waiting.push_back(work);
            return None;
        }
        Some((state.begin(now), work))
    }

    /// Hands a turn back, and takes the next work that waits.
    pub(super) fn leave(&self, turn: &Turn, now: Moment) -> Option<(Turn, W)> {
        let mut state = self.state.lock();
        state.running.retain(|(number, _)| *number != turn.0);
        let work = state.waiting.pop_front()?;
        Some((state.begin(now), work))
    }

    /// How many run, and how many of them for longer than `patience`.
    pub(super) fn running(&self, now: Moment, patience: Duration) -> (usize, usize) {
        let state = self.state.lock();
        let late = |begun: &Moment| now.since(*begun) > patience;
        (state.running.len(), state.running.iter().filter(|(_, begun)| late(begun)).count())
    }
}

impl<W> State<W> {
    fn begin(&mut self, now: Moment) -> Turn {
        self.next += 1;
        self.running.push((self.next, now));
        Turn(self.next)
    }
}
