//! Who gets what, and which reason says so.

use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{
    Attribute, Condition, Context, Date, FeatureFlag, FlagKey, FlagSet, FlagSpec, Reason, Rule,
    Serve, Test, Value,
};

fn percent(percent: f64) -> TrafficShare {
    TrafficShare::percent(percent).unwrap()
}

fn answer(flag: &FeatureFlag, context: &Context<'_>) -> (bool, Reason) {
    let answer = flag.evaluate(context);
    (answer.is_on(), answer.reason())
}

#[test]
fn the_first_that_applies_decides() {
    let spec = FlagSpec::new("ranker")
        .share(TrafficShare::NONE)
        .deny("both")
        .deny("denied")
        .allow("both")
        .allow("allowed")
        .enable_segment("premium")
        .rule(Rule::new(
            Serve::On,
            [Condition::new("country", Test::OneOf(vec![Value::Text("DE".into())]))],
        ));
    let flag = FeatureFlag::alone(spec).unwrap();
    let german = [("country", Attribute::Text("DE"))];

    let both = Context::of("both").segment("premium").attributes(&german);
    assert_eq!(answer(&flag, &both), (false, Reason::Denied));
    assert_eq!(answer(&flag, &Context::of("allowed")), (true, Reason::Allowed));
    let premium = Context::of("x").segments(&["free", "premium"]);
    assert_eq!(answer(&flag, &premium), (true, Reason::Segment));
    let ruled = Context::of("x").attributes(&german);
    assert_eq!(answer(&flag, &ruled), (true, Reason::Rule));
    assert_eq!(answer(&flag, &Context::of("x")), (false, Reason::OutsideShare));
    flag.set_share(TrafficShare::ALL).unwrap();
    assert_eq!(answer(&flag, &Context::of("x")), (true, Reason::Share));

    flag.kill();
    for context in [both, premium, ruled, Context::of("allowed"), Context::anonymous()] {
        assert_eq!(answer(&flag, &context), (false, Reason::Killed));
    }
}

