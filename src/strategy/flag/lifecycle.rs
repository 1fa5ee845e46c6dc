//! Where a flag stands in its life, and which ones have done their work.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::observed::Observed;
use super::set::FlagSet;
use super::spec::{FlagSpec, Kind};
use super::usage::Usage;
use crate::alert::alert::{Alert, Severity};
use crate::clock::Moment;
use crate::date::Date;
use crate::ids::Name;

/// Where a flag stands in its life.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LifeStage {
    /// Young, and nobody has asked it yet.
    New,
    /// In use.
    Active,
    /// On for everybody, for less long than its window.
    Full,
    /// On for everybody for longer than its window, or older than its kind lives.
    Stale,
    /// Nobody asked it for longer than [`Window::UNUSED_AFTER`].
    Unused,
    /// Frozen; wait until nobody asks it, then remove it.
    Archived,
}

impl fmt::Display for LifeStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Active => "active",
            Self::Full => "at 100 %",
            Self::Stale => "stale",
            Self::Unused => "unused",
            Self::Archived => "archived",
        })
    }
}

/// How long a flag may live.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Window {
    /// How long at 100 %, if that ends it.
    pub at_full: Option<Duration>,
    /// How long in all, if its kind ends.
    pub lifetime: Option<Duration>,
}

impl Window {
    /// After this long without a question a flag is unused: two weeks.
    pub const UNUSED_AFTER: Duration = Duration::from_secs(14 * DAY);

    /// The habits of the field: 48 hours at 100 % for a release, and lifetimes of 40, 40 and 7
    /// days for releases, experiments and operational flags; none for the others.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Release => Self {
                at_full: Some(Duration::from_secs(2 * DAY)),
                lifetime: Some(Duration::from_secs(40 * DAY)),
            },
            Kind::Experiment => {
                Self { at_full: None, lifetime: Some(Duration::from_secs(40 * DAY)) }
            }
            Kind::Operational => {
                Self { at_full: None, lifetime: Some(Duration::from_secs(7 * DAY)) }
            }
            Kind::KillSwitch | Kind::Permission => Self { at_full: None, lifetime: None },
        }
    }

    /// The window of one flag: its kind's, unless it has its own.
    #[must_use]
    pub fn for_flag(spec: &FlagSpec) -> Self {
        let habit = Self::of(spec.kind);
        let own = |secs: Option<u64>| secs.map(Duration::from_secs);
        Self {
            at_full: own(spec.stale_after_secs).or(habit.at_full),
            lifetime: own(spec.lifetime_secs).or(habit.lifetime),
        }
    }
}

/// One flag's life on a date.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FlagReport {
    /// Its name.
    pub flag: String,
    /// What it is for.
    pub kind: Kind,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Where it stands.
    pub stage: LifeStage,
    /// Since when it is on for everybody, as ticks saw it.
    pub full_since: Option<Date>,
    /// When a tick last saw that it had been asked.
    pub used_at: Option<Date>,
    /// How long it has lived.
    pub age: Duration,
    /// How often it was asked in all, as far as stored.
    pub uses: u64,
    /// How often it was asked after it was archived, by this process.
    pub late: u64,
    /// Whether its expected end has passed and it is still here.
    pub overdue: bool,
    /// Whether it is killed.
    pub killed: bool,
}

impl fmt::Display for FlagReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.as_deref().unwrap_or("nobody");
        let days = self.age.as_secs() / DAY;
        write!(f, "{}: {}, {days} days old, owned by {owner}", self.flag, self.stage)?;
        if let Some(since) = self.full_since {
            write!(f, ", at 100 % since {since}")?;
        }
        if self.overdue {
            f.write_str(", overdue")?;
        }
        if self.killed {
            f.write_str(", killed")?;
        }
        if self.late > 0 {
            write!(f, ", still asked {} times since it was archived", self.late)?;
        }
        Ok(())
    }
}

