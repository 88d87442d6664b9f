//! The parts of a task that can be seen or not, and the rules about them. Floor 1.
//!
//! **Invariant:** pure. That a task exists, its name, its submitter, its state and its outcome is no part: it is no secret before
//! anybody who may look at the state at all.

use std::collections::BTreeSet;

use super::opinion::Opinion;
use super::person::{Person, stranger};
use super::scope::{Scope, is_named};
use super::subject::Subject;

/// What of a task can be seen or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What runs where: its steps, scripts, arguments and hosts, and how each step ended.
    Plan,
    /// What it printed.
    Output,
    /// The variables that it was submitted with, and the text of its file, which holds them.
    Environment,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 3] = [Part::Plan, Part::Output, Part::Environment];

    /// Returns the word, as in `policy.toml`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Part::Plan => "plan",
            Part::Output => "output",
            Part::Environment => "environment",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Part> {
        Part::ALL.into_iter().find(|part| part.word() == word)
    }
}

/// What somebody sees of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// [`Part::Plan`].
    pub plan: bool,
    /// [`Part::Output`].
    pub output: bool,
    /// [`Part::Environment`].
    pub environment: bool,
}

impl Sight {
    /// Returns whether a part is seen.
    #[must_use]
    pub fn has(self, part: Part) -> bool {
        match part {
            Part::Plan => self.plan,
            Part::Output => self.output,
            Part::Environment => self.environment,
        }
    }

    /// Returns the words of the parts that are not seen.
    #[must_use]
    pub fn withheld(self) -> Vec<&'static str> {
        Part::ALL.into_iter().filter(|part| !self.has(*part)).map(Part::word).collect()
    }
}

/// Whom files can be given to: they know one group each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Whoever may look at the state, as without rules.
    Everybody,
    /// The members of this group, all of whom may see it.
    Group(String),
    /// The daemon's own user alone.
    Nobody,
}

/// Whom the files of a task can be given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its plan, its journal and its record; all three hold the environment.
    pub task: Readers,
    /// What it printed, for those who get as far.
    pub output: Readers,
}

/// Who may see which parts of which tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeeRule {
    pub(super) rule: String,
    pub(super) who: Vec<String>,
    pub(super) scope: Scope,
    /// Whose tasks; everybody's when empty.
    pub(super) submitters: Vec<String>,
    /// All of them when empty.
    pub(super) parts: Vec<Part>,
}

impl SeeRule {
    pub(super) fn opinion(&self, person: &Person, of: &BTreeSet<String>, subject: &Subject, part: Part) -> Opinion {
        let other_part = || {
            let parts: Vec<&str> = self.parts.iter().map(|part| part.word()).collect();
            (!parts.is_empty() && !self.parts.contains(&part)).then(|| format!("it is for {}", parts.join(", ")))
        };
        let other_submitter = || {
            let named = is_named(&self.submitters, &subject.submitter.user, |group| of.contains(group));
            (!self.submitters.is_empty() && !named).then(|| {
                format!("it is for tasks of {}, not of {}", self.submitters.join(", "), subject.submitter.user)
            })
        };
        let objection = stranger(person, &self.who)
            .or_else(|| self.scope.objection(subject))
            .or_else(other_part)
            .or_else(other_submitter);
        let meant =
            self.scope.names_work(&subject.work) && stranger(person, &self.who).is_none() && other_part().is_none();
        Opinion::of(&self.rule, objection).looking(meant, !self.submitters.is_empty() || self.scope.looks_at_hosts())
    }
}
