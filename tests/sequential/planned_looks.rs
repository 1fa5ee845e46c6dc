//! What boundaries for planned looks promise, counted in simulated tests.
//!
//! The scenario: a success rate of 0.75, 200 subjects an arm and hour, a look every hour for 48
//! hours, a two-sided level of 0.05. Optimised builds count 20,000 tests a case, others fewer, with
//! the tolerance that follows.

use pilotage::stats::spending::{Boundaries, Spending, lan_demets};

const LOOKS: u32 = 48;
const EACH: u32 = 200;

/// Reproducible draws; the tests need no more of a generator than this.
struct Draws(u64);

impl Draws {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The distribution function of the successes among `EACH` subjects, for drawing them at once.
fn successes(rate: f64) -> Vec<f64> {
    let mut chance = (1.0 - rate).powi(EACH as i32);
    let mut below = 0.0;
    (0..=EACH)
        .map(|x| {
            below += chance;
            chance *= f64::from(EACH - x) / f64::from(x + 1) * rate / (1.0 - rate);
            below
        })
        .collect()
}

/// How one rule fared over many tests.
#[derive(Debug)]
struct Outcome {
    /// How often a difference was declared.
    declared: f64,
    /// Subjects an arm needed on average until the end of the test.
    mean_n: f64,
    /// One standard deviation of `declared` by chance alone.
    noise: f64,
}

fn simulate(spending: Spending, rate_a: f64, rate_b: f64, seed: u64) -> Outcome {
    let runs: u32 = if cfg!(debug_assertions) { 2_000 } else { 20_000 };
    let fractions: Vec<f64> = (1..=LOOKS).map(|look| f64::from(look) / f64::from(LOOKS)).collect();
    let boundaries = lan_demets(spending, &fractions, 0.025).unwrap();
    let (table_a, table_b) = (successes(rate_a), successes(rate_b));
    let mut draws = Draws(seed);
    let (mut declared, mut subjects) = (0_u32, 0.0);
    for _ in 0..runs {
        let (mut a, mut b, mut n) = (0.0, 0.0, 0.0);
        for boundary in &boundaries {
            let mut draw = |table: &[f64]| {
                let u = draws.uniform();
                table.partition_point(|&below| below < u).min(EACH as usize) as f64
            };
            a += draw(&table_a);
            b += draw(&table_b);
            n += f64::from(EACH);
            let pooled = (a + b) / (2.0 * n);
            let z = (b - a) / (2.0 * n * pooled * (1.0 - pooled)).sqrt();
            if z.abs() >= *boundary {
                declared += 1;
                break;
            }
        }
        subjects += n;
    }
    let runs = f64::from(runs);
    let declared = f64::from(declared) / runs;
    Outcome {
        declared,
        mean_n: subjects / runs,
        noise: (declared * (1.0 - declared) / runs).sqrt(),
    }
}

#[test]
fn forty_eight_looks_at_equal_arms_find_a_winner_one_time_in_twenty() {
    let seen = simulate(Spending::OBrienFleming, 0.75, 0.75, 1);
    println!("O'Brien-Fleming, equal arms: {seen:?}");
    let slack = if cfg!(debug_assertions) { 4.0 * seen.noise } else { 0.0 };
    assert!(seen.declared >= 0.04 - slack && seen.declared <= 0.051 + slack, "{seen:?}");
    let seen = simulate(Spending::Pocock, 0.75, 0.75, 2);
    println!("Pocock, equal arms: {seen:?}");
    assert!((seen.declared - 0.05).abs() <= 4.0 * seen.noise + 0.002, "{seen:?}");
}

#[test]
fn two_points_more_are_found_with_a_third_fewer_subjects_than_one_look_needs() {
    let seen = simulate(Spending::OBrienFleming, 0.75, 0.77, 3);
    println!("O'Brien-Fleming, two points apart: {seen:?}");
    let slack = if cfg!(debug_assertions) { 4.0 } else { 0.0 };
    assert!(seen.declared >= 0.88 - slack * seen.noise, "{seen:?}");
    assert!(seen.mean_n <= 6_600.0 + slack * 50.0, "{seen:?}");
}

#[test]
fn boundaries_asked_for_one_at_a_time_are_those_of_the_whole_plan() {
    let fractions: Vec<f64> = (1..=LOOKS).map(|l| f64::from(l) / f64::from(LOOKS)).collect();
    let whole = lan_demets(Spending::OBrienFleming, &fractions, 0.025).unwrap();
    let mut looks = Boundaries::new(Spending::OBrienFleming, 0.025).unwrap();
    for (fraction, z) in fractions.iter().zip(whole) {
        assert_eq!(looks.next(*fraction).unwrap().to_bits(), z.to_bits());
    }
}
