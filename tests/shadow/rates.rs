//! How often verdicts err, counted.

use std::convert::Infallible;
use std::sync::Arc;

use pilotage::compare::comparator::Exact;
use pilotage::ids::Segment;
use pilotage::judge::paired::{Agreement, PairedVerdict};
use pilotage::judge::shadow::{ShadowRules, ShadowVerdict};
use pilotage::model;
use pilotage::observe::shadow::ShadowCounts;
use pilotage::serve::request::Request;
use pilotage::serve::shadow_lane::{LaneOptions, ShadowLane};
use pilotage::share::TrafficShare;
use pilotage::sim::rng::Rng;

use crate::{Later, served};

/// Pairs until agreement is shown or refused, looking after every tenth pair up to `most`.
fn decide(rng: &mut Rng, truly: f64, most: u64) -> (PairedVerdict, u64) {
    let mut agreement = Agreement::new(0.85, 0.05, 0.05).unwrap();
    let mut pairs = 0;
    while pairs < most {
        // Looks thin out, as the evidence moves more slowly: every tenth pair, then every tenth part.
        let batch = 10.max(pairs / 50);
        agreement.observe(rng.binomial(batch, truly), batch);
        pairs += batch;
        match agreement.verdict() {
            PairedVerdict::Continue { .. } => {}
            verdict => return (verdict, pairs),
        }
    }
    (PairedVerdict::Continue { needed: None }, most)
}

#[test]
fn an_agreement_of_90_is_shown_in_500_pairs() {
    let mut rng = Rng::new(1);
    let mut pairs: Vec<u64> = (0..201)
        .map(|_| match decide(&mut rng, 0.90, 100_000) {
            (PairedVerdict::Pass, pairs) => pairs,
            _ => u64::MAX,
        })
        .collect();
    pairs.sort_unstable();
    assert!(pairs[100] <= 500, "median {}", pairs[100]);
}

#[test]
fn an_agreement_of_84_passes_in_5_of_100_however_often_one_looks() {
    let mut rng = Rng::new(2);
    let runs = 400;
    let passed =
        (0..runs).filter(|_| decide(&mut rng, 0.84, 20_000).0 == PairedVerdict::Pass).count();
    // At most 5 %: 20 expected at worst, a deviation of 4.4; three of room.
    assert!(passed <= 33, "{passed} of {runs}");
}

/// A model that draws its answers: on a fifth of requests any of two is as likely, on another
/// fifth any of four; so it differs from itself on 25 %.
fn draw(rng: &mut Rng, request: u64) -> u64 {
    match request % 5 {
        0 => rng.below(2),
        1 => rng.below(4),
        _ => 0,
    }
}

#[test]
fn a_noisy_model_raises_no_alarm_as_its_own_successor() {
    let rules = ShadowRules { excess: Some(0.15), slower: 1.5, ..ShadowRules::default() };
    let mut rng = Rng::new(3);
    let (mut alarms, mut promoted, mut naive) = (0, 0, 0);
    let runs = 100;
    for _ in 0..runs {
        let mut counts = ShadowCounts::default();
        let mut agreement = Agreement::new(0.85, 0.05, 0.05).unwrap();
        let (mut alarm, mut passed, mut refused) = (false, false, false);
        for look in 0..24_u64 {
            for at in 0..250 {
                let request = look * 250 + at;
                let [one, two, other] = [(); 3].map(|()| draw(&mut rng, request));
                let segment = Segment::new((request % 4) as u8 + 1);
                counts.sampled += 1;
                counts.run += 1;
                counts.pairs += 1;
                counts.matches += u64::from(one == other);
                counts.answered.add(true, true);
                counts.timed += 1;
                counts.slower += u64::from(rng.chance(0.1));
                let seen = counts.segment_mut(segment);
                seen.pairs += 1;
                seen.matches += u64::from(one == other);
                seen.answered.add(true, true);
                if at % 5 == 0 {
                    seen.noise.add(one == two, one == other);
                    counts.noise.runs += 1;
                    counts.noise.matched.add(one == two, one == other);
                }
                agreement.observe(u64::from(one == other), 1);
            }
            let report = rules.judge(&counts, None, None).unwrap();
            alarm |= !matches!(
                report.verdict,
                ShadowVerdict::Continue { .. } | ShadowVerdict::PromoteToCanary
            );
            passed |= report.verdict == ShadowVerdict::PromoteToCanary;
            refused |= agreement.verdict() == PairedVerdict::Refuse;
        }
        alarms += u32::from(alarm);
        promoted += u32::from(passed);
        naive += u32::from(refused);
    }
    // At most 5 % may be, and the excess is far from its margin: none is.
    assert!(alarms <= 1, "{alarms} alarms in {runs}");
    assert!(promoted >= 95, "{promoted} promoted of {runs}");
    assert_eq!(naive, runs, "without the noise floor each would be refused");
}

