//! Who may see what of a task, and which group its files can be given to. Floor 1.
//!
//! **Invariant:** pure. One function says what somebody sees, [`Policy::sees`]; HTTP and the screens ask it for a person, and
//! the files for a whole group, so that no file says more than a rule.

use std::collections::BTreeSet;

use super::Policy;
use super::opinion::{Opinion, PERSONAL, Refusal};
use super::person::Person;
use super::rules::Rules;
use super::see::{Part, Readers, Reading, Sight};
use super::subject::Subject;
use crate::base::digest::Digest;
use crate::base::ids::Actor;

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
