//! Held against the vectors that the models' publisher made.

use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::read::GzDecoder;
use inference_server::features::Layout;
use inference_server::model::{Classifier, Confidence, Overwritten};
use serde::de::DeserializeOwned;
use serde_json::Value;

fn table<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/magika-reference").join(name);
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn content(case: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(case["content_base64"].as_str().unwrap()).unwrap()
}

#[test]
fn every_published_feature_vector_is_ours() {
    let cases: Vec<Value> = table("features_extraction_examples.json.gz");
    for case in &cases {
        let size = |name: &str| case["args"][name].as_u64().unwrap() as usize;
        let layout = Layout {
            beg: size("beg_size"),
            mid: size("mid_size"),
            end: size("end_size"),
            block: size("block_size"),
            padding: 256,
        };
        let part = |name: &str| -> Vec<i32> {
            serde_json::from_value(case["features"][name].clone()).unwrap()
        };
        let expected = [part("beg"), part("mid"), part("end")].concat();
        assert_eq!(layout.features(&content(case)), expected, "{}", case["content_base64"]);
    }
    assert_eq!(cases.len(), 9_261);
}

#[test]
fn every_published_answer_is_ours() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let model = Classifier::load(&models, "standard_v3_3").unwrap();
    let cases: Vec<Value> = table("standard_v3_3-inference_examples_by_content.json.gz");
    for case in &cases {
        let confidence = match case["prediction_mode"].as_str().unwrap() {
            "best_guess" => Confidence::BestGuess,
            "medium_confidence" => Confidence::Medium,
            "high_confidence" => Confidence::High,
            other => panic!("unknown mode {other}"),
        };
        let answer = model.classify(&content(case), confidence).unwrap();
        let expected = &case["prediction"];
        let reason = match answer.overwritten {
            Overwritten::No => "none",
            Overwritten::ByMap => "overwrite_map",
            Overwritten::LowConfidence => "low_confidence",
        };
        assert_eq!(*answer.guess, *expected["dl"].as_str().unwrap(), "{case}");
        assert_eq!(*answer.label, *expected["output"].as_str().unwrap(), "{case}");
        assert_eq!(reason, expected["overwrite_reason"].as_str().unwrap(), "{case}");
        // The published scores come from another runtime, which sums in another order.
        let score = expected["score"].as_f64().unwrap();
        assert!((f64::from(answer.score) - score).abs() < 5e-3, "{} {case}", answer.score);
    }
    assert_eq!(cases.len(), 141);
}
