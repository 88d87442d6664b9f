//! Who may see what of a task, and which group its files can be given to.
//!
//! **Invariant:** pure. One function says what somebody sees, [`Policy::sees`]; HTTP and the screens ask it for a person, and
//! the files for a whole group, so that no file says more than a rule. That a task exists, its name, its submitter, its state
//! and its outcome is no secret before anybody who may look at the state at all.

use std::collections::BTreeSet;

use super::rule::{Scope, is_named, stranger};
use super::{Opinion, PERSONAL, Person, Policy, Refusal, Rules, Subject};
use crate::base::digest::Digest;
use crate::base::ids::Actor;

/// What of a task can be seen or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What runs where: its steps, scripts, arguments and hosts, and how each step ended.
    Plan,
    /// What it printed.
    Output,
    /// The variables that it was submitted with, and the text of its file, which holds them.
    Environment,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 3] = [Part::Plan, Part::Output, Part::Environment];

    /// Returns the word, as in `policy.toml`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Part::Plan => "plan",
            Part::Output => "output",
            Part::Environment => "environment",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Part> {
        Part::ALL.into_iter().find(|part| part.word() == word)
    }
}

/// What somebody sees of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// [`Part::Plan`].
    pub plan: bool,
    /// [`Part::Output`].
    pub output: bool,
    /// [`Part::Environment`].
    pub environment: bool,
}

impl Sight {
    /// Returns whether a part is seen.
    #[must_use]
    pub fn has(self, part: Part) -> bool {
        match part {
            Part::Plan => self.plan,
            Part::Output => self.output,
            Part::Environment => self.environment,
        }
    }

    /// Returns the words of the parts that are not seen.
    #[must_use]
    pub fn withheld(self) -> Vec<&'static str> {
        Part::ALL.into_iter().filter(|part| !self.has(*part)).map(Part::word).collect()
    }
}

/// Whom files can be given to: they know one group each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Whoever may look at the state, as without rules.
    Everybody,
    /// The members of this group, all of whom may see it.
    Group(String),
    /// The daemon's own user alone.
    Nobody,
}

/// Whom the files of a task can be given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its plan, its journal and its record; all three hold the environment.
    pub task: Readers,
    /// What it printed, for those who get as far.
    pub output: Readers,
}

/// Who may see which parts of which tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeeRule {
    pub(super) rule: String,
    pub(super) who: Vec<String>,
    pub(super) scope: Scope,
    /// Whose tasks; everybody's when empty.
    pub(super) submitters: Vec<String>,
    /// All of them when empty.
    pub(super) parts: Vec<Part>,
}

impl SeeRule {
    fn opinion(&self, person: &Person, of: &BTreeSet<String>, subject: &Subject, part: Part) -> Opinion {
        let other_part = || {
            let parts: Vec<&str> = self.parts.iter().map(|part| part.word()).collect();
            (!parts.is_empty() && !self.parts.contains(&part)).then(|| format!("it is for {}", parts.join(", ")))
        };
        let other_submitter = || {
            let named = is_named(&self.submitters, &subject.submitter.user, |group| of.contains(group));
            (!self.submitters.is_empty() && !named).then(|| {
                format!("it is for tasks of {}, not of {}", self.submitters.join(", "), subject.submitter.user)
            })
        };
        let objection = stranger(person, &self.who)
            .or_else(|| self.scope.objection(subject))
            .or_else(other_part)
            .or_else(other_submitter);
        let meant =
            self.scope.names_work(&subject.work) && stranger(person, &self.who).is_none() && other_part().is_none();
        Opinion::of(&self.rule, objection).looking(meant, !self.submitters.is_empty() || self.scope.looks_at_hosts())
    }
}

impl Policy {
    /// Whether rules say who sees what; without any it is whoever can read the files.
    #[must_use]
    pub fn limits_sight(&self) -> bool {
        matches!(self, Policy::Rules(rules) if !rules.see.is_empty())
    }

    /// Returns what every rule says of whether `person` may see a part of a task; `of` are the groups of its submitter.
    #[must_use]
    pub fn see_opinions(&self, person: &Person, of: &BTreeSet<String>, subject: &Subject, part: Part) -> Vec<Opinion> {
        let rules = match self {
            Policy::Personal { .. } => return vec![Opinion::yes(PERSONAL)],
            Policy::Rules(rules) if rules.see.is_empty() => {
                return vec![Opinion::yes("policy.toml has no [[see]]: whoever can read the files")];
            }
            Policy::Rules(rules) => rules,
        };
        if person.actor == subject.submitter {
            return vec![Opinion::yes("submitters see their own tasks")];
        }
        let see = rules.see.iter().map(|rule| rule.opinion(person, of, subject, part));
        // Nobody approves what they do not see. Whoever could approve it but for having submitted it sees it, too.
        let approve = rules.approve.iter().filter(|_| part != Part::Output);
        see.chain(approve.map(|rule| rule.opinion(person, subject, false))).collect()
    }

