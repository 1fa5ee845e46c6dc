//! Values as bytes, for the journal.
//!
//! A subset of CBOR (RFC 8949): it describes itself, as a plan's text needs; it has room for every
//! `f64` bit for bit, NaN and infinities included, as a replay needs; and any CBOR tool shows what
//! a journal holds. It is written here, since the default build has no file format among its
//! dependencies and a rollout must be able to come back without one.
//!
//! Floats always take eight bytes, integers the fewest that hold them. Tags, byte strings and
//! negative integers below `i64::MIN` are never written and are refused when read, as is whatever
//! is nested deeper than [`DEEPEST`] or says that it is longer than it is.

use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Visitor};
use serde::ser::{self, Serialize};

/// The deepest nesting that is read or written.
pub(super) const DEEPEST: usize = 96;

/// A value that cannot be written, or bytes that hold none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(super) struct CodecError(String);

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

impl ser::Error for CodecError {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }
}

impl de::Error for CodecError {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }
}

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const TABLE: u8 = 5;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;
const FLOAT: u8 = 0xfb;
const STOP: u8 = 0xff;
/// A length that is not said beforehand.
const OPEN: u8 = 31;

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    depth: usize,
}

impl<'a> Writer<'a> {
    fn head(&mut self, major: u8, number: u64) {
        let major = major << 5;
        if number < 24 {
            self.out.push(major | number as u8);
        } else if let Ok(number) = u8::try_from(number) {
            self.out.extend([major | 24, number]);
        } else if let Ok(number) = u16::try_from(number) {
            self.out.push(major | 25);
            self.out.extend(number.to_be_bytes());
        } else if let Ok(number) = u32::try_from(number) {
            self.out.push(major | 26);
            self.out.extend(number.to_be_bytes());
        } else {
            self.out.push(major | 27);
            self.out.extend(number.to_be_bytes());
        }
    }

    fn text(&mut self, text: &str) {
        self.head(TEXT, text.len() as u64);
        self.out.extend(text.as_bytes());
    }

    fn many(mut self, major: u8, len: Option<usize>) -> Result<Many<'a>, CodecError> {
        if self.depth >= DEEPEST {
            return Err(too_deep());
        }
        match len {
            Some(len) => self.head(major, len as u64),
            None => self.out.push(major << 5 | OPEN),
        }
        Ok(Many { out: self.out, depth: self.depth + 1, open: len.is_none() })
    }

    fn variant(mut self, name: &str) -> Writer<'a> {
        self.head(TABLE, 1);
        self.text(name);
        self
    }
}

/// A list or table under way.
struct Many<'a> {
    out: &'a mut Vec<u8>,
    depth: usize,
    open: bool,
}

impl Many<'_> {
    fn add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        value.serialize(Writer { out: self.out, depth: self.depth })
    }

    fn close(self) {
        if self.open {
            self.out.push(STOP);
        }
    }
}

impl<'a> ser::Serializer for Writer<'a> {
    type Ok = ();
    type Error = CodecError;
    type SerializeSeq = Many<'a>;
    type SerializeTuple = Many<'a>;
    type SerializeTupleStruct = Many<'a>;
    type SerializeTupleVariant = Many<'a>;
    type SerializeMap = Many<'a>;
    type SerializeStruct = Many<'a>;
    type SerializeStructVariant = Many<'a>;

