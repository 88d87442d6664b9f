//! The files that were refused: how many there are, and why the newest were.
//!
//! **Invariant:** reads only, nothing twice that has not changed, and reasons only while somebody looks at them.

use std::time::{Duration, Instant, SystemTime};

use crate::adapters::spool::bad::Why;
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::reader;
use crate::adapters::users;
use crate::shells::clock::now;
use crate::shells::dashboard::message::{Message, RefusedFile};

/// How many of the newest are shown.
const SHOWN: usize = 200;
/// How long a directory's time may stand still while its contents change.
const TICK: Duration = Duration::from_secs(1);

/// For how long a refused file is counted, and how often that is looked at though nothing changes.
const COUNTED_MS: i64 = 24 * 3_600_000;
const COUNT_AGAIN: Duration = Duration::from_mins(10);

/// What is known of refused files.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// When the directory changed last, once that was long enough ago to be sure, whether reasons were read then, and when it
    /// was looked at.
    known: Option<(SystemTime, bool, Instant)>,
    said: Option<(usize, Vec<Why>)>,
}

impl Refused {
    /// Looks at what was refused; a message when there is something new. Who may not list it hears nothing.
    pub(super) fn look(&mut self, layout: &Layout, wanted: bool) -> Option<Message> {
        let changed = std::fs::metadata(layout.bad()).and_then(|meta| meta.modified()).ok()?;
        let holds = |at: Instant| at.elapsed() < COUNT_AGAIN;
        if self.known.is_some_and(|(at, read, when)| at == changed && (read || !wanted) && holds(when)) {
            return None;
        }
        let (count, newest) =
            reader::refusals(layout, now().plus_ms(-COUNTED_MS), if wanted { SHOWN } else { 0 }).ok()?;
        let calm = changed.elapsed().is_ok_and(|age| age > TICK);
        self.known = calm.then_some((changed, wanted, Instant::now()));
        if self.said.as_ref().is_some_and(|(known, files)| *known == count && (*files == newest || !wanted)) {
            return None;
        }
        self.said = Some((count, newest.clone()));
        let by = |refusal: &Why| refusal.uid.map(|uid| users::actor(uid).user).unwrap_or_default();
        let files = newest.into_iter().map(|refusal| RefusedFile { by: by(&refusal), refusal });
        Some(Message::Refusals { count, files: wanted.then(|| files.collect()) })
    }
}
