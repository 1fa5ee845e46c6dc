//! Operators are heard whatever users do.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use inference_server::arm::Sabotage;
use inference_server::client::Client;
use inference_server::fault::Fault;
use inference_server::model::Classifier;
use inference_server::rollouts::RolloutSettings;
use inference_server::service::Settings;
use pilotage::rollout::plan::Plan;
use pilotage::share::TrafficShare;

use crate::stage::{RUST, Stage, models, soon};

#[test]
fn an_abort_is_obeyed_while_every_inference_thread_hangs_and_the_user_port_is_full() {
    let minute = Duration::from_secs(60);
    let plan = Plan::builder()
        .canary(TrafficShare::HALF, minute, 1_000_000)
        .full(minute, 1_000_000)
        .build()
        .unwrap();
    let rollouts = RolloutSettings { plan, models: models(), ..RolloutSettings::default() };
    let token = Some("open sesame".to_owned());
    // No limit of the candidate's, so that it takes both threads.
    let candidate_calls = Some(64);
    let settings = Settings { token, rollouts, candidate_calls, ..Settings::default() };
    let stage = Stage::with(&models(), "standard_v3_3", &settings);
    let sabotage = Arc::new(Sabotage::default());
    let candidate = Arc::new(Classifier::load(&models(), "standard_v3_1").unwrap());
    stage.service.rollouts().roll_out(candidate, Arc::clone(&sabotage)).unwrap();
    sabotage.turn_on(Fault::Hang);

    let users = stage.running.address();
    for user in 0..40 {
        thread::spawn(move || {
            let name = format!("user-{user}");
            let _ = Client::new(users).post("/classify", &[("x-user-id", &name)], RUST);
        });
    }
    // Both threads hang, and a while later it shows.
    soon(|| stage.operator().get("/readyz").unwrap().status == 503);
    let mut idle = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(users).unwrap();
        stream.write_all(b"POST /classify HTTP/1.1\r\n").unwrap();
        idle.push(stream);
    }
    assert_eq!(stage.operator().get("/healthz").unwrap().status, 200);

    let began = Instant::now();
    let reply = stage.order("abort", r#"{"who": "ann", "why": "everything hangs"}"#);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((reply.status, &reply.body["did"]), (200, &"stopped".into()), "{reply:?}");
    assert_eq!(stage.service.router().split().candidate, TrafficShare::NONE);
    let page = stage.operator().get("/rollout").unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(page.body["rollout"]["end"], "aborted");
    assert_eq!(page.body["server"]["ready"], false);
}