    fn serialize_bool(self, value: bool) -> Result<(), CodecError> {
        self.out.push(if value { TRUE } else { FALSE });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), CodecError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), CodecError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), CodecError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(mut self, value: i64) -> Result<(), CodecError> {
        match u64::try_from(value) {
            Ok(value) => self.head(UNSIGNED, value),
            Err(_) => self.head(NEGATIVE, !value as u64),
        }
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result<(), CodecError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), CodecError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), CodecError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(mut self, value: u64) -> Result<(), CodecError> {
        self.head(UNSIGNED, value);
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), CodecError> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), CodecError> {
        self.out.push(FLOAT);
        self.out.extend(value.to_bits().to_be_bytes());
        Ok(())
    }

    fn serialize_char(mut self, value: char) -> Result<(), CodecError> {
        self.text(value.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn serialize_str(mut self, value: &str) -> Result<(), CodecError> {
        self.text(value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), CodecError> {
        let mut list = self.many(LIST, Some(value.len()))?;
        value.iter().try_for_each(|byte| list.add(byte))
    }

    fn serialize_none(self) -> Result<(), CodecError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CodecError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), CodecError> {
        self.out.push(NULL);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), CodecError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), CodecError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), CodecError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), CodecError> {
        if self.depth >= DEEPEST {
            return Err(too_deep());
        }
        let mut inner = self.variant(variant);
        inner.depth += 1;
        value.serialize(inner)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Many<'a>, CodecError> {
        self.many(LIST, len)
    }

    fn serialize_tuple(self, len: usize) -> Result<Many<'a>, CodecError> {
        self.many(LIST, Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Many<'a>, CodecError> {
        self.many(LIST, Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Many<'a>, CodecError> {
        self.variant(variant).many(LIST, Some(len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Many<'a>, CodecError> {
        self.many(TABLE, len)
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Many<'a>, CodecError> {
        self.many(TABLE, Some(len))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Many<'a>, CodecError> {
        self.variant(variant).many(TABLE, Some(len))
    }
}

macro_rules! lists {
    ($($of:ident: $add:ident),*) => {$(
        impl ser::$of for Many<'_> {
            type Ok = ();
            type Error = CodecError;

            fn $add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
                self.add(value)
            }

            fn end(self) -> Result<(), CodecError> {
                self.close();
                Ok(())
            }
        }
    )*};
}

lists!(
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
);

macro_rules! structs {
    ($($of:ident),*) => {$(
        impl ser::$of for Many<'_> {
            type Ok = ();
            type Error = CodecError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), CodecError> {
                self.add(name)?;
                self.add(value)
            }

            fn end(self) -> Result<(), CodecError> {
                self.close();
                Ok(())
            }
        }
    )*};
}

structs!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Many<'_> {
    type Ok = ();
    type Error = CodecError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CodecError> {
        self.add(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        self.add(value)
    }

    fn end(self) -> Result<(), CodecError> {
        self.close();
        Ok(())
    }
}

struct Reader<'de> {
    rest: &'de [u8],
    depth: usize,
}

/// The beginning of a value.
enum Head {
    Unsigned(u64),
    Negative(u64),
    Text(u64),
    List(Option<u64>),
    Table(Option<u64>),
    Bool(bool),
    Null,
    Float(f64),
}

