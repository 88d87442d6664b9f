//! What stands in the drop boxes and has not been looked at. Floor 4.
//!
//! **Invariant:** the watcher's notices only say where to look first; a rescan finds everything without them. A
//! file that may still be written is looked at again later, never dropped from view.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::adapters::spool::SpoolError;
use crate::adapters::spool::bad;
use crate::adapters::spool::intake::{self, Looked};
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::store::Store;
use crate::adapters::spool::writers::{Seen, Writers};
use crate::adapters::users;
use crate::adapters::watch::{Happened, Notice};
use crate::base::text::visible;
use crate::base::time::Timestamp;
use crate::domain::audit::{Entry, RefusedFile};
use crate::domain::policy::Person;
use crate::engine::{DropBox, Dropped, Input, Moved};

/// How many files are taken in at once: enough for one sync to serve many, few enough to keep the loop lively.
const FILES_PER_TURN: usize = 1000;
/// How many bytes of them, so that a thousand of the largest do not fill the memory.
const BYTES_PER_TURN: usize = 16 << 20;
/// How soon a file that may still be written is looked at again, at first and at most.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(10);

/// What the watcher saw of a file.
#[derive(Clone, Copy, Debug)]
struct Watched {
    /// How often it was opened and, as far as is known, not closed; none when it stood here before anybody watched, or
    /// notices were lost.
    opens: Option<u32>,
    /// Whether it was written to.
    changed: bool,
    /// Whether a writer closed it, or it was renamed in, and nothing happened to it since.
    is_complete: bool,
    /// Whether it was renamed in, and nothing happened to it since.
    is_renamed: bool,
    /// When something happened to it last.
    last: Instant,
}

impl Watched {
    /// A file of which nothing is known but that it stands there.
    fn unknown() -> Watched {
        Watched { opens: None, changed: false, is_complete: false, is_renamed: false, last: Instant::now() }
    }

    /// Takes in what happened to it.
    fn note(&mut self, what: Happened) {
        self.last = Instant::now();
        match what {
            Happened::Made => *self = Watched { opens: Some(0), ..Watched::unknown() },
            Happened::Opened => self.opens = self.opens.map(|opens| opens + 1),
            Happened::Changed => (self.changed, self.is_complete, self.is_renamed) = (true, false, false),
            Happened::Closed => {
                (self.is_complete, self.is_renamed) = (true, false);
                self.opens = self.opens.map(|opens| opens.saturating_sub(1));
            }
            Happened::Whole => {
                *self = Watched { opens: Some(0), is_complete: true, is_renamed: true, ..Watched::unknown() }
            }
        }
    }

    /// Returns what this says of whether it is still written.
    fn seen(&self) -> Option<Seen> {
        match self.opens {
            Some(0) if self.is_renamed => Some(Seen::Complete),
            Some(0) if self.is_complete => Some(Seen::ClosedByOne),
            _ if self.is_complete => Some(Seen::Closed),
            Some(1..) => Some(Seen::Opened { silent: self.last.elapsed(), changed: self.changed }),
            Some(0) | None => None,
        }
    }
}

/// A file that is still written.
#[derive(Clone, Copy)]
struct Open {
    watched: Watched,
    /// When to look at it again.
    again_at: Instant,
}

/// The drop boxes, as far as they are known.
pub(super) struct SpoolInbox {
    layout: Layout,
    personal: bool,
    writers: Writers,
    /// Files to look at, with what the watcher saw of them.
    pending: BTreeMap<(DropBox, String), Watched>,
    /// Files that are still written.
    open: BTreeMap<(DropBox, String), Open>,
    /// Files that the system did not let us look at, of which the log knows.
    complained: BTreeSet<(DropBox, String)>,
    rescan: bool,
    again: bool,
}

impl SpoolInbox {
    /// Begins with a rescan due.
    pub(super) fn new(layout: Layout, personal: bool) -> Result<SpoolInbox, SpoolError> {
        let writers = Writers::new(layout.is_remote()?);
        Ok(SpoolInbox {
            layout,
            personal,
            writers,
            pending: BTreeMap::new(),
            open: BTreeMap::new(),
            complained: BTreeSet::new(),
            rescan: true,
            again: false,
        })
    }

    /// Sets whether only the owner of the state is heard.
    pub(super) fn set_personal(&mut self, personal: bool) {
        self.personal = personal;
    }

