//! Changes against readers.
//!
//! The full proof, 10^6 changes against 10^9 evaluations, is a command of its own:
//! `cargo test --release --test flags -- --ignored --nocapture a_billion`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{Context, FlagSet, FlagSpec, Reason, Value};

/// Two flags that are always changed together, so that a torn read would show: one answers the
/// number of the change in its default variant, the other the same in its value.
fn pair(number: i64) -> [FlagSpec; 2] {
    ["left", "right"].map(|name| {
        let value = Value::Int(number);
        FlagSpec::choosing(name, ("off", value.clone()), [("on", value, 1)])
    })
}

/// Runs `changes` whole changes against readers that evaluate `evaluations` times in all. Returns
/// the longest time without progress of a reader, in evaluations per change.
fn storm(changes: u64, evaluations: u64, readers: u64) {
    let flags = FlagSet::builder()
        .flag(pair(0)[0].clone())
        .flag(pair(0)[1].clone().requires("left", "off"))
        .build()
        .unwrap();
    let handle = flags.flag("right").unwrap();
    let done = AtomicBool::new(false);
    let asked = AtomicU64::new(0);
    let torn = AtomicU64::new(0);
    thread::scope(|scope| {
        for reader in 0..readers {
            let (flags, handle, done, asked, torn) = (&flags, &handle, &done, &asked, &torn);
            scope.spawn(move || {
                let mut mine = 0_u64;
                let (mut last, mut version) = (i64::MIN, 0);
                while mine < evaluations / readers || !done.load(Ordering::Relaxed) {
                    let context = Context::of_number(mine ^ reader);
                    let answer = handle.evaluate(&context);
                    // Every variant of one definition carries the same number, and what a thread
                    // sees never goes back.
                    let (Value::Int(value), numbers) = (answer.value(), &answer.spec().variants)
                    else {
                        panic!("an integer flag answered {:?}", answer.value())
                    };
                    let whole = numbers.iter().all(|variant| variant.value == Value::Int(*value));
                    if !whole || *value < last || answer.reason() == Reason::MissingSubject {
                        torn.fetch_add(1, Ordering::Relaxed);
                    }
                    last = *value;
                    drop(answer);
                    let decided = handle.decide(&context);
                    if decided.version < version || decided.variant > 1 {
                        torn.fetch_add(1, Ordering::Relaxed);
                    }
                    version = decided.version;
                    if mine % 64 == 0 {
                        let _ = flags.is_on("left", &context);
                    }
                    mine += 2;
                }
                asked.fetch_add(mine, Ordering::Relaxed);
            });
        }
        for number in 1..=changes {
            let number = number as i64;
            let changed = flags.change(|draft| {
                for spec in pair(number) {
                    let name = spec.name().to_owned();
                    let to = draft.flag(&name)?;
                    to.variants = spec.variants;
                    to.share =
                        Some(if number % 2 == 0 { TrafficShare::ALL } else { TrafficShare::NONE });
                }
                draft.flag("left")?.share = Some(TrafficShare::NONE);
                Ok(())
            });
            changed.unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let (asked, torn) = (asked.into_inner(), torn.into_inner());
    crate::say(format_args!(
        "{changes} changes, {asked} evaluations by {readers} readers, {torn} torn"
    ));
    assert_eq!(torn, 0);
    assert_eq!(flags.revision(), changes + 1);
}

#[test]
fn readers_see_whole_changes_in_order() {
    storm(500, 20_000, 2);
}

#[test]
#[ignore = "about ten minutes: cargo test --release --test flags -- --ignored a_billion"]
fn a_billion_evaluations_survive_a_million_changes() {
    storm(1_000_000, 1_000_000_000, 2);
}

#[test]
fn a_kill_is_seen_by_every_call_that_starts_after_it_returned() {
    let flags =
        FlagSet::builder().flag(FlagSpec::new("x").share(TrafficShare::ALL)).build().unwrap();
    let handle = flags.flag("x").unwrap();
    // Even: cleared; odd: killed. Written after the kill returned.
    let era = AtomicU64::new(0);
    let (rounds, late) = (400, AtomicU64::new(0));
    thread::scope(|scope| {
        for reader in 0..2_u64 {
            let (handle, era, late) = (&handle, &era, &late);
            scope.spawn(move || {
                loop {
                    let before = era.load(Ordering::Acquire);
                    if before == 2 * rounds {
                        break;
                    }
                    let on = handle.is_on(&Context::of_number(reader));
                    let after = era.load(Ordering::Acquire);
                    // The call began after the kill and ended before it was cleared.
                    if before % 2 == 1 && before == after && on {
                        late.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for round in 0..rounds {
            handle.kill();
            era.store(2 * round + 1, Ordering::Release);
            // Counted, not asserted: the readers wait for the last era.
            let on = (0..50).filter(|id| handle.is_on(&Context::of_number(*id))).count();
            late.fetch_add(on as u64, Ordering::Relaxed);
            era.store(2 * round + 2, Ordering::Release);
            handle.clear_kill(TrafficShare::ALL).unwrap();
        }
    });
    assert_eq!(late.into_inner(), 0);
}

#[test]
fn a_change_is_seen_by_every_call_that_starts_after_it_returned() {
    let flags = FlagSet::builder().flag(FlagSpec::new("x")).build().unwrap();
    let handle = flags.flag("x").unwrap();
    // Odd while a change is under way. Between changes 4n: nobody, 4n + 2: everybody.
    let era = AtomicU64::new(0);
    let (changes, wrong) = (400, AtomicU64::new(0));
    thread::scope(|scope| {
        for reader in 0..2_u64 {
            let (flags, handle, era, wrong) = (&flags, &handle, &era, &wrong);
            scope.spawn(move || {
                loop {
                    let before = era.load(Ordering::Acquire);
                    if before == 2 * changes {
                        break;
                    }
                    let context = Context::of_number(reader);
                    let on = [handle.is_on(&context), flags.is_on("x", &context)];
                    // The calls began after the last change returned and ended before the next.
                    if before % 2 == 0 && era.load(Ordering::Acquire) == before {
                        wrong.fetch_add(u64::from(on != [before % 4 == 2; 2]), Ordering::Relaxed);
                    }
                }
            });
        }
        for change in 0..changes {
            let on = change % 2 == 0;
            era.store(2 * change + 1, Ordering::Release);
            handle.set_share(if on { TrafficShare::ALL } else { TrafficShare::NONE }).unwrap();
            era.store(2 * change + 2, Ordering::Release);
            // Counted, not asserted: the readers wait for the last era.
            let amiss = (0..50).filter(|id| handle.is_on(&Context::of_number(*id)) != on).count();
            wrong.fetch_add(amiss as u64, Ordering::Relaxed);
        }
    });
    assert_eq!(wrong.into_inner(), 0);
}

#[test]
fn two_writers_lose_no_change() {
    let flags = FlagSet::builder().flag(FlagSpec::new("x")).build().unwrap();
    thread::scope(|scope| {
        for writer in 0..2 {
            let flags = &flags;
            scope.spawn(move || {
                for at in 0..100 {
                    let subject = format!("{writer}-{at}");
                    let add = |spec: &mut FlagSpec| {
                        spec.allow.insert(subject.clone());
                    };
                    flags.update("x", add).unwrap();
                }
            });
        }
    });
    assert_eq!(flags.spec("x").unwrap().allow.len(), 200);
    assert_eq!(flags.revision(), 201);
}

#[test]
fn a_change_may_use_the_set_it_changes() {
    let flags = FlagSet::builder().flag(FlagSpec::new("x")).build().unwrap();
    flags
        .change(|draft| {
            flags.kill("x")?;
            let _ = flags.stored();
            draft.flag("x")?.owner = Some("me".into());
            Ok(())
        })
        .unwrap();
    assert!(flags.is_killed("x").unwrap());
}
