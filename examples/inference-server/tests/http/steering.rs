//! What operators may and may not order.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inference_server::model::Classifier;
use inference_server::rollouts::RolloutSettings;
use inference_server::service::Settings;
use pilotage::rollout::plan::Plan;
use pilotage::share::TrafficShare;
use serde_json::Value;

use crate::stage::{RUST, Stage, assert_problem, models};

const STOPS: [&str; 3] = ["abort", "kill", "pause"];
const OTHERS: [&str; 7] = ["resume", "approve", "extend", "retry", "promote", "drill", "finish"];

pub fn guarded(plan: Plan) -> Stage {
    let every = Duration::from_millis(20);
    let rollouts = RolloutSettings { models: models(), plan, every, ..RolloutSettings::default() };
    let token = Some("open sesame".to_owned());
    let settings = Settings { token, rollouts, ..Settings::default() };
    Stage::with(&models(), "standard_v3_3", &settings)
}

pub fn by_hand() -> Plan {
    let five = Duration::from_secs(300);
    Plan::builder()
        .canary(TrafficShare::percent(25.0).unwrap(), five, 1_000_000)
        .canary(TrafficShare::HALF, five, 1_000_000)
        .full(five, 1_000_000)
        .build()
        .unwrap()
}

pub fn rolling_out() -> Stage {
    let stage = guarded(by_hand());
    let candidate = Arc::new(Classifier::load(&models(), "standard_v3_1").unwrap());
    stage.service.rollouts().roll_out(candidate, Arc::default()).unwrap();
    stage
}

fn rollout(stage: &Stage) -> Value {
    stage.operator().get("/rollout").unwrap().body["rollout"].clone()
}

#[test]
fn without_a_token_nobody_may_order_anything() {
    let stage = Stage::new();
    for name in STOPS.iter().chain(&OTHERS) {
        let path = format!("/rollout/{name}");
        let nobody = [("authorization", "Bearer ")];
        let reply = stage.operator().post(&path, &nobody, b"").unwrap();
        assert_problem(&reply, 403, "no token is set");
    }
    stage.goes_on();
}

#[test]
fn a_wrong_token_is_refused_whatever_the_body_is() {
    let stage = rolling_out();
    for name in STOPS.iter().chain(&OTHERS) {
        let path = format!("/rollout/{name}");
        for wrong in ["open sesame", "Bearer open sesam", "Basic open sesame", "Bearer", ""] {
            for body in [&b""[..], b"now!"] {
                let mut operator = stage.operator();
                let reply = operator.post(&path, &[("authorization", wrong)], body).unwrap();
                assert_problem(&reply, 401, "missing or wrong");
            }
        }
        let reply = stage.operator().get(&path).unwrap();
        assert_problem(&reply, 405, "does not take this method");
    }
    assert_eq!(rollout(&stage)["end"], Value::Null);
    stage.goes_on();
}

#[test]
fn a_bearer_is_taken_in_any_case() {
    let stage = rolling_out();
    for scheme in ["Bearer", "bearer", "BEARER  "] {
        let header = format!("{scheme} open sesame");
        let reply = stage.operator().post("/rollout/pause", &[("authorization", &header)], b"");
        assert_eq!(reply.unwrap().status, 200, "{scheme}");
    }
}

