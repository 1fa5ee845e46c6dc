//! Rollouts do not know of each other: who is on one candidate says nothing of who is on another.

use pilotage::route::bucket::{Bucketing, Scheme, inside, millionth};
use pilotage::share::TrafficShare;

/// Names as people give them: they differ in a digit, a dash or a blank at the end.
const SALTS: [&str; 12] = [
    "ranker-1",
    "ranker-2",
    "ranker-3",
    "ranker_1",
    "ranker-01",
    "ranker-1 ",
    "Ranker-1",
    "ranker-10",
    "ranker-11",
    "ranker",
    "ranker-1-a",
    "ranker-1-b",
];
const SUBJECTS: usize = 100_000;

/// Each of 66 pairs is a table of quarters against quarters, held against the uniform one with 15
/// degrees of freedom. A chi-square of 15 degrees exceeds 62 with probability 1.2e-7, so by chance
/// one of 66 would in 8 of a million sets of salts.
#[test]
fn rollouts_with_nearly_the_same_name_are_independent() {
    let quarters: Vec<Vec<u8>> = SALTS
        .iter()
        .map(|salt| {
            let bucketing = Bucketing::new(&Scheme::new(*salt));
            let quarter = |number: usize| {
                let hash = bucketing.arm_hash(format!("user-{number}").as_bytes());
                (millionth(hash) / 250_000) as u8
            };
            (0..SUBJECTS).map(quarter).collect()
        })
        .collect();
    let mut worst = 0.0_f64;
    for one in 0..SALTS.len() {
        for other in one + 1..SALTS.len() {
            let mut table = [[0_u32; 4]; 4];
            for (one, other) in quarters[one].iter().zip(&quarters[other]) {
                table[usize::from(*one)][usize::from(*other)] += 1;
            }
            let expected = SUBJECTS as f64 / 16.0;
            let chi: f64 = table
                .as_flattened()
                .iter()
                .map(|seen| (f64::from(*seen) - expected).powi(2) / expected)
                .sum();
            assert!(chi < 62.0, "{} and {}: {chi}", SALTS[one], SALTS[other]);
            worst = worst.max(chi);
        }
    }
    assert!(worst > 15.0, "the largest of 66 must be above the mean, {worst}");
}

#[test]
fn whether_a_subject_takes_part_says_nothing_of_its_arm() {
    let bucketing = Bucketing::new(&Scheme::new("ranker-1"));
    let tenth = TrafficShare::percent(10.0).unwrap();
    let (mut exposed, mut on_candidate) = (0_u32, 0_u32);
    for number in 0..SUBJECTS {
        let id = format!("user-{number}");
        if inside(bucketing.exposure_hash(id.as_bytes()), tenth) {
            exposed += 1;
            on_candidate +=
                u32::from(inside(bucketing.arm_hash(id.as_bytes()), TrafficShare::HALF));
        }
    }
    // Five standard errors of a binomial: 5 * sqrt(0.1 * 0.9 * 1e5) = 474; 5 * sqrt(n / 4).
    assert!(exposed.abs_diff(10_000) < 474, "{exposed}");
    let half = f64::from(exposed) / 2.0;
    assert!((f64::from(on_candidate) - half).abs() < 5.0 * (half / 2.0).sqrt(), "{on_candidate}");
}
