//! What rehearsals promise: they say what the machine does, and a replayed trace says nothing more.

use std::fmt::Write as _;
use std::time::Duration;

use pilotage::ids::Arm;
use pilotage::judge::guardrail::Guardrail;
use pilotage::machine::Seen;
use pilotage::rollout::pipeline::End;
use pilotage::rollout::plan::Plan;
use pilotage::share::TrafficShare;
use pilotage::sim::fault::{Fault, Kind, Whom};
use pilotage::sim::forecast::{Chance, Forecast};
use pilotage::sim::rehearsal::{Course, Looks, Rehearsal};
use pilotage::sim::replay::{Replay, ReplayOptions, Replayed};
use pilotage::sim::rng::Rng;
use pilotage::sim::trace::{COLUMNS, TraceError, TraceReader};
use pilotage::sim::world::{Climate, World};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn percent(share: f64) -> TrafficShare {
    TrafficShare::percent(share).unwrap()
}

/// A plan of minutes: shadow, 10 %, 50 %, 100 %.
fn short() -> Plan {
    let rails: Vec<Guardrail> = Guardrail::standard()
        .into_iter()
        .map(|rail| if rail.measure.is_rate() { rail.floor(0.02) } else { rail })
        .collect();
    Plan::builder()
        .shadow(2 * MINUTE, 200)
        .canary(percent(10.0), 3 * MINUTE, 100)
        .canary(percent(50.0), 3 * MINUTE, 100)
        .full(3 * MINUTE, 100)
        .guardrails(&rails)
        .build()
        .unwrap()
}

fn rehearse(climate: &Climate, seed: u64, looks: Looks) -> Course {
    Rehearsal::begin(short(), climate.clone(), seed, looks).unwrap().run(2 * HOUR)
}

mod worlds {
    use super::*;

    #[test]
    fn a_batch_has_the_rates_of_its_climate() {
        let climate = Climate::new(200.0)
            .errors(0.02)
            .timeouts(0.01)
            .score(0.8, 0.1)
            .segments([0.75, 0.25])
            .fault(Fault::new(Kind::ErrorsTimes(3.0)).in_segment(1));
        let mut world = World::new(climate, 3).unwrap();
        let (mut seen, mut bad) = ([0.0; 2], [0.0; 2]);
        for minute in 0..50 {
            let (batch, _): (Seen, _) = world.batch(
                minute * MINUTE,
                MINUTE,
                pilotage::clock::Moment::ZERO,
                percent(50.0),
                false,
            );
            for (at, arm) in [Arm::BASELINE, Arm::CANDIDATE].into_iter().enumerate() {
                let counts = batch.live.arm(arm).unwrap();
                seen[at] += counts.judged() as f64;
                bad[at] += counts.failures() as f64;
                assert_eq!(counts.latency.count(), counts.ended[0]);
                assert_eq!(counts.score.count, counts.ended[0]);
            }
            assert_eq!(batch.live.segments.len(), 2);
        }
        // 300,000 calls an arm; the candidate fails thrice as often in a quarter of them: 3 %.
        // Five standard deviations of the counts are 380 and 470.
        assert!((seen[0] / 300_000.0 - 1.0).abs() < 0.01, "{seen:?}");
        assert!((bad[0] - 6_000.0).abs() < 400.0, "{bad:?}");
        assert!((bad[1] - 9_000.0).abs() < 500.0, "{bad:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_course_to_the_last_bit() {
        let climate = Climate::new(50.0).dispersion(4.0).retries(2.0);
        let once = rehearse(&climate, 9, Looks::default());
        assert_eq!(once, rehearse(&climate, 9, Looks::default()));
        assert_ne!(once, rehearse(&climate, 10, Looks::default()));
    }

    #[test]
    fn a_candidate_whose_records_stop_is_held_and_never_taken_back() {
        for seed in 0..4 {
            let fault = Fault::new(Kind::Lost(1.0)).from(4 * MINUTE);
            let course =
                rehearse(&Climate::new(300.0).fault(fault), seed, Looks::every(MINUTE / 6));
            assert_eq!(course.end, None, "{}", course.reason);
            assert!(course.holding.is_some(), "{}", course.reason);
        }
    }

    #[test]
    fn without_traffic_or_with_a_clock_that_jumps_nobody_is_promoted() {
        let silent =
            Climate::new(100.0).fault(Fault::new(Kind::TrafficTimes(0.0)).from(4 * MINUTE));
        let course = rehearse(&silent, 1, Looks::default());
        assert!(course.end.is_none() && course.holding.is_some(), "{}", course.reason);
        let mut jumping = Climate::new(0.0);
        for hour in 0..20 {
            jumping = jumping.fault(Fault::new(Kind::ClockJump(3e6)).from(hour * MINUTE));
        }
        let course = rehearse(&jumping, 1, Looks::default());
        assert_ne!(course.end, Some(End::Promoted));
    }

    #[test]
    fn a_restart_costs_what_was_seen_since_the_last_look_and_no_more() {
        let restart = Fault::new(Kind::Restart).from(3 * MINUTE).lasting(MINUTE);
        let course = rehearse(&Climate::new(300.0).fault(restart), 4, Looks::default());
        assert_eq!(course.end, Some(End::Promoted), "{}", course.reason);
    }
}

mod predictions {
    use super::*;

