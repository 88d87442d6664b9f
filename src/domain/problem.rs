//! What is wrong with something a person wrote: data, never an exception, and all of it at once.
//!
//! **Invariant:** a problem says where, what was found and what was wanted; it never holds a secret's value.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::limits;
use crate::base::text::visible;

/// One thing wrong with an input file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// Where: a JSON pointer (`/hosts/1`), `file:line` or a field's name; empty for the whole input.
    pub pointer: String,
    /// The line in the file, counted from 1, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column in the line, counted from 1 in characters, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// What stands there, shortened and made visible.
    pub found: String,
    /// What would have been right.
    pub wanted: String,
    /// Whether nothing is wrong with what was written but that its writer may not do it; `found` says so then, and
    /// `wanted` what to try.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub denied: bool,
    /// Whether nothing is wrong with it but that its writer is at a limit: later it may come in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limited: bool,
}

impl Problem {
    /// Makes a problem at `pointer`; `pointer` and `found` are shortened and their control characters written out.
    #[must_use]
    pub fn new(pointer: impl AsRef<str>, found: impl AsRef<str>, wanted: impl Into<String>) -> Problem {
        Problem {
            pointer: excerpt(pointer.as_ref(), limits::POINTER_CHARS_MAX),
            line: None,
            column: None,
            found: excerpt(found.as_ref(), limits::FOUND_CHARS_MAX),
            wanted: wanted.into(),
            denied: false,
            limited: false,
        }
    }

    /// Says that somebody may not do it at all, and what tells them more.
    #[must_use]
    pub fn denied(why: impl AsRef<str>, attempt: impl Into<String>) -> Problem {
        let found = excerpt(why.as_ref(), limits::POINTER_CHARS_MAX);
        Problem { found, denied: true, ..Problem::new("", "", attempt) }
    }

    /// Says that somebody is at a limit, and when it may be tried again.
    #[must_use]
    pub fn limited(found: impl AsRef<str>, wanted: impl Into<String>) -> Problem {
        Problem { limited: true, ..Problem::new("", found, wanted) }
    }

    /// Says where in the text the problem is, both counted from 1.
    #[must_use]
    pub fn at(mut self, line: u32, column: u32) -> Problem {
        self.line = Some(line);
        self.column = Some(column);
        self
    }
}

/// Shortens text to what fits on a line and makes its control characters visible.
pub(super) fn excerpt(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => visible(&text[..end]) + "~",
        None => visible(text),
    }
}

/// The problems of one input, gathered. Holds at most [`limits::PROBLEMS_MAX`] and counts the rest, so that no input
/// makes more of them than memory holds.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// Adds a problem.
    pub fn push(&mut self, problem: Problem) {
        if self.list.len() < limits::PROBLEMS_MAX {
            self.list.push(problem);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the problems in the order they were found; the last one says how many more there are.
    #[must_use]
    pub fn into_vec(mut self) -> Vec<Problem> {
        if self.more > 0 {
            let found = format!("{} more problems", self.more);
            self.list.push(Problem::new("", found, "those above put right first"));
        }
        self.list
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<I: IntoIterator<Item = Problem>>(list: I) -> Problems {
        let mut problems = Problems::default();
        list.into_iter().for_each(|problem| problems.push(problem));
        problems
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "line {line}, column {column}: ")?;
        }
        if !self.pointer.is_empty() {
            write!(f, "{}: ", self.pointer)?;
        }
        match (self.denied, self.wanted.is_empty()) {
            (false, _) => write!(f, "found {}; wanted {}", self.found, self.wanted),
            (true, false) => write!(f, "{}; try: {}", self.found, self.wanted),
            (true, true) => write!(f, "{}", self.found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_short_safe_to_show_and_bounded() {
        let problem = Problem::new(format!("/{}", "\u{1b}é".repeat(500_000)), "x".repeat(500_000), "less");
        assert!(problem.to_string().len() < 2_000, "{}", problem.to_string().len());
        assert!(!problem.to_string().contains('\u{1b}'));
        let denied = Problem::denied("no rule in policy.toml lets eve submit hello", "spoolgate policy check");
        assert_eq!(denied.to_string(), "no rule in policy.toml lets eve submit hello; try: spoolgate policy check");
        let mut problems = Problems::default();
        for n in 0..limits::PROBLEMS_MAX + 7 {
            problems.push(Problem::new(format!("/{n}"), "1", "2"));
        }
        let list = problems.into_vec();
        assert_eq!(list.len(), limits::PROBLEMS_MAX + 1);
        assert_eq!(list.last().unwrap().found, "7 more problems");
    }
}
