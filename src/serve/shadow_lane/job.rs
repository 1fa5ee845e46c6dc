//! One request in the lane, from the offer to the end of the candidate's call.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::clock::Clock;
use crate::compare::comparator::Incomparable;
use crate::ids::Arm;
use crate::model::Model;
use crate::observe::explorer::case::{Draft, Facts};
use crate::observe::shadow::ShadowCounts;
use crate::observe::snapshot::ArmCounts;
use crate::outcome::Status;
use crate::route::bucket::inside;
use crate::serve::catch::{caught, discard};
use crate::serve::shadow_lane::inner::{End, Inner, OPEN, Place, Work};
use crate::serve::shadow_lane::offer::Offer;
use crate::serve::shadow_lane::results::{Pair, briefly};

/// What one run came to.
struct Run {
    served: (Status, Duration),
    asked: (Status, Duration),
    sample: Option<u64>,
    similarity: Option<Result<f64, Incomparable>>,
    noise: Option<Noise>,
    classes: Option<(String, String)>,
}

/// What the baseline's second run came to.
enum Noise {
    Failed,
    Uncomparable,
    Matched(bool),
}

impl<M: Model, C: Clock> Work<M, C> {
    /// Runs it if it is its turn, and then whoever waits for one.
    pub(super) fn run(self) {
        let inner = Arc::clone(&self.place.inner);
        let mut next = inner.turns.enter(self, inner.clock.now());
        while let Some((turn, work)) = next {
            // An output may panic where it is dropped; the turn goes on to the next all the same.
            if let Err(payload) = caught(|| work.place.run(work.offer)) {
                discard(payload);
            }
            next = inner.turns.leave(&turn, inner.clock.now());
        }
    }
}

impl<M: Model, C: Clock> Place<M, C> {
    fn run(mut self, offer: Offer<M::Input, M::Output>) {
        let inner = Arc::clone(&self.inner);
        if inner.state.load(Ordering::Acquire) != OPEN {
            self.end = End::Paused;
            return;
        }
        if !inner.willing() {
            self.end = End::NotShadowable;
            return;
        }
        let (status, latency, output) = inner.ask(Arm::CANDIDATE, &offer.input);
        let similarity = match (&offer.output, &output) {
            (Some(baseline), Some(candidate)) => Some(inner.similarity(baseline, candidate)),
            _ => None,
        };
        let noise = match (&offer.output, similarity) {
            (Some(served), Some(Ok(_))) => inner.noise(&offer.input, served),
            _ => None,
        };
        let class = |output: Option<&M::Output>| match output {
            Some(output) => Inner::<M, C>::told(inner.hooks.class.as_deref(), output),
            None => Some("(no answer)".to_owned()),
        };
        let classes = class(offer.output.as_ref()).zip(class(output.as_ref()));
        self.explore(&offer, output.as_ref(), (status, latency), similarity, classes.as_ref());
        let served = (offer.status, offer.latency);
        let (asked, sample) = ((status, latency), offer.sample);
        self.count(&Run { served, asked, sample, similarity, noise, classes });
        self.end = End::Run;
        let void = offer.status == Status::Cancelled || status == Status::Cancelled;
        self.report(offer.output, output, void);
    }

    /// Adds a run to the counts.
    fn count(&self, run: &Run) {
        let inner = &self.inner;
        let ((served, took), (status, latency)) = (run.served, run.asked);
        let mut results = inner.results.lock();
        let results = &mut *results;
        let counts = &mut results.counts;
        counts.run += 1;
        add_call(&mut counts.baseline, served, took);
        add_call(&mut counts.candidate, status, latency);
        // Calls that were broken off say nothing of either model.
        if served == Status::Cancelled || status == Status::Cancelled {
            return;
        }
        if run.sample.is_some_and(|sample| !results.compared.first(sample)) {
            counts.repeated += 1;
            return;
        }
        let mut seen = counts.segment_mut(self.segment).to_owned();
        let answered = |status| status == Status::Ok;
        seen.answered.add(answered(served), answered(status));
        counts.answered.add(answered(served), answered(status));
        if answered(served) && (answered(status) || status == Status::Timeout) {
            let bound = inner.options.slower * took.as_nanos() as f64;
            let slower = status == Status::Timeout || latency.as_nanos() as f64 > bound;
            (seen.timed, seen.slower) = (seen.timed + 1, seen.slower + u64::from(slower));
            (counts.timed, counts.slower) = (counts.timed + 1, counts.slower + u64::from(slower));
            if answered(status) {
                let ratio = latency.as_nanos() as f64 / took.as_nanos().max(1) as f64 * 1e6;
                counts.ratio.record(ratio.min(1e18) as u64);
            }
        }
        match run.similarity {
            None => {}
            Some(Err(_)) => {
                counts.uncomparable += 1;
                seen.uncomparable += 1;
            }
            Some(Ok(similarity)) => {
                let matched = similarity >= inner.options.threshold;
                for (pairs, matches, sums) in [
                    (&mut counts.pairs, &mut counts.matches, &mut counts.similarity),
                    (&mut seen.pairs, &mut seen.matches, &mut seen.similarity),
                ] {
                    *pairs += 1;
                    *matches += u64::from(matched);
                    sums.add(similarity);
                }
                results.clusters.add(self.cluster, matched);
                if let Some((from, to)) = &run.classes {
                    results.classes.add(from, to);
                }
                add_noise(counts, &mut seen.noise, run.noise.as_ref(), matched);
            }
        }
        *counts.segment_mut(self.segment) = seen;
    }

