//! Semantic versions, compared without allocating.
//!
//! Written by hand since what targeting needs is small, and a version that comes from a request
//! must cost no more than its length.

use std::cmp::Ordering;

/// A version of the form `1.2.3-alpha.1+build`. Build metadata is ignored.
///
/// Source: Semantic Versioning 2.0.0.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    major: u64,
    minor: u64,
    patch: u64,
    pre: &'a str,
}

impl<'a> Version<'a> {
    /// The most bytes a version may have.
    pub const MAX_LEN: usize = 256;

    /// A version, or `None` if `text` is not one: three numbers without leading zeros, an
    /// optional pre-release, optional build metadata, 256 bytes at most.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (core, pre) = Self::split(text)?;
        let mut numbers = core.split('.');
        let version = Self {
            major: number(numbers.next()?)?,
            minor: number(numbers.next()?)?,
            patch: number(numbers.next()?)?,
            pre,
        };
        numbers.next().is_none().then_some(version)
    }

    /// The same, but a leading `v` or `V` is dropped and missing numbers count as zero: `v1` is
    /// `1.0.0`.
    #[must_use]
    pub fn parse_loose(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let (core, pre) = Self::split(text)?;
        let mut numbers = core.split('.');
        let major = number(numbers.next()?)?;
        let mut next = || numbers.next().map_or(Some(0), number);
        let version = Self { major, minor: next()?, patch: next()?, pre };
        numbers.next().is_none().then_some(version)
    }

    /// Whether both have the same major number.
    #[must_use]
    pub const fn same_major(&self, other: &Self) -> bool {
        self.major == other.major
    }

    /// Whether both have the same major and minor number.
    #[must_use]
    pub const fn same_minor(&self, other: &Self) -> bool {
        self.major == other.major && self.minor == other.minor
    }

    fn split(text: &'a str) -> Option<(&'a str, &'a str)> {
        if text.len() > Self::MAX_LEN {
            return None;
        }
        let (version, build) = match text.split_once('+') {
            Some((version, build)) => (version, Some(build)),
            None => (text, None),
        };
        let (core, pre) = match version.split_once('-') {
            Some((core, pre)) => (core, Some(pre)),
            None => (version, None),
        };
        let build_fits = build.is_none_or(|build| build.split('.').all(is_identifier));
        let pre_fits = pre.is_none_or(|pre| {
            pre.split('.').all(|part| is_identifier(part) && !has_leading_zero(part))
        });
        (build_fits && pre_fits).then_some((core, pre.unwrap_or("")))
    }
}

impl PartialEq for Version<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version<'_> {}

impl PartialOrd for Version<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.major, self.minor, self.patch)
            .cmp(&(other.major, other.minor, other.patch))
            .then_with(|| compare_pre(self.pre, other.pre))
    }
}

fn compare_pre(left: &str, right: &str) -> Ordering {
    match (left.is_empty(), right.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater, // a release comes after its pre-releases
        (false, true) => Ordering::Less,
        (false, false) => {
            let (mut left, mut right) = (left.split('.'), right.split('.'));
            loop {
                let order = match (left.next(), right.next()) {
                    (None, None) => return Ordering::Equal,
                    (None, Some(_)) => return Ordering::Less,
                    (Some(_), None) => return Ordering::Greater,
                    (Some(left), Some(right)) => compare_identifiers(left, right),
                };
                if order.is_ne() {
                    return order;
                }
            }
        }
    }
}

/// Numbers by value and before words; words as ASCII. Without leading zeros, the longer number is
/// the larger one, however long it is.
fn compare_identifiers(left: &str, right: &str) -> Ordering {
    match (is_number(left), is_number(right)) {
        (true, true) => left.len().cmp(&right.len()).then_with(|| left.cmp(right)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => left.cmp(right),
    }
}

fn number(text: &str) -> Option<u64> {
    if !is_number(text) || has_leading_zero(text) { None } else { text.parse().ok() }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && is_number(text)
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_is_that_of_the_standard() {
        let rising = [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.9.0",
            "1.10.0",
            "2.0.0",
        ];
        for pair in rising.windows(2) {
            let [low, high] = [pair[0], pair[1]].map(|text| Version::parse(text).unwrap());
            assert!(low < high, "{pair:?}");
        }
        assert_eq!(Version::parse("1.0.0+a"), Version::parse("1.0.0+b"));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in [
            "", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "v1.2.3", "a.b.c",
            "-1.0.0", "1.0.0-ä",
        ] {
            assert!(Version::parse(text).is_none(), "{text}");
        }
        assert!(Version::parse("99999999999999999999.0.0").is_none());
        assert!(Version::parse(&format!("1.0.0-{}", "a".repeat(300))).is_none());
    }

    #[test]
    fn a_loose_version_fills_in_zeros() {
        for (loose, strict) in
            [("v1", "1.0.0"), ("V1.2", "1.2.0"), ("1.1", "1.1.0"), ("2", "2.0.0")]
        {
            assert_eq!(Version::parse_loose(loose), Version::parse(strict));
        }
        assert!(Version::parse_loose("2.0.0.0").is_none());
        assert!(Version::parse_loose("not-a-version").is_none());
    }
}
