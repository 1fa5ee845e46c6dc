//! flagd's own cases.
//!
//! `PILOTAGE_FLAGD_SUITE=<dir>` names a folder with `cases.json` and `flags/*.json`:
//! `PILOTAGE_FLAGD_SUITE=<dir> cargo test --features flagd --test flags flagd -- --nocapture`.

use std::path::Path;

use pilotage::adapt::flagd::{
    FlagdCode, FlagdError, FlagdFlags, FlagdSet, Fractional, Options, Shape, Strictness, Wanted,
    check_file, check_targeting,
};
use serde_json::{Map, Value, json};

fn options(version: Fractional) -> Options {
    Options::default().fractional(version)
}

/// All flag files of a suite as one set of flags.
fn suite_flags(folder: &Path, version: Fractional) -> FlagdFlags {
    let mut all = json!({"flags": {}, "$evaluators": {}});
    let mut files: Vec<_> =
        std::fs::read_dir(folder.join("flags")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "json")) {
        let file: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        for part in ["flags", "$evaluators"] {
            if let Some(entries) = file[part].as_object() {
                all[part].as_object_mut().unwrap().extend(entries.clone());
            }
        }
        if let Some(metadata) = file.get("metadata") {
            all["metadata"] = metadata.clone();
        }
    }
    FlagdFlags::parse(all.to_string().as_bytes(), &options(version)).unwrap()
}

/// What differs from what the case expects, if anything does.
fn difference(flags: &FlagdFlags, case: &Value) -> Option<String> {
    let wanted = match case["type"].as_str().unwrap() {
        "Boolean" => Wanted::Bool,
        "Integer" => Wanted::Int,
        "Float" => Wanted::Float,
        "String" => Wanted::Text,
        "Object" => Wanted::Object,
        other => panic!("a case wants a {other}"),
    };
    let answer = flags.evaluate(case["key"].as_str().unwrap(), wanted, &case["context"], 0);
    let value = answer.value.unwrap_or(&case["fallback"]);
    let expected = &case["expect"];
    let same = |left: &Value, right: &Value| {
        left == right || (left.is_number() && left.as_f64() == right.as_f64())
    };
    let code = answer.error.map(|code| code.to_string());
    let checks = [
        expected.get("value").is_none_or(|expected| same(value, expected)),
        expected.get("reason").is_none_or(|expected| *expected == answer.reason.to_string()),
        expected.get("error").is_none_or(|expected| code.as_deref() == expected.as_str()),
        expected.get("error").is_some() || code.is_none() || expected.get("reason").is_none(),
        expected.get("metadata").is_none_or(|expected| {
            Value::Object(answer.metadata.clone().into_owned()) == *expected
        }),
    ];
    checks.contains(&false).then(|| format!("{case}\n    got {answer:?}"))
}

#[test]
fn flagds_own_cases_pass() {
    let Ok(folder) = std::env::var("PILOTAGE_FLAGD_SUITE") else {
        crate::say(format_args!(
            "skipped: PILOTAGE_FLAGD_SUITE names no folder with cases.json and flags/*.json"
        ));
        return;
    };
    let folder = Path::new(&folder);
    let cases: Value =
        serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let versions = [("v1", Fractional::V1), ("v2", Fractional::V2), ("v3", Fractional::V3)];
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, version) in versions {
        let flags = suite_flags(folder, version);
        let mut of_version = 0;
        for case in cases.as_array().unwrap() {
            let tags: Vec<&str> =
                case["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
            let tagged = tags.iter().any(|tag| tag.starts_with("@fractional-v"));
            // A case without a version is one of the default.
            let mine = if tagged {
                tags.contains(&format!("@fractional-{name}").as_str())
            } else {
                version == Fractional::default()
            };
            if !mine {
                continue;
            }
            of_version += 1;
            match difference(&flags, case) {
                None => passed += 1,
                Some(difference) => failed.push(difference),
            }
        }
        crate::say(format_args!("fractional {name}: {of_version} cases"));
    }
    crate::say(format_args!("passed {passed}, failed {}", failed.len()));
    failed.iter().for_each(|failed| crate::say(format_args!("  {failed}")));
    assert!(failed.is_empty() && passed > 0);
}

