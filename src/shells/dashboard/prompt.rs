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

/// The commands that were typed, the newest last, each once.
#[derive(Debug, Default)]
pub(super) struct TypedCommands(Vec<String>);

impl TypedCommands {
    /// Remembers a command, unless it is empty.
    pub(super) fn add(&mut self, line: &str) {
        if !line.is_empty() {
            self.0.retain(|known| known != line);
            self.0.push(line.to_owned());
        }
    }

    /// Shows the command before the one that is shown, or that again where it is the oldest.
    pub(super) fn before(&self, at: Option<usize>) -> Prompt {
        self.show(at.unwrap_or(self.0.len()).checked_sub(1).or(at))
    }

    /// Shows the command after the one that is shown, or an empty line.
    pub(super) fn after(&self, at: Option<usize>) -> Prompt {
        self.show(at.map(|at| at.saturating_add(1)).filter(|at| *at < self.0.len()))
    }

    fn show(&self, at: Option<usize>) -> Prompt {
        let line = at.and_then(|at| self.0.get(at)).cloned();
        Prompt::Command(line.map_or_else(Edit::default, Edit::new), at)
    }
}
