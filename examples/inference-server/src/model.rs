//! A published file-type model, loaded by name from a directory.
//!
//! A model is two files in a directory of its name: `model.onnx` and the `config.min.json` it was
//! published with. Both are held against each other when they are loaded, and the network has to
//! answer a trial input, so that a wrong file is found before any user meets it. Outputs are checked
//! again at every call: a network may well give NaN for one input only.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs, io};

use rten::{DataType, Dimension, NodeId, RunOptions, ThreadPool, ValueOrView, ValueType};
use rten_tensor::{AsView, Layout as _, NdTensor, Tensor};
use serde::Deserialize;

use crate::features::Layout;
use crate::framing;

/// A loaded model. Calls from several threads at once are fine.
pub struct Classifier {
    name: String,
    labels: Vec<Arc<str>>,
    layout: Layout,
    shortest: usize,
    usual_threshold: f32,
    thresholds: HashMap<String, f32>,
    overwrites: HashMap<String, Arc<str>>,
    network: rten::Model,
    input: NodeId,
    output: NodeId,
    floats: bool,
}

/// What a model says about a content.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The network's own best label; `undefined` when the content was too short to ask it.
    pub guess: Arc<str>,
    /// The label to tell users: the guess, or something more careful.
    pub label: Arc<str>,
    /// The network's score of its guess, from 0 to 1.
    pub score: f32,
    /// Why `label` is not `guess`.
    pub overwritten: Overwritten,
}

/// Why the label told to users is not the network's guess.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Overwritten {
    /// It is the guess.
    No,
    /// The model's publisher maps this guess to a plainer label.
    ByMap,
    /// The score is too low for this guess.
    LowConfidence,
}

/// How sure the network must be before its guess is told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Confidence {
    /// The network's own best label, whatever its score; nothing is overwritten.
    #[default]
    Raw,
    /// Any score will do, but the publisher's map of plainer labels is followed.
    BestGuess,
    /// The same threshold for every label.
    Medium,
    /// The threshold the publisher chose for the label.
    High,
}

/// A model that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The name would leave the models' directory.
    #[error(
        "model name `{name}` may hold only letters, digits, `_`, `-` and `.`, not lead with `.`"
    )]
    Name {
        /// As it was given.
        name: String,
    },
    /// A file is missing or cannot be read.
    #[error("{path}: {cause}; --models names a directory with one folder a model",
        path = .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The configuration is not understood.
    #[error("{path}: {cause}", path = .path.display())]
    Config {
        /// Which file.
        path: PathBuf,
        /// What is wrong in it.
        #[source]
        cause: serde_json::Error,
    },
    /// The configuration is understood and makes no sense.
    #[error("{path}: {fault}", path = .path.display())]
    Senseless {
        /// Which file.
        path: PathBuf,
        /// What is wrong in it, with the value.
        fault: String,
    },
    /// The network is not an ONNX file that can be run.
    #[error("{path} is not a model this server can run: {cause}", path = .path.display())]
    Network {
        /// Which file.
        path: PathBuf,
        /// What the runtime said.
        cause: String,
    },
    /// The network and the configuration disagree.
    #[error("{path} disagrees with its config.min.json: {fault}", path = .path.display())]
    Mismatch {
        /// The network.
        path: PathBuf,
        /// In what, with both values.
        fault: String,
    },
    /// The network failed on the trial input.
    #[error("{path} failed on a trial input: {cause}", path = .path.display())]
    Trial {
        /// The network.
        path: PathBuf,
        /// How.
        #[source]
        cause: CallError,
    },
}

/// A call that a model did not answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The runtime gave up.
    #[error("the network could not be run: {cause}")]
    Run {
        /// What the runtime said.
        cause: String,
    },
    /// Not one row of scores, one a label.
    #[error("the network answered with shape {found:?}, expected [1, {labels}]")]
    Shape {
        /// The shape of the output.
        found: Vec<usize>,
        /// How many labels there are.
        labels: usize,
    },
    /// A score is not a number between 0 and 1.
    #[error("the network scored label `{label}` with {score}")]
    Score {
        /// The label of the first such score.
        label: Arc<str>,
        /// The score.
        score: f32,
    },
    /// The model panicked.
    #[error("the model panicked")]
    Panicked,
    /// A fault that was switched on for a rehearsal.
    #[error("a fault was injected into this call")]
    Injected,
}

/// `config.min.json`, as far as it matters here. Fields that are not named are not needed.
#[derive(Deserialize)]
struct Config {
    beg_size: usize,
    mid_size: usize,
    end_size: usize,
    #[serde(default)]
    use_inputs_at_offsets: bool,
    #[serde(default = "usual_threshold")]
    medium_confidence_threshold: f32,
    min_file_size_for_dl: usize,
    padding_token: i32,
    block_size: usize,
    target_labels_space: Vec<String>,
    #[serde(default)]
    thresholds: HashMap<String, f32>,
    #[serde(default)]
    overwrite_map: HashMap<String, String>,
}

