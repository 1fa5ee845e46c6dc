//! The cost of one flag evaluation, beside the evaluation engines of four flag services.
//!
//! `cargo run --release` prints a table; with `-- --check` it fails when ours does not hold its
//! ratios. All run in one process, in turns, on the same subjects and the same flag: 25 % of the
//! subjects, ten denied, ten allowed, two segments. Each figure is the best of many short rounds,
//! since whatever else the machine does only ever adds to it.

use std::collections::HashMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{Context, FlagSet, FlagSpec};
use serde_json::{Value, json};

const ROUNDS: usize = 60;
const CALLS: usize = 20_000;
const NAME: &str = "flag-number-42";

fn main() -> ExitCode {
    let subjects: Vec<String> = (0..1024).map(|at| format!("user-{}", at * 7919)).collect();
    let mut contenders = contenders(&subjects);
    let mut best = vec![f64::INFINITY; contenders.len()];
    let mut on = vec![0_u64; contenders.len()];
    for _ in 0..ROUNDS {
        for (at, (_, ask)) in contenders.iter_mut().enumerate() {
            let start = Instant::now();
            let mut served = 0;
            for call in 0..CALLS {
                served += u64::from(ask(black_box(call & 1023)));
            }
            best[at] = best[at].min(start.elapsed().as_nanos() as f64 / CALLS as f64);
            on[at] = served;
        }
    }
    println!("{:44} {:>8} {:>8}", "evaluation", "ns", "on");
    for (at, (name, _)) in contenders.iter().enumerate() {
        println!("{name:44} {:8.1} {:7.1}%", best[at], on[at] as f64 * 100.0 / CALLS as f64);
    }
    let of = |name: &str| best[contenders.iter().position(|(known, _)| *known == name).unwrap()];
    let (one, two) = threads(&subjects);
    println!("{:44} {one:8.1}\n{:44} {two:8.1}", "pilotage, handle, one thread", "pilotage, handle, each of two threads");

    let unleash = of("unleash-yggdrasil 0.21 is_enabled");
    let ratios = [
        ("by handle / unleash", of("pilotage, handle, of 100") / unleash, 1.0 / 4.0, 1.0 / 7.0),
        ("by name / unleash", of("pilotage, name, of 100") / unleash, 1.0 / 3.0, 1.0 / 4.0),
        (
            "by name, of 10,000 / of 100",
            of("pilotage, name, of 10,000") / of("pilotage, name, of 100"),
            1.15,
            1.0,
        ),
        ("two threads / one", two / one, 1.15, 1.03),
    ];
    println!("\n{:44} {:>8} {:>8} {:>8}", "ratio", "is", "hold", "aim");
    let mut holds = true;
    for (name, is, hold, aim) in ratios {
        println!("{name:44} {is:8.3} {hold:8.3} {aim:8.3}");
        holds &= is.is_finite() && is <= hold;
    }
    let checked = std::env::args().any(|argument| argument == "--check");
    if checked && !holds { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

type Contender<'a> = (&'static str, Box<dyn FnMut(usize) -> bool + 'a>);

fn contenders(subjects: &[String]) -> Vec<Contender<'_>> {
    let few = ours(100);
    let many = ours(10_000);
    let handle = few.flag(NAME).unwrap();
    let detailed = handle.clone();
    vec![
        (
            "pilotage, handle, of 100",
            Box::new(move |at| handle.is_on(&Context::of(&subjects[at]).segment("free"))),
        ),
        (
            "pilotage, handle, value and variant",
            Box::new(move |at| {
                let answer = detailed.evaluate(&Context::of(&subjects[at]).segment("free"));
                black_box((answer.value(), answer.variant()));
                answer.is_on()
            }),
        ),
        (
            "pilotage, name, of 100",
            Box::new(move |at| {
                few.is_on(black_box(NAME), &Context::of(&subjects[at]).segment("free"))
            }),
        ),
        (
            "pilotage, name, of 10,000",
            Box::new(move |at| {
                many.is_on(black_box(NAME), &Context::of(&subjects[at]).segment("free"))
            }),
        ),
        ("unleash-yggdrasil 0.21 is_enabled", unleash(subjects)),
        ("eppo_core 10 get_assignment", eppo(subjects)),
        ("launchdarkly-server-sdk-evaluation 2.2", launchdarkly(subjects)),
        ("growthbook-rust 0.4 check", growthbook(subjects)),
    ]
}

fn people(kind: &str) -> Vec<String> {
    (0..10).map(|at| format!("{kind}-{at}")).collect()
}

fn ours(flags: usize) -> FlagSet {
    let mut set = FlagSet::builder().segment("premium").segment("beta");
    for at in 0..flags {
        let mut spec = FlagSpec::new(format!("flag-number-{at}"))
            .share(TrafficShare::percent(25.0).unwrap())
            .enable_segment("premium")
            .enable_segment("beta");
        spec.deny.extend(people("bad"));
        spec.allow.extend(people("good"));
        set = set.flag(spec);
    }
    set.build().unwrap()
}

fn unleash(subjects: &[String]) -> Box<dyn FnMut(usize) -> bool + '_> {
    use unleash_types::client_features::{ClientFeatures, Context};
    let features: Vec<Value> = (0..100)
        .map(|at| {
            json!({"name": format!("flag-number-{at}"), "enabled": true, "strategies": [
                {"name": "userWithId", "parameters": {"userIds": people("good").join(",")}},
                {"name": "default", "constraints": [{"contextName": "segment", "operator": "IN",
                    "values": ["premium", "beta"]}]},
                {"name": "flexibleRollout",
                 "constraints": [{"contextName": "userId", "operator": "NOT_IN",
                    "values": people("bad")}],
                 "parameters": {"rollout": "25", "stickiness": "userId", "groupId": NAME}},
            ]})
        })
        .collect();
    let features: ClientFeatures =
        serde_json::from_value(json!({"version": 2, "features": features})).unwrap();
    let engine = unleash_yggdrasil::EngineState::default();
    engine.apply_client_features(features);
    let contexts: Vec<Context> = subjects
        .iter()
        .map(|subject| Context {
            user_id: Some(subject.clone()),
            properties: Some(HashMap::from([("segment".to_owned(), "free".to_owned())])),
            ..Context::default()
        })
        .collect();
    Box::new(move |at| engine.is_enabled(black_box(NAME), &contexts[at], &None))
}

