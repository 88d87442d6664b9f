//! A line that asks for something in the bottom of the screen.
//!
//! **Invariant:** pure.

use crate::shells::dashboard::edit::Edit;

/// What is asked for, and what was typed so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    /// Only what has this text is shown.
    Filter(Edit),
    /// A text to find in a log.
    Find(Edit),
    /// Only lines with this text are shown.
    Keep(Edit),
    /// A command; also which of the earlier ones is shown.
    Command(Edit, Option<usize>),
}