#[test]
fn an_order_without_a_rollout_is_refused() {
    let stage = guarded(by_hand());
    for name in STOPS.iter().chain(&OTHERS) {
        let body = if *name == "extend" { r#"{"by": "1h"}"# } else { "" };
        assert_problem(&stage.order(name, body), 409, "no rollout is under way");
    }
    assert_problem(&stage.order("start", ""), 400, "of which candidate");
    assert_problem(&stage.order("dance", ""), 404, "no order `dance`");
    stage.goes_on();
}

#[test]
fn users_have_no_way_to_orders_and_see_nothing_of_rollouts() {
    let stage = rolling_out();
    let right = [("authorization", "Bearer open sesame")];
    for path in ["/rollout/abort", "/rollout"] {
        let reply = stage.client().post(path, &right, b"").unwrap();
        assert_problem(&reply, 404, "nothing at this address");
    }
    assert_problem(&stage.client().get("/rollout").unwrap(), 404, "nothing at this address");
    assert_problem(&stage.operator().post("/classify", &[], RUST).unwrap(), 404, "nothing at");
}

#[test]
fn an_abort_takes_the_candidate_out_before_it_is_answered() {
    let stage = rolling_out();
    let mut client = stage.client();
    for number in 0..40 {
        let user = format!("user-{number}");
        assert_eq!(client.post("/classify", &[("x-user-id", &user)], RUST).unwrap().status, 200);
    }
    let before = stage.service.router().totals()[1].started;
    assert!(before > 2, "the candidate served {before} of 40 at 25 %");
    let reply = stage.order("abort", r#"{"who": "ann", "why": "looks odd"}"#);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body["did"], "stopped", "{reply:?}");
    assert_eq!(reply.body["recorded"], "no_journal", "{reply:?}");
    assert!(reply.body.get("unreadable").is_none(), "{reply:?}");
    for number in 0..40 {
        let user = format!("user-{number}");
        assert_eq!(client.post("/classify", &[("x-user-id", &user)], RUST).unwrap().status, 200);
    }
    assert_eq!(stage.service.router().totals()[1].started, before);
    let now = rollout(&stage);
    assert_eq!(now["end"], "aborted", "{now}");
    let last = now["steps"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["who"], &last["why"]), (&"ann".into(), &"looks odd".into()), "{now}");
    let late = stage.order("promote", r#"{"stage": "25 %"}"#);
    assert_problem(&late, 409, "over");
    // What was aborted can still be killed: then no retry leads out of it.
    assert_eq!(stage.order("kill", "").status, 200);
    assert_problem(&stage.order("retry", ""), 409, "over");
    stage.goes_on();
}

#[test]
fn a_stop_with_an_unreadable_body_stops_and_says_what_was_unreadable() {
    let nested = "[".repeat(10_000);
    let long = " ".repeat(20_000);
    let cases = [
        ("{who: ann}", "not JSON"),
        ("\u{0}\u{1}", "not JSON"),
        (&nested, "not JSON"),
        (&long, "more than 16384 bytes"),
        ("[]", "no object"),
        (r#"{"who": ""}"#, "who is empty"),
        (r#"{"who": 5, "why": {}}"#, "who is no text; why is no text"),
        (r#"{"who": "ann", "reason": "typo"}"#, "no field \"reason\""),
    ];
    for (number, (body, hint)) in cases.iter().enumerate() {
        let stage = rolling_out();
        let name = ["abort", "kill"][number % 2];
        let reply = stage.order(name, body);
        assert_eq!(reply.status, 200, "{hint}: {reply:?}");
        assert!(reply.text("unreadable").contains(hint), "{hint}: {reply:?}");
        assert_eq!(reply.body["did"], "stopped", "{hint}: {reply:?}");
        assert_eq!(stage.service.router().split().candidate, TrafficShare::NONE, "{hint}");
        if body.contains("ann\"") {
            let steps = rollout(&stage)["steps"].to_string();
            assert!(steps.contains("ann"), "what could be read is kept: {steps}");
        }
    }
}

#[test]
fn a_pause_with_an_unreadable_body_pauses() {
    let stage = rolling_out();
    let reply = stage.order("pause", "{oops");
    assert_eq!((reply.status, &reply.body["did"]), (200, &"paused".into()), "{reply:?}");
    assert!(reply.text("unreadable").contains("not JSON"), "{reply:?}");
    assert!(rollout(&stage)["waits_for"].as_str().unwrap().contains("resume"));
}

#[test]
fn a_stop_does_not_wait_for_a_slow_body() {
    let stage = rolling_out();
    let mut stream = TcpStream::connect(stage.admin.address()).unwrap();
    let head = "POST /rollout/abort HTTP/1.1\r\nhost: x\r\nauthorization: bearer open sesame\r\n\
                content-length: 100\r\n\r\n{\"who\": ";
    let began = Instant::now();
    stream.write_all(head.as_bytes()).unwrap();
    let mut start = [0; 15];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 OK");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(rollout(&stage)["end"], "aborted");
}

#[test]
fn a_stop_whose_connection_breaks_off_stops() {
    let stage = rolling_out();
    let mut stream = TcpStream::connect(stage.admin.address()).unwrap();
    let head = "POST /rollout/kill HTTP/1.1\r\nhost: x\r\nauthorization: bearer open sesame\r\n\
                content-length: 100\r\n\r\n{\"who\": ";
    stream.write_all(head.as_bytes()).unwrap();
    drop(stream);
    crate::stage::soon(|| rollout(&stage)["end"] == "killed");
}

#[test]
fn an_order_that_raises_says_for_what_place_and_two_clicks_skip_no_stage() {
    let stage = rolling_out();
    for (name, body) in
        [("promote", ""), ("approve", ""), ("extend", r#"{"by": "2h"}"#), ("resume", "")]
    {
        let reply = stage.order(name, body);
        assert_problem(&reply, 409, "says none");
        assert!(reply.text("remedy").contains("\"stage\": \"25 %\""), "{reply:?}");
        assert_eq!(reply.body["now"]["stage"], "25 %", "{reply:?}");
    }
    let here = rollout(&stage);
    let click = format!(r#"{{"who": "ann", "stage": "25 %", "revision": {}}}"#, here["revision"]);
    let first = stage.order("promote", &click);
    assert_eq!((first.status, &first.body["did"]), (200, &"done".into()), "{first:?}");
    let second = stage.order("promote", &click);
    assert_eq!((second.status, &second.body["did"]), (200, &"same".into()), "{second:?}");
    // A third that names the stage alone, as it was seen before the first.
    let third = stage.order("promote", r#"{"who": "bob", "stage": "25 %"}"#);
    assert_problem(&third, 409, "25 %");
    assert_eq!(third.body["now"]["stage"], "50 %", "{third:?}");
    assert_eq!(rollout(&stage)["stage"], "50 %");
    stage.goes_on();
}

#[test]
fn an_order_that_does_not_stop_and_cannot_be_read_changes_nothing() {
    let stage = rolling_out();
    let refused = |name, body, hint| assert_problem(&stage.order(name, body), 400, hint);
    refused("promote", r#"{"who": "", "stage": "25 %"}"#, "who gives the order");
    refused("promote", "now!", "not the JSON expected");
    refused("promote", r#"{"stgae": "25 %"}"#, "stgae");
    refused("promote", r#"{"stage": "25 %", "by": "1h"}"#, "by means nothing for promote");
    refused("extend", r#"{"stage": "25 %"}"#, "by how much");
    refused("extend", r#"{"stage": "25 %", "by": "two days"}"#, "two days");
    assert_eq!(stage.service.rollouts().present().unwrap().pilot.status().step, (1, 3));
    stage.goes_on();
}

#[test]
fn a_pause_holds_until_it_is_resumed_and_an_extension_is_noted() {
    let stage = rolling_out();
    assert_eq!(stage.order("pause", r#"{"who": "ann", "why": "lunch"}"#).body["did"], "paused");
    let paused = stage.order("promote", r#"{"stage": "25 %"}"#);
    assert_problem(&paused, 409, "is paused (ann: lunch)");
    let resumed = stage.order("resume", r#"{"who": "ann", "stage": "25 %"}"#);
    assert_eq!((resumed.status, &resumed.body["did"]), (200, &"done".into()), "{resumed:?}");
    let extended = stage.order("extend", r#"{"who": "ann", "stage": "25 %", "by": "2h"}"#);
    assert_eq!(extended.status, 200, "{extended:?}");
    assert!(rollout(&stage)["steps"].to_string().contains("extended by 2h"));
    let nothing = stage.order("approve", r#"{"stage": "25 %"}"#);
    assert_problem(&nothing, 409, "does not ask for one");
    assert_problem(&stage.order("start", ""), 409, "begun already");
}

#[test]
fn a_drill_proves_the_way_back_and_is_shown() {
    let stage = rolling_out();
    let reply = stage.order("drill", "");
    assert_eq!((reply.status, &reply.body["passed"]), (200, &true.into()), "{reply:?}");
    assert!(reply.text("report").contains("stable answers warm"), "{reply:?}");
    assert!(reply.body["steps"][1]["took_ms"].as_f64().unwrap() > 0.0, "{reply:?}");
    assert!(rollout(&stage)["drill"].as_str().unwrap().starts_with("passed at 2"));
}

#[test]
fn a_second_rollout_follows_the_first_without_a_restart() {
    let stage = rolling_out();
    let next = r#"{"candidate": "standard_v2_1", "who": "ann"}"#;
    let busy = stage.order("start", next);
    assert_problem(&busy, 409, "rollout of standard_v3_1");
    assert!(busy.text("remedy").contains("take_over"), "{busy:?}");
    stage.order("abort", "");
    assert_problem(&stage.order("start", r#"{"candidate": "none"}"#), 400, "none");
    assert_problem(&stage.order("start", r#"{"candidate": "../etc"}"#), 400, "model name");
    assert_problem(&stage.order("start", r#"{"candidate": "standard_v3_3"}"#), 409, "already");
    let begun = stage.order("start", next);
    assert_eq!((begun.status, begun.text("candidate")), (200, "standard_v2_1"), "{begun:?}");
    let mut client = stage.client();
    for number in 0..40 {
        let user = format!("user-{number}");
        assert_eq!(client.post("/classify", &[("x-user-id", &user)], RUST).unwrap().status, 200);
    }
    let page = stage.operator().get("/rollout").unwrap().body;
    assert_eq!(page["rollout"]["arms"][1]["model"], "standard_v2_1", "{page}");
    assert!(page["rollout"]["arms"][1]["calls"].as_u64().unwrap() > 2, "{page}");
    assert_eq!(page["earlier"][0]["candidate"], "standard_v3_1", "{page}");
    // Also one that is under way makes room, where that is said.
    let over = r#"{"candidate": "standard_v3_1", "who": "bob", "take_over": true, "again": true}"#;
    assert_eq!(stage.order("start", over).status, 200);
    let page = stage.operator().get("/rollout").unwrap().body;
    assert_eq!(page["rollout"]["candidate"], "standard_v3_1");
    assert_eq!(page["earlier"][1]["end"], "aborted", "{page}");
    stage.goes_on();
}

#[test]
fn a_promotion_is_taken_back_by_an_abort_until_it_is_finished() {
    let stage = rolling_out();
    let all = r#"{"stage": "25 %", "fully": true, "who": "ann", "why": "sure"}"#;
    assert_eq!(stage.order("promote", all).status, 200);
    assert_eq!(stage.service.baseline(), "standard_v3_1");
    assert_eq!(rollout(&stage)["arms"][0]["model"], "standard_v3_1");
    let back = stage.order("abort", r#"{"who": "bob", "why": "worse"}"#);
    assert_eq!(back.body["did"], "took_promotion_back", "{back:?}");
    assert_eq!(stage.service.baseline(), "standard_v3_3");

    let again = r#"{"candidate": "standard_v3_1", "again": true}"#;
    assert_eq!(stage.order("start", again).status, 200);
    assert_eq!(stage.order("promote", all).status, 200);
    assert_problem(&stage.order("start", r#"{"candidate": "standard_v2_1"}"#), 409, "moves");
    assert_eq!(stage.order("finish", "").status, 200);
    let late = stage.order("abort", "");
    assert_problem(&late, 409, "was promoted");
    assert!(late.text("remedy").contains("/rollout/start"), "{late:?}");
    assert_eq!(stage.service.baseline(), "standard_v3_1");
    assert_eq!(stage.order("start", r#"{"candidate": "standard_v2_1"}"#).status, 200);
    stage.goes_on();
}

#[test]
fn what_was_rolled_back_by_evidence_can_be_retried() {
    let stage = guarded(by_hand());
    let sabotage = Arc::new(inference_server::arm::Sabotage::default());
    sabotage.turn_on(inference_server::fault::Fault::Errors(1.0));
    let candidate = Arc::new(Classifier::load(&models(), "standard_v3_1").unwrap());
    stage.service.rollouts().roll_out(candidate, Arc::clone(&sabotage)).unwrap();
    let mut client = stage.client();
    for number in 0..4_000 {
        let user = format!("user-{number}");
        let _ = client.post("/classify", &[("x-user-id", &user)], RUST).unwrap();
        if number % 50 == 0 && stage.service.rollouts().present().unwrap().pilot.is_over() {
            break;
        }
    }
    assert_eq!(rollout(&stage)["end"], "rolled_back", "{}", rollout(&stage));
    let again = stage.order("start", r#"{"candidate": "standard_v3_1"}"#);
    assert_problem(&again, 409, "tried before and is rolled back");
    assert!(again.text("remedy").contains("/rollout/retry"), "{again:?}");
    sabotage.turn_on(inference_server::fault::Fault::None);
    let retried = stage.order("retry", r#"{"who": "ann", "why": "fixed"}"#);
    assert_eq!(retried.status, 200, "{retried:?}");
    assert_eq!(rollout(&stage)["end"], Value::Null);
    assert_eq!(rollout(&stage)["stage"], "25 %");
}