fn samples(folder: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/flagd").join(folder);
    let mut all: Vec<(String, Value)> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
        .map(|path| {
            let text = std::fs::read(&path).unwrap();
            (path.display().to_string(), serde_json::from_slice(&text).unwrap())
        })
        .collect();
    all.sort_by(|left, right| left.0.cmp(&right.0));
    assert!(!all.is_empty());
    all
}

#[test]
fn the_schemas_samples_are_judged_as_the_schema_does() {
    for (name, file) in samples("flags/positive") {
        // Two samples there are of the daemon's shape, and say so.
        let shape = if name.contains("flagdimport") { Shape::Daemon } else { Shape::Provider };
        check_file(&file, shape).unwrap_or_else(|error| panic!("{name}: {error}"));
        let strict = Options::default().strictness(Strictness::Schema);
        let text = file.to_string();
        FlagdFlags::parse(text.as_bytes(), &strict).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    for (name, file) in samples("flags/negative") {
        assert!(check_file(&file, Shape::Provider).is_err(), "{name} was accepted");
    }
    for (name, file) in samples("flagd/positive") {
        check_file(&file, Shape::Daemon).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for (name, rule) in samples("targeting/positive") {
        check_targeting(&rule).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for (name, rule) in samples("targeting/negative") {
        let error = check_targeting(&rule).expect_err(&name).to_string();
        assert!(error.contains("targeting."), "{name}: {error}");
    }
}

#[test]
fn a_bad_rule_spoils_its_flag_or_the_file_as_was_asked() {
    let file = json!({"flags": {
        "bad": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "a",
                "targeting": {"no_such_operator": [1]}},
        "good": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "a"},
    }})
    .to_string();
    let flags = FlagdFlags::parse(file.as_bytes(), &Options::default()).unwrap();
    let bad = flags.evaluate("bad", Wanted::Any, &Value::Null, 0);
    assert_eq!(bad.error, Some(FlagdCode::ParseError));
    assert!(bad.message.unwrap().contains("no_such_operator"));
    assert_eq!(flags.evaluate("good", Wanted::Int, &Value::Null, 0).value, Some(&json!(1)));
    assert_eq!(flags.problems().count(), 1);
    let strict = Options::default().strictness(Strictness::Schema);
    let error = FlagdFlags::parse(file.as_bytes(), &strict).unwrap_err().to_string();
    assert!(error.contains("flags.bad.targeting.no_such_operator"), "{error}");
}

#[test]
fn files_that_are_too_much_are_refused_and_the_last_good_one_stays() {
    let good = br#"{"flags": {"x": {"state": "ENABLED", "variants": {"on": true},
                    "defaultVariant": "on"}}}"#;
    let set = FlagdSet::new(good, Options::default()).unwrap();
    let huge = vec![b' '; 100 << 20];
    assert!(matches!(set.load(&huge), Err(FlagdError::TooLarge { .. })));
    let deep = format!("{{\"flags\": {}1{}}}", "[".repeat(200), "]".repeat(200));
    for bad in [
        deep.as_bytes(),
        b"",
        b"[]",
        b"{}",
        b"{\"flags\": \xff}",
        br#"{"flags": {"x": {"state": "ENABLED", "variants": {}}}}"#,
        br#"{"flags": {"x": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "b"}}}"#,
        br#"{"flags": {"x": {}, "x": {}}}"#,
        br#"{"flags": [{"state": "ENABLED", "variants": {"a": 1}}]}"#,
    ] {
        assert!(set.load(bad).is_err(), "{}", String::from_utf8_lossy(&bad[..bad.len().min(80)]));
    }
    let flags = set.flags();
    assert_eq!(flags.evaluate("x", Wanted::Bool, &Value::Null, 0).value, Some(&json!(true)));
}

