//! What people must be told, until they were: the alert queue without its threads.
//!
//! A [`Delivery`] is told the time, the alerts and how calls ended, and says which alert is to be
//! offered next. It states its rules where people find them, at
//! [`AlertQueue`](crate::control::alert_queue::AlertQueue).

use std::collections::VecDeque;
use std::time::Duration;

use crate::alert::alert::{Alert, Severity};
use crate::alert::counts::{AlertCounts, GivenUp, Untold};
use crate::alert::incident::{Incident, Kind, Known, Rank, Told, Waiting, is_same_event};
use crate::alert::policy::AlertPolicy;
use crate::clock::Moment;

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Call the alerter, and say how that ended.
    Call(Box<Alert>, Ticket),
    /// Nothing before this moment, if nothing happens meanwhile.
    Wait(Option<Moment>),
    /// Nothing ever again: the queue is closed, and nothing waits.
    Done,
}

/// Which call of the alerter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ticket(u64);

/// How a call of the alerter ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// People were told.
    Told,
    /// They were not.
    Refused(String),
    /// It failed in a way that leaves open whether they were.
    Unclear(String),
}

/// The alerts that wait, the incidents that are remembered, and the calls under way.
#[derive(Debug)]
pub(crate) struct Delivery {
    policy: AlertPolicy,
    incidents: Vec<Incident>,
    calls: Vec<Call>,
    given_up: VecDeque<Untold>,
    /// When lesser alerts were let through in the last minute.
    recent: VecDeque<Moment>,
    totals: AlertCounts,
    news: u64,
    offers: u64,
    chance: u64,
    closed: bool,
}

#[derive(Debug)]
struct Call {
    ticket: Ticket,
    number: u64,
    alert: Alert,
    deadline: Moment,
    hung: bool,
}

impl Delivery {
    /// Nothing waits yet. `seed` is for the jitter alone.
    pub(crate) const fn new(policy: AlertPolicy, seed: u64) -> Self {
        Self {
            policy,
            incidents: Vec::new(),
            calls: Vec::new(),
            given_up: VecDeque::new(),
            recent: VecDeque::new(),
            totals: AlertCounts {
                delivered: 0,
                suppressed: 0,
                cancelled: 0,
                undelivered: 0,
                lost: 0,
                failed_calls: 0,
                waiting: 0,
                oldest_waiting_seconds: None,
                hung: 0,
            },
            news: 0,
            offers: 0,
            chance: seed,
            closed: false,
        }
    }

    /// Takes an alert in.
    pub(crate) fn send(&mut self, now: Moment, alert: Alert) {
        let known = self.incidents.iter().position(|incident| incident.is_about(&alert));
        let at = known.unwrap_or_else(|| {
            self.incidents.push(Incident::of(&alert));
            self.incidents.len() - 1
        });
        if alert.resolved {
            self.resolve(at, now, alert);
        } else {
            self.fire(at, now, alert);
        }
        self.make_room(now);
    }

    /// No more alerts come, and nothing is repeated from now on.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// What is to be done at `now`.
    pub(crate) fn next(&mut self, now: Moment) -> Next {
        self.abandon(now);
        self.expire(now);
        self.repeat(now);
        if self.calls.iter().all(|call| call.hung) {
            if let Some(at) = self.choose(now) {
                return self.offer(at, now);
            }
            if self.closed && self.incidents.iter().all(|incident| incident.waiting.is_none()) {
                return Next::Done;
            }
        }
        Next::Wait(self.wake())
    }

    /// A call ended, in time or long after it was given up.
    pub(crate) fn ended(&mut self, now: Moment, ticket: Ticket, outcome: Outcome) {
        let Some(at) = self.calls.iter().position(|call| call.ticket == ticket) else { return };
        let call = self.calls.swap_remove(at);
        let about = self.incidents.iter().position(|incident| incident.is_about(&call.alert));
        match outcome {
            Outcome::Told => {
                self.totals.delivered += 1;
                self.receiver_is_up(now);
                if let Some(at) = about {
                    self.told(at, now, call);
                }
            }
            // What hung was counted and put off when it was given up.
            Outcome::Refused(_) | Outcome::Unclear(_) if call.hung => {}
            Outcome::Refused(why) => {
                self.put_off(now, call.number, &call.alert, why);
                if let Some(at) = about {
                    self.cancel(at, &call);
                }
            }
            Outcome::Unclear(why) => {
                self.put_off(now, call.number, &call.alert, why);
                if let Some(at) = about {
                    self.incidents[at].in_doubt = true;
                }
            }
        }
        self.make_room(now);
    }

    /// What became of the alerts so far.
    pub(crate) fn counts(&self, now: Moment) -> AlertCounts {
        let waiting = || self.incidents.iter().filter_map(|incident| incident.waiting.as_ref());
        let ends = self.incidents.iter().filter(|incident| incident.end.is_some()).count();
        AlertCounts {
            waiting: waiting().count() + ends,
            oldest_waiting_seconds: waiting().map(|one| now.since(one.queued).as_secs()).max(),
            hung: self.hung(),
            ..self.totals
        }
    }

    /// What was offered in vain or has waited for a second, oldest first, after what was given up.
    pub(crate) fn untold(&self, now: Moment) -> Vec<Untold> {
        let mut waiting: Vec<&Waiting> = self
            .incidents
            .iter()
            .filter_map(|incident| incident.waiting.as_ref())
            .filter(|one| one.attempts > 0 || now.since(one.queued) >= SOON)
            .collect();
        waiting.sort_by_key(|one| one.number);
        let waiting =
            waiting.iter().map(|one| Untold::new(&one.alert, one.attempts, one.error.clone()));
        self.given_up.iter().cloned().chain(waiting).collect()
    }

