//! What somebody may want to do with a task that exists, or with the audit. Floor 1.
//!
//! **Invariant:** one word for each, in files, orders and on screens.

/// What somebody may want to do with a task that exists, or with the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Let a plan run.
    Approve,
    /// Refuse it for good.
    Reject,
    /// Take back an approval of one's own.
    Withdraw,
    /// End it, or its work on some hosts.
    Cancel,
    /// Let nothing more start for now.
    Hold,
    /// Let it go on, or a manual step begin.
    Release,
    /// Start again what did not end well.
    Retry,
    /// Go on without a step.
    Skip,
    /// Start the next batch.
    Continue,
    /// Take note of what was removed from the audit. It is about no task, and no rule about tasks gives it.
    Acknowledge,
}

impl Right {
    /// Every right, in the order of a task's life.
    pub const ALL: [Right; 10] = [
        Right::Approve,
        Right::Reject,
        Right::Withdraw,
        Right::Cancel,
        Right::Hold,
        Right::Release,
        Right::Retry,
        Right::Skip,
        Right::Continue,
        Right::Acknowledge,
    ];

    /// Returns the word, as in orders and rules.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Right::Approve => "approve",
            Right::Reject => "reject",
            Right::Withdraw => "withdraw",
            Right::Cancel => "cancel",
            Right::Hold => "hold",
            Right::Release => "release",
            Right::Retry => "retry",
            Right::Skip => "skip",
            Right::Continue => "continue",
            Right::Acknowledge => "acknowledge",
        }
    }
}
