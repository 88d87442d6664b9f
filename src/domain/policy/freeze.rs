//! Times in which nothing starts.
//!
//! **Invariant:** pure. A freeze holds from its first instant to before its last; nothing is cut short by one.

use serde::{Deserialize, Serialize};

use super::scope::{Scope, is_named};
use super::vote::Approval;
use crate::base::time::{Timestamp, Zone};
use crate::base::week::WeekSpan;

/// A freeze that holds now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frozen {
    /// Its name.
    pub freeze: String,
    /// When it ends.
    pub until: Timestamp,
}

/// A freeze of `policy.toml`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Freeze {
    pub(super) name: String,
    pub(super) scope: Scope,
    pub(super) span: Span,
    /// Whose approval lets a task start all the same.
    pub(super) except: Vec<String>,
}

/// When a freeze holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Span {
    /// Once.
    Once { from: Timestamp, to: Timestamp },
    /// Every week.
    Weekly { span: WeekSpan, zone: Zone },
}

impl Freeze {
    /// Returns the freeze while it holds.
    pub(super) fn at(&self, now: Timestamp) -> Option<Frozen> {
        let (from, to) = match &self.span {
            Span::Once { from, to } => (*from, *to),
            Span::Weekly { span, zone } => span.at(now, zone)?,
        };
        (from <= now && now < to).then(|| Frozen { freeze: self.name.clone(), until: to })
    }

    /// Whether somebody approved whom the freeze excepts.
    pub(super) fn excepts(&self, approvals: &[&Approval]) -> bool {
        let by = |approval: &&Approval| is_named(&self.except, &approval.by.user, |g| approval.groups.contains(g));
        approvals.iter().any(by)
    }
}
