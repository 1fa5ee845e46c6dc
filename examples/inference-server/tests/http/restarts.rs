//! What a server does after a restart, with the command line of before.

use crate::onnx::{CONFIG, Flaw, network};
use crate::server::{Process, plan};
use crate::stage::{Folder, assert_problem, models, soon};

struct Setting {
    folder: Folder,
    journal: String,
    plan: String,
}

impl Setting {
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let journal = folder.0.join("rollout.journal").display().to_string();
        let plan = plan(&folder.0).display().to_string();
        Self { folder, journal, plan }
    }

    /// The same command line every time.
    fn start(&self) -> Process {
        self.start_with("standard_v3_3")
    }

    fn start_with(&self, candidate: &str) -> Process {
        let journal = ["--journal", &self.journal, "--plan", &self.plan];
        let names = ["--baseline", "standard_v2_1", "--candidate", candidate];
        Process::start(&models(), &[&names[..], &journal[..]].concat())
    }
}

#[test]
fn a_rollout_goes_on_after_kill_9_where_it_was() {
    let setting = Setting::new("goes-on");
    let first = setting.start();
    first.ask(20);
    let reply = first.order("promote", r#"{"who": "ann", "stage": "25 %", "why": "seen enough"}"#);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.body["recorded"], "written", "{reply:?}");
    assert_eq!(first.page()["rollout"]["stage"], "50 %");
    first.kill_hard();

    let second = setting.start();
    let page = second.page();
    assert_eq!(page["rollout"]["stage"], "50 %", "{page}");
    assert_eq!(page["rollout"]["share_percent"], 50.0, "{page}");
    let steps = page["rollout"]["steps"].to_string();
    assert!(steps.contains("ann") && steps.contains("resumed after a restart"), "{steps}");
    soon(|| second.log().contains("standard_v3_3 goes on where the journal left it"));
    second.ask(20);
    assert!(second.page()["rollout"]["arms"][1]["calls"].as_u64().unwrap() > 0);
}

#[test]
fn a_candidate_that_was_aborted_does_not_begin_again_by_itself() {
    let setting = Setting::new("rejected");
    let first = setting.start();
    let reply = first.order("abort", r#"{"who": "ann", "why": "it invents labels"}"#);
    assert_eq!(reply.body["recorded"], "written", "{reply:?}");
    first.kill_hard();

    let second = setting.start();
    assert_eq!(second.serves(), "standard_v2_1");
    let page = second.page();
    assert_eq!(page["rollout"]["end"], "aborted", "{page}");
    let because = page["no_rollout_because"].as_str().unwrap();
    assert!(because.contains("does not begin again by itself"), "{because}");
    assert!(because.contains("ann: it invents labels") && because.contains("\"again\": true"));
    soon(|| second.log().contains("does not begin again by itself"));
    second.ask(20);
    assert_eq!(second.page()["rollout"]["arms"][1]["calls"], 0);
    assert_eq!(second.operator().get("/readyz").unwrap().status, 200);

    let reply = second.order("start", r#"{"candidate": "standard_v3_3"}"#);
    assert_problem(&reply, 409, "was tried before and is aborted");
    let again = r#"{"candidate": "standard_v3_3", "again": true, "who": "bob", "why": "fixed"}"#;
    let reply = second.order("start", again);
    assert_eq!(reply.status, 200, "{reply:?}");
    let page = second.page();
    assert_eq!(page["rollout"]["stage"], "25 %", "{page}");
    assert_eq!(page["rollout"]["begun_by"], "bob: fixed");
    assert_eq!(page["earlier"][0]["end"], "aborted");
    assert!(page["no_rollout_because"].is_null());
}

#[test]
fn another_candidate_on_the_command_line_begins_once_the_journals_rollout_is_over() {
    let setting = Setting::new("another");
    setting.start().kill_hard();

    let second = setting.start_with("standard_v3_1");
    let page = second.page();
    assert_eq!(page["rollout"]["candidate"], "standard_v3_3", "{page}");
    let because = page["no_rollout_because"].as_str().unwrap();
    assert!(because.starts_with("standard_v3_1 is not rolled out: "), "{because}");
    assert_eq!(second.order("kill", r#"{"who": "ann"}"#).body["recorded"], "written");
    second.kill_hard();

    let third = setting.start_with("standard_v3_1");
    let page = third.page();
    assert_eq!(page["rollout"]["candidate"], "standard_v3_1", "{page}");
    assert_eq!(page["rollout"]["stage"], "25 %", "{page}");
    assert_eq!(page["earlier"][0]["end"], "killed", "{page}");
    third.kill_hard();

    // What was killed two journals ago is still remembered.
    let fourth = setting.start_with("standard_v3_1");
    assert_eq!(fourth.order("abort", "").status, 200);
    let again = fourth.order("start", r#"{"candidate": "standard_v3_3"}"#);
    assert_problem(&again, 409, "was tried before and is killed");
}

#[test]
fn a_rollout_that_takes_over_has_the_journal_for_itself() {
    let setting = Setting::new("takes-over");
    let first = setting.start();
    first.ask(10);
    let over = r#"{"candidate": "standard_v3_1", "take_over": true, "who": "ann"}"#;
    assert_eq!(first.order("start", over).status, 200);
    let reply = first.order("promote", r#"{"stage": "25 %", "who": "ann"}"#);
    assert_eq!(reply.body["recorded"], "written", "{reply:?}");
    first.kill_hard();

    let second = setting.start();
    let page = second.page();
    assert_eq!(page["rollout"]["candidate"], "standard_v3_1", "{page}");
    assert_eq!(page["rollout"]["stage"], "50 %", "{page}");
    assert_eq!(page["earlier"][0]["candidate"], "standard_v3_3", "{page}");
    assert_eq!(page["earlier"][0]["end"], "aborted", "{page}");
}

#[test]
fn what_was_rolled_back_is_retried_after_a_restart_by_an_order_alone() {
    let setting = Setting::new("retried");
    for file in ["config.min.json", "model.onnx"] {
        let bytes = std::fs::read(models().join("standard_v3_3").join(file)).unwrap();
        setting.folder.write(&format!("stable/{file}"), &bytes);
    }
    setting.folder.write("next/config.min.json", CONFIG);
    setting.folder.write("next/model.onnx", &network(Flaw::NanForShort));
    let start = || {
        let names = ["--baseline", "stable", "--candidate", "next"];
        let journal = ["--journal", &setting.journal, "--plan", &setting.plan];
        Process::start(&setting.folder.0, &[&names[..], &journal[..]].concat())
    };
    let first = start();
    let mut client = first.client();
    for user in 0.. {
        let name = format!("user-{user}");
        let _ = client.post("/classify", &[("x-user-id", &name)], b"short").unwrap();
        if user % 50 == 0 && !first.page()["rollout"]["end"].is_null() {
            break;
        }
        assert!(user < 5_000, "{}", first.text());
    }
    assert_eq!(first.page()["rollout"]["end"], "rolled_back");
    soon(|| first.page()["status"]["journal"]["waiting"] == 0);
    first.kill_hard();

    let second = start();
    let page = second.page();
    assert_eq!(page["rollout"]["end"], "rolled_back", "{page}");
    assert!(page["rollout"]["evidence"].to_string().contains("error rate of the candidate is 100"));
    second.ask(20);
    assert_eq!(second.page()["rollout"]["arms"][1]["calls"], 0);
    let reply = second.order("retry", r#"{"who": "ann", "why": "short contents are off now"}"#);
    assert_eq!(reply.status, 200, "{reply:?}");
    let page = second.page();
    assert!(page["rollout"]["end"].is_null(), "{page}");
    assert_eq!(page["rollout"]["share_percent"], 25.0, "{page}");
    assert!(page["no_rollout_because"].is_null(), "{page}");
}

#[test]
fn what_was_promoted_serves_after_a_restart_with_the_same_command_line() {
    let setting = Setting::new("promoted");
    let first = setting.start();
    let reply = first.order("promote", r#"{"fully": true, "stage": "25 %", "who": "ann"}"#);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(first.serves(), "standard_v3_3");
    assert!(first.text().contains("abort brings standard_v2_1 back until 2"), "{}", first.text());
    assert!(first.end().success());

    let second = setting.start();
    assert_eq!(second.serves(), "standard_v3_3");
    soon(|| second.log().contains("standard_v3_3 was promoted over standard_v2_1"));
    let page = second.page();
    assert_eq!(page["rollout"]["end"], "promoted", "{page}");
    assert!(page["no_rollout_because"].is_null(), "{page}");
    // The former baseline is not loaded any more: that is said, and not promised.
    assert!(page["rollout"]["way_back_until"].is_null(), "{page}");
    assert_problem(&second.order("abort", ""), 409, "was promoted");
    // The next rollout is one over the promoted model, and survives too.
    let reply = second.order("start", r#"{"candidate": "standard_v3_1", "who": "ann"}"#);
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = second.order("promote", r#"{"fully": true, "stage": "25 %", "who": "ann"}"#);
    assert_eq!(reply.status, 200, "{reply:?}");
    second.kill_hard();

    let third = setting.start();
    assert_eq!(third.serves(), "standard_v3_1");
    assert!(third.page()["no_rollout_because"].is_null(), "{}", third.page());
}

#[test]
fn a_damaged_journal_leaves_the_baseline_serving_and_is_left_alone() {
    let setting = Setting::new("damaged");
    let first = setting.start();
    first.ask(5);
    assert!(first.end().success());
    let mut bytes = std::fs::read(&setting.journal).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&setting.journal, &bytes).unwrap();

    let second = setting.start();
    assert_eq!(second.serves(), "standard_v2_1");
    second.ask(5);
    let page = second.page();
    assert!(page["rollout"].is_null(), "{page}");
    let because = page["no_rollout_because"].as_str().unwrap();
    assert!(because.contains("cannot be read") && because.contains("rollout.journal"), "{because}");
    assert_eq!(second.client().get("/readyz").unwrap().status, 200);
    let reply = second.order("start", r#"{"candidate": "standard_v3_3"}"#);
    assert_problem(&reply, 409, "journal");
    assert!(reply.text("remedy").contains("move "), "{reply:?}");
    assert_eq!(std::fs::read(&setting.journal).unwrap(), bytes);
    assert!(setting.folder.0.exists());
}

#[test]
fn without_a_journal_a_restart_begins_anew() {
    let setting = Setting::new("anew");
    let arguments = ["--baseline", "standard_v2_1", "--candidate", "standard_v3_3", "--plan"];
    let arguments = [&arguments[..], &[&setting.plan]].concat();
    let first = Process::start(&models(), &arguments);
    assert_eq!(first.order("kill", "").body["recorded"], "no_journal");
    first.kill_hard();
    let second = Process::start(&models(), &arguments);
    assert_eq!(second.page()["rollout"]["stage"], "25 %");
}
