//! Shadows, experiments and the check of shares.

use pilotage::judge::paired::{Agreement, PairedQuality, PairedVerdict};
use pilotage::observe::shadow::PairedTruth;
use pilotage::sim::rng::Rng;
use pilotage::stats::sample_ratio::{SampleRatioTest, USUAL_CONCENTRATION};
use pilotage::stats::spending::{Boundaries, Spending};

use crate::Effort;
use crate::report::{Row, Table, What};

pub fn run(effort: Effort, table: &mut Table) {
    agreement(effort, table);
    quality(effort, table);
    experiments(effort, table);
    sample_ratio(effort, table);
}

fn agreement(effort: Effort, table: &mut Table) {
    let runs = effort.tests / 4;
    for (truth, promises) in [
        (0.90, vec![(What::MedianAtMost, 500.0)]),
        (0.88, Vec::new()),
        (0.85, vec![(What::ProbabilityAtMost, 0.05)]),
        (0.84, vec![(What::ProbabilityAtMost, 0.05)]),
        (0.80, vec![(What::ProbabilityAtMost, 0.05)]),
    ] {
        let scenario = format!("shadow: true agreement {truth}, 85 % asked");
        let mut passes = [Vec::new(), Vec::new(), Vec::new()];
        for run in 0..runs {
            let mut rng = Rng::new(effort.seed.wrapping_add(run));
            let mut ours = Some(Agreement::new(0.85, 0.05, 0.05).expect("levels"));
            let (mut agreed, mut polled) = (0_u64, false);
            for n in 1..=10_000_u64 {
                let hit = u64::from(rng.chance(truth));
                agreed += hit;
                if let Some(test) = &mut ours {
                    test.observe(hit, 1);
                    match test.verdict() {
                        PairedVerdict::Pass => {
                            passes[0].push((n, 0.0));
                            ours = None;
                        }
                        PairedVerdict::Refuse => ours = None,
                        _ => {}
                    }
                }
                let above = agreed as f64 > 0.85 * n as f64;
                if n == 1_000 && above {
                    passes[1].push((n, 0.0));
                }
                if n >= 1_000 && n % 100 == 0 && above && !polled {
                    passes[2].push((n, 0.0));
                    polled = true;
                }
            }
        }
        let [ours, once, polled] = passes;
        let row = |rule, events, promises: &[_]| {
            Row::new(&scenario, rule, "pass", runs, events, promises)
        };
        table.rows.push(row("pilotage, looked at each pair", ours, &promises));
        table.rows.push(row("> 85 % at 1,000 pairs", once, &[]));
        table.rows.push(row("the same, polled to 10,000", polled, &[]));
    }
    eprintln!("agreement done");
}

/// 1,476 labelled samples in random order, a look after each.
fn quality(effort: Effort, table: &mut Table) {
    let runs = effort.tests / 2;
    for (lost, won, promise) in
        [(61, 28, What::ProbabilityAtMost), (33, 28, What::ProbabilityAtLeast)]
    {
        let bound = if lost == 61 { 0.01 } else { 0.99 };
        let scenario = format!("shadow: {won} fixed, {lost} broken of 1,476; margin 2 points");
        let mut passes = Vec::new();
        for run in 0..runs {
            let mut rng = Rng::new(effort.seed.wrapping_add(run));
            let mut deck: Vec<(bool, bool)> =
                (0..1476).map(|at| (at >= won, at < won || at >= won + lost)).collect();
            for at in (1..deck.len()).rev() {
                deck.swap(at, rng.below(at as u64 + 1) as usize);
            }
            let mut test = PairedQuality::new(0.02, 0.01, 0.05).expect("levels");
            for (n, (baseline, candidate)) in (1_u64..).zip(deck) {
                let pair =
                    |one: bool, other: bool| u64::from(baseline == one && candidate == other);
                test.observe(&PairedTruth {
                    both_right: pair(true, true),
                    only_baseline: pair(true, false),
                    only_candidate: pair(false, true),
                    both_wrong: pair(false, false),
                });
                match test.verdict() {
                    PairedVerdict::Pass => {
                        passes.push((n, 0.0));
                        break;
                    }
                    PairedVerdict::Refuse => break,
                    _ => {}
                }
            }
        }
        let rule = "pilotage, looked at each pair";
        table.rows.push(Row::new(&scenario, rule, "pass", runs, passes, &[(promise, bound)]));
    }
    eprintln!("quality done");
}

