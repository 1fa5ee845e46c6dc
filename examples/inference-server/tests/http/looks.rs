//! What a person sees who looks how things stand. With `PAGES` in the environment the pages are
//! printed, to be read.

use inference_server::client::{Client, Reply};
use inference_server::page_text::WIDTH;
use pilotage::rollout::plan::Plan;
use pilotage::share::TrafficShare;

use crate::server::{Process, plan};
use crate::stage::{Folder, RUST, Stage, models, soon};
use crate::steering::{by_hand, guarded, rolling_out};

fn text(client: &mut Client) -> String {
    let reply = client.get("/rollout?format=text").unwrap();
    assert!(reply.headers.iter().any(|h| h.starts_with("content-type: text/plain")), "{reply:?}");
    checked(reply.plain)
}

#[track_caller]
fn checked(text: String) -> String {
    if std::env::var_os("PAGES").is_some() {
        println!("{}\n{text}", "=".repeat(WIDTH));
    }
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
    }
    assert!(!text.contains("ns since") && !text.contains("nanos"), "{text}");
    text
}

fn ask(stage: &Stage, users: usize) {
    let mut client = stage.client();
    for user in 0..users {
        let name = format!("user-{user}");
        assert_eq!(client.post("/classify", &[("x-user-id", &name)], RUST).unwrap().status, 200);
    }
}

#[test]
fn the_page_is_json_unless_text_is_asked_for() {
    let stage = rolling_out();
    let raw = |head: &str| -> Reply {
        let request = format!("GET /rollout HTTP/1.1\r\nhost: x\r\n{head}\r\n");
        stage.operator().exchange(request.as_bytes()).unwrap()
    };
    assert!(raw("").body["rollout"].is_object());
    assert!(raw("accept: */*\r\n").body["rollout"].is_object());
    assert!(raw("accept: text/plain\r\n").plain.starts_with("standard_v3_1: stage 1 of 3"));
    let reply = stage.operator().get("/rollout?format=yaml").unwrap();
    crate::stage::assert_problem(&reply, 400, "no format `yaml`");
}

