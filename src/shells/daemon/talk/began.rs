//! Whether a step began on its host, where the runner has not said so. Floor 4.
//!
//! **Invariant:** nothing is started to find out. A runner says that it is there before it does anything: without that word the
//! step did not begin by it. With it, "it never began" is said only when the host's gate is closed for good; whatever else is not
//! known is asked again.

use super::{Begun, Heard, Link, LinkError, Talk, Verdict};
use crate::domain::output::ExecEnd;

/// Why what was not sent in time is not sent any more.
const TOO_LATE: &str = "the daemon was not running when it was to be sent, and too long for it to begin now; retry it";
/// Why what was sent once is not sent again.
const CUT_SHORT: &str = "its shell on the host was killed before it began";

/// How a conversation ended in which the runner did not say what became of the step.
pub(super) struct Wordless {
    /// What came in the place of its words, and how the command ended.
    why: String,
}

impl Wordless {
    /// Makes one of how the command ended, and what it printed.
    pub(super) fn new(end: Option<&ExecEnd>, noise: &str) -> Wordless {
        let how = match end {
            None => "it waits".to_owned(),
            Some(ExecEnd::Exit(code)) => format!("exit code {code}"),
            Some(ExecEnd::Signal(name)) => format!("signal {name}"),
        };
        let why = match noise {
            "" => format!("the host ran no shell for it ({how})"),
            noise => format!("the host ran no shell for it ({how}): {noise}"),
        };
        Wordless { why }
    }

    /// Returns what the conversation came to, where the host knows no more of the step than before.
    pub(super) fn into_refused(self) -> Heard {
        Heard::Refused(self.why)
    }
}

impl Talk<'_> {
    /// Finds out whether a step began whose runner was there, and said nothing of it any more.
    pub(super) async fn after_silence(&mut self, link: &mut Link, first: Wordless) -> Heard {
        if self.sent {
            return first.into_refused();
        }
        self.if_begun(link, CUT_SHORT).await.unwrap_or_else(|second| unknown(second.why))
    }

    /// Shows a step that may not begin any more, if it began.
    pub(super) async fn only_if_begun(&mut self, link: &mut Link) -> Heard {
        let why = if self.start.late { TOO_LATE } else { CUT_SHORT };
        self.if_begun(link, why).await.unwrap_or_else(Wordless::into_refused)
    }

    /// Shows the step if it began, and otherwise makes sure that it never does; `why` says then why it was not started.
    ///
    /// # Errors
    /// When the runner says nothing.
    async fn if_begun(&mut self, link: &mut Link, why: &str) -> Result<Heard, Wordless> {
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