/// 48 looks at 200 an arm each, base rate 75 %; two-sided at 0.05, so 0.025 on each side.
fn experiments(effort: Effort, table: &mut Table) {
    let runs = effort.tests * 5;
    let bounds: Vec<f64> = {
        let mut planned = Boundaries::new(Spending::OBrienFleming, 0.025).expect("a level");
        (1..=48).map(|look| planned.next(f64::from(look) / 48.0).expect("in order")).collect()
    };
    for (lift, promises) in [
        (0.0, vec![(What::ProbabilityAtMost, 0.051)]),
        (0.02, vec![(What::ProbabilityAtLeast, 0.88), (What::MedianAtMost, 6_600.0)]),
    ] {
        let scenario = format!("A/B: base 75 %, lift {lift}, 48 looks at 200 an arm");
        let mut found = [Vec::new(), Vec::new(), Vec::new()];
        for run in 0..runs {
            let mut rng = Rng::new(effort.seed.wrapping_add(run));
            let (mut n, mut hits, mut done) = (0_u64, [0_u64; 2], [false; 2]);
            for bound in &bounds {
                for _ in 0..200 {
                    hits[0] += u64::from(rng.chance(0.75));
                    hits[1] += u64::from(rng.chance(0.75 + lift));
                }
                n += 200;
                let z = two_proportions_z(hits, n);
                for (at, limit) in [*bound, 1.959_964].into_iter().enumerate() {
                    if !done[at] && z.abs() >= limit {
                        done[at] = true;
                        found[at].push((n, 0.0));
                    }
                }
            }
            if two_proportions_z(hits, n).abs() >= 1.959_964 {
                found[2].push((n, 0.0));
            }
        }
        let [planned, each_hour, once] = found;
        let row = |rule, events, promises: &[_]| {
            Row::new(&scenario, rule, "winner", runs, events, promises)
        };
        table.rows.push(row("pilotage, O'Brien-Fleming", planned, &promises));
        table.rows.push(row("z test, p < 0.05 at each look", each_hour, &[]));
        table.rows.push(row("z test, once at the end", once, &[]));
    }
    eprintln!("experiments done");
}

fn two_proportions_z(hits: [u64; 2], n: u64) -> f64 {
    let n = n as f64;
    let [one, other] = hits.map(|hits| hits as f64 / n);
    let pooled = f64::midpoint(one, other);
    let error = (2.0 * pooled * (1.0 - pooled) / n).sqrt();
    if error > 0.0 { (other - one) / error } else { 0.0 }
}

fn sample_ratio(effort: Effort, table: &mut Table) {
    let runs = effort.tests / 4;
    let alpha: f64 = 0.001;
    for (share, promise) in
        [(0.5_f64, (What::ProbabilityAtMost, 0.005)), (0.51, (What::MedianAtMost, 42_000.0))]
    {
        let scenario = format!("shares: half planned, {share} true, level 0.001");
        let mut found = Vec::new();
        for run in 0..runs {
            let mut rng = Rng::new(effort.seed.wrapping_add(run));
            let mut test =
                SampleRatioTest::new(&[0.5, 0.5], USUAL_CONCENTRATION).expect("two weights");
            for look in 1..=400_u64 {
                // 250 subjects a look; a normal number stands for the binomial.
                let mean = 250.0 * share;
                let spread = (mean * (1.0 - share)).sqrt();
                let mine = (mean + spread * rng.normal()).round().clamp(0.0, 250.0);
                test.push(&[mine, 250.0 - mine]).expect("whole counts");
                if test.p() < alpha {
                    found.push((look * 250, 0.0));
                    break;
                }
            }
        }
        let rule = "pilotage, sample ratio";
        table.rows.push(Row::new(&scenario, rule, "alarm", runs, found, &[promise]));
    }
    eprintln!("shares done");
}
