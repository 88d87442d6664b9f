//! Approvals, and what they make of a plan.
//!
//! **Invariant:** [`approve`] is the only maker of an [`Approved`], so a plan that nobody entitled approved cannot be
//! run: the code would not type-check.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::scope::is_named;
use crate::base::digest::Digest;
use crate::base::ids::Actor;
use crate::base::time::Timestamp;
use crate::domain::plan::Plan;

/// One person's approval of one plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who.
    pub by: Actor,
    /// The groups they were in then, of those that policy asks for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// The plan they saw; counts for no other.
    pub digest: Digest,
    /// When they want it to start; the plan's own time when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// When their approval ends: a task that has not started by then needs it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// How many people must approve, and which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// How many different people.
    pub approvals: u32,
    /// Which: names and `@groups`; whoever may approve when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<String>,
    /// The rule that asks for it.
    pub rule: String,
}

impl Need {
    /// Returns how many people are missing still.
    #[must_use]
    pub fn missing<'a>(&self, approvals: impl IntoIterator<Item = &'a Approval>) -> u32 {
        let counts = |approval: &&Approval| {
            self.of.is_empty() || is_named(&self.of, &approval.by.user, |group| approval.groups.contains(group))
        };
        let people: BTreeSet<u32> = approvals.into_iter().filter(counts).map(|approval| approval.by.uid).collect();
        // No rule can ask for nobody.
        self.approvals.max(1).saturating_sub(u32::try_from(people.len()).unwrap_or(u32::MAX))
    }
}

/// Returns how many approvals are missing at least, by all needs.
#[must_use]
pub fn missing(needs: &[Need], approvals: &[&Approval]) -> u32 {
    needs.iter().map(|need| need.missing(approvals.iter().copied())).max().unwrap_or(1)
}

/// What entitles a plan to run.
#[derive(Clone, Copy, Debug)]
pub enum Grant<'a> {
    /// Enough people approved it.
    Votes {
        /// Their approvals.
        approvals: &'a [Approval],
        /// What it takes; nothing at all is never enough.
        needs: &'a [Need],
    },
    /// Policy let its submitter skip approval.
    Exempt,
}

/// A plan that may run. Only [`approve`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    plan: Arc<Plan>,
}

impl Approved {
    /// Returns the plan that may run.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }
}

/// Makes a plan runnable when `grant` is enough for it: as many different people as every need asks for, each for
/// exactly `digest`, which must be the plan's.
///
/// # Errors
/// How many approvals are missing at least.
pub fn approve(plan: &Arc<Plan>, digest: Digest, grant: Grant<'_>) -> Result<Approved, u32> {
    let missing = match grant {
        Grant::Exempt => 0,
        Grant::Votes { approvals, needs } => {
            let valid: Vec<&Approval> = approvals.iter().filter(|approval| approval.digest == digest).collect();
            missing(needs, &valid)
        }
    };
    if missing == 0 { Ok(Approved { plan: Arc::clone(plan) }) } else { Err(missing) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(uid: u32, groups: &[&str], digest: Digest) -> Approval {
        let by = Actor { uid, user: format!("u{uid}") };
        Approval { by, groups: groups.iter().map(|g| (*g).to_owned()).collect(), digest, start: None, until: None }
    }

    fn need(approvals: u32, of: &[&str]) -> Need {
        Need { approvals, of: of.iter().map(|w| (*w).to_owned()).collect(), rule: "a rule".to_owned() }
    }

    #[test]
    fn a_plan_runs_only_with_enough_different_people_for_its_digest() {
        let plan = Arc::new(Plan::empty_for_tests());
        let digest = plan.digest();
        let check =
            |votes: &[Approval], needs: &[Need]| approve(&plan, digest, Grant::Votes { approvals: votes, needs }).err();
        let (one, two) = ([need(1, &[])], [need(2, &[])]);
        assert_eq!(check(&[], &one), Some(1));
        assert_eq!(check(&[], &[need(0, &[])]), Some(1), "zero needed would be no approval at all");
        assert_eq!(check(&[], &[]), Some(1), "and so would be no need");
        assert_eq!(check(&[vote(1, &[], digest)], &one), None);
        assert_eq!(check(&[vote(1, &[], digest), vote(1, &[], digest)], &two), Some(1));
        assert_eq!(check(&[vote(1, &[], digest), vote(2, &[], Digest::of(b"other"))], &two), Some(1));
        assert_eq!(check(&[vote(1, &[], digest), vote(2, &[], digest)], &two), None);
    }

    #[test]
    fn every_need_asks_for_its_own_people() {
        let plan = Arc::new(Plan::empty_for_tests());
        let digest = plan.digest();
        let needs = [need(2, &[]), need(1, &["@dba", "u7"])];
        let check = |votes: &[Approval]| approve(&plan, digest, Grant::Votes { approvals: votes, needs: &needs }).err();
        assert_eq!(check(&[vote(1, &["lead"], digest), vote(2, &["lead"], digest)]), Some(1));
        assert_eq!(check(&[vote(1, &["lead"], digest), vote(2, &["dba"], digest)]), None);
        assert_eq!(check(&[vote(1, &[], digest), vote(7, &[], digest)]), None);
        assert_eq!(check(&[vote(2, &["dba"], digest)]), Some(1), "one person is never two");
    }
}
