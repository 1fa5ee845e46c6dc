//! The splitters of others, held to their own cases.

use pilotage::route::splitters::{
    growthbook_bucket_ranges, growthbook_choose, growthbook_equal_weights, growthbook_hash,
    growthbook_in_namespace, murmur3_x86_32, sha1_15, unleash_normalised,
};
use serde_json::Value;

fn cases(name: &str) -> Vec<Value> {
    let all = include_str!("../golden/growthbook/cases.json");
    let all: Value = serde_json::from_str(all).unwrap();
    let cases = all[name].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|cell| cell.as_f64().unwrap()).collect()
}

fn pairs(value: &Value) -> Vec<(f64, f64)> {
    let pair = |pair: &Value| (pair[0].as_f64().unwrap(), pair[1].as_f64().unwrap());
    value.as_array().unwrap().iter().map(pair).collect()
}

fn close(left: f64, right: f64) -> bool {
    (left - right).abs() < 1e-6
}

#[test]
fn growthbook_hashes_agree() {
    for case in cases("hash") {
        let (seed, value) = (case[0].as_str().unwrap(), case[1].as_str().unwrap());
        let got = growthbook_hash(seed, value, case[2].as_u64().unwrap() as u32);
        assert_eq!(got, case[3].as_f64(), "{case}");
    }
}

#[test]
fn growthbook_ranges_agree() {
    for case in cases("getBucketRange") {
        let given = &case[1];
        let weights = given[2].is_array().then(|| floats(&given[2]));
        let variations = given[0].as_u64().unwrap() as usize;
        let got =
            growthbook_bucket_ranges(variations, given[1].as_f64().unwrap(), weights.as_deref());
        let expected = pairs(&case[2]);
        assert_eq!(got.len(), expected.len(), "{case}");
        for (got, expected) in got.iter().zip(&expected) {
            assert!(close(got.0, expected.0) && close(got.1, expected.1), "{case}: {got:?}");
        }
    }
}

#[test]
fn growthbook_choices_agree() {
    for case in cases("chooseVariation") {
        let got = growthbook_choose(case[1].as_f64().unwrap(), &pairs(&case[2]));
        assert_eq!(got.map_or(-1, |at| at as i64), case[3].as_i64().unwrap(), "{case}");
    }
}

#[test]
fn growthbook_equal_weights_agree() {
    for case in cases("getEqualWeights") {
        let variations = usize::try_from(case[0].as_i64().unwrap()).unwrap_or(0);
        let (got, expected) = (growthbook_equal_weights(variations), floats(&case[1]));
        assert_eq!(got.len(), expected.len(), "{case}");
        assert!(got.iter().zip(&expected).all(|(got, want)| close(*got, *want)), "{case}");
    }
}

#[test]
fn growthbook_namespaces_agree() {
    for case in cases("inNamespace") {
        let (subject, space) = (case[1].as_str().unwrap(), &case[2]);
        let [from, to] = [1, 2].map(|at| space[at].as_f64().unwrap());
        let got = growthbook_in_namespace(subject, space[0].as_str().unwrap(), from, to);
        assert_eq!(got, case[3].as_bool().unwrap(), "{case}");
    }
}

/// `PILOTAGE_BUCKETING_VECTORS=<file>`: see `vectors`.
#[test]
fn hashes_agree_with_the_table() {
    let Ok(path) = std::env::var("PILOTAGE_BUCKETING_VECTORS") else {
        crate::say(format_args!("skipped: PILOTAGE_BUCKETING_VECTORS names no table"));
        return;
    };
    let table = std::fs::read_to_string(&path).unwrap();
    let mut rows = 0;
    for row in table.lines().skip(1) {
        let cells: Vec<&str> = row.split('\t').collect();
        let (salt, unit) = (cells[0], cells[1]);
        let joined = murmur3_x86_32([salt, unit].concat().as_bytes(), 0);
        assert_eq!(format!("{joined:08x}"), cells[6], "{row}");
        let unleash = unleash_normalised(salt, unit, 100, 0).unwrap();
        assert_eq!(unleash.to_string(), cells[8], "{row}");
        let sha1 = sha1_15(format!("{salt}.{unit}").as_bytes());
        assert_eq!(format!("{sha1:015x}"), cells[9], "{row}");
        rows += 1;
    }
    crate::say(format_args!("{rows} rows agree"));
    assert!(rows > 0);
}
