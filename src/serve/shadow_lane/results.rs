//! What jobs write down.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::compare::agreement::Classes;
use crate::ids::Segment;
use crate::observe::clusters::Clusters;
use crate::observe::shadow::ShadowCounts;
use crate::serve::late::Seen;

/// Whether an output is right.
pub(super) type Judge<O> = dyn Fn(&O) -> bool + Send + Sync;

/// What jobs add up. The lock around it is held to add numbers, never over user code, and never on
/// the request path.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub counts: ShadowCounts,
    /// Samples that were compared.
    pub compared: Seen,
    pub classes: Classes,
    pub clusters: Clusters,
}

/// Pairs of outputs that wait for their truth.
pub(super) struct Truths<O> {
    pub pairs: HashMap<u64, Pair<O>>,
    /// Keys of `pairs`, oldest first.
    order: VecDeque<u64>,
    pub judged: Seen,
    most: usize,
}

/// A sample's outputs.
pub(super) enum Pair<O> {
    /// The candidate is not done.
    Running,
    /// Nor is it, but the truth is known.
    Told(Arc<Judge<O>>),
    /// Baseline's and candidate's; a call without an answer was wrong.
    Both(Segment, Option<O>, Option<O>),
}

impl<O> Truths<O> {
    pub(super) fn new(most: usize) -> Self {
        Self { pairs: HashMap::new(), order: VecDeque::new(), judged: Seen::default(), most }
    }

    /// Keeps a place for the outputs of `sample`, unless it has one or its truth was counted. What
    /// had to make room for it is handed out, to be dropped outside the lock.
    pub(super) fn expect(&mut self, sample: u64) -> (bool, Option<Pair<O>>) {
        if self.most == 0 || self.judged.has(sample) || self.pairs.contains_key(&sample) {
            return (false, None);
        }
        let mut gone = None;
        while self.pairs.len() >= self.most {
            let Some(oldest) = self.order.pop_front() else { return (false, None) };
            gone = self.pairs.remove(&oldest);
        }
        // Samples that were judged have left their key in the order.
        if self.order.len() > 2 * self.most {
            let Self { order, pairs, .. } = self;
            order.retain(|key| pairs.contains_key(key));
        }
        self.order.push_back(sample);
        self.pairs.insert(sample, Pair::Running);
        (true, gone)
    }
}

/// The lock, if it can be had at once or nearly so: on the request path nobody waits for a thread
/// that was put aside while it held it.
pub(super) fn briefly<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    for _ in 0..SPINS {
        if let Some(guard) = mutex.try_lock() {
            return Some(guard);
        }
        std::hint::spin_loop();
    }
    None
}

const SPINS: u32 = 64;
