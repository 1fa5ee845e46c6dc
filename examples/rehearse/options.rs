//! The command line.

use std::time::Duration;

use pilotage::sim::fault::Fault;
use pilotage::sim::latency::Latency;
use pilotage::sim::world::Climate;

use crate::{Failure, fault_text, numbers};

/// What is asked for.
pub struct Options {
    pub task: Task,
    pub plan: String,
    pub scale: Scale,
    pub climate: Climate,
    pub faults: Vec<Fault>,
    pub runs: u64,
    pub seed: Option<u64>,
    pub days: Option<f64>,
    pub threads: usize,
    pub json: Option<String>,
    pub strict: bool,
    pub look: Option<Duration>,
    pub salt: String,
    pub agree_within: Option<f64>,
}

pub enum Task {
    Help,
    Forecast,
    Replay(String),
    Soak(f64),
}

/// By how much the plan's times are stretched.
#[derive(Clone, Copy)]
pub enum Scale {
    By(f64),
    /// So that the plan, if nothing holds it, ends within the trace.
    Fit,
}

pub const HELP: &str = "\
What a rollout would do, before it is done.

  rehearse [--plan FILE|standard|quick] --traffic RATE [what is usual] [--fault TEXT]...
  rehearse [--plan FILE|standard|quick] --trace FILE [--strict]
  rehearse --soak YEARS

The plan
  --plan FILE          a plan in TOML or JSON, or standard (the default), or quick
  --scale FACTOR|fit   stretch its times; fit: so that it ends within the trace

What is usual
  --traffic RATE       requests: 100/s, 50/min, 2000/h           (100/s)
  --errors PART        calls that fail: 0.2% or 0.002            (0.1%)
  --timeouts PART      calls that time out                       (0.02%)
  --latency TIME       median of the answers                     (200ms)
  --sigma NUMBER       spread of the logarithm of latency        (0.6)
  --tail PART          answers from a heavy tail                 (0)
  --season PART        rise and fall of traffic in a day         (0)
  --dispersion NUMBER  variance over mean of counts, 1 or more   (1)
  --retries NUMBER     calls in a row of a client that fails     (1)
  --score MEAN,SD      scores given with the answers             (none)
  --agreement PART     requests on which both models agree       (97%)
  --segments A,B,...   parts of the traffic, adding up to 1      (none)

What goes wrong; times count from the start of the rollout
  --fault TEXT         errors x5 | errors +2% | timeouts +1% | hangs +1% | latency x1.5 |
                       score -0.1 | agreement 70% | lost 20% | no data | nan scores |
                       traffic x0.1 | clock +1h | restart
                       then: at 30h, for 2h, ramp 1h, pulse 5m/10m, on both, in 2
                       (without one: a list of usual faults)

A trace: CSV, one row a request, with what each model would have answered
  --trace FILE         replay it; - is standard input
  --strict             stop at the first bad row
  --look TIME          how often the machine looks               (1s)
  --salt TEXT          by which subjects fall on arms            (replay)
  --agree-within D     answers agree when their scores are within D
                       (without it: when both are answers)

How
  --runs N             rehearsals of each question               (200)
  --seed N             (1; for --soak: fixed ones and a fresh one, printed)
  --days N             follow a rollout for at most so long      (4 times the plan)
  --threads N          (as many as there are processors)
  --json FILE          everything as JSON; - is standard output

Exit codes: 0 done, or the trace ends promoted; 1 rolled back or refused, or a promise of the
soak is broken; 2 the trace ends first (held or unfinished); 64 usage; 65 bad plan, header or,
with --strict, row; 66 a file cannot be read; 74 one cannot be written.";

impl Options {
    pub fn read(arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self {
            task: Task::Forecast,
            plan: "standard".to_owned(),
            scale: Scale::By(1.0),
            climate: Climate::new(100.0),
            faults: Vec::new(),
            runs: 200,
            seed: None,
            days: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            json: None,
            strict: false,
            look: None,
            salt: "replay".to_owned(),
            agree_within: None,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let (name, given) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            if matches!(name.as_str(), "--help" | "-h") {
                options.task = Task::Help;
                return Ok(options);
            }
            if name == "--strict" {
                options.strict = true;
                continue;
            }
            let Some(value) = given.or_else(|| arguments.next()) else {
                return Err(Failure::usage(format!("{name} needs a value")));
            };
            options.set(&name, &value)?;
        }
        options.climate.check().map_err(|error| Failure::usage(error.to_string()))?;
        let with_faults = options
            .faults
            .iter()
            .fold(options.climate.clone(), |climate, fault| climate.fault(*fault));
        with_faults.check().map_err(|error| Failure::usage(error.to_string()))?;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let bad = |example: &str| Failure::usage(format!("{name} is \"{value}\"; write {example}"));
        let part = || numbers::part(value).ok_or_else(|| bad("a part, for example 0.2% or 0.002"));
        let number = || {
            let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
            number.ok_or_else(|| bad("a number"))
        };
        let whole = || value.parse::<u64>().map_err(|_| bad("a whole number"));
        let time = || numbers::time(value).ok_or_else(|| bad("a time, for example 200ms or 2h"));
        let climate = &mut self.climate;
        match name {
            "--plan" => value.clone_into(&mut self.plan),
            "--scale" if value == "fit" => self.scale = Scale::Fit,
            "--scale" => self.scale = Scale::By(number()?),
            "--traffic" => {
                climate.rate =
                    numbers::rate(value).ok_or_else(|| bad("100/s, 50/min or 2000/h"))?;
            }
            "--errors" => climate.errors = part()?,
            "--timeouts" => climate.timeouts = part()?,
            "--latency" => {
                let old = climate.latency;
                climate.latency = Latency::around(time()?).sigma(old.sigma).heavy_tail(old.tail);
            }
            "--sigma" => climate.latency = climate.latency.sigma(number()?),
            "--tail" => climate.latency = climate.latency.heavy_tail(part()?),
            "--season" => climate.season = part()?,
            "--dispersion" => climate.dispersion = number()?,
            "--retries" => climate.retries = number()?,
            "--agreement" => climate.agreement = part()?,
            "--score" => {
                let pair = value.split_once(',');
                let pair = pair.and_then(|(mean, sd)| Some((mean.parse().ok()?, sd.parse().ok()?)));
                climate.score = Some(pair.ok_or_else(|| bad("mean and deviation: 0.8,0.1"))?);
            }
            "--segments" => {
                let parts: Option<Vec<f64>> = value.split(',').map(numbers::part).collect();
                climate.segments = parts.ok_or_else(|| bad("parts: 70%,30%"))?;
            }
            "--fault" => self.faults.push(fault_text::fault(value).map_err(Failure::usage)?),
            "--trace" => self.task = Task::Replay(value.to_owned()),
            "--soak" => self.task = Task::Soak(number()?),
            "--look" => self.look = Some(time()?.max(Duration::from_millis(1))),
            "--salt" => value.clone_into(&mut self.salt),
            "--agree-within" => self.agree_within = Some(number()?),
            "--runs" => self.runs = whole()?.clamp(1, 1_000_000),
            "--seed" => self.seed = Some(whole()?),
            "--days" => self.days = Some(number()?),
            "--threads" => self.threads = whole()?.clamp(1, 256) as usize,
            "--json" => self.json = Some(value.to_owned()),
            _ => return Err(Failure::usage(format!("{name} is not an option"))),
        }
        Ok(())
    }
}
