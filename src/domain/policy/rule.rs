//! What one rule says of one wish: whom it is for, and which tasks.
//!
//! **Invariant:** pure. A rule that allows must cover every host of a task; one that demands holds as soon as one host is in its
//! scope.

use super::opinion::Opinion;
use super::person::{Person, stranger};
use super::scope::Scope;
use super::subject::Subject;
use crate::domain::right::Right;
use crate::domain::submission::Schedule;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SubmitRule {
    pub(super) rule: String,
    pub(super) who: Vec<String>,
    pub(super) scope: Scope,
    pub(super) into: Vec<Schedule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApproveRule {
    pub(super) rule: String,
    pub(super) who: Vec<String>,
    pub(super) scope: Scope,
    pub(super) approvals: Option<u32>,
    /// Also their own tasks.
    pub(super) own: bool,
    /// Only where the task names them.
    pub(super) named: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequireRule {
    pub(super) rule: String,
    pub(super) scope: Scope,
    pub(super) approvals: u32,
    pub(super) of: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ControlRule {
    pub(super) rule: String,
    pub(super) who: Vec<String>,
    pub(super) scope: Scope,
    /// Which acts; all of them when empty.
    pub(super) acts: Vec<Right>,
    /// Only their own tasks.
    pub(super) own: bool,
}

/// Who may take note of what was removed from the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuditRule {
    pub(super) rule: String,
    pub(super) who: Vec<String>,
}

impl SubmitRule {
    pub(super) fn opinion(&self, person: &Person, subject: &Subject, into: Schedule) -> Opinion {
        let not_into = || {
            (into == Schedule::Ready && !self.into.contains(&into))
                .then(|| "it does not let anything into ready".to_owned())
        };
        let objection = stranger(person, &self.who).or_else(|| self.scope.objection(subject)).or_else(not_into);
        let meant =
            self.scope.names_work(&subject.work) && stranger(person, &self.who).is_none() && not_into().is_none();
        Opinion::of(&self.rule, objection).looking(meant, self.scope.looks_at_hosts())
    }
}

impl ApproveRule {
    pub(super) fn opinion(&self, person: &Person, subject: &Subject, own: bool) -> Opinion {
        let unnamed = || {
            (self.named && !subject.named.contains(&person.actor.user))
                .then(|| format!("the task does not name {} in associated_user", person.actor.user))
        };
        let own = || (own && !self.own).then(|| "it does not allow one's own tasks".to_owned());
        let objection =
            stranger(person, &self.who).or_else(|| self.scope.objection(subject)).or_else(unnamed).or_else(own);
        let meant = self.scope.names_work(&subject.work) && stranger(person, &self.who).is_none();
        Opinion::of(&self.rule, objection).looking(meant, self.named || self.scope.looks_at_hosts())
    }
}

impl AuditRule {
    pub(super) fn opinion(&self, person: &Person) -> Opinion {
        Opinion::of(&self.rule, stranger(person, &self.who))
    }
}

impl ControlRule {
    pub(super) fn opinion(&self, person: &Person, right: Right, subject: &Subject, own: bool) -> Opinion {
        let other_act = || {
            let acts: Vec<&str> = self.acts.iter().map(|act| act.word()).collect();
            (!acts.is_empty() && !self.acts.contains(&right)).then(|| format!("it is for {}", acts.join(", ")))
        };
        let not_own = || (self.own && !own).then(|| "it is for one's own tasks only".to_owned());
        let objection =
            stranger(person, &self.who).or_else(|| self.scope.objection(subject)).or_else(other_act).or_else(not_own);
        let meant =
            self.scope.names_work(&subject.work) && stranger(person, &self.who).is_none() && other_act().is_none();
        Opinion::of(&self.rule, objection).looking(meant, self.own || self.scope.looks_at_hosts())
    }
}
