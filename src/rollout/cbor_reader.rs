//! Reads values in the journal's notation.

use serde::de::value::StringDeserializer;
use serde::de::{self, DeserializeSeed, Visitor};

use crate::rollout::cbor_marks::{
    CodecError, DEEPEST, FALSE, FLOAT, LIST, NEGATIVE, NULL, OPEN, STOP, TABLE, TEXT, TRUE,
    UNSIGNED, too_deep,
};

pub(super) struct Reader<'de> {
    pub(super) rest: &'de [u8],
    pub(super) depth: usize,
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
        std::str::from_utf8(self.take(len)?).map_err(de::Error::custom)
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
