//! The stable model's score on canary requests, as a covariate.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::channel;

use pilotage::compare::comparator::Exact;
use pilotage::model::{self, BoxModel};
use pilotage::serve::request::Request;
use pilotage::serve::shadow_lane::{Offered, ShadowLane};
use pilotage::sim::rng::Rng;
use pilotage::stats::cuped::cuped_diff;
use pilotage::stats::moments::PairMoments;

use crate::Later;

/// Requests are easy or hard, both models' marks follow that, and the candidate is better by 0.02.
/// Without the covariate the difference drowns in how requests differ.
#[test]
fn the_stable_models_score_takes_most_of_the_variance_out() {
    let mut rng = Rng::new(11);
    let scored = |difficulty: &u64| Ok::<_, Infallible>(*difficulty as f64 / 1e6);
    let stable = BoxModel::new(model::sync(scored).shadowable());
    let jobs = Later::default();
    let lane = ShadowLane::builder(Arc::new(stable.clone()), jobs.clone())
        .compare(Exact)
        .noise_floor(Arc::new(stable))
        .open()
        .unwrap();
    let (mut arms, mut plain) = ([PairMoments::new(); 2], [PairMoments::new(); 2]);
    let (send, answers) = channel();
    for subject in 0..4_000_u64 {
        let arm = (subject % 2) as usize;
        let difficulty = rng.below(1_000_000);
        // What comes out: mostly the request, some chance, and the candidate's little more.
        let noise = 0.1 * rng.normal();
        let mark = difficulty as f64 / 1e6 + noise + if arm == 1 { 0.02 } else { 0.0 };
        let send = send.clone();
        let asked = lane.ask_stable(&Request::of(subject), &Arc::new(difficulty), move |score| {
            send.send((arm, score, mark)).unwrap();
        });
        assert_eq!(asked, Offered::Taken);
        jobs.run();
    }
    for (arm, score, mark) in answers.try_iter() {
        arms[arm].push(score.unwrap(), mark);
        plain[arm].push(0.0, mark);
    }
    let with = cuped_diff(&arms[0], &arms[1], 0.05).unwrap();
    let without = cuped_diff(&plain[0], &plain[1], 0.05).unwrap();
    // Var = 1/12 + 0.01 without, 0.01 with: 10.7 % is left, ± 0.5 points at 4,000.
    assert!((with.variance_left - 0.107).abs() < 0.015, "{with:?}");
    assert_eq!(without.variance_left, 1.0);
    assert!((with.test.effect - 0.02).abs() < 4.0 * 0.1 * (4.0_f64 / 4_000.0).sqrt());
    assert!(with.test.p < 1e-4 && without.test.p > 1e-3, "{} {}", with.test.p, without.test.p);
    assert_eq!((lane.in_flight(), lane.counts().sampled), (0, 0));
}

#[test]
fn without_the_stable_model_nobody_is_asked() {
    let same = |n: &u64| Ok::<_, Infallible>(*n);
    let lane = ShadowLane::builder(Arc::new(model::sync(same).shadowable()), Later::default())
        .compare(Exact)
        .open()
        .unwrap();
    let never = |_: Option<u64>| unreachable!("there is no stable model");
    assert_eq!(lane.ask_stable(&Request::of(1), &Arc::new(1), never), Offered::Skipped);
}
