//! How steps and tasks end.
//!
//! **Invariant:** pure. One word for one ending, and an ending that nobody can know is never called by another's word.

use serde::{Deserialize, Serialize};

use crate::base::count::Count;
use crate::base::digest::Digest;
use crate::base::time::Timestamp;

/// How something ended; never one word for two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done as wished.
    Ok,
    /// Never started, because of something else.
    Skipped,
    /// Undone after a failure.
    RolledBack,
    /// An exit code other than 0, a signal, or a host that could not be reached.
    Failed,
    /// Ended for running too long.
    TimedOut,
    /// It failed, and what was to undo what had been done failed too.
    RollbackFailed,
    /// Ended on somebody's wish.
    Cancelled,
    /// May have run, may still run: nobody can tell.
    Lost,
    /// Was to be ended, and may still run.
    KillUnconfirmed,
    /// Never allowed to run.
    Rejected,
    /// Its time passed.
    Expired,
    /// The world changed between approval and start.
    Stale,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 12] = [
        Outcome::Ok,
        Outcome::Skipped,
        Outcome::RolledBack,
        Outcome::Failed,
        Outcome::TimedOut,
        Outcome::RollbackFailed,
        Outcome::Cancelled,
        Outcome::Lost,
        Outcome::KillUnconfirmed,
        Outcome::Rejected,
        Outcome::Expired,
        Outcome::Stale,
    ];

    /// Whether something went wrong: what people reject or cancel ends as they wish.
    #[must_use]
    pub fn is_failure(self) -> bool {
        !matches!(self, Outcome::Ok | Outcome::Skipped | Outcome::Cancelled | Outcome::Rejected)
    }

    /// Returns the word, as in files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Skipped => "skipped",
            Outcome::RolledBack => "rolled_back",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::RollbackFailed => "rollback_failed",
            Outcome::Cancelled => "cancelled",
            Outcome::Lost => "lost",
            Outcome::KillUnconfirmed => "kill_unconfirmed",
            Outcome::Rejected => "rejected",
            Outcome::Expired => "expired",
            Outcome::Stale => "stale",
        }
    }
}

/// How a step ended on a host, told apart as far as anyone can know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The process exited with this code.
    Exit(i32),
    /// A signal ended the process.
    Signal(String),
    /// The engine that the step was handed to ended well, and not every host of the task is done.
    NotAllDone(String),
    /// It ran longer than it may and was proved dead.
    TimedOut,
    /// It printed nothing for longer than it may and was proved dead.
    IdleTimedOut,
    /// What watched it on the host was killed, and with it the knowledge of how it ended; nothing of it is left.
    Died(String),
    /// The host did not answer in time or at all: nothing was sent.
    Unreachable(String),
    /// The host was not trusted, or would not run it: nothing ran.
    NotSent(String),
    /// Nobody can tell what became of it: the host was started again, or was not reached any more.
    Lost(String),
    /// It was ended on somebody's wish and proved dead.
    Cancelled,
    /// It was to be ended, and nobody could prove that it is gone.
    KillUnconfirmed(String),
}

impl Ending {
    /// Whether the script itself ended so, and not what carried it.
    #[must_use]
    pub fn is_the_scripts_own(&self) -> bool {
        matches!(
            self,
            Ending::Exit(_) | Ending::Signal(_) | Ending::NotAllDone(_) | Ending::TimedOut | Ending::IdleTimedOut
        )
    }

    /// Whether a handler or a rollback may follow: it failed, and surely nothing of it runs any more. What somebody ended is
    /// theirs, and where nobody knows, nothing is done on top.
    #[must_use]
    pub fn may_be_handled(&self) -> bool {
        self.is_the_scripts_own() || matches!(self, Ending::Died(_) | Ending::Unreachable(_) | Ending::NotSent(_))
    }

    /// Returns the outcome that the ending counts as.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Ending::Exit(0) => Outcome::Ok,
            Ending::Exit(_)
            | Ending::Signal(_)
            | Ending::NotAllDone(_)
            | Ending::Died(_)
            | Ending::Unreachable(_)
            | Ending::NotSent(_) => Outcome::Failed,
            Ending::TimedOut | Ending::IdleTimedOut => Outcome::TimedOut,
            Ending::Lost(_) => Outcome::Lost,
            Ending::Cancelled => Outcome::Cancelled,
            Ending::KillUnconfirmed(_) => Outcome::KillUnconfirmed,
        }
    }
}

/// What a step left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// How it ended.
    pub ending: Ending,
    /// When it was sent, by this machine's clock.
    pub started: Timestamp,
    /// When its end was known.
    pub ended: Timestamp,
    /// How much it printed.
    #[serde(default)]
    pub output: OutputFacts,
    /// By what its host proved how it ended; `None` where no host said so, or an earlier version wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proved_by: Option<ProvedBy>,
}

/// Who could write what a host told of a step's end: what a result is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProvedBy {
    /// The account that the script ran as: it, and whatever else runs as that account.
    SameAccount,
    /// The account that was logged in to. The script ran as another one, which could not write it.
    OtherAccount,
    /// The account that was logged in to; but the script ran as root, which can write everything.
    Root,
}

impl ProvedBy {
    /// Every kind.
    pub const ALL: [ProvedBy; 3] = [ProvedBy::SameAccount, ProvedBy::OtherAccount, ProvedBy::Root];

    /// Returns its word in records, and in what hosts say.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ProvedBy::SameAccount => "same-account",
            ProvedBy::OtherAccount => "other-account",
            ProvedBy::Root => "root",
        }
    }
}

/// How much a step printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputFacts {
    /// Bytes on stdout, kept or not.
    pub out_bytes: Count,
    /// Bytes on stderr, kept or not.
    pub err_bytes: Count,
    /// Bytes that are in no log because there were too many, or no room for them.
    pub dropped_bytes: Count,
    /// Whether the host had no room for some of it; then at least so much is dropped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host_full: bool,
    /// The digest of the log file; `None` when nothing was printed.
    pub sha256: Option<Digest>,
}
