//! Whether a step began on its host, where the runner has not said so. Floor 4.
//!
//! **Invariant:** nothing is started to find out. "It never began" is said only when the host's gate is closed for good, or when
//! no shell runs there at all; whatever else is not known is asked again.

use super::{Begun, Heard, Link, LinkError, Talk, Verdict};
use crate::domain::output::ExecEnd;

/// How a conversation ended in which the runner said nothing.
pub(super) struct Wordless {
    /// How the command ended.
    end: Option<ExecEnd>,
    /// What came in the place of the runner's words, and how it ended.
    why: String,
}

impl Wordless {
    /// Makes one of how the command ended, and what it printed.
    pub(super) fn new(end: Option<ExecEnd>, noise: &str) -> Wordless {
        let how = match &end {
            None => "it waits".to_owned(),
            Some(ExecEnd::Exit(code)) => format!("exit code {code}"),
            Some(ExecEnd::Signal(name)) => format!("signal {name}"),
        };
        let why = match noise {
            "" => format!("the host ran no shell for it ({how})"),
            noise => format!("the host ran no shell for it ({how}): {noise}"),
        };
        Wordless { end, why }
    }

    /// Returns what the conversation came to, of a step that the host may have got.
    pub(super) fn into_refused(self) -> Heard {
        Heard::Refused(self.why)
    }

    /// Whether the command ended by itself. A shell that was killed may have started the step before; sudo and sshd tell a
    /// signal as a code above 128.
    fn ended_by_itself(&self) -> bool {
        matches!(self.end, Some(ExecEnd::Exit(code)) if code <= 128)
    }
}

impl Talk<'_> {
    /// Finds out whether a step began that the runner said nothing of.
    pub(super) async fn after_silence(&mut self, link: &mut Link, first: Wordless) -> Heard {
        if self.sent {
            return first.into_refused();
        }
        match self.if_begun(link, &first.why).await {
            // Twice the same: no shell runs for it there.
            Err(second) if first.ended_by_itself() && second.ended_by_itself() => {
                self.sent = false;
                first.into_refused()
            }
            Err(second) => unknown(second.why),
            Ok(heard) => heard,
        }
    }

    /// Shows the step if it began, and otherwise makes sure that it never does; `why` says then why it was not started.
    ///
    /// # Errors
    /// When the runner says nothing.
    pub(super) async fn if_begun(&mut self, link: &mut Link, why: &str) -> Result<Heard, Wordless> {
        self.sent = true;
        if self.begun == Begun::Perhaps {
            self.begun = Begun::NeverIfNotYet;
        }
        match self.tell(link).await? {
            Heard::Ended(Verdict::Forgotten) => Ok(match self.end(link).await {
                Ok(Verdict::Never) => Heard::NotBegun(why.to_owned()),
                Ok(verdict) => Heard::Ended(verdict),
                Err(why) => unknown(why),
            }),
            heard => Ok(heard),
        }
    }
}

/// The conversation ended before it was known.
fn unknown(why: String) -> Heard {
    Heard::Broken(LinkError { why, never_sent: false, unreachable: false })
}
