//! Policy: who may submit what into which state, who must approve it, who may act on it, and when nothing starts.
//!
//! **Invariant:** pure. People are what the kernel and the user database say they are; nothing a task file claims widens
//! what anybody may do. A rule that allows must cover every host of a task; a rule that demands or forbids holds as soon
//! as one host is in its scope.

mod file;
mod freeze;
mod opinion;
mod person;
mod rule;
mod rules;
mod scope;
mod see;
mod sight;
mod subject;
mod vote;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::base::ids::Actor;
use crate::base::time::Timestamp;
use crate::domain::inventory::Inventory;
use crate::domain::level::Level;
use crate::domain::right::Right;
use crate::domain::risk::Bounds;
use crate::domain::submission::Schedule;
use crate::domain::template::Catalogue;

pub use freeze::Frozen;
use opinion::PERSONAL;
pub use opinion::{Opinion, Refusal};
pub use person::Person;
pub use rules::{Rules, Unproved};
pub use see::{Part, Readers, Reading, Sight};
pub use subject::Subject;
pub use vote::{Approval, Approved, Grant, Need, approve, missing};

/// The rules of `policy.toml`, or personal mode without one.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// No policy file: the owner of the state directory may do everything, self-approval included.
    Personal {
        /// The owner's uid.
        owner: u32,
    },
    /// With a policy file nothing is allowed that no rule allows.
    Rules(Box<Rules>),
}

