//! Changes at run time: kill, clear, ramp, promote, archive, remove.

use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{
    Condition, Context, Date, Dial, FlagError, FlagKey, FlagSet, FlagSpec, Ramp, Reason, Rule,
    Serve, Test, Value,
};

fn percent(percent: f64) -> TrafficShare {
    TrafficShare::percent(percent).unwrap()
}

fn served(flags: &FlagSet, name: &str) -> usize {
    (0..1000).filter(|id| flags.is_on(name, &Context::of_number(*id))).count()
}

fn models() -> FlagSet {
    let rule = Rule::new(Serve::Off, [Condition::new("legacy", Test::Present)]);
    let spec = FlagSpec::choosing(
        "model",
        ("v2", Value::Text("v2".into())),
        [("v3", Value::Text("v3".into()), 1)],
    )
    .share(percent(25.0))
    .deny("d")
    .allow("a")
    .enable_segment("premium")
    .rule(rule);
    FlagSet::builder().segment("premium").flag(spec).build().unwrap()
}

#[test]
fn a_kill_outlives_every_change_until_it_is_cleared_by_name() {
    let flags = models();
    let someone = Context::of("a").segment("premium");
    flags.kill("model").unwrap();
    let stored = flags.stored();
    assert!(stored.flags[0].killed);
    flags.update("model", |spec| spec.share = Some(TrafficShare::ALL)).unwrap();
    let _ = flags.promote("model", "v3").unwrap();
    let mut revived = stored.clone();
    revived.flags[0].killed = false;
    flags.load(revived).unwrap();
    flags.tick(Date::from_unix(1)).unwrap();
    assert_eq!(flags.evaluate("model", &someone).unwrap().reason(), Reason::Killed);
    assert!(FlagSet::from_stored(stored).unwrap().is_killed("model").unwrap());
}

#[test]
fn clearing_a_kill_brings_back_no_more_than_was_said() {
    let flags = models();
    flags.update("model", |spec| spec.share = Some(TrafficShare::ALL)).unwrap();
    flags.kill("model").unwrap();
    flags.clear_kill("model", TrafficShare::NONE).unwrap();
    assert!(!flags.is_killed("model").unwrap());
    assert_eq!(served(&flags, "model"), 0);
    let premium = Context::of("x").segment("premium");
    assert_eq!(flags.evaluate("model", &premium).unwrap().reason(), Reason::Limited);
    flags.kill("model").unwrap();
    flags.clear_kill("model", percent(10.0)).unwrap();
    let served = served(&flags, "model");
    assert!((60..140).contains(&served), "{served} of 1000 at a limit of 10 %");
}

#[test]
fn clearing_what_is_not_killed_changes_nothing() {
    let flags = models();
    let before = flags.stored();
    flags.clear_kill("model", TrafficShare::NONE).unwrap();
    assert_eq!(flags.stored(), before);
}

#[test]
fn a_ramp_takes_one_step_a_tick_however_late_the_tick() {
    let flags = models();
    let handle = flags.flag("model").unwrap();
    let ramp = Ramp {
        dial: Dial::Share,
        to: TrafficShare::ALL,
        step: percent(25.0),
        every_secs: 3600,
        next: Date::from_unix(10_000),
    };
    handle.ramp(ramp).unwrap();
    let share = |at: i64| {
        flags.tick(Date::from_unix(at)).unwrap();
        handle.spec().share.unwrap()
    };
    assert_eq!(share(9_999), percent(25.0));
    assert_eq!(share(10_000), percent(50.0));
    assert_eq!(share(10_001), percent(50.0));
    assert_eq!(share(1_000_000_000), percent(75.0)); // a jump of the clock is one step
    assert_eq!(share(1_000_000_001), percent(75.0));
    assert_eq!(share(1_000_003_600), TrafficShare::ALL);
    assert_eq!(handle.spec().ramp, None);
}

#[test]
fn a_killed_flag_does_not_ramp_and_forgets_its_ramp_when_cleared() {
    let flags = models();
    let handle = flags.flag("model").unwrap();
    let ramp = Ramp {
        dial: Dial::Share,
        to: TrafficShare::ALL,
        step: percent(25.0),
        every_secs: 1,
        next: Date::from_unix(0),
    };
    handle.ramp(ramp).unwrap();
    handle.kill();
    for at in 1..10 {
        flags.tick(Date::from_unix(at)).unwrap();
    }
    assert_eq!(handle.spec().share, Some(percent(25.0)));
    handle.clear_kill(TrafficShare::NONE).unwrap();
    assert_eq!(handle.spec().ramp, None);
}

