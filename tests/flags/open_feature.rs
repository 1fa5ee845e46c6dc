//! The `OpenFeature` provider, through the SDK's own client and without a runtime.

use open_feature::provider::FeatureProvider;
use open_feature::{
    EvaluationContext, EvaluationErrorCode, EvaluationReason, FlagMetadataValue, OpenFeature,
};
use pilotage::adapt::open_feature::FlagProvider;
use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{FlagSet, FlagSpec, Value};
use pollster::block_on;

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
    let set = std::sync::Arc::new(FlagdSet::new(file, Options::default()).unwrap());
    for (now, size, reason) in
        [(99, 3, EvaluationReason::Default), (101, 4, EvaluationReason::TargetingMatch)]
    {
        let provider = FlagdProvider::new(std::sync::Arc::clone(&set), move || now);
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

/// What the specification asks of an evaluation (sections 1.3, 1.4 and 2.2), for every type of
/// value, through the SDK's client.
#[cfg(feature = "flagd")]
mod through_the_client {
    use std::collections::HashMap;

    use open_feature::{Client, EvaluationDetails, EvaluationResult, StructValue};
    use pilotage::adapt::flagd::{FlagdSet, Options};
    use pilotage::adapt::open_feature::FlagdProvider;
    use serde_json::{Value as Json, json};

    use super::*;

    /// For each type: a flag, one of value zero, one that is targeted, one that is disabled, one
    /// without default and one whose rule is broken.
    fn client() -> Client {
        let kinds = [
            ("bool", json!(true), json!(false)),
            ("int", json!(10), json!(0)),
            ("float", json!(0.5), json!(0.0)),
            ("text", json!("hi"), json!("")),
            ("object", json!({"pictures": 100}), json!({})),
        ];
        let mut flags = serde_json::Map::new();
        for (kind, full, zero) in kinds {
            let variants = json!({"full": full, "zero": zero});
            let rule = json!({"if": [{"==": [{"var": "email"}, "ada@example.com"]}, "zero"]});
            let mut add = |name: &str, more: Json| {
                let mut flag = json!({"state": "ENABLED", "variants": variants,
                                      "defaultVariant": "full"});
                flag.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                flags.insert(format!("{kind}-{name}"), flag);
            };
            add("plain", json!({"metadata": {"s": "1.0.2", "i": 2, "b": true, "f": 0.1}}));
            add("zero", json!({"defaultVariant": "zero"}));
            add("targeted", json!({"targeting": rule}));
            add("disabled", json!({"state": "DISABLED"}));
            add("undecided", json!({"defaultVariant": null}));
            add("broken", json!({"targeting": {"nothing of the kind": []}}));
            add("astray", json!({"targeting": {"cat": ["no such variant"]}}));
        }
        let file = json!({"flags": flags}).to_string();
        let flags =
            std::sync::Arc::new(FlagdSet::new(file.as_bytes(), Options::default()).unwrap());
        block_on(async {
            let mut api = OpenFeature::default();
            api.set_provider(FlagdProvider::new(flags, || 1_700_000_000)).await;
            api.create_client()
        })
    }

    fn check<T: PartialEq + std::fmt::Debug>(
        kind: &str,
        (full, zero): (T, T),
        ask: impl Fn(&str, Option<&EvaluationContext>) -> EvaluationResult<EvaluationDetails<T>>,
    ) {
        let ada = EvaluationContext::default().with_custom_field("email", "ada@example.com");
        let eve = EvaluationContext::default().with_custom_field("email", "eve@example.com");
        let key = |name: &str| format!("{kind}-{name}");
        for (name, context, value, variant, reason) in [
            ("plain", None, &full, "full", EvaluationReason::Static),
            ("zero", None, &zero, "zero", EvaluationReason::Static),
            ("targeted", Some(&ada), &zero, "zero", EvaluationReason::TargetingMatch),
            ("targeted", Some(&eve), &full, "full", EvaluationReason::Default),
            ("targeted", None, &full, "full", EvaluationReason::Default),
        ] {
            let got = ask(&key(name), context).unwrap();
            assert_eq!(got.flag_key, key(name));
            assert_eq!(&got.value, value, "{kind} {name}");
            assert_eq!(got.variant.as_deref(), Some(variant), "{kind} {name}");
            assert_eq!(got.reason, Some(reason), "{kind} {name}");
        }
        let metadata = ask(&key("plain"), None).unwrap().flag_metadata.values;
        let expected: HashMap<String, FlagMetadataValue> = [
            ("s".to_owned(), FlagMetadataValue::String("1.0.2".into())),
            ("i".to_owned(), FlagMetadataValue::Int(2)),
            ("b".to_owned(), FlagMetadataValue::Bool(true)),
            ("f".to_owned(), FlagMetadataValue::Float(0.1)),
        ]
        .into();
        assert_eq!(metadata, expected, "{kind}");
        assert!(ask(&key("zero"), None).unwrap().flag_metadata.values.is_empty());
        // Where the caller's own default holds, the SDK wants an error, whatever the reason.
        for name in ["disabled", "undecided"] {
            let error = ask(&key(name), None).unwrap_err();
            assert!(matches!(error.code, EvaluationErrorCode::General(_)), "{kind} {name}");
        }
        let disabled = ask(&key("disabled"), None).unwrap_err().message.unwrap();
        assert!(disabled.contains("DISABLED"), "{disabled}");
        let code = |name: &str| ask(&key(name), None).unwrap_err().code;
        assert_eq!(code("broken"), EvaluationErrorCode::ParseError);
        assert!(matches!(code("astray"), EvaluationErrorCode::General(_)));
        assert_eq!(code("missing"), EvaluationErrorCode::FlagNotFound);
        let other = if kind == "text" { "object-plain" } else { "text-plain" };
        assert_eq!(ask(other, None).unwrap_err().code, EvaluationErrorCode::TypeMismatch);
    }

    #[derive(Clone, Debug, PartialEq)]
    struct Pictures(Option<i64>);

    impl TryFrom<StructValue> for Pictures {
        type Error = String;

        fn try_from(value: StructValue) -> Result<Self, String> {
            Ok(Self(value.fields.get("pictures").and_then(open_feature::Value::as_i64)))
        }
    }

    #[test]
    fn every_type_of_value_is_evaluated_as_the_specification_says() {
        let client = client();
        check("bool", (true, false), |key, context| {
            block_on(client.get_bool_details(key, context, None))
        });
        check("int", (10, 0), |key, context| block_on(client.get_int_details(key, context, None)));
        check("float", (0.5, 0.0), |key, context| {
            block_on(client.get_float_details(key, context, None))
        });
        check("text", ("hi".to_owned(), String::new()), |key, context| {
            block_on(client.get_string_details(key, context, None))
        });
        check("object", (Pictures(Some(100)), Pictures(None)), |key, context| {
            block_on(client.get_struct_details::<Pictures>(key, context, None))
        });
        // A whole number is a float as well; half a number is no integer.
        assert_eq!(block_on(client.get_float_value("int-plain", None, None)), Ok(10.0));
        assert!(block_on(client.get_int_value("float-plain", None, None)).is_err());
    }
}