    /// Takes in what the watcher says.
    pub(super) fn note(&mut self, notice: Notice) {
        let (drop_box, name, what) = match notice {
            Notice::Rescan => return self.rescan = true,
            Notice::Lost => {
                // Whoever closed a file meanwhile was not seen.
                self.open.values_mut().for_each(|open| open.watched.opens = None);
                self.pending.values_mut().filter(|file| !file.is_complete).for_each(|file| file.opens = None);
                return self.rescan = true;
            }
            Notice::File { drop_box, name, what } => (drop_box, name, what),
        };
        let key = (drop_box, name);
        let known = self.pending.get(&key).copied().or_else(|| self.open.get(&key).map(|open| open.watched));
        // Somebody may read what was taken, or was never to be read; that is nobody's file.
        if known.is_none() && what == Happened::Opened {
            return;
        }
        let mut watched = known.unwrap_or_else(Watched::unknown);
        watched.note(what);
        if watched.is_complete {
            self.open.remove(&key);
            self.pending.insert(key, watched);
        } else {
            // Whatever was complete before is written again.
            self.pending.remove(&key);
            self.wait(key.0, key.1, watched);
        }
    }

    fn wait(&mut self, drop_box: DropBox, name: String, watched: Watched) {
        let rest = LOOK_AGAIN.max(watched.last.elapsed() / 8).min(LOOK_AGAIN_MAX);
        self.open.insert((drop_box, name), Open { watched, again_at: Instant::now() + rest });
    }

    /// Looks at a file again in a while, though nothing happens to it.
    pub(super) fn look_again(&mut self, drop_box: DropBox, name: String) {
        self.wait(drop_box, name, Watched { opens: Some(0), is_complete: true, ..Watched::unknown() });
    }

    /// Returns when to call [`SpoolInbox::look`] without any notice.
    pub(super) fn look_again_in(&self) -> Duration {
        if self.rescan || self.again {
            return Duration::ZERO;
        }
        let soonest = self.open.values().map(|open| open.again_at).min();
        soonest.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)))
    }

    /// Returns what tells who writes files.
    pub(super) fn writers(&mut self) -> &mut Writers {
        self.writers.forget();
        &mut self.writers
    }

    /// Whether an order stands in its box that may still be written.
    pub(super) fn order_waits(&self) -> bool {
        self.rescan || self.open.keys().any(|(drop_box, _)| *drop_box == DropBox::Orders)
    }

    /// Returns the files to look at now: orders first, then what is complete, then what may have become so.
    fn due(&mut self) -> BTreeMap<(DropBox, String), Watched> {
        let mut due = BTreeMap::new();
        while due.len() < FILES_PER_TURN
            && let Some((key, watched)) = self.pending.pop_first()
        {
            // A file that is known to be open and that a rescan found as well is one file.
            self.open.remove(&key);
            due.insert(key, watched);
        }
        let now = Instant::now();
        let ripe: Vec<_> =
            self.open.iter().filter(|(_, open)| open.again_at <= now).map(|(key, _)| key.clone()).collect();
        for key in ripe.into_iter().take(FILES_PER_TURN - due.len()) {
            if let Some(open) = self.open.remove(&key) {
                due.insert(key, open.watched);
            }
        }
        due
    }

    /// Reads what is complete; files that can never be read go to `bad/` at once.
    pub(super) fn look(&mut self, store: &mut Store, now: Timestamp) -> Result<Option<Input>, SpoolError> {
        if std::mem::take(&mut self.rescan) {
            for key in intake::scan(&self.layout, &|state, name| store.is_own(state, name))? {
                if !self.open.contains_key(&key) {
                    self.pending.entry(key).or_insert_with(Watched::unknown);
                }
            }
        }
        let (mut files, mut bytes_taken) = (Vec::new(), 0);
        // Asking the user database costs more than reading a file; a burst is mostly one person's.
        let mut people: BTreeMap<u32, Person> = BTreeMap::new();
        self.writers.forget();
        for ((drop_box, name), watched) in self.due() {
            if store.is_own(drop_box, &name) {
                continue;
            }
            if bytes_taken >= BYTES_PER_TURN {
                self.pending.insert((drop_box, name), watched);
                continue;
            }
            let seen = (watched.seen(), &mut self.writers);
            match intake::look(&self.layout, drop_box, &name, seen, self.personal, now) {
                Looked::Taken { key, bytes, may_grow } => {
                    bytes_taken += bytes.len();
                    if may_grow {
                        self.wait(drop_box, name, watched);
                    }
                    let person = || Person { actor: users::actor(key.uid), groups: users::groups(key.uid) };
                    let owner = people.entry(key.uid).or_insert_with(person).clone();
                    files.push(Dropped { drop_box, key, owner, bytes, may_grow, scope: None, moved: Moved::Yes });
                }
                Looked::NotYet => self.wait(drop_box, name, watched),
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