#[test]
fn a_large_metadata_is_not_multiplied_by_the_flags() {
    let flags: Map<String, Value> = (0..5_000)
        .map(|at| {
            let flag = json!({"state": "ENABLED", "variants": {"a": 1}, "metadata": {"own": at}});
            (format!("f{at}"), flag)
        })
        .collect();
    // 5,000 copies would be 2.5 GB.
    let file = json!({"metadata": {"large": "x".repeat(500_000), "own": "set"}, "flags": flags});
    let flags = FlagdFlags::parse(file.to_string().as_bytes(), &Options::default()).unwrap();
    let metadata = flags.evaluate("f7", Wanted::Int, &Value::Null, 0).metadata.into_owned();
    assert_eq!((metadata.len(), &metadata["own"]), (2, &json!(7)));
}

#[test]
fn a_million_flags_in_a_file_are_refused_before_they_are_read() {
    let flag = r#""a":{"state":"ENABLED","variants":{"a":1}},"#;
    let file = format!("{{\"flags\":{{{}}}}}", flag.repeat(1_000_000));
    let refused = FlagdFlags::parse(file.as_bytes(), &Options::default());
    assert!(matches!(refused, Err(FlagdError::TooLarge { .. })));
}

#[test]
fn what_targeting_gives_is_the_name_of_a_variant() {
    let flag = |rule: Value| {
        let file = json!({"flags": {"x": {"state": "ENABLED", "defaultVariant": "off",
            "variants": {"off": "o", "true": "t", "7": "seven", "1.5": "half"},
            "targeting": rule}}});
        FlagdFlags::parse(file.to_string().as_bytes(), &Options::default()).unwrap()
    };
    for (rule, expected) in [
        (json!({"+": [3, 4]}), Ok("seven")),
        (json!({"/": [3, 2]}), Ok("half")),
        (json!({"==": [1, 1]}), Ok("t")),
        (json!({"==": [1, 2]}), Err(FlagdCode::General)),
        (json!({"/": [1, 0]}), Ok("o")), // no number: the default
        (json!({"merge": ["off"]}), Err(FlagdCode::General)),
        (json!({"if": [{"in": [{"var": "email"}, "ada@example.com"]}, "true"]}), Ok("o")),
        (json!({"if": [{">=": [{"-": [{"var": "age"}, 18]}, 0]}, "true"]}), Ok("o")),
        (json!({"if": [{"==": [{"lower": {"var": "land"}}, "de"]}, "true"]}), Ok("t")),
        (json!({"if": [{"==": [{"upper": [{"var": "age"}]}, "UNKNOWN"]}, "true"]}), Ok("t")),
    ] {
        let flags = flag(rule.clone());
        let context = json!({"age": "unknown", "land": "DE"});
        let answer = flags.evaluate("x", Wanted::Text, &context, 0);
        let got = match answer.error {
            None => Ok(answer.value.and_then(Value::as_str).unwrap()),
            Some(code) => Err(code),
        };
        assert_eq!(got, expected, "{rule}");
    }
}

#[test]
fn a_rule_that_doubles_itself_through_references_is_cut_off() {
    let mut evaluators = Map::new();
    evaluators.insert("e0".into(), json!({"var": "x"}));
    for at in 1..60 {
        let below = json!({"$ref": format!("e{}", at - 1)});
        evaluators.insert(format!("e{at}"), json!({"cat": [below, below]}));
    }
    let file = json!({"$evaluators": evaluators, "flags": {"bomb": {
        "state": "ENABLED", "variants": {"a": 1}, "targeting": {"if": [{"$ref": "e59"}, "a"]}}}});
    let flags = FlagdFlags::parse(file.to_string().as_bytes(), &Options::default()).unwrap();
    let answer = flags.evaluate("bomb", Wanted::Any, &json!({"x": "x"}), 0);
    assert_eq!(answer.error, Some(FlagdCode::ParseError));
}

