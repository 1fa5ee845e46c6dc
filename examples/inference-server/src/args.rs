//! The command line, read by hand: three commands, a dozen options, no shorthand.

use std::path::PathBuf;
use std::str::FromStr;

use crate::fault::Fault;

/// What the program was asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Print [`USAGE`].
    Help,
    /// Serve until interrupted.
    Serve(Options),
    /// Play rollouts against a server of its own.
    Demo(Options),
    /// Run two models over the samples and count.
    Compare(Options),
}

/// The options of every command; each command reads its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Name of the model that serves now.
    pub baseline: Option<String>,
    /// Name of the model that wants to follow it.
    pub candidate: Option<String>,
    /// What goes wrong with the candidate in the middle of its canary.
    pub fault: Fault,
    /// Directory with one folder a model.
    pub models: PathBuf,
    /// Directory of a sample pack.
    pub samples: PathBuf,
    /// Draws the order of samples and the users who send them.
    pub seed: u64,
    /// How many samples to replay; all of them when absent.
    pub take: Option<usize>,
    /// Where to write the result as JSON.
    pub json: Option<PathBuf>,
    /// Where to draw the rollout.
    pub svg: Option<PathBuf>,
    /// Where to write the shadow's report as a page.
    pub page: Option<PathBuf>,
    /// Where to write the cases on which the models differ, as JSON Lines.
    pub cases: Option<PathBuf>,
    /// Address to listen on.
    pub listen: String,
    /// Address of orders and of what is shown of rollouts.
    pub admin: String,
    /// The most calls of a candidate at once.
    pub candidate_calls: Option<u32>,
    /// Where rollouts are written down.
    pub journal: Option<PathBuf>,
    /// A file with the stages of rollouts, as JSON.
    pub plan: Option<PathBuf>,
}

/// A command line that cannot be followed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}; `inference-server help` shows the usage")]
pub struct ArgsError(String);

impl Command {
    /// Reads the arguments that follow the program's name.
    ///
    /// # Errors
    ///
    /// [`ArgsError`], naming the argument.
    pub fn read(arguments: impl IntoIterator<Item = String>) -> Result<Self, ArgsError> {
        let mut arguments = arguments.into_iter();
        let Some(name) = arguments.next() else {
            return Err(ArgsError("no command given, expected serve, demo or compare".to_owned()));
        };
        let (build, allowed): (fn(Options) -> Self, &[&str]) = match &name[..] {
            "help" | "--help" | "-h" => return Ok(Self::Help),
            "serve" => (Self::Serve, SERVE),
            "demo" => (Self::Demo, DEMO),
            "compare" => (Self::Compare, COMPARE),
            other => {
                let fault = format!("unknown command `{other}`, expected serve, demo or compare");
                return Err(ArgsError(fault));
            }
        };
        let mut options = Options::default();
        let mut given = Vec::new();
        while let Some(argument) = arguments.next() {
            let (option, value) = match argument.split_once('=') {
                Some((option, value)) => (option.to_owned(), Some(value.to_owned())),
                None if argument == "--help" || argument == "-h" => return Ok(Self::Help),
                None => (argument, None),
            };
            if !allowed.contains(&&option[..]) {
                return Err(ArgsError(format!("`{name}` has no option `{option}`")));
            }
            if given.contains(&option) {
                return Err(ArgsError(format!("`{option}` is given twice")));
            }
            let Some(value) = value.or_else(|| arguments.next()).filter(|value| !value.is_empty())
            else {
                return Err(ArgsError(format!("`{option}` wants a value")));
            };
            options.set(&option, value)?;
            given.push(option);
        }
        Ok(build(options))
    }
}