const fn usual_threshold() -> f32 {
    0.5
}

impl Config {
    /// What makes no sense, if anything does not.
    fn fault(&self) -> Option<String> {
        let width = [self.beg_size, self.mid_size, self.end_size];
        let scores = self.thresholds.values().chain([&self.medium_confidence_threshold]);
        if self.use_inputs_at_offsets {
            Some("use_inputs_at_offsets is true: such models are not supported".to_owned())
        } else if width.iter().any(|part| *part > WIDEST) || self.beg_size == 0 {
            Some(format!("beg, mid and end sizes {width:?} must be 1..={WIDEST}, 0.. and 0.."))
        } else if !(1..=self.beg_size).contains(&self.min_file_size_for_dl) {
            Some(format!(
                "min_file_size_for_dl {} is not in 1..=beg_size",
                self.min_file_size_for_dl
            ))
        } else if !(1..=WIDEST).contains(&self.block_size) {
            Some(format!("block_size {} is not in 1..={WIDEST}", self.block_size))
        } else if self.target_labels_space.is_empty() {
            Some("target_labels_space is empty".to_owned())
        } else {
            let odd = scores.copied().find(|score| !(0.0..=1.0).contains(score))?;
            Some(format!("a threshold of {odd} is not in 0..=1"))
        }
    }
}

