//! The rules of a policy file. Floor 1.
//!
//! **Invariant:** pure. They are all of one file, read whole.

use super::freeze::Freeze;
use super::rule::{ApproveRule, AuditRule, ControlRule, RequireRule, SubmitRule};
use super::see::SeeRule;
use crate::domain::risk::Bounds;

/// The rules of a policy file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    pub(super) submit: Vec<SubmitRule>,
    pub(super) approve: Vec<ApproveRule>,
    pub(super) require: Vec<RequireRule>,
    pub(super) control: Vec<ControlRule>,
    pub(super) audit: Vec<AuditRule>,
    pub(super) see: Vec<SeeRule>,
    pub(super) freeze: Vec<Freeze>,
    pub(super) bounds: Bounds,
    pub(super) unproved: Unproved,
}

/// What is asked more of a task whose file somebody else may have put where it lay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unproved {
    /// It is marked, and one approval more is asked where its risk is high.
    #[default]
    Mark,
    /// One approval more is asked, whatever its risk.
    OneMore,
    /// It is refused.
    Refuse,
}

impl Unproved {
    /// Reads the word, as in `policy.toml`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Unproved> {
        match word {
            "mark" => Some(Unproved::Mark),
            "one-more" => Some(Unproved::OneMore),
            "refuse" => Some(Unproved::Refuse),
            _ => None,
        }
    }
}
