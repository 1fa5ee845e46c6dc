//! Runs a compiled rule over the data of a request.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::coerce::{
    self, from_number, leading_number, loosely_equal, number, order, strictly_equal, string, text,
    truthy,
};
use super::compile::{Op, Path, Rule};
use super::fractional::Fractional;
use crate::strategy::flag::semver::Version;

/// One evaluation: what it knows, and what it may still cost.
pub(super) struct Run<'a> {
    pub(super) flag: &'a str,
    pub(super) context: &'a Map<String, Value>,
    /// Seconds since 1970, UTC.
    pub(super) timestamp: i64,
    pub(super) version: Fractional,
    pub(super) steps_left: u32,
}

/// What variables refer to.
#[derive(Clone, Copy)]
enum Scope<'a> {
    /// The context of the request, with flagd's own properties.
    Request,
    /// An element of a list.
    Item(&'a Value),
    /// An element of a list and what was folded so far.
    Fold { current: &'a Value, accumulator: &'a Value },
}

/// The rule costs more than an evaluation may.
#[derive(Debug)]
pub(super) struct TooCostly;

type Answer<'a> = Result<Cow<'a, Value>, TooCostly>;

impl<'a> Run<'a> {
    /// What one evaluation may cost: a step for each operator and list element, and for every 64
    /// bytes of text that are made.
    pub(super) const STEPS: u32 = 100_000;

    pub(super) fn run(&mut self, rule: &'a Rule) -> Answer<'a> {
        self.eval(rule, Scope::Request).map(coerce::plain)
    }

    fn spend(&mut self, steps: usize) -> Result<(), TooCostly> {
        let steps = u32::try_from(steps).map_err(|_| TooCostly)?;
        self.steps_left = self.steps_left.checked_sub(steps).ok_or(TooCostly)?;
        Ok(())
    }

    fn eval<'r>(&mut self, rule: &'r Rule, scope: Scope<'r>) -> Answer<'r>
    where
        'a: 'r,
    {
        self.spend(1)?;
        match rule {
            Rule::Constant(value) => Ok(Cow::Borrowed(value)),
            Rule::Shared(rule) => self.eval(rule, scope),
            Rule::List(rules) => {
                let mut list = Vec::with_capacity(rules.len());
                for rule in rules {
                    list.push(self.owned(rule, scope)?);
                }
                Ok(Cow::Owned(Value::Array(list)))
            }
            Rule::Var { path, default } => {
                let found = match path {
                    Path::All => Some(self.all(scope)?),
                    Path::Fixed(path) => self.lookup(path, scope)?,
                    Path::Computed(path) => {
                        let path = self.eval(path, scope)?;
                        let path = text(&path).into_owned();
                        match if path.is_empty() { Path::All } else { Path::fixed(&path) } {
                            Path::Fixed(path) => self.lookup(&path, scope)?,
                            Path::All | Path::Computed(_) => Some(self.all(scope)?),
                        }
                    }
                };
                match found {
                    Some(value) if !value.is_null() => Ok(value),
                    _ => self.eval(default, scope),
                }
            }
            Rule::Fractional { key, buckets } => self.fractional(key.as_deref(), buckets, scope),
            Rule::Call(op, arguments) => self.call(*op, arguments, scope),
        }
    }

    /// A value that is kept: copying it is paid for.
    fn owned<'r>(&mut self, rule: &'r Rule, scope: Scope<'r>) -> Result<Value, TooCostly>
    where
        'a: 'r,
    {
        let value = self.eval(rule, scope)?;
        self.spend(size(&value))?;
        Ok(value.into_owned())
    }

    fn all<'r>(&mut self, scope: Scope<'r>) -> Answer<'r>
    where
        'a: 'r,
    {
        match scope {
            Scope::Item(item) => Ok(Cow::Borrowed(item)),
            Scope::Request => {
                self.spend(self.context.iter().map(|(_, value)| size(value)).sum())?;
                Ok(Cow::Owned(Value::Object(self.context.clone())))
            }
            Scope::Fold { current, accumulator } => {
                self.spend(size(current).saturating_add(size(accumulator)))?;
                let entries = [("current", current), ("accumulator", accumulator)];
                let entries = entries.map(|(name, value)| (name.to_owned(), value.clone()));
                Ok(Cow::Owned(Value::Object(entries.into_iter().collect())))
            }
        }
    }