impl<'de> Reader<'de> {
    fn take(&mut self, count: u64) -> Result<&'de [u8], CodecError> {
        let (taken, rest) = usize::try_from(count)
            .ok()
            .and_then(|count| self.rest.split_at_checked(count))
            .ok_or_else(|| CodecError("it ends in the middle of a value".to_owned()))?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self, info: u8) -> Result<u64, CodecError> {
        let bytes = match info {
            0..=23 => return Ok(info.into()),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(CodecError(format!("{info} is no length"))),
        };
        Ok(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn head(&mut self) -> Result<Head, CodecError> {
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 31);
        Ok(match (major, first) {
            (_, FALSE) => Head::Bool(false),
            (_, TRUE) => Head::Bool(true),
            (_, NULL) => Head::Null,
            (_, FLOAT) => Head::Float(f64::from_bits(self.number(27)?)),
            (UNSIGNED, _) => Head::Unsigned(self.number(info)?),
            (NEGATIVE, _) => Head::Negative(self.number(info)?),
            (TEXT, _) => Head::Text(self.number(info)?),
            (LIST, _) if info == OPEN => Head::List(None),
            (LIST, _) => Head::List(Some(self.number(info)?)),
            (TABLE, _) if info == OPEN => Head::Table(None),
            (TABLE, _) => Head::Table(Some(self.number(info)?)),
            _ => return Err(CodecError(format!("{first:#04x} begins no value"))),
        })
    }

    fn text(&mut self, len: u64) -> Result<&'de str, CodecError> {
        std::str::from_utf8(self.take(len)?).map_err(ser::Error::custom)
    }

    fn within<T>(
        &mut self,
        left: Option<u64>,
        read: impl FnOnce(&mut Items<'_, 'de>) -> Result<T, CodecError>,
    ) -> Result<T, CodecError> {
        if self.depth >= DEEPEST {
            return Err(too_deep());
        }
        self.depth += 1;
        let mut items = Items { reader: self, left };
        let value = read(&mut items)?;
        if !items.at_end()? {
            return Err(CodecError("a list or table is longer than what was asked for".to_owned()));
        }
        self.depth -= 1;
        Ok(value)
    }
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = CodecError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        match self.head()? {
            Head::Unsigned(value) => visitor.visit_u64(value),
            Head::Negative(value) => match i64::try_from(value) {
                Ok(value) => visitor.visit_i64(!value),
                Err(_) => Err(CodecError(format!("-1 - {value} is too far below zero"))),
            },
            Head::Float(value) => visitor.visit_f64(value),
            Head::Bool(value) => visitor.visit_bool(value),
            Head::Null => visitor.visit_unit(),
            Head::Text(len) => visitor.visit_borrowed_str(self.text(len)?),
            Head::List(left) => self.within(left, |items| visitor.visit_seq(items)),
            Head::Table(left) => self.within(left, |items| visitor.visit_map(items)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        if self.rest.first() == Some(&NULL) {
            self.take(1)?;
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        match self.head()? {
            Head::Text(len) => {
                let name = self.text(len)?.to_owned();
                let name: StringDeserializer<CodecError> =
                    de::IntoDeserializer::into_deserializer(name);
                visitor.visit_enum(name)
            }
            Head::Table(Some(1)) => self.within(Some(0), |items| {
                visitor.visit_enum(Variant { reader: &mut *items.reader })
            }),
            _ => Err(CodecError("no variant is named".to_owned())),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// What is left of a list or table.
struct Items<'a, 'de> {
    reader: &'a mut Reader<'de>,
    /// How many; `None` until a stop.
    left: Option<u64>,
}

impl Items<'_, '_> {
    /// Whether nothing is left; takes the stop.
    fn at_end(&mut self) -> Result<bool, CodecError> {
        match self.left {
            Some(left) => Ok(left == 0),
            None if self.reader.rest.first() == Some(&STOP) => {
                self.reader.take(1)?;
                self.left = Some(0);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn next<'de, S: DeserializeSeed<'de>>(
        reader: &mut Reader<'de>,
        seed: S,
    ) -> Result<S::Value, CodecError> {
        seed.deserialize(reader)
    }
}

impl<'de> de::SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = CodecError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, CodecError> {
        if self.at_end()? {
            return Ok(None);
        }
        self.left = self.left.map(|left| left - 1);
        Items::next(self.reader, seed).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = CodecError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, CodecError> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, CodecError> {
        Items::next(self.reader, seed)
    }
}

/// A variant with what it holds.
struct Variant<'a, 'de> {
    reader: &'a mut Reader<'de>,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = CodecError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self), CodecError> {
        Ok((seed.deserialize(&mut *self.reader)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = CodecError;

    fn unit_variant(self) -> Result<(), CodecError> {
        de::Deserialize::deserialize(self.reader)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<S::Value, CodecError> {
        seed.deserialize(self.reader)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, CodecError> {
        de::Deserializer::deserialize_any(self.reader, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        de::Deserializer::deserialize_any(self.reader, visitor)
    }
}

fn too_deep() -> CodecError {
    CodecError(format!("it is nested deeper than {DEEPEST} levels"))
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
