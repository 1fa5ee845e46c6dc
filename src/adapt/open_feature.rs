//! Flags behind the `OpenFeature` API of the crate `open-feature` 0.3.
//!
//! [`FlagProvider`] answers from a [`FlagSet`]; with the feature `flagd`, [`FlagdProvider`] answers
//! from a flagd file. Neither waits, starts a thread or needs a runtime: the futures are ready at
//! once.
//!
//! The targeting key is the subject. The custom field `segment`, a text, is the segment; all other
//! custom fields are attributes (points in time as seconds since 1970, UTC; structures are left
//! out).
//!
//! That SDK has no events yet, so a change of configuration is not announced; the next evaluation
//! sees it. A kill switch is answered with the off variant and the reason `DISABLED`.
//!
//! ```
//! use open_feature::EvaluationContext;
//! use open_feature::provider::FeatureProvider;
//! use pilotage::adapt::open_feature::FlagProvider;
//! use pilotage::share::TrafficShare;
//! use pilotage::strategy::flag::{FlagSet, FlagSpec};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let flags =
//!     FlagSet::builder().flag(FlagSpec::new("ranker").share(TrafficShare::ALL)).build()?;
//! let provider = FlagProvider::new(flags.clone()); // keep the set: it is where flags change
//! let context = EvaluationContext::default().with_targeting_key("user-7");
//! let answer = provider.resolve_bool_value("ranker", &context).await.unwrap();
//! assert!(answer.value);
//! # Ok(())
//! # }
//! ```

use std::collections::HashMap;

use open_feature::provider::{FeatureProvider, ProviderMetadata, ResolutionDetails};
use open_feature::{
    EvaluationContext, EvaluationContextFieldValue, EvaluationError, EvaluationErrorCode,
    EvaluationReason, EvaluationResult, FlagMetadata, StructValue,
};

use crate::strategy::flag::{
    Attribute, Context, Evaluation, FlagKey, FlagSet, FlagSpec, Reason, Value,
};

/// Answers `OpenFeature` calls from a [`FlagSet`].
#[derive(Debug)]
pub struct FlagProvider {
    flags: FlagSet,
    generations: HashMap<String, u32>,
    metadata: ProviderMetadata,
}

impl FlagProvider {
    /// A provider that answers from this set.
    #[must_use]
    pub fn new(flags: FlagSet) -> Self {
        Self { flags, generations: HashMap::new(), metadata: ProviderMetadata::new("pilotage") }
    }

    /// Says that callers of this flag were written for this generation of it, where it is not the
    /// first.
    #[must_use]
    pub fn generation(mut self, flag: impl Into<String>, generation: u32) -> Self {
        self.generations.insert(flag.into(), generation);
        self
    }

    /// Asks the flag; `read` takes the value if it is of the type that is wanted.
    fn resolve<T>(
        &self,
        key: &str,
        context: &EvaluationContext,
        wanted: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> EvaluationResult<ResolutionDetails<T>> {
        let attributes: Vec<(&str, Attribute<'_>)> = context
            .custom_fields
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), attribute(value)?)))
            .collect();
        let mut request = match &context.targeting_key {
            Some(subject) => Context::of(subject),
            None => Context::anonymous(),
        };
        request = request.attributes(&attributes);
        if let Some(EvaluationContextFieldValue::String(segment)) =
            context.custom_fields.get("segment")
        {
            request = request.segment(segment);
        }
        let generation = self.generations.get(key).copied().unwrap_or(1);
        let Some(answer) = self.flags.evaluate(FlagKey::generation(key, generation), &request)
        else {
            return Err(error(EvaluationErrorCode::FlagNotFound, format!("no flag {key:?}")));
        };
        if answer.reason() == Reason::MissingSubject {
            let message = format!("the flag {key:?} depends on the targeting key; give one");
            return Err(error(EvaluationErrorCode::TargetingKeyMissing, message));
        }
        let Some(value) = read(answer.value()) else {
            let message =
                format!("the variant {:?} of the flag {key:?} is not {wanted}", answer.variant());
            return Err(error(EvaluationErrorCode::TypeMismatch, message));
        };
        Ok(ResolutionDetails::builder()
            .value(value)
            .variant(answer.variant())
            .reason(reason(answer.reason(), answer.spec()))
            .flag_metadata(metadata(&answer))
            .build())
    }
}

