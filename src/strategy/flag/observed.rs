//! What ticks noticed of a flag, kept with its set.

use super::compile::Compiled;
use crate::date::Date;

/// What ticks noticed of a flag.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Observed {
    pub(super) first_seen: Option<Date>,
    pub(super) full_since: Option<Date>,
    pub(super) used_at: Option<Date>,
    /// Questions counted before this process.
    pub(super) uses_before: u64,
    /// Questions in this process up to the last tick.
    pub(super) counted: u64,
}

impl Observed {
    pub(super) fn note(&mut self, flag: &Compiled, today: Date) {
        self.first_seen.get_or_insert(today);
        let full = flag.spec.is_full() && !flag.live.is_killed();
        self.full_since = if full { self.full_since.or(Some(today)) } else { None };
        let counted = flag.live.counter.read().total();
        if counted != self.counted {
            self.counted = counted;
            self.used_at = Some(today);
        }
    }
}
