//! How much care a task needs. Floor 1.
//!
//! **Invariant:** pure. The levels are in order: what is asked of one is asked of every higher one.

use serde::{Deserialize, Serialize};

/// How much care a task needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A look.
    #[default]
    Low,
    /// A careful look.
    Medium,
    /// More than one pair of eyes, if policy says so.
    High,
}

impl Level {
    /// Returns the word, as in files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Level::Low => "low",
            Level::Medium => "medium",
            Level::High => "high",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Level> {
        [Level::Low, Level::Medium, Level::High].into_iter().find(|level| level.word() == word)
    }
}
