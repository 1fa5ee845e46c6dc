//! What `JsonLogic` makes of values of different types: the rules of JavaScript.
//!
//! A calculation may come to what JSON cannot hold: no number, or an infinite one. Called null it
//! would count as zero in the next comparison, and an age that is no number would be old enough. So
//! it stays what it is while a rule is worked out, as an object with a key of its own, and becomes
//! null at the end.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Number, Value};

/// Whether a value counts as true. An empty list does not.
pub(super) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(_) => beyond_json(value).is_none_or(|number| !number.is_nan()),
    }
}

/// The number a value stands for, NaN if none: what comparison, subtraction and division see.
pub(super) fn number(value: &Value) -> f64 {
    match value {
        Value::Null => 0.0,
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
        Value::String(text) => parse(text.trim()),
        Value::Array(_) => parse(text(value).trim()),
        Value::Object(_) => beyond_json(value).unwrap_or(f64::NAN),
    }
}

/// The number a value begins with, NaN if it begins with none: what addition and multiplication
/// see.
pub(super) fn leading_number(value: &Value) -> f64 {
    let Value::String(text) = value else {
        return match value {
            Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
            Value::Array(_) => leading(text(value).trim_start()),
            _ => beyond_json(value).unwrap_or(f64::NAN),
        };
    };
    leading(text.trim_start())
}

/// A whole text as a number; an empty one is zero. Rust would also read `nan` and `inf`.
fn parse(text: &str) -> f64 {
    let radix = |digits: &str, radix: u32| {
        let value = digits.chars().try_fold(0.0, |sum, digit| {
            Some(sum * f64::from(radix) + f64::from(digit.to_digit(radix)?))
        });
        value.filter(|_| !digits.is_empty()).unwrap_or(f64::NAN)
    };
    match text.as_bytes() {
        [] => 0.0,
        [b'0', b'x' | b'X', ..] => radix(&text[2..], 16),
        [b'0', b'o' | b'O', ..] => radix(&text[2..], 8),
        [b'0', b'b' | b'B', ..] => radix(&text[2..], 2),
        _ if numeric(text) == text.len() => leading(text),
        _ => f64::NAN,
    }
}

/// The number at the beginning of a text.
fn leading(text: &str) -> f64 {
    match &text[..numeric(text)] {
        "Infinity" | "+Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        part => part.parse().unwrap_or(f64::NAN),
    }
}

/// How many bytes at the beginning of a text make up a decimal number.
fn numeric(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits =
        |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let sign = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    if text[sign..].starts_with("Infinity") {
        return sign + "Infinity".len();
    }
    let whole = digits(sign);
    let mut end = sign + whole;
    let mut any = whole > 0;
    if bytes.get(end) == Some(&b'.') {
        let part = digits(end + 1);
        if any || part > 0 {
            end += 1 + part;
            any = true;
        }
    }
    if !any {
        return 0;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let signed = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let power = digits((end + 1 + signed).min(bytes.len()));
        if power > 0 {
            end += 1 + signed + power;
        }
    }
    end
}

/// A number as JSON holds it, whole where it is; one that JSON cannot hold in its disguise.
pub(super) fn from_number(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    if number.fract() == 0.0 && number.abs() < EXACT {
        return Value::Number((number as i64).into());
    }
    Number::from_f64(number).map_or_else(
        || Value::Object([(DISGUISE.to_owned(), number.to_string().into())].into_iter().collect()),
        Value::Number,
    )
}

/// The number that JSON cannot hold which this value is, if it is one.
fn beyond_json(value: &Value) -> Option<f64> {
    match value.as_object()?.get(DISGUISE)?.as_str()? {
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        _ => Some(f64::NAN),
    }
}

/// A result as others may see it: what JSON cannot hold is null.
pub(super) fn plain(value: Cow<'_, Value>) -> Cow<'_, Value> {
    if beyond_json(&value).is_some() { Cow::Owned(Value::Null) } else { value }
}

/// The key of a number in disguise: no rule can make an object, and no sender has a reason to use
/// this one; who does sends no number.
const DISGUISE: &str = "\0number beyond JSON";

/// A value as text, as `cat` joins it: null is nothing.
pub(super) fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::Bool(truth) => Cow::Borrowed(if *truth { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64() {
            Some(float) if !number.is_i64() && !number.is_u64() => Cow::Owned(decimal(float)),
            _ => Cow::Owned(number.to_string()),
        },
        Value::String(text) => Cow::Borrowed(text),
        Value::Array(list) => Cow::Owned(list.iter().map(text).collect::<Vec<_>>().join(",")),
        Value::Object(_) => Cow::Borrowed(match beyond_json(value) {
            None => "[object Object]",
            Some(f64::INFINITY) => "Infinity",
            Some(f64::NEG_INFINITY) => "-Infinity",
            Some(_) => "NaN",
        }),
    }
}

/// A value as text where one is demanded: null is `null`.
pub(super) fn string(value: &Value) -> Cow<'_, str> {
    if value.is_null() { Cow::Borrowed("null") } else { text(value) }
}

/// A number as JavaScript writes it: without an exponent from a millionth up to 10^21.
fn decimal(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if (1e-6..1e21).contains(&size) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    if size < 1.0 { text } else { text.replace('e', "e+") }
}

