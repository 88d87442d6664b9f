//! What stands in the drop boxes and has not been looked at. Floor 4.
//!
//! **Invariant:** the watcher's notices only say where to look first; a rescan finds everything without them. A
//! file that may still be written is looked at again later, never dropped from view.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::adapters::spool::SpoolError;
use crate::adapters::spool::bad;
use crate::adapters::spool::intake::{self, Looked, Seen};
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::store::Store;
use crate::adapters::users;
use crate::adapters::watch::Notice;
use crate::base::text::visible;
use crate::base::time::Timestamp;
use crate::domain::audit::{Entry, RefusedFile};
use crate::domain::policy::Person;
use crate::engine::{DropBox, Dropped, Input};
use crate::shells::clock::now;

/// How many files are taken in at once: enough for one sync to serve many, few enough to keep the loop lively.
const FILES_PER_TURN: usize = 1000;
/// How many bytes of them, so that a thousand of the largest do not fill the memory.
const BYTES_PER_TURN: usize = 16 << 20;
/// How soon a file that may still be written is looked at again.
const LOOK_AGAIN_MS: i64 = 500;

/// A file that is still written.
#[derive(Clone, Copy)]
struct Open {
    seen: Option<Seen>,
    /// When to look at it again.
    again_at: Timestamp,
}

/// The drop boxes, as far as they are known.
pub(super) struct SpoolInbox {
    layout: Layout,
    personal: bool,
    /// Files to look at, with what the watcher saw of them.
    pending: BTreeMap<(DropBox, String), Option<Seen>>,
    /// Files that are still written.
    open: BTreeMap<(DropBox, String), Open>,
    /// Files that the system did not let us look at, of which the log knows.
    complained: BTreeSet<(DropBox, String)>,
    rescan: bool,
    again: bool,
}

impl SpoolInbox {
    /// Begins with a rescan due.
    pub(super) fn new(layout: Layout, personal: bool) -> SpoolInbox {
        SpoolInbox {
            layout,
            personal,
            pending: BTreeMap::new(),
            open: BTreeMap::new(),
            complained: BTreeSet::new(),
            rescan: true,
            again: false,
        }
    }

    /// Sets whether only the owner of the state is heard.
    pub(super) fn set_personal(&mut self, personal: bool) {
        self.personal = personal;
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
                // Whatever was complete before is written again.
                self.pending.remove(&(drop_box, name.clone()));
                self.wait(drop_box, name, Some(Seen::Opened), now());
            }
        }
    }

    fn wait(&mut self, drop_box: DropBox, name: String, seen: Option<Seen>, now: Timestamp) {
        self.open.insert((drop_box, name), Open { seen, again_at: now.plus_ms(LOOK_AGAIN_MS) });
    }

    /// Looks at a file again in a while, though nothing happens to it.
    pub(super) fn look_again(&mut self, drop_box: DropBox, name: String) {
        self.wait(drop_box, name, Some(Seen::Complete), now());
    }

    /// Returns when to call [`SpoolInbox::look`] without any notice.
    pub(super) fn look_again_in(&self) -> Duration {
        if self.rescan || self.again {
            return Duration::ZERO;
        }
        let soonest = self.open.values().map(|open| open.again_at).min();
        soonest.map_or(Duration::MAX, |at| {
            Duration::from_millis(u64::try_from(at.0.saturating_sub(now().0)).unwrap_or(0).max(1))
        })
    }

    /// Whether an order stands in its box that may still be written.
    pub(super) fn order_waits(&self) -> bool {
        self.rescan || self.open.keys().any(|(drop_box, _)| *drop_box == DropBox::Orders)
    }

    /// Returns the files to look at now: orders first, then what is complete, then what may have become so.
    fn due(&mut self, now: Timestamp) -> BTreeMap<(DropBox, String), Option<Seen>> {
        let mut due = BTreeMap::new();
        while due.len() < FILES_PER_TURN
            && let Some((key, seen)) = self.pending.pop_first()
        {
            // A file that is known to be open and that a rescan found as well is one file.
            self.open.remove(&key);
            due.insert(key, seen);
        }
        let ripe: Vec<_> =
            self.open.iter().filter(|(_, open)| open.again_at <= now).map(|(key, _)| key.clone()).collect();
        for key in ripe.into_iter().take(FILES_PER_TURN - due.len()) {
            let seen = self.open.remove(&key).and_then(|open| open.seen);
            due.insert(key, seen);
        }
        due
    }

    /// Reads what is complete; files that can never be read go to `bad/` at once.
    pub(super) fn look(&mut self, store: &mut Store, now: Timestamp) -> Result<Option<Input>, SpoolError> {
        if std::mem::take(&mut self.rescan) {
            for key in intake::scan(&self.layout, &|state, name| store.is_own(state, name))? {
                if !self.open.contains_key(&key) {
                    self.pending.entry(key).or_insert(None);
                }
            }
        }
        let (mut files, mut bytes_taken) = (Vec::new(), 0);
        // Asking the user database costs more than reading a file; a burst is mostly one person's.
        let mut people: BTreeMap<u32, Person> = BTreeMap::new();
        for ((drop_box, name), seen) in self.due(now) {
            if store.is_own(drop_box, &name) {
                continue;
            }
            if bytes_taken >= BYTES_PER_TURN {
                self.pending.insert((drop_box, name), seen);
                continue;
            }
            match intake::look(&self.layout, drop_box, &name, seen, self.personal, now) {
                Looked::Taken { key, bytes, may_grow } => {
                    bytes_taken += bytes.len();
                    if may_grow {
                        self.wait(drop_box, name, seen, now);
                    }
                    let person = || Person { actor: users::actor(key.uid), groups: users::groups(key.uid) };
                    let owner = people.entry(key.uid).or_insert_with(person).clone();
                    files.push(Dropped { drop_box, key, owner, bytes, may_grow, scope: None });
                }
                Looked::NotYet => self.wait(drop_box, name, seen, now),
                Looked::Gone => {}
                Looked::Later(error) => {
                    if self.complained.len() < FILES_PER_TURN && self.complained.insert((drop_box, name.clone())) {
                        tracing::warn!(file = %visible(&name), "cannot be looked at now, and will be at every rescan: {error}");
                    }
                }
                Looked::Refused { uid, problems } => {
                    tracing::info!(file = %visible(&name), problems = problems.len(), "refused");
                    let refused = RefusedFile { drop_box: drop_box.name(), name: &name, digest: None };
                    let by = uid.map(users::actor);
                    let entry = Entry::of_refused(now, by.as_ref(), None, &refused, &problems);
                    store.write(&[], Vec::new(), vec![entry])?;
                    bad::refuse(store, drop_box, &name, uid, &problems, now)?;
                }
            }
        }
        self.again = !self.pending.is_empty();
        Ok((!files.is_empty()).then_some(Input::Dropped(files)))
    }
}
