//! Which tasks and which people a rule names. Floor 1.
//!
//! **Invariant:** pure. An empty list of tasks says nothing; an empty list of people names nobody.

use std::collections::BTreeSet;

use super::subject::Subject;
use crate::domain::level::Level;

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
