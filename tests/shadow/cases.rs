//! Cases on which models differ, and what people say of them.

use std::sync::Arc;

use parking_lot::Mutex;
use pilotage::alert::alert::Alert;
use pilotage::alert::alerter::FnAlerter;
use pilotage::compare::agreement::Kappa;
use pilotage::compare::comparator::Exact;
use pilotage::control::shadow_mode::{ShadowError, ShadowMode};
use pilotage::judge::shadow::{ShadowRules, ShadowVerdict};
use pilotage::model;
use pilotage::observe::explorer::case::Label;
use pilotage::observe::explorer::explorer::{ExplorerOptions, Labelled};
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::serve::shadow_lane::{LaneOptions, ShadowLane};

use crate::{Later, served};

type Classify = fn(&u64) -> Result<String, String>;

/// Every tenth request is a dog to the candidate, and every fiftieth none at all.
const CANDIDATE: Classify = |n| match n {
    n if n % 50 == 0 => Err("out of memory".into()),
    n if n % 10 == 0 => Ok("dog".into()),
    _ => Ok("cat".into()),
};
const BASELINE: Classify = |_| Ok("cat".into());

#[test]
fn nothing_is_kept_but_what_the_hooks_let_through() {
    let jobs = Later::default();
    let lane = ShadowLane::builder(Arc::new(model::sync(CANDIDATE).shadowable()), jobs.clone())
        .compare(Exact)
        .options(LaneOptions { in_flight: 10_000, ..LaneOptions::default() })
        .classes(Clone::clone)
        .explore(ExplorerOptions { slowest: 0, ..ExplorerOptions::default() })
        .describe_input(|n| format!("number {n} of user 4711"))
        .redact(|draft| {
            draft.input = draft.input.replace("4711", "…");
            assert!(!draft.input.contains("number 10 "), "as the test wants it");
        })
        .open()
        .unwrap();
    (1..=1_000).for_each(|n| {
        lane.offer(&Request::of(n), || served(n, "cat".to_owned()));
    });
    jobs.run();
    let kept = lane.exploration().unwrap();
    assert_eq!(kept.disagreements, 100);
    let lines = kept.json_lines();
    assert!(!lines.contains("4711") && lines.contains("of user …"), "{lines}");
    assert!(!lines.contains("number 10 ") && lines.contains("(not redacted)"));
    let top = &kept.patterns[0];
    assert_eq!((&top.from[..], &top.to[..], top.count), ("cat", "dog", 79));
    let gone = kept.patterns.iter().find(|pattern| pattern.to == "(no answer)").unwrap();
    assert_eq!(gone.count, 20);
    assert_eq!(kept.uniform.len(), 64);
    assert!(lane.classes().pairs() == 980 && matches!(lane.classes().kappa(), Kappa::Known { .. }));
}

#[test]
fn labels_of_the_uniform_sample_say_who_is_right() {
    let jobs = Later::default();
    let lane = ShadowLane::builder(Arc::new(model::sync(CANDIDATE).shadowable()), jobs.clone())
        .compare(Exact)
        .options(LaneOptions { in_flight: 10_000, slower: 1e9, ..LaneOptions::default() })
        .classes(Clone::clone)
        .explore(ExplorerOptions { uniform: 200, ..ExplorerOptions::default() })
        .open()
        .unwrap();
    for n in (10..=4_000).step_by(10).filter(|n| n % 50 != 0) {
        lane.offer(&Request::of(n), || served(n, "cat".to_owned()));
        jobs.run();
    }
    let judge = |lane: &ShadowLane<_>| {
        let rules = ShadowRules { agreement: 0.01, ..ShadowRules::default() };
        rules.judge(&lane.counts(), None, None).unwrap()
    };
    assert!(judge(&lane).quality.is_none());
    for case in lane.exploration().unwrap().uniform {
        assert_eq!(lane.label(case.id, Label::StableRight), Labelled::Evidence);
        assert_eq!(lane.label(case.id, Label::CandidateRight), Labelled::Before);
    }
    assert_eq!(lane.counts().labels.only_baseline, 200);
    let report = judge(&lane);
    assert_eq!(report.verdict, ShadowVerdict::InvestigateDisagreement, "{report}");
    assert!(report.sentence.contains("loss of accuracy"), "{report}");
}

#[test]
fn people_are_told_when_the_verdict_becomes_another() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&told);
    let alerter = Arc::new(FnAlerter(move |alert: &Alert| keep.lock().push(alert.to_string())));
    let router = Router::builder("animals").stable("v1", model::sync(BASELINE)).build().unwrap();
    let jobs = Later::default();
    let lane = ShadowLane::builder(Arc::new(model::sync(CANDIDATE).shadowable()), jobs.clone())
        .compare(Exact)
        .options(LaneOptions { in_flight: 10_000, slower: 1e9, ..LaneOptions::default() })
        .classes(Clone::clone)
        .explore(ExplorerOptions::default())
        .open()
        .unwrap();
    let shadow =
        ShadowMode::start(&router, "v2", lane, ShadowRules::default(), alerter.clone()).unwrap();
    assert!(shadow.tick(), "nothing was seen yet");
    for n in 1..=4_000 {
        let answer = shadow.predict_sync(Request::of(n), &Arc::new(n)).unwrap();
        assert_eq!(answer.output, "cat");
    }
    jobs.run();
    assert!(!shadow.tick());
    assert!(!shadow.tick());
    let report = shadow.report();
    assert_eq!(report.verdict, ShadowVerdict::FixErrors, "{report}");
    for _ in 0..2_000 {
        if !told.lock().is_empty() {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(1));
    }
    let told = told.lock().clone();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("fix errors") && told[0].contains("2.00 %"), "{told:?}");
    let page = shadow.page();
    assert!(page.contains("v1 → v2") && page.contains("Fix errors") && page.contains("dog"));
    assert_eq!((shadow.lane().counts().run, page.matches("<details>").count()), (4_000, 2));
}

#[test]
fn rules_that_cannot_be_judged_by_are_refused_at_the_start() {
    let router = Router::builder("animals").stable("v1", model::sync(BASELINE)).build().unwrap();
    let start = |rules| {
        let candidate = Arc::new(model::sync(CANDIDATE).shadowable());
        let lane = ShadowLane::builder(candidate, Later::default()).compare(Exact).open().unwrap();
        ShadowMode::start(&router, "v2", lane, rules, Arc::new(FnAlerter(|_: &Alert| ()))).map(drop)
    };
    for agreement in [f64::NAN, 0.0, 1.0, 85.0] {
        let refused = start(ShadowRules { agreement, ..ShadowRules::default() });
        assert!(matches!(refused, Err(ShadowError::Rules(_))), "{refused:?}");
    }
    let refused = start(ShadowRules { excess: Some(0.1), ..ShadowRules::default() });
    assert!(matches!(refused, Err(ShadowError::NoNoiseFloor)), "{refused:?}");
}