    /// The part of fresh runs with the event lies where 99.9 % of such parts lie, if what was
    /// predicted is true: both are binomial, so their difference has the sum of their variances.
    fn agrees(told: &Chance, fresh: &Chance) -> bool {
        let (n, m) = (told.runs as f64, fresh.runs as f64);
        let pooled = (told.events + fresh.events) as f64 / (n + m);
        let error = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
        // Half a run for the step of a count.
        (told.rate - fresh.rate).abs() <= 3.3 * error + 0.5 / n + 0.5 / m
    }

    fn many(climate: &Climate, seeds: std::ops::Range<u64>, looks: Looks) -> Forecast {
        let courses: Vec<Course> = seeds.map(|seed| rehearse(climate, seed, looks)).collect();
        Forecast::of(&courses)
    }

    #[test]
    fn what_is_predicted_with_few_looks_happens_to_machines_that_look_all_the_time() {
        let base = Climate::new(30.0);
        let climates = [
            base.clone(),
            // In between, so that the event is neither sure nor impossible.
            base.clone().fault(Fault::new(Kind::LatencyTimes(1.22))),
            base.fault(Fault::new(Kind::Errors(0.02)).from(6 * MINUTE).lasting(2 * MINUTE)),
        ];
        // Many in release, where CI runs it; a few in a debug build.
        let (mut seed, runs) = (0, if cfg!(debug_assertions) { 6 } else { 120 });
        for climate in &climates {
            let told = many(climate, seed..seed + runs, Looks::default());
            seed += runs;
            let fresh = many(climate, seed..seed + runs, Looks::every(Duration::from_secs(5)));
            seed += runs;
            assert!(agrees(&told.stopped, &fresh.stopped), "{told:?}\n{fresh:?}");
            assert!(agrees(&told.promoted, &fresh.promoted), "{told:?}\n{fresh:?}");
        }
    }

    #[test]
    fn a_bad_candidate_is_found_wherever_it_turns_bad_and_its_harm_is_told() {
        let mut rehearsal =
            Rehearsal::begin(short(), Climate::new(200.0), 5, Looks::default()).unwrap();
        for minutes in [3, 6, 9] {
            rehearsal.run_until(minutes * MINUTE);
            assert_eq!(rehearsal.at(), minutes * MINUTE);
            let fault = Fault::new(Kind::Errors(0.3)).from(rehearsal.at());
            let course = rehearsal.clone().with_fault(fault).unwrap().run(2 * HOUR);
            assert_eq!(course.end, Some(End::RolledBack), "{}", course.reason);
            let served = course.toll.candidate - rehearsal.toll().candidate;
            let harm = course.toll.harm() - rehearsal.toll().harm();
            assert!(harm > 2.0 && harm < 0.5 * served as f64, "{harm} of {served}");
        }
    }