#[test]
fn after_promotion_everybody_gets_the_promoted_model() {
    let flags = models();
    let leftover = flags.promote("model", "v3").unwrap();
    let legacy = [("legacy", pilotage::strategy::flag::Attribute::Bool(true))];
    for context in [
        Context::of("d"),
        Context::of("a"),
        Context::of("x").segment("premium"),
        Context::of("x").attributes(&legacy),
        Context::anonymous(),
    ] {
        let answer = flags.evaluate("model", &context).unwrap();
        assert_eq!(answer.value(), &Value::Text("v3".into()), "{context:?}");
    }
    assert_eq!((leftover.denied, leftover.allowed, leftover.rules), (1, 1, 1));
    assert_eq!(leftover.fallback, "v2");
    let text = leftover.to_string();
    assert!(text.contains("premium") || text.contains("1 segments"), "{text}");

    // The kill switch still leads to the old model, until it is retired.
    flags.kill("model").unwrap();
    let someone = Context::of("x");
    assert_eq!(flags.evaluate("model", &someone).unwrap().variant(), "v2");
    flags.change(|draft| draft.retire_off("model")).unwrap();
    assert_eq!(flags.evaluate("model", &someone).unwrap().variant(), "v3");
}

#[test]
fn an_archived_flag_keeps_answering_and_counts_late_callers() {
    let flags = models();
    assert!(matches!(
        flags.change(|draft| draft.remove("model")),
        Err(FlagError::NotArchived { .. })
    ));
    flags.change(|draft| draft.archive("model", "v3")).unwrap();
    for id in 0..5 {
        let answer = flags.evaluate("model", &Context::of_number(id)).unwrap();
        assert_eq!((answer.variant(), answer.reason()), ("v3", Reason::Archived));
    }
    assert_eq!(flags.usage("model").unwrap().late, 5);
    assert!(matches!(flags.update("model", |_| ()), Err(FlagError::Archived { .. })));
}

#[test]
fn a_removed_name_does_not_come_back_with_another_meaning() {
    let flags = models();
    let old = flags.flag("model").unwrap();
    flags.change(|draft| draft.archive("model", "v3")).unwrap();
    flags.change(|draft| draft.remove("model")).unwrap();
    let someone = Context::of("x");
    assert_eq!(old.evaluate(&someone).reason(), Reason::Gone);
    assert!(!flags.is_on("model", &someone));

    let reborn = || FlagSpec::new("model").share(TrafficShare::ALL);
    let refused = flags.change(|draft| draft.insert(reborn())).unwrap_err();
    assert!(matches!(refused, FlagError::Tombstone { generation: 1, .. }), "{refused}");
    let generation = flags.change(|draft| draft.insert_next_generation(reborn())).unwrap();
    assert_eq!(generation, 2);

    // Code written for the old flag sees off, by name and by handle.
    assert_eq!(flags.evaluate("model", &someone).unwrap().reason(), Reason::OtherGeneration);
    assert!(!flags.is_on("model", &someone));
    assert_eq!(old.evaluate(&someone).reason(), Reason::Gone);
    assert!(flags.is_on(FlagKey::generation("model", 2), &someone));

    // And so it stays after a restart.
    let restarted = FlagSet::from_stored(flags.stored()).unwrap();
    assert!(!restarted.is_on("model", &someone));
    assert!(restarted.is_on(FlagKey::generation("model", 2), &someone));
    let mut ancient = models().stored();
    assert!(matches!(restarted.load(ancient.clone()), Err(FlagError::Tombstone { .. })));
    ancient.flags.clear();
    restarted.load(ancient).unwrap();
    assert!(!restarted.is_on(FlagKey::generation("model", 2), &someone));
}

#[test]
fn the_old_name_of_a_renamed_flag_is_off_and_cannot_be_taken() {
    let flags = FlagSet::builder()
        .flag(FlagSpec::new("a").share(TrafficShare::ALL))
        .flag(FlagSpec::new("b").share(TrafficShare::ALL).requires("a", "on"))
        .build()
        .unwrap();
    flags.change(|draft| draft.rename("a", "c")).unwrap();
    let someone = Context::of("x");
    assert_eq!(flags.evaluate("a", &someone).unwrap().reason(), Reason::Gone);
    assert!(flags.is_on("b", &someone), "b requires c now");
    assert!(flags.change(|draft| draft.insert(FlagSpec::new("a"))).is_err());
    assert!(matches!(
        flags.change(|draft| {
            draft.archive("c", "on")?;
            draft.remove("c")
        }),
        Err(FlagError::StillRequired { .. })
    ));
}

#[test]
fn an_assigned_definition_changes_neither_name_nor_salt() {
    let flags = models();
    flags.update("model", |spec| *spec = FlagSpec::new("other")).unwrap();
    let spec = flags.spec("model").unwrap();
    assert_eq!(spec.name(), "model");
    assert_eq!(spec.salt().0, "model");
    assert_eq!(spec.version(), 2);
}

#[test]
fn what_a_flag_answered_is_counted() {
    let flags = models();
    for id in 0..1000 {
        let _ = flags.is_on("model", &Context::of_number(id));
    }
    let usage = flags.usage("model").unwrap();
    assert_eq!(usage.on + usage.off, 1000);
    assert_eq!(usage.on as usize, served(&flags, "model"));
}