/// The life of one flag on a date, from its definition and what was noticed of it. Pure.
fn report(spec: &FlagSpec, seen: &Observed, usage: Usage, killed: bool, today: Date) -> FlagReport {
    // A definition without a date of birth was born when it was first seen.
    let born = if spec.created == Date::default() {
        seen.first_seen.unwrap_or(today)
    } else {
        spec.created
    };
    let age = today.since(born);
    let window = Window::for_flag(spec);
    let uses = seen.uses_before.saturating_add(usage.total());
    let idle = seen.used_at.map_or(age, |used| today.since(used));
    let too_long_full = match (seen.full_since, window.at_full) {
        (Some(since), Some(most)) => today.since(since) >= most,
        _ => false,
    };
    let too_old = window.lifetime.is_some_and(|most| age >= most);
    let is_forever = window == Window { at_full: None, lifetime: None };
    // A kill switch is there for the day it is needed: that nobody asks it is no news.
    let unused = idle >= Window::UNUSED_AFTER && !is_forever;
    let stage = if spec.archived.is_some() {
        LifeStage::Archived
    } else if too_long_full || too_old {
        LifeStage::Stale
    } else if unused {
        LifeStage::Unused
    } else if seen.full_since.is_some() {
        LifeStage::Full
    } else if uses == 0 {
        LifeStage::New
    } else {
        LifeStage::Active
    };
    FlagReport {
        flag: spec.name.clone(),
        kind: spec.kind,
        owner: spec.owner.clone(),
        stage,
        full_since: seen.full_since,
        used_at: seen.used_at,
        age,
        uses,
        late: usage.late,
        overdue: spec.ends.is_some_and(|ends| ends <= today),
        killed,
    }
}

impl FlagSet {
    /// Where every flag stands in its life on this date, by name. Depends on nothing but the
    /// definitions, the counts and what [`FlagSet::tick`] noticed.
    #[must_use]
    pub fn lifecycle(&self, today: Date) -> Vec<FlagReport> {
        let writer = self.inner.writer.lock();
        let table = self.inner.table.load();
        let mut reports: Vec<FlagReport> = table
            .present()
            .map(|(slot, flag)| {
                let usage = flag.live.counter.read();
                let seen = &writer.observed[slot as usize];
                report(&flag.spec, seen, usage, flag.live.is_killed(), today)
            })
            .collect();
        reports.sort_by(|left, right| left.flag.cmp(&right.flag));
        reports
    }

    /// Alerts for the flags that are past their expected end or stale, one key a flag and cause,
    /// so that an [`AlertPolicy`](crate::alert::policy::AlertPolicy) tells each once.
    #[must_use]
    pub fn alerts(&self, today: Date, at: Moment) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for report in self.lifecycle(today) {
            let Ok(name) = Name::new(&report.flag) else { continue };
            let causes = [
                (report.overdue, "overdue", "is past its expected end"),
                (report.stage == LifeStage::Stale, "stale", "has done its work"),
            ];
            for (holds, cause, what) in causes {
                if holds {
                    let key = format!("flag/{}/{cause}", report.flag);
                    let summary = format!("the flag {what}; remove it or move the date ({report})");
                    alerts.push(Alert::new(key, Severity::Warning, name.clone(), at, summary));
                }
            }
        }
        alerts
    }
}

/// Fails when a flag is stale, unused or overdue: for a test in a user's own suite.
///
/// # Errors
///
/// [`StaleFlags`], which lists them.
///
/// ```
/// use pilotage::strategy::flag::{Date, FlagSet, FlagSpec, refuse_stale};
/// use std::time::Duration;
///
/// let born = Date::from_unix(1_770_000_000);
/// let flags = FlagSet::builder().flag(FlagSpec::new("ranker").created(born)).build()?;
/// assert!(refuse_stale(&flags.lifecycle(born)).is_ok());
/// let much_later = born.after(Duration::from_secs(41 * 86_400));
/// assert!(refuse_stale(&flags.lifecycle(much_later)).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn refuse_stale(reports: &[FlagReport]) -> Result<(), StaleFlags> {
    let ended = |report: &&FlagReport| {
        report.overdue || matches!(report.stage, LifeStage::Stale | LifeStage::Unused)
    };
    let stale: Vec<FlagReport> = reports.iter().filter(ended).cloned().collect();
    if stale.is_empty() { Ok(()) } else { Err(StaleFlags { reports: stale }) }
}

