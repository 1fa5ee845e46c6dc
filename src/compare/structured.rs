//! Structured outputs, such as JSON.
//!
//! What a document is made of comes through the small trait [`Tree`], so that this wing needs no
//! parser; with the feature `json`, `serde_json::Value` is one.

use crate::compare::comparator::{Comparator, Incomparable};
use crate::compare::numeric::Numeric;

/// How deep a document may be nested.
pub const MOST_DEPTH: usize = 128;
/// How many nodes are looked at in one comparison, those of lists without order once for every
/// candidate partner.
pub const MOST_NODES: usize = 1 << 20;

/// A document, node by node.
pub trait Tree: Sized {
    /// What this node is.
    fn node(&self) -> Node<'_, Self>;
}

/// A node of a document.
#[derive(Clone, Debug)]
pub enum Node<'a, T> {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number, exactly.
    Whole(i128),
    /// Another number.
    Number(f64),
    /// A text.
    Text(&'a str),
    /// A list.
    List(&'a [T]),
    /// A map, in any order, each key once.
    Map(Vec<(&'a str, &'a T)>),
}

/// The part of leaves that two documents have in common: 1 is that all are alike, 0 that none is.
///
/// A leaf is a null, a yes or no, a number, a text, or an empty list or map. Leaves meet by their
/// path: those that only one document has count as different, and so do leaves of different kinds.
/// Whole numbers are compared exactly, others by the tolerance, under which a whole number may also
/// equal one that is not. Two documents without leaves left to compare are the same. A number that
/// is not finite makes the pair incomparable.
///
/// A rule names a path: keys and positions after slashes, with `*` for any one of them, as in
/// `/choices/*/created`. In a key, `~1` stands for a slash and `~0` for a tilde.
///
/// ```
/// # #[cfg(feature = "json")] {
/// use pilotage::compare::comparator::Comparator;
/// use pilotage::compare::structured::Documents;
/// use serde_json::json;
///
/// let documents = Documents::new().ignoring("/id").unordered("/tags").within(0.01);
/// let old = json!({"id": 1, "tags": ["a", "b"], "score": 0.90, "label": "cat"});
/// let new = json!({"id": 2, "tags": ["b", "a"], "score": 0.905, "label": "dog"});
/// assert_eq!(documents.compare(&old, &new), Ok(0.75)); // of four leaves, the label differs
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Documents {
    ignored: Vec<Path>,
    unordered: Vec<Path>,
    tolerance: f64,
}

/// A path with wildcards.
#[derive(Clone, Debug, PartialEq)]
struct Path(Vec<Option<String>>);

impl Documents {
    /// Compares everything, exactly and in order.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves out what stands at `path` and below.
    #[must_use]
    pub fn ignoring(mut self, path: &str) -> Self {
        self.ignored.push(Path::of(path));
        self
    }

    /// Takes the list at `path` for a bag: its elements meet whatever their positions, each with
    /// the first one left that is alike in all its leaves; those left over meet in order.
    #[must_use]
    pub fn unordered(mut self, path: &str) -> Self {
        self.unordered.push(Path::of(path));
        self
    }

    /// Numbers are alike when they differ by no more than `tolerance` of the larger one; see
    /// [`Numeric::relative`]. A tolerance that is negative or not a number counts as 0.
    #[must_use]
    pub fn within(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance.max(0.0);
        self
    }
}

impl<T: Tree + Send + Sync> Comparator<T> for Documents {
    fn compare(&self, baseline: &T, candidate: &T) -> Result<f64, Incomparable> {
        let mut walk = Walk { rules: self, at: Vec::new(), nodes: 0 };
        let leaves = walk.meet(Some(baseline), Some(candidate))?;
        Ok(if leaves.all == 0 { 1.0 } else { leaves.alike as f64 / leaves.all as f64 })
    }
}

#[derive(Clone, Copy, Default)]
struct Leaves {
    alike: u64,
    all: u64,
}

impl Leaves {
    const fn one(alike: bool) -> Self {
        Self { alike: alike as u64, all: 1 }
    }

    const fn add(&mut self, other: Self) {
        self.alike += other.alike;
        self.all += other.all;
    }
}

struct Walk<'r> {
    rules: &'r Documents,
    at: Vec<String>,
    nodes: usize,
}

