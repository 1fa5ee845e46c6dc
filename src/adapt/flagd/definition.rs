//! A flag definition file, compiled, and its answers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::coerce::text;
use super::compile::{Compiler, Rule, shown};
use super::error::FlagdError;
use super::evaluate::Run;
use super::fractional::Fractional;
use super::schema::{Shape, check_file, check_flags};
use crate::adapt::json;

/// How a file is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// How subjects are assigned by `fractional`.
    pub fractional: Fractional,
    /// Whether one bad rule spoils its flag or the file.
    pub strictness: Strictness,
    /// The most bytes a file may have; 1 MiB unless set.
    pub max_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fractional: Fractional::default(),
            strictness: Strictness::default(),
            max_bytes: 1 << 20,
        }
    }
}

impl Options {
    /// Sets how subjects are assigned by `fractional`.
    #[must_use]
    pub const fn fractional(mut self, version: Fractional) -> Self {
        self.fractional = version;
        self
    }

    /// Sets whether one bad rule spoils its flag or the file.
    #[must_use]
    pub const fn strictness(mut self, strictness: Strictness) -> Self {
        self.strictness = strictness;
        self
    }

    /// Sets the most bytes a file may have.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }
}

/// Whether one bad rule spoils its flag or the file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Strictness {
    /// A flag whose targeting cannot be compiled answers with a parse error; the rest of the file
    /// is used.
    #[default]
    Flag,
    /// The file must satisfy flagd's JSON schema, targeting included, or none of it is used.
    Schema,
}

/// What kind of value a caller wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Wanted {
    /// A truth.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// A text.
    Text,
    /// An object.
    Object,
    /// Whatever it is.
    Any,
}

impl Wanted {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Bool => value.is_boolean(),
            // `1.0` is a whole number as well.
            Self::Int => {
                value.is_i64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
            }
            Self::Float => value.is_number(),
            Self::Text => value.is_string(),
            Self::Object => value.is_object(),
            Self::Any => true,
        }
    }
}

/// Why a flag answered, in flagd's words.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum FlagdReason {
    /// It has no targeting.
    Static,
    /// Its targeting chose.
    TargetingMatch,
    /// Its targeting left the choice to the default.
    Default,
    /// It is disabled: the caller's default holds.
    Disabled,
    /// See the error code: the caller's default holds.
    Error,
}

impl fmt::Display for FlagdReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Static => "STATIC",
            Self::TargetingMatch => "TARGETING_MATCH",
            Self::Default => "DEFAULT",
            Self::Disabled => "DISABLED",
            Self::Error => "ERROR",
        })
    }
}

/// What went wrong, in flagd's words.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum FlagdCode {
    /// There is no such flag.
    FlagNotFound,
    /// Its targeting cannot be compiled, or costs too much.
    ParseError,
    /// Its value has another type than the caller wants.
    TypeMismatch,
    /// Its targeting chose what is not a variant.
    General,
}

impl fmt::Display for FlagdCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FlagNotFound => "FLAG_NOT_FOUND",
            Self::ParseError => "PARSE_ERROR",
            Self::TypeMismatch => "TYPE_MISMATCH",
            Self::General => "GENERAL",
        })
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct Resolution<'f> {
    /// The value, or none where the caller's default holds.
    pub value: Option<&'f Value>,
    /// The variant's name, where there is a value.
    pub variant: Option<&'f str>,
    /// Why.
    pub reason: FlagdReason,
    /// What went wrong.
    pub error: Option<FlagdCode>,
    /// What went wrong, for people.
    pub message: Option<String>,
    /// The flag's metadata, over that of its set.
    pub metadata: Cow<'f, Map<String, Value>>,
}

/// A flag definition file, compiled.
#[derive(Debug)]
pub struct FlagdFlags {
    flags: BTreeMap<String, Flag>,
    metadata: Map<String, Value>,
    fractional: Fractional,
}