/// Flags that should be gone.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StaleFlags {
    /// What is known of each.
    pub reports: Vec<FlagReport>,
}

impl fmt::Display for StaleFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.reports.len();
        write!(f, "{count} flag{} should be gone", if count == 1 { "" } else { "s" })?;
        self.reports.iter().try_for_each(|report| write!(f, "\n  {report}"))
    }
}

impl std::error::Error for StaleFlags {}

const DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::TrafficShare;
    use crate::strategy::flag::Context;

    const BIRTH: Date = Date::from_unix(1_770_000_000);

    fn day(number: u64) -> Date {
        BIRTH.after(Duration::from_secs(number * DAY))
    }

    fn stage(flags: &FlagSet, today: Date) -> LifeStage {
        flags.lifecycle(today)[0].stage
    }

    fn set(spec: FlagSpec) -> FlagSet {
        let flags = FlagSet::builder().flag(spec.created(BIRTH)).build().unwrap();
        flags.tick(BIRTH).unwrap();
        flags
    }

    #[test]
    fn a_release_is_new_then_active_then_full_then_stale() {
        let flags = set(FlagSpec::new("ranker"));
        assert_eq!(stage(&flags, day(1)), LifeStage::New);
        let _ = flags.is_on("ranker", &Context::of("x"));
        flags.tick(day(1)).unwrap();
        assert_eq!(stage(&flags, day(1)), LifeStage::Active);
        flags.update("ranker", |spec| spec.share = Some(TrafficShare::ALL)).unwrap();
        flags.tick(day(2)).unwrap();
        assert_eq!(stage(&flags, day(3)), LifeStage::Full);
        assert_eq!(stage(&flags, day(4)), LifeStage::Stale);
        flags.change(|draft| draft.archive("ranker", "on")).unwrap();
        assert_eq!(stage(&flags, day(5)), LifeStage::Archived);
    }

    #[test]
    fn taking_a_flag_below_the_whole_starts_its_window_again() {
        let flags = set(FlagSpec::new("ranker").share(TrafficShare::ALL));
        flags.update("ranker", |spec| spec.share = Some(TrafficShare::HALF)).unwrap();
        flags.tick(day(1)).unwrap();
        flags.update("ranker", |spec| spec.share = Some(TrafficShare::ALL)).unwrap();
        flags.tick(day(2)).unwrap();
        assert_eq!(stage(&flags, day(3)), LifeStage::Full);
    }

    #[test]
    fn kinds_age_by_their_habit_and_kill_switches_never() {
        for (kind, stale_on) in [
            (Kind::Release, Some(40)),
            (Kind::Experiment, Some(40)),
            (Kind::Operational, Some(7)),
            (Kind::KillSwitch, None),
            (Kind::Permission, None),
        ] {
            let flags = set(FlagSpec::new("x").kind(kind));
            for today in [6, 7, 39, 40, 4000] {
                let stale = stage(&flags, day(today)) == LifeStage::Stale;
                assert_eq!(stale, stale_on.is_some_and(|on| today >= on), "{kind:?} day {today}");
            }
        }
    }

    #[test]
    fn a_flag_nobody_asks_is_unused() {
        let flags = set(FlagSpec::new("x"));
        assert_eq!(stage(&flags, day(13)), LifeStage::New);
        assert_eq!(stage(&flags, day(14)), LifeStage::Unused);
    }

    #[test]
    fn an_overdue_flag_alerts_under_one_key() {
        let flags = set(FlagSpec::new("x").ends(day(3)).owner("search"));
        assert!(flags.alerts(day(2), Moment::ZERO).is_empty());
        let first = flags.alerts(day(3), Moment::ZERO);
        assert_eq!(first.len(), 1);
        assert!(first[0].summary.contains("search"), "{}", first[0].summary);
        assert_eq!(flags.alerts(day(4), Moment::ZERO)[0].key, first[0].key);
    }
}
