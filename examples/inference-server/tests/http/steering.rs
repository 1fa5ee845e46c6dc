//! What operators may and may not order.

use std::sync::Arc;
use std::time::Duration;

use inference_server::model::Classifier;
use inference_server::service::{Loud, Settings};
use pilotage::rollout::plan::Plan;
use pilotage::share::TrafficShare;

use crate::stage::{RUST, Stage, assert_problem, models};

const ORDERS: [&str; 3] = ["/rollout/abort", "/rollout/promote", "/rollout/kill"];

fn guarded() -> Stage {
    let settings = Settings { token: Some("open sesame".to_owned()), ..Settings::default() };
    Stage::with(&models(), "standard_v3_3", &settings)
}

fn rolling_out() -> Stage {
    let stage = guarded();
    let candidate = Arc::new(Classifier::load(&models(), "standard_v3_1").unwrap());
    let five = Duration::from_secs(300);
    let plan = Plan::builder()
        .canary(TrafficShare::HALF, five, 1_000_000)
        .full(five, 1_000_000)
        .build()
        .unwrap();
    let every = Duration::from_millis(20);
    stage.service.roll_out(candidate, Arc::default(), plan, every, Loud::No).unwrap();
    stage
}

#[test]
fn without_a_token_nobody_may_order_anything() {
    let stage = Stage::new();
    for path in ORDERS {
        let reply = stage.client().post(path, &[("authorization", "Bearer ")], b"").unwrap();
        assert_problem(&reply, 403, "no token is set");
    }
    stage.goes_on();
}

#[test]
fn a_wrong_token_is_refused() {
    let stage = guarded();
    for path in ORDERS {
        assert_problem(&stage.client().post(path, &[], b"").unwrap(), 401, "missing or wrong");
        for wrong in ["open sesame", "Bearer open sesam", "Bearer open sesame ", "Basic abc"] {
            // White space at the end of a header is not part of it.
            if wrong.ends_with(' ') {
                continue;
            }
            let reply = stage.client().post(path, &[("authorization", wrong)], b"").unwrap();
            assert_problem(&reply, 401, "missing or wrong");
        }
        let reply = stage.client().get(path).unwrap();
        assert_problem(&reply, 405, "does not take this method");
    }
    stage.goes_on();
}

#[test]
fn an_order_without_a_rollout_is_refused() {
    let stage = guarded();
    let right = [("authorization", "Bearer open sesame")];
    for path in ORDERS {
        let reply = stage.client().post(path, &right, b"").unwrap();
        assert_problem(&reply, 409, "no rollout is under way");
    }
    stage.goes_on();
}

#[test]
fn an_abort_takes_the_candidate_out_before_it_is_answered() {
    let stage = rolling_out();
    let right = [("authorization", "Bearer open sesame")];
    let mut client = stage.client();
    for number in 0..40 {
        let user = format!("user-{number}");
        assert_eq!(client.post("/classify", &[("x-user-id", &user)], RUST).unwrap().status, 200);
    }
    let before = stage.service.router().totals()[1].started;
    assert!(before > 5, "the candidate served {before} of 40 at 50 %");
    let why = br#"{"who": "ann", "why": "looks odd"}"#;
    assert_eq!(client.post("/rollout/abort", &right, why).unwrap().status, 200);
    for number in 0..40 {
        let user = format!("user-{number}");
        assert_eq!(client.post("/classify", &[("x-user-id", &user)], RUST).unwrap().status, 200);
    }
    assert_eq!(stage.service.router().totals()[1].started, before);
    let over = || stage.service.pilot().unwrap().is_over();
    for _ in 0..500 {
        if over() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let status = client.get("/rollout").unwrap();
    assert_eq!(status.body["rollout"]["end"], "aborted", "{status:?}");
    assert_problem(&client.post("/rollout/promote", &right, b"").unwrap(), 409, "over");
    // What was aborted can still be killed: then no retry leads out of it.
    assert_eq!(client.post("/rollout/kill", &right, b"").unwrap().status, 200);
    stage.goes_on();
}

#[test]
fn an_order_of_nobody_or_in_bad_json_changes_nothing() {
    let stage = rolling_out();
    let right = [("authorization", "Bearer open sesame")];
    let mut client = stage.client();
    let reply = client.post("/rollout/promote", &right, br#"{"who": ""}"#).unwrap();
    assert_problem(&reply, 400, "who gives the order");
    let reply = client.post("/rollout/promote", &right, b"now!").unwrap();
    assert_problem(&reply, 400, "not the JSON expected");
    assert!(!stage.service.pilot().unwrap().is_over());
    assert_eq!(stage.service.pilot().unwrap().status().step, (1, 2));
    stage.goes_on();
}