fn eppo(subjects: &[String]) -> Box<dyn FnMut(usize) -> bool + '_> {
    use eppo_core::eval::get_assignment;
    use eppo_core::ufc::{AssignmentValue, UniversalFlagConfig, VariationType};
    use eppo_core::{Attributes, Configuration, SdkMetadata, Str};
    let allocation = |key: &str, attribute: &str, values: Vec<String>, serves: &str| {
        json!({"key": key, "doLog": false,
            "rules": [{"conditions": [{"attribute": attribute, "operator": "ONE_OF",
                                       "value": values}]}],
            "splits": [{"variationKey": serves, "shards": []}]})
    };
    let segments = vec!["premium".to_owned(), "beta".to_owned()];
    let flags: serde_json::Map<String, Value> = (0..100)
        .map(|at| {
            let key = format!("flag-number-{at}");
            let flag = json!({"key": key, "enabled": true, "variationType": "BOOLEAN",
                "variations": {"on": {"key": "on", "value": true},
                               "off": {"key": "off", "value": false}},
                "totalShards": 10_000,
                "allocations": [
                    allocation("deny", "id", people("bad"), "off"),
                    allocation("allow", "id", people("good"), "on"),
                    allocation("segments", "segment", segments.clone(), "on"),
                    {"key": "rollout", "doLog": false, "splits": [{"variationKey": "on",
                        "shards": [{"salt": key, "ranges": [{"start": 0, "end": 2500}]}]}]},
                ]});
            (key, flag)
        })
        .collect();
    let file = json!({"createdAt": "2026-01-01T00:00:00.000Z", "format": "SERVER",
                      "environment": {"name": "bench"}, "flags": flags, "bandits": {}});
    let sdk = SdkMetadata { name: "bench", version: "0" };
    let config = UniversalFlagConfig::from_json(sdk, file.to_string().into_bytes()).unwrap();
    let config = Configuration::from_server_response(config, None);
    let keys: Vec<Str> = subjects.iter().map(|subject| Str::from(subject.as_str())).collect();
    let mut attributes = Attributes::default();
    attributes.insert("segment".into(), "free".into());
    let attributes = Arc::new(attributes);
    let now = chrono::Utc::now();
    Box::new(move |at| {
        let wanted = Some(VariationType::Boolean);
        let answer =
            get_assignment(Some(&config), black_box(NAME), &keys[at], &attributes, wanted, now);
        matches!(answer, Ok(Some(answer)) if matches!(answer.value, AssignmentValue::Boolean(true)))
    })
}

