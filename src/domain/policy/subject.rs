//! A task as rules see it. Floor 1.
//!
//! **Invariant:** pure. It is made of a plan and of what is proved about its file; what the file claims widens nothing.

use std::collections::BTreeSet;

use crate::base::ids::Actor;
use crate::domain::level::Level;
use crate::domain::plan::Plan;
use crate::domain::risk::{Bounds, Risk};
use crate::domain::submission::Claims;

/// A task as rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The template's name, or `script`.
    pub work: String,
    /// The environments and tags of its hosts, each combination once.
    pub places: BTreeSet<(String, BTreeSet<String>)>,
    /// How much it can break.
    pub level: Level,
    /// Who submitted it.
    pub submitter: Actor,
    /// The people it names in `associated_user`.
    pub named: BTreeSet<String>,
    /// The people behind it beside its submitter: whom it says it comes from, and who made the token it came with.
    pub behind: BTreeSet<String>,
    /// Whether somebody else may have put its file where it lay.
    pub unproved: bool,
}

impl Subject {
    /// Looks at a plan.
    #[must_use]
    pub fn of(plan: &Plan, submitter: &Actor, claims: &Claims, bounds: &Bounds) -> Subject {
        let places = plan.hosts.values().map(|host| (host.environment.clone(), host.tags.clone())).collect();
        Subject {
            work: plan.work_name().to_owned(),
            places,
            level: Risk::of(plan, bounds).level,
            submitter: submitter.clone(),
            named: claims.associated_user.values().flatten().cloned().collect(),
            behind: claims.behind(),
            unproved: false,
        }
    }

    /// Whether it is somebody's own, or comes from them by another's hand: then they are no second person.
    pub(super) fn is_of(&self, actor: &Actor) -> bool {
        // The number or the name: whoever was given either of them anew is not a second person.
        let submitted = self.submitter.uid == actor.uid || self.submitter.user == actor.user;
        submitted || self.behind.contains(&actor.user)
    }

    /// Stands for a task whose plan could not be made.
    #[must_use]
    pub fn unresolved(work: String, submitter: &Actor) -> Subject {
        let (places, named, behind) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (level, submitter, unproved) = (Level::Low, submitter.clone(), false);
        Subject { work, places, level, submitter, named, behind, unproved }
    }
}
