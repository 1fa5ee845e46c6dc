//! Values as bytes, for the journal.
//!
//! A subset of CBOR (RFC 8949): it describes itself, as a plan's text needs; it has room for every
//! `f64` bit for bit, NaN and infinities included, as a replay needs; and any CBOR tool shows what
//! a journal holds. It is written here, since the default build has no file format among its
//! dependencies and a rollout must be able to come back without one.
//!
//! Floats always take eight bytes, integers the fewest that hold them. Tags, byte strings and
//! negative integers below `i64::MIN` are never written and are refused when read, as is whatever
//! is nested deeper than [`DEEPEST`](crate::rollout::cbor_marks::DEEPEST) or says that it is longer than it is.

use serde::de::DeserializeOwned;
use serde::ser::Serialize;

use crate::rollout::cbor_marks::CodecError;
use crate::rollout::cbor_reader::Reader;
use crate::rollout::cbor_writer::Writer;

/// The bytes of `value`.
pub(super) fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    value.serialize(Writer { out: &mut out, depth: 0 })?;
    Ok(out)
}

/// The value that `bytes` hold, all of them.
pub(super) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut reader = Reader { rest: bytes, depth: 0 };
    let value = T::deserialize(&mut reader)?;
    if reader.rest.is_empty() {
        Ok(value)
    } else {
        Err(CodecError(format!("{} bytes too many", reader.rest.len())))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        New(i64),
        Pair(u8, String),
        Named { of: Option<f64>, span: Duration },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct All {
        shapes: Vec<Shape>,
        table: BTreeMap<String, u64>,
        nested: Option<Box<All>>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        left_out: Option<bool>,
    }

    fn shape() -> impl Strategy<Value = Shape> {
        prop_oneof![
            Just(Shape::Unit),
            any::<i64>().prop_map(Shape::New),
            (any::<u8>(), ".{0,9}").prop_map(|(a, b)| Shape::Pair(a, b)),
            (proptest::option::of(-1e300..1e300), any::<u64>())
                .prop_map(|(of, s)| Shape::Named { of, span: Duration::from_nanos(s) }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            shapes in prop::collection::vec(shape(), 0..9),
            table in prop::collection::btree_map(".{0,5}", any::<u64>(), 0..9),
            left_out: Option<bool>,
        ) {
            let inner = All { shapes: shapes.clone(), table: table.clone(), nested: None, left_out };
            let all = All { shapes, table, nested: Some(Box::new(inner)), left_out };
            let bytes = to_bytes(&all).unwrap();
            prop_assert_eq!(from_bytes::<All>(&bytes).unwrap(), all.clone());
            for cut in 0..bytes.len() {
                prop_assert!(from_bytes::<All>(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn every_float_keeps_its_bits(bits: u64) {
            let back: f64 = from_bytes(&to_bytes(&f64::from_bits(bits)).unwrap()).unwrap();
            prop_assert_eq!(back.to_bits(), bits);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_bytes::<All>(&bytes);
        }
    }

    #[test]
    fn it_is_the_notation_others_read() {
        // From RFC 8949, appendix A.
        assert_eq!(to_bytes(&1_000_000_u64).unwrap(), [0x1a, 0x00, 0x0f, 0x42, 0x40]);
        assert_eq!(to_bytes(&-100_i64).unwrap(), [0x38, 0x63]);
        assert_eq!(to_bytes("IETF").unwrap(), [0x64, 0x49, 0x45, 0x54, 0x46]);
        assert_eq!(
            to_bytes(&1.1_f64).unwrap(),
            [0xfb, 0x3f, 0xf1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a]
        );
        assert_eq!(from_bytes::<Vec<u8>>(&[0x9f, 1, 2, 0xff]).unwrap(), [1, 2]);
    }

    #[test]
    fn a_bomb_is_refused() {
        let deep = [vec![0x81; 100_000], vec![0]].concat();
        assert!(from_bytes::<serde::de::IgnoredAny>(&deep).is_err());
        let long = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(from_bytes::<Vec<u64>>(&long).is_err());
    }
}
