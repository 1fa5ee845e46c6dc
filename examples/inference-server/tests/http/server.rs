//! The program as a process of its own, to be ended in every way.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use inference_server::client::{Client, Reply};

use crate::stage::{RUST, order};

pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_inference-server"))
}

/// A server process, ended with the test.
pub struct Process {
    pub child: Child,
    users: SocketAddr,
    admin: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Serves models of a folder, on free ports.
    pub fn start(models: &Path, arguments: &[&str]) -> Self {
        let mut child = program()
            .arg("serve")
            .args(arguments)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--models"])
            .arg(models)
            .env("PILOTAGE_TOKEN", "open sesame")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut address = || -> SocketAddr {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            line.trim().rsplit('/').next().unwrap().parse().unwrap()
        };
        let (users, admin) = (address(), address());
        let log = Arc::new(Mutex::new(String::new()));
        let mut error = child.stderr.take().unwrap();
        let theirs = Arc::clone(&log);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = error.read(&mut bytes) {
                theirs.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..len]));
            }
        });
        thread::spawn(move || out.read_to_string(&mut String::new()));
        Self { child, users, admin, log }
    }

    /// What it wrote to standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn client(&self) -> Client {
        Client::new(self.users)
    }

    pub fn users(&self) -> SocketAddr {
        self.users
    }

    pub fn operator(&self) -> Client {
        Client::new(self.admin)
    }

    /// An order of somebody who may give it.
    pub fn order(&self, name: &str, body: &str) -> Reply {
        order(&mut self.operator(), name, body)
    }

    /// The page as JSON.
    pub fn page(&self) -> serde_json::Value {
        self.operator().get("/rollout").unwrap().body
    }

    /// The page as text.
    pub fn text(&self) -> String {
        self.operator().get("/rollout?format=text").unwrap().plain
    }

    /// The model that serves.
    pub fn serves(&self) -> String {
        self.client().get("/healthz").unwrap().text("model").to_owned()
    }

    /// Sends requests of so many users.
    pub fn ask(&self, users: usize) {
        let mut client = self.client();
        for user in 0..users {
            let name = format!("user-{user}");
            assert_eq!(
                client.post("/classify", &[("x-user-id", &name)], RUST).unwrap().status,
                200
            );
        }
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// As if the machine had ended it.
    pub fn kill_hard(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As an operator's system ends it.
    pub fn end(mut self) -> ExitStatus {
        self.signal("TERM");
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A plan that goes on by orders only, in a file.
pub fn plan(folder: &Path) -> PathBuf {
    let path = folder.join("plan.json");
    let plan = r#"{"rollback_window": "1h", "stages": [
        {"kind": "canary", "share": "25 %", "at_least": "5m", "min_samples": 1000000},
        {"kind": "canary", "share": "50 %", "at_least": "5m", "min_samples": 1000000},
        {"kind": "full", "at_least": "5m", "min_samples": 1000000}]}"#;
    std::fs::write(&path, plan).unwrap();
    path
}
