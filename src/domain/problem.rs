//! What is wrong with something a person wrote: data, never an exception, and all of it at once.
//!
//! **Invariant:** a problem says where, what was found and what was wanted; it never holds a secret's value.

use std::fmt;

use serde::{Deserialize, Serialize};

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
}

impl Problem {
    /// Makes a problem at `pointer`; `found` is shortened and its control characters are written out.
    #[must_use]
    pub fn new(pointer: impl Into<String>, found: impl AsRef<str>, wanted: impl Into<String>) -> Problem {
        Problem {
            pointer: pointer.into(),
            line: None,
            column: None,
            found: excerpt(found.as_ref()),
            wanted: wanted.into(),
        }
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
fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut shown = visible(&text.chars().take(CHARS_MAX).collect::<String>());
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('~');
    }
    shown
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "line {line}, column {column}: ")?;
        }
        if !self.pointer.is_empty() {
            write!(f, "{}: ", self.pointer)?;
        }
        write!(f, "found {}; wanted {}", self.found, self.wanted)
    }
}