/// How a submission is let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Admission {
    /// It waits for approval.
    New {
        /// Who must approve; never empty.
        needs: Vec<Need>,
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

impl Policy {
    /// Returns where the levels of risk begin.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        match self {
            Policy::Personal { .. } => Bounds::default(),
            Policy::Rules(rules) => rules.bounds.clone(),
        }
    }

    /// Decides whether `person` may submit a task and into which state it goes.
    ///
    /// `wish` is [`Schedule::Ready`] only when the file was dropped into `ready/` and did not ask for `new`.
    ///
    /// # Errors
    /// When no rule lets this person submit this at all.
    pub fn admit(&self, person: &Person, subject: &Subject, wish: Schedule) -> Result<Admission, Refusal> {
        if let (Policy::Personal { owner }, Schedule::Ready) = (self, wish)
            && may_submit_in_person(*owner, person)
        {
            return Ok(Admission::Ready { rule: PERSONAL.to_owned() });
        }
        self.decide(person, "submit", &subject.work, self.submit_opinions(person, subject, Schedule::New))?;
        let skip = self.submit_opinions(person, subject, Schedule::Ready).into_iter().find(|o| o.objection.is_none());
        let needs = self.needs(subject);
        Ok(match (wish, skip) {
            (Schedule::Ready, Some(opinion)) => Admission::Ready { rule: opinion.rule },
            (Schedule::Ready, None) => Admission::New {
                needs,
                note: Some(format!("policy does not let {} run {} without approval", person.actor.user, subject.work)),
            },
            (Schedule::New, _) => Admission::New { needs, note: None },
        })
    }

    /// Whether somebody counts by themselves where people share something: they have an account, or a rule names them. One
    /// person may own many numbers without one (subuid(5)); all of those count as one.
    #[must_use]
    pub fn counts_alone(&self, actor: &Actor) -> bool {
        let Policy::Rules(rules) = self else { return true };
        let submit = rules.submit.iter().map(|rule| &rule.who);
        let approve = rules.approve.iter().map(|rule| &rule.who);
        let control = rules.control.iter().map(|rule| &rule.who);
        let mut named = submit.chain(approve).chain(control).flatten();
        !actor.is_nameless() || named.any(|word| *word == actor.user)
    }

    /// Whether what somebody else may have put into a box is refused.
    #[must_use]
    pub fn refuses_unproved(&self) -> bool {
        matches!(self, Policy::Rules(rules) if rules.unproved == Unproved::Refuse)
    }

    /// Returns who must approve a task: as many people as the strictest approve rule for it asks, and everybody whom a
    /// require rule asks for.
    #[must_use]
    pub fn needs(&self, subject: &Subject) -> Vec<Need> {
        let Policy::Rules(rules) = self else {
            return vec![Need { approvals: 1, of: Vec::new(), rule: PERSONAL.to_owned() }];
        };
        let asking = rules.approve.iter().filter(|rule| rule.approvals.is_some() && rule.scope.touches(subject));
        let most = asking.max_by_key(|rule| rule.approvals);
        let one = || Need { approvals: 1, of: Vec::new(), rule: "every task needs an approval".to_owned() };
        let mut most = most.map_or_else(one, |rule| Need {
            approvals: rule.approvals.unwrap_or(1),
            of: Vec::new(),
            rule: rule.rule.clone(),
        });
        if subject.unproved && (rules.unproved == Unproved::OneMore || subject.level == Level::High) {
            most.approvals = most.approvals.saturating_add(1);
            most.rule.push_str(", and one more since nobody knows who put its file there");
        }
        let required = rules.require.iter().filter(|rule| rule.scope.touches(subject)).map(|rule| Need {
            approvals: rule.approvals,
            of: rule.of.clone(),
            rule: rule.rule.clone(),
        });
        std::iter::once(most).chain(required).collect()
    }

    /// Decides whether `person` may do something with a task; the answer is the rule that allows it.
    ///
    /// # Errors
    /// With the reason, which names what stands in the way.
    pub fn allows(&self, person: &Person, right: Right, subject: &Subject) -> Result<String, Refusal> {
        if right == Right::Approve
            && let Policy::Rules(_) = self
            && subject.is_of(&person.actor)
        {
            let others = Subject { submitter: nobody(), behind: BTreeSet::new(), ..subject.clone() };
            let but_for_that = self.opinions(person, right, &others).iter().any(|o| o.objection.is_none());
            let own = self.opinions(person, right, subject).into_iter().find(|o| o.objection.is_none());
            return match own {
                Some(opinion) => Ok(opinion.rule),
                None if but_for_that => Err(Refusal::new(format!(
                    "{} {} this task; somebody else must approve it (two-person rule)",
                    person.actor.user,
                    if subject.submitter == person.actor { "submitted" } else { "stands behind" }
                ))),
                None => self.decide(person, right.word(), &subject.work, Vec::new()),
            };
        }
        self.decide(person, right.word(), &subject.work, self.opinions(person, right, subject))
    }

    /// Decides whether `person` may take note of what was removed from the audit; the answer is the rule that allows it.
    ///
    /// # Errors
    /// With the reason.
    pub fn may_acknowledge(&self, person: &Person) -> Result<String, Refusal> {
        let about = Subject::unresolved("audit".to_owned(), &nobody());
        let opinions = self.opinions(person, Right::Acknowledge, &about);
        self.decide(person, Right::Acknowledge.word(), &about.work, opinions).map_err(|refusal| match self {
            Policy::Rules(rules) if rules.audit.is_empty() => {
                Refusal::new(format!("{}; it has no [[audit]] with who = [...]", refusal.why))
            }
            _ => refusal,
        })
    }

    /// Returns what every rule that could allow it says.
    #[must_use]
    pub fn opinions(&self, person: &Person, right: Right, subject: &Subject) -> Vec<Opinion> {
        let own = person.actor == subject.submitter;
        match right {
            Right::Withdraw => return vec![Opinion::yes("everybody may take back an approval of their own")],
            Right::Cancel | Right::Hold if own => {
                return vec![Opinion::yes("submitters may cancel and hold their own tasks")];
            }
            _ => {}
        }
        let rules = match self {
            Policy::Personal { owner } => return personal(*owner, person),
            Policy::Rules(rules) => rules,
        };
        match right {
            Right::Approve => {
                rules.approve.iter().map(|rule| rule.opinion(person, subject, subject.is_of(&person.actor))).collect()
            }
            // Whoever could approve it, had they not submitted it.
            Right::Reject => rules.approve.iter().map(|rule| rule.opinion(person, subject, false)).collect(),
            Right::Acknowledge => rules.audit.iter().map(|rule| rule.opinion(person)).collect(),
            _ => rules.control.iter().map(|rule| rule.opinion(person, right, subject, own)).collect(),
        }
    }

    /// Returns what every submit rule says.
    #[must_use]
    pub fn submit_opinions(&self, person: &Person, subject: &Subject, into: Schedule) -> Vec<Opinion> {
        match self {
            Policy::Personal { owner } if may_submit_in_person(*owner, person) => vec![Opinion::yes(PERSONAL)],
            Policy::Personal { owner } => personal(*owner, person),
            Policy::Rules(rules) => rules.submit.iter().map(|rule| rule.opinion(person, subject, into)).collect(),
        }
    }

    /// Returns the freeze that keeps a task from starting now, the longest of several; whom a freeze excepts can approve
    /// tasks that start in it.
    #[must_use]
    pub fn frozen(&self, subject: &Subject, approvals: &[&Approval], now: Timestamp) -> Option<Frozen> {
        let Policy::Rules(rules) = self else { return None };
        let holding = rules.freeze.iter().filter(|freeze| freeze.scope.touches(subject) && !freeze.excepts(approvals));
        holding.filter_map(|freeze| freeze.at(now)).max_by_key(|frozen| frozen.until)
    }

    /// Returns the names in rules that nothing has, one sentence each: a rule that is for nothing is mostly a typing error.
    #[must_use]
    pub fn strangers(&self, catalogue: &Catalogue, inventory: &Inventory) -> Vec<String> {
        let Policy::Rules(rules) = self else { return Vec::new() };
        let hosts = || inventory.hosts.values();
        let templates: BTreeSet<String> = catalogue.iter().map(|template| template.name.to_string()).collect();
        let environments: BTreeSet<String> = hosts().map(|host| host.environment().to_owned()).collect();
        let tags: BTreeSet<String> = hosts().flat_map(|host| inventory.tags(host)).collect();
        let scopes = (rules.submit.iter().map(|rule| (&rule.rule, &rule.scope)))
            .chain(rules.approve.iter().map(|rule| (&rule.rule, &rule.scope)))
            .chain(rules.require.iter().map(|rule| (&rule.rule, &rule.scope)))
            .chain(rules.control.iter().map(|rule| (&rule.rule, &rule.scope)))
            .chain(rules.see.iter().map(|rule| (&rule.rule, &rule.scope)))
            .chain(rules.freeze.iter().map(|freeze| (&freeze.name, &freeze.scope)));
        let mut found = Vec::new();
        for (rule, scope) in scopes {
            let mut look = |kind: &str, names: &[String], known: &BTreeSet<String>| {
                let unknown =
                    names.iter().filter(|name| !["*", "script"].contains(&name.as_str()) && !known.contains(*name));
                found.extend(unknown.map(|name| format!("{rule}: nothing has the {kind} {name}")));
            };
            look("template", &scope.templates, &templates);
            look("environment", &scope.environments, &environments);
            look("tag", &scope.tags, &tags);
        }
        found
    }

    /// Whether there are freezes at all.
    #[must_use]
    pub fn has_freezes(&self) -> bool {
        matches!(self, Policy::Rules(rules) if !rules.freeze.is_empty())
    }

    /// Returns those of a person's groups that any rule asks for.
    #[must_use]
    pub fn groups_that_count(&self, person: &Person) -> BTreeSet<String> {
        let Policy::Rules(rules) = self else { return BTreeSet::new() };
        let words = rules.require.iter().flat_map(|rule| &rule.of).chain(rules.freeze.iter().flat_map(|f| &f.except));
        words
            .filter_map(|word| word.strip_prefix('@'))
            .filter(|g| person.groups.contains(*g))
            .map(str::to_owned)
            .collect()
    }

    fn decide(&self, person: &Person, act: &str, work: &str, opinions: Vec<Opinion>) -> Result<String, Refusal> {
        if let Some(opinion) = opinions.into_iter().find(|opinion| opinion.objection.is_none()) {
            return Ok(opinion.rule);
        }
        let who = &person.actor.user;
        Err(match self {
            Policy::Personal { .. } => Refusal::new(format!(
                "personal mode: only the owner of the state directory may {act}; a policy.toml can allow more"
            )),
            Policy::Rules(_) => Refusal {
                why: format!("no rule in policy.toml lets {who} {act} {work}"),
                asked: Some((who.clone(), act.to_owned())),
            },
        })
    }
}

fn personal(owner: u32, person: &Person) -> Vec<Opinion> {
    let objection =
        (owner != person.actor.uid).then(|| format!("{} is not the state directory's owner", person.actor.user));
    vec![Opinion::of(PERSONAL, objection)]
}

/// Whether somebody may submit without rules: the owner, and the tokens that only the owner can have made.
fn may_submit_in_person(owner: u32, person: &Person) -> bool {
    owner == person.actor.uid || person.actor.is_token()
}

fn nobody() -> Actor {
    Actor { uid: u32::MAX, user: String::new() }
}

#[cfg(test)]
mod tests;