/// `PILOTAGE_BUCKETING_VECTORS=<file>`: see `vectors`. Each row's third-version hash tells which of
/// 997 buckets a subject falls into.
#[test]
fn the_third_version_of_fractional_agrees_with_the_table() {
    let Ok(path) = std::env::var("PILOTAGE_BUCKETING_VECTORS") else {
        crate::say(format_args!("skipped: PILOTAGE_BUCKETING_VECTORS names no table"));
        return;
    };
    let table = std::fs::read_to_string(&path).unwrap();
    let salts: std::collections::BTreeSet<&str> =
        table.lines().skip(1).filter_map(|row| row.split('\t').next()).collect();
    let names: Vec<String> = (0..997).map(|at| format!("v{at}")).collect();
    let variants: Map<String, Value> =
        names.iter().map(|name| (name.clone(), json!(name))).collect();
    let buckets: Vec<Value> = names.iter().map(|name| json!([name, 1])).collect();
    let mut flags = Map::new();
    for salt in salts.iter().filter(|salt| !salt.is_empty()) {
        let flag = json!({"state": "ENABLED", "variants": variants,
                          "targeting": {"fractional": buckets}});
        flags.insert((*salt).to_owned(), flag);
    }
    let file = json!({"flags": flags}).to_string();
    let flags = FlagdFlags::parse(file.as_bytes(), &options(Fractional::V3)).unwrap();
    let mut rows = 0;
    for row in table.lines().skip(1) {
        let cells: Vec<&str> = row.split('\t').collect();
        if cells[0].is_empty() {
            continue; // no flag can have this key
        }
        let hash = u64::from_str_radix(cells[7], 16).unwrap();
        let context = json!({"targetingKey": cells[1]});
        let answer = flags.evaluate(cells[0], Wanted::Text, &context, 0);
        assert_eq!(answer.variant, Some(&*format!("v{}", (hash * 997) >> 32)), "{row}");
        rows += 1;
    }
    crate::say(format_args!("{rows} rows agree"));
}

mod bombs {
    use super::*;
    use proptest::prelude::*;

    /// Any JSON, with a leaning to what rules are made of.
    fn rule() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            prop_oneof!["\\PC{0,6}", "[0-9.]{1,5}", "a|b|on|off|targetingKey"]
                .prop_map(Value::from),
        ];
        let operators = [
            "if",
            "==",
            "===",
            "!=",
            "!",
            "or",
            "and",
            ">",
            "<=",
            "max",
            "+",
            "-",
            "*",
            "/",
            "%",
            "map",
            "filter",
            "reduce",
            "all",
            "none",
            "merge",
            "in",
            "cat",
            "substr",
            "missing",
            "missing_some",
            "starts_with",
            "sem_ver",
            "fractional",
            "var",
            "$ref",
            "nothing",
        ];
        leaf.prop_recursive(6, 64, 5, move |inner| {
            let list = proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from);
            let argument = prop_oneof![3 => list.clone(), 1 => inner];
            let call = (proptest::sample::select(operators.to_vec()), argument)
                .prop_map(|(name, given)| json!({ name: given }));
            prop_oneof![1 => list, 3 => call]
        })
    }

    proptest! {
        #[test]
        fn no_rule_brings_the_server_down(
            rule in rule(),
            shared in rule(),
            context in rule(),
            version in proptest::sample::select(vec![Fractional::V1, Fractional::V2, Fractional::V3]),
        ) {
            let file = json!({"$evaluators": {"a": shared, "b": {"!": {"$ref": "a"}}}, "flags": {
                "x": {"state": "ENABLED", "variants": {"on": 1, "off": 0}, "defaultVariant": "off",
                      "targeting": {"if": [rule.clone(), "on", "off"]}},
                "y": {"state": "ENABLED", "variants": {"on": 1}, "targeting": {"cat": [rule]}}}});
            let context = json!({"targetingKey": "k", "a": context, "b": [1, {"c": "x"}]});
            let flags = FlagdFlags::parse(file.to_string().as_bytes(), &options(version)).unwrap();
            for key in ["x", "y"] {
                let answer = flags.evaluate(key, Wanted::Any, &context, i64::MAX);
                prop_assert_eq!(answer.error.is_some(), answer.message.is_some());
                prop_assert_eq!(answer.value.is_some(), answer.variant.is_some());
            }
            let _ = check_file(&file, Shape::Provider);
        }

        #[test]
        fn no_bytes_bring_the_server_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = FlagdFlags::parse(&bytes, &Options::default());
        }
    }
}
