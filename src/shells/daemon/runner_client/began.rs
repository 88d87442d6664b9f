//! Whether a step began on its host, where the runner has not said so. Floor 4.
//!
//! **Invariant:** nothing is started to find out. A runner says that it is there before it does anything: without that word the
//! step did not begin by it. With it, "it never began" is said only when the host's gate is closed for good; whatever else is not
//! known is asked again.

use std::time::Duration;

use super::reply::{Begun, NoReply, Reply};
use super::{Ended, Link, LinkError, RunnerClient, Verdict, ending};
use crate::domain::outcome::Ending;

/// Why what was not sent in time is not sent any more.
const TOO_LATE: &str = "the daemon was not running when it was to be sent, and too long for it to begin now; retry it";
/// Why what was sent once is not sent again.
const CUT_SHORT: &str = "its shell on the host was killed before it began";

/// How long a host that said no word is given for one when it is asked again.
const ASKED_LIMIT: Duration = Duration::from_secs(5);

impl RunnerClient<'_> {
    /// Finds out whether a step began whose runner was there, and said nothing of it any more.
    pub(super) async fn after_silence(&mut self, link: &mut Link, first: NoReply) -> Reply {
        if self.sent {
            return first.into_refused();
        }
        self.if_begun(link, CUT_SHORT).await.unwrap_or_else(|second| unknown(second.why))
    }

    /// Says how an attempt ended whose program got no word out of its host in time, over a connection that is closed: what comes
    /// too late begins nothing. A word that was on its way may have been lost, so a host that answers now is asked.
    pub(super) async fn without_a_word(&mut self, why: String) -> Ended {
        self.settings.first_word = self.settings.first_word.min(ASKED_LIMIT);
        let heard = match Link::open(self.host, &self.settings).await {
            Ok(mut link) => {
                let heard = self.if_begun(&mut link, &why).await;
                link.close().await;
                heard.ok()
            }
            Err(_) => None,
        };
        match heard {
            Some(Reply::Ended(verdict)) => self.ended(self.last_words(ending(verdict))),
            _ => self.ended(Ending::NotSent(why)),
        }
    }

    /// Shows a step that may not begin any more, if it began.
    pub(super) async fn only_if_begun(&mut self, link: &mut Link) -> Reply {
        let why = if self.start.late { TOO_LATE } else { CUT_SHORT };
        self.if_begun(link, why).await.unwrap_or_else(NoReply::into_refused)
    }

    /// Shows the step if it began, and otherwise makes sure that it never does; `why` says then why it was not started.
    ///
    /// # Errors
    /// When the runner says nothing.
    async fn if_begun(&mut self, link: &mut Link, why: &str) -> Result<Reply, NoReply> {
        self.sent = true;
        if self.begun == Begun::Perhaps {
            self.begun = Begun::NeverIfNotYet;
        }
        match self.tell(link).await? {
            Reply::Ended(Verdict::Forgotten) => Ok(match self.end(link).await {
                Ok(Verdict::Never) => Reply::Over(Ending::NotSent(why.to_owned())),
                Ok(verdict) => Reply::Ended(verdict),
                Err(error) => Reply::Broken(error),
            }),
            heard => Ok(heard),
        }
    }
}

/// The conversation ended before it was known.
fn unknown(why: String) -> Reply {
    Reply::Broken(LinkError::broken(why))
}