    /// Decides whether `person` may see a part of a task; the answer is the rule that allows it.
    ///
    /// # Errors
    /// With the reason.
    pub fn may_see(
        &self,
        person: &Person,
        of: &BTreeSet<String>,
        subject: &Subject,
        part: Part,
    ) -> Result<String, Refusal> {
        let allowing = self.see_opinions(person, of, subject, part).into_iter().find(|o| o.objection.is_none());
        allowing.map(|opinion| opinion.rule).ok_or_else(|| {
            let (who, word) = (&person.actor.user, part.word());
            let why = format!("no rule in policy.toml lets {who} see the {word} of tasks like this one");
            Refusal { why, asked: Some((who.clone(), format!("see-{word}"))) }
        })
    }

    /// Returns what `person` sees of a task; `of` are the groups of its submitter.
    #[must_use]
    pub fn sees(&self, person: &Person, of: &BTreeSet<String>, subject: &Subject) -> Sight {
        let sees = |part| self.may_see(person, of, subject, part).is_ok();
        Sight { plan: sees(Part::Plan), output: sees(Part::Output), environment: sees(Part::Environment) }
    }

    /// Returns whom the files of a task can be given to: the first group that a rule names and whose every member sees what is in
    /// them. Groups of `[[see]]` come before those of approvers, each in the order of the file.
    #[must_use]
    pub fn readers(&self, of: &BTreeSet<String>, subject: &Subject) -> Reading {
        let Policy::Rules(rules) = self else {
            return Reading { task: Readers::Everybody, output: Readers::Everybody };
        };
        let groups = rules.groups_that_see();
        let readers = |all: &dyn Fn(Sight) -> bool| {
            // Somebody of whom nothing is known but the group: what they see, every member sees.
            let member = |group: Option<&str>| {
                let actor = Actor { uid: u32::MAX, user: String::new() };
                Person { actor, groups: group.into_iter().map(str::to_owned).collect() }
            };
            let sees = |group: Option<&str>| all(self.sees(&member(group), of, subject));
            if sees(None) {
                return Readers::Everybody;
            }
            let found = groups.iter().find(|group| sees(Some(group)));
            found.map_or(Readers::Nobody, |group| Readers::Group((*group).to_owned()))
        };
        let task = readers(&|sight| sight.plan && sight.environment);
        let output = readers(&|sight| sight == Sight { plan: true, output: true, environment: true });
        Reading { task, output }
    }

    /// Returns the groups that files may be given to.
    #[must_use]
    pub fn groups_that_see(&self) -> Vec<&str> {
        match self {
            Policy::Rules(rules) if !rules.see.is_empty() => rules.groups_that_see(),
            _ => Vec::new(),
        }
    }

    /// Returns a digest of everything that [`Policy::readers`] depends on beside a task; `None` where no rule says who sees what.
    #[must_use]
    pub fn digest_of_sight(&self) -> Option<Digest> {
        match self {
            Policy::Rules(rules) if !rules.see.is_empty() => {
                let text = format!("{:?} {:?} {:?}", rules.see, rules.approve, rules.bounds);
                Some(Digest::of(text.as_bytes()))
            }
            _ => None,
        }
    }

    /// Returns every user and group that `[[see]]` rules name, with the rule.
    #[must_use]
    pub fn named_in_see(&self) -> Vec<(&str, &str)> {
        let Policy::Rules(rules) = self else { return Vec::new() };
        let named =
            rules.see.iter().flat_map(|rule| rule.who.iter().chain(&rule.submitters).map(move |word| (rule, word)));
        named.map(|(rule, word)| (rule.rule.as_str(), word.as_str())).collect()
    }
}

impl Rules {
    fn groups_that_see(&self) -> Vec<&str> {
        let words = (self.see.iter().flat_map(|rule| &rule.who)).chain(self.approve.iter().flat_map(|rule| &rule.who));
        words.filter_map(|word| word.strip_prefix('@')).collect()
    }
}
