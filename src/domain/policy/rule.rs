//! What one rule says of one wish: whom it is for, and which tasks.
//!
//! **Invariant:** pure. A rule that allows must cover every host of a task; one that demands holds as soon as one host is in its
//! scope.

use std::collections::BTreeSet;

use super::{Opinion, Person, Right, Subject};
use crate::domain::risk::Level;
use crate::domain::submission::Schedule;

/// Which tasks a rule is about. An empty list says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// Names of templates; `*` is every one.
    pub(super) templates: Vec<String>,
    /// Tags of hosts.
    pub(super) tags: Vec<String>,
    /// Environments of hosts.
    pub(super) environments: Vec<String>,
    /// Levels of risk.
    pub(super) risk: Vec<Level>,
}

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

impl Person {
    /// Whether a list of `name`, `@group` and `*` names this person.
    pub(super) fn is_one_of(&self, who: &[String]) -> bool {
        is_named(who, &self.actor.user, |group| self.groups.contains(group))
    }
}

/// Whether a list of `name`, `@group` and `*` names somebody.
pub(super) fn is_named(who: &[String], user: &str, in_group: impl Fn(&str) -> bool) -> bool {
    who.iter().any(|word| match word.strip_prefix('@') {
        Some(group) => in_group(group),
        None => word == "*" || word == user,
    })
}

impl Scope {
    pub(super) fn names_work(&self, work: &str) -> bool {
        self.templates.is_empty() || self.templates.iter().any(|name| name == "*" || name == work)
    }

    /// Whether more decides than the work itself.
    pub(super) fn looks_at_hosts(&self) -> bool {
        !(self.environments.is_empty() && self.tags.is_empty() && self.risk.is_empty())
    }

    pub(super) fn has_level(&self, level: Level) -> bool {
        self.risk.is_empty() || self.risk.contains(&level)
    }

    pub(super) fn has_place(&self, (environment, tags): &(String, BTreeSet<String>)) -> bool {
        (self.environments.is_empty() || self.environments.contains(environment))
            && (self.tags.is_empty() || self.tags.iter().any(|tag| tags.contains(tag)))
    }

    /// Why the scope does not cover the whole task; `None` when it does.
    pub(super) fn objection(&self, subject: &Subject) -> Option<String> {
        if !self.names_work(&subject.work) {
            return Some(format!("it is for {}, not for {}", self.templates.join(", "), subject.work));
        }
        if !self.has_level(subject.level) {
            let levels: Vec<&str> = self.risk.iter().map(|level| level.word()).collect();
            return Some(format!("it is for risk {}, and this is {}", levels.join(", "), subject.level.word()));
        }
        let outside = subject.places.iter().find(|place| !self.has_place(place))?;
        let environment = if outside.0.is_empty() { "no environment" } else { &outside.0 };
        let tags: Vec<&str> = outside.1.iter().map(String::as_str).collect();
        Some(format!("a host of {environment} with the tags [{}] is outside it", tags.join(", ")))
    }

    /// Whether any of the task is in the scope; what is asked of a level of risk is asked of every higher one.
    pub(super) fn touches(&self, subject: &Subject) -> bool {
        let anywhere = self.environments.is_empty() && self.tags.is_empty();
        let level = self.risk.iter().min().is_none_or(|lowest| subject.level >= *lowest);
        self.names_work(&subject.work)
            && level
            && (anywhere || subject.places.iter().any(|place| self.has_place(place)))
    }
}

/// Why a rule's `who` does not name somebody. `*` is everybody with an account here: one person may own many numbers without
/// one (subordinate uids, subuid(5)), and each of them would count as somebody else.
pub(super) fn stranger(person: &Person, who: &[String]) -> Option<String> {
    let nameless = person.actor.is_nameless();
    let by_name: Vec<String> = who.iter().filter(|word| !nameless || *word != "*").cloned().collect();
    let unknown = || format!("it is for everybody with an account, and the system knows no user {}", person.actor.uid);
    let objection = |who: &[String]| {
        (!person.is_one_of(who))
            .then(|| format!("it is for {}, and {} is none of them", who.join(", "), person.actor.user))
    };
    match (objection(who), objection(&by_name)) {
        (None, Some(_)) => Some(unknown()),
        (objection, _) => objection,
    }
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
