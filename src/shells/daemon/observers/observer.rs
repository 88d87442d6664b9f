//! What an observer is, and how one is told of everything. Floor 4.
//!
//! **Invariant:** lines are told in their order; the next ones only when those before were taken in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::adapters::config::Settings;
use crate::adapters::spool::follow_audit::{FollowAudit, Followed};

/// How many lines an observer is told of at once at most.
const LINES_AT_ONCE: usize = 200;

/// How long an observer may take for them.
const TELL_LIMIT: Duration = Duration::from_secs(30);

/// How long one that failed is left alone; each time twice as long.
const AGAIN_FIRST: Duration = Duration::from_secs(1);

/// The longest of these times.
pub(super) const AGAIN_LAST: Duration = Duration::from_mins(5);

/// Something that is told of what was recorded.
pub(super) trait Observer: Send + 'static {
    /// Its name, which is that of its file in `notify/`.
    const NAME: &'static str;

    /// Takes in what was recorded, in order. What fails is told again, from the first of these lines on.
    fn tell(&mut self, lines: &[Followed]) -> impl Future<Output = Result<(), String>> + Send;
}

/// What observers need of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ObserverSettings {
    /// Where the audit's head is sent to.
    pub(super) syslog: Option<PathBuf>,
}

impl ObserverSettings {
    pub(super) fn of(settings: &Settings) -> ObserverSettings {
        ObserverSettings { syslog: settings.audit_syslog.clone() }
    }
}

/// Tells one observer of everything, for as long as the daemon runs.
pub(super) async fn follow_on<O: Observer>(
    mut observer: O,
    mut follow: FollowAudit,
    mut news: watch::Receiver<u64>,
    told: Arc<watch::Sender<u64>>,
) {
    let mut wait = AGAIN_FIRST;
    loop {
        let last = *news.borrow_and_update();
        // Away from the threads that talk to hosts.
        let read = spawn_blocking(move || (follow.next(last, LINES_AT_ONCE), follow)).await;
        let (lines, again) = read.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        follow = again;
        match lines {
            Ok(lines) if lines.is_empty() => {
                told.send_replace(last);
                // The daemon is gone when nobody can say how far the audit goes.
                if news.changed().await.is_err() {
                    return;
                }
            }
            Ok(lines) => {
                tell(&mut observer, &lines).await;
                wait = AGAIN_FIRST;
                if let Err(error) = follow.keep() {
                    tracing::warn!(observer = O::NAME, "{error}; after a start it is told of some lines again");
                }
            }
            Err(error) => {
                tracing::warn!(observer = O::NAME, "{error}; it is tried again");
                sleep(wait).await;
                wait = (wait * 2).min(AGAIN_LAST);
            }
        }
    }
}

/// Tells an observer of some lines until it has taken them in.
async fn tell<O: Observer>(observer: &mut O, lines: &[Followed]) {
    let mut wait = AGAIN_FIRST;
    loop {
        let failed = match timeout(TELL_LIMIT, observer.tell(lines)).await {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(_) => format!("it took longer than {} s", TELL_LIMIT.as_secs()),
        };
        tracing::warn!(observer = O::NAME, lines = lines.len(), "{failed}; it is told again");
        sleep(wait).await;
        wait = (wait * 2).min(AGAIN_LAST);
    }
}
