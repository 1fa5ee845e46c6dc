//! The baseline answers in the candidate's stead before the first item, and never after it.

use pilotage::ids::Arm;
use pilotage::outcome::Outcome;
use pilotage::serve::builder::Fallback;
use pilotage::serve::request::Request;

use crate::{Do, Failed, Script, Stage, block_on, ended, read};

#[test]
fn before_the_first_item_the_baseline_answers_where_the_policy_says_so() {
    use Fallback::{Never, OnFailure, OnPanic};
    let panics = [Script::opening(&[Do::Panic]), Script::of(&[Do::Wait, Do::Panic])];
    let fails = [Script::opening(&[Do::Fail]), Script::of(&[Do::Wait, Do::Fail])];
    let excuses = [Script::opening(&[Do::Excuse]), Script::of(&[Do::Excuse])];
    for (policy, scripts, covered, kind) in [
        (Never, &panics, false, 4),
        (OnPanic, &panics, true, 4),
        (OnFailure, &panics, true, 4),
        (Never, &fails, false, 1),
        (OnPanic, &fails, false, 1),
        (OnFailure, &fails, true, 1),
        // What the reader is to blame for, the baseline would not do better.
        (OnFailure, &excuses, false, 3),
    ] {
        for script in scripts {
            let stage = Stage::on_candidate(policy);
            let script = script.clone().only(Arm::CANDIDATE);
            let asked = block_on(stage.router.predict_stream(Request::of("user"), &script));
            if covered {
                let answer = asked.unwrap();
                assert_eq!((answer.arm, answer.fell_back), (Arm::CANDIDATE, true));
                assert_eq!(read(answer.output), [Ok(1), Ok(2)]);
            } else {
                assert!(asked.is_err(), "{policy:?} {script:?}");
            }
            let candidate = stage.arm(Arm::CANDIDATE);
            let mut expected = [0; 5];
            expected[kind] = 1;
            assert_eq!(ended(&candidate), expected, "{policy:?} {script:?}");
            assert_eq!(candidate.fell_back, u64::from(covered));
            let streams = candidate.streams.as_deref().unwrap();
            assert_eq!((streams.ended, streams.answered, streams.items), (1, 0, 0));
            let baseline = stage.arm(Arm::BASELINE);
            assert_eq!(baseline.started, 0, "the baseline is not credited with it");
            assert_eq!(baseline.streams, None);
        }
    }
}

#[test]
fn after_the_first_item_nobody_else_may_answer() {
    for end in [Do::Fail, Do::Panic] {
        let stage = Stage::on_candidate(Fallback::OnFailure);
        let script = Script::of(&[Do::Item(7), end]).only(Arm::CANDIDATE);
        let asked = block_on(stage.router.predict_stream(Request::of("user"), &script));
        let answer = asked.unwrap();
        assert!(!answer.fell_back);
        let read = read(answer.output);
        assert_eq!(read[0], Ok(7));
        assert!(read.len() == 2 && read[1].is_err(), "{read:?}");
        assert_eq!(stage.arm(Arm::CANDIDATE).fell_back, 0);
    }
}

#[test]
fn the_baselines_own_failures_reach_the_reader_and_count_for_nobody() {
    for (script, heard) in [
        (Script::of(&[Do::Fail]), Err(Failed::Model)),
        (Script::opening(&[Do::Panic]), Err(Failed::Panic)),
        (Script::of(&[Do::Panic]), Err(Failed::Panic)),
    ] {
        let stage = Stage::on_candidate(Fallback::OnFailure);
        let asked = block_on(stage.router.predict_stream(Request::of("user"), &script));
        assert_eq!(asked.map(|answer| answer.arm), heard);
        assert_eq!(stage.arm(Arm::CANDIDATE).finished(), 1);
        assert_eq!(stage.arm(Arm::BASELINE).started, 0);
    }
}

#[test]
fn the_baseline_has_nobody_to_fall_back_on() {
    let stage = Stage::new(Fallback::OnFailure, true);
    let script = Script::of(&[Do::Fail]);
    assert!(block_on(stage.router.predict_stream(Request::of("user"), &script)).is_err());
    let counts = stage.arm(Arm::BASELINE);
    assert_eq!((ended(&counts), counts.fell_back), ([0, 1, 0, 0, 0], 0));
}

#[test]
fn a_stand_in_that_streams_for_long_is_no_ones_latency_and_its_ticket_holds() {
    let stage = Stage::on_candidate(Fallback::OnFailure);
    let script = Script::of(&[Do::Fail]).only(Arm::CANDIDATE);
    let answer = block_on(stage.router.predict_stream(Request::of("user"), &script)).unwrap();
    stage.clock.advance(std::time::Duration::from_secs(60));
    let mut stream = answer.output;
    assert_eq!(block_on(stream.next_item()), Some(Ok(1)));
    drop(stream);
    assert_eq!(stage.arm(Arm::CANDIDATE).finished(), 1);
    assert_eq!(stage.arm(Arm::BASELINE).finished(), 0);
    stage.router.outcome(answer.ticket, Outcome::correct(true)).unwrap();
    assert_eq!(stage.arm(Arm::CANDIDATE).correct, 1, "by intention to treat");
}
