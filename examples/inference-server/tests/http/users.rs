//! What users send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use inference_server::service::Settings;
use pilotage::ids::Arm;

use crate::onnx::{CONFIG, Flaw, network};
use crate::stage::{Folder, RUST, Stage, assert_problem, begun, models};

#[test]
fn an_answer_has_label_score_and_ticket_and_its_truth_counts_once() {
    let stage = Stage::new();
    let mut client = stage.client();
    let headers = [("x-user-id", "ann"), ("x-segment", "premium")];
    let reply = client.post("/classify", &headers, RUST).unwrap();
    assert_eq!((reply.status, reply.text("label")), (200, "rust"));
    assert!(reply.body["score"].as_f64().unwrap() > 0.5, "{reply:?}");

    let truth = serde_json::json!({ "ticket": reply.text("ticket"), "label": "rust" }).to_string();
    let first = client.post("/outcome", &[], truth.as_bytes()).unwrap();
    assert_eq!((first.status, first.text("counted")), (200, "in_force"), "{first:?}");
    let second = client.post("/outcome", &[], truth.as_bytes()).unwrap();
    assert_problem(&second, 409, "counted before");
    let snapshot = stage.service.router().snapshot();
    let baseline = snapshot.arm(Arm::BASELINE).unwrap();
    assert_eq!((baseline.correct, baseline.wrong), (1, 0));
    stage.goes_on();
}

#[test]
fn an_empty_body_is_refused() {
    let stage = Stage::new();
    let reply = stage.client().post("/classify", &[("x-user-id", "ann")], b"").unwrap();
    assert_problem(&reply, 400, "body is empty");
    assert_eq!(begun(&stage), 0);
    stage.goes_on();
}

#[test]
fn a_truncated_body_begins_no_call() {
    let stage = Stage::new();
    let mut stream = TcpStream::connect(stage.running.address()).unwrap();
    stream.write_all(b"POST /classify HTTP/1.1\r\nhost: x\r\nx-user-id: ann\r\n").unwrap();
    stream.write_all(b"content-length: 1000\r\n\r\nonly this").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    // The connection is closed, with or without a last word.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains(" 200 "), "{rest:?}");
    assert_eq!(begun(&stage), 0);
    stage.goes_on();
}

#[test]
fn a_body_of_100_mib_is_refused_before_any_of_it_is_read() {
    let stage = Stage::new();
    let head = "POST /classify HTTP/1.1\r\nhost: x\r\nx-user-id: ann\r\ncontent-length: 104857600";
    let began = Instant::now();
    let reply = stage.raw(format!("{head}\r\n\r\n").as_bytes());
    assert_problem(&reply, 413, "more than 1048576 bytes");
    assert!(began.elapsed() < Duration::from_secs(2));
    stage.goes_on();
}

#[test]
fn a_body_that_does_not_say_its_length_is_refused_at_the_limit() {
    let stage = Stage::new();
    let mut stream = TcpStream::connect(stage.running.address()).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let head = b"POST /classify HTTP/1.1\r\nhost: x\r\nx-user-id: ann\r\n";
    stream.write_all(&[&head[..], b"transfer-encoding: chunked\r\n\r\n"].concat()).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let answer = thread::spawn(move || {
        let mut start = [0; 12];
        let _ = reader.read_exact(&mut start);
        String::from_utf8_lossy(&start).into_owned()
    });
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 65_536], b"\r\n".to_vec()].concat();
    let mut sent = 0;
    while sent < 100 << 20 && stream.write_all(&chunk).is_ok() {
        sent += chunk.len();
    }
    // What fits into the sockets' buffers was taken off our hands, and no more.
    assert!(sent < 32 << 20, "{sent} bytes were taken");
    assert_eq!(answer.join().unwrap(), "HTTP/1.1 413");
    assert_eq!(begun(&stage), 0);
    stage.goes_on();
}

#[test]
fn a_user_id_that_is_missing_empty_huge_or_no_text_is_refused() {
    let stage = Stage::new();
    let ask = |header: &[u8]| {
        let rest = b"\r\nhost: x\r\ncontent-length: 4\r\n\r\ntext";
        stage.raw(&[b"POST /classify HTTP/1.1\r\n", header, rest].concat())
    };
    assert_problem(&ask(b"accept: *"), 400, "x-user-id is missing");
    assert_problem(&ask(b"x-user-id:"), 400, "x-user-id is empty");
    assert_problem(&ask(b"x-user-id: \xff\xfe"), 400, "x-user-id is not UTF-8");
    assert_problem(&ask(b"x-user-id: a\r\nx-user-id: b"), 400, "more than once");
    let mut huge = b"x-user-id: ".to_vec();
    huge.resize(huge.len() + (1 << 20), b'u');
    assert_problem(&ask(&huge), 400, "x-user-id has 1048576 bytes");
    assert_problem(&ask(b"x-user-id: a\r\nx-segment: \xff"), 400, "x-segment is not UTF-8");
    assert_eq!(begun(&stage), 0);
    let reply = ask("x-user-id: größe".as_bytes());
    assert_eq!(reply.status, 200, "{reply:?}");
    stage.goes_on();
}

