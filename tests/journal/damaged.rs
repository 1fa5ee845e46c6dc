//! A damaged journal is recovered as far as it can be trusted, and in the safe direction.

use pilotage::rollout::salvage::Cut;

use super::*;

/// A journal of a rollout under way: its bytes, and where each entry ends.
fn journal() -> (Vec<u8>, Vec<usize>) {
    let disk = Disk::default();
    let mut world = Process::new("v1", Epoch::default());
    let (pilot, _alerts) = world.start(&disk);
    world.run(&pilot, 4);
    drop(pilot);
    let bytes = disk.now();
    let whole = Journal::read(&bytes).unwrap().entries.len();
    // A cut in the middle of an entry is a torn end: where the count of entries changes is an end.
    let (mut ends, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let payload = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap());
        at += 40 + payload as usize + 8;
        ends.push(at);
    }
    assert_eq!(ends.len(), whole);
    (bytes, ends)
}

fn cut_of(bytes: &[u8]) -> Cut {
    Journal::salvage(bytes).unwrap().cut.unwrap()
}

fn recover(disk: &Disk) -> (Process, Result<Option<Cut>, ResumeError>, Option<Pilot>) {
    let again = Process::new("v1", Epoch::default());
    let recovered = Pilot::builder()
        .alerter(ChannelAlerter(sync_channel(64).0))
        .wall_clock(|| Date::from_unix(1_774_747_800))
        .journal(disk.clone())
        .recover(&again.router, again.candidate());
    match recovered {
        Ok((pilot, cut)) => (again, Ok(cut.map(|cut| cut.cut)), Some(pilot)),
        Err(error) => (again, Err(error), None),
    }
}

#[test]
fn a_journal_cut_at_any_byte_gives_its_whole_entries_and_is_no_damage() {
    let (bytes, ends) = journal();
    // The first entry is long and all its cuts are alike; after it, every byte.
    let cuts = (0..ends[0]).step_by(101).chain(ends[0]..=bytes.len());
    let mut last = (0, None);
    for cut in cuts {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        if whole == 0 {
            let error = Journal::salvage(&bytes[..cut]).unwrap_err();
            assert!(
                matches!(error, JournalError::Empty | JournalError::Truncated { .. }),
                "{error}"
            );
            continue;
        }
        // Reading is quick and handling is not: the machine is compared where an entry is added.
        let torn = Journal::read(&bytes[..cut]).unwrap().torn.map_or(0, |torn| torn.bytes);
        assert_eq!(torn, (cut - ends[whole - 1]) as u64);
        if last.0 != whole || cut % 257 == 0 {
            let salvaged = Journal::salvage(&bytes[..cut]).unwrap();
            assert_eq!(salvaged.cut, None, "cut at {cut}");
            assert_eq!(salvaged.recovered.revision, whole as u64);
            last = (whole, Some(salvaged));
        }
    }
    assert_eq!(last.0, ends.len());
}

#[test]
fn a_flipped_bit_in_any_entry_leaves_the_entries_before_it_and_says_what_was_cut_off() {
    let (bytes, ends) = journal();
    for (number, end) in ends.iter().enumerate() {
        let begin = if number == 0 { 0 } else { ends[number - 1] };
        // In the head, in the payload, and in the seal.
        for byte in
            [begin + 1, begin + 9, begin + 17, begin + 27, begin + 38, (begin + end) / 2, end - 3]
        {
            let mut flipped = bytes.clone();
            flipped[byte] ^= 1 << (byte % 8);
            if number == 0 {
                let error = Journal::salvage(&flipped).unwrap_err();
                let fits = matches!(error, JournalError::Damaged { .. } | JournalError::Foreign);
                assert!(fits, "{error}");
                continue;
            }
            let cut = cut_of(&flipped);
            let (at, left) = (begin as u64, (bytes.len() - begin) as u64);
            assert_eq!((cut.at, cut.bytes, cut.revision), (at, left, number as u64), "byte {byte}");
            assert_eq!(cut.whole, (ends.len() - number - 1) as u64, "byte {byte}");
            assert!(matches!(cut.why, JournalError::Damaged { .. }), "{cut}");
        }
    }
}