    /// News that something happens.
    fn fire(&mut self, at: usize, now: Moment, alert: Alert) {
        let busy = self.is_called(&alert);
        let number = self.next_number();
        let incident = &mut self.incidents[at];
        if incident.end.take().is_some() {
            self.totals.suppressed += 1;
        }
        let replaced = match &mut incident.waiting {
            None => false,
            // Less severe news never takes the place of more severe news.
            Some(old) if !old.alert.resolved && alert.severity < old.alert.severity => {
                self.totals.suppressed += 1;
                return;
            }
            // The same in newer words: it keeps its place.
            Some(old)
                if !old.alert.resolved
                    && alert.severity == old.alert.severity
                    && is_same_event(&old.alert, &alert) =>
            {
                self.totals.suppressed += 1;
                old.alert = alert;
                return;
            }
            Some(old) => {
                let resolve = old.alert.resolved;
                self.totals.suppressed += u64::from(old.kind == Kind::News);
                incident.waiting = None;
                // Where its end was surely not told, it went on all the time for people.
                !resolve || busy || incident.in_doubt || alert.severity == Severity::Critical
            }
        };
        if let (Known::Told(told), false) = (&mut incident.known, replaced) {
            if told.covers(&alert, now, self.policy.repeat_after) {
                self.totals.suppressed += 1;
                if !alert.once {
                    told.alert = alert;
                }
                return;
            }
        }
        if alert.severity < Severity::Critical
            && !replaced
            && !admit(&mut self.recent, &self.policy, now)
        {
            self.totals.suppressed += 1;
            if incident.firing().is_none() {
                incident.known = Known::Nothing;
            }
            return;
        }
        incident.waiting = Some(Waiting::new(alert, number, Kind::News, now));
    }

    /// News that something is over.
    fn resolve(&mut self, at: usize, now: Moment, mut alert: Alert) {
        let busy = self.is_called(&alert);
        let number = self.next_number();
        let incident = &mut self.incidents[at];
        let told = incident.firing().map(|told| told.severity);
        let unsure = busy || incident.in_doubt;
        match &mut incident.waiting {
            Some(old) if old.alert.resolved => {
                self.totals.suppressed += 1;
                alert.severity = alert.severity.max(old.alert.severity);
                old.alert = alert;
                return;
            }
            // It happened, and people hear of it before they hear that it is over.
            Some(old) if old.alert.once => {
                alert.severity = alert.severity.max(old.alert.severity);
                if incident.end.replace(alert).is_some() {
                    self.totals.suppressed += 1;
                }
                return;
            }
            Some(old) => {
                if told.is_none() && !unsure {
                    self.totals.cancelled += 1;
                    self.incidents.remove(at);
                    return;
                }
                alert.severity = alert.severity.max(old.alert.severity);
                let offered = self.calls.iter().any(|call| call.number == old.number);
                self.totals.suppressed += u64::from(old.kind == Kind::News && !offered);
            }
            None => match &incident.known {
                Known::Nothing if !unsure => {
                    self.totals.suppressed += 1;
                    self.incidents.remove(at);
                    return;
                }
                Known::Told(told) if told.covers(&alert, now, self.policy.repeat_after) => {
                    self.totals.suppressed += 1;
                    return;
                }
                Known::Nothing | Known::Unsure | Known::Told(_) => {}
            },
        }
        alert.severity = told.map_or(alert.severity, |told| told.max(alert.severity));
        incident.waiting = Some(Waiting::new(alert, number, Kind::News, now));
    }

    /// Leaves calls to themselves that take too long.
    fn abandon(&mut self, now: Moment) {
        let Some(call) = self.calls.iter_mut().find(|call| !call.hung && now >= call.deadline)
        else {
            return;
        };
        call.hung = true;
        let (number, alert) = (call.number, call.alert.clone());
        let why = format!("no answer within {:?}", self.policy.call_deadline);
        self.put_off(now, number, &alert, why);
        if let Some(incident) = self.incidents.iter_mut().find(|one| one.is_about(&alert)) {
            incident.in_doubt = true;
        }
    }

    /// Gives up what is stale.
    fn expire(&mut self, now: Moment) {
        let after = self.policy.stale_after;
        while let Some(at) = self.incidents.iter().position(|incident| {
            incident
                .waiting
                .as_ref()
                .is_some_and(|one| now.since(one.queued) >= after && !self.is_offered(one.number))
        }) {
            self.totals.undelivered += 1;
            self.give_up(at, now, GivenUp::Stale);
        }
    }

    /// Says again what goes on.
    fn repeat(&mut self, now: Moment) {
        if self.closed {
            return;
        }
        for at in 0..self.incidents.len() {
            let due = self.incidents[at].repeat_due(self.policy.repeat_after);
            if due.is_none_or(|due| due > now) {
                continue;
            }
            let number = self.next_number();
            let incident = &mut self.incidents[at];
            let alert = incident.firing().map(|told| told.alert.clone());
            incident.waiting = alert.map(|alert| Waiting::new(alert, number, Kind::Repeat, now));
        }
        self.make_room(now);
    }

    /// Which incident is to be offered now: the one that matters most. Every fourth call goes to
    /// what has been passed over for a minute, so that nothing waits for ever behind what fails.
    fn choose(&self, now: Moment) -> Option<usize> {
        let hung = self.hung();
        if hung >= HUNG {
            return None;
        }
        let due = || {
            let of = move |(at, incident): (usize, &Incident)| {
                let one = incident.waiting.as_ref()?;
                // Half of the calls that may hang are for news that has not hung yet.
                let may = hung < HUNG / 2 || !self.is_called(&one.alert);
                let rank = Rank::of(&one.alert);
                let order = if rank.is_newest_first() { one.number } else { u64::MAX - one.number };
                (may && one.due <= now).then_some((at, one.due, (rank, order)))
            };
            self.incidents.iter().enumerate().filter_map(of)
        };
        let passed_over = due()
            .filter(|(_, since, _)| self.offers % 4 == 3 && now.since(*since) >= MOST_PAUSE)
            .min_by_key(|(_, since, _)| *since);
        passed_over.or_else(|| due().max_by_key(|(_, _, order)| *order)).map(|(at, ..)| at)
    }

    fn offer(&mut self, at: usize, now: Moment) -> Next {
        let Some(one) = &self.incidents[at].waiting else { return Next::Wait(None) };
        self.offers += 1;
        let (ticket, alert, number) = (Ticket(self.offers), one.alert.clone(), one.number);
        let deadline = now.after(self.policy.call_deadline);
        self.calls.push(Call { ticket, number, alert: alert.clone(), deadline, hung: false });
        Next::Call(Box::new(alert), ticket)
    }

