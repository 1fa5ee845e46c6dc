//! JSON outputs, compared by [`Documents`](crate::compare::structured::Documents).

use serde_json::Value;

use crate::compare::structured::{Node, Tree};

impl Tree for Value {
    fn node(&self) -> Node<'_, Self> {
        match self {
            Self::Null => Node::Null,
            Self::Bool(yes) => Node::Bool(*yes),
            Self::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(whole), _) => Node::Whole(whole.into()),
                (None, Some(whole)) => Node::Whole(whole.into()),
                // A number that no `f64` holds is not compared.
                (None, None) => Node::Number(number.as_f64().unwrap_or(f64::NAN)),
            },
            Self::String(text) => Node::Text(text),
            Self::Array(list) => Node::List(list),
            Self::Object(map) => {
                Node::Map(map.iter().map(|(key, value)| (&key[..], value)).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::compare::comparator::Comparator;
    use crate::compare::structured::Documents;

    #[test]
    fn json_meets_by_its_paths() {
        let old =
            json!({"choices": [{"text": "a", "at": 1}, {"text": "b", "at": 2}], "n": u64::MAX});
        let new =
            json!({"choices": [{"text": "b", "at": 9}, {"text": "a", "at": 8}], "n": u64::MAX - 1});
        let rules = Documents::new().ignoring("/choices/*/at").unordered("/choices");
        assert_eq!(rules.compare(&old, &new), Ok(2.0 / 3.0));
        assert_eq!(Documents::new().compare(&old, &old), Ok(1.0));
    }
}
