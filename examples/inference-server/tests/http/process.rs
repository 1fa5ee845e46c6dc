//! What the program does with files and arguments that cannot be used.

use std::path::Path;
use std::process::Output;

use crate::onnx::{CONFIG, Flaw, network};
use crate::server::{Process, program};
use crate::stage::{Folder, RUST, models, soon};

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

#[track_caller]
fn assert_fails(output: &Output, code: i32, hints: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    for hint in hints {
        assert!(error.contains(hint), "no `{hint}` in: {error}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

fn serve(folder: &Path, model: &str) -> Output {
    let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    program()
        .args(["serve", "--baseline", model, "--models"])
        .arg(folder)
        .args(listen)
        .output()
        .unwrap()
}

#[test]
fn bad_arguments_are_named_and_give_code_2() {
    assert_fails(&run(&[]), 2, &["no command"]);
    assert_fails(&run(&["demo", "--fault", "errors:2"]), 2, &["errors:2", "up to 1"]);
    assert_fails(&run(&["demo", "--seed", "x"]), 2, &["--seed `x`"]);
    assert_fails(&run(&["serve"]), 2, &["--baseline"]);
    assert_fails(&run(&["compare", "--baseline", "a"]), 2, &["--candidate"]);
    let nowhere = ["serve", "--baseline", "a", "--plan", "nowhere.json"];
    assert_fails(&run(&nowhere), 1, &["nowhere.json"]);
    assert_eq!(run(&["help"]).status.code(), Some(0));
}

#[test]
fn a_missing_or_corrupt_model_is_named() {
    let folder = Folder::new("corrupt");
    assert_fails(&serve(&folder.0, "nothing"), 1, &["nothing", "--models"]);
    assert_fails(&serve(&folder.0, "../etc"), 1, &["model name `../etc`"]);

    folder.write("noise/config.min.json", CONFIG);
    folder.write("noise/model.onnx", &[0xa5; 10_000]);
    assert_fails(&serve(&folder.0, "noise"), 1, &["model.onnx", "not a model"]);

    let whole = std::fs::read(models().join("standard_v3_3/model.onnx")).unwrap();
    let config = std::fs::read(models().join("standard_v3_3/config.min.json")).unwrap();
    folder.write("half/config.min.json", &config);
    folder.write("half/model.onnx", &whole[..whole.len() / 2]);
    assert_fails(&serve(&folder.0, "half"), 1, &["model.onnx"]);

    folder.write("config/config.min.json", b"{\"beg_size\": -1}");
    folder.write("config/model.onnx", &whole);
    assert_fails(&serve(&folder.0, "config"), 1, &["config.min.json", "-1"]);

    folder.write("other/config.min.json", CONFIG);
    folder.write("other/model.onnx", &whole);
    assert_fails(&serve(&folder.0, "other"), 1, &["disagrees with its config.min.json", "16"]);
}

#[test]
fn a_network_of_the_wrong_shape_or_scale_is_found_before_it_serves() {
    let folder = Folder::new("shape");
    for (name, flaw, hint) in [
        ("shape", Flaw::WrongShape, "5], expected rows of 3 numbers"),
        ("scale", Flaw::WrongScale, "trial input: the network scored label `a` with 2"),
    ] {
        folder.write(&format!("{name}/config.min.json"), CONFIG);
        folder.write(&format!("{name}/model.onnx"), &network(flaw));
        assert_fails(&serve(&folder.0, name), 1, &["model.onnx", hint]);
    }
}

#[test]
fn a_pack_whose_index_disagrees_with_its_bytes_is_refused() {
    let folder = Folder::new("pack");
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/filetypes");
    let index = std::fs::read(samples.join("index.csv")).unwrap();
    let mut bytes = std::fs::read(samples.join("samples.pack")).unwrap();
    bytes[100_000] ^= 1;
    folder.write("index.csv", &index);
    folder.write("samples.pack", &bytes);
    let output = program().args(["demo", "--samples"]).arg(&folder.0).output().unwrap();
    assert_fails(&output, 1, &["index.csv, line ", "sha256 is "]);
    bytes.truncate(100_000);
    folder.write("samples.pack", &bytes);
    let output = program().args(["demo", "--samples"]).arg(&folder.0).output().unwrap();
    assert_fails(&output, 1, &["but the pack has 100000"]);
}

#[test]
fn a_candidate_that_cannot_be_loaded_leaves_stable_serving() {
    let folder = Folder::new("candidate");
    for file in ["config.min.json", "model.onnx"] {
        let bytes = std::fs::read(models().join("standard_v3_3").join(file)).unwrap();
        folder.write(&format!("stable/{file}"), &bytes);
    }
    folder.write("next/config.min.json", CONFIG);
    folder.write("next/model.onnx", b"not a model");
    let process = Process::start(&folder.0, &["--baseline", "stable", "--candidate", "next"]);
    soon(|| process.log().contains("next is not rolled out"));
    assert!(process.log().contains("model.onnx"), "{}", process.log());

    let reply = process.client().post("/classify", &[("x-user-id", "ann")], RUST).unwrap();
    assert_eq!((reply.status, reply.text("label")), (200, "rust"));
    let status = process.operator().get("/rollout").unwrap();
    assert!(status.text("no_rollout_because").contains("model.onnx"), "{status:?}");
    let text = process.operator().get("/rollout?format=text").unwrap().plain;
    assert!(text.starts_with("No rollout. stable serves everybody.\n! next is not"), "{text}");
}

#[test]
fn an_address_that_is_taken_or_none_is_named_with_its_option() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let models = models().display().to_string();
    let start = |listen: &str, admin: &str| {
        let model = ["serve", "--baseline", "standard_v3_3", "--models", &models];
        run(&[&model[..], &["--listen", listen, "--admin", admin]].concat())
    };
    assert_fails(&start("127.0.0.1:0", &taken), 1, &["--admin", &taken]);
    assert_fails(&start(&taken, "127.0.0.1:0"), 1, &["--listen", &taken]);
    assert_fails(&start("here", "127.0.0.1:0"), 1, &["--listen here"]);
}