#[open_feature::async_trait]
impl FeatureProvider for FlagProvider {
    fn metadata(&self) -> &ProviderMetadata {
        &self.metadata
    }

    async fn resolve_bool_value(
        &self,
        flag_key: &str,
        evaluation_context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<bool>> {
        self.resolve(flag_key, evaluation_context, "a truth", |value| match value {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        })
    }

    async fn resolve_int_value(
        &self,
        flag_key: &str,
        evaluation_context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<i64>> {
        self.resolve(flag_key, evaluation_context, "a whole number", |value| match value {
            Value::Int(number) => Some(*number),
            _ => None,
        })
    }

    async fn resolve_float_value(
        &self,
        flag_key: &str,
        evaluation_context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<f64>> {
        self.resolve(flag_key, evaluation_context, "a number", |value| match value {
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        })
    }

    async fn resolve_string_value(
        &self,
        flag_key: &str,
        evaluation_context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<String>> {
        self.resolve(flag_key, evaluation_context, "a text", |value| match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        })
    }

    async fn resolve_struct_value(
        &self,
        flag_key: &str,
        evaluation_context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<StructValue>> {
        self.resolve(flag_key, evaluation_context, "a structure; no variant is one", |_| None)
    }
}

fn attribute(value: &EvaluationContextFieldValue) -> Option<Attribute<'_>> {
    Some(match value {
        EvaluationContextFieldValue::Bool(truth) => Attribute::Bool(*truth),
        EvaluationContextFieldValue::Int(number) => Attribute::Int(*number),
        EvaluationContextFieldValue::Float(number) => Attribute::Float(*number),
        EvaluationContextFieldValue::String(text) => Attribute::Text(text),
        EvaluationContextFieldValue::DateTime(time) => Attribute::Int(time.unix_timestamp()),
        EvaluationContextFieldValue::Struct(_) => return None,
    })
}

/// Our reason in the words of the specification, section 2.2.5. Our own word goes along in the
/// metadata.
fn reason(reason: Reason, spec: &FlagSpec) -> EvaluationReason {
    match reason {
        Reason::Killed | Reason::Gone | Reason::OtherGeneration | Reason::Scheduled => {
            EvaluationReason::Disabled
        }
        Reason::Denied | Reason::Allowed | Reason::Segment | Reason::Rule => {
            EvaluationReason::TargetingMatch
        }
        Reason::Share
        | Reason::OutsideShare
        | Reason::RuleShare
        | Reason::Drawn
        | Reason::Limited
        | Reason::HeldOut
        | Reason::OtherInLayer => EvaluationReason::Split,
        Reason::Archived => EvaluationReason::Static,
        Reason::Default if is_static(spec) => EvaluationReason::Static,
        Reason::Default | Reason::Prerequisite => EvaluationReason::Default,
        other => EvaluationReason::Other(other.as_str().to_uppercase()),
    }
}

/// Whether the flag answers everybody the same.
fn is_static(spec: &FlagSpec) -> bool {
    let lists = spec.deny.len() + spec.allow.len() + spec.segments.len() + spec.holdouts.len();
    let nets = spec.rules.len() + spec.requires.len();
    lists + nets == 0 && spec.layer.is_none() && spec.limit == crate::share::TrafficShare::ALL
}

fn metadata(answer: &Evaluation) -> FlagMetadata {
    let spec = answer.spec();
    let mut metadata = FlagMetadata::default()
        .with_value("reason", answer.reason().as_str())
        .with_value("version", i64::try_from(spec.version()).unwrap_or(i64::MAX))
        .with_value("generation", spec.generation());
    if let Some(owner) = &spec.owner {
        metadata.add_value("owner", owner.as_str());
    }
    metadata
}

fn error(code: EvaluationErrorCode, message: String) -> EvaluationError {
    EvaluationError::builder().code(code).message(message).build()
}

#[cfg(feature = "flagd")]
pub use of_flagd::FlagdProvider;

#[cfg(feature = "flagd")]
mod of_flagd {
    use std::fmt;
    use std::sync::Arc;

    use open_feature::{FlagMetadataValue, Value as FeatureValue};
    use serde_json::{Map, Value};

    use super::{
        EvaluationContext, EvaluationContextFieldValue, EvaluationErrorCode, EvaluationReason,
        EvaluationResult, FeatureProvider, FlagMetadata, ProviderMetadata, ResolutionDetails,
        StructValue, error,
    };
    use crate::adapt::flagd::{FlagdCode, FlagdReason, FlagdSet, Wanted};

    /// Answers `OpenFeature` calls from a flagd file.
    #[cfg_attr(docsrs, doc(cfg(feature = "flagd")))]
    pub struct FlagdProvider {
        flags: Arc<FlagdSet>,
        unix_time: Box<dyn Fn() -> i64 + Send + Sync>,
        metadata: ProviderMetadata,
    }

    impl FlagdProvider {
        /// A provider that answers from this set. `unix_time` gives the present time in seconds
        /// since 1970, UTC, for rules that ask for it.
        pub fn new(
            flags: Arc<FlagdSet>,
            unix_time: impl Fn() -> i64 + Send + Sync + 'static,
        ) -> Self {
            let metadata = ProviderMetadata::new("pilotage-flagd");
            Self { flags, unix_time: Box::new(unix_time), metadata }
        }

        fn resolve<T>(
            &self,
            key: &str,
            context: &EvaluationContext,
            wanted: Wanted,
            read: impl FnOnce(&Value) -> Option<T>,
        ) -> EvaluationResult<ResolutionDetails<T>> {
            let flags = self.flags.flags();
            let answer = flags.evaluate(key, wanted, &json(context), (self.unix_time)());
            let reason = match answer.reason {
                FlagdReason::Static => EvaluationReason::Static,
                FlagdReason::TargetingMatch => EvaluationReason::TargetingMatch,
                FlagdReason::Default => EvaluationReason::Default,
                FlagdReason::Disabled => EvaluationReason::Disabled,
                FlagdReason::Error => EvaluationReason::Error,
            };
            let message = answer.message.unwrap_or_default();
            let code = answer.error.map(|code| match code {
                FlagdCode::FlagNotFound => EvaluationErrorCode::FlagNotFound,
                FlagdCode::ParseError => EvaluationErrorCode::ParseError,
                FlagdCode::TypeMismatch => EvaluationErrorCode::TypeMismatch,
                FlagdCode::General => EvaluationErrorCode::General(message.clone()),
            });
            if let Some(code) = code {
                return Err(error(code, message));
            }
            let Some(value) = answer.value else {
                // The SDK passes the caller's default on only beside an error.
                let what = format!("{reason}: the caller's default holds");
                return Err(error(EvaluationErrorCode::General(what.clone()), what));
            };
            let Some(read) = read(value) else {
                let what = format!("the value of the flag {key:?} does not fit the type");
                return Err(error(EvaluationErrorCode::TypeMismatch, what));
            };
            Ok(ResolutionDetails::builder()
                .value(read)
                .variant(answer.variant.unwrap_or_default())
                .reason(reason)
                .flag_metadata(metadata(&answer.metadata))
                .build())
        }
    }

    impl fmt::Debug for FlagdProvider {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("FlagdProvider").field("flags", &self.flags).finish_non_exhaustive()
        }
    }

    #[open_feature::async_trait]
    impl FeatureProvider for FlagdProvider {
        fn metadata(&self) -> &ProviderMetadata {
            &self.metadata
        }

        async fn resolve_bool_value(
            &self,
            flag_key: &str,
            evaluation_context: &EvaluationContext,
        ) -> EvaluationResult<ResolutionDetails<bool>> {
            self.resolve(flag_key, evaluation_context, Wanted::Bool, Value::as_bool)
        }

        async fn resolve_int_value(
            &self,
            flag_key: &str,
            evaluation_context: &EvaluationContext,
        ) -> EvaluationResult<ResolutionDetails<i64>> {
            self.resolve(flag_key, evaluation_context, Wanted::Int, |value| {
                // A float that stands for a whole number of 64 bits, or none.
                let whole = |number: &f64| number.abs() < 9.0e18;
                value.as_i64().or_else(|| value.as_f64().filter(whole).map(|float| float as i64))
            })
        }

        async fn resolve_float_value(
            &self,
            flag_key: &str,
            evaluation_context: &EvaluationContext,
        ) -> EvaluationResult<ResolutionDetails<f64>> {
            self.resolve(flag_key, evaluation_context, Wanted::Float, Value::as_f64)
        }

        async fn resolve_string_value(
            &self,
            flag_key: &str,
            evaluation_context: &EvaluationContext,
        ) -> EvaluationResult<ResolutionDetails<String>> {
            self.resolve(flag_key, evaluation_context, Wanted::Text, |value| {
                value.as_str().map(str::to_owned)
            })
        }

        async fn resolve_struct_value(
            &self,
            flag_key: &str,
            evaluation_context: &EvaluationContext,
        ) -> EvaluationResult<ResolutionDetails<StructValue>> {
            self.resolve(flag_key, evaluation_context, Wanted::Object, |value| {
                value.as_object().map(structure)
            })
        }
    }

    fn json(context: &EvaluationContext) -> Value {
        let mut fields = Map::new();
        for (name, value) in &context.custom_fields {
            let value = match value {
                EvaluationContextFieldValue::Bool(truth) => Value::from(*truth),
                EvaluationContextFieldValue::Int(number) => Value::from(*number),
                EvaluationContextFieldValue::Float(number) => Value::from(*number),
                EvaluationContextFieldValue::String(text) => Value::from(text.as_str()),
                EvaluationContextFieldValue::DateTime(time) => Value::from(time.unix_timestamp()),
                EvaluationContextFieldValue::Struct(any) => match any.downcast_ref::<Value>() {
                    Some(value) => value.clone(),
                    None => continue,
                },
            };
            fields.insert(name.clone(), value);
        }
        if let Some(subject) = &context.targeting_key {
            fields.insert("targetingKey".to_owned(), Value::from(subject.as_str()));
        }
        Value::Object(fields)
    }

    fn structure(fields: &Map<String, Value>) -> StructValue {
        fields.iter().fold(StructValue::default(), |all, (name, value)| match feature(value) {
            Some(value) => all.with_field(name.as_str(), value),
            None => all, // that SDK has no null
        })
    }

    fn feature(value: &Value) -> Option<FeatureValue> {
        Some(match value {
            Value::Null => return None,
            Value::Bool(truth) => FeatureValue::Bool(*truth),
            Value::Number(number) => match number.as_i64() {
                Some(number) => FeatureValue::Int(number),
                None => FeatureValue::Float(number.as_f64()?),
            },
            Value::String(text) => FeatureValue::String(text.clone()),
            Value::Array(list) => FeatureValue::Array(list.iter().filter_map(feature).collect()),
            Value::Object(fields) => FeatureValue::Struct(structure(fields)),
        })
    }

    fn metadata(values: &Map<String, Value>) -> FlagMetadata {
        let mut metadata = FlagMetadata::default();
        for (name, value) in values {
            let value = match value {
                Value::Bool(truth) => FlagMetadataValue::Bool(*truth),
                Value::String(text) => FlagMetadataValue::String(text.clone()),
                Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                    (Some(number), _) => FlagMetadataValue::Int(number),
                    (None, Some(number)) => FlagMetadataValue::Float(number),
                    (None, None) => continue,
                },
                _ => continue,
            };
            metadata.add_value(name, value);
        }
        metadata
    }
}