    /// When there is something to do again, if nothing happens before.
    fn wake(&self) -> Option<Moment> {
        if let Some(call) = self.calls.iter().find(|call| !call.hung) {
            return Some(call.deadline);
        }
        let hung = self.hung();
        let of = |incident: &Incident| {
            let Some(one) = &incident.waiting else {
                let due = incident.repeat_due(self.policy.repeat_after);
                return due.filter(|_| !self.closed);
            };
            let stale = one.queued.after(self.policy.stale_after);
            let may = hung < HUNG / 2 || (hung < HUNG && !self.is_called(&one.alert));
            Some(if may { stale.min(one.due) } else { stale })
        };
        self.incidents.iter().filter_map(of).min()
    }

    /// People were told by `call`.
    fn told(&mut self, at: usize, now: Moment, call: Call) {
        let still = self.is_called(&call.alert);
        let number = self.next_number();
        let incident = &mut self.incidents[at];
        incident.in_doubt &= still;
        let told =
            |alert| Told { number: call.number, severity: call.alert.severity, at: now, alert };
        match &incident.waiting {
            Some(one) if one.number == call.number => {
                let newest = incident.waiting.take().map_or(call.alert.clone(), |one| one.alert);
                incident.known = Known::Told(told(newest));
                if let Some(end) = incident.end.take() {
                    incident.waiting = Some(Waiting::new(end, number, Kind::News, now));
                }
            }
            waits => match &incident.known {
                // It comes after newer news. Where that says something else, it is said again, so
                // that people know last what is so.
                Known::Told(newer) if newer.number >= call.number => {
                    let (old, new) = (&call.alert, &newer.alert);
                    let differs = old.resolved != new.resolved || old.severity != new.severity;
                    if waits.is_none() && differs && newer.number > call.number {
                        let again = Waiting::new(new.clone(), newer.number, Kind::Repeat, now);
                        incident.waiting = Some(again);
                    }
                }
                Known::Told(_) | Known::Unsure | Known::Nothing => {
                    incident.known = Known::Told(told(call.alert.clone()));
                }
            },
        }
        let about = &self.incidents[at];
        if !call.alert.once {
            let same = |one: &Untold| one.key == about.key && one.rollout == about.rollout;
            self.given_up.retain(|one| !same(one) || one.severity > call.alert.severity);
        }
    }

    /// A call failed: what it was to tell is offered again later, and later each time.
    fn put_off(&mut self, now: Moment, number: u64, alert: &Alert, mut why: String) {
        self.totals.failed_calls += 1;
        let chance = self.chance();
        let incident = self.incidents.iter_mut().find(|incident| incident.is_about(alert));
        let waiting = incident.and_then(|incident| incident.waiting.as_mut());
        let Some(one) = waiting.filter(|one| one.number == number) else { return };
        if let Some((end, _)) = why.char_indices().nth(MOST_ERROR) {
            why.truncate(end);
        }
        one.attempts = one.attempts.saturating_add(1);
        (one.failed, one.error) = (Some(now), Some(why));
        one.due = now.after(pause(one.attempts, chance));
    }

    /// People were not told of what is over meanwhile: they need hear of neither.
    fn cancel(&mut self, at: usize, refused: &Call) {
        let incident = &self.incidents[at];
        let over = incident.waiting.as_ref().is_some_and(|one| one.alert.resolved);
        let heard = incident.in_doubt || incident.firing().is_some();
        if over && !refused.alert.resolved && !heard && !self.is_called(&refused.alert) {
            self.totals.cancelled += 1;
            self.incidents.remove(at);
        }
    }

    /// A call got through, so what failed a while ago may get through now.
    fn receiver_is_up(&mut self, now: Moment) {
        for one in self.incidents.iter_mut().filter_map(|incident| incident.waiting.as_mut()) {
            if one.failed.is_some_and(|failed| now.since(failed) >= SOON) {
                one.due = one.due.min(now);
            }
        }
    }

    /// Drops what matters least and is oldest, while there is no room.
    fn make_room(&mut self, now: Moment) {
        loop {
            let waiting = self.incidents.iter().filter(|one| one.waiting.is_some()).count();
            if waiting <= WAITING {
                break;
            }
            let least = self.incidents.iter().enumerate().filter_map(|(at, incident)| {
                let one = incident.waiting.as_ref()?;
                (!self.is_offered(one.number))
                    .then(|| (Rank::of(&one.alert), one.kind, one.number, at))
            });
            let Some((.., at)) = least.min() else { break };
            self.totals.lost += 1;
            self.give_up(at, now, GivenUp::NoRoom);
        }
        loop {
            let idle = self.incidents.iter().filter(|one| one.waiting.is_none()).count();
            if idle <= KEYS {
                break;
            }
            let least = self.incidents.iter().enumerate().filter_map(|(at, incident)| {
                let idle = incident.waiting.is_none() && !self.is_called_of(incident);
                idle.then(|| (worth(incident), at))
            });
            let Some((_, at)) = least.min() else { break };
            self.incidents.remove(at);
        }
    }

    /// What waits of an incident is offered no longer.
    fn give_up(&mut self, at: usize, now: Moment, why: GivenUp) {
        let incident = &mut self.incidents[at];
        let Some(one) = incident.waiting.take() else { return };
        if incident.end.take().is_some() {
            self.totals.suppressed += 1;
        }
        let mut untold = Untold::new(&one.alert, one.attempts, one.error);
        untold.given_up = Some(why);
        if one.alert.resolved {
            // It is over, and must not be repeated; should it come back, it is news.
            incident.known = Known::Unsure;
        } else if let Known::Told(told) = &mut incident.known {
            told.at = now;
        } else if !incident.in_doubt {
            incident.known = Known::Nothing;
        }
        self.given_up.push_back(untold);
        if self.given_up.len() > GIVEN_UP {
            let least =
                self.given_up.iter().enumerate().min_by_key(|(at, one)| (one.severity, *at));
            let least = least.map_or(0, |(at, _)| at);
            self.given_up.remove(least);
        }
    }

