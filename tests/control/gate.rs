//! A journal and a switch that answer when they are told to.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use pilotage::control::journal_file::{Durability, JournalStore};
use pilotage::route::switch::{Split, SwitchError, TrafficSwitch};

/// Where calls wait for their answer.
#[derive(Default)]
pub struct Gate {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    open: bool,
    calls: u32,
    answers: Vec<Answer>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Answer {
    Ok,
    Fails,
}

impl Gate {
    /// Waits for an answer, unless all are answered at once.
    fn pass(&self) -> Answer {
        let mut state = self.state.lock();
        if state.open {
            return Answer::Ok;
        }
        state.calls += 1;
        loop {
            if let Some(answer) = state.answers.pop() {
                return answer;
            }
            if state.open {
                state.calls -= 1;
                return Answer::Ok;
            }
            self.changed.wait(&mut state);
        }
    }

    pub fn is_waiting(&self) -> bool {
        let state = self.state.lock();
        state.calls > 0 && !state.open
    }

    /// Answers the call that waits.
    pub fn answer(&self, answer: Answer) {
        let mut state = self.state.lock();
        state.calls -= 1;
        state.answers.push(answer);
        self.changed.notify_all();
    }

    pub fn close(&self) {
        self.state.lock().open = false;
    }

    /// From now on everything is answered at once.
    pub fn open(&self) {
        self.state.lock().open = true;
        self.changed.notify_all();
    }
}

/// What is kept of a journal, and beside it.
#[derive(Clone, Default)]
pub struct Kept {
    pub bytes: Option<Vec<u8>>,
    pub reserve: Option<Vec<u8>>,
    /// What is being written.
    under_way: Option<(bool, Vec<u8>)>,
}

impl Kept {
    /// As after a crash in which what was being written was lost.
    pub fn lost(mut self) -> Self {
        self.under_way = None;
        self
    }

    /// As after a crash in which what was being written came through, though nobody heard of it.
    pub fn written(mut self) -> Self {
        match self.under_way.take() {
            Some((true, bytes)) => self.bytes = Some(bytes),
            Some((false, bytes)) => self.bytes.get_or_insert_default().extend(bytes),
            None => {}
        }
        self
    }
}

/// A journal whose writings wait at its gate. The reserve answers at once.
#[derive(Clone)]
pub struct Paper {
    pub kept: Arc<Mutex<Kept>>,
    pub gate: Arc<Gate>,
}

impl Paper {
    pub fn holding(kept: Kept) -> Self {
        Self { kept: Arc::new(Mutex::new(kept)), gate: Arc::default() }
    }

    fn write(&self, anew: bool, bytes: &[u8]) -> io::Result<()> {
        self.kept.lock().under_way = Some((anew, bytes.to_vec()));
        let answer = self.gate.pass();
        let mut kept = self.kept.lock();
        if answer == Answer::Ok {
            *kept = kept.clone().written();
            return Ok(());
        }
        kept.under_way = None;
        Err(io::Error::other("as the test wants it"))
    }
}

impl JournalStore for Paper {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.kept.lock().bytes.clone())
    }

    fn append(&mut self, bytes: &[u8], _: Durability) -> io::Result<()> {
        self.write(false, bytes)
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(true, bytes)
    }

    fn set_aside(&mut self) -> io::Result<()> {
        *self.kept.lock() = Kept::default();
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.kept.lock().reserve = Some(bytes.to_vec());
        Ok(())
    }

    fn kept(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.kept.lock().reserve.clone())
    }
}

/// A proxy outside whose orders wait at its gate.
#[derive(Clone)]
pub struct Proxy {
    pub in_force: Arc<Mutex<Split>>,
    /// Orders whose calls have begun.
    pub begun: Arc<Mutex<Vec<Split>>>,
    pub gate: Arc<Gate>,
}

impl Proxy {
    /// The same proxy, for another process.
    pub fn again(&self) -> Self {
        Self {
            in_force: Arc::new(Mutex::new(*self.in_force.lock())),
            begun: Arc::default(),
            gate: Arc::default(),
        }
    }

    pub fn at(split: Split) -> Self {
        Self { in_force: Arc::new(Mutex::new(split)), begun: Arc::default(), gate: Arc::default() }
    }
}

impl TrafficSwitch for Proxy {
    fn shift(&self, order: &Split) -> Result<(), SwitchError> {
        self.begun.lock().push(*order);
        if self.gate.pass() == Answer::Fails {
            return Err(SwitchError::Unreachable { reason: "as the test wants it".to_owned() });
        }
        *self.in_force.lock() = *order;
        Ok(())
    }

    fn in_force(&self) -> Option<Split> {
        Some(*self.in_force.lock())
    }
}
