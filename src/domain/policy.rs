//! Policy: who may submit what into which state, who may approve it, who may cancel it.
//!
//! **Invariant:** pure. People are what the kernel and the user database say they are; nothing a task file
//! claims is looked at. [`approve`] is the only maker of an [`Approved`], so a plan that nobody entitled
//! approved cannot be run: the code would not type-check.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;
use crate::base::ids::Actor;
use crate::domain::plan::Plan;
use crate::domain::problem::Problem;
use crate::domain::submission::Schedule;

/// A person who acts: the owner of a file, with the groups the system knows for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub actor: Actor,
    /// The names of their Unix groups.
    pub groups: BTreeSet<String>,
}

/// The rules of `policy.toml`, or personal mode without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// No policy file: the owner of the state directory may do everything, self-approval included.
    Personal {
        /// The owner's uid.
        owner: u32,
    },
    /// With a policy file nothing is allowed that no rule allows.
    Rules(Rules),
}

/// The parsed rules of `policy.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Who may submit.
    #[serde(default)]
    submit: Vec<SubmitRule>,
    /// Who may approve and reject.
    #[serde(default)]
    approve: Vec<ApproveRule>,
    /// Who may cancel tasks of others; a submitter may always cancel their own.
    #[serde(default)]
    control: Vec<ControlRule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmitRule {
    who: Vec<String>,
    templates: Vec<String>,
    into: Vec<Schedule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApproveRule {
    who: Vec<String>,
    templates: Vec<String>,
    approvals: Option<u32>,
    #[serde(rename = "self", default)]
    own: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ControlRule {
    who: Vec<String>,
    templates: Vec<String>,
}

/// How a submission is let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Admission {
    /// It waits for approval.
    New {
        /// How many different people must approve.
        approvals: u32,
        /// Why it waits although its submitter wished otherwise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// It needs no approval.
    Ready {
        /// The rule that says so, in words.
        rule: String,
    },
}

/// Why somebody may not do something, in words for them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Policy {
    /// Reads `policy.toml`.
    ///
    /// # Errors
    /// One problem with line and column; TOML readers stop at the first.
    pub fn parse(file: &str, text: &str) -> Result<Policy, Vec<Problem>> {
        let rules: Rules = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            vec![Problem::new(format!("{file}:{line}"), error.message(), "rules as in docs/policy.md")]
        })?;
        let problems: Vec<Problem> = rules
            .approve
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.approvals == Some(0))
            .map(|(n, _)| Problem::new(format!("{file}: approve[{n}].approvals"), "0", "1 or more"))
            .collect();
        if problems.is_empty() { Ok(Policy::Rules(rules)) } else { Err(problems) }
    }

    /// Decides whether `person` may submit a task of `template` and into which state it goes.
    ///
    /// `wish` is [`Schedule::Ready`] only when the file was dropped into `ready/` and did not ask for `new`.
    ///
    /// # Errors
    /// When no rule lets this person submit this template at all.
    pub fn admit(&self, person: &Person, template: &str, wish: Schedule) -> Result<Admission, Refusal> {
        let rules = match self {
            Policy::Personal { owner } if *owner == person.actor.uid => {
                return Ok(match wish {
                    Schedule::New => Admission::New { approvals: 1, note: None },
                    Schedule::Ready => Admission::Ready { rule: "personal mode: no policy file".to_owned() },
                });
            }
            Policy::Personal { .. } => return Err(personal_refusal("submit")),
            Policy::Rules(rules) => rules,
        };
        let mine =
            || rules.submit.iter().filter(|rule| person.is_one_of(&rule.who) && names(&rule.templates, template));
        if mine().next().is_none() {
            return Err(Refusal(format!("no submit rule in policy.toml lets {} submit {template}", person.actor.user)));
        }
        let may_skip = mine().find(|rule| rule.into.contains(&Schedule::Ready));
        match (wish, may_skip) {
            (Schedule::Ready, Some(rule)) => {
                Ok(Admission::Ready { rule: format!("submit rule for {}", rule.who.join(", ")) })
            }
            (Schedule::Ready, None) => Ok(Admission::New {
                approvals: self.approvals(template),
                note: Some(format!("policy does not let {} run {template} without approval", person.actor.user)),
            }),
            (Schedule::New, _) => Ok(Admission::New { approvals: self.approvals(template), note: None }),
        }
    }

    /// Returns how many people must approve a task of `template`: the most that any rule for it asks.
    fn approvals(&self, template: &str) -> u32 {
        match self {
            Policy::Personal { .. } => 1,
            Policy::Rules(rules) => rules
                .approve
                .iter()
                .filter(|rule| names(&rule.templates, template))
                .filter_map(|rule| rule.approvals)
                .max()
                .unwrap_or(1),
        }
    }

    /// Decides whether `person` may approve a task of `template` that `submitter` submitted.
    ///
    /// # Errors
    /// With the reason: their own task, or no rule.
    pub fn may_approve(&self, person: &Person, submitter: &Actor, template: &str) -> Result<(), Refusal> {
        let rules = self.rules_or_owner(person, "approve")?;
        let Some(rules) = rules else { return Ok(()) };
        let mine: Vec<_> = rules
            .approve
            .iter()
            .filter(|rule| person.is_one_of(&rule.who) && names(&rule.templates, template))
            .collect();
        if mine.is_empty() {
            return Err(Refusal(format!(
                "no approve rule in policy.toml lets {} approve {template}",
                person.actor.user
            )));
        }
        if person.actor.uid == submitter.uid && !mine.iter().any(|rule| rule.own) {
            return Err(Refusal(format!(
                "{} submitted this task; somebody else must approve it (two-person rule)",
                person.actor.user
            )));
        }
        Ok(())
    }

    /// Decides whether `person` may reject a task: whoever could approve it had they not submitted it.
    ///
    /// # Errors
    /// With the reason.
    pub fn may_reject(&self, person: &Person, template: &str) -> Result<(), Refusal> {
        let nobody = Actor { uid: u32::MAX, user: String::new() };
        self.may_approve(person, &nobody, template)
    }

    /// Decides whether `person` may cancel a task: its submitter may, and whom a control rule names.
    ///
    /// # Errors
    /// With the reason.
    pub fn may_cancel(&self, person: &Person, submitter: &Actor, template: &str) -> Result<(), Refusal> {
        if person.actor.uid == submitter.uid {
            return Ok(());
        }
        let Some(rules) = self.rules_or_owner(person, "cancel")? else { return Ok(()) };
        let named = rules.control.iter().any(|rule| person.is_one_of(&rule.who) && names(&rule.templates, template));
        if named {
            Ok(())
        } else {
            Err(Refusal(format!("no control rule in policy.toml lets {} cancel {template}", person.actor.user)))
        }
    }

    /// Returns the rules, or `None` where the owner acts in personal mode and everything is allowed.
    fn rules_or_owner(&self, person: &Person, act: &str) -> Result<Option<&Rules>, Refusal> {
        match self {
            Policy::Personal { owner } if *owner == person.actor.uid => Ok(None),
            Policy::Personal { .. } => Err(personal_refusal(act)),
            Policy::Rules(rules) => Ok(Some(rules)),
        }
    }
}

