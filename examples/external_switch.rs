//! Traffic that is moved by somebody else: weights in a file, as a proxy would read them.
//!
//! ```sh
//! cargo run --release --example external_switch [FOLDER]
//! ```
//!
//! The pilot asks this switch first and its own router second, so what the status calls in force is
//! in force at the proxy. Half-way the folder cannot be written for a second: the stage is earned,
//! the weights do not change, people are told, and the pilot asks again until it is obeyed. Taking a
//! candidate back never waits for the switch: this process stops using it first.

use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotage::alert::alerter::FnAlerter;
use pilotage::control::Pilot;
use pilotage::judge::guardrail::Guardrail;
use pilotage::model;
use pilotage::rollout::plan::Plan;
use pilotage::route::switch::{Split, SwitchError, TrafficSwitch};
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;

/// Weights in a file.
struct WeightsFile {
    path: PathBuf,
}

impl WeightsFile {
    /// All of the order or nothing of it: a proxy never reads half a file.
    fn write(&self, order: &Split) -> std::io::Result<()> {
        let draft = self.path.with_extension("draft");
        let mut file = fs::File::create(&draft)?;
        file.write_all(&serde_json::to_vec(order)?)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)
    }
}

impl TrafficSwitch for WeightsFile {
    fn shift(&self, order: &Split) -> Result<(), SwitchError> {
        self.write(order).map_err(|error| SwitchError::Unreachable {
            reason: format!("{}: {error}", self.path.display()),
        })
    }

    /// Read anew each time: after a restart the file knows and this process does not.
    fn in_force(&self) -> Option<Split> {
        serde_json::from_slice(&fs::read(&self.path).ok()?).ok()
    }
}

#[expect(clippy::disallowed_methods, reason = "an example lives in real time")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).map_or_else(
        || std::env::temp_dir().join(format!("weights-{}", std::process::id())),
        PathBuf::from,
    );
    fs::create_dir_all(&folder)?;
    let away = folder.with_extension("away");
    let path = folder.join("weights.json");

    let old: fn(&u64) -> Result<u64, Infallible> = |number| Ok(number + 1);
    let new: fn(&u64) -> Result<u64, Infallible> = |number| Ok(number.wrapping_add(1));
    let router = Router::builder("numbers").stable("v1", model::sync(old)).build()?;
    let switch = WeightsFile { path: path.clone() };
    switch.write(&router.split())?;

    let second = Duration::from_secs(1);
    let guardrails = [Guardrail::error_rate().floor(0.01)];
    let plan = Plan::builder()
        .canary(TrafficShare::percent(5.0)?, second, 100)
        .canary(TrafficShare::HALF, second, 100)
        .full(second, 100)
        .guardrails(&guardrails)
        .build()?;
    let began = Instant::now();
    let tell = FnAlerter(move |alert: &pilotage::alert::alert::Alert| {
        println!("{:>5.1} s  alert: {}", began.elapsed().as_secs_f64(), alert.summary);
    });
    let new = Arc::new(model::sync(new));
    let pilot = Pilot::builder().switch(switch).alerter(tell).start(&router, "v2", new, plan)?;
    let _driver = pilot.spawn(Duration::from_millis(50))?;

    let (mut shown, mut away_since, mut was_away) = (None, None, false);
    for user in 0_u64.. {
        let _answer = router.predict_sync(&Request::of(user), &user)?;
        if user % 200 == 0 {
            std::thread::sleep(Duration::from_millis(10));
            let status = pilot.status();
            let now = (status.stage.clone(), status.wanted, status.share, on_file(&path));
            if shown.as_ref() != Some(&now) {
                let (stage, wanted, share, file) = &now;
                println!(
                    "{:>5.1} s  stage {stage}: wanted {wanted}, in force {share}, in the file {file}",
                    began.elapsed().as_secs_f64()
                );
                shown = Some(now);
            }
            if !was_away && status.share > TrafficShare::NONE {
                println!("{:>5.1} s  the folder goes away", began.elapsed().as_secs_f64());
                fs::rename(&folder, &away)?;
                (away_since, was_away) = (Some(Instant::now()), true);
            }
            if away_since.is_some_and(|since| since.elapsed() > 3 * second) {
                println!("{:>5.1} s  the folder is back", began.elapsed().as_secs_f64());
                fs::rename(&away, &folder)?;
                away_since = None;
            }
            if pilot.is_over() && !pilot.tick() {
                break;
            }
        }
    }
    let end = pilot.end().map_or("unfinished", |end| end.word());
    println!("it ended as {end}; the file says {}", on_file(&path));
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// What a proxy would read.
fn on_file(path: &Path) -> String {
    let split = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Split>(&text).ok());
    split.map_or_else(|| "out of reach".to_owned(), |split| split.candidate.to_string())
}
