//! How a process ends on purpose.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::server::{Process, plan};
use crate::stage::{Folder, RUST, models, soon};

#[test]
fn a_server_that_is_told_to_end_answers_what_is_under_way_and_leaves_the_rollout() {
    let folder = Folder::new("ends");
    let journal = folder.0.join("rollout.journal").display().to_string();
    let plan = plan(&folder.0).display().to_string();
    let arguments = [
        "--baseline",
        "standard_v2_1",
        "--candidate",
        "standard_v3_3",
        "--journal",
        &journal,
        "--plan",
        &plan,
    ];
    let mut process = Process::start(&models(), &arguments);
    assert_eq!(process.operator().get("/readyz").unwrap().status, 200);
    let mut stream = TcpStream::connect(process.users()).unwrap();
    let head = format!(
        "POST /classify HTTP/1.1\r\nhost: x\r\nx-user-id: ann\r\ncontent-length: {}\r\n\r\n",
        RUST.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&RUST[..20]).unwrap();
    thread::sleep(Duration::from_millis(300));

    process.signal("TERM");
    soon(|| process.operator().get("/readyz").is_ok_and(|reply| reply.status == 503));
    let health = process.operator().get("/healthz").unwrap();
    assert_eq!(health.status, 200, "it lives, and is not ready: {health:?}");
    soon(|| TcpStream::connect(process.users()).is_err());
    stream.write_all(&RUST[20..]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("rust"), "{answer}");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    assert!(!process.log().contains("dropped"), "{}", process.log());

    let second = Process::start(&models(), &arguments);
    assert_eq!(second.page()["rollout"]["stage"], "25 %");
    assert!(second.page()["rollout"]["end"].is_null());
}

#[test]
fn a_client_that_never_finishes_does_not_keep_the_server_from_ending() {
    let process = Process::start(&models(), &["--baseline", "standard_v3_3"]);
    let mut stream = TcpStream::connect(process.users()).unwrap();
    let head = "POST /classify HTTP/1.1\r\nhost: x\r\nx-user-id: ann\r\ncontent-length: 99\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    let status = process.end();
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn control_c_ends_it_as_well_and_a_second_signal_ends_the_patience() {
    let mut process = Process::start(&models(), &["--baseline", "standard_v3_3"]);
    let mut stream = TcpStream::connect(process.users()).unwrap();
    let head = "POST /classify HTTP/1.1\r\nhost: x\r\nx-user-id: ann\r\ncontent-length: 99\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    process.signal("INT");
    thread::sleep(Duration::from_millis(300));
    process.signal("INT");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
