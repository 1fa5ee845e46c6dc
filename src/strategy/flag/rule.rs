//! Rules over what is known about a request.
//!
//! There are no regular expressions: a pattern can cost more than the model, and what teams ask of
//! one is nearly always a prefix, a suffix or a list.

use serde::{Deserialize, Serialize};

use super::context::{Attribute, Context};
use super::error::FlagError;
use super::semver::Version;
use super::value::Value;
use crate::share::TrafficShare;

/// If every condition holds, this is the answer; later rules, share and default are not asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What is served.
    pub serve: Serve,
    /// What must hold, all of it; at least one.
    pub when: Vec<Condition>,
}

/// What a rule serves.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Serve {
    /// The off variant.
    Off,
    /// Exposure: the split over the arms.
    On,
    /// This variant.
    Variant(String),
    /// Exposure of this fraction, off for the rest.
    Share(TrafficShare),
}

/// A test of one attribute. An attribute that is missing, of another type or not finite passes no
/// test but [`Test::Absent`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The attribute's name.
    pub attribute: String,
    /// The test.
    pub test: Test,
}

/// How an attribute is tested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Test {
    /// It equals one of these. Whole numbers equal the same float.
    OneOf(Vec<Value>),
    /// It is there and equals none of these.
    NoneOf(Vec<Value>),
    /// A text that starts with this.
    StartsWith(String),
    /// A text that ends with this.
    EndsWith(String),
    /// A text that holds this.
    Contains(String),
    /// A number below this.
    Below(f64),
    /// A number above this.
    Above(f64),
    /// A number that is this or less.
    AtMost(f64),
    /// A number that is this or more.
    AtLeast(f64),
    /// A semantic version below this.
    VersionBelow(String),
    /// A semantic version that is this or later.
    VersionAtLeast(String),
    /// It is there.
    Present,
    /// It is not there.
    Absent,
}

impl Rule {
    /// A rule that serves `serve` when every one of `when` holds.
    #[must_use]
    pub fn new(serve: Serve, when: impl IntoIterator<Item = Condition>) -> Self {
        Self { serve, when: when.into_iter().collect() }
    }

    pub(super) fn matches(&self, context: &Context<'_>) -> bool {
        self.when.iter().all(|condition| condition.holds(context))
    }

    pub(super) fn check(&self, flag: &str) -> Result<(), FlagError> {
        if self.when.is_empty() {
            return Err(FlagError::range(
                flag,
                "rules.when",
                "empty",
                "at least one condition; a rule without one is the default",
            ));
        }
        if self.when.len() > MOST_CONDITIONS {
            return Err(FlagError::TooMany {
                flag: flag.to_owned(),
                field: "conditions of a rule",
                count: self.when.len(),
                most: MOST_CONDITIONS,
            });
        }
        self.when.iter().try_for_each(|condition| condition.test.check(flag))
    }
}

impl Condition {
    /// A test of the attribute with this name.
    #[must_use]
    pub fn new(attribute: impl Into<String>, test: Test) -> Self {
        Self { attribute: attribute.into(), test }
    }

    fn holds(&self, context: &Context<'_>) -> bool {
        match context.attribute(&self.attribute) {
            None => matches!(self.test, Test::Absent),
            Some(value) => self.test.passes(value),
        }
    }
}

impl Test {
    fn passes(&self, found: Attribute<'_>) -> bool {
        match self {
            Self::OneOf(values) => values.iter().any(|value| equals(value, found)),
            Self::NoneOf(values) => {
                is_usable(found) && !values.iter().any(|value| equals(value, found))
            }
            Self::StartsWith(part) => text(found).is_some_and(|text| text.starts_with(&**part)),
            Self::EndsWith(part) => text(found).is_some_and(|text| text.ends_with(&**part)),
            Self::Contains(part) => text(found).is_some_and(|text| text.contains(&**part)),
            Self::Below(limit) => number(found).is_some_and(|number| number < *limit),
            Self::Above(limit) => number(found).is_some_and(|number| number > *limit),
            Self::AtMost(limit) => number(found).is_some_and(|number| number <= *limit),
            Self::AtLeast(limit) => number(found).is_some_and(|number| number >= *limit),
            Self::VersionBelow(limit) => version(found, limit).is_some_and(|order| order.is_lt()),
            Self::VersionAtLeast(limit) => version(found, limit).is_some_and(|order| order.is_ge()),
            Self::Present => true,
            Self::Absent => false,
        }
    }

