//! The users of the demo: they send samples, and some time later somebody tells the truth.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::pack::Sample;

/// Users who send samples until they are told to stop.
#[derive(Debug)]
pub struct Crowd {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    samples: Arc<[Sample]>,
    order: Vec<usize>,
    seed: u64,
    stop: AtomicBool,
    next: AtomicU64,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    right: AtomicU64,
    failed: AtomicU64,
    turned_away: AtomicU64,
    truths: AtomicU64,
    truths_refused: AtomicU64,
}

/// What the users saw.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Seen {
    /// Requests answered with a label.
    pub answered: u64,
    /// Of those, with the right one.
    pub right: u64,
    /// Requests answered with an error, or not at all.
    pub failed: u64,
    /// Requests turned away because the server was busy.
    pub turned_away: u64,
    /// Truths that were counted.
    pub truths: u64,
    /// Truths that were not taken.
    pub truths_refused: u64,
}

/// A truth that waits until it is due.
struct Late {
    due: Instant,
    body: String,
}

impl Crowd {
    /// Users of `server`, who send `samples` in an order and under names drawn from `seed`.
    #[must_use]
    pub fn gather(server: SocketAddr, samples: Arc<[Sample]>, seed: u64) -> Self {
        let mut order: Vec<usize> = (0..samples.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, below(draw(seed, at as u64), at + 1));
        }
        let (stop, next) = (AtomicBool::new(false), AtomicU64::new(0));
        let counts = Counts::default();
        let shared = Arc::new(Shared { server, samples, order, seed, stop, next, counts });
        let (sender, truths) = sync_channel(MOST_LATE);
        let mut threads: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (shared, sender) = (Arc::clone(&shared), sender.clone());
                thread::spawn(move || shared.send(&sender))
            })
            .collect();
        let theirs = Arc::clone(&shared);
        threads.push(thread::spawn(move || theirs.tell(&truths)));
        Self { shared, threads }
    }

    /// What they saw so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let counts = &self.shared.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Seen {
            answered: read(&counts.answered),
            right: read(&counts.right),
            failed: read(&counts.failed),
            turned_away: read(&counts.turned_away),
            truths: read(&counts.truths),
            truths_refused: read(&counts.truths_refused),
        }
    }

    /// Lets them finish, tells the truths that are left, and says what they saw.
    #[must_use]
    pub fn go_home(mut self) -> Seen {
        self.leave();
        self.seen()
    }

    fn leave(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a user that panicked has nothing more to tell
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Shared {
    fn send(&self, truths: &SyncSender<Late>) {
        let mut client = Client::new(self.server);
        while !self.stop.load(Ordering::Acquire) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let sample = &self.samples[self.order[number as usize % self.order.len()]];
            let user = draw(self.seed ^ 0x75_73_65_72, number) % USERS;
            let name = format!("user-{user}");
            let segment = if user.is_multiple_of(5) { "premium" } else { "free" };
            let headers = [("x-user-id", &name[..]), ("x-segment", segment)];
            let reply = client.post("/classify", &headers, &sample.content);
            let counts = &self.counts;
            match reply {
                Ok(reply) if reply.status == 200 => {
                    add(&counts.answered);
                    if reply.text("label") == sample.label {
                        add(&counts.right);
                    }
                    let wait = SOONEST + Duration::from_millis(draw(self.seed, !number) % 500);
                    let truth = serde_json::json!({
                        "ticket": reply.text("ticket"),
                        "label": sample.label,
                    });
                    let late = Late { due: Instant::now() + wait, body: truth.to_string() };
                    if let Err(TrySendError::Full(_)) = truths.try_send(late) {
                        add(&counts.truths_refused); // as in life, some truths are never told
                    }
                }
                Ok(reply) if reply.status == 503 => {
                    add(&counts.turned_away);
                    thread::sleep(Duration::from_millis(50));
                }
                Ok(_) | Err(_) => add(&counts.failed),
            }
        }
    }

    fn tell(&self, truths: &Receiver<Late>) {
        let mut client = Client::new(self.server);
        while let Ok(late) = truths.recv() {
            if !self.stop.load(Ordering::Acquire) {
                thread::sleep(late.due.saturating_duration_since(Instant::now()));
            }
            match client.post("/outcome", &[], late.body.as_bytes()) {
                Ok(reply) if reply.status == 200 => add(&self.counts.truths),
                Ok(_) | Err(_) => add(&self.counts.truths_refused),
            }
        }
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// Number `at` of the sequence that belongs to `seed`.
///
/// Source: `SplitMix64`; G. Steele, D. Lea, C. Flood, OOPSLA 2014.
#[must_use]
pub fn draw(seed: u64, at: u64) -> u64 {
    let mixed = seed.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

fn below(number: u64, bound: usize) -> usize {
    (number % bound as u64) as usize
}

/// Connections that send at once: a little more than the models' threads, so that they are busy.
const SENDERS: usize = 3;
/// Users there are. Many, because one user counts once in a window, however often they ask.
const USERS: u64 = 1_000_000;
/// How long a truth takes at least.
const SOONEST: Duration = Duration::from_millis(200);
/// Truths that wait at once.
const MOST_LATE: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_numbers_again() {
        let numbers = |seed| (0..4).map(|at| draw(seed, at)).collect::<Vec<_>>();
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
        // The first outputs published for the generator with seed 0.
        assert_eq!(draw(0, 0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(draw(0, 1), 0x6E78_9E6A_A1B9_65F4);
    }
}
