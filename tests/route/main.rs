//! Promises of `route`: assignment is the same everywhere and for ever.

mod independence;

use pilotage::route::bucket::{hash_of, millionth, seed_of};

/// The table is committed; `PILOTAGE_BUCKETING_VECTORS` names another of the same columns, or the
/// wider one with ten columns it was cut from.
#[test]
fn every_subject_falls_where_another_library_says() {
    let text = match std::env::var("PILOTAGE_BUCKETING_VECTORS") {
        Ok(path) => std::fs::read_to_string(&path).expect("the table can be read"),
        Err(_) => include_str!("../golden/bucketing.tsv").to_owned(),
    };
    let mut rows = 0;
    for row in text.lines().skip(1) {
        let cells: Vec<&str> = row.split('\t').collect();
        let (salt, unit, seed, hash) = (cells[0], cells[1], cells[2], cells[3]);
        let millionths = if cells.len() == 5 { cells[4] } else { cells[5] };
        let got_seed = seed_of(salt);
        let got_hash = hash_of(unit.as_bytes(), got_seed);
        assert_eq!(format!("{got_seed:016x}"), seed, "{row}");
        assert_eq!(format!("{got_hash:016x}"), hash, "{row}");
        assert_eq!(millionth(got_hash).to_string(), millionths, "{row}");
        rows += 1;
    }
    assert!(rows >= 1000, "only {rows} rows");
}