    /// Keeps the case if the models differ, or the candidate was slow.
    fn explore(
        &self,
        offer: &Offer<M::Input, M::Output>,
        output: Option<&M::Output>,
        (status, latency): (Status, Duration),
        similarity: Option<Result<f64, Incomparable>>,
        classes: Option<&(String, String)>,
    ) {
        let Some(explorer) = &self.inner.explorer else { return };
        if offer.status == Status::Cancelled || status == Status::Cancelled {
            return;
        }
        let threshold = self.inner.options.threshold;
        let differs = match similarity {
            Some(similarity) => similarity.is_ok_and(|similarity| similarity < threshold),
            None => offer.output.is_some() != output.is_some(),
        };
        let mut facts = Facts::new(self.segment, similarity.and_then(Result::ok));
        facts.sample = offer.sample;
        facts.baseline_status = offer.status;
        facts.candidate_status = status;
        facts.baseline_nanos = nanos(offer.latency);
        facts.candidate_nanos = nanos(latency);
        let slow = offer.output.is_some() && output.is_some() && explorer.lock().wants_slow(&facts);
        if !differs && !slow {
            return;
        }
        let hooks = &self.inner.hooks;
        let told = |output: Option<&M::Output>| {
            let text = output.and_then(|o| Inner::<M, C>::told(hooks.output.as_deref(), o));
            text.unwrap_or_default()
        };
        let (from, to) = classes.cloned().unwrap_or_default();
        let input = Inner::<M, C>::told(hooks.input.as_deref(), &*offer.input).unwrap_or_default();
        let baseline = told(offer.output.as_ref());
        let mut draft = Draft { from, to, input, baseline, candidate: told(output) };
        if let Some(redact) = &hooks.redact {
            if let Err(payload) = caught(|| redact(&mut draft)) {
                discard(payload);
                // What the hook did not finish with is not kept.
                draft = Draft { from: "(not redacted)".to_owned(), ..Draft::default() };
            }
        }
        let mut explorer = explorer.lock();
        if differs {
            explorer.disagreement(facts, draft.clone());
        }
        if slow {
            explorer.slow(facts, draft);
        }
    }

    /// Hands the outputs over to whoever knows the truth.
    fn report(&mut self, baseline: Option<M::Output>, candidate: Option<M::Output>, void: bool) {
        let Some(sample) = self.truth.take() else { return };
        let inner = &self.inner;
        let judge = {
            let mut truths = inner.truths.lock();
            let waiting = truths.pairs.remove(&sample);
            if void {
                drop(truths); // what waits may be a closure of the user's
                return;
            }
            match waiting {
                None => return, // it made room for others
                Some(Pair::Told(judge)) => {
                    truths.judged.first(sample);
                    judge
                }
                Some(Pair::Running | Pair::Both(..)) => {
                    truths.pairs.insert(sample, Pair::Both(self.segment, baseline, candidate));
                    return;
                }
            }
        };
        inner.judge(self.segment, &*judge, (baseline.as_ref(), candidate.as_ref()));
    }
}

impl<M: Model, C: Clock> Inner<M, C> {
    /// Asks the stable model a second time, on the share of runs that is for it.
    fn noise(&self, input: &M::Input, served: &M::Output) -> Option<Noise> {
        self.stable.as_ref()?;
        // By number, so that which ones depends on nothing that they show.
        let number = self.tallies.drawn.fetch_add(1, Ordering::Relaxed);
        if !inside(xxh3_64_with_seed(&number.to_le_bytes(), NOISE), self.options.noise) {
            return None;
        }
        let (_, _, again) = self.ask(Arm::BASELINE, input);
        let Some(again) = again else { return Some(Noise::Failed) };
        Some(match self.similarity(served, &again) {
            Ok(similarity) => Noise::Matched(similarity >= self.options.threshold),
            Err(_) => Noise::Uncomparable,
        })
    }
}

fn add_noise(
    counts: &mut ShadowCounts,
    segment: &mut crate::observe::shadow::PairedTruth,
    noise: Option<&Noise>,
    candidate_matched: bool,
) {
    let Some(noise) = noise else { return };
    counts.noise.runs += 1;
    match noise {
        Noise::Failed => counts.noise.failed += 1,
        Noise::Uncomparable => counts.noise.uncomparable += 1,
        Noise::Matched(again) => {
            counts.noise.matched.add(*again, candidate_matched);
            segment.add(*again, candidate_matched);
        }
    }
}

impl<M: Model, C: Clock> Drop for Place<M, C> {
    fn drop(&mut self) {
        if let Some(sample) = self.truth {
            // Perhaps on the request path: a place that stays behind makes room in its time.
            let gone = briefly(&self.inner.truths).and_then(|mut t| t.pairs.remove(&sample));
            drop(gone); // outside the lock: it may be a closure of the user's
        }
        let tallies = &self.inner.tallies;
        let count = match self.end {
            End::Shed => Some(&tallies.shed),
            End::TooLarge => Some(&tallies.too_large),
            End::NotShadowable => Some(&tallies.not_shadowable),
            End::Paused => Some(&tallies.paused),
            End::Run => None,
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        tallies.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

fn add_call(counts: &mut ArmCounts, status: Status, latency: Duration) {
    counts.started += 1;
    counts.ended[status.index()] += 1;
    match status {
        Status::Ok => counts.latency.record(nanos(latency)),
        Status::Error | Status::Panicked => counts.failed_latency.record(nanos(latency)),
        Status::Timeout | Status::Cancelled => {}
    }
}

fn nanos(latency: Duration) -> u64 {
    u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX)
}

/// Sets the draw of second runs apart from every other draw.
const NOISE: u64 = 0x006e_6f69_7365;
