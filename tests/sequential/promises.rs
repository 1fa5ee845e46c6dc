//! Error rates and speeds, counted over seeded simulations. The long ones run only in release.

use pilotage::stats::asymptotic::{EffectScale, Successes, asymptotic_cs_two_proportions};
use pilotage::stats::betting::{BettingInterval, BettingTest};
use pilotage::stats::eprocess::{
    eprocess_binomial_one_sided_beta_mixture, eprocess_binomial_two_sided_beta_mixture,
};
use pilotage::stats::predmix::{EmpiricalBernsteinInterval, HoeffdingInterval};
use pilotage::stats::sample_ratio::{SampleRatioTest, USUAL_CONCENTRATION};
use pilotage::stats::two_stream::{TwoStreamTest, USUAL_PSEUDO_COUNT};

/// A small generator, seeded: the same numbers on every machine.
struct Draws(u64);

impl Draws {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// Successes in `n` trials.
    fn successes(&mut self, n: u32, p: f64) -> f64 {
        f64::from((0..n).map(|_| u32::from(self.below(p))).sum::<u32>())
    }
}

/// The most hits that `runs` draws of probability `p` give, but for one time in a thousand.
fn at_most(runs: u32, p: f64) -> u32 {
    let mean = f64::from(runs) * p;
    (mean + 3.1 * (mean * (1.0 - p)).sqrt()).ceil() as u32 + 1
}

fn runs(quick: u32, thorough: u32) -> u32 {
    if cfg!(debug_assertions) { quick } else { thorough }
}

/// After how many subjects, looking after every hundred, the check says that a share of `share` is
/// not one half; nothing if it does not within `limit`.
fn subjects_until_mismatch(draws: &mut Draws, share: f64, limit: u32) -> Option<u32> {
    let mut check = SampleRatioTest::new(&[0.5, 0.5], USUAL_CONCENTRATION).unwrap();
    for batch in 1..=limit / 100 {
        let first = draws.successes(100, share);
        check.push(&[first, 100.0 - first]).unwrap();
        if check.p() <= 0.001 {
            return Some(batch * 100);
        }
    }
    None
}

#[test]
#[cfg_attr(debug_assertions, ignore = "a hundred million draws, for release")]
fn a_split_of_51_to_49_is_found_within_42_000_subjects() {
    let mut draws = Draws(4);
    let mut needed: Vec<u32> = (0..1_500)
        .map(|_| subjects_until_mismatch(&mut draws, 0.51, 200_000).unwrap_or(u32::MAX))
        .collect();
    needed.sort_unstable();
    let median = needed[needed.len() / 2];
    println!("median subjects to a mismatch of 51/49: {median}");
    assert!(median <= 42_000, "{median}");
}

#[test]
fn an_even_split_is_hardly_ever_called_a_mismatch() {
    let mut draws = Draws(5);
    let runs = runs(100, 3_000);
    let alarms =
        (0..runs).filter(|_| subjects_until_mismatch(&mut draws, 0.5, 20_000).is_some()).count();
    assert!(alarms <= at_most(runs, 0.001) as usize, "{alarms} of {runs}");
}

#[test]
fn the_true_mean_is_refuted_by_betting_no_more_often_than_promised() {
    let mut draws = Draws(6);
    let runs = runs(300, 4_000);
    let mut alarms = 0;
    for _ in 0..runs {
        // A third power: most scores near 0, mean one quarter.
        let mut test = BettingTest::new(0.25, 0.05).unwrap();
        let mut refuted = false;
        for _ in 0..500 {
            test.push(draws.uniform().powi(3)).unwrap();
            refuted |= test.log_e() >= 20_f64.ln();
        }
        alarms += u32::from(refuted);
    }
    println!("betting refuted the truth in {alarms} of {runs}");
    assert!(alarms <= at_most(runs, 0.05), "{alarms} of {runs}");
}

