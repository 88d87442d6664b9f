//! What a host says of a step, in one conversation. Floor 4.
//!
//! **Invariant:** only the word of the host ends an attempt; what is not known stays unknown.

use crate::domain::outcome::Ending;
use crate::domain::output::ExecEnd;
use crate::domain::runner::answer::Verdict;
use crate::shells::daemon::carry::NotCarried;
use crate::shells::daemon::link::LinkError;

/// What may run in the place of a shell.
const ELSE: &str = "; does its sshd force a command or close the channel (ForceCommand, ChrootDirectory, ChannelTimeout in its \
     sshd_config; command= in authorized_keys), or is the account's shell none? Look at what `ssh HOST echo ok` does";

/// What is known of a step's beginning on its host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// The host may have started it, and may still.
    Perhaps,
    /// The host may have started it, and must not any more.
    NeverIfNotYet,
    /// The host said that it runs: it is shown or lost.
    Yes,
}

/// What one conversation came to.
pub(super) enum Reply {
    /// The runner said how the step ended.
    Ended(Verdict),
    /// The runner would not let it run, or something else answered.
    Refused(String),
    /// The conversation broke off.
    Broken(LinkError),
    /// It ended as the host does not say: what it fetched cannot be kept here, or it never began, and never will.
    Over(Ending),
    /// sshd took the program, and nothing of it said a word in time.
    Silent(String),
}

impl From<NotCarried> for Reply {
    fn from(why: NotCarried) -> Reply {
        match why {
            NotCarried::Refused(why) => Reply::Refused(why),
            NotCarried::Broken(error) => Reply::Broken(error),
        }
    }
}

/// How a conversation ended in which the runner did not say what became of the step.
pub(super) struct NoReply {
    /// What came in the place of its words, and how the command ended.
    pub(super) why: String,
}

impl NoReply {
    /// Makes one of how the command ended, and what it printed.
    pub(super) fn new(end: Option<&ExecEnd>, noise: &str) -> NoReply {
        let how = match end {
            None => "it waits".to_owned(),
            Some(ExecEnd::Exit(code)) => format!("exit code {code}"),
            Some(ExecEnd::Signal(name)) => format!("signal {name}"),
        };
        let noise = noise.trim_end_matches('.');
        let said = if noise.is_empty() { String::new() } else { format!(": {noise}") };
        // That one says what is wrong.
        let hint = if noise.starts_with("sudo:") { "" } else { ELSE };
        let why = format!("the host ran no shell for it ({how}){said}{hint}");
        NoReply { why }
    }

    /// Returns what the conversation came to, where the host knows no more of the step than before.
    pub(super) fn into_refused(self) -> Reply {
        Reply::Refused(self.why)
    }
}