#[test]
fn the_first_line_says_what_how_far_how_healthy_and_what_it_waits_for() {
    let stage = guarded(Plan::quick());
    let none = text(&mut stage.operator());
    assert!(none.starts_with("No rollout. standard_v3_3 serves everybody.\n"), "{none}");
    assert_eq!(stage.order("start", r#"{"candidate": "standard_v3_1", "who": "ann"}"#).status, 200);
    ask(&stage, 30);
    soon(|| text(&mut stage.operator()).contains("no harm seen"));
    let shadow = text(&mut stage.operator());
    let first = shadow.lines().next().unwrap();
    assert!(first.starts_with("standard_v3_1: stage 1 of 5 (shadow), 0 % of users, "), "{first}");
    assert!(first.contains("; waits for 1") && first.contains(" more pairs and 4m"), "{first}");
    assert!(shadow.contains("\n  in shadow  standard_v3_1 "), "{shadow}");

    let place = r#"{"who": "ann", "why": "shadow was clean yesterday", "stage": "shadow"}"#;
    assert_eq!(stage.order("promote", place).status, 200);
    let canary = text(&mut stage.operator());
    assert!(
        canary.starts_with("standard_v3_1: stage 2 of 5, 5 % of users, no data yet"),
        "{canary}"
    );
    assert!(canary.contains(", by ann: override by ann: shadow was clean"), "{canary}");
}

#[test]
fn arms_have_names_numbers_and_units() {
    let stage = rolling_out();
    ask(&stage, 40);
    soon(|| {
        stage.operator().get("/rollout").unwrap().body["rollout"]["arms"][1]["p95_ms"].is_number()
    });
    let page = stage.operator().get("/rollout").unwrap().body;
    let arms = &page["rollout"]["arms"];
    assert_eq!((&arms[0]["arm"], &arms[0]["model"]), (&"baseline".into(), &"standard_v3_3".into()));
    assert_eq!(
        (&arms[1]["arm"], &arms[1]["model"]),
        (&"candidate".into(), &"standard_v3_1".into())
    );
    assert_eq!(arms[0]["calls"].as_u64().unwrap() + arms[1]["calls"].as_u64().unwrap(), 40);
    assert_eq!(arms[1]["errors_percent"], 0.0);
    // The crate's own status is there as well, whole.
    assert_eq!(page["status"]["step"], serde_json::json!([1, 3]));
    let shown = text(&mut stage.operator());
    let line = shown.lines().find(|line| line.starts_with("  candidate  standard_v3_1")).unwrap();
    assert!(line.contains("0.00 %") && line.contains(" ms"), "{line}");
}

#[test]
fn a_page_of_every_state_fits_and_says_what_it_is() {
    let stage = guarded(by_hand());
    stage.order("start", r#"{"candidate": "standard_v3_1", "who": "ann", "why": "faster"}"#);
    ask(&stage, 60);
    stage.order("drill", "");
    stage.order("pause", r#"{"who": "ann\u001b[2J", "why": "the error rate of premium users looks odd, and nobody who knows the model is awake; go on in the morning if the numbers hold"}"#);
    let paused = text(&mut stage.operator());
    let first = "standard_v3_1: PAUSED in stage 1 of 3, 25 % of users, no harm seen; waits for POST \
                 /rollout/resume\n";
    assert!(paused.starts_with(first), "{paused}");
    assert!(paused.contains("\n  paused by ann"), "{paused}");
    assert!(!paused.contains('\u{1b}'), "{paused:?}");
    assert!(paused.contains("To order    \"stage\": \"25 %\", \"revision\": "), "{paused}");
    stage.order("resume", r#"{"stage": "25 %", "who": "ann"}"#);
    stage.order("promote", r#"{"stage": "25 %", "fully": true, "who": "ann"}"#);
    let promoted = text(&mut stage.operator());
    assert!(
        promoted.starts_with("standard_v3_1: PROMOTED; abort brings standard_v3_3 back until 2")
    );
    assert!(promoted.contains("since the promotion"), "{promoted}");
    stage.order("abort", r#"{"who": "bob", "why": "users complain"}"#);
    let aborted = text(&mut stage.operator());
    assert!(aborted.starts_with("standard_v3_1: ABORTED in stage "), "{aborted}");
    assert!(aborted.lines().next().unwrap().ends_with("standard_v3_3 serves everybody"));
    assert!(aborted.contains("bob: users complain"), "{aborted}");
}

#[test]
fn a_rollout_that_waits_for_a_person_says_for_which_order() {
    let minute = std::time::Duration::from_secs(60);
    let by_hand = Plan::builder()
        .canary(TrafficShare::HALF, minute, 1_000)
        .edit_last(|stage| stage.at_most = minute)
        .full(minute, 1_000)
        .start_by_hand()
        .build()
        .unwrap();
    let stage = guarded(by_hand);
    assert_eq!(stage.order("start", r#"{"candidate": "standard_v3_1", "who": "ann"}"#).status, 200);
    soon(|| text(&mut stage.operator()).contains("waits for POST /rollout/start"));
    let waiting = text(&mut stage.operator());
    assert!(waiting.starts_with("standard_v3_1: not begun yet, 2 stages, "), "{waiting}");
    assert_eq!(stage.order("start", r#"{"who": "ann"}"#).body["did"], "done");
    let begun = text(&mut stage.operator());
    assert!(begun.starts_with("standard_v3_1: stage 1 of 2, 50 % of users"), "{begun}");

    let moment = std::time::Duration::from_millis(100);
    let short = Plan::builder()
        .canary(TrafficShare::HALF, moment, 1_000)
        .edit_last(|stage| stage.at_most = moment)
        .full(moment, 1_000)
        .build()
        .unwrap();
    let stage = guarded(short);
    assert_eq!(stage.order("start", r#"{"candidate": "standard_v3_1", "who": "ann"}"#).status, 200);
    soon(|| text(&mut stage.operator()).contains("waits for a person (no data)\n"));
    let held = text(&mut stage.operator());
    assert!(held.contains("\n  a person decides: extend, promote or abort\n"), "{held}");
}

#[test]
fn a_rollback_says_on_which_numbers() {
    let stage = guarded(by_hand());
    let sabotage = std::sync::Arc::new(inference_server::arm::Sabotage::default());
    sabotage.turn_on(inference_server::fault::Fault::Errors(1.0));
    let candidate = inference_server::model::Classifier::load(&models(), "standard_v3_1").unwrap();
    stage.service.rollouts().roll_out(std::sync::Arc::new(candidate), sabotage).unwrap();
    let mut client = stage.client();
    for number in 0..4_000 {
        let user = format!("user-{number}");
        let _ = client.post("/classify", &[("x-user-id", &user)], RUST).unwrap();
        if number % 50 == 0 && stage.service.rollouts().present().unwrap().pilot.is_over() {
            break;
        }
    }
    soon(|| text(&mut stage.operator()).contains("critical: "));
    let page = text(&mut stage.operator());
    assert!(page.starts_with("standard_v3_1: ROLLED BACK in stage 1 of 3 (25 %)"), "{page}");
    assert!(page.contains("100.00 %") && page.contains("to try again: POST /rollout/retry"));
}

#[test]
fn a_journal_that_cannot_be_written_is_trouble_on_the_second_line() {
    let folder = Folder::new("unwritable");
    let inside = folder.0.join("inside");
    std::fs::create_dir_all(&inside).unwrap();
    let journal = inside.join("rollout.journal").display().to_string();
    let plan = plan(&folder.0).display().to_string();
    let process = Process::start(
        &models(),
        &[
            "--baseline",
            "standard_v2_1",
            "--candidate",
            "standard_v3_3",
            "--journal",
            &journal,
            "--plan",
            &plan,
        ],
    );
    let well = checked(process.text());
    assert!(well.contains("Journal     written to "), "{well}");
    std::fs::remove_dir_all(&inside).unwrap();
    let reply = process.order("promote", r#"{"stage": "25 %", "who": "ann"}"#);
    crate::stage::assert_problem(&reply, 503, "could not be written down");
    let page = checked(process.text());
    assert!(page.lines().nth(1).unwrap().starts_with("! the journal cannot be written"), "{page}");
    assert!(page.contains("Journal     NOT WRITTEN to "), "{page}");
    let stopped = process.order("abort", "");
    assert_eq!(stopped.status, 200, "{stopped:?}");
    assert!(stopped.body["recorded"]["failed"]["why"].is_string(), "{stopped:?}");
    checked(process.text());
}