#[test]
fn nobody_is_drawn_silently() {
    let flag = FeatureFlag::alone(FlagSpec::new("x").share(percent(50.0))).unwrap();
    assert_eq!(answer(&flag, &Context::anonymous()), (false, Reason::MissingSubject));
    assert_eq!(answer(&flag, &Context::of("")), (false, Reason::MissingSubject));
    let draws = (0..10_000_u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let on = draws
        .map(|random| answer(&flag, &Context::draw(random)))
        .inspect(|(_, reason)| assert_eq!(*reason, Reason::Drawn))
        .filter(|(on, _)| *on)
        .count();
    assert!((4800..5200).contains(&on), "{on} of 10000 draws at 50 %"); // 4 standard errors
}

#[test]
fn everybody_and_nobody_need_no_subject() {
    let flag = FeatureFlag::alone(FlagSpec::new("x").share(TrafficShare::ALL)).unwrap();
    assert_eq!(answer(&flag, &Context::anonymous()), (true, Reason::Share));
    flag.set_share(TrafficShare::NONE).unwrap();
    assert_eq!(answer(&flag, &Context::anonymous()), (false, Reason::OutsideShare));
}

#[test]
fn an_integer_is_the_same_subject_as_its_text() {
    let flag = FeatureFlag::alone(FlagSpec::new("x").share(percent(50.0)).allow("-5")).unwrap();
    for id in (0..1000).chain([u64::MAX]) {
        let text = id.to_string();
        assert_eq!(
            answer(&flag, &Context::of_number(id)),
            answer(&flag, &Context::of(&text)),
            "{id}"
        );
    }
    assert_eq!(answer(&flag, &Context::of_signed(-5)), (true, Reason::Allowed));
}

#[test]
fn an_answer_carries_variant_and_value() {
    let spec = FlagSpec::choosing(
        "model",
        ("old", Value::Text("v2".into())),
        [("new", Value::Text("v3".into()), 1), ("newer", Value::Text("v4".into()), 1)],
    )
    .share(TrafficShare::ALL)
    .deny("a");
    let flag = FeatureFlag::alone(spec).unwrap();
    let off = flag.evaluate(&Context::of("a"));
    assert_eq!((off.variant(), off.value()), ("old", &Value::Text("v2".into())));
    let on = flag.evaluate(&Context::of("b"));
    assert!(on.is_on() && ["new", "newer"].contains(&on.variant()));
    // Two arms and nobody to split by.
    assert_eq!(answer(&flag, &Context::anonymous()), (false, Reason::MissingSubject));
}

#[test]
fn a_rule_that_matches_decides_even_when_its_share_does_not() {
    let german = || Condition::new("country", Test::OneOf(vec![Value::Text("DE".into())]));
    let spec = FlagSpec::new("x")
        .share(TrafficShare::ALL)
        .rule(Rule::new(Serve::Share(TrafficShare::NONE), [german()]))
        .rule(Rule::new(Serve::On, [german()]));
    let flag = FeatureFlag::alone(spec).unwrap();
    let attributes = [("country", Attribute::Text("DE"))];
    let german = Context::of("x").attributes(&attributes);
    assert_eq!(answer(&flag, &german), (false, Reason::RuleShare));
    assert_eq!(answer(&flag, &Context::of("x")), (true, Reason::Share));
}

#[test]
fn a_requirement_that_is_not_met_switches_off() {
    let flags = FlagSet::builder()
        .flag(FlagSpec::new("child").share(TrafficShare::ALL).requires("parent", "on"))
        .flag(FlagSpec::new("parent").share(TrafficShare::ALL))
        .build()
        .unwrap();
    let child = flags.flag("child").unwrap();
    let someone = Context::of("x");
    assert_eq!(answer(&child, &someone), (true, Reason::Share));
    flags.kill("parent").unwrap();
    assert_eq!(answer(&child, &someone), (false, Reason::Prerequisite));
}

#[test]
fn flags_of_one_layer_never_meet_in_one_subject() {
    let flags = FlagSet::builder()
        .layer("search")
        .flag(FlagSpec::new("a").share(TrafficShare::ALL).in_layer(
            "search",
            TrafficShare::NONE,
            percent(50.0),
        ))
        .flag(FlagSpec::new("b").share(TrafficShare::ALL).in_layer(
            "search",
            percent(50.0),
            percent(30.0),
        ))
        .build()
        .unwrap();
    let (mut a, mut b) = (0, 0);
    for id in 0..10_000 {
        let subject = Context::of_number(id);
        let both = (flags.is_on("a", &subject), flags.is_on("b", &subject));
        assert_ne!(both, (true, true), "{id}");
        a += i32::from(both.0);
        b += i32::from(both.1);
    }
    assert!((4800..5200).contains(&a) && (2800..3200).contains(&b), "{a} {b}");
}

#[test]
fn those_held_out_get_nothing_of_any_flag() {
    let flags = FlagSet::builder()
        .holdout("quarter", percent(5.0))
        .flag(FlagSpec::new("a").share(TrafficShare::ALL).in_holdout("quarter"))
        .flag(FlagSpec::new("b").share(TrafficShare::ALL).in_holdout("quarter"))
        .build()
        .unwrap();
    let mut held = 0;
    for id in 0..10_000 {
        let subject = Context::of_number(id);
        let on = flags.is_on("a", &subject);
        assert_eq!(on, flags.is_on("b", &subject));
        held += i32::from(!on);
    }
    assert!((400..600).contains(&held), "{held} of 10000 held out at 5 %");
}

#[test]
fn a_schedule_opens_and_closes_and_is_off_until_told_the_date() {
    let [start, end] = [1000, 2000].map(Date::from_unix);
    let spec = FlagSpec::new("x").share(TrafficShare::ALL).opens(start).closes(end);
    let flags = FlagSet::builder().flag(spec).build().unwrap();
    let flag = flags.flag("x").unwrap();
    let someone = Context::of("x");
    assert_eq!(answer(&flag, &someone), (false, Reason::Scheduled));
    for (now, on) in [(999, false), (1000, true), (1999, true), (2000, false), (9000, false)] {
        flags.tick(Date::from_unix(now)).unwrap();
        assert_eq!(flag.is_on(&someone), on, "at {now}");
    }
}

#[test]
fn the_limit_is_above_segments_rules_share_and_default_but_not_the_allow_list() {
    let spec = FlagSpec::new("x")
        .limit(TrafficShare::NONE)
        .default_variant("on")
        .allow("tester")
        .enable_segment("premium");
    let flag = FeatureFlag::alone(spec).unwrap();
    let premium = Context::of("x").segment("premium");
    assert_eq!(answer(&flag, &premium), (false, Reason::Limited));
    assert_eq!(answer(&flag, &Context::of("x")), (false, Reason::Limited));
    assert_eq!(answer(&flag, &Context::of("tester")), (true, Reason::Allowed));
}

#[test]
fn a_name_nobody_knows_is_off() {
    let flags = FlagSet::builder().build().unwrap();
    assert!(flags.evaluate("x", &Context::of("y")).is_none());
    assert!(!flags.is_on(FlagKey::generation("x", 3), &Context::of("y")));
    assert!(flags.flag("x").unwrap_err().to_string().contains('x'));
}
