//! Whether the bytes of a model file are framed as ONNX says.
//!
//! ONNX files are Protocol Buffers: fields with a number, a type and often a length. A damaged
//! length can send a reader past the end of the file, and the runtime's own reader has been seen
//! to spin there for minutes. So the frames of the outer three levels are walked first; that
//! takes microseconds, since nothing but lengths is read.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

/// Fields that hold messages with frames of their own: of a model its graph; of a graph its
/// nodes, constants, inputs, outputs and other values.
const INNER: [&[u64]; 2] = [&[7], &[1, 5, 11, 12, 13]];

/// Walks the frames; on a fault says at which byte and what it is.
///
/// # Errors
///
/// When the bytes do not have the form of an ONNX model with a graph.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    let mut graphs = 0;
    walk(bytes, 0, &INNER, &mut |level, number| {
        graphs += usize::from(level == INNER.len() && number == 7);
    })?;
    if graphs == 1 { Ok(()) } else { Err(format!("it holds {graphs} graphs, expected one")) }
}

fn walk(
    bytes: &[u8],
    start: usize,
    inner: &[&[u64]],
    field: &mut impl FnMut(usize, u64),
) -> Result<(), String> {
    let mut at = 0;
    while at < bytes.len() {
        let fault = |what: &str| format!("{what} at byte {}", start + at);
        let (tag, tag_len) = varint(&bytes[at..]).ok_or_else(|| fault("a broken number"))?;
        let (number, kind) = (tag >> 3, tag & 7);
        if number == 0 {
            return Err(fault("a field without a number"));
        }
        let body = at + tag_len;
        let (skip, len) = match kind {
            0 => (0, varint(&bytes[body..]).ok_or_else(|| fault("a broken number"))?.1),
            1 => (0, 8),
            5 => (0, 4),
            2 => {
                let (len, skip) = varint(&bytes[body..]).ok_or_else(|| fault("a broken length"))?;
                (skip, usize::try_from(len).map_err(|_| fault("a length without end"))?)
            }
            _ => return Err(fault("a field of unknown type")),
        };
        let begin = body + skip;
        let end = begin.checked_add(len).filter(|end| *end <= bytes.len());
        let Some(end) = end else { return Err(fault("a field that is longer than the file")) };
        field(inner.len(), number);
        if let ([fields, deeper @ ..], 2) = (inner, kind)
            && fields.contains(&number)
        {
            walk(&bytes[begin..end], start + begin, deeper, field)?;
        }
        at = end;
    }
    Ok(())
}

/// The number at the start of `bytes` and how many of them it takes.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            return Some((number, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_models_are_framed() {
        let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        for name in ["standard_v2_1", "standard_v3_1", "standard_v3_3"] {
            let bytes = std::fs::read(models.join(name).join("model.onnx")).unwrap();
            check(&bytes).unwrap();
            let half = check(&bytes[..bytes.len() / 2]).unwrap_err();
            assert!(half.contains("longer than the file"), "{half}");
        }
    }

    #[test]
    fn no_bytes_whatever_are_walked_past_their_end() {
        assert!(check(b"").unwrap_err().contains("0 graphs"));
        assert!(check(&[0xa5; 10_000]).is_err());
        assert!(check(&[0xff; 100]).unwrap_err().contains("broken number at byte 0"));
        assert!(check(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
        for seed in 0..2_000_u32 {
            let noise: Vec<u8> = (0..64_u32)
                .map(|at| (seed.wrapping_mul(2_654_435_761) >> (at % 24)) as u8)
                .collect();
            let _ = check(&noise);
        }
    }
}