    fn lookup<'r>(
        &mut self,
        path: &[Box<str>],
        scope: Scope<'r>,
    ) -> Result<Option<Cow<'r, Value>>, TooCostly>
    where
        'a: 'r,
    {
        self.spend(path.len())?;
        let Some((first, rest)) = path.split_first() else { return Ok(None) };
        let start = match scope {
            Scope::Request if **first == *"$flagd" => {
                let property = match rest {
                    [name] if **name == *"flagKey" => Some(Value::from(self.flag)),
                    [name] if **name == *"timestamp" => Some(Value::from(self.timestamp)),
                    _ => None,
                };
                return Ok(property.map(Cow::Owned));
            }
            Scope::Request => self.context.get(&**first),
            Scope::Item(item) => member(item, first),
            Scope::Fold { current, .. } if **first == *"current" => Some(current),
            Scope::Fold { accumulator, .. } if **first == *"accumulator" => Some(accumulator),
            Scope::Fold { .. } => None,
        };
        Ok(rest.iter().fold(start, |at, name| member(at?, name)).map(Cow::Borrowed))
    }

    fn call<'r>(&mut self, op: Op, rules: &'r [Rule], scope: Scope<'r>) -> Answer<'r>
    where
        'a: 'r,
    {
        match op {
            Op::If => return self.choose(rules, scope),
            Op::Or | Op::And => {
                let mut last = Cow::Owned(Value::Null);
                for rule in rules {
                    last = self.eval(rule, scope)?;
                    if truthy(&last) == (op == Op::Or) {
                        break;
                    }
                }
                return Ok(last);
            }
            Op::Map | Op::Filter | Op::All | Op::Some | Op::None => {
                return self.each(op, rules, scope);
            }
            Op::Reduce => return self.reduce(rules, scope),
            _ => {}
        }
        let mut values = Vec::with_capacity(rules.len());
        for rule in rules {
            let value = self.eval(rule, scope)?;
            self.spend(size(&value) / 16)?; // to compare or join it, at worst
            values.push(value);
        }
        let null = Cow::Owned(Value::Null);
        let first = values.first().unwrap_or(&null);
        let second = values.get(1).unwrap_or(&null);
        let numbers = || values.iter().map(|value| number(value));
        let answer = match op {
            Op::Equal => loosely_equal(first, second).into(),
            Op::NotEqual => (!loosely_equal(first, second)).into(),
            Op::StrictEqual => strictly_equal(first, second).into(),
            Op::StrictNotEqual => (!strictly_equal(first, second)).into(),
            Op::Not => (!truthy(first)).into(),
            Op::Truth => truthy(first).into(),
            Op::Greater => rising(values.iter().take(2), |order| order.is_gt()),
            Op::GreaterEqual => rising(values.iter().take(2), |order| order.is_ge()),
            // With a third value, "between".
            Op::Less => rising(values.iter().take(3), |order| order.is_lt()),
            Op::LessEqual => rising(values.iter().take(3), |order| order.is_le()),
            Op::Max => extreme(numbers(), f64::max),
            Op::Min => extreme(numbers(), f64::min),
            Op::Add => from_number(values.iter().map(|value| leading_number(value)).sum()),
            // A single one is what it is, even if it is no number.
            Op::Multiply if values.len() < 2 => {
                return Ok(values.into_iter().next().unwrap_or(null));
            }
            Op::Multiply => from_number(values.iter().map(|value| leading_number(value)).product()),
            Op::Subtract if values.len() < 2 => from_number(-number(first)),
            Op::Subtract => from_number(number(first) - number(second)),
            Op::Divide => from_number(number(first) / number(second)),
            Op::Modulo => from_number(number(first) % number(second)),
            Op::Merge => {
                self.spend(values.iter().map(|value| size(value)).sum())?;
                let mut merged = Vec::new();
                for value in values {
                    match value.into_owned() {
                        Value::Array(list) => merged.extend(list),
                        single => merged.push(single),
                    }
                }
                Value::Array(merged)
            }
            Op::In => {
                self.spend(size(second))?;
                match (&**first, &**second) {
                    (_, Value::Array(list)) => {
                        list.iter().any(|item| strictly_equal(first, item)).into()
                    }
                    // Nothing is in an empty text, and what is missing is in no text.
                    (part, Value::String(whole)) => {
                        (!whole.is_empty() && whole.contains(&*string(part))).into()
                    }
                    _ => false.into(),
                }
            }
            Op::Cat => {
                self.spend(values.iter().map(|value| size(value)).sum())?;
                values.iter().map(|value| text(value)).collect::<String>().into()
            }
            Op::Substr => {
                self.spend(size(first))?;
                substr(&string(first), second, values.get(2).map(|value| &**value))
            }
            Op::Log => return Ok(values.into_iter().next().unwrap_or(null)),
            Op::Missing => {
                let listed = values.first().and_then(|first| first.as_array().cloned());
                let names =
                    listed.unwrap_or_else(|| values.iter().map(|v| (**v).clone()).collect());
                Value::Array(self.missing(names, scope)?)
            }
            Op::MissingSome => {
                let names = second.as_array().cloned().unwrap_or_default();
                let wanted = number(first);
                let all = names.len();
                let missing = self.missing(names, scope)?;
                let enough = (all - missing.len()) as f64 >= wanted;
                Value::Array(if enough { Vec::new() } else { missing })
            }
            Op::StartsWith | Op::EndsWith => match &values[..] {
                [whole, part] => match (&**whole, &**part) {
                    (Value::String(whole), Value::String(part)) if op == Op::StartsWith => {
                        whole.starts_with(&**part).into()
                    }
                    (Value::String(whole), Value::String(part)) => whole.ends_with(&**part).into(),
                    _ => Value::Null,
                },
                _ => Value::Null,
            },
            Op::Lower | Op::Upper => match (&values[..], op) {
                ([only], Op::Lower) => only.as_str().map(str::to_ascii_lowercase).into(),
                ([only], _) => only.as_str().map(str::to_ascii_uppercase).into(),
                _ => Value::Null,
            },
            Op::SemVer => match &values[..] {
                [left, sign, right] => compare_versions(left, sign, right),
                _ => Value::Null,
            },
            // Answered above, before their arguments are evaluated.
            Op::If | Op::Or | Op::And | Op::Map | Op::Filter | Op::Reduce => Value::Null,
            Op::All | Op::Some | Op::None => Value::Null,
        };
        Ok(Cow::Owned(answer))
    }

    fn choose<'r>(&mut self, rules: &'r [Rule], scope: Scope<'r>) -> Answer<'r>
    where
        'a: 'r,
    {
        let mut rest = rules;
        loop {
            match rest {
                [] => return Ok(Cow::Owned(Value::Null)),
                [otherwise] => return self.eval(otherwise, scope),
                [condition, then, more @ ..] => {
                    if truthy(&*self.eval(condition, scope)?) {
                        return self.eval(then, scope);
                    }
                    rest = more;
                }
            }
        }
    }

    fn each<'r>(&mut self, op: Op, rules: &'r [Rule], scope: Scope<'r>) -> Answer<'r>
    where
        'a: 'r,
    {
        let [list, test] = rules else { return Ok(Cow::Owned(Value::Null)) };
        let list = self.eval(list, scope)?;
        let items = list.as_array().map_or(&[][..], Vec::as_slice);
        let mut kept = Vec::new();
        let mut passed = 0;
        for item in items {
            let value = {
                // What comes of an element does not outlive the list.
                let value = self.eval_item(test, Scope::Item(item))?;
                self.spend(size(&value))?;
                value
            };
            let holds = truthy(&value);
            passed += usize::from(holds);
            match (op, holds) {
                (Op::All, false) => return Ok(Cow::Owned(false.into())),
                (Op::Some | Op::None, true) => return Ok(Cow::Owned((op == Op::Some).into())),
                _ => {}
            }
            match op {
                Op::Map => kept.push(value),
                Op::Filter if holds => {
                    self.spend(size(item))?;
                    kept.push(item.clone());
                }
                _ => {}
            }
        }
        Ok(Cow::Owned(match op {
            Op::Map | Op::Filter => Value::Array(kept),
            Op::All => (!items.is_empty() && passed == items.len()).into(),
            Op::Some => (passed > 0).into(),
            _ => (passed == 0).into(),
        }))
    }

    fn reduce<'r>(&mut self, rules: &'r [Rule], scope: Scope<'r>) -> Answer<'r>
    where
        'a: 'r,
    {
        let [list, step, start @ ..] = rules else { return Ok(Cow::Owned(Value::Null)) };
        let list = self.eval(list, scope)?;
        let mut accumulator = match start.first() {
            Some(start) => self.owned(start, scope)?,
            None => Value::Null,
        };
        for current in list.as_array().map_or(&[][..], Vec::as_slice) {
            let next = self.eval_item(step, Scope::Fold { current, accumulator: &accumulator })?;
            self.spend(size(&next))?;
            accumulator = next;
        }
        Ok(Cow::Owned(accumulator))
    }

    fn eval_item<'i>(&mut self, rule: &'i Rule, scope: Scope<'i>) -> Result<Value, TooCostly>
    where
        'a: 'i,
    {
        self.eval(rule, scope).map(Cow::into_owned)
    }

    fn missing(&mut self, names: Vec<Value>, scope: Scope<'_>) -> Result<Vec<Value>, TooCostly> {
        let mut missing = Vec::new();
        for name in names {
            let found = match Path::fixed(&text(&name)) {
                Path::Fixed(path) => self.lookup(&path, scope)?,
                Path::All | Path::Computed(_) => None,
            };
            let is_there = found.is_some_and(|found| {
                !found.is_null() && found.as_str().is_none_or(|text| !text.is_empty())
            });
            if !is_there {
                missing.push(name);
            }
        }
        Ok(missing)
    }

    fn fractional<'r>(
        &mut self,
        key: Option<&'r Rule>,
        buckets: &'r [(Rule, Rule)],
        scope: Scope<'r>,
    ) -> Answer<'r>
    where
        'a: 'r,
    {
        let key = match key {
            Some(key) => {
                let key = coerce::plain(self.eval(key, scope)?);
                self.spend(size(&key))?;
                self.version.key(&key)
            }
            None => {
                let subject = self.context.get("targetingKey").unwrap_or(&Value::Null);
                self.version.default_key(self.flag, subject)
            }
        };
        let Some(key) = key else { return Ok(Cow::Owned(Value::Null)) };
        let mut weights = Vec::with_capacity(buckets.len());
        for (_, weight) in buckets {
            let weight = self.eval(weight, scope)?;
            let weight = match weight.as_f64() {
                None if weight.is_null() => 1,
                Some(weight) if weight <= 0.0 => 0,
                Some(weight) if weight.fract() == 0.0 && weight <= f64::from(i32::MAX) => {
                    weight as u32
                }
                // Too much, a fraction or no number: not to be guessed.
                _ => return Ok(Cow::Owned(Value::Null)),
            };
            weights.push(weight);
        }
        match self.version.pick(&key, &weights) {
            Some(chosen) => self.eval(&buckets[chosen].0, scope),
            None => Ok(Cow::Owned(Value::Null)),
        }
    }
}

