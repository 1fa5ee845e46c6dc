//! What is kept comes back the same.

use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{
    Condition, Context, Date, FlagSet, FlagSpec, Kind, Rule, Serve, StoredFlags, Test, Value,
};

fn full() -> FlagSet {
    let share = |percent| TrafficShare::percent(percent).unwrap();
    FlagSet::builder()
        .segment("premium")
        .layer("search")
        .holdout("quarter", share(5.0))
        .flag(FlagSpec::new("parent").kind(Kind::KillSwitch).default_variant("on"))
        .flag(
            FlagSpec::choosing(
                "model",
                ("v2", Value::Text("v2".into())),
                [("v3", Value::Float(0.5), 2), ("v4", Value::Int(-1), 1)],
            )
            .share(share(12.5))
            .deny("d")
            .allow("größe")
            .enable_segment("premium")
            .rule(Rule::new(
                Serve::Share(share(1.0)),
                [Condition::new("age", Test::Below(18.0)), Condition::new("x", Test::Absent)],
            ))
            .requires("parent", "on")
            .in_layer("search", share(10.0), share(50.0))
            .in_holdout("quarter")
            .owner("search team")
            .created(Date::from_unix(1_770_000_000))
            .ends(Date::from_unix(1_780_000_000)),
        )
        .build()
        .unwrap()
}

#[test]
fn a_set_comes_back_from_json_with_the_same_answers() {
    let flags = full();
    flags.kill("parent").unwrap();
    let text = serde_json::to_string(&flags.stored()).unwrap();
    let back = FlagSet::from_stored(serde_json::from_str::<StoredFlags>(&text).unwrap()).unwrap();
    assert_eq!(back.stored().flags, flags.stored().flags);
    back.clear_kill("parent", TrafficShare::ALL).unwrap();
    flags.clear_kill("parent", TrafficShare::ALL).unwrap();
    for id in 0..2000 {
        let subject = Context::of_number(id);
        let [left, right] = [&flags, &back].map(|set| {
            let answer = set.evaluate("model", &subject).unwrap();
            (answer.variant().to_owned(), answer.reason())
        });
        assert_eq!(left, right, "{id}");
    }
}

#[test]
fn a_flag_that_a_loaded_set_lacks_is_off_until_it_comes_back_still_killed() {
    let flags = full();
    let handle = flags.flag("parent").unwrap();
    handle.kill();
    let mut without = flags.stored();
    let with = without.clone();
    without.flags.clear();
    flags.load(without).unwrap();
    assert!(flags.names().is_empty());
    assert!(!handle.is_on(&Context::of("x")));
    let mut with = with;
    with.flags.iter_mut().for_each(|flag| flag.killed = false);
    flags.load(with).unwrap();
    assert!(handle.is_killed(), "a config that flaps revives nothing");
}

#[test]
fn a_set_that_flaps_leaves_no_trace() {
    let flags = full();
    let good = flags.stored();
    let mut bad = good.clone();
    bad.flags[1].spec.variants.clear();
    for _ in 0..200 {
        assert!(flags.load(bad.clone()).is_err());
        flags.load(good.clone()).unwrap();
    }
    assert_eq!(flags.names().len(), 2);
    assert_eq!(flags.stored().flags, good.flags);
}
