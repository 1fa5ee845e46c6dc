//! One flag, in the words of five engines.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{Context, FlagSet, FlagSpec};
use serde_json::{Value, json};

use crate::contest::Contestant;

pub const HANDLE: &str = "pilotage, by handle";
pub const DETAILED: &str = "pilotage, by handle, value and variant";
pub const NAME: &str = "pilotage, by name, of 100";
pub const NAME_OF_MANY: &str = "pilotage, by name, of 10,000";
pub const UNLEASH: &str = "unleash-yggdrasil is_enabled, of 100";

const FLAG: &str = "flag-number-42";
/// A power of two.
const VISITORS: usize = 1024;

/// Who asks.
pub struct Visitor {
    pub id: String,
    segment: &'static str,
    /// The answer, where it is not chance.
    pub certain: Option<bool>,
}

/// An engine with its flags loaded.
pub struct Engine {
    pub name: &'static str,
    /// Whether the flag is on for this visitor.
    pub ask: Box<dyn Fn(usize) -> bool + Sync>,
    /// The same, to be timed.
    pub contestant: Contestant,
}

impl Engine {
    fn new(name: &'static str, ask: impl Fn(usize) -> bool + Send + Sync + 'static) -> Self {
        let ask = Arc::new(ask);
        let call = Arc::clone(&ask);
        let contestant = Contestant {
            name,
            call: Box::new(move |at| {
                black_box(call(black_box(at as usize % VISITORS)));
            }),
        };
        Self { name, ask: Box::new(move |at| ask(at)), contestant }
    }
}

/// Mostly nobody in particular, and some of those whom lists and segments are for.
pub fn visitors() -> &'static [Visitor] {
    let special = people("bad").into_iter().map(|id| (id, "free", Some(false)));
    let special = special.chain(people("good").into_iter().map(|id| (id, "free", Some(true))));
    let special = special.chain(people("rich").into_iter().map(|id| (id, "premium", Some(true))));
    let nobody = (0..).map(|at| (format!("user-{}", at * 7919), "free", None));
    let all = special.chain(nobody).take(VISITORS);
    let all: Vec<Visitor> =
        all.map(|(id, segment, certain)| Visitor { id, segment, certain }).collect();
    Vec::leak(all)
}

pub fn all(visitors: &'static [Visitor]) -> Vec<Engine> {
    let (few, many) = (ours(100), ours(10_000));
    let handle = few.flag(FLAG).expect("it is there");
    let detailed = handle.clone();
    let context = |visitor: &'static Visitor| Context::of(&visitor.id).segment(visitor.segment);
    vec![
        Engine::new(HANDLE, move |at| handle.is_on(&context(&visitors[at]))),
        Engine::new(DETAILED, move |at| {
            let answer = detailed.evaluate(&context(&visitors[at]));
            black_box((answer.value(), answer.variant()));
            answer.is_on()
        }),
        Engine::new(NAME, move |at| few.is_on(black_box(FLAG), &context(&visitors[at]))),
        Engine::new(NAME_OF_MANY, move |at| many.is_on(black_box(FLAG), &context(&visitors[at]))),
        unleash(visitors),
        eppo(visitors),
        launchdarkly(visitors),
        growthbook(visitors),
    ]
}

fn people(kind: &str) -> Vec<String> {
    (0..10).map(|at| format!("{kind}-{at}")).collect()
}

fn names() -> impl Iterator<Item = String> {
    (0..100).map(|at| format!("flag-number-{at}"))
}

fn ours(flags: usize) -> FlagSet {
    let mut set = FlagSet::builder().segment("premium").segment("beta");
    for at in 0..flags {
        let mut spec = FlagSpec::new(format!("flag-number-{at}"))
            .share(TrafficShare::percent(25.0).expect("a percentage"))
            .enable_segment("premium")
            .enable_segment("beta");
        spec.deny.extend(people("bad"));
        spec.allow.extend(people("good"));
        set = set.flag(spec);
    }
    set.build().expect("the flags hold together")
}