impl Walk<'_> {
    /// Two nodes at the present path; at least one is there.
    fn meet<T: Tree>(&mut self, a: Option<&T>, b: Option<&T>) -> Result<Leaves, Incomparable> {
        self.nodes += 1;
        if self.nodes > MOST_NODES || self.at.len() > MOST_DEPTH {
            return Err(Incomparable::TooLarge);
        }
        if self.rules.ignored.iter().any(|path| path.is(&self.at)) {
            return Ok(Leaves::default());
        }
        match (a.map(Tree::node), b.map(Tree::node)) {
            (Some(a), Some(b)) => self.both(a, b),
            (Some(only), None) | (None, Some(only)) => self.lone(only),
            (None, None) => Ok(Leaves::default()),
        }
    }

    fn both<T: Tree>(&mut self, a: Node<'_, T>, b: Node<'_, T>) -> Result<Leaves, Incomparable> {
        match (a, b) {
            (Node::Map(a), Node::Map(b)) if !(a.is_empty() && b.is_empty()) => self.maps(a, b),
            (Node::List(a), Node::List(b)) if !(a.is_empty() && b.is_empty()) => {
                if self.rules.unordered.iter().any(|path| path.is(&self.at)) {
                    self.bags(a, b)
                } else {
                    self.lists(a.iter().collect(), b.iter().collect())
                }
            }
            (a, b) => self.leaves(a, b),
        }
    }

    fn maps<T: Tree>(
        &mut self,
        mut a: Vec<(&str, &T)>,
        mut b: Vec<(&str, &T)>,
    ) -> Result<Leaves, Incomparable> {
        a.sort_by_key(|(key, _)| *key);
        b.sort_by_key(|(key, _)| *key);
        let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
        let mut leaves = Leaves::default();
        loop {
            let key = match (a.peek(), b.peek()) {
                (Some((x, _)), Some((y, _))) => *(x.min(y)),
                (Some((x, _)), None) => *x,
                (None, Some((y, _))) => *y,
                (None, None) => return Ok(leaves),
            };
            let (x, y) = (a.next_if(|(x, _)| *x == key), b.next_if(|(y, _)| *y == key));
            self.at.push(key.to_owned());
            leaves.add(self.meet(x.map(|(_, node)| node), y.map(|(_, node)| node))?);
            self.at.pop();
        }
    }

    fn lists<T: Tree>(&mut self, a: Vec<&T>, b: Vec<&T>) -> Result<Leaves, Incomparable> {
        let mut leaves = Leaves::default();
        for at in 0..a.len().max(b.len()) {
            self.at.push(at.to_string());
            leaves.add(self.meet(a.get(at).copied(), b.get(at).copied())?);
            self.at.pop();
        }
        Ok(leaves)
    }

    fn bags<T: Tree>(&mut self, a: &[T], b: &[T]) -> Result<Leaves, Incomparable> {
        let (mut leaves, mut left_a) = (Leaves::default(), Vec::new());
        let mut left_b: Vec<&T> = b.iter().collect();
        for one in a {
            // Positions of a bag are all the same to the rules.
            self.at.push("0".to_owned());
            let mut partner = None;
            for (place, other) in left_b.iter().enumerate() {
                let met = self.meet(Some(one), Some(*other))?;
                if met.alike == met.all {
                    partner = Some((place, met));
                    break;
                }
            }
            self.at.pop();
            match partner {
                Some((place, met)) => {
                    leaves.add(met);
                    left_b.remove(place);
                }
                None => left_a.push(one),
            }
        }
        leaves.add(self.lists(left_a, left_b)?);
        Ok(leaves)
    }

    fn leaves<T: Tree>(&mut self, a: Node<'_, T>, b: Node<'_, T>) -> Result<Leaves, Incomparable> {
        let alike = match (&a, &b) {
            (Node::Null, Node::Null) => true,
            (Node::Bool(a), Node::Bool(b)) => a == b,
            (Node::Text(a), Node::Text(b)) => a == b,
            (Node::Whole(a), Node::Whole(b)) if a == b => true,
            (Node::Whole(a), Node::Whole(b)) if self.rules.tolerance == 0.0 => a == b,
            (Node::List(a), Node::List(b)) => a.is_empty() && b.is_empty(),
            (Node::Map(a), Node::Map(b)) => a.is_empty() && b.is_empty(),
            _ => match (number(&a), number(&b)) {
                (Some(a), Some(b)) => {
                    Numeric::relative(self.rules.tolerance).compare(&a, &b)? >= 1.0
                }
                // Of different kinds: what both have below counts as theirs alone.
                _ => {
                    let mut leaves = self.lone(a)?;
                    leaves.add(self.lone(b)?);
                    leaves.all = (leaves.all / 2).max(1);
                    return Ok(leaves);
                }
            },
        };
        Ok(Leaves::one(alike))
    }

    /// What only one document has: all of its leaves are different.
    fn lone<T: Tree>(&mut self, node: Node<'_, T>) -> Result<Leaves, Incomparable> {
        match node {
            Node::Map(entries) if !entries.is_empty() => self.maps(entries, Vec::new()),
            Node::List(items) if !items.is_empty() => {
                self.lists(items.iter().collect(), Vec::new())
            }
            Node::Number(x) if !x.is_finite() => Err(Incomparable::NotFinite),
            _ => Ok(Leaves::one(false)),
        }
    }
}

