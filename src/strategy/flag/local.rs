//! The table a thread read last, so that reading it again costs one load.
//!
//! A reader of an `ArcSwap` writes twice to memory of its own thread, which costs more than the
//! rest of an evaluation. So each thread keeps the table it saw last, and only asks the `ArcSwap`
//! when the set's revision says that there is a newer one.
//!
//! The revision is announced before its table stands. A reader that sees it too early finds the old
//! table once more, and keeps it under the old number, so it asks again. The other way round a
//! thread that was handed the new table by [`Published::load`] could then read its own old one: a
//! kept answer must never be older than one already given.
//!
//! A thread that asks no more keeps one
//! old table; the writer holds every replaced table until no thread does, so that a reader never
//! has the work of freeing one.

use std::cell::RefCell;
use std::sync::Arc;

#[cfg(not(loom))]
use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;

use super::table::Table;
use crate::sync::{AtomicU64, Ordering};

/// Where the present table is found.
#[derive(Debug)]
pub(super) struct Published {
    /// Which set, among all of the process.
    id: u64,
    /// The revision of `table`, or of the one about to stand there: never an older one.
    revision: CachePadded<AtomicU64>,
    table: ArcSwap<Table>,
}

/// Replaced tables that some reader may still hold.
#[derive(Debug, Default)]
pub(super) struct Retired(Vec<Arc<Table>>);

struct Seen {
    set: u64,
    revision: u64,
    table: Arc<Table>,
}

impl Published {
    pub(super) fn new(table: Table) -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            revision: CachePadded::new(AtomicU64::new(table.revision)),
            table: ArcSwap::from_pointee(table),
        }
    }

    /// The present table, to be held for a while.
    pub(super) fn load(&self) -> arc_swap::Guard<Arc<Table>> {
        self.table.load()
    }

    /// The present table, to be kept.
    pub(super) fn load_full(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Puts a table in the place of the present one. Writers take turns.
    pub(super) fn store(&self, table: Table, retired: &mut Retired) {
        let revision = table.revision;
        retired.0.retain(|table| Arc::strong_count(table) > 1);
        #[cfg(not(pilotage_mutant = "table_before_revision"))]
        self.announce(revision);
        retired.0.push(self.table.swap(Arc::new(table)));
        #[cfg(pilotage_mutant = "table_before_revision")]
        self.announce(revision);
    }

    fn announce(&self, revision: u64) {
        self.revision.store(revision, Ordering::Release); // pairs with the Acquire in `read`
    }

    /// Reads the present table. `look` must not wait, and may read other sets.
    #[inline]
    pub(super) fn read<R>(&self, look: impl Fn(&Table) -> R) -> R {
        let revision = self.revision.load(Ordering::Acquire);
        let seen = SEEN.try_with(|seen| {
            let seen = seen.try_borrow().ok()?;
            let mine = seen.iter().find(|seen| seen.set == self.id)?;
            (mine.revision == revision).then(|| look(&mine.table))
        });
        match seen {
            Ok(Some(result)) => result,
            Ok(None) | Err(_) => self.refresh(look),
        }
    }

    #[cold]
    fn refresh<R>(&self, look: impl Fn(&Table) -> R) -> R {
        let table = self.table.load_full();
        let result = look(&table);
        // A thread that ends, or one in the midst of another read, keeps nothing.
        let _ = SEEN.try_with(|seen| {
            if let Ok(mut seen) = seen.try_borrow_mut() {
                // The number of the table at hand, not the one announced.
                #[cfg(not(pilotage_mutant = "kept_under_announced"))]
                let revision = table.revision;
                #[cfg(pilotage_mutant = "kept_under_announced")]
                let revision = self.revision.load(Ordering::Acquire);
                let mine = Seen { set: self.id, revision, table };
                match seen.iter().position(|seen| seen.set == self.id) {
                    Some(at) => seen[at] = mine,
                    None => {
                        if seen.len() == MOST_SETS {
                            seen.remove(0);
                        }
                        seen.push(mine);
                    }
                }
            }
        });
        result
    }
}

