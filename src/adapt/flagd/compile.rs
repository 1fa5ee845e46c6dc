//! Targeting, compiled once: operators resolved, references followed, paths split.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

/// A compiled rule.
#[derive(Debug)]
pub(super) enum Rule {
    Constant(Value),
    List(Vec<Rule>),
    Var { path: Path, default: Box<Rule> },
    Shared(Arc<Rule>),
    Call(Op, Vec<Rule>),
    Fractional { key: Option<Box<Rule>>, buckets: Vec<(Rule, Rule)> },
}

/// Where a variable is found.
#[derive(Debug)]
pub(super) enum Path {
    /// The whole of the data.
    All,
    Fixed(Box<[Box<str>]>),
    Computed(Box<Rule>),
}

/// An operator that takes its arguments as they come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    If,
    Equal,
    StrictEqual,
    NotEqual,
    StrictNotEqual,
    Not,
    Truth,
    Or,
    And,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Max,
    Min,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Map,
    Filter,
    Reduce,
    All,
    Some,
    None,
    Merge,
    In,
    Cat,
    Substr,
    Log,
    Missing,
    MissingSome,
    StartsWith,
    EndsWith,
    Lower,
    Upper,
    SemVer,
}

impl Op {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "if" | "?:" => Self::If,
            "==" => Self::Equal,
            "===" => Self::StrictEqual,
            "!=" => Self::NotEqual,
            "!==" => Self::StrictNotEqual,
            "!" => Self::Not,
            "!!" => Self::Truth,
            "or" => Self::Or,
            "and" => Self::And,
            ">" => Self::Greater,
            ">=" => Self::GreaterEqual,
            "<" => Self::Less,
            "<=" => Self::LessEqual,
            "max" => Self::Max,
            "min" => Self::Min,
            "+" => Self::Add,
            "-" => Self::Subtract,
            "*" => Self::Multiply,
            "/" => Self::Divide,
            "%" => Self::Modulo,
            "map" => Self::Map,
            "filter" => Self::Filter,
            "reduce" => Self::Reduce,
            "all" => Self::All,
            "some" => Self::Some,
            "none" => Self::None,
            "merge" => Self::Merge,
            "in" => Self::In,
            "cat" => Self::Cat,
            "substr" => Self::Substr,
            "log" => Self::Log,
            "missing" => Self::Missing,
            "missing_some" => Self::MissingSome,
            "starts_with" => Self::StartsWith,
            "ends_with" => Self::EndsWith,
            "lower" => Self::Lower,
            "upper" => Self::Upper,
            "sem_ver" => Self::SemVer,
            _ => return None,
        })
    }
}

/// Compiles the rules of one file; what several flags refer to is compiled once.
pub(super) struct Compiler<'f> {
    evaluators: Option<&'f Map<String, Value>>,
    done: BTreeMap<&'f str, Result<(Arc<Rule>, usize), String>>,
    open: Vec<&'f str>,
    /// How deep the rule at hand lies, references followed: what bounds our own recursion.
    level: usize,
}

/// A rule and how deeply it is nested, references followed.
type Built = Result<(Rule, usize), String>;

impl<'f> Compiler<'f> {
    pub(super) const fn new(evaluators: Option<&'f Map<String, Value>>) -> Self {
        Self { evaluators, done: BTreeMap::new(), open: Vec::new(), level: 0 }
    }

    /// The compiled rule, or what is wrong with it.
    pub(super) fn compile(&mut self, rule: &'f Value) -> Result<Rule, String> {
        self.build(rule).map(|(rule, _)| rule)
    }

    fn build(&mut self, rule: &'f Value) -> Built {
        if self.level == DEEPEST {
            return Err(too_deep());
        }
        self.level += 1;
        let built = self.build_here(rule);
        self.level -= 1;
        let (rule, depth) = built?;
        if depth >= DEEPEST {
            return Err(too_deep());
        }
        Ok((rule, depth + 1))
    }