#[test]
fn intervals_for_a_mean_contain_it_at_every_look() {
    let mut draws = Draws(7);
    let runs = runs(20, 400);
    let mut missed = [0_u32; 3];
    let mut width = [0.0; 3];
    for _ in 0..runs {
        let mut betting = BettingInterval::new(0.1).unwrap();
        let mut bernstein = EmpiricalBernsteinInterval::new(0.1, 0.5).unwrap();
        let mut hoeffding = HoeffdingInterval::new(0.1, 1.0).unwrap();
        let mut out = [false; 3];
        for _ in 0..200 {
            let score = draws.uniform().sqrt(); // mean two thirds
            betting.push(score).unwrap();
            bernstein.push(score).unwrap();
            hoeffding.push(score).unwrap();
            let now = [betting.interval(), bernstein.interval(), hoeffding.interval()];
            for (out, interval) in out.iter_mut().zip(now) {
                *out |= !interval.contains(2.0 / 3.0);
            }
        }
        let last = [betting.interval(), bernstein.interval(), hoeffding.interval()];
        for at in 0..3 {
            missed[at] += u32::from(out[at]);
            width[at] += last[at].width() / f64::from(runs);
        }
    }
    println!("missed {missed:?} of {runs}, widths {width:.3?}");
    for missed in missed {
        assert!(missed <= at_most(runs, 0.1), "{missed} of {runs}");
    }
    assert!(width[0] < width[1], "betting is the narrowest: {width:?}");
}

#[test]
fn a_rate_on_the_null_is_refuted_no_more_often_than_promised() {
    let mut draws = Draws(8);
    let runs = runs(200, 3_000);
    let (mut above, mut either) = (0, 0);
    for _ in 0..runs {
        let mut yes = 0.0;
        let mut seen = (false, false);
        for n in 1..=400 {
            yes += f64::from(u8::from(draws.below(0.05)));
            let n = f64::from(n);
            let one = eprocess_binomial_one_sided_beta_mixture(yes, n, 0.05).unwrap();
            let two = eprocess_binomial_two_sided_beta_mixture(yes, n, 0.05, 0.5, 0.5).unwrap();
            seen.0 |= one >= 20_f64.ln();
            seen.1 |= two >= 20_f64.ln();
        }
        above += u32::from(seen.0);
        either += u32::from(seen.1);
    }
    println!("refuted a true rate {above} and {either} times of {runs}");
    assert!(above <= at_most(runs, 0.05) && either <= at_most(runs, 0.05), "{above} {either}");
}

#[test]
fn two_equal_streams_are_called_different_no_more_often_than_promised() {
    let mut draws = Draws(9);
    let runs = runs(300, 5_000);
    let mut alarms = 0;
    for _ in 0..runs {
        let mut test = TwoStreamTest::new(USUAL_PSEUDO_COUNT).unwrap();
        let mut refuted = false;
        for _ in 0..400 {
            test.push(draws.below(0.1), draws.below(0.1)).unwrap();
            refuted |= test.log_e() >= 20_f64.ln();
        }
        alarms += u32::from(refuted);
    }
    println!("two equal streams told apart in {alarms} of {runs}");
    assert!(alarms <= at_most(runs, 0.05), "{alarms} of {runs}");
}

#[test]
fn an_open_horizon_keeps_its_level_from_a_hundred_events_on() {
    let mut draws = Draws(10);
    let runs = runs(60, 1_500);
    let mut alarms = 0;
    for _ in 0..runs {
        let (mut a, mut b, mut n) = (0.0, 0.0, 0.0);
        let mut refuted = false;
        for _ in 0..48 {
            a += draws.successes(200, 0.75);
            b += draws.successes(200, 0.75);
            n += 200.0;
            let found = asymptotic_cs_two_proportions(
                Successes { n, x: a },
                Successes { n, x: b },
                EffectScale::Absolute,
                0.05,
                19_200.0,
            )
            .unwrap();
            refuted |= !(found.low <= 0.0 && found.high >= 0.0);
        }
        alarms += u32::from(refuted);
    }
    println!("open horizon: {alarms} false positives of {runs}");
    assert!(alarms <= at_most(runs, 0.05), "{alarms} of {runs}");
}
