//! The numbers a model reads, made of the bytes a user sent.
//!
//! Every release of the model looks at the beginning and the end of a file, one number a byte, with
//! white space taken off the outer edges and a padding number where the file is too short. The
//! first generation also looks at the middle and strips the whole content. How many bytes are
//! looked at stands in each model's `config.min.json`; the rules stand here.

/// What a model looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    /// Numbers taken from the beginning.
    pub beg: usize,
    /// Numbers taken from the middle; more than 0 means the rules of the first generation.
    pub mid: usize,
    /// Numbers taken from the end.
    pub end: usize,
    /// How far into the content the beginning and the end may reach, in bytes.
    pub block: usize,
    /// The number that stands for "no byte here". Bytes are 0 to 255, so 256 is usual.
    pub padding: i32,
}

impl Layout {
    /// How many numbers the model reads.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.beg + self.mid + self.end
    }

    /// The model's input for `content`: always [`Layout::width`] numbers.
    #[must_use]
    pub fn features(&self, content: &[u8]) -> Vec<i32> {
        let mut features = vec![self.padding; self.width()];
        if self.mid == 0 {
            self.two_ends(content, &mut features);
        } else {
            self.three_parts(content, &mut features);
        }
        features
    }

    /// Generations 2 and 3: each end is stripped on its outer side only.
    fn two_ends(&self, content: &[u8], features: &mut [i32]) {
        let reach = self.block.min(content.len());
        let head = strip_left(&content[..reach]);
        let tail = strip_right(&content[content.len() - reach..]);
        let (beg, end) = features.split_at_mut(self.beg);
        fill_left(beg, head);
        fill_right(end, tail);
    }

    /// Generation 1: short content is stripped on both sides, then looked at as a whole.
    fn three_parts(&self, content: &[u8], features: &mut [i32]) {
        let (head, middle, tail) = if content.len() < 2 * self.block + self.mid {
            let core = strip_left(strip_right(content));
            (core, core, core)
        } else {
            let at = (content.len() - self.mid) / 2;
            (
                strip_left(&content[..self.block]),
                &content[at..at + self.mid],
                strip_right(&content[content.len() - self.block..]),
            )
        };
        let (beg, rest) = features.split_at_mut(self.beg);
        let (mid, end) = rest.split_at_mut(self.mid);
        fill_left(beg, head);
        fill_middle(mid, middle);
        fill_right(end, tail);
    }
}

/// The white space the models' own tools strip: space, tab, line feed, vertical tab, form feed and
/// carriage return. (`u8::is_ascii_whitespace` leaves the vertical tab out.)
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn strip_left(bytes: &[u8]) -> &[u8] {
    let spaces = bytes.iter().take_while(|byte| is_space(**byte)).count();
    &bytes[spaces..]
}

fn strip_right(bytes: &[u8]) -> &[u8] {
    let spaces = bytes.iter().rev().take_while(|byte| is_space(**byte)).count();
    &bytes[..bytes.len() - spaces]
}

/// `content` without the white space around it.
#[must_use]
pub fn strip(content: &[u8]) -> &[u8] {
    strip_left(strip_right(content))
}

fn fill_left(slots: &mut [i32], bytes: &[u8]) {
    for (slot, byte) in slots.iter_mut().zip(bytes) {
        *slot = i32::from(*byte);
    }
}

fn fill_right(slots: &mut [i32], bytes: &[u8]) {
    for (slot, byte) in slots.iter_mut().rev().zip(bytes.iter().rev()) {
        *slot = i32::from(*byte);
    }
}

fn fill_middle(slots: &mut [i32], bytes: &[u8]) {
    if bytes.len() >= slots.len() {
        let at = (bytes.len() - slots.len()) / 2;
        fill_left(slots, &bytes[at..]);
    } else {
        let at = (slots.len() - bytes.len()) / 2;
        fill_left(&mut slots[at..], bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { beg: 4, mid: 0, end: 3, block: 8, padding: 256 };

    fn numbers(bytes: &[u8]) -> Vec<i32> {
        bytes.iter().map(|byte| i32::from(*byte)).collect()
    }

    #[test]
    fn no_content_is_padding_alone() {
        assert_eq!(LAYOUT.features(b""), [256; 7]);
    }

    #[test]
    fn white_space_is_taken_off_the_outer_sides_only() {
        let mut expected = numbers(b"a b ");
        expected.extend(numbers(b"a b"));
        assert_eq!(LAYOUT.features(b"  a b  "), expected);
    }

    #[test]
    fn short_content_is_padded_on_the_inner_sides() {
        assert_eq!(LAYOUT.features(b"\x0bx\n"), [120, 10, 256, 256, 256, 11, 120]);
    }

    #[test]
    fn the_first_generation_centres_the_middle() {
        let layout = Layout { beg: 3, mid: 4, end: 3, block: 8, padding: 256 };
        let features = layout.features(b" ab\n");
        assert_eq!(features, [97, 98, 256, 256, 97, 98, 256, 256, 97, 98]);
    }
}
