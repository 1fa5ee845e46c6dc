//! Fractional assignment, in the three versions that flagd has had.

use serde_json::Value;

use super::coerce;
use crate::route::splitters::murmur3_x86_32;

/// How flagd's `fractional` operator assigns a subject. Another version moves subjects, so a
/// fleet changes it in one step, with its flagd.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Fractional {
    /// A hundred buckets of a signed hash, as floating-point numbers.
    V1,
    /// The upper bits of hash times total weight, without rounding.
    #[default]
    V2,
    /// As [`Fractional::V2`], over the key as canonical CBOR, so that it need not be text.
    V3,
}

impl Fractional {
    /// The bytes of a key given by the rule, or none if it cannot be one.
    pub(super) fn key(self, key: &Value) -> Option<Vec<u8>> {
        match (self, key) {
            (_, Value::Null) => None,
            (Self::V3, key) => {
                let mut bytes = Vec::new();
                cbor(key, &mut bytes);
                Some(bytes)
            }
            (Self::V1 | Self::V2, Value::Array(_) | Value::Object(_)) => None,
            (Self::V1 | Self::V2, key) => Some(coerce::text(key).into_owned().into_bytes()),
        }
    }

    /// The bytes of the key that holds when the rule gives none: flag and targeting key.
    pub(super) fn default_key(self, flag: &str, targeting_key: &Value) -> Option<Vec<u8>> {
        match (self, targeting_key) {
            (_, Value::Null) => None,
            (Self::V3, subject) => {
                let mut bytes = vec![0x82]; // a list of two
                cbor_text(flag, &mut bytes);
                cbor(subject, &mut bytes);
                Some(bytes)
            }
            (Self::V1 | Self::V2, Value::String(subject)) => Some([flag, subject].concat().into()),
            (Self::V1 | Self::V2, _) => None,
        }
    }

    /// Which bucket the key falls into, or none if no bucket has weight or their sum exceeds
    /// `i32::MAX`.
    pub(super) fn pick(self, key: &[u8], weights: &[u32]) -> Option<usize> {
        let total: u64 = weights.iter().copied().map(u64::from).sum();
        if total == 0 || total > i32::MAX as u64 {
            return None;
        }
        let hash = murmur3_x86_32(key, 0);
        let found = match self {
            Self::V1 => {
                let at = f64::from(hash as i32).abs() / f64::from(i32::MAX) * 100.0;
                let mut end = 0.0;
                weights.iter().position(|weight| {
                    end += f64::from(*weight) * 100.0 / total as f64;
                    *weight > 0 && at < end
                })
            }
            Self::V2 | Self::V3 => {
                let at = (u64::from(hash) * total) >> 32;
                let mut end = 0;
                weights.iter().position(|weight| {
                    end += u64::from(*weight);
                    at < end
                })
            }
        };
        // A hash of the very end, or a sum of fractions just short of the whole.
        found.or_else(|| weights.iter().rposition(|weight| *weight > 0))
    }
}

/// A value as CBOR in its core deterministic encoding, whole floats as integers. RFC 8949,
/// section 4.2.1.
pub(super) fn cbor(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xF6),
        Value::Bool(false) => out.push(0xF4),
        Value::Bool(true) => out.push(0xF5),
        Value::Number(number) => {
            if let Some(number) = number.as_u64() {
                head(0x00, number, out);
            } else if let Some(number) = number.as_i64() {
                head(0x20, number.unsigned_abs() - 1, out);
            } else {
                cbor_float(number.as_f64().unwrap_or(f64::NAN), out);
            }
        }
        Value::String(text) => cbor_text(text, out),
        Value::Array(list) => {
            head(0x80, list.len() as u64, out);
            list.iter().for_each(|value| cbor(value, out));
        }
        Value::Object(entries) => {
            head(0xA0, entries.len() as u64, out);
            let mut encoded: Vec<(Vec<u8>, &Value)> = entries
                .iter()
                .map(|(key, value)| {
                    let mut bytes = Vec::new();
                    cbor_text(key, &mut bytes);
                    (bytes, value)
                })
                .collect();
            encoded.sort_unstable_by(|left, right| left.0.cmp(&right.0));
            for (key, value) in encoded {
                out.extend(key);
                cbor(value, out);
            }
        }
    }
}