fn number<T>(node: &Node<'_, T>) -> Option<f64> {
    match node {
        Node::Whole(whole) => Some(*whole as f64),
        Node::Number(number) => Some(*number),
        _ => None,
    }
}

impl Path {
    fn of(path: &str) -> Self {
        let part = |part: &str| (part != "*").then(|| part.replace("~1", "/").replace("~0", "~"));
        Self(
            path.split('/')
                .skip(usize::from(path.is_empty() || path.starts_with('/')))
                .map(part)
                .collect(),
        )
    }

    fn is(&self, at: &[String]) -> bool {
        self.0.len() == at.len()
            && self.0.iter().zip(at).all(|(rule, part)| rule.as_ref().is_none_or(|r| r == part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest tree that has everything.
    #[derive(Clone)]
    enum Doc {
        Null,
        Whole(i128),
        Number(f64),
        Text(&'static str),
        List(Vec<Doc>),
        Map(Vec<(&'static str, Doc)>),
    }

    impl Tree for Doc {
        fn node(&self) -> Node<'_, Self> {
            match self {
                Self::Null => Node::Null,
                Self::Whole(whole) => Node::Whole(*whole),
                Self::Number(number) => Node::Number(*number),
                Self::Text(text) => Node::Text(text),
                Self::List(list) => Node::List(list),
                Self::Map(map) => Node::Map(map.iter().map(|(key, doc)| (*key, doc)).collect()),
            }
        }
    }

    fn list(items: &[i128]) -> Doc {
        Doc::List(items.iter().map(|item| Doc::Whole(*item)).collect())
    }

    #[test]
    fn leaves_meet_by_their_path() {
        let old = Doc::Map(vec![("a", Doc::Whole(1)), ("b", list(&[1, 2])), ("c", Doc::Null)]);
        let new = Doc::Map(vec![("b", list(&[1, 3, 4])), ("a", Doc::Text("1"))]);
        // a differs in kind, b/0 is alike, b/1 differs, b/2 and c are one side's.
        assert_eq!(Documents::new().compare(&old, &new), Ok(0.2));
        assert_eq!(Documents::new().compare(&old, &old), Ok(1.0));
        let rules = Documents::new().ignoring("/a").ignoring("/b/*").ignoring("/c");
        assert_eq!(rules.compare(&old, &new), Ok(1.0), "nothing is left to differ");
    }

    #[test]
    fn a_bag_has_no_order() {
        let (old, new) = (list(&[1, 2, 2, 3]), list(&[3, 2, 1, 9]));
        assert_eq!(Documents::new().compare(&old, &new), Ok(0.25));
        assert_eq!(Documents::new().unordered("").compare(&old, &new), Ok(0.75));
        let bags = Documents::new().unordered("");
        assert_eq!(bags.compare(&list(&[1, 2]), &list(&[2, 1, 5])), Ok(2.0 / 3.0));
    }

    #[test]
    fn whole_numbers_are_exact_and_others_have_a_tolerance() {
        let exact = Documents::new();
        let large = 9_007_199_254_740_993_i128;
        assert_eq!(exact.compare(&Doc::Whole(large), &Doc::Whole(large - 1)), Ok(0.0));
        assert_eq!(exact.compare(&Doc::Whole(1), &Doc::Number(1.0)), Ok(1.0));
        let loose = Documents::new().within(0.1);
        assert_eq!(loose.compare(&Doc::Number(1.0), &Doc::Number(1.05)), Ok(1.0));
        assert_eq!(loose.compare(&Doc::Whole(100), &Doc::Whole(105)), Ok(1.0));
        let nan = Doc::Number(f64::NAN);
        assert_eq!(loose.compare(&nan, &nan), Err(Incomparable::NotFinite));
        assert_eq!(loose.compare(&nan, &Doc::Null), Err(Incomparable::NotFinite));
    }

    #[test]
    fn depth_and_work_are_bounded() {
        let mut deep = Doc::Null;
        for _ in 0..MOST_DEPTH + 2 {
            deep = Doc::List(vec![deep]);
        }
        assert_eq!(Documents::new().compare(&deep, &deep), Err(Incomparable::TooLarge));
        let (a, b): (Vec<i128>, Vec<i128>) = ((0..2_000).collect(), (5_000..7_000).collect());
        let bags = Documents::new().unordered("");
        assert_eq!(bags.compare(&list(&a), &list(&b)), Err(Incomparable::TooLarge));
        assert_eq!(Documents::new().compare(&list(&a), &list(&b)), Ok(0.0));
    }

    #[test]
    fn a_path_is_whole() {
        let path = Path::of("/a~1b/*/c~0");
        let at = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
        assert!(path.is(&at(&["a/b", "7", "c~"])));
        assert!(!path.is(&at(&["a/b", "7"])) && !path.is(&at(&["a/b", "7", "c~", "d"])));
        assert!(Path::of("").is(&[]));
    }
}