    #[test]
    fn an_incident_of_both_blames_nobody_while_there_is_somebody_to_compare_with() {
        for kind in [Kind::ErrorsTimes(20.0), Kind::Hangs(0.1), Kind::Hangs(1.0)] {
            for seed in 0..5 {
                let incident = Fault::new(kind).hitting(Whom::Both);
                let incident = incident.from(3 * MINUTE).lasting(2 * MINUTE);
                let climate = Climate::new(200.0).fault(incident);
                let course = rehearse(&climate, seed, Looks::every(MINUTE / 60));
                assert!(!course.is_stopped(), "{kind:?}: {}", course.reason);
            }
        }
    }

    #[test]
    fn a_candidate_that_hangs_is_stopped_wherever_that_begins_and_its_harm_is_told() {
        for part in [0.1, 1.0] {
            for from in [3, 6, 9] {
                let fault = Fault::new(Kind::Hangs(part)).from(from * MINUTE);
                let climate = Climate::new(200.0).fault(fault);
                let course = rehearse(&climate, from.into(), Looks::every(MINUTE / 60));
                assert_eq!(course.end, Some(End::RolledBack), "{}", course.reason);
                assert!(course.reason.contains("have not ended"), "{}", course.reason);
                // Ten per cent of 200 a second for five seconds, at the least.
                assert!(course.toll.harm() > 0.9 * part * 20.0 * 5.0, "{:?}", course.toll);
            }
        }
    }
}

mod traces {
    use super::*;

    /// How a model answers some part of the way through the trace.
    type Model = fn(f64, &mut Rng) -> (f64, f64);

    fn good(_: f64, _: &mut Rng) -> (f64, f64) {
        (0.002, 1.0)
    }

    /// A trace of `seconds` at `rate`, seeded. A model is a probability of errors and a slowness.
    fn trace(seconds: f64, rate: f64, seed: u64, baseline: Model, candidate: Model) -> String {
        let mut rng = Rng::new(seed);
        let mut csv = COLUMNS.join(",") + "\n";
        let mut at = 0.0;
        loop {
            at -= (1.0 - rng.unit()).ln() / rate;
            if at >= seconds {
                return csv;
            }
            let (subject, segment) = (rng.below(5_000), ["eu", "us"][rng.below(2) as usize]);
            write!(csv, "{:.0},user-{subject},{segment}", at * 1e3).unwrap();
            for model in [baseline, candidate] {
                let (errors, slowness) = model(at / seconds, &mut rng);
                if rng.chance(errors) {
                    write!(csv, ",error,{:.1},", 3.0 * rng.unit()).unwrap();
                } else {
                    let millis = 100.0 * slowness * (0.5 * rng.normal()).exp();
                    write!(csv, ",ok,{millis:.2},0.{}", 70 + rng.below(20)).unwrap();
                }
            }
            csv.push('\n');
        }
    }