impl Options {
    fn set(&mut self, option: &str, value: String) -> Result<(), ArgsError> {
        match option {
            "--baseline" => self.baseline = Some(value),
            "--candidate" => self.candidate = Some(value),
            "--fault" => {
                self.fault = value
                    .parse()
                    .map_err(|fault| ArgsError(format!("--fault `{value}`: {fault}")))?;
            }
            "--models" => self.models = value.into(),
            "--samples" => self.samples = value.into(),
            "--seed" => self.seed = number(option, &value)?,
            "--take" => match number(option, &value)? {
                0 => return Err(ArgsError("--take `0`: at least one sample is needed".to_owned())),
                take => self.take = Some(take),
            },
            "--json" => self.json = Some(value.into()),
            "--svg" => self.svg = Some(value.into()),
            "--page" => self.page = Some(value.into()),
            "--cases" => self.cases = Some(value.into()),
            "--listen" => self.listen = value,
            "--admin" => self.admin = value,
            "--journal" => self.journal = Some(value.into()),
            "--candidate-calls" => match number(option, &value)? {
                0 => {
                    let fault = "--candidate-calls `0`: give at least one call".to_owned();
                    return Err(ArgsError(fault));
                }
                calls => self.candidate_calls = Some(calls),
            },
            "--plan" => self.plan = Some(value.into()),
            other => return Err(ArgsError(format!("`{other}` is not an option"))),
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Self {
        let here = PathBuf::from("examples/inference-server");
        Self {
            baseline: None,
            candidate: None,
            fault: Fault::None,
            models: here.join("models"),
            samples: here.join("data/filetypes"),
            seed: 1,
            take: None,
            json: None,
            svg: None,
            page: None,
            cases: None,
            listen: "127.0.0.1:8080".to_owned(),
            admin: "127.0.0.1:8081".to_owned(),
            candidate_calls: None,
            journal: None,
            plan: None,
        }
    }
}

fn number<T: FromStr>(option: &str, value: &str) -> Result<T, ArgsError> {
    value.parse().map_err(|_| ArgsError(format!("{option} `{value}` is not a whole number")))
}

const SERVE: &[&str] = &[
    "--baseline",
    "--candidate",
    "--candidate-calls",
    "--models",
    "--listen",
    "--admin",
    "--journal",
    "--plan",
];
const DEMO: &[&str] = &[
    "--baseline",
    "--candidate",
    "--fault",
    "--models",
    "--samples",
    "--seed",
    "--take",
    "--json",
    "--svg",
];
const COMPARE: &[&str] = &[
    "--baseline",
    "--candidate",
    "--models",
    "--samples",
    "--seed",
    "--take",
    "--page",
    "--cases",
];

/// What `help` prints.
pub const USAGE: &str = "\
A real model behind HTTP, and its successor rolled out through Pilotage.

inference-server serve --baseline NAME [--candidate NAME]
    Serves NAME; with a candidate, rolls it out. PILOTAGE_TOKEN in the environment is the
    password of orders; without it none are taken.
      --models DIR     one folder a model     [examples/inference-server/models]
      --listen ADDR    where users are served [127.0.0.1:8080]
      --admin ADDR     where orders are taken and GET /rollout shows how things stand; on
                       threads and connections of its own  [127.0.0.1:8081]
      --candidate-calls N
                       the most calls of the candidate at once; what is beyond the baseline answers
      --journal FILE   writes rollouts down there. A restart then goes on where the last process
                       was: a promoted model serves, a rollout under way goes on, and a candidate
                       whose rollout is over begins again by an order only  [nothing is written]
      --plan FILE      the stages, as JSON    [5 min of shadow, then 5, 25, 50 and 100 %]
    SIGTERM or control-C answers what is under way (10 s at most) and leaves the rollout to the
    next process.
      curl localhost:8081/rollout?format=text
      curl -X POST -H 'Authorization: Bearer TOKEN' localhost:8081/rollout/abort
    Orders: abort, kill, pause, resume, approve, extend, retry, promote, start, drill, finish.

inference-server demo
    Starts a server on a free port, replays labelled samples over HTTP and tells three stories.
    With --baseline and --candidate it tells the story of that pair alone.
      --baseline NAME --candidate NAME
      --fault KIND     none, hang, errors:RATE (0 to 1) or slow:FACTOR (over 1), in the canary  [none]
      --models DIR     one folder a model     [examples/inference-server/models]
      --samples DIR    a sample pack          [examples/inference-server/data/filetypes]
      --seed N         draws users and order  [1]
      --take N         use only the first N samples
      --json FILE      write the result there
      --svg FILE       draw the rollout there

inference-server compare --baseline NAME --candidate NAME
    Runs both models over the samples, counts answers fixed and broken, and says what a shadow
    would come to: agreement, who is right, label by label, and how sure that is.
      --models DIR, --samples DIR, --seed N, --take N   as above
      --page FILE      write the shadow's report there, as a page
      --cases FILE     write the cases on which they differ there, as JSON Lines

Exit code: 0 when the command did its work, 1 when it could not, 2 for bad arguments.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, ArgsError> {
        Command::read(line.split_whitespace().map(str::to_owned))
    }

    fn error(line: &str) -> String {
        read(line).unwrap_err().to_string()
    }

    #[test]
    fn options_come_with_a_space_or_an_equals_sign() {
        let spaced = read("demo --baseline a --candidate b --fault errors:0.15 --seed 7");
        let equals = read("demo --baseline=a --candidate=b --fault=errors:0.15 --seed=7");
        assert!(spaced.is_ok());
        assert_eq!(spaced, equals);
    }

    #[test]
    fn a_server_has_an_address_for_operators_a_journal_and_a_plan() {
        let line = "serve --baseline a --admin 127.0.0.1:0 --journal r.journal --plan p.json";
        let Ok(Command::Serve(options)) = read(line) else { panic!("{line}") };
        assert_eq!(options.admin, "127.0.0.1:0");
        assert_eq!(options.journal, Some("r.journal".into()));
        assert_eq!(options.plan, Some("p.json".into()));
        let Ok(Command::Serve(options)) = read("serve --baseline a") else { panic!("serve") };
        assert_ne!(options.admin, options.listen);
        assert_eq!((options.journal, options.plan), (None, None));
    }

    #[test]
    fn every_option_of_serve_is_explained() {
        for option in SERVE {
            assert!(USAGE.contains(option), "{option}");
        }
    }

    #[test]
    fn an_error_names_the_argument() {
        assert!(error("").contains("no command"));
        assert!(error("sail").contains("`sail`"));
        assert!(error("demo --sped 1").contains("`--sped`"));
        assert!(error("serve --fault none").contains("`serve` has no option `--fault`"));
        assert!(error("demo --seed").contains("`--seed` wants a value"));
        assert!(error("demo --seed one").contains("`one` is not a whole number"));
        assert!(error("demo --seed 1 --seed 2").contains("given twice"));
        assert!(error("demo --take 0").contains("at least one"));
        assert!(error("demo --fault errors:NaN").contains("errors:NaN"));
    }
}