fn personal_refusal(act: &str) -> Refusal {
    Refusal(format!("personal mode: only the owner of the state directory may {act}; a policy.toml can allow more"))
}

impl Person {
    /// Whether a list of `name`, `@group` and `*` names this person.
    fn is_one_of(&self, who: &[String]) -> bool {
        who.iter().any(|word| match word.strip_prefix('@') {
            Some(group) => self.groups.contains(group),
            None => word == "*" || *word == self.actor.user,
        })
    }
}

/// Whether a list of template names, with `*` for all, names this one.
fn names(templates: &[String], template: &str) -> bool {
    templates.iter().any(|name| name == "*" || name == template)
}

/// One person's approval of one plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Who.
    pub by: Actor,
    /// The plan they saw; counts for no other.
    pub digest: Digest,
    /// When they want it to start; the plan's own time when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<crate::base::time::Timestamp>,
}

/// What entitles a plan to run.
#[derive(Clone, Copy, Debug)]
pub enum Grant<'a> {
    /// Enough people approved it.
    Votes {
        /// Their approvals.
        approvals: &'a [Approval],
        /// How many different people it takes.
        needed: u32,
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

/// Makes a plan runnable when `grant` is enough for it: as many different people as needed, each for exactly
/// `digest`, which must be the plan's.
///
/// # Errors
/// How many approvals are missing.
pub fn approve(plan: &Arc<Plan>, digest: Digest, grant: Grant<'_>) -> Result<Approved, u32> {
    let missing = match grant {
        Grant::Exempt => 0,
        Grant::Votes { approvals, needed } => {
            let people: BTreeSet<u32> =
                approvals.iter().filter(|approval| approval.digest == digest).map(|approval| approval.by.uid).collect();
            needed.max(1).saturating_sub(u32::try_from(people.len()).unwrap_or(u32::MAX))
        }
    };
    if missing == 0 { Ok(Approved { plan: Arc::clone(plan) }) } else { Err(missing) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        [[submit]]
        who = ["@dev"]
        templates = ["*"]
        into = ["new"]
        [[submit]]
        who = ["cron"]
        templates = ["backup"]
        into = ["new", "ready"]
        [[approve]]
        who = ["@lead"]
        templates = ["*"]
        [[approve]]
        who = ["@dba"]
        templates = ["sql"]
        approvals = 2
        [[approve]]
        who = ["root"]
        templates = ["hello"]
        self = true
        [[control]]
        who = ["@lead"]
        templates = ["*"]
    "#;

    fn person(uid: u32, user: &str, groups: &[&str]) -> Person {
        Person { actor: Actor { uid, user: user.to_owned() }, groups: groups.iter().map(|g| (*g).to_owned()).collect() }
    }

    fn rules() -> Policy {
        Policy::parse("policy.toml", RULES).expect("parses")
    }

    #[test]
    fn submitting_follows_the_rules() {
        let (dev, cron, guest) = (person(1, "dev1", &["dev"]), person(2, "cron", &[]), person(3, "guest", &[]));
        let policy = rules();
        assert!(matches!(policy.admit(&dev, "hello", Schedule::New), Ok(Admission::New { approvals: 1, note: None })));
        assert!(matches!(policy.admit(&dev, "sql", Schedule::New), Ok(Admission::New { approvals: 2, note: None })));
        assert!(matches!(policy.admit(&dev, "hello", Schedule::Ready), Ok(Admission::New { note: Some(_), .. })));
        assert!(matches!(policy.admit(&cron, "backup", Schedule::Ready), Ok(Admission::Ready { .. })));
        assert!(policy.admit(&cron, "hello", Schedule::New).is_err());
        assert!(policy.admit(&guest, "hello", Schedule::New).is_err());
    }

    #[test]
    fn nobody_approves_their_own_task_unless_a_rule_says_so() {
        let lead = person(5, "lead", &["lead", "dev"]);
        let root = person(0, "root", &["root"]);
        let dev = person(1, "dev1", &["dev"]);
        let policy = rules();
        assert!(policy.may_approve(&lead, &dev.actor, "hello").is_ok());
        assert!(policy.may_approve(&lead, &lead.actor, "hello").unwrap_err().0.contains("two-person rule"));
        assert!(policy.may_reject(&lead, "hello").is_ok());
        assert!(policy.may_approve(&dev, &lead.actor, "hello").is_err());
        assert!(policy.may_approve(&root, &root.actor, "hello").is_ok());
        assert!(policy.may_approve(&root, &root.actor, "sql").is_err());
        assert!(policy.may_cancel(&dev, &dev.actor, "hello").is_ok());
        assert!(policy.may_cancel(&dev, &lead.actor, "hello").is_err());
        assert!(policy.may_cancel(&lead, &dev.actor, "hello").is_ok());
    }

    #[test]
    fn in_personal_mode_the_owner_may_everything_and_nobody_else_anything() {
        let policy = Policy::Personal { owner: 1000 };
        let (owner, other) = (person(1000, "me", &[]), person(1001, "you", &[]));
        assert!(matches!(policy.admit(&owner, "x", Schedule::Ready), Ok(Admission::Ready { .. })));
        assert!(policy.may_approve(&owner, &owner.actor, "x").is_ok());
        assert!(policy.admit(&other, "x", Schedule::New).is_err());
        assert!(policy.may_approve(&other, &owner.actor, "x").is_err());
        assert!(policy.may_cancel(&other, &owner.actor, "x").is_err());
    }

    #[test]
    fn a_mistyped_rule_is_refused_with_its_line() {
        let problems = Policy::parse("policy.toml", "[[submit]]\nwho = [\"*\"]\ntemplate = [\"*\"]\n").unwrap_err();
        assert!(problems[0].pointer.starts_with("policy.toml:"), "{problems:?}");
        assert!(Policy::parse("p", "[[approve]]\nwho=[]\ntemplates=[]\napprovals=0\n").is_err());
    }

    #[test]
    fn a_plan_runs_only_with_enough_different_people_for_its_digest() {
        let plan = Arc::new(Plan::empty_for_tests());
        let digest = plan.digest();
        let vote = |uid, digest| Approval { by: Actor { uid, user: format!("u{uid}") }, digest, start: None };
        let check =
            |votes: &[Approval], needed| approve(&plan, digest, Grant::Votes { approvals: votes, needed }).err();
        assert_eq!(check(&[], 1), Some(1));
        assert_eq!(check(&[], 0), Some(1), "zero needed would be no approval at all");
        assert_eq!(check(&[vote(1, digest)], 1), None);
        assert_eq!(check(&[vote(1, digest), vote(1, digest)], 2), Some(1));
        assert_eq!(check(&[vote(1, digest), vote(2, Digest::of(b"other"))], 2), Some(1));
        assert_eq!(check(&[vote(1, digest), vote(2, digest)], 2), None);
    }
}