#[test]
fn a_ticket_that_is_unknown_or_mangled_is_refused() {
    let stage = Stage::new();
    let mut client = stage.client();
    let tell = |ticket: &str| {
        let truth = serde_json::json!({ "ticket": ticket, "label": "rust" }).to_string();
        stage.client().post("/outcome", &[], truth.as_bytes()).unwrap()
    };
    let reply = client.post("/classify", &[("x-user-id", "ann")], RUST).unwrap();
    let ticket = reply.text("ticket");
    assert_problem(&tell("yesterday"), 400, "hexadecimal digits");
    assert_problem(&tell(""), 400, "hexadecimal digits");
    let last = if ticket.ends_with('0') { "1" } else { "0" };
    let changed = format!("{}{last}", &ticket[..ticket.len() - 1]);
    assert_problem(&tell(&changed), 404, "not given out by this server");
    assert_problem(&tell(&"0".repeat(ticket.len())), 404, "not given out by this server");
    // None of this used the true ticket up.
    assert_eq!(tell(ticket).status, 200);
    stage.goes_on();
}

#[test]
fn a_truth_that_is_no_json_or_too_long_is_refused() {
    let stage = Stage::new();
    let tell = |body: &[u8]| stage.client().post("/outcome", &[], body).unwrap();
    assert_problem(&tell(b""), 400, "not the JSON expected");
    assert_problem(&tell(b"{\"ticket\": 1}"), 400, "not the JSON expected");
    let nested = "[".repeat(10_000);
    assert_problem(&tell(nested.as_bytes()), 400, "not the JSON expected");
    assert_problem(&tell(&vec![b' '; 20_000]), 413, "more than 16384 bytes");
    assert_problem(&tell(b"{\"ticket\": \"00\", \"label\": \"\"}"), 400, "a label of 0 bytes");
    stage.goes_on();
}

#[test]
fn an_unknown_address_or_method_is_answered_in_json() {
    let stage = Stage::new();
    assert_problem(&stage.client().get("/nowhere").unwrap(), 404, "nothing at this address");
    assert_problem(&stage.client().get("/classify").unwrap(), 405, "does not take this method");
    let health = stage.client().get("/healthz").unwrap();
    assert_eq!((health.status, health.text("model")), (200, "standard_v3_3"));
    stage.goes_on();
}

#[test]
fn a_network_that_gives_nan_fails_that_call_alone() {
    let folder = Folder::new("nan");
    folder.write("flawed/config.min.json", CONFIG);
    folder.write("flawed/model.onnx", &network(Flaw::NanForShort));
    let stage = Stage::with(&folder.0, "flawed", &Settings::default());
    let mut client = stage.client();
    let reply = client.post("/classify", &[("x-user-id", "ann")], b"eight or more").unwrap();
    assert_eq!((reply.status, reply.text("label")), (200, "b"), "{reply:?}");
    let reply = client.post("/classify", &[("x-user-id", "ann")], b"short").unwrap();
    assert_problem(&reply, 500, "scored label `a` with NaN");
    let reply = client.post("/classify", &[("x-user-id", "ann")], b"eight or more").unwrap();
    assert_eq!(reply.status, 200);
    let totals = stage.service.router().totals();
    assert_eq!((totals[0].started, totals[0].failures(), totals[0].in_flight()), (3, 1, 0));
}

#[test]
fn more_users_than_fit_are_turned_away_and_counted() {
    let settings = Settings { threads: 1, queue: 1, ..Settings::default() };
    let stage = Stage::with(&models(), "standard_v3_3", &settings);
    let (served, away) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for user in 0..16 {
            let (stage, served, away) = (&stage, &served, &away);
            scope.spawn(move || {
                let name = format!("user-{user}");
                let reply =
                    stage.client().post("/classify", &[("x-user-id", &name)], RUST).unwrap();
                if reply.status == 200 {
                    served.fetch_add(1, Ordering::Relaxed);
                } else {
                    assert_problem(&reply, 503, "more requests wait");
                    assert!(reply.headers.contains(&"retry-after: 1".to_owned()), "{reply:?}");
                    away.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (served, away) = (served.into_inner(), away.into_inner());
    assert_eq!(served + away, 16);
    assert!(away > 0, "sixteen users at once fitted into two places");
    let status = stage.operator().get("/rollout").unwrap();
    assert_eq!(status.body["server"]["overloaded"], away);
    assert_eq!(begun(&stage), served);
    stage.goes_on();
}