    fn check(&self, flag: &str) -> Result<(), FlagError> {
        match self {
            Self::OneOf(values) | Self::NoneOf(values) => {
                if values.len() > MOST_VALUES {
                    return Err(FlagError::TooMany {
                        flag: flag.to_owned(),
                        field: "values of a condition",
                        count: values.len(),
                        most: MOST_VALUES,
                    });
                }
                for value in values {
                    if let Value::Float(number) = value {
                        finite(flag, *number)?;
                    }
                }
                Ok(())
            }
            Self::Below(limit)
            | Self::Above(limit)
            | Self::AtMost(limit)
            | Self::AtLeast(limit) => finite(flag, *limit),
            Self::VersionBelow(limit) | Self::VersionAtLeast(limit) => {
                match Version::parse(limit) {
                    Some(_) => Ok(()),
                    None => Err(FlagError::range(
                        flag,
                        "rules.when.test",
                        limit,
                        "a semantic version such as 1.4.0",
                    )),
                }
            }
            Self::StartsWith(_)
            | Self::EndsWith(_)
            | Self::Contains(_)
            | Self::Present
            | Self::Absent => Ok(()),
        }
    }
}

fn finite(flag: &str, number: f64) -> Result<(), FlagError> {
    if number.is_finite() {
        return Ok(());
    }
    Err(FlagError::range(flag, "rules.when.test", number, "a finite number"))
}

fn is_usable(found: Attribute<'_>) -> bool {
    !matches!(found, Attribute::Float(number) if !number.is_finite())
}

fn equals(value: &Value, found: Attribute<'_>) -> bool {
    match (value, found) {
        (Value::Bool(left), Attribute::Bool(right)) => *left == right,
        (Value::Int(left), Attribute::Int(right)) => *left == right,
        (Value::Int(left), Attribute::Float(right)) => *left as f64 == right,
        (Value::Float(left), Attribute::Int(right)) => *left == right as f64,
        (Value::Float(left), Attribute::Float(right)) => *left == right,
        (Value::Text(left), Attribute::Text(right)) => left == right,
        _ => false,
    }
}

fn text(found: Attribute<'_>) -> Option<&str> {
    if let Attribute::Text(text) = found { Some(text) } else { None }
}

fn number(found: Attribute<'_>) -> Option<f64> {
    match found {
        Attribute::Int(number) => Some(number as f64),
        Attribute::Float(number) if number.is_finite() => Some(number),
        _ => None,
    }
}

fn version(found: Attribute<'_>, limit: &str) -> Option<std::cmp::Ordering> {
    Some(Version::parse(text(found)?)?.cmp(&Version::parse(limit)?))
}

const MOST_CONDITIONS: usize = 64;
const MOST_VALUES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(test: Test, value: Attribute<'_>) -> bool {
        Condition::new("x", test).holds(&Context::anonymous().attributes(&[("x", value)]))
    }

    #[test]
    fn a_missing_attribute_passes_only_the_test_for_absence() {
        let context = Context::anonymous();
        assert!(Condition::new("x", Test::Absent).holds(&context));
        for test in [
            Test::NoneOf(vec![Value::Int(1)]),
            Test::Below(1.0),
            Test::Present,
            Test::StartsWith(String::new()),
        ] {
            assert!(!Condition::new("x", test).holds(&context));
        }
    }

    #[test]
    fn a_number_that_is_none_passes_nothing() {
        for test in [
            Test::Below(1.0),
            Test::AtLeast(0.0),
            Test::NoneOf(vec![Value::Int(1)]),
            Test::OneOf(vec![Value::Float(1.0)]),
        ] {
            assert!(!passes(test, Attribute::Float(f64::NAN)));
        }
    }

    #[test]
    fn tests_say_what_their_names_say() {
        assert!(passes(Test::OneOf(vec![Value::Int(2)]), Attribute::Float(2.0)));
        assert!(!passes(Test::OneOf(vec![Value::Int(2)]), Attribute::Text("2")));
        assert!(passes(Test::Contains("ü".into()), Attribute::Text("grün")));
        assert!(passes(Test::AtMost(3.0), Attribute::Int(3)));
        assert!(!passes(Test::Below(3.0), Attribute::Int(3)));
        assert!(passes(Test::VersionAtLeast("1.10.0".into()), Attribute::Text("1.10.0")));
        assert!(!passes(Test::VersionAtLeast("1.10.0".into()), Attribute::Text("1.9.9")));
        assert!(!passes(Test::VersionBelow("1.10.0".into()), Attribute::Text("latest")));
    }

    #[test]
    fn a_rule_that_cannot_be_tested_is_refused_with_its_value() {
        for (test, part) in [
            (Test::Below(f64::NAN), "NaN"),
            (Test::VersionBelow("one".into()), "one"),
            (Test::OneOf(vec![Value::Float(f64::INFINITY)]), "inf"),
        ] {
            let rule = Rule::new(Serve::On, [Condition::new("x", test)]);
            let error = rule.check("ranker").unwrap_err().to_string();
            assert!(error.contains("ranker") && error.contains(part), "{error}");
        }
        assert!(Rule::new(Serve::On, []).check("ranker").is_err());
    }
}
