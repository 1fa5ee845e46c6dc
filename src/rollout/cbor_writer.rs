//! Writes values in the journal's notation.

use serde::ser::{self, Serialize};

use crate::rollout::cbor_marks::{
    CodecError, DEEPEST, FALSE, FLOAT, LIST, NEGATIVE, NULL, OPEN, STOP, TABLE, TEXT, TRUE,
    UNSIGNED, too_deep,
};

pub(super) struct Writer<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) depth: usize,
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
pub(super) struct Many<'a> {
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