fn cbor_text(text: &str, out: &mut Vec<u8>) {
    head(0x60, text.len() as u64, out);
    out.extend(text.as_bytes());
}

fn cbor_float(number: f64, out: &mut Vec<u8>) {
    const LIMIT: f64 = 18_446_744_073_709_551_616.0; // 2^64
    if number.fract() == 0.0 && number.abs() < LIMIT {
        if number < 0.0 {
            head(0x20, (-number) as u64 - 1, out);
        } else {
            head(0x00, number as u64, out);
        }
    } else if let Some(half) = half(number) {
        out.push(0xF9);
        out.extend(half.to_be_bytes());
    } else if f64::from(number as f32) == number {
        out.push(0xFA);
        out.extend((number as f32).to_be_bytes());
    } else {
        out.push(0xFB);
        out.extend(number.to_be_bytes());
    }
}

/// The number in 16 bits, if it is exact there. Values that are not finite do not occur in JSON.
fn half(number: f64) -> Option<u16> {
    let bits = number.to_bits();
    let sign = ((bits >> 48) & 0x8000) as u16;
    let exponent = ((bits >> 52) & 0x7FF) as i32 - 1023;
    let mantissa = bits & 0x000F_FFFF_FFFF_FFFF;
    if (-14..=15).contains(&exponent) {
        // Ten bits of mantissa.
        let fits = mantissa.trailing_zeros() >= 42;
        return fits.then_some(sign | ((exponent + 15) as u16) << 10 | (mantissa >> 42) as u16);
    }
    if (-24..-14).contains(&exponent) {
        // Subnormal: the leading one becomes a bit of the mantissa.
        let full = mantissa | 1 << 52;
        let shift = (28 - exponent) as u32;
        return (full.trailing_zeros() >= shift).then_some(sign | (full >> shift) as u16);
    }
    None
}

fn head(major: u8, number: u64, out: &mut Vec<u8>) {
    match number {
        0..=23 => out.push(major | number as u8),
        24..=0xFF => out.extend([major | 24, number as u8]),
        0x100..=0xFFFF => {
            out.push(major | 25);
            out.extend((number as u16).to_be_bytes());
        }
        0x1_0000..=0xFFFF_FFFF => {
            out.push(major | 26);
            out.extend((number as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend(number.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_encode_as_the_standard_says() {
        // RFC 8949, appendix A, and section 4.2.2 for whole floats.
        for (value, expected) in [
            (json!(0), "00"),
            (json!(23), "17"),
            (json!(24), "1818"),
            (json!(1000), "1903e8"),
            (json!(1_000_000), "1a000f4240"),
            (json!(1_000_000_000_000_u64), "1b000000e8d4a51000"),
            (json!(18_446_744_073_709_551_615_u64), "1bffffffffffffffff"),
            (json!(-1), "20"),
            (json!(-1000), "3903e7"),
            (json!(1.0), "01"),
            (json!(-4.0), "23"),
            (json!(1.1), "fb3ff199999999999a"),
            (json!(1.5), "f93e00"),
            (json!(5.960_464_477_539_063e-8), "f90001"),
            (json!(0.000_061_035_156_25), "f90400"),
            (json!(-4.1), "fbc010666666666666"),
            (json!(100_000.5), "fa47c35040"),
            (json!(1.0e300), "fb7e37e43c8800759c"),
            (json!("ü"), "62c3bc"),
            (json!([1, [2, 3]]), "8201820203"),
            (json!({"b": [2, 3], "a": 1}), "a26161016162820203"),
            (json!({"aa": 1, "b": 2}), "a261620262616101"),
            (json!(true), "f5"),
        ] {
            let mut bytes = Vec::new();
            cbor(&value, &mut bytes);
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected, "{value}");
        }
    }

    #[test]
    fn every_key_falls_into_a_bucket_with_weight() {
        for version in [Fractional::V1, Fractional::V2, Fractional::V3] {
            for id in 0..10_000 {
                let key = format!("user-{id}").into_bytes();
                assert_eq!(version.pick(&key, &[0, 0, 7, 0]), Some(2), "{version:?} {id}");
            }
            assert_eq!(version.pick(b"x", &[0, 0]), None);
            assert_eq!(version.pick(b"x", &[i32::MAX as u32, 1]), None);
        }
    }
}