fn launchdarkly(subjects: &[String]) -> Box<dyn FnMut(usize) -> bool + '_> {
    use launchdarkly_server_sdk_evaluation::{
        Context, ContextBuilder, Flag, FlagValue, Segment, Store, evaluate,
    };
    struct Nothing;
    impl Store for Nothing {
        fn flag(&self, _: &str) -> Option<Flag> {
            None
        }
        fn segment(&self, _: &str) -> Option<Segment> {
            None
        }
    }
    let flag: Flag = serde_json::from_value(json!({
        "key": NAME, "version": 1, "on": true, "salt": NAME, "prerequisites": [],
        "targets": [{"values": people("bad"), "variation": 0},
                    {"values": people("good"), "variation": 1}],
        "rules": [{"id": "r", "variation": 1, "clauses": [{"attribute": "segment", "op": "in",
            "values": ["premium", "beta"], "negate": false}]}],
        "fallthrough": {"rollout": {"variations": [{"variation": 1, "weight": 25_000},
                                                   {"variation": 0, "weight": 75_000}]}},
        "offVariation": 0, "variations": [false, true], "clientSide": false,
        "clientSideAvailability": {"usingMobileKey": false, "usingEnvironmentId": false},
    }))
    .unwrap();
    let contexts: Vec<Context> = subjects
        .iter()
        .map(|subject| {
            let mut context = ContextBuilder::new(subject);
            context.set_string("segment", "free");
            context.build().unwrap()
        })
        .collect();
    Box::new(move |at| {
        let answer = evaluate(&Nothing, black_box(&flag), &contexts[at], None);
        matches!(answer.value, Some(FlagValue::Bool(true)))
    })
}

fn growthbook(subjects: &[String]) -> Box<dyn FnMut(usize) -> bool + '_> {
    use growthbook_rust::growthbook::GrowthBook;
    use growthbook_rust::model_public::GrowthBookAttribute;
    let features: serde_json::Map<String, Value> = (0..100)
        .map(|at| {
            let name = format!("flag-number-{at}");
            let feature = json!({"defaultValue": false, "rules": [
                {"condition": {"id": {"$in": people("bad")}}, "force": false},
                {"condition": {"id": {"$in": people("good")}}, "force": true},
                {"condition": {"segment": {"$in": ["premium", "beta"]}}, "force": true},
                {"force": true, "coverage": 0.25, "hashAttribute": "id", "seed": name},
            ]});
            (name, feature)
        })
        .collect();
    let engine = GrowthBook {
        forced_variations: None,
        features: serde_json::from_value(Value::Object(features)).unwrap(),
        attributes: None,
        sticky_bucket_service: None,
        saved_groups: HashMap::new(),
    };
    let attributes: Vec<Option<Vec<GrowthBookAttribute>>> = subjects
        .iter()
        .map(|id| GrowthBookAttribute::from(json!({"id": id, "segment": "free"})).ok())
        .collect();
    Box::new(move |at| engine.check(black_box(NAME), &attributes[at]).on)
}

/// The best cost of a call by handle on one thread, and on each of two at once.
fn threads(subjects: &[String]) -> (f64, f64) {
    let flags = ours(100);
    let handle = flags.flag(NAME).unwrap();
    let round = || {
        let start = Instant::now();
        for call in 0..CALLS {
            let context = Context::of(&subjects[call & 1023]).segment("free");
            black_box(handle.is_on(black_box(&context)));
        }
        start.elapsed().as_nanos() as f64 / CALLS as f64
    };
    let best = |rounds: usize| (0..rounds).map(|_| round()).fold(f64::INFINITY, f64::min);
    let one = best(ROUNDS);
    // Both are under way in each round; the slower of the two counts.
    let barrier = Barrier::new(2);
    let together = || {
        (0..ROUNDS * 4)
            .map(|_| {
                barrier.wait();
                round()
            })
            .collect::<Vec<f64>>()
    };
    let (left, right) = std::thread::scope(|scope| {
        let other = scope.spawn(together);
        (together(), other.join().unwrap())
    });
    let two = left.iter().zip(&right).map(|(left, right)| left.max(*right));
    (one, two.fold(f64::INFINITY, f64::min))
}
