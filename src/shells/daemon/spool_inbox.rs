//! What stands in the drop boxes and has not been looked at. Floor 4.
//!
//! **Invariant:** the watcher's notices only say where to look first; a rescan finds everything without them. A
//! file that may still be written is looked at again later, never dropped from view.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::adapters::spool::SpoolError;
use crate::adapters::spool::bad;
use crate::adapters::spool::intake::{self, Looked, Seen};
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::store::Store;
use crate::adapters::users;
use crate::adapters::watch::Notice;
use crate::base::time::Timestamp;
use crate::domain::policy::Person;
use crate::engine::{DropBox, Dropped, Input};

/// How many files are taken in at once: enough for one sync to serve many, few enough to keep the loop lively.
const FILES_PER_TURN: usize = 1000;
/// How many bytes of them, so that a thousand of the largest do not fill the memory.
const BYTES_PER_TURN: usize = 16 << 20;
/// How soon a file that may still be written is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The drop boxes, as far as they are known.
pub(super) struct SpoolInbox {
    layout: Layout,
    personal: bool,
    /// Files to look at, with what the watcher saw of them.
    pending: BTreeMap<(DropBox, String), Option<Seen>>,
    /// Files that are still written, with what the watcher saw of them.
    open: BTreeMap<(DropBox, String), Option<Seen>>,
    rescan: bool,
    again: bool,
}

impl SpoolInbox {
    /// Begins with a rescan due.
    pub(super) fn new(layout: Layout, personal: bool) -> SpoolInbox {
        SpoolInbox { layout, personal, pending: BTreeMap::new(), open: BTreeMap::new(), rescan: true, again: false }
    }

    /// Takes in what the watcher says.
    pub(super) fn note(&mut self, notice: Notice) {
        match notice {
            Notice::Rescan => self.rescan = true,
            Notice::File { drop_box, name, complete: true } => {
                self.open.remove(&(drop_box, name.clone()));
                self.pending.insert((drop_box, name), Some(Seen::Complete));
            }
            Notice::File { drop_box, name, complete: false } => {
                self.open.insert((drop_box, name), Some(Seen::Opened));
            }
        }
    }

    /// Returns when to call [`SpoolInbox::look`] without any notice.
    pub(super) fn look_again_in(&self) -> Duration {
        match (self.rescan || self.again, self.open.is_empty()) {
            (true, _) => Duration::ZERO,
            (false, false) => LOOK_AGAIN,
            (false, true) => Duration::MAX,
        }
    }

    /// Reads what is complete; files that can never be read go to `bad/` at once.
    pub(super) fn look(&mut self, store: &mut Store, now: Timestamp) -> Result<Option<Input>, SpoolError> {
        if std::mem::take(&mut self.rescan) {
            for key in intake::scan(&self.layout, &|state, name| store.is_own(state, name))? {
                let seen = self.open.get(&key).copied().flatten();
                self.pending.entry(key).or_insert(seen);
            }
        }
        // A file that is known to be open and that a rescan found as well is one file.
        let mut due = std::mem::take(&mut self.open);
        let (mut files, mut bytes_taken) = (Vec::new(), 0);
        // Asking the user database costs more than reading a file; a burst is mostly one person's.
        let mut people: BTreeMap<u32, Person> = BTreeMap::new();
        while let Some((key, seen)) = self.pending.pop_first() {
            due.insert(key, seen);
            if due.len() >= FILES_PER_TURN {
                break;
            }
        }
        self.again = !self.pending.is_empty();
        for ((drop_box, name), seen) in due {
            if store.is_own(drop_box, &name) {
                continue;
            }
            if bytes_taken >= BYTES_PER_TURN {
                self.pending.insert((drop_box, name), seen);
                self.again = true;
                continue;
            }
            match intake::look(&self.layout, drop_box, &name, seen, self.personal, now)? {
                Looked::Taken { key, bytes, may_grow } => {
                    bytes_taken += bytes.len();
                    if may_grow {
                        self.open.insert((drop_box, name), seen);
                    }
                    let person = || Person { actor: users::actor(key.uid), groups: users::groups(key.uid) };
                    let owner = people.entry(key.uid).or_insert_with(person).clone();
                    files.push(Dropped { drop_box, key, owner, bytes, may_grow });
                }
                Looked::NotYet => drop(self.open.insert((drop_box, name), seen)),
                Looked::Gone => {}
                Looked::Refused { uid, problems } => {
                    tracing::info!(file = %name, problems = problems.len(), "refused");
                    bad::refuse(&self.layout, drop_box, &name, uid, &problems, now)?;
                }
            }
        }
        Ok((!files.is_empty()).then_some(Input::Dropped(files)))
    }
}