#[derive(Debug)]
struct Flag {
    enabled: bool,
    variants: BTreeMap<String, Value>,
    default: Option<String>,
    targeting: Option<Result<Rule, String>>,
    /// Its own. That of the set is laid under it when the flag is asked: ten thousand copies of it
    /// would make a small file large.
    metadata: Map<String, Value>,
}

impl FlagdFlags {
    /// Reads and compiles a file: flags as an object by name, or as a list with keys.
    ///
    /// # Errors
    ///
    /// [`FlagdError`] for what is wrong first. Nothing of the file is then used.
    pub fn parse(file: &[u8], options: &Options) -> Result<Self, FlagdError> {
        if file.len() > options.max_bytes {
            return Err(FlagdError::TooLarge { len: file.len(), most: options.max_bytes });
        }
        let file = json::parse(file)?;
        match options.strictness {
            Strictness::Schema => check_file(&file, Shape::Daemon)?,
            Strictness::Flag => check_flags(&file, Shape::Daemon)?,
        }
        let object = |name: &str| file.get(name).and_then(Value::as_object);
        let mut compiler = Compiler::new(object("$evaluators"));
        let set_metadata = object("metadata").cloned().unwrap_or_default();
        let specs: Vec<(&str, &Value)> = match file.get("flags") {
            Some(Value::Object(specs)) => {
                specs.iter().map(|(name, spec)| (name.as_str(), spec)).collect()
            }
            Some(Value::Array(specs)) => {
                specs.iter().filter_map(|spec| Some((spec.get("key")?.as_str()?, spec))).collect()
            }
            _ => Vec::new(),
        };
        let mut flags = BTreeMap::new();
        for (name, spec) in specs {
            let flag = Flag::new(name, spec, &mut compiler)?;
            if flags.insert(name.to_owned(), flag).is_some() {
                let problem = "the key is given twice; keys must differ".to_owned();
                return Err(FlagdError::Shape { at: format!("flags.{}", shown(name)), problem });
            }
        }
        Ok(Self { flags, metadata: set_metadata, fractional: options.fractional })
    }

    /// Asks a flag. `context` is the evaluation context, an object with `targetingKey` for the
    /// subject (anything else is an empty one); `timestamp` is the present time in seconds since
    /// 1970, for rules that ask for it.
    pub fn evaluate(
        &self,
        key: &str,
        wanted: Wanted,
        context: &Value,
        timestamp: i64,
    ) -> Resolution<'_> {
        let Some((name, flag)) = self.flags.get_key_value(key) else {
            return Resolution {
                value: None,
                variant: None,
                reason: FlagdReason::Error,
                error: Some(FlagdCode::FlagNotFound),
                message: Some(format!("there is no flag {}", shown(key))),
                metadata: Cow::Borrowed(&self.metadata),
            };
        };
        let none = Map::new();
        let context = context.as_object().unwrap_or(&none);
        let answer = flag.choose(name, context, timestamp, self.fractional);
        flag.resolve(answer, wanted, &self.metadata)
    }

    /// The names of its flags, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.flags.keys().map(String::as_str)
    }

    /// The metadata of the set.
    #[must_use]
    pub const fn metadata(&self) -> &Map<String, Value> {
        &self.metadata
    }

    /// The flags whose targeting could not be compiled, with what is wrong with it.
    pub fn problems(&self) -> impl Iterator<Item = (&str, &str)> {
        self.flags.iter().filter_map(|(name, flag)| match &flag.targeting {
            Some(Err(problem)) => Some((name.as_str(), problem.as_str())),
            _ => None,
        })
    }
}

/// The variant that was chosen, if any, and why; or what went wrong.
type Chosen<'f> = Result<(Option<&'f str>, FlagdReason), (FlagdCode, String)>;