/// Three strategies, any of which turns the flag on, the denied being a constraint of the last:
/// the way its documentation describes for users, segments and gradual rollout.
fn unleash(visitors: &[Visitor]) -> Engine {
    use unleash_types::client_features::{ClientFeatures, Context};
    let features: Vec<Value> = names()
        .map(|name| {
            json!({"name": name, "enabled": true, "strategies": [
                {"name": "userWithId", "parameters": {"userIds": people("good").join(",")}},
                {"name": "default", "constraints": [{"contextName": "segment", "operator": "IN",
                    "values": ["premium", "beta"]}]},
                {"name": "flexibleRollout",
                 "constraints": [{"contextName": "userId", "operator": "NOT_IN",
                    "values": people("bad")}],
                 "parameters": {"rollout": "25", "stickiness": "userId", "groupId": name}},
            ]})
        })
        .collect();
    let features: ClientFeatures =
        serde_json::from_value(json!({"version": 2, "features": features}))
            .expect("the form it documents");
    let engine = unleash_yggdrasil::EngineState::default();
    engine.apply_client_features(features);
    let contexts: Vec<Context> = visitors
        .iter()
        .map(|visitor| Context {
            user_id: Some(visitor.id.clone()),
            properties: Some(HashMap::from([("segment".to_owned(), visitor.segment.to_owned())])),
            ..Context::default()
        })
        .collect();
    Engine::new(UNLEASH, move |at| engine.is_enabled(black_box(FLAG), &contexts[at], &None))
}

fn eppo(visitors: &'static [Visitor]) -> Engine {
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
    let flags: serde_json::Map<String, Value> = names()
        .map(|key| {
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
    let config = UniversalFlagConfig::from_json(sdk, file.to_string().into_bytes())
        .expect("the form it documents");
    let config = Configuration::from_server_response(config, None);
    let requests: Vec<(Str, Arc<Attributes>)> = visitors
        .iter()
        .map(|visitor| {
            let mut attributes = Attributes::default();
            attributes.insert("segment".into(), visitor.segment.into());
            (Str::from(visitor.id.as_str()), Arc::new(attributes))
        })
        .collect();
    let now = chrono::Utc::now();
    Engine::new("eppo_core get_assignment, of 100", move |at| {
        let ((id, attributes), wanted) = (&requests[at], Some(VariationType::Boolean));
        let answer = get_assignment(Some(&config), black_box(FLAG), id, attributes, wanted, now);
        matches!(answer, Ok(Some(answer)) if matches!(answer.value, AssignmentValue::Boolean(true)))
    })
}

/// Its flag is handed to it: what the lookup by name costs is the store's, and not in this price.
fn launchdarkly(visitors: &[Visitor]) -> Engine {
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
        "key": FLAG, "version": 1, "on": true, "salt": FLAG, "prerequisites": [],
        "targets": [{"values": people("bad"), "variation": 0},
                    {"values": people("good"), "variation": 1}],
        "rules": [{"id": "r", "variation": 1, "trackEvents": false, "clauses": [{"attribute": "segment", "op": "in",
            "values": ["premium", "beta"], "negate": false}]}],
        "fallthrough": {"rollout": {"variations": [{"variation": 1, "weight": 25_000},
                                                   {"variation": 0, "weight": 75_000}]}},
        "offVariation": 0, "variations": [false, true], "clientSide": false,
        "clientSideAvailability": {"usingMobileKey": false, "usingEnvironmentId": false},
    }))
    .expect("the form it documents");
    let contexts: Vec<Context> = visitors
        .iter()
        .map(|visitor| {
            let mut context = ContextBuilder::new(&visitor.id);
            context.set_string("segment", visitor.segment);
            context.build().expect("a context it accepts")
        })
        .collect();
    Engine::new("launchdarkly evaluate, flag at hand", move |at| {
        let answer = evaluate(&Nothing, black_box(&flag), &contexts[at], None);
        matches!(answer.value, Some(FlagValue::Bool(true)))
    })
}

fn growthbook(visitors: &[Visitor]) -> Engine {
    use growthbook_rust::growthbook::GrowthBook;
    use growthbook_rust::model_public::GrowthBookAttribute;
    let features: serde_json::Map<String, Value> = names()
        .map(|name| {
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
        features: serde_json::from_value(Value::Object(features)).expect("the form it documents"),
        attributes: None,
        sticky_bucket_service: None,
        saved_groups: HashMap::new(),
    };
    let attributes: Vec<Option<Vec<GrowthBookAttribute>>> = visitors
        .iter()
        .map(|visitor| {
            GrowthBookAttribute::from(json!({"id": visitor.id, "segment": visitor.segment})).ok()
        })
        .collect();
    Engine::new("growthbook-rust check, of 100", move |at| {
        engine.check(black_box(FLAG), &attributes[at]).on
    })
}