/// What keeping a value costs, in steps.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => 1 + text.len() / 64,
        Value::Array(list) => list.iter().map(size).sum::<usize>() + 1,
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| 1 + key.len() / 64 + size(value)).sum::<usize>() + 1
        }
    }
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(entries) => entries.get(name),
        Value::Array(list) => list.get(name.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Whether each of at least two values stands in this order to the next.
fn rising<'v, 'a: 'v>(
    mut values: impl ExactSizeIterator<Item = &'v Cow<'a, Value>>,
    holds: impl Fn(std::cmp::Ordering) -> bool,
) -> Value {
    if values.len() < 2 {
        return false.into();
    }
    let Some(mut before) = values.next() else { return false.into() };
    values
        .all(|value| {
            let pair = (std::mem::replace(&mut before, value), value);
            order(pair.0, pair.1).is_some_and(&holds)
        })
        .into()
}

fn extreme(numbers: impl Iterator<Item = f64>, better: impl Fn(f64, f64) -> f64) -> Value {
    // `f64::max` would pass over what is no number.
    let best =
        numbers.reduce(|a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { better(a, b) });
    best.map_or(Value::Null, from_number) // of nothing at all
}

fn substr(text: &str, from: &Value, length: Option<&Value>) -> Value {
    let letters: Vec<char> = text.chars().collect();
    let all = letters.len();
    let place = |number: f64| -> usize {
        // Negative places count from the end; what is no number is the beginning.
        if number < 0.0 {
            all.saturating_sub((-number) as usize)
        } else {
            (number as usize).min(all)
        }
    };
    let from = place(number(from));
    let to = match length.map(coerce::number) {
        None => all,
        Some(length) if length < 0.0 => place(length),
        Some(length) => from.saturating_add(length as usize).min(all),
    };
    letters.get(from..to.max(from)).map_or_else(String::new, |part| part.iter().collect()).into()
}

