//! The `OpenFeature` provider, through the SDK's own client and without a runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, Wake, Waker};

use open_feature::provider::FeatureProvider;
use open_feature::{
    EvaluationContext, EvaluationErrorCode, EvaluationReason, FlagMetadataValue, OpenFeature,
};
use pilotage::adapt::open_feature::FlagProvider;
use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{FlagSet, FlagSpec, Value};

struct Thread(std::thread::Thread);

impl Wake for Thread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Thread(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Task::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn flags() -> FlagSet {
    FlagSet::builder()
        .segment("premium")
        .flag(
            FlagSpec::choosing(
                "model",
                ("old", Value::Text("v2".into())),
                [("new", Value::Text("v3".into()), 1)],
            )
            .share(TrafficShare::HALF)
            .enable_segment("premium")
            .deny("denied")
            .owner("search"),
        )
        .flag(FlagSpec::new("still").default_variant("on"))
        .flag(FlagSpec::choosing("number", ("n", Value::Int(7)), [("m", Value::Float(0.5), 1)]))
        .build()
        .unwrap()
}

fn of(subject: &str) -> EvaluationContext {
    EvaluationContext::default().with_targeting_key(subject)
}

#[test]
fn answers_carry_value_variant_reason_and_metadata() {
    let provider = FlagProvider::new(flags());
    let premium = of("x").with_custom_field("segment", "premium");
    let answer = block_on(provider.resolve_string_value("model", &premium)).unwrap();
    assert_eq!((answer.value.as_str(), answer.variant.as_deref()), ("v3", Some("new")));
    assert_eq!(answer.reason, Some(EvaluationReason::TargetingMatch));
    let metadata = answer.flag_metadata.unwrap().values;
    assert_eq!(metadata["owner"], FlagMetadataValue::String("search".into()));
    assert_eq!(metadata["reason"], FlagMetadataValue::String("segment".into()));
    assert_eq!(metadata["version"], FlagMetadataValue::Int(1));

    let reason = |subject: &str| {
        block_on(provider.resolve_string_value("model", &of(subject))).unwrap().reason.unwrap()
    };
    assert_eq!(reason("denied"), EvaluationReason::TargetingMatch);
    assert_eq!(reason("somebody"), EvaluationReason::Split);
    let still = block_on(provider.resolve_bool_value("still", &of("x"))).unwrap();
    assert_eq!((still.value, still.reason), (true, Some(EvaluationReason::Static)));
}

#[test]
fn errors_carry_the_codes_of_the_specification() {
    let provider = FlagProvider::new(flags());
    let nobody = EvaluationContext::default();
    let code = |key: &str, context: &EvaluationContext| {
        block_on(provider.resolve_string_value(key, context)).unwrap_err().code
    };
    assert_eq!(code("unknown", &of("x")), EvaluationErrorCode::FlagNotFound);
    assert_eq!(code("model", &nobody), EvaluationErrorCode::TargetingKeyMissing);
    assert_eq!(code("still", &of("x")), EvaluationErrorCode::TypeMismatch);
    let structure = block_on(provider.resolve_struct_value("model", &of("x"))).unwrap_err();
    assert_eq!(structure.code, EvaluationErrorCode::TypeMismatch);
    assert_eq!(block_on(provider.resolve_int_value("number", &nobody)).unwrap().value, 7);
    let float = block_on(provider.resolve_float_value("number", &nobody)).unwrap().value;
    assert!((float - 7.0).abs() < 1e-12);
}

#[test]
fn a_kill_is_seen_through_the_sdks_client() {
    let flags = flags();
    let client = block_on(async {
        let mut api = OpenFeature::default();
        api.set_provider(FlagProvider::new(flags.clone())).await;
        api.create_client()
    });
    let ask = || block_on(client.get_bool_details("still", Some(&of("x")), None)).unwrap();
    assert!(ask().value);
    flags.kill("still").unwrap();
    let killed = ask();
    assert!(!killed.value);
    assert_eq!(killed.reason, Some(EvaluationReason::Disabled));
}

#[test]
fn other_fields_are_attributes() {
    use pilotage::strategy::flag::{Condition, Rule, Serve, Test};
    let rule = Rule::new(Serve::On, [Condition::new("age", Test::AtLeast(18.0))]);
    let flags = FlagSet::builder().flag(FlagSpec::new("x").rule(rule)).build().unwrap();
    let provider = FlagProvider::new(flags);
    for (age, on) in [(17, false), (18, true)] {
        let context = of("x").with_custom_field("age", age);
        assert_eq!(block_on(provider.resolve_bool_value("x", &context)).unwrap().value, on);
    }
}

#[cfg(feature = "flagd")]
#[test]
fn a_flagd_file_answers_through_the_same_api() {
    use pilotage::adapt::flagd::{FlagdSet, Options};
    use pilotage::adapt::open_feature::FlagdProvider;

    let file = br#"{"flags": {
        "model": {"state": "ENABLED", "variants": {"a": {"size": 3}, "b": {"size": 4}},
                  "defaultVariant": "a", "metadata": {"team": "search"},
                  "targeting": {"if": [{">": [{"var": "$flagd.timestamp"}, 100]}, "b", null]}},
        "dark": {"state": "DISABLED", "variants": {"on": true}, "defaultVariant": "on"}}}"#;
    let set = Arc::new(FlagdSet::new(file, Options::default()).unwrap());
    for (now, size, reason) in
        [(99, 3, EvaluationReason::Default), (101, 4, EvaluationReason::TargetingMatch)]
    {
        let provider = FlagdProvider::new(Arc::clone(&set), move || now);
        let answer = block_on(provider.resolve_struct_value("model", &of("x"))).unwrap();
        assert_eq!(answer.value.fields["size"].as_i64(), Some(size));
        assert_eq!(answer.reason, Some(reason));
        let metadata = answer.flag_metadata.unwrap().values;
        assert_eq!(metadata["team"], FlagMetadataValue::String("search".into()));
        let wrong = block_on(provider.resolve_int_value("model", &of("x"))).unwrap_err();
        assert_eq!(wrong.code, EvaluationErrorCode::TypeMismatch);
        assert!(block_on(provider.resolve_bool_value("dark", &of("x"))).is_err());
    }
}