    fn build_here(&mut self, rule: &'f Value) -> Built {
        Ok(match rule {
            Value::Array(list) => {
                let (list, depth) = self.build_all(list)?;
                (Rule::List(list), depth)
            }
            Value::Object(call) => {
                let mut entries = call.iter();
                match (entries.next(), entries.next()) {
                    (Some((name, arguments)), None) => self.call(name, arguments)?,
                    (None, _) => (Rule::Constant(rule.clone()), 0),
                    (Some((first, _)), Some((second, _))) => {
                        return Err(format!(
                            "a rule has one operator, but here are {} and {}",
                            shown(first),
                            shown(second)
                        ));
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                (Rule::Constant(rule.clone()), 0)
            }
        })
    }

    fn build_all(
        &mut self,
        rules: impl IntoIterator<Item = &'f Value>,
    ) -> Result<(Vec<Rule>, usize), String> {
        let (mut built, mut deepest) = (Vec::new(), 0);
        for rule in rules {
            let (rule, depth) = self.build(rule)?;
            built.push(rule);
            deepest = deepest.max(depth);
        }
        Ok((built, deepest))
    }

    fn call(&mut self, name: &'f str, arguments: &'f Value) -> Built {
        match name {
            "$ref" => return self.reference(arguments),
            "var" => return self.var(arguments),
            "fractional" => return self.fractional(arguments),
            _ => {}
        }
        let Some(op) = Op::named(name) else {
            return Err(format!("there is no operator {}", shown(name)));
        };
        let (arguments, depth) = match arguments {
            Value::Array(list) => self.build_all(list)?,
            single => self.build_all([single])?,
        };
        Ok((Rule::Call(op, arguments), depth))
    }

    fn reference(&mut self, name: &'f Value) -> Built {
        let Value::String(name) = name else {
            return Err("$ref must name an evaluator".to_owned());
        };
        if self.open.contains(&name.as_str()) {
            return Err(format!("the evaluator {} refers to itself", shown(name)));
        }
        if !self.done.contains_key(name.as_str()) {
            let rule = self.evaluators.and_then(|all| all.get(name));
            let rule = rule.ok_or_else(|| format!("there is no evaluator {}", shown(name)))?;
            self.open.push(name);
            let built = self.build(rule).map(|(rule, depth)| (Arc::new(rule), depth));
            self.open.pop();
            // From here it may be too deep, and from elsewhere not.
            if built.as_ref().is_err_and(|error| *error == too_deep()) {
                return Err(too_deep());
            }
            self.done.insert(name, built);
        }
        let (rule, depth) = self.done[name.as_str()].clone()?;
        Ok((Rule::Shared(rule), depth))
    }

    fn var(&mut self, arguments: &'f Value) -> Built {
        let (path, default) = match arguments {
            Value::Array(list) => (list.first(), list.get(1)),
            single => (Some(single), None),
        };
        let (path, path_depth) = match path {
            None | Some(Value::Null) => (Path::All, 0),
            Some(Value::String(path)) if path.is_empty() => (Path::All, 0),
            Some(Value::String(path)) => (Path::fixed(path), 0),
            Some(Value::Number(index)) => (Path::fixed(&index.to_string()), 0),
            Some(computed) => {
                let (rule, depth) = self.build(computed)?;
                (Path::Computed(Box::new(rule)), depth)
            }
        };
        let (default, depth) = match default {
            None => (Rule::Constant(Value::Null), 0),
            Some(default) => self.build(default)?,
        };
        Ok((Rule::Var { path, default: Box::new(default) }, depth.max(path_depth)))
    }

    fn fractional(&mut self, arguments: &'f Value) -> Built {
        let Value::Array(list) = arguments else {
            return Err("fractional needs a list of buckets".to_owned());
        };
        let (key, buckets) = match list.split_first() {
            Some((first, rest)) if !first.is_array() => (Some(first), rest),
            _ => (None, &list[..]),
        };
        let (key, mut deepest) = match key {
            None => (None, 0),
            Some(key) => {
                let (key, depth) = self.build(key)?;
                (Some(Box::new(key)), depth)
            }
        };
        let mut built = Vec::new();
        for bucket in buckets {
            let (variant, weight) = match bucket.as_array().map(Vec::as_slice) {
                Some([variant]) => (self.build(variant)?, (Rule::Constant(1.into()), 0)),
                Some([variant, weight]) => (self.build(variant)?, self.build(weight)?),
                _ => return Err("a bucket of fractional is [variant] or [variant, weight]".into()),
            };
            deepest = deepest.max(variant.1).max(weight.1);
            built.push((variant.0, weight.0));
        }
        if built.is_empty() {
            return Err("fractional needs at least one bucket".to_owned());
        }
        Ok((Rule::Fractional { key, buckets: built }, deepest))
    }
}

impl Path {
    pub(super) fn fixed(path: &str) -> Self {
        Self::Fixed(path.split('.').map(Box::from).collect())
    }
}

fn too_deep() -> String {
    format!("the rule is nested deeper than {DEEPEST} levels, references followed")
}

/// A name as a message may show it.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}

/// The deepest a rule may be nested, references followed: the depth of JSON itself.
const DEEPEST: usize = 127;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_that_never_end_are_refused() {
        let evaluators =
            json!({"a": {"$ref": "b"}, "b": {"!": {"$ref": "a"}}, "own": {"$ref": "own"}});
        for name in ["a", "b", "own"] {
            let rule = json!({"$ref": name});
            let mut compiler = Compiler::new(evaluators.as_object());
            let error = compiler.compile(&rule).unwrap_err();
            assert!(error.contains("refers to itself"), "{error}");
        }
    }

    #[test]
    fn a_long_chain_of_references_is_refused() {
        let evaluators: Map<String, Value> = (0..5000)
            .map(|at| (format!("e{at}"), json!({"!": {"$ref": format!("e{}", at + 1)}})))
            .chain([("e5000".to_owned(), json!(true))])
            .collect();
        let rule = json!({"$ref": "e0"});
        assert!(Compiler::new(Some(&evaluators)).compile(&rule).is_err());
        let rule = json!({"$ref": "e4950"});
        assert!(Compiler::new(Some(&evaluators)).compile(&rule).is_ok());
    }
}