    fn hung(&self) -> usize {
        self.calls.iter().filter(|call| call.hung).count()
    }

    /// Whether the alert with this number is being told just now.
    fn is_offered(&self, number: u64) -> bool {
        self.calls.iter().any(|call| !call.hung && call.number == number)
    }

    /// Whether a call for the incident of `alert` has not returned, hung or not.
    fn is_called(&self, alert: &Alert) -> bool {
        let same = |call: &Call| call.alert.key == alert.key && call.alert.rollout == alert.rollout;
        self.calls.iter().any(same)
    }

    fn is_called_of(&self, incident: &Incident) -> bool {
        self.calls.iter().any(|call| incident.is_about(&call.alert))
    }

    fn next_number(&mut self) -> u64 {
        self.news += 1;
        self.news
    }

    /// A number in `[0, 1)`, by `SplitMix64`.
    fn chance(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What is forgotten first of what waits for nothing: what is over or only happened, then the
/// lesser, then the older.
fn worth(incident: &Incident) -> (Option<Severity>, u64) {
    match &incident.known {
        Known::Unsure | Known::Nothing => (None, 0),
        Known::Told(told) if told.alert.resolved || told.alert.once => (None, told.number),
        Known::Told(told) => (Some(told.severity), told.number),
    }
}

/// Whether one more lesser alert may be told in this minute.
fn admit(recent: &mut VecDeque<Moment>, policy: &AlertPolicy, now: Moment) -> bool {
    while recent.front().is_some_and(|at| now.since(*at) >= MINUTE) {
        recent.pop_front();
    }
    let room = recent.len() < policy.burst;
    if room {
        recent.push_back(now);
    }
    room
}

/// For how long an alert is left alone after so many attempts, with `chance` in `[0, 1)`.
fn pause(attempts: u32, chance: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    doubled.min(MOST_PAUSE).mul_f64(0.5 + chance / 2.0)
}

/// How many alerts wait at the most.
pub(crate) const WAITING: usize = 256;
/// How many incidents of which nothing waits are remembered at the most.
pub(crate) const KEYS: usize = 256;
/// How many alerts that were given up are shown at the most.
pub(crate) const GIVEN_UP: usize = 64;
/// How many calls of the alerter may hang before the queue waits for one of them.
pub(crate) const HUNG: usize = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MOST_PAUSE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// The most characters of an alerter's error that are kept.
const MOST_ERROR: usize = 500;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::Name;

    const HOUR: u64 = 3600;

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn alert(key: &str, severity: Severity) -> Alert {
        Alert::new(key, severity, Name::new("r").unwrap(), at(7), "it broke")
    }

    fn critical(key: &str) -> Alert {
        alert(key, Severity::Critical)
    }

    fn warning(key: &str) -> Alert {
        alert(key, Severity::Warning)
    }

    fn info(key: &str) -> Alert {
        alert(key, Severity::Info)
    }

    fn queue() -> Delivery {
        Delivery::new(AlertPolicy::default(), 1)
    }

    fn roomy() -> Delivery {
        Delivery::new(AlertPolicy::new(Duration::from_secs(4 * HOUR), 10_000), 1)
    }

    fn call(queue: &mut Delivery, now: Moment) -> Option<(Alert, Ticket)> {
        match queue.next(now) {
            Next::Call(alert, ticket) => Some((*alert, ticket)),
            Next::Wait(_) | Next::Done => None,
        }
    }

    /// Offers what is due at `now` to an alerter that works where `works` says so. Each key is
    /// shown with a minus where it is resolved.
    fn run(queue: &mut Delivery, now: Moment, works: impl Fn(&Alert) -> bool) -> Vec<String> {
        let mut told = Vec::new();
        while let Some((alert, ticket)) = call(queue, now) {
            let outcome = if works(&alert) {
                told.push(format!("{}{}", if alert.resolved { "-" } else { "" }, alert.key));
                Outcome::Told
            } else {
                Outcome::Refused("down".to_owned())
            };
            queue.ended(now, ticket, outcome);
        }
        told
    }

    fn up(_: &Alert) -> bool {
        true
    }

    fn down(_: &Alert) -> bool {
        false
    }

    #[test]
    fn a_burst_of_lesser_alerts_suppresses_neither_a_critical_one_nor_a_resolve() {
        let mut queue = queue();
        queue.send(at(0), warning("open"));
        assert_eq!(run(&mut queue, at(0), up), ["open"]);
        for n in 0..100 {
            queue.send(at(1), warning(&n.to_string()));
        }
        queue.send(at(1), critical("rolled back"));
        queue.send(at(1), warning("open").resolve());
        let told = run(&mut queue, at(1), up);
        assert_eq!(told[..2], ["rolled back", "-open"]);
        assert_eq!(told.len(), 2 + 29, "29 more lesser ones, after the first");
        assert_eq!(queue.counts(at(1)).suppressed, 71);
        queue.send(at(61), warning("later"));
        assert_eq!(run(&mut queue, at(61), up), ["later"]);
    }

    #[test]
    fn the_end_of_what_the_burst_suppressed_is_not_told() {
        let mut queue = Delivery::new(AlertPolicy::new(Duration::from_secs(HOUR), 1), 1);
        queue.send(at(0), warning("first"));
        queue.send(at(0), warning("pause"));
        queue.send(at(0), warning("pause").resolve());
        assert_eq!(run(&mut queue, at(0), up), ["first"]);
    }

    #[test]
    fn a_queue_full_of_lesser_alerts_takes_a_critical_one_and_keeps_it() {
        let mut queue = roomy();
        for n in 0..WAITING {
            queue.send(at(0), warning(&n.to_string()));
        }
        queue.send(at(0), critical("rolled back"));
        for n in 0..1_000 {
            queue.send(at(0), warning(&format!("more {n}")));
        }
        let counts = queue.counts(at(0));
        assert_eq!((counts.waiting, counts.lost), (WAITING, 1_001));
        let told = run(&mut queue, at(0), up);
        assert_eq!((told[0].as_str(), told.len()), ("rolled back", WAITING));
        assert_eq!(told[WAITING - 1], "more 999", "the oldest gave way");
    }

    #[test]
    fn a_resolve_is_kept_while_lesser_alerts_come() {
        let mut queue = roomy();
        queue.send(at(0), warning("paused"));
        run(&mut queue, at(0), up);
        queue.send(at(0), info("paused").resolve());
        for n in 0..1_000 {
            queue.send(at(0), warning(&n.to_string()));
        }
        assert_eq!(run(&mut queue, at(0), up)[0], "-paused");
    }

    #[test]
    fn where_all_that_waits_is_critical_the_oldest_gives_way_and_is_counted_and_shown() {
        let mut queue = queue();
        for n in 0..=WAITING {
            queue.send(at(0), critical(&n.to_string()));
        }
        queue.send(at(0), warning("no room"));
        let counts = queue.counts(at(0));
        assert_eq!((counts.waiting, counts.lost), (WAITING, 2));
        let untold = queue.untold(at(0));
        let shown: Vec<_> = untold.iter().map(|one| (one.key.as_str(), one.given_up)).collect();
        let why = Some(GivenUp::NoRoom);
        assert_eq!(shown, [("0", why), ("no room", why)]);
        let told = run(&mut queue, at(0), up);
        assert_eq!((told[0].as_str(), told.len()), ("256", WAITING), "the newest first");
    }

    #[test]
    fn what_is_over_before_people_were_told_is_cancelled() {
        let mut queue = queue();
        queue.send(at(0), critical("disk"));
        assert!(run(&mut queue, at(0), down).is_empty());
        queue.send(at(1), info("disk").resolve());
        assert!(run(&mut queue, at(3600), up).is_empty());
        let counts = queue.counts(at(3600));
        assert_eq!((counts.cancelled, counts.waiting, counts.delivered), (1, 0, 0));
    }

    #[test]
    fn what_is_over_while_it_is_being_told_is_cancelled_if_people_were_not_told() {
        for (outcome, told) in [
            (Outcome::Refused("down".into()), vec![]),
            (Outcome::Unclear("it panicked".into()), vec!["-disk"]),
            (Outcome::Told, vec!["-disk"]),
        ] {
            let mut queue = queue();
            queue.send(at(0), critical("disk"));
            let (_, ticket) = call(&mut queue, at(0)).unwrap();
            queue.send(at(1), info("disk").resolve());
            queue.ended(at(2), ticket, outcome.clone());
            assert_eq!(run(&mut queue, at(2), up), told, "{outcome:?}");
            assert_eq!(queue.counts(at(2)).cancelled, u64::from(told.is_empty()));
        }
    }

    #[test]
    fn what_happened_is_told_even_if_it_is_over_and_its_end_follows() {
        let mut queue = queue();
        queue.send(at(0), critical("rolled back").once());
        run(&mut queue, at(0), down);
        queue.send(at(1), info("rolled back").resolve());
        assert_eq!(queue.counts(at(1)).waiting, 2);
        assert_eq!(run(&mut queue, at(60), up), ["rolled back", "-rolled back"]);
    }

    #[test]
    fn a_resolve_is_offered_until_it_is_delivered_and_the_incident_stays_open() {
        let mut queue = queue();
        queue.send(at(0), critical("disk"));
        assert_eq!(run(&mut queue, at(0), up), ["disk"]);
        queue.send(at(1), info("disk").resolve());
        for second in 1..HOUR {
            assert!(run(&mut queue, at(second), down).is_empty());
        }
        // More incidents than are remembered come and go meanwhile.
        for n in 0..2 * KEYS {
            let key = n.to_string();
            queue.send(at(HOUR), critical(&key));
            run(&mut queue, at(HOUR), |alert| alert.key == key);
        }
        let (alert, ticket) = call(&mut queue, at(HOUR + 120)).unwrap();
        assert_eq!((alert.key.as_str(), alert.resolved), ("disk", true));
        assert_eq!(alert.severity, Severity::Critical, "as severe as what it ends");
        queue.ended(at(HOUR + 120), ticket, Outcome::Told);
        queue.send(at(HOUR + 122), critical("disk"));
        assert_eq!(run(&mut queue, at(HOUR + 122), up), ["disk"], "it came back");
    }

    #[test]
    fn the_end_of_what_a_process_before_this_one_told_is_delivered_once() {
        let mut queue = queue();
        queue.send(at(0), info("disk").resolve());
        queue.send(at(0), info("disk").resolve());
        assert_eq!(run(&mut queue, at(0), up), ["-disk"]);
        queue.send(at(1), info("disk").resolve());
        assert!(run(&mut queue, at(1), up).is_empty());
    }

    #[test]
    fn what_goes_on_is_repeated_by_itself_until_its_end_is_delivered() {
        let mut queue = queue();
        queue.send(at(0), critical("disk"));
        queue.send(at(0), warning("paused"));
        queue.send(at(0), info("note"));
        queue.send(at(0), critical("rolled back").once());
        assert_eq!(run(&mut queue, at(0), up).len(), 4);
        let Next::Wait(Some(until)) = queue.next(at(1)) else { panic!("it waits for the repeat") };
        assert_eq!(until, at(4 * HOUR));
        assert!(run(&mut queue, at(4 * HOUR - 1), up).is_empty());
        assert_eq!(run(&mut queue, at(4 * HOUR), up), ["disk", "paused"]);
        queue.send(at(5 * HOUR), info("disk").resolve());
        assert!(run(&mut queue, at(5 * HOUR), down).is_empty());
        assert_eq!(run(&mut queue, at(8 * HOUR), up), ["-disk", "paused"]);
        assert_eq!(run(&mut queue, at(12 * HOUR), up), ["paused"]);
        assert_eq!(queue.counts(at(12 * HOUR)).delivered, 9);
    }

    #[test]
    fn a_repeat_has_the_latest_words() {
        let mut queue = queue();
        queue.send(at(0), warning("drift"));
        run(&mut queue, at(0), up);
        let mut newer = warning("drift");
        newer.summary = "it is worse".to_owned();
        queue.send(at(1), newer);
        assert!(run(&mut queue, at(1), up).is_empty(), "the same news");
        let (alert, _) = call(&mut queue, at(4 * HOUR)).unwrap();
        assert_eq!(alert.summary, "it is worse");
    }

    #[test]
    fn nothing_is_repeated_at_an_interval_of_zero_and_whatever_is_sent_is_news() {
        let mut queue = Delivery::new(AlertPolicy::new(Duration::ZERO, 100), 1);
        for _ in 0..3 {
            queue.send(at(0), critical("disk"));
            assert_eq!(run(&mut queue, at(0), up), ["disk"]);
        }
        assert!(run(&mut queue, at(100 * HOUR), up).is_empty());
    }

    #[test]
    fn what_becomes_more_severe_is_told_at_once_and_what_becomes_less_severe_is_not() {
        let mut queue = queue();
        queue.send(at(0), warning("switch"));
        assert_eq!(run(&mut queue, at(0), up), ["switch"]);
        queue.send(at(1), critical("switch"));
        assert_eq!(run(&mut queue, at(1), up), ["switch"]);
        queue.send(at(2), warning("switch"));
        queue.send(at(3), critical("switch"));
        assert!(run(&mut queue, at(3), up).is_empty());
    }

    #[test]
    fn lesser_news_takes_no_critical_news_place() {
        let mut queue = queue();
        queue.send(at(0), critical("switch"));
        run(&mut queue, at(0), down);
        queue.send(at(1), warning("switch"));
        let (alert, _) = call(&mut queue, at(60)).unwrap();
        assert_eq!(alert.severity, Severity::Critical);
    }

    #[test]
    fn a_second_rollback_for_the_same_reason_is_news() {
        let mut queue = queue();
        let mut second = critical("rolled back").once();
        queue.send(at(0), second.clone());
        assert_eq!(run(&mut queue, at(0), up).len(), 1);
        queue.send(at(1), second.clone());
        assert!(run(&mut queue, at(1), up).is_empty(), "the same event");
        second.at = at(60);
        queue.send(at(60), second);
        assert_eq!(run(&mut queue, at(60), up).len(), 1);
    }

    #[test]
    fn rollouts_do_not_share_their_keys() {
        let mut queue = queue();
        queue.send(at(0), critical("rolled back"));
        let other = Name::new("other").unwrap();
        queue.send(at(0), Alert::new("rolled back", Severity::Critical, other, at(0), "s"));
        assert_eq!(run(&mut queue, at(0), up).len(), 2);
    }

    #[test]
    fn what_is_stale_is_given_up_and_shown() {
        let mut queue = queue();
        queue.send(at(0), critical("disk"));
        run(&mut queue, at(0), down);
        let [untold] = &queue.untold(at(0))[..] else { panic!("it failed") };
        assert_eq!((untold.attempts, untold.given_up), (1, None));
        assert_eq!((untold.key.as_str(), untold.since), ("disk", at(7)));
        for minute in 1..24 * 60 {
            run(&mut queue, at(60 * minute), down);
            assert_eq!(queue.counts(at(60 * minute)).waiting, 1);
        }
        assert_eq!(queue.counts(at(24 * HOUR - 1)).oldest_waiting_seconds, Some(24 * HOUR - 1));
        assert!(run(&mut queue, at(24 * HOUR), up).is_empty());
        let counts = queue.counts(at(24 * HOUR));
        assert_eq!((counts.undelivered, counts.waiting), (1, 0));
        let [untold] = &queue.untold(at(24 * HOUR))[..] else { panic!("it was given up") };
        assert_eq!(untold.given_up, Some(GivenUp::Stale));
        assert!(untold.attempts > 1_000 && untold.last_error.as_deref() == Some("down"));
        assert!(run(&mut queue, at(48 * HOUR), up).is_empty());
        queue.send(at(48 * HOUR), critical("disk"));
        assert_eq!(run(&mut queue, at(48 * HOUR), up), ["disk"]);
        assert!(queue.untold(at(48 * HOUR)).is_empty(), "people know of it now");
    }

    #[test]
    fn what_is_given_up_is_shown_within_bounds_and_the_lesser_goes_first() {
        let mut queue = roomy();
        queue.send(at(0), critical("rolled back"));
        for n in 0..WAITING - 1 {
            queue.send(at(0), info(&n.to_string()));
        }
        queue.next(at(24 * HOUR));
        let untold = queue.untold(at(24 * HOUR));
        assert_eq!(untold.len(), GIVEN_UP);
        assert_eq!(untold[0].key, "rolled back");
    }

    #[test]
    fn the_newest_critical_alert_is_offered_first_and_lesser_ones_in_their_order() {
        let mut queue = queue();
        for key in ["1", "2"] {
            queue.send(at(0), warning(key));
        }
        for key in ["3", "4"] {
            queue.send(at(0), critical(key));
        }
        assert_eq!(run(&mut queue, at(0), up), ["4", "3", "1", "2"]);
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_new_critical_news_is_offered_at_once() {
        let longest = |attempts| pause(attempts, 1.0).as_millis();
        assert_eq!([1, 2, 3, 9, 10, 4_000].map(longest), [200, 400, 800, 51_200, 60_000, 60_000]);
        assert_eq!(pause(1, 0.0), Duration::from_millis(100));
        let mut queue = queue();
        queue.send(at(0), critical("disk"));
        for second in 0..600 {
            run(&mut queue, at(second), down);
        }
        assert!(call(&mut queue, at(600)).is_none(), "it is left alone");
        queue.send(at(600), critical("rolled back"));
        assert_eq!(call(&mut queue, at(600)).unwrap().0.key, "rolled back");
    }

    #[test]
    fn a_receiver_that_is_back_is_reached_within_a_minute() {
        let mut queue = queue();
        queue.send(at(0), critical("disk"));
        for second in 0..HOUR {
            run(&mut queue, at(second), down);
        }
        let told: Vec<_> =
            (HOUR..HOUR + 60).flat_map(|second| run(&mut queue, at(second), up)).collect();
        assert_eq!(told, ["disk"]);
    }

    #[test]
    fn once_a_call_gets_through_what_failed_is_offered_again() {
        let mut queue = queue();
        queue.send(at(0), critical("disk"));
        for second in 0..600 {
            run(&mut queue, at(second), down);
        }
        queue.send(at(601), info("note"));
        assert_eq!(run(&mut queue, at(601), up), ["note", "disk"]);
    }

    #[test]
    fn alerts_that_always_fail_hold_up_no_other() {
        let mut queue = queue();
        for n in 0..20 {
            queue.send(at(0), critical(&format!("bad {n}")));
        }
        queue.send(at(0), info("good"));
        // Each call takes ten seconds, so that a critical one is always due.
        let mut told = None;
        for turn in 0..100 {
            let now = at(10 * turn);
            let (alert, ticket) = call(&mut queue, now).expect("something is always due");
            if alert.key == "good" {
                told = told.or(Some(turn));
                queue.ended(now, ticket, Outcome::Told);
            } else {
                queue.ended(at(10 * turn + 9), ticket, Outcome::Refused("bad".into()));
            }
        }
        assert!(told.is_some_and(|turn| (6..4 * 21).contains(&turn)), "{told:?}");
    }

    #[test]
    fn a_call_that_hangs_is_left_behind_and_may_deliver_late() {
        let mut queue = queue();
        queue.send(at(0), critical("disk"));
        let (_, hangs) = call(&mut queue, at(0)).unwrap();
        queue.send(at(1), critical("rolled back"));
        let Next::Wait(Some(until)) = queue.next(at(1)) else { panic!("one call at a time") };
        assert_eq!(until, at(30));
        assert_eq!(call(&mut queue, at(30)).unwrap().0.key, "rolled back");
        let counts = queue.counts(at(30));
        assert_eq!((counts.hung, counts.failed_calls), (1, 1));
        assert!(queue.untold(at(30))[0].last_error.as_ref().unwrap().contains("30s"));
        queue.ended(at(31), hangs, Outcome::Told);
        let counts = queue.counts(at(31));
        assert_eq!((counts.hung, counts.delivered, counts.waiting), (0, 1, 1));
    }

    #[test]
    fn an_alert_whose_calls_hang_leaves_half_of_them_to_others() {
        let mut queue = queue();
        queue.send(at(0), critical("bad"));
        for minute in 0..60 {
            queue.next(at(60 * minute));
        }
        assert_eq!(queue.counts(at(HOUR)).hung, HUNG / 2);
        queue.send(at(HOUR), warning("good"));
        assert_eq!(run(&mut queue, at(HOUR), up), ["good"]);
    }

    #[test]
    fn when_too_many_calls_hang_the_queue_waits_for_one_of_them() {
        let mut queue = queue();
        let mut tickets = Vec::new();
        for n in 0..HUNG as u64 + 1 {
            queue.send(at(40 * n), critical(&n.to_string()));
            tickets.extend(call(&mut queue, at(40 * n)).map(|(_, ticket)| ticket));
        }
        assert_eq!((tickets.len(), queue.counts(at(200)).hung), (HUNG, HUNG));
        let Next::Wait(Some(until)) = queue.next(at(200)) else { panic!("it waits") };
        assert_eq!(until, at(24 * HOUR), "for what is stale");
        queue.ended(at(201), tickets[0], Outcome::Refused("at last".into()));
        assert_eq!(call(&mut queue, at(201)).unwrap().0.key, "4");
    }

    #[test]
    fn what_is_told_late_is_followed_by_what_is_so() {
        let mut queue = queue();
        queue.send(at(0), critical("disk"));
        let (_, hangs) = call(&mut queue, at(0)).unwrap();
        queue.next(at(30));
        queue.send(at(31), info("disk").resolve());
        assert_eq!(run(&mut queue, at(31), up), ["-disk"]);
        queue.ended(at(40), hangs, Outcome::Told);
        assert_eq!(run(&mut queue, at(40), up), ["-disk"]);
        assert!(run(&mut queue, at(9 * HOUR), up).is_empty());
    }

    #[test]
    fn a_closed_queue_ends_once_nothing_waits() {
        let mut queue = queue();
        queue.send(at(0), critical("disk"));
        run(&mut queue, at(0), down);
        queue.close();
        assert!(matches!(queue.next(at(0)), Next::Wait(Some(_))));
        assert_eq!(run(&mut queue, at(60), up), ["disk"]);
        assert!(matches!(queue.next(at(9 * HOUR)), Next::Done), "nothing is repeated");
        let mut untold = Delivery::new(AlertPolicy::default(), 1);
        untold.send(at(0), critical("disk"));
        untold.close();
        run(&mut untold, at(0), down);
        assert!(matches!(untold.next(at(24 * HOUR)), Next::Done), "nor is it told for ever");
    }

    #[test]
    fn the_queue_never_waits_for_a_moment_that_has_passed() {
        let mut queue = queue();
        for n in 0..10 {
            queue.send(at(0), warning(&n.to_string()));
        }
        let mut now = at(0);
        for turn in 0..5_000 {
            match queue.next(now) {
                Next::Call(_, ticket) => {
                    let fails = turn % 3 == 0;
                    let outcome =
                        if fails { Outcome::Refused(String::new()) } else { Outcome::Told };
                    queue.ended(now, ticket, outcome);
                }
                Next::Wait(Some(until)) => {
                    assert!(until > now, "{until:?} at {now:?}");
                    now = until;
                }
                Next::Wait(None) | Next::Done => panic!("there is always a repeat to come"),
            }
        }
    }

    #[test]
    fn what_fires_again_while_its_end_is_being_told_is_told_again() {
        let mut queue = queue();
        queue.send(at(0), warning("paused"));
        run(&mut queue, at(0), up);
        queue.send(at(1), info("paused").resolve());
        let (_, ticket) = call(&mut queue, at(1)).unwrap();
        queue.send(at(2), warning("paused"));
        queue.ended(at(3), ticket, Outcome::Told);
        assert_eq!(run(&mut queue, at(3), up), ["paused"]);
    }

    #[test]
    fn what_fires_again_before_its_end_was_told_went_on_for_people() {
        let mut queue = queue();
        queue.send(at(0), warning("paused"));
        run(&mut queue, at(0), up);
        queue.send(at(1), info("paused").resolve());
        queue.send(at(1), warning("paused"));
        assert!(run(&mut queue, at(60), up).is_empty());
        assert_eq!(run(&mut queue, at(4 * HOUR), up), ["paused"]);
    }

    #[test]
    fn what_is_over_is_not_repeated_even_if_its_end_was_given_up() {
        let mut queue = queue();
        queue.send(at(0), critical("disk"));
        run(&mut queue, at(0), up);
        queue.send(at(1), info("disk").resolve());
        run(&mut queue, at(1), down);
        queue.next(at(25 * HOUR));
        assert_eq!(queue.untold(at(25 * HOUR))[0].given_up, Some(GivenUp::Stale));
        assert!(run(&mut queue, at(26 * HOUR), up).is_empty());
        assert!(run(&mut queue, at(30 * HOUR), up).is_empty());
    }

    #[test]
    fn more_incidents_than_are_remembered_leave_the_critical_ones_open() {
        let mut queue = roomy();
        queue.send(at(0), critical("disk"));
        run(&mut queue, at(0), up);
        for n in 0..10 * KEYS {
            queue.send(at(1), warning(&n.to_string()));
            run(&mut queue, at(1), up);
            assert!(queue.incidents.len() <= KEYS + 1);
        }
        assert!(run(&mut queue, at(4 * HOUR), up).contains(&"disk".to_owned()));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Send { key: u16, severity: u8, resolved: bool, once: bool },
        Pass(u32),
        Offer,
        End { which: usize, how: u8 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let send = (0_u16..600, 0_u8..3, prop::bool::weighted(0.2), any::<bool>()).prop_map(
            |(key, severity, resolved, once)| {
                // Some keys often, and many keys once.
                let key = if key < 300 { key % 6 } else { key };
                Step::Send { key, severity, resolved, once }
            },
        );
        let end = (0_usize..5, 0_u8..3).prop_map(|(which, how)| Step::End { which, how });
        let pass = prop_oneof![0_u32..2_000, 0_u32..400_000];
        prop::collection::vec(
            prop_oneof![5 => send, 2 => pass.prop_map(Step::Pass), 4 => Just(Step::Offer), 3 => end],
            0..600,
        )
    }

    proptest! {
        /// Of every key with critical news that is not over: once the receiver is back, that is what
        /// people heard, or it is shown as given up. And nothing grows.
        #[test]
        fn every_critical_alert_is_delivered_once_the_receiver_is_back(steps in steps()) {
            let mut queue = Delivery::new(AlertPolicy::new(Duration::from_secs(HOUR), 20), 9);
            let (mut now, mut out) = (at(0), Vec::new());
            // The last critical news of each key that is not over, whether lesser news came after it,
            // and what people heard of the key.
            let mut last: BTreeMap<String, (Alert, bool)> = BTreeMap::new();
            let mut heard: BTreeMap<String, Vec<Alert>> = BTreeMap::new();
            let mut order = 0_u64;
            for step in steps {
                match step {
                    Step::Send { key, severity, resolved, once } => {
                        let severity = [Severity::Info, Severity::Warning, Severity::Critical]
                            [usize::from(severity)];
                        let key = key.to_string();
                        let rollout = Name::new("r").unwrap();
                        order += 1;
                        let mut alert =
                            Alert::new(key.clone(), severity, rollout, Moment::from_nanos(order), "s");
                        (alert.resolved, alert.once) = (resolved, once && !resolved);
                        if resolved {
                            last.remove(&key);
                        } else if severity == Severity::Critical {
                            last.insert(key, (alert.clone(), false));
                        } else if let Some((_, lesser)) = last.get_mut(&key) {
                            *lesser = true;
                        }
                        queue.send(now, alert);
                    }
                    Step::Pass(millis) => now = now.after(Duration::from_millis(millis.into())),
                    Step::Offer => out.extend(call(&mut queue, now)),
                    Step::End { which, how } if !out.is_empty() => {
                        let (alert, ticket): (Alert, Ticket) = out.swap_remove(which % out.len());
                        let outcome = match how {
                            0 => Outcome::Told,
                            1 => Outcome::Refused("down".into()),
                            _ => Outcome::Unclear("down".into()),
                        };
                        if outcome == Outcome::Told {
                            heard.entry(alert.key.clone()).or_default().push(alert);
                        }
                        queue.ended(now, ticket, outcome);
                    }
                    Step::End { .. } => {}
                }
                prop_assert!(out.len() <= HUNG + 1);
                prop_assert!(queue.counts(now).waiting <= 2 * WAITING);
                prop_assert!(queue.incidents.len() <= WAITING + KEYS + HUNG + 1);
                prop_assert!(queue.recent.len() <= 20 && queue.given_up.len() <= GIVEN_UP);
            }
            // The receiver is back. What hangs returns with nothing to say.
            for (_, ticket) in out.drain(..) {
                queue.ended(now, ticket, Outcome::Unclear("at last".into()));
            }
            let (until, mut turns) = (now.after(Duration::from_secs(61)), 0);
            while now <= until {
                match queue.next(now) {
                    Next::Call(alert, ticket) => {
                        heard.entry(alert.key.clone()).or_default().push(*alert);
                        queue.ended(now, ticket, Outcome::Told);
                    }
                    Next::Wait(Some(then)) => {
                        prop_assert!(then > now);
                        now = then;
                    }
                    Next::Wait(None) | Next::Done => break,
                }
                turns += 1;
                prop_assert!(turns < 10_000, "it turns in circles");
            }
            let untold = queue.untold(now);
            let lost = queue.counts(now).lost + queue.counts(now).undelivered;
            for (key, (news, lesser)) in &last {
                let firing = |one: &Alert| one.severity == Severity::Critical && !one.resolved;
                let told = heard.get(key).map_or(&[][..], |told| &told[..]);
                let heard = if news.once {
                    told.iter().any(|one| one.at == news.at)
                } else if *lesser {
                    told.iter().any(firing)
                } else {
                    // The last that people heard is what is so.
                    told.last().is_some_and(firing)
                };
                let shown = untold.iter().any(|one| one.key == *key && one.given_up.is_some());
                let beyond = lost > GIVEN_UP as u64;
                prop_assert!(heard || shown || beyond, "{key} was not told");
            }
        }
    }
}
