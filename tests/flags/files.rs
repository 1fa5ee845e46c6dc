//! Flags in files.

use std::fs;
use std::path::PathBuf;

use pilotage::adapt::flag_file::{FlagFile, FlagFileError, Read};
use pilotage::clock::Moment;
use pilotage::ids::Name;
use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{
    Condition, Context, FlagSet, FlagSpec, Requirement, Rule, Serve, Test, Value,
};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pilotage-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn flags() -> FlagSet {
    let share = |percent| TrafficShare::percent(percent).unwrap();
    let rule = Rule::new(
        Serve::Share(share(3.0)),
        [
            Condition::new("country", Test::OneOf(vec![Value::Text("DE".into()), Value::Int(4)])),
            Condition::new("age", Test::Below(18.5)),
            Condition::new("new", Test::Absent),
        ],
    );
    let mut model = FlagSpec::choosing(
        "model",
        ("v2", Value::Text("v2 \"old\"\n".into())),
        [("v3", Value::Float(0.25), 3), ("v4", Value::Bool(true), 1)],
    )
    .share(share(0.0001))
    .deny("größe")
    .rule(rule)
    .in_layer("search", share(10.0), share(20.0))
    .in_holdout("quarter");
    model.requires.push(Requirement { flag: "parent".into(), variant: "on".into() });
    FlagSet::builder()
        .segment("premium")
        .layer("search")
        .holdout("quarter", share(5.0))
        .flag(FlagSpec::new("parent").default_variant("on").enable_segment("premium"))
        .flag(model)
        .build()
        .unwrap()
}

fn endings() -> Vec<&'static str> {
    let mut endings = Vec::new();
    if cfg!(feature = "json") {
        endings.push("json");
    }
    if cfg!(feature = "toml") {
        endings.push("toml");
    }
    endings
}

#[test]
fn a_set_comes_back_from_a_file_the_same() {
    let folder = Folder::new("same");
    for ending in endings() {
        let path = folder.file(&format!("flags.{ending}"));
        let original = flags();
        original.kill("model").unwrap();
        FlagFile::new(&path).unwrap().write_from(&original).unwrap();
        let back = FlagSet::builder().build().unwrap();
        let mut file = FlagFile::new(&path).unwrap();
        assert_eq!(file.read_into(&back).unwrap(), Read::Applied);
        assert_eq!(file.read_into(&back).unwrap(), Read::Unchanged);
        assert_eq!(back.stored().flags, original.stored().flags);
        assert!(back.is_killed("model").unwrap());
    }
}

#[test]
fn a_file_that_cannot_be_used_leaves_the_last_good_flags() {
    let folder = Folder::new("bad");
    for ending in endings() {
        let path = folder.file(&format!("flags.{ending}"));
        let set =
            FlagSet::builder().flag(FlagSpec::new("x").default_variant("on")).build().unwrap();
        let mut file = FlagFile::new(&path).unwrap();
        file.write_from(&set).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let field = if ending == "json" { "\"default\"" } else { "default =" };
        let twice =
            if ending == "json" { "\"off\": \"on\", \"off\"" } else { "off = \"on\"\noff =" };
        let once = if ending == "json" { "\"off\"" } else { "\noff =" };
        let cases = [
            good[..good.len() / 2].to_owned().into_bytes(),
            good.replace(field, &field.replace("default", "defautl")).into_bytes(),
            good.replacen(once, twice, 1).into_bytes(),
            [good.as_bytes(), b"\xff\xfe"].concat(),
            good.replace("1000000", "1000001").into_bytes(),
            vec![b' '; 2 << 20],
            "[".repeat(100_000).into_bytes(),
        ];
        for bad in cases {
            assert_ne!(bad, good.as_bytes());
            fs::write(&path, &bad).unwrap();
            let error = file.read_into(&set).unwrap_err().to_string();
            assert!(error.contains("flags."), "{error}");
            assert!(set.is_on("x", &Context::of("someone")));
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(file.read_into(&set), Err(FlagFileError::Io { .. })));
        fs::write(&path, &good).unwrap();
        let _ = file.read_into(&set).unwrap();
    }
    assert!(FlagFile::new(folder.file("flags.yaml")).is_err());
}

#[test]
fn a_file_that_flaps_is_one_alert_and_no_change() {
    let Some(ending) = endings().pop() else { return };
    let folder = Folder::new("flap");
    let path = folder.file(&format!("flags.{ending}"));
    let set = FlagSet::builder().flag(FlagSpec::new("x").default_variant("on")).build().unwrap();
    let mut file = FlagFile::new(&path).unwrap();
    file.write_from(&set).unwrap();
    let good = fs::read(&path).unwrap();
    let name = Name::new("flags").unwrap();
    let mut keys = std::collections::BTreeSet::new();
    for minute in 0..50 {
        fs::write(&path, if minute % 2 == 0 { b"{".to_vec() } else { good.clone() }).unwrap();
        if let Err(error) = file.read_into(&set) {
            keys.insert(file.alert(&error, &name, Moment::from_secs(60 * minute)).key);
        }
        assert!(set.is_on("x", &Context::of("someone")));
    }
    assert_eq!(keys.len(), 1);
    assert_eq!(set.revision(), 1, "the good file is what is in force already");
}

#[test]
fn a_write_that_fails_leaves_the_old_file() {
    let Some(ending) = endings().pop() else { return };
    let folder = Folder::new("write");
    let path = folder.file(&format!("flags.{ending}"));
    let mut file = FlagFile::new(&path).unwrap();
    file.write_from(&flags()).unwrap();
    let before = fs::read(&path).unwrap();
    // The new file cannot be made where a folder of its name stands.
    fs::create_dir(folder.file(&format!("flags.{ending}.new"))).unwrap();
    assert!(file.write_from(&FlagSet::builder().build().unwrap()).is_err());
    assert_eq!(fs::read(&path).unwrap(), before);
}