impl Classifier {
    /// Loads the model `name` from `models`, and has it answer a trial input.
    ///
    /// # Errors
    ///
    /// [`LoadError`], with the path at fault.
    pub fn load(models: &Path, name: &str) -> Result<Self, LoadError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(LoadError::Name { name: name.to_owned() });
        }
        let config_path = models.join(name).join("config.min.json");
        let path = models.join(name).join("model.onnx");
        let read = |path: &Path| {
            fs::read(path).map_err(|cause| LoadError::Unreadable { path: path.to_owned(), cause })
        };
        let config: Config = serde_json::from_slice(&read(&config_path)?)
            .map_err(|cause| LoadError::Config { path: config_path.clone(), cause })?;
        if let Some(fault) = config.fault() {
            return Err(LoadError::Senseless { path: config_path, fault });
        }
        let bytes = read(&path)?;
        framing::check(&bytes).map_err(|cause| LoadError::Network { path: path.clone(), cause })?;
        let network = rten::Model::load(bytes)
            .map_err(|cause| LoadError::Network { path: path.clone(), cause: cause.to_string() })?;
        let classifier = Self::assemble(name, config, network)
            .map_err(|fault| LoadError::Mismatch { path: path.clone(), fault })?;
        let trial = b"A line of plain text.\n".repeat(classifier.layout.block / 22 + 1);
        match classifier.scores(&classifier.layout.features(&trial)) {
            Ok(_) => Ok(classifier),
            Err(cause) => Err(LoadError::Trial { path, cause }),
        }
    }

    fn assemble(name: &str, config: Config, network: rten::Model) -> Result<Self, String> {
        let (&[input], &[output]) = (network.input_ids(), network.output_ids()) else {
            let (inputs, outputs) = (network.input_ids().len(), network.output_ids().len());
            return Err(format!("{inputs} inputs and {outputs} outputs, expected one of each"));
        };
        let layout = Layout {
            beg: config.beg_size,
            mid: config.mid_size,
            end: config.end_size,
            block: config.block_size,
            padding: config.padding_token,
        };
        let floats = match network.node_info(input).and_then(|node| node.dtype()) {
            Some(ValueType::Tensor(DataType::Float)) => true,
            Some(ValueType::Tensor(DataType::Int32)) => false,
            other => return Err(format!("it reads {other:?}, expected 32-bit integers or floats")),
        };
        check_width(&network, input, "reads", layout.width())?;
        check_width(&network, output, "answers", config.target_labels_space.len())?;
        Ok(Self {
            name: name.to_owned(),
            labels: config.target_labels_space.into_iter().map(Arc::from).collect(),
            layout,
            shortest: config.min_file_size_for_dl,
            usual_threshold: config.medium_confidence_threshold,
            thresholds: config.thresholds,
            overwrites: config
                .overwrite_map
                .into_iter()
                .map(|(from, to)| (from, to.into()))
                .collect(),
            network,
            input,
            output,
            floats,
        })
    }

    /// The name it was loaded by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `content` is, told when the network is `confidence` sure.
    ///
    /// Waits for the network: milliseconds of work on this thread's account.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the network gives no usable answer.
    pub fn classify(&self, content: &[u8], confidence: Confidence) -> Result<Answer, CallError> {
        if content.is_empty() {
            return Ok(Answer::without_network("empty"));
        }
        let features = self.layout.features(content);
        if content.len() < self.shortest || features[self.shortest - 1] == self.layout.padding {
            let read = &content[..content.len().min(self.layout.block)];
            let text = std::str::from_utf8(read).is_ok();
            return Ok(Answer::without_network(if text { "txt" } else { "unknown" }));
        }
        let scores = self.scores(&features)?;
        let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0);
        Ok(self.decide(&self.labels[best], scores[best], confidence))
    }

    /// The answer to give for the network's guess.
    fn decide(&self, guess: &Arc<str>, score: f32, confidence: Confidence) -> Answer {
        let threshold = match confidence {
            Confidence::Raw | Confidence::BestGuess => 0.0,
            Confidence::Medium => self.usual_threshold,
            Confidence::High => {
                self.thresholds.get(&**guess).copied().unwrap_or(self.usual_threshold)
            }
        };
        let mapped = self.overwrites.get(&**guess).filter(|_| confidence != Confidence::Raw);
        let careful = mapped.unwrap_or(guess);
        let (label, overwritten) = if score < threshold {
            let plain = if is_text(careful) { "txt" } else { "unknown" };
            // Plain text is `txt` at any confidence, so nothing was overwritten.
            let same = plain == &**guess;
            (plain.into(), if same { Overwritten::No } else { Overwritten::LowConfidence })
        } else if let Some(mapped) = mapped {
            (Arc::clone(mapped), Overwritten::ByMap)
        } else {
            (Arc::clone(guess), Overwritten::No)
        };
        Answer { guess: Arc::clone(guess), label, score, overwritten }
    }

    /// One checked score a label.
    fn scores(&self, features: &[i32]) -> Result<Vec<f32>, CallError> {
        let shape = [1, features.len()];
        let input: ValueOrView = if self.floats {
            #[expect(clippy::cast_precision_loss, reason = "bytes and the padding are below 2^24")]
            let floats: Vec<f32> = features.iter().map(|number| *number as f32).collect();
            NdTensor::<f32, 2>::from_data(shape, floats).into()
        } else {
            NdTensor::<i32, 2>::from_data(shape, features.to_vec()).into()
        };
        let options =
            THREADS.with(|pool| RunOptions::default().with_thread_pool(Some(Arc::clone(pool))));
        let [output] = self
            .network
            .run_n(vec![(self.input, input)], [self.output], Some(options))
            .map_err(|cause| CallError::Run { cause: cause.to_string() })?;
        let output = Tensor::<f32>::try_from(output)
            .map_err(|cause| CallError::Run { cause: cause.to_string() })?;
        if output.shape() != [1, self.labels.len()] {
            let found = output.shape().to_vec();
            return Err(CallError::Shape { found, labels: self.labels.len() });
        }
        let scores = output.to_vec();
        match scores.iter().position(|score| !(0.0..=SURE).contains(score)) {
            Some(at) => {
                Err(CallError::Score { label: Arc::clone(&self.labels[at]), score: scores[at] })
            }
            None => Ok(scores),
        }
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classifier").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Answer {
    fn without_network(label: &str) -> Self {
        Self {
            guess: "undefined".into(),
            label: label.into(),
            score: 1.0,
            overwritten: Overwritten::No,
        }
    }
}

/// Whether the last dimension that the network declares for `node` is `expected`.
fn check_width(
    network: &rten::Model,
    node: NodeId,
    verb: &str,
    expected: usize,
) -> Result<(), String> {
    let shape = network.node_info(node).and_then(|node| node.shape());
    match shape.as_deref() {
        None => Ok(()), // nothing is declared: the trial input will tell
        Some([_, Dimension::Symbolic(_)]) => Ok(()),
        Some([_, Dimension::Fixed(width)]) if *width == expected => Ok(()),
        Some(other) => Err(format!("it {verb} {other:?}, expected rows of {expected} numbers")),
    }
}

/// Whether content of this label is text.
fn is_text(label: &str) -> bool {
    include_str!("../models/text-labels.txt").lines().any(|text| text == label)
}

thread_local! {
    /// One thread for the networks called from this thread: with as many callers as cores, splitting
    /// one inference over the cores only adds waiting.
    static THREADS: Arc<ThreadPool> = Arc::new(ThreadPool::with_num_threads(1));
}

/// The widest part or block a configuration may ask for, in numbers.
const WIDEST: usize = 1 << 20;
/// The largest score that is still a probability, with room for rounding.
const SURE: f32 = 1.0 + 1e-4;
