//! Numbers that somebody outside said: a host, a file, a person.
//!
//! **Invariant:** whatever was said, nothing that is reckoned with it panics: sums stop at the greatest number, differences at
//! nothing. There are no operators on it, so nothing else can be written.

use std::fmt;
use std::iter::Sum;

use serde::{Deserialize, Serialize};

/// How many of something, or how much: bytes, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Count(u64);

impl Count {
    /// None of it.
    pub const ZERO: Count = Count(0);

    /// Reads decimal digits and nothing else; what is greater than fits counts as the greatest that does.
    #[must_use]
    pub fn read(text: &str) -> Option<Count> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| Count(text.parse().unwrap_or(u64::MAX)))
    }

    /// Returns both together.
    #[must_use]
    pub fn plus(self, other: impl Into<Count>) -> Count {
        Count(self.0.saturating_add(other.into().0))
    }

    /// Returns what is left when `other` is taken away.
    #[must_use]
    pub fn less(self, other: impl Into<Count>) -> Count {
        Count(self.0.saturating_sub(other.into().0))
    }

    /// Returns the plain number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Count {
    fn from(number: u64) -> Count {
        Count(number)
    }
}

impl Sum for Count {
    fn sum<I: Iterator<Item = Count>>(counts: I) -> Count {
        counts.fold(Count::ZERO, Count::plus)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_said_is_a_number_or_none() {
        for (said, want) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("9223372036854775808", Some(1 << 63)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", Some(u64::MAX)),
            ("", None),
            ("-1", None),
            ("+1", None),
            (" 1", None),
            ("1e400", None),
            ("0x10", None),
            ("１", None),
        ] {
            assert_eq!(Count::read(said).map(Count::get), want, "{said}");
        }
        assert_eq!(Count::read(&"9".repeat(100_000)), Some(Count(u64::MAX)));
    }

    #[test]
    fn nothing_that_is_reckoned_panics() {
        let (none, all) = (Count::ZERO, Count(u64::MAX));
        assert_eq!([all.plus(all), all.plus(1), none.less(all), all.less(1)], [all, all, none, Count(u64::MAX - 1)]);
        assert_eq!([all, Count(1), all].into_iter().sum::<Count>(), all);
    }
}
