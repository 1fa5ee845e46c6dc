//! Assignment agrees with what other programs computed.
//!
//! `PILOTAGE_BUCKETING_VECTORS=<file>` names a tab-separated table: salt, unit, seed and hash in
//! hexadecimal, part per ten thousand, part per million, and columns of other libraries.

use pilotage::route::bucket::{hash_of, millionth, seed_of};
use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{Context, FeatureFlag, FlagSpec};

#[test]
fn exposure_agrees_with_the_table() {
    let Ok(path) = std::env::var("PILOTAGE_BUCKETING_VECTORS") else {
        crate::say(format_args!("skipped: PILOTAGE_BUCKETING_VECTORS names no table"));
        return;
    };
    let table = std::fs::read_to_string(&path).unwrap();
    let mut rows = 0;
    for row in table.lines().skip(1) {
        let cells: Vec<&str> = row.split('\t').collect();
        let (salt, unit, millionth_of_row) = (cells[0], cells[1], cells[5].parse::<u32>().unwrap());
        let (seed, hash) = (seed_of(salt), hash_of(unit.as_bytes(), seed_of(salt)));
        assert_eq!(format!("{seed:016x} {hash:016x}"), format!("{} {}", cells[2], cells[3]));
        assert_eq!(millionth(hash), millionth_of_row, "{row}");
        rows += 1;
        if unit.is_empty() {
            continue; // nobody, by a flag's rule
        }
        let flag = |ppm: u32| {
            let share = TrafficShare::from_ppm(ppm).unwrap();
            FeatureFlag::alone(FlagSpec::new("x").salts(salt, "arm").share(share)).unwrap()
        };
        let subject = Context::of(unit);
        assert!(!flag(millionth_of_row).is_on(&subject), "{row}");
        assert!(flag(millionth_of_row + 1).is_on(&subject), "{row}");
    }
    crate::say(format_args!("{rows} rows agree"));
    assert!(rows > 0);
}
