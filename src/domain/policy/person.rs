//! The people that rules are for. Floor 1.
//!
//! **Invariant:** pure. Who somebody is, and in which groups, is what the system says.

use std::collections::BTreeSet;

use super::scope::is_named;
use crate::base::ids::Actor;

/// A person who acts: the owner of a file, with the groups the system knows for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub actor: Actor,
    /// The names of their Unix groups.
    pub groups: BTreeSet<String>,
}

impl Person {
    /// Whether a list of `name`, `@group` and `*` names this person.
    pub(super) fn is_one_of(&self, who: &[String]) -> bool {
        is_named(who, &self.actor.user, |group| self.groups.contains(group))
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
            .then(|| format!("it applies to {}; {} is not included", who.join(", "), person.actor.user))
    };
    match (objection(who), objection(&by_name)) {
        (None, Some(_)) => Some(unknown()),
        (objection, _) => objection,
    }
}