impl Flag {
    fn new<'s>(
        name: &str,
        spec: &'s Value,
        compiler: &mut Compiler<'s>,
    ) -> Result<Self, FlagdError> {
        let variants: BTreeMap<String, Value> = spec
            .get("variants")
            .and_then(Value::as_object)
            .map(|all| all.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
            .unwrap_or_default();
        let default = spec.get("defaultVariant").and_then(Value::as_str).map(str::to_owned);
        if let Some(default) = &default {
            if !variants.contains_key(default) {
                return Err(FlagdError::Shape {
                    at: format!("flags.{}.defaultVariant", shown(name)),
                    problem: format!("{} is not one of its variants", shown(default)),
                });
            }
        }
        let targeting = spec
            .get("targeting")
            .filter(|rule| rule.as_object().is_some_and(|rule| !rule.is_empty()))
            .map(|rule| compiler.compile(rule));
        let metadata = spec.get("metadata").and_then(Value::as_object).cloned();
        let metadata = metadata.unwrap_or_default();
        let enabled = spec.get("state").and_then(Value::as_str) == Some("ENABLED");
        Ok(Self { enabled, variants, default, targeting, metadata })
    }

    fn choose(
        &self,
        name: &str,
        context: &Map<String, Value>,
        timestamp: i64,
        version: Fractional,
    ) -> Chosen<'_> {
        if !self.enabled {
            return Ok((None, FlagdReason::Disabled));
        }
        let rule = match &self.targeting {
            Some(Ok(rule)) => rule,
            Some(Err(problem)) => return Err((FlagdCode::ParseError, problem.clone())),
            None if self.default.is_some() => {
                return Ok((self.default.as_deref(), FlagdReason::Static));
            }
            None => return Ok((None, FlagdReason::Default)),
        };
        let mut run = Run { flag: name, context, timestamp, version, steps_left: Run::STEPS };
        let chosen = match run.run(rule) {
            Ok(chosen) => chosen,
            Err(_) => {
                let problem = format!("its targeting takes more than {} steps", Run::STEPS);
                return Err((FlagdCode::ParseError, problem));
            }
        };
        let variant = match &*chosen {
            Value::Null => return Ok((self.default.as_deref(), FlagdReason::Default)),
            Value::Array(_) | Value::Object(_) => {
                let problem = "its targeting gave a list or an object, not a variant".to_owned();
                return Err((FlagdCode::General, problem));
            }
            // A truth or a number names the variant that is called so.
            scalar => text(scalar),
        };
        match self.variants.get_key_value(&*variant) {
            Some((variant, _)) => Ok((Some(variant), FlagdReason::TargetingMatch)),
            None => {
                let variant = shown(&variant);
                let problem = format!("its targeting gave {variant}, which is no variant");
                Err((FlagdCode::General, problem))
            }
        }
    }

    fn resolve<'f>(
        &'f self,
        chosen: Chosen<'_>,
        wanted: Wanted,
        of_set: &'f Map<String, Value>,
    ) -> Resolution<'f> {
        let metadata = || match (self.metadata.is_empty(), of_set.is_empty()) {
            (true, _) => Cow::Borrowed(of_set),
            (_, true) => Cow::Borrowed(&self.metadata),
            (false, false) => {
                let mut all = of_set.clone();
                all.extend(self.metadata.iter().map(|(name, value)| (name.clone(), value.clone())));
                Cow::Owned(all)
            }
        };
        let error = |code, message| Resolution {
            value: None,
            variant: None,
            reason: FlagdReason::Error,
            error: Some(code),
            message: Some(message),
            metadata: metadata(),
        };
        let (variant, reason) = match chosen {
            Ok((Some(variant), reason)) => (self.variants.get_key_value(variant), reason),
            Ok((None, reason)) => (None, reason),
            Err((code, message)) => return error(code, message),
        };
        match variant {
            Some((variant, value)) if !wanted.fits(value) => error(
                FlagdCode::TypeMismatch,
                format!("its variant {} is not what was asked for ({wanted:?})", shown(variant)),
            ),
            chosen => Resolution {
                value: chosen.map(|(_, value)| value),
                variant: chosen.map(|(variant, _)| variant.as_str()),
                reason,
                error: None,
                message: None,
                metadata: metadata(),
            },
        }
    }
}
