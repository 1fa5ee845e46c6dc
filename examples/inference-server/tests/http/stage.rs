//! A server to be treated badly, and proof that it took no harm.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use inference_server::client::{Client, Reply};
use inference_server::model::Classifier;
use inference_server::running::Running;
use inference_server::service::{Service, Settings};

pub struct Stage {
    pub service: Arc<Service>,
    pub running: Running,
    pub admin: Running,
}

impl Stage {
    /// A server of a model that was published.
    pub fn new() -> Self {
        Self::with(&models(), "standard_v3_3", &Settings::default())
    }

    pub fn with(models: &Path, model: &str, settings: &Settings) -> Self {
        let model = Arc::new(Classifier::load(models, model).unwrap());
        let service = Service::start(model, settings).unwrap();
        let running = Running::start(Arc::clone(&service), "127.0.0.1:0").unwrap();
        let admin = Running::admin(Arc::clone(&service), "127.0.0.1:0").unwrap();
        Self { service, running, admin }
    }

    pub fn client(&self) -> Client {
        Client::new(self.running.address())
    }

    /// Speaks to where operators are heard.
    pub fn operator(&self) -> Client {
        Client::new(self.admin.address())
    }

    /// An order of somebody who may give it.
    pub fn order(&self, name: &str, body: &str) -> Reply {
        order(&mut self.operator(), name, body)
    }

    /// The answer to bytes sent as they are, on a connection of their own.
    pub fn raw(&self, request: &[u8]) -> Reply {
        self.client().exchange(request).unwrap()
    }

    /// A new user is served, and every call that was begun has ended in one way or another.
    pub fn goes_on(&self) {
        let reply = self.client().post("/classify", &[("x-user-id", "after")], RUST).unwrap();
        assert_eq!((reply.status, reply.text("label")), (200, "rust"), "{reply:?}");
        for arm in self.service.router().totals() {
            assert_eq!(arm.in_flight(), 0);
            assert_eq!(arm.started, arm.ended.iter().sum::<u64>());
        }
    }
}

/// An order of somebody who may give it.
pub fn order(client: &mut Client, name: &str, body: &str) -> Reply {
    let right = [("authorization", "Bearer open sesame")];
    client.post(&format!("/rollout/{name}"), &right, body.as_bytes()).unwrap()
}

/// Waits a few seconds for something.
#[track_caller]
pub fn soon(mut so: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it did not come");
}

/// Calls begun on the baseline so far.
pub fn begun(stage: &Stage) -> u64 {
    stage.service.router().totals().first().map_or(0, |arm| arm.started)
}

/// A problem is told with its remedy.
pub fn assert_problem(reply: &Reply, status: u16, hint: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert!(reply.text("error").contains(hint), "{reply:?}");
    assert!(!reply.text("remedy").is_empty(), "{reply:?}");
}

pub fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

/// A directory of a test's own, gone with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let name = format!("pilotage-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A content that every published model knows.
pub const RUST: &[u8] = b"//! A crate.\n\nuse std::collections::HashMap;\n\n\
    pub fn count(words: &[String]) -> HashMap<&str, usize> {\n    \
    let mut counts = HashMap::new();\n    for word in words {\n        \
    *counts.entry(word.as_str()).or_insert(0) += 1;\n    }\n    counts\n}\n";
