//! What a rule says of one wish, and what people are told of it. Floor 1.
//!
//! **Invariant:** pure. Nothing here decides; a refusal names the command that says more.

/// What stands where a rule would stand, without a policy file.
pub(super) const PERSONAL: &str = "personal mode: no policy file";

/// Why somebody may not do something, in words for them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    /// Why.
    pub why: String,
    /// Who wanted to do what, where the rules say more about it.
    pub(super) asked: Option<(String, String)>,
}

impl Refusal {
    pub(super) fn new(why: String) -> Refusal {
        Refusal { why, asked: None }
    }

    /// Says before why it was asked at all.
    #[must_use]
    pub fn because(self, before: &str) -> Refusal {
        Refusal { why: format!("{before}: {}", self.why), ..self }
    }

    /// Returns the command that says more about it; `what` is the task's number, or `FILE`.
    #[must_use]
    pub fn more(&self, what: &str) -> Option<String> {
        self.asked.as_ref().map(|(who, act)| format!("spoolgate policy explain {who} {act} {what}"))
    }

    /// Says why, and which command says more.
    #[must_use]
    pub fn said_of(&self, what: &str) -> String {
        self.more(what).map_or_else(|| self.why.clone(), |more| format!("{}; try: {more}", self.why))
    }
}

/// What one rule says of one wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// The rule.
    pub rule: String,
    /// Why it does not allow it; `None` when it does.
    pub objection: Option<String>,
    /// Whether it is for this person and this work and looks at more of a task: hosts, risk, whom it names or whose it is.
    pub depends: bool,
}

impl Opinion {
    pub(super) fn yes(rule: impl Into<String>) -> Opinion {
        Opinion { rule: rule.into(), objection: None, depends: false }
    }

    pub(super) fn of(rule: &str, objection: Option<String>) -> Opinion {
        Opinion { rule: rule.to_owned(), objection, depends: false }
    }

    /// Says what the rule looks at beside the person and the work.
    pub(super) fn looking(self, is_meant: bool, at_more: bool) -> Opinion {
        Opinion { depends: is_meant && at_more, ..self }
    }
}