#[test]
fn an_excess_above_the_margin_is_found_in_the_noise() {
    let rules = ShadowRules { excess: Some(0.15), ..ShadowRules::default() };
    let mut rng = Rng::new(4);
    let (mut found, mut wrongly) = (0, 0);
    for _ in 0..60 {
        let mut counts = ShadowCounts::default();
        for look in 0..20_u64 {
            for at in 0..100 {
                let request = look * 100 + at;
                let [one, two, mut other] = [(); 3].map(|()| draw(&mut rng, request));
                if rng.chance(0.4) {
                    other = 9;
                }
                counts.pairs += 1;
                counts.answered.add(true, true);
                counts.timed += 1;
                counts.noise.runs += 1;
                counts.noise.matched.add(one == two, one == other);
            }
            match rules.judge(&counts, None, None).unwrap().verdict {
                ShadowVerdict::InvestigateDisagreement => {
                    found += 1;
                    break;
                }
                ShadowVerdict::PromoteToCanary => {
                    wrongly += 1;
                    break;
                }
                _ => {}
            }
        }
    }
    // The excess is 0.4 × 0.75 = 0.30: twice the margin, seen in 2,000 requests.
    assert!(found >= 57 && wrongly == 0, "{found} found, {wrongly} promoted");
}

#[test]
fn the_lane_measures_the_noise_that_is_there() {
    let seed = std::sync::atomic::AtomicU64::new(0);
    let noisy = move |request: &u64| {
        let mut rng = Rng::new(seed.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        Ok::<_, Infallible>(draw(&mut rng, *request))
    };
    let model = Arc::new(model::sync(noisy).shadowable());
    let jobs = Later::default();
    let lane = ShadowLane::builder(Arc::clone(&model), jobs.clone())
        .compare(Exact)
        .noise_floor(model)
        .options(LaneOptions {
            noise: TrafficShare::HALF,
            in_flight: 10_000,
            ..LaneOptions::default()
        })
        .open()
        .unwrap();
    assert!(lane.measures_noise());
    let mut rng = Rng::new(99);
    for request in 0..4_000 {
        let answer = draw(&mut rng, request);
        lane.offer(&Request::of(request), || served(request, answer));
    }
    jobs.run();
    let counts = lane.counts();
    // 2,000 ± 32 second runs; 0.2 · ½ + 0.2 · ¾ = 25 % ± 1 of them differ; five deviations.
    assert!(counts.noise.runs.abs_diff(2_000) < 160, "{}", counts.noise.runs);
    let noise = counts.noise.disagreement().unwrap();
    assert!((noise - 0.25).abs() < 0.05, "{noise}");
    assert_eq!(counts.pairs, 4_000);
    let rules = ShadowRules { excess: Some(0.15), slower: 1.2, ..ShadowRules::default() };
    let report = rules.judge(&counts, None, Some(&lane.clusters())).unwrap();
    assert!(report.agreement.verdict == PairedVerdict::Pass, "{report}");
}

/// Counts of `pairs` requests, all in order but for what `edit` changes.
fn counts(pairs: u64, edit: impl FnOnce(&mut ShadowCounts)) -> ShadowCounts {
    let mut counts = ShadowCounts::default();
    (counts.sampled, counts.run, counts.pairs, counts.matches) = (pairs, pairs, pairs, pairs);
    (counts.timed, counts.answered.both_right) = (pairs, pairs);
    edit(&mut counts);
    counts
}

#[test]
fn each_verdict_has_its_reason_and_its_numbers() {
    let say = |counts: &ShadowCounts| {
        let report = ShadowRules::default().judge(counts, None, None).unwrap();
        (report.verdict.words(), report.sentence)
    };
    let of = |edit: fn(&mut ShadowCounts)| say(&counts(4_000, edit));
    assert_eq!(of(|_| ()).0, "promote to canary");
    let (words, why) = of(|c| (c.answered.only_baseline, c.answered.both_right) = (80, 3_920));
    assert!(words == "fix errors" && why.contains("2.00 %"), "{words}: {why}");
    let (words, why) = of(|c| {
        c.slower = 3_000;
        c.ratio.record(2_400_000);
    });
    assert!(words == "optimise latency" && why.contains("2.4"), "{words}: {why}");
    let (words, why) = of(|c| c.matches = 3_000);
    assert!(words == "investigate disagreement" && why.contains("75.00 %"), "{words}: {why}");
    let (words, why) = of(|c| (c.truth.only_baseline, c.truth.both_right) = (300, 1_000));
    assert!(words == "investigate disagreement" && why.contains("accuracy"), "{words}: {why}");
    // The candidate differs because it is right: no reason to stop.
    let (words, why) = of(|c| {
        c.matches = 3_000;
        (c.truth.only_candidate, c.truth.both_right) = (900, 3_000);
    });
    assert_eq!(words, "promote to canary", "{why}");
    let (words, why) = of(|c| {
        let small = c.segment_mut(Segment::new(3));
        (small.pairs, small.matches) = (200, 80);
        let large = c.segment_mut(Segment::new(1));
        (large.pairs, large.matches) = (3_800, 3_800);
        c.matches = 3_880;
    });
    assert!(words == "investigate disagreement" && why.contains("segment 3"), "{words}: {why}");
    // The same segment, where the candidate differs because it is right.
    let (words, why) = of(|c| {
        let small = c.segment_mut(Segment::new(3));
        (small.pairs, small.matches) = (200, 80);
        (small.truth.only_candidate, small.truth.both_right) = (120, 80);
        c.matches = 3_880;
        (c.truth.only_candidate, c.truth.both_right) = (120, 3_880);
    });
    assert_eq!(words, "promote to canary", "{why}");
    let (words, why) = of(|c| c.matches = 3_400);
    assert!(words == "continue" && why.contains("85.00 %"), "{words}: {why}");
    for (edit, part) in [
        ((|c| c.shed = 2_001) as fn(&mut ShadowCounts), "shed"),
        (|c| (c.skipped, c.too_large) = (3_000, 3_000), "too large"),
        (|c| c.uncomparable = 300, "cannot be compared"),
        (|c| (c.answered.both_right, c.answered.both_wrong) = (0, 4_000), "baseline failed"),
    ] {
        let (words, why) = of(edit);
        assert!(words == "invalid" && why.contains(part), "{words}: {why}");
    }
    let nothing = ShadowRules::default().judge(&ShadowCounts::default(), None, None).unwrap();
    assert_eq!(nothing.verdict, ShadowVerdict::Continue { needed: Some(1_000) });
    let few = ShadowRules::default().judge(&counts(400, |_| ()), None, None).unwrap();
    assert!(matches!(few.verdict, ShadowVerdict::Continue { needed: Some(600..) }), "{few}");
}
