//! What is refused, with the flag, the field and the value; and what then stays in force.

use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{
    ArmWeight, Condition, Context, Date, Dial, FlagError, FlagSet, FlagSpec, Ramp, Rule, Serve,
    StoredFlags, Test, Value,
};

fn ppm(ppm: u32) -> TrafficShare {
    TrafficShare::from_ppm(ppm).unwrap()
}

fn refused(spec: FlagSpec) -> String {
    FlagSet::builder().flag(spec).build().unwrap_err().to_string()
}

#[track_caller]
fn says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{error}` does not name `{part}`");
    }
}

#[test]
fn a_definition_that_does_not_hold_together_is_refused_by_name_field_and_value() {
    let arms = |weights: &[u32]| {
        let mut spec = FlagSpec::new("ranker");
        let arm = |weight: &u32| ArmWeight { variant: "on".into(), weight: *weight };
        spec.arms = weights.iter().map(arm).collect();
        spec
    };
    says(&refused(arms(&[])), &["ranker", "weight", " 0"]);
    says(&refused(arms(&[0, 0])), &["ranker", "weight", " 0"]);
    says(&refused(arms(&[u32::MAX, 1])), &["ranker", "weight", "4294967296"]);
    says(&refused(FlagSpec::new("ranker").enable_segment("vip")), &["ranker", "segments", "vip"]);
    says(&refused(FlagSpec::new("ranker").default_variant("no")), &["ranker", "default", "no"]);
    says(&refused(FlagSpec::new("ranker").requires("ghost", "on")), &["ranker", "ghost"]);
    says(&refused(FlagSpec::new("ranker").in_holdout("q9")), &["ranker", "holdouts", "q9"]);
    says(&refused(FlagSpec::new("a\nb")), &["a\\nb", "control character"]);
    says(&refused(FlagSpec::new("")), &["name", "empty"]);
    says(&refused(FlagSpec::new("x".repeat(200))), &["200 bytes"]);
    let spec =
        FlagSpec::choosing("ranker", ("a", Value::Float(f64::NAN)), [("b", Value::Int(1), 1)]);
    says(&refused(spec), &["ranker", "value", "NaN"]);
    let spec = FlagSpec::choosing("ranker", ("a", Value::Int(0)), [("a", Value::Int(1), 1)]);
    says(&refused(spec), &["ranker", "variant a", "twice"]);
    let endless = Ramp {
        dial: Dial::Share,
        to: TrafficShare::ALL,
        step: TrafficShare::NONE,
        every_secs: 1,
        next: Date::default(),
    };
    let mut spec = FlagSpec::new("ranker");
    spec.ramp = Some(endless);
    says(&refused(spec), &["ranker", "ramp.step", "0"]);
    let rule = Rule::new(Serve::Variant("third".into()), [Condition::new("x", Test::Present)]);
    says(&refused(FlagSpec::new("ranker").rule(rule)), &["ranker", "rules.serve", "third"]);
}

#[test]
fn names_that_are_given_twice_are_refused() {
    let twice = FlagSet::builder().flag(FlagSpec::new("x")).flag(FlagSpec::new("x")).build();
    says(&twice.unwrap_err().to_string(), &["flag x", "twice"]);
    let twice = FlagSet::builder().segment("vip").segment("vip").build();
    says(&twice.unwrap_err().to_string(), &["segment vip", "twice"]);
}

#[test]
fn flags_that_require_one_another_in_a_circle_are_refused() {
    let circle = FlagSet::builder()
        .flag(FlagSpec::new("a").requires("b", "on"))
        .flag(FlagSpec::new("b").requires("c", "on"))
        .flag(FlagSpec::new("c").requires("a", "on"))
        .build();
    says(&circle.unwrap_err().to_string(), &["a → b → c → a"]);
    let own = FlagSet::builder().flag(FlagSpec::new("a").requires("a", "on")).build();
    assert!(matches!(own, Err(FlagError::Prerequisites { .. })));

    let chain = |length: u32| {
        let mut set = FlagSet::builder().flag(FlagSpec::new("f0"));
        for at in 1..length {
            set = set.flag(FlagSpec::new(format!("f{at}")).requires(format!("f{}", at - 1), "on"));
        }
        set.build()
    };
    assert!(chain(16).is_ok());
    assert!(matches!(chain(17), Err(FlagError::Prerequisites { .. })));
    assert!(matches!(chain(5000), Err(FlagError::Prerequisites { .. })));
}

#[test]
fn a_net_of_requirements_that_would_cost_a_request_its_life_is_refused() {
    // 16 levels of 16 flags that each require all of the level above: 16^16 paths.
    let mut set = FlagSet::builder();
    for level in 0..15 {
        for at in 0..16 {
            let mut spec = FlagSpec::new(format!("{level}-{at}"));
            for above in 0..16_u32.min(level * 16) {
                spec = spec.requires(format!("{}-{above}", level - 1), "off");
            }
            set = set.flag(spec);
        }
    }
    says(&set.build().unwrap_err().to_string(), &["questions", "256"]);
}

#[test]
fn ranges_that_overlap_in_a_layer_are_refused() {
    let layer = |from: u32, size: u32| {
        let first = FlagSpec::new("a").in_layer("l", ppm(0), ppm(500_000));
        let second = FlagSpec::new("b").in_layer("l", ppm(from), ppm(size));
        FlagSet::builder().layer("l").flag(first).flag(second).build()
    };
    assert!(layer(500_000, 500_000).is_ok());
    says(&layer(499_999, 1).unwrap_err().to_string(), &["layer l", "a and b"]);
    says(&layer(900_000, 100_001).unwrap_err().to_string(), &["flag b", "1000001"]);
}

#[test]
fn a_million_flags_are_refused_before_they_take_the_machine() {
    let mut set = FlagSet::builder();
    for at in 0..100_001 {
        set = set.flag(FlagSpec::new(format!("f{at}")));
    }
    says(&set.build().unwrap_err().to_string(), &["100001", "100000"]);
}

#[test]
fn a_refused_change_leaves_the_last_good_set_in_force() {
    let flags =
        FlagSet::builder().flag(FlagSpec::new("x").share(TrafficShare::ALL)).build().unwrap();
    let before = flags.stored();
    let refused = flags.change(|draft| {
        draft.flag("x")?.share = Some(TrafficShare::NONE);
        draft.insert(FlagSpec::new("y").enable_segment("undeclared"))
    });
    assert!(refused.is_err());
    assert_eq!(flags.stored(), before);
    assert!(flags.is_on("x", &Context::of("someone")));
}

#[test]
fn a_stored_set_is_taken_whole_or_not_at_all() {
    let flags =
        FlagSet::builder().flag(FlagSpec::new("x").share(TrafficShare::ALL)).build().unwrap();
    let good = serde_json::to_string(&flags.stored()).unwrap();
    for (from, to) in [
        ("1000000", "1000001"),
        ("1000000", "-1"),
        ("1000000", "NaN"),
        ("\"weight\":1", "\"weight\":0"),
        ("\"weight\":1", "\"weight\":-1"),
        ("pilotage-flags/1", "pilotage-flags/2"),
        ("xxh3-64/1", "xxh3-64/2"),
        ("\"share\"", "\"shares\""),
        ("\"share\":", "\"share\":5,\"share\":"),
        ("\"default\":\"off\"", "\"default\":\"of\""),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from} does not occur");
        let stored = serde_json::from_str::<StoredFlags>(&bad);
        let refused = match stored {
            Ok(stored) => flags.load(stored).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(!refused.is_empty());
        assert!(flags.is_on("x", &Context::of("someone")), "{to} broke the set");
    }
}