/// `==`: with coercion between numbers, texts and truths, and of a list to its text; null equals
/// only null; two lists or objects are two different ones.
pub(super) fn loosely_equal(left: &Value, right: &Value) -> bool {
    let is_made_of_others =
        |value: &Value| value.is_array() || value.is_object() && beyond_json(value).is_none();
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Null, _) | (_, Value::Null) => false,
        (Value::String(left), Value::String(right)) => left == right,
        _ => match (is_made_of_others(left), is_made_of_others(right)) {
            (true, true) => false,
            (false, false) => number(left) == number(right),
            (true, false) => loosely_equal(&primitive(left), right),
            (false, true) => loosely_equal(left, &primitive(right)),
        },
    }
}

/// A list or object as the text it is compared as; anything else as it is.
fn primitive(value: &Value) -> Cow<'_, Value> {
    match value {
        Value::Object(_) if beyond_json(value).is_some() => Cow::Borrowed(value),
        Value::Array(_) | Value::Object(_) => Cow::Owned(Value::String(text(value).into_owned())),
        _ => Cow::Borrowed(value),
    }
}

/// `===`: the same type and value. `1` and `1.0` are the same number.
pub(super) fn strictly_equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || left.as_f64() == right.as_f64()
        }
        (Value::Array(_), _) => false,
        (Value::Object(_), _) => {
            beyond_json(left).zip(beyond_json(right)).is_some_and(|(left, right)| left == right)
        }
        _ => left == right,
    }
}

/// The order of two values: texts by their letters, all others by their numbers; none if one is
/// no number.
pub(super) fn order(left: &Value, right: &Value) -> Option<Ordering> {
    let (left, right) = (primitive(left), primitive(right));
    if let (Value::String(left), Value::String(right)) = (&*left, &*right) {
        return Some(left.encode_utf16().cmp(right.encode_utf16()));
    }
    number(&left).partial_cmp(&number(&right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_coerce_as_in_javascript() {
        assert!(loosely_equal(&json!(1), &json!("1")));
        assert!(loosely_equal(&json!(1), &json!(true)));
        assert!(!loosely_equal(&json!(0), &json!(null)));
        assert!(!loosely_equal(&json!("nan"), &json!("NaN")));
        assert!(!loosely_equal(&json!(f64::NAN), &json!("nan")));
        assert!(strictly_equal(&json!(1), &json!(1.0)));
        assert!(!strictly_equal(&json!(1), &json!("1")));
        assert!(number(&json!("inf")).is_nan() && number(&json!([1, 2])).is_nan());
        assert!(
            loosely_equal(&json!(["a"]), &json!("a")) && !loosely_equal(&json!([]), &json!([]))
        );
        for (text, whole, begins) in [
            ("12", 12.0, 12.0),
            (" 1.5e2 ", 150.0, 150.0),
            ("-.5", -0.5, -0.5),
            ("5.", 5.0, 5.0),
            ("0x1F", 31.0, 0.0),
            ("-Infinity", f64::NEG_INFINITY, f64::NEG_INFINITY),
            ("12px", f64::NAN, 12.0),
            ("1e", f64::NAN, 1.0),
            ("1e+", f64::NAN, 1.0),
            ("", 0.0, f64::NAN),
            (".", f64::NAN, f64::NAN),
            ("0x", f64::NAN, 0.0),
            ("inf", f64::NAN, f64::NAN),
            ("größe", f64::NAN, f64::NAN),
        ] {
            let value = json!(text);
            for (got, expected) in [(number(&value), whole), (leading_number(&value), begins)] {
                assert!(got == expected || got.is_nan() && expected.is_nan(), "{text:?}: {got}");
            }
        }
        assert!(leading_number(&json!(null)).is_nan() && leading_number(&json!(true)).is_nan());
        assert_eq!(text(&json!(1e21)), "1e+21");
        assert_eq!(text(&json!(1.5e20)), "150000000000000000000");
        assert_eq!(text(&json!(1.25e-7)), "1.25e-7");
        assert_eq!(text(&json!(-0.000_001)), "-0.000001");
        assert_eq!(order(&json!("10"), &json!("9")), Some(Ordering::Less));
        assert_eq!(order(&json!("10"), &json!(9)), Some(Ordering::Greater));
        assert_eq!(order(&json!("x"), &json!(9)), None);
        assert_eq!(text(&json!(1.0)), "1");
        assert_eq!(text(&json!([1, null, "a"])), "1,,a");
        assert_eq!(from_number(0.1 + 0.2).to_string(), "0.30000000000000004");
        let infinite = from_number(f64::INFINITY);
        assert!(number(&infinite) == f64::INFINITY && truthy(&infinite));
        assert!(strictly_equal(&infinite, &infinite));
        let none = from_number(f64::NAN);
        assert!(number(&none).is_nan() && !truthy(&none) && !strictly_equal(&none, &none));
        assert!(!loosely_equal(&none, &json!("NaN")) && order(&none, &json!(0)).is_none());
        assert_eq!(*plain(Cow::Owned(none)), Value::Null);
    }

    #[test]
    fn emptiness_is_false() {
        for value in [json!(null), json!(0), json!(0.0), json!(""), json!([]), json!(false)] {
            assert!(!truthy(&value), "{value}");
        }
        for value in [json!("0"), json!([0]), json!({}), json!(-1)] {
            assert!(truthy(&value), "{value}");
        }
    }
}