#[test]
fn of_two_damaged_places_the_first_counts_and_nothing_after_it() {
    let (bytes, ends) = journal();
    let last = ends.len() - 1;
    for (first, second) in [(1, 2), (2, last), (last - 1, last)] {
        let mut flipped = bytes.clone();
        flipped[ends[first - 1] + 40] ^= 1;
        flipped[ends[second - 1] + 40] ^= 1;
        let cut = cut_of(&flipped);
        assert_eq!((cut.at, cut.revision), (ends[first - 1] as u64, first as u64));
        assert_eq!(cut.whole, (ends.len() - first - 2) as u64);
    }
    // A piece that is missing, a piece that came twice, zeros at the end, somebody else's bytes.
    let missing = [&bytes[..ends[1]], &bytes[ends[2]..]].concat();
    assert_eq!(cut_of(&missing).revision, 2);
    let twice = [&bytes[..ends[2]], &bytes[ends[1]..]].concat();
    assert_eq!(cut_of(&twice).revision, 3);
    for tail in [&[0; 4096][..], b"what is this?"] {
        let cut = cut_of(&[&bytes, tail].concat());
        assert_eq!((cut.at, cut.bytes, cut.whole), (bytes.len() as u64, tail.len() as u64, 0));
    }
}

#[test]
fn a_recovered_rollout_shows_the_candidate_to_nobody_until_somebody_orders_it() {
    let (bytes, ends) = journal();
    for number in [1, ends.len() / 2, ends.len() - 1] {
        let mut flipped = bytes.clone();
        flipped[ends[number] - 20] ^= 2;
        let disk = Disk::holding(&flipped);
        assert!(matches!(
            Process::new("v1", Epoch::default()).resume(&disk),
            Err(ResumeError::Journal(_))
        ));
        assert_eq!(disk.now(), flipped);

        let (mut again, cut, pilot) = recover(&disk);
        let (cut, pilot) = (cut.unwrap().unwrap(), pilot.unwrap());
        assert_eq!(cut.revision, number as u64);
        assert_eq!(disk.copies.lock().as_slice(), [flipped], "nothing is lost");
        assert_eq!(pilot.end(), Some(End::RolledBack));
        assert!(
            pilot.status().reason.contains("the journal is damaged"),
            "{}",
            pilot.status().reason
        );
        again.run(&pilot, 3);
        assert_eq!(again.candidate_calls.load(Ordering::Relaxed), 0);
        assert!(
            Journal::read(&disk.now()).unwrap().replay().is_ok(),
            "what is written now is whole"
        );

        // Over another restart it stays so, and an operator leads on.
        let mut third = Process::new("v1", Epoch::default());
        let resumed = third.resume(&disk).unwrap();
        assert_eq!(resumed.end(), Some(End::RolledBack));
        resumed.order(Order::Retry, "ann", "the disk is a new one").unwrap();
        third.run(&resumed, 300);
        assert_eq!(resumed.end(), Some(End::Promoted), "{}", resumed.status().reason);
    }
}

#[test]
fn a_recovery_without_damage_is_a_resume_and_one_without_a_copy_does_not_happen() {
    let (bytes, ends) = journal();
    let (again, cut, pilot) = recover(&Disk::holding(&bytes));
    let pilot = pilot.unwrap();
    assert_eq!((cut.unwrap(), pilot.end()), (None, None));
    assert!(again.router.split().candidate > TrafficShare::NONE);

    let mut flipped = bytes;
    flipped[ends[2] - 20] ^= 2;
    let disk = Disk::holding(&flipped);
    disk.full.store(true, Ordering::SeqCst);
    let (again, cut, _) = recover(&disk);
    assert!(matches!(cut, Err(ResumeError::Store(_))), "{cut:?}");
    assert_eq!(disk.now(), flipped, "the bytes stay as they are");
    assert_eq!(again.router.split().candidate, TrafficShare::NONE);
    assert!(again.router.model_name(Arm::CANDIDATE).is_none());

    flipped[3] ^= 1;
    let (_, cut, _) = recover(&Disk::holding(&flipped));
    assert!(matches!(cut, Err(ResumeError::Journal(JournalError::Foreign))), "{cut:?}");
}

#[test]
fn a_damaged_journal_of_a_rollout_that_is_over_stays_over() {
    let disk = Disk::default();
    let mut world = Process::new("v1", Epoch::default());
    let (pilot, _alerts) = world.start(&disk);
    world.run(&pilot, 2);
    pilot.kill("ann", "it smokes").unwrap();
    pilot.tick();
    drop(pilot);
    let disk = Disk::holding(&[&disk.now(), &b"what is this?"[..]].concat());
    let (_, cut, pilot) = recover(&disk);
    assert!(cut.unwrap().is_some());
    assert_eq!(pilot.unwrap().end(), Some(End::Killed));
}

#[test]
fn a_file_keeps_a_copy_of_what_was_damaged() {
    let folder = folder("copy");
    let mut file = JournalFile::new(folder.join("rollout.journal"));
    for number in 1..4 {
        let place = file.keep_damaged(&[number; 9]).unwrap();
        assert!(place.ends_with(&format!("rollout.journal.damaged.{number}")), "{place}");
        assert_eq!(std::fs::read(place).unwrap(), [number; 9]);
    }
    std::fs::remove_dir_all(folder).unwrap();
}