fn compare_versions(left: &Value, sign: &Value, right: &Value) -> Value {
    let usable = |value: &Value| matches!(value, Value::String(_) | Value::Number(_));
    if !usable(left) || !usable(right) {
        return Value::Null;
    }
    let (left, right) = (text(left), text(right));
    let (Some(left), Some(right)) = (Version::parse_loose(&left), Version::parse_loose(&right))
    else {
        return Value::Null;
    };
    match sign.as_str() {
        Some("=") => (left == right).into(),
        Some("!=") => (left != right).into(),
        Some("<") => (left < right).into(),
        Some("<=") => (left <= right).into(),
        Some(">") => (left > right).into(),
        Some(">=") => (left >= right).into(),
        Some("^") => left.same_major(&right).into(),
        Some("~") => left.same_minor(&right).into(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::super::compile::Compiler;
    use super::*;
    use serde_json::json;

    fn result(rule: &Value, context: &Value) -> Result<Value, TooCostly> {
        let rule = Compiler::new(None).compile(rule).unwrap();
        let mut run = Run {
            flag: "flag",
            context: context.as_object().unwrap(),
            timestamp: 1_700_000_000,
            version: Fractional::V2,
            steps_left: Run::STEPS,
        };
        run.run(&rule).map(Cow::into_owned)
    }

    #[test]
    fn operators_do_what_their_documentation_says() {
        let context = json!({
            "integers": [1, 2, 3], "pies": [{"filling": "apple"}, {"filling": "rhubarb"}],
            "a": {"b": ["x", "y"]}, "empty": "", "temp": 55,
        });
        for (rule, expected) in [
            (json!({"var": "a.b.1"}), json!("y")),
            (json!({"var": ["nobody", 26]}), json!(26)),
            (json!({"var": "$flagd.flagKey"}), json!("flag")),
            (json!({"var": "$flagd.timestamp"}), json!(1_700_000_000)),
            (json!({"var": {"cat": ["a", ".b.0"]}}), json!("x")),
            (json!({"if": [false, 1, 0, 2, 3]}), json!(3)),
            (json!({"if": [true]}), json!(true)),
            (json!({"if": [false, 1]}), json!(null)),
            (json!({"or": [false, 0, "a"]}), json!("a")),
            (json!({"and": [true, "", 3]}), json!("")),
            (json!({"<": [1, 2, 3]}), json!(true)),
            (json!({"<": [1, 4, 3]}), json!(false)),
            (json!({"<=": [1, 1, 3]}), json!(true)),
            (json!({"<": ["x", 1]}), json!(false)),
            (json!({"+": "3.25"}), json!(3.25)),
            (json!({"+": ["1", 2]}), json!(3)),
            (json!({"-": 2}), json!(-2)),
            (json!({"/": [4, 2]}), json!(2)),
            (json!({"/": [4, 0]}), json!(null)),
            (json!({"%": [101, 2]}), json!(1)),
            (json!({"max": [1, "x"]}), json!(null)),
            (json!({"min": [3, 1, 2]}), json!(1)),
            (json!({"map": [{"var": "integers"}, {"*": [{"var": ""}, 2]}]}), json!([2, 4, 6])),
            (json!({"filter": [{"var": "integers"}, {"%": [{"var": ""}, 2]}]}), json!([1, 3])),
            (
                json!({"reduce": [{"var": "integers"},
                    {"+": [{"var": "current"}, {"var": "accumulator"}]}, 10]}),
                json!(16),
            ),
            (json!({"all": [[1, 2], {">": [{"var": ""}, 0]}]}), json!(true)),
            (json!({"all": [[], {">": [{"var": ""}, 0]}]}), json!(false)),
            (json!({"none": [[], true]}), json!(true)),
            (
                json!({"some": [{"var": "pies"}, {"==": [{"var": "filling"}, "apple"]}]}),
                json!(true),
            ),
            (json!({"merge": [1, [2], [[3]]]}), json!([1, 2, [3]])),
            (json!({"in": ["Ringo", ["John", "Ringo"]]}), json!(true)),
            (json!({"in": ["Spring", "Springfield"]}), json!(true)),
            (json!({"in": ["x", null]}), json!(false)),
            (json!({"cat": ["I love", " pie ", 2, 1.0]}), json!("I love pie 21")),
            (json!({"substr": ["jsonlogic", 4]}), json!("logic")),
            (json!({"substr": ["jsonlogic", -5]}), json!("logic")),
            (json!({"substr": ["jsonlogic", 1, 3]}), json!("son")),
            (json!({"substr": ["jsonlogic", 4, -2]}), json!("log")),
            (json!({"substr": ["größe", 2, 1]}), json!("ö")),
            (json!({"missing": ["temp", "gone", "empty"]}), json!(["gone", "empty"])),
            (json!({"missing_some": [1, ["temp", "gone"]]}), json!([])),
            (json!({"missing_some": [2, ["temp", "gone"]]}), json!(["gone"])),
            (json!({"!": [[]]}), json!(true)),
            (json!({"!!": "0"}), json!(true)),
            (json!({"starts_with": ["abc", "ab"]}), json!(true)),
            (json!({"starts_with": ["abc", 1]}), json!(null)),
            (json!({"sem_ver": ["1.2.3", ">=", "1.2.3-rc.1"]}), json!(true)),
            (json!({"sem_ver": ["1.2.3", "===", "1.2.3"]}), json!(null)),
            (json!({"sem_ver": [true, "=", "1.2.3"]}), json!(null)),
        ] {
            assert_eq!(result(&rule, &context).unwrap(), expected, "{rule}");
        }
    }

    /// Inside a list or object, which no flag can answer with, numbers keep their disguise.
    fn undisguise(value: &mut Value) {
        *value = coerce::plain(Cow::Borrowed(&*value)).into_owned();
        match value {
            Value::Array(list) => list.iter_mut().for_each(undisguise),
            Value::Object(entries) => entries.values_mut().for_each(undisguise),
            _ => {}
        }
    }

    /// `PILOTAGE_JSON_LOGIC_CASES=<file>` names another table of the same form.
    #[test]
    fn rules_come_out_as_in_the_reference_implementation() {
        let own = include_str!("../../../tests/golden/json_logic.jsonl").to_owned();
        let table = match std::env::var("PILOTAGE_JSON_LOGIC_CASES") {
            Ok(path) => std::fs::read_to_string(path).unwrap(),
            Err(_) => own,
        };
        let same = |left: &Value, right: &Value| {
            // A whole number is one, however it is written.
            left == right
                || left.to_string().replace(".0", "") == right.to_string().replace(".0", "")
        };
        let (mut all, mut wrong) = (0, Vec::new());
        for row in table.lines().filter(|row| !row.starts_with('#')) {
            let [rule, context, expected]: [Value; 3] = serde_json::from_str(row).unwrap();
            let mut got = result(&rule, &context).unwrap();
            undisguise(&mut got);
            all += 1;
            if !same(&got, &expected) {
                wrong.push(format!("{rule} of {context}: {got}, not {expected}"));
            }
        }
        assert!(all >= 400, "{all}");
        assert!(
            wrong.is_empty(),
            "{} of {all} differ\n{}",
            wrong.len(),
            wrong[..wrong.len().min(20)].join("\n")
        );
    }

    #[test]
    fn a_rule_that_would_take_for_ever_is_cut_off() {
        let list: Vec<u32> = (0..1000).collect();
        let doubling = json!({"reduce": [{"var": "list"},
            {"cat": [{"var": "accumulator"}, {"var": "accumulator"}]}, "xxxxxxxx"]});
        let nested = json!({"map": [{"var": "list"},
            {"map": [{"var": ""}, {"var": ""}]}]});
        let product = json!({"map": [{"var": "list"}, {"reduce": [
            {"merge": [list.clone()]}, {"+": [{"var": "current"}, {"var": "accumulator"}]}, 0]}]});
        let context = json!({"list": list});
        assert!(result(&doubling, &context).is_err());
        assert!(result(&product, &context).is_err());
        assert!(result(&nested, &context).is_ok());
        let version = json!({"sem_ver": [{"var": "v"}, "=", "1.0.0"]});
        let context = json!({"v": format!("1.0.0-{}", "a.".repeat(1_000_000))});
        assert_eq!(result(&version, &context).unwrap(), Value::Null);
    }
}