#[cfg(not(loom))]
thread_local! {
    static SEEN: RefCell<Vec<Seen>> = const { RefCell::new(Vec::new()) };
}

#[cfg(loom)]
loom::thread_local! {
    static SEEN: RefCell<Vec<Seen>> = RefCell::new(Vec::new());
}

/// What stands for the `ArcSwap` where interleavings are tried out one by one: what it promises,
/// by a lock.
#[cfg(loom)]
#[derive(Debug)]
struct ArcSwap<T>(loom::sync::Mutex<Arc<T>>);

#[cfg(loom)]
impl<T> ArcSwap<T> {
    fn from_pointee(value: T) -> Self {
        Self(loom::sync::Mutex::new(Arc::new(value)))
    }

    fn load(&self) -> arc_swap::Guard<Arc<T>> {
        arc_swap::Guard::from_inner(self.load_full())
    }

    fn load_full(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().expect("nobody panics with it"))
    }

    fn swap(&self, value: Arc<T>) -> Arc<T> {
        std::mem::replace(&mut *self.0.lock().expect("nobody panics with it"), value)
    }
}

/// A thread remembers this many sets, and looks the others up each time.
const MOST_SETS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(revision: u64) -> Table {
        Table { revision, ..Table::empty() }
    }

    #[cfg(loom)]
    #[test]
    fn loom_a_thread_never_reads_an_older_table_than_it_was_given() {
        loom::model(|| {
            let published = Arc::new(Published::new(table(0)));
            assert_eq!(published.read(|table| table.revision), 0); // kept from here
            let writer = loom::thread::spawn({
                let published = Arc::clone(&published);
                move || {
                    let mut retired = Retired::default();
                    published.store(table(1), &mut retired);
                    published.store(table(2), &mut retired);
                }
            });
            let given = published.load().revision;
            let read = published.read(|table| table.revision);
            assert!(read >= given, "read {read} after having been given {given}");
            let again = published.read(|table| table.revision);
            assert!(again >= read, "read {again} after {read}");
            writer.join().unwrap();
            assert_eq!(published.read(|table| table.revision), 2);
        });
    }

    #[cfg(loom)]
    #[test]
    fn loom_what_one_thread_read_another_it_tells_reads_as_well() {
        use loom::sync::atomic::AtomicU64;
        loom::model(|| {
            let published = Arc::new(Published::new(table(0)));
            let told = Arc::new(AtomicU64::new(0));
            let other = loom::thread::spawn({
                let (published, told) = (Arc::clone(&published), Arc::clone(&told));
                move || told.store(published.load().revision, Ordering::Release)
            });
            let reader = loom::thread::spawn({
                let (published, told) = (Arc::clone(&published), Arc::clone(&told));
                move || {
                    published.read(|table| table.revision);
                    let told = told.load(Ordering::Acquire);
                    assert!(published.read(|table| table.revision) >= told);
                }
            });
            published.store(table(1), &mut Retired::default());
            other.join().unwrap();
            reader.join().unwrap();
        });
    }

    #[test]
    fn a_reader_sees_what_was_stored_before_it_began() {
        let (published, mut retired) = (Published::new(table(0)), Retired::default());
        for revision in 1..100 {
            published.store(table(revision), &mut retired);
            assert_eq!(published.read(|table| table.revision), revision);
        }
        assert!(retired.0.len() <= 2, "tables that nobody holds are freed");
    }

    #[test]
    fn a_thread_that_reads_many_sets_remembers_a_few() {
        let sets: Vec<Published> = (0..20).map(|at| Published::new(table(at))).collect();
        for _ in 0..3 {
            for (at, set) in sets.iter().enumerate() {
                assert_eq!(set.read(|table| table.revision), at as u64);
            }
        }
        SEEN.with(|seen| assert!(seen.borrow().len() <= MOST_SETS));
    }

    #[test]
    fn a_read_within_a_read_works() {
        let sets = [Published::new(table(1)), Published::new(table(2))];
        let both = sets[0].read(|outer| outer.revision + sets[1].read(|inner| inner.revision));
        assert_eq!(both, 3);
    }
}