    fn replay_as(csv: &str, options: ReplayOptions) -> (Replayed, Vec<u64>) {
        let mut reader = TraceReader::new(csv.as_bytes()).unwrap();
        let mut replay = Replay::begin(short(), options).unwrap();
        let mut bad = Vec::new();
        loop {
            match reader.next_row() {
                Ok(Some(row)) => replay.row(&row),
                Ok(None) => return (replay.finish(), bad),
                Err(TraceError::Row { line, .. }) => bad.push(line),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn replay(csv: &str) -> Replayed {
        replay_as(csv, ReplayOptions::default()).0
    }

    #[test]
    fn a_healthy_candidate_is_promoted_once_the_trace_is_long_enough_and_never_before() {
        let csv = trace(1_200.0, 60.0, 1, good, good);
        let told = replay(&csv);
        assert_eq!(told.end, Some(End::Promoted), "{}", told.reason);
        assert!(told.toll.harm().abs() < 60.0 && told.shadowed > 6_000, "{:?}", told.toll);
        assert_eq!(told.toll.baseline + told.toll.candidate, told.rows);
        let cut = csv.len() / 4;
        let short = replay(&csv[..csv[..cut].rfind('\n').unwrap() + 1]);
        assert_eq!(short.end, None, "{}", short.reason);
        assert!(short.at >= short.lasted, "{:?} {:?}", short.at, short.lasted);
    }

    #[test]
    fn a_candidate_that_is_bad_or_slow_from_the_start_serves_nobody() {
        let slow: Model = |_, _| (0.002, 2.5);
        let bad: Model = |_, _| (0.2, 1.0);
        for model in [slow, bad] {
            let told = replay(&trace(400.0, 40.0, 2, good, model));
            assert_eq!(told.end, Some(End::Refused), "{}", told.reason);
            assert_eq!((told.toll.candidate, told.toll.harm()), (0, 0.0));
        }
    }

    #[test]
    fn a_candidate_that_turns_bad_half_way_is_taken_back_and_the_harm_is_counted_exactly() {
        let turning: Model = |part, _| if part > 0.5 { (0.25, 1.0) } else { (0.002, 1.0) };
        let csv = trace(800.0, 60.0, 3, good, turning);
        let told = replay(&csv);
        assert_eq!(told.end, Some(End::RolledBack), "{}", told.reason);
        assert!(told.at > 400 * Duration::from_secs(1) && told.at < 430 * Duration::from_secs(1));
        let (bad, anyway) = (told.toll.bad as f64, told.toll.bad_anyway);
        assert!(told.toll.harm() == bad - anyway && told.toll.harm() > 3.0, "{:?}", told.toll);
        assert!(told.toll.harm() < 200.0, "{:?}", told.toll);
    }

    #[test]
    fn a_shared_incident_low_traffic_and_a_baseline_without_errors_blame_nobody() {
        let incident: Model =
            |part, _| if (0.3..0.4).contains(&part) { (0.3, 1.0) } else { (0.002, 1.0) };
        let none: Model = |_, _| (0.0, 1.0);
        let cases = [(60.0, incident), (0.3, good), (60.0, none)];
        for (rate, model) in cases {
            let told = replay(&trace(900.0, rate, 4, model, model));
            assert!(!matches!(told.end, Some(End::RolledBack | End::Refused)), "{}", told.reason);
        }
    }

    #[test]
    fn one_subject_that_retries_is_one_subject() {
        // Every answer is good, but for one subject whose calls fail on the candidate, twenty
        // times in a row, a few times in all: by calls an epidemic, by subjects a few events.
        let csv = trace(900.0, 60.0, 5, good, good);
        let mut with = String::new();
        for (line, row) in csv.lines().enumerate() {
            with.push_str(row);
            with.push('\n');
            if line > 0 && line % 9_000 == 0 {
                let at = row.split(',').next().unwrap();
                for _ in 0..200 {
                    writeln!(with, "{at},stubborn,eu,ok,100,,error,2,").unwrap();
                }
            }
        }
        let told = replay(&with);
        assert!(!matches!(told.end, Some(End::RolledBack | End::Refused)), "{}", told.reason);
    }

    #[test]
    fn a_gap_promotes_nobody_and_the_rollout_goes_on_after_it() {
        let csv = trace(1_300.0, 60.0, 6, good, good);
        let mut with = String::new();
        for (line, row) in csv.lines().enumerate() {
            match row.split_once(',') {
                // In the last stage: what was seen of it before the gap is not enough.
                Some((at, rest)) if line > 36_000 => {
                    let at: u64 = at.parse().unwrap();
                    writeln!(with, "{},{rest}", at + 30 * 86_400_000).unwrap();
                }
                _ => writeln!(with, "{row}").unwrap(),
            }
        }
        let told = replay(&with);
        let gap = Duration::from_secs(30 * 86_400);
        let in_gap = |at: Duration| at > 610 * Duration::from_secs(1) && at < gap;
        let advanced =
            told.log.iter().filter(|step| in_gap(step.at.since(pilotage::clock::Moment::ZERO)));
        assert_eq!(advanced.count(), 0, "{:?}", told.log);
        assert_eq!(told.end, Some(End::Promoted), "{}", told.reason);
    }

    #[test]
    fn bad_rows_are_told_by_line_and_change_nothing() {
        let csv = trace(300.0, 30.0, 7, good, good);
        let mut rows: Vec<&str> = csv.lines().collect();
        rows.insert(40, "nonsense");
        rows.insert(80, "1,u,eu,ok,NaN,,ok,1,");
        rows.insert(120, "0,u,eu,ok,1,,ok,1,");
        let (told, bad) = replay_as(&rows.join("\r\n"), ReplayOptions::default());
        assert_eq!(bad, [41, 81, 121]);
        assert_eq!(told, replay(&csv));
    }

    #[test]
    fn the_salt_decides_who_is_on_the_candidate_and_nothing_else_does() {
        let csv = trace(500.0, 40.0, 8, good, good);
        let mut options = ReplayOptions::default();
        "another".clone_into(&mut options.salt);
        let (other, _) = replay_as(&csv, options);
        let told = replay(&csv);
        assert_eq!(told, replay(&csv));
        assert!(told.toll.candidate > 0 && told.toll != other.toll);
    }

    #[test]
    fn a_plan_that_waits_for_people_gets_what_it_asks_for() {
        let plan = Plan::builder()
            .canary(percent(10.0), MINUTE, 50)
            .approval()
            .full(MINUTE, 50)
            .guardrails(&[Guardrail::error_rate().floor(0.05)])
            .build()
            .unwrap();
        let rehearsal = Rehearsal::begin(plan, Climate::new(100.0), 1, Looks::default()).unwrap();
        let course = rehearsal.run(HOUR);
        assert_eq!(course.end, Some(End::Promoted), "{}", course.reason);
        let approved = course.log.iter().any(|step| format!("{step:?}").contains("rehearsal"));
        assert!(approved, "{:?}", course.log);
    }
}

mod soaked {
    use super::*;

    /// A few of the rollouts of `rehearse --soak`: each keeps its promises by itself.
    #[test]
    fn whatever_happens_a_rollout_ends_or_says_that_it_holds_and_promotes_nothing_worse() {
        let runs = if cfg!(debug_assertions) { 8 } else { 200 };
        for seed in 0..runs {
            let mut rng = Rng::new(seed);
            let mut climate = Climate::new(20.0 + 200.0 * rng.unit()).dispersion(1.0 + rng.unit());
            for _ in 0..rng.below(3) {
                let kinds = [
                    Kind::ErrorsTimes(1.0 + 9.0 * rng.unit()),
                    Kind::LatencyTimes(1.0 + 2.0 * rng.unit()),
                    Kind::TrafficTimes(3.0 * rng.unit()),
                    Kind::ClockJump(7_200.0 * (rng.unit() - 0.5)),
                    Kind::Restart,
                ];
                let fault = Fault::new(kinds[rng.below(5) as usize]).hitting(Whom::Both);
                let from = Duration::from_secs(rng.below(600));
                climate = climate.fault(fault.from(from).lasting(Duration::from_secs(30)));
            }
            let worse = match rng.below(5) {
                0 => Some(Kind::Errors(0.08 + 0.3 * rng.unit())),
                1 => Some(Kind::LatencyTimes(2.0 + rng.unit())),
                2 => Some(Kind::Lost(1.0)),
                3 => Some(Kind::Hangs(0.1 + 0.9 * rng.unit())),
                _ => None,
            };
            if let Some(kind) = worse {
                climate = climate.fault(Fault::new(kind));
            }
            let mut rehearsal = Rehearsal::begin(short(), climate, seed, Looks::default()).unwrap();
            rehearsal.run_until(20 * MINUTE);
            while rehearsal.at() < 4 * HOUR && !rehearsal.is_holding() && rehearsal.step() {}
            let course = rehearsal.course();
            assert!(course.end.is_some() || course.holding.is_some(), "{seed}: {course:?}");
            assert!(!(worse.is_some() && course.is_promoted()), "{seed}: {course:?}");
        }
    }
}
