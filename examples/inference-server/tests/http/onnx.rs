//! The least of an ONNX writer: a network of three labels that goes wrong in chosen ways.
//!
//! It computes `sqrt(200 - bytes) · weights + scores`. The weights are zero, so any content of
//! eight bytes below 200 gets the scores, and a shorter one, padded with 256, gets NaN.

/// What is wrong with the network.
#[derive(Clone, Copy, PartialEq)]
pub enum Flaw {
    /// Nothing but NaN for short contents.
    NanForShort,
    /// Five scores for three labels.
    WrongShape,
    /// Scores above 1.
    WrongScale,
}

pub const CONFIG: &[u8] = br#"{"beg_size": 8, "mid_size": 0, "end_size": 8, "block_size": 64,
    "min_file_size_for_dl": 1, "padding_token": 256, "target_labels_space": ["a", "b", "c"]}"#;

/// The file of such a network.
pub fn network(flaw: Flaw) -> Vec<u8> {
    let scores: &[f32] = match flaw {
        Flaw::NanForShort => &[0.2, 0.7, 0.1],
        Flaw::WrongShape => &[0.2, 0.4, 0.1, 0.2, 0.1],
        Flaw::WrongScale => &[2.0, 7.0, 1.0],
    };
    let labels = scores.len();
    let cast_to_float = [text(1, "to"), number(3, 1), number(20, 2)].concat();
    let graph = [
        message(1, &node("Cast", &["bytes"], "floats", &message(5, &cast_to_float))),
        message(1, &node("Sub", &["limit", "floats"], "rest", &[])),
        message(1, &node("Sqrt", &["rest"], "roots", &[])),
        message(1, &node("MatMul", &["roots", "weights"], "sums", &[])),
        message(1, &node("Add", &["sums", "scores"], "target_label", &[])),
        text(2, "flawed"),
        message(5, &tensor("limit", &[1], &[200.0])),
        message(5, &tensor("weights", &[16, labels], &vec![0.0; 16 * labels])),
        message(5, &tensor("scores", &[labels], scores)),
        message(11, &value("bytes", 6, Some(16))),
        message(12, &value("target_label", 1, None)),
    ]
    .concat();
    let opset = [text(1, ""), number(2, 13)].concat();
    [number(1, 8), message(7, &graph), message(8, &opset)].concat()
}

fn node(op: &str, inputs: &[&str], output: &str, rest: &[u8]) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.iter().flat_map(|input| text(1, input)).collect();
    node.extend([text(2, output), text(3, output), text(4, op)].concat());
    node.extend_from_slice(rest);
    node
}

fn tensor(name: &str, shape: &[usize], data: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = data.iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut tensor: Vec<u8> = shape.iter().flat_map(|size| number(1, *size as u64)).collect();
    tensor.extend([number(2, 1), text(8, name), message(9, &raw)].concat());
    tensor
}

/// A tensor of `N` rows, of declared width or without any declared shape.
fn value(name: &str, element: u64, width: Option<u64>) -> Vec<u8> {
    let shape = width.map_or_else(Vec::new, |width| {
        let dimensions = [message(1, &text(2, "N")), message(1, &number(1, width))].concat();
        message(2, &dimensions)
    });
    let tensor_type = [number(1, element), shape].concat();
    [text(1, name), message(2, &message(1, &tensor_type))].concat()
}

fn text(field: u64, text: &str) -> Vec<u8> {
    message(field, text.as_bytes())
}

fn message(field: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn number(field: u64, number: u64) -> Vec<u8> {
    [varint(field << 3), varint(number)].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
