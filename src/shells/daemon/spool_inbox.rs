//! What stands in the drop boxes and has not been looked at. Floor 4.
//!
//! **Invariant:** the watcher's notices only say where to look first; a rescan finds everything without them. A
//! file that may still be written is looked at again later, never dropped from view. A turn costs the same however much
//! somebody drops, and everybody who dropped something has a share in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::adapters::spool::bad::{self, Refused};
use crate::adapters::spool::intake::{self, Looked, Whose};
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::rescan::{Rescan, Standing};
use crate::adapters::spool::store::Store;
use crate::adapters::spool::writers::Writers;
use crate::adapters::spool::{SpoolError, room};
use crate::adapters::users;
use crate::adapters::watch::{Happened, Notice, SpoolWatch};
use crate::base::ids::Actor;
use crate::base::text::visible;
use crate::base::time::Timestamp;
use crate::domain::audit::{Entry, RefusedFile};
use crate::domain::drop_name::{DropName, is_directory_of};
use crate::domain::library::Library;
use crate::domain::policy::{Person, Policy};
use crate::domain::problem::Problem;
use crate::domain::token::Allowance;
use crate::engine::{DropBox, Dropped, Input, Moved};
use crate::shells::clock::moment;
use crate::shells::daemon::perform::Performer;
use crate::shells::daemon::watched::{Came, Watched};

/// How many files are taken in at once: enough for one sync to serve many, few enough to keep the loop lively.
const FILES_PER_TURN: usize = 1000;
/// How many bytes of them: reading a text and planning what it says takes time that others wait for.
const BYTES_PER_TURN: usize = 2 << 20;
/// How soon is looked again whether somebody whose files are kept back has their turn.
const KEPT_BACK: Duration = Duration::from_millis(100);
/// How many files of one person are known that wait for their turn; a rescan finds the others when it comes.
const WAITING_PER_LINE: usize = 5_000;
/// For how long files are looked at in one turn.
const LOOK_MOST: Duration = Duration::from_millis(40);
/// How many names are told apart by owner in one turn.
const SORTED_PER_TURN: usize = 4_000;
/// How many directories of one person are watched; of what stands in others only a rescan finds what is new.
const DIRECTORIES_PER_PERSON: usize = 6;
/// The same for all uids without an account together: one person may own many of those (subuid(5)).
const DIRECTORIES_OF_NOBODY: usize = 300;
/// How soon a file that may still be written is looked at again, at first and at most.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(10);

/// How many files of one person are refused within an hour; others of theirs stay in their boxes. What stands in `bad/`, and
/// the audit's lines about it, take room that everybody needs.
const REFUSALS_PER_PERSON: u32 = 1_000;
const REFUSALS_COUNTED: Duration = Duration::from_hours(1);

/// A file's place in the boxes.
type Place = (DropBox, DropName);

/// Who counts together where people share something: one whom the system or a rule knows, or everybody else.
pub(super) type Sharer = Option<u32>;

/// Whose files wait for their turn. Nobody's tasks stand before their own orders, which may be what ends them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    are_tasks: bool,
    of: Sharer,
}

/// A file that is still written.
#[derive(Clone, Copy)]
struct Open {
    watched: Watched,
    /// When to look at it again.
    again_at: Instant,
    /// Whether it was read as it stands.
    was_read: bool,
}

/// A file to look at.
#[derive(Clone, Copy)]
struct Waiting {
    watched: Watched,
    /// Its inode, as far as it is known.
    inode: u64,
}

/// The drop boxes, as far as they are known.
pub(super) struct SpoolInbox {
    layout: Layout,
    library: Arc<Library>,
    writers: Writers,
    /// Files to look at, of which nobody knows yet whose they are.
    noticed: BTreeMap<Place, Waiting>,
    /// Files to look at, by whose they are.
    waiting: BTreeMap<Line, BTreeMap<Place, Waiting>>,
    /// Who had the last share of a turn.
    last_served: Line,
    /// How many more files are taken of each now.
    allowances: BTreeMap<Line, Allowance>,
    /// Who counts as whom.
    sharers: BTreeMap<u32, Sharer>,
    /// Files that are still written.
    open: BTreeMap<Place, Open>,
    /// What was answered and cannot be moved out of its box, with its inode.
    settled: BTreeMap<Place, u64>,
    /// Those of them that this rescan found.
    settled_still: BTreeMap<Place, u64>,
    /// Files that the system did not let us look at, of which the log knows.
    complained: BTreeSet<Place>,
    /// The look at everything that is under way, and whether it began with everything.
    rescan: Option<(Rescan, bool)>,
    rescan_due: bool,
    /// Directories of people to watch, and those that are watched, by owner.
    to_watch: Vec<(DropBox, String)>,
    /// Directories that were renamed in and are not listed yet.
    carried: BTreeSet<(DropBox, String)>,
    /// How many files of each were refused since when.
    refused: BTreeMap<Sharer, (u32, Instant)>,
    /// Whether the log knows that there is no room for more tasks.
    is_short: bool,
    watched: BTreeMap<Sharer, BTreeSet<(DropBox, String)>>,
    /// How soon to go on with what waits; none when nothing does.
    again_in: Option<Duration>,
}

impl SpoolInbox {
    /// Begins with a rescan due.
    pub(super) fn new(layout: Layout, library: Arc<Library>) -> Result<SpoolInbox, SpoolError> {
        let writers = Writers::new(layout.is_remote()?);
        Ok(SpoolInbox {
            layout,
            library,
            writers,
            noticed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last_served: Line::default(),
            allowances: BTreeMap::new(),
            sharers: BTreeMap::new(),
            open: BTreeMap::new(),
            settled: BTreeMap::new(),
            settled_still: BTreeMap::new(),
            complained: BTreeSet::new(),
            rescan: None,
            rescan_due: true,
            to_watch: Vec::new(),
            carried: BTreeSet::new(),
            refused: BTreeMap::new(),
            is_short: false,
            watched: BTreeMap::new(),
            again_in: None,
        })
    }

    /// Returns whom a file's owner counts as.
    fn sharer(&mut self, uid: u32) -> Sharer {
        let library = &self.library;
        *self.sharers.entry(uid).or_insert_with(|| library.policy.counts_alone(&users::actor(uid)).then_some(uid))
    }

    /// Takes in what the watcher says.
    pub(super) fn note(&mut self, notice: Notice) {
        let (drop_box, name, what) = match notice {
            Notice::Rescan => return self.rescan_due = true,
            Notice::Lost => {
                // Whoever closed a file meanwhile was not seen.
                self.open.values_mut().for_each(|open| open.watched.opens = None);
                let waiting = self.noticed.values_mut().chain(self.waiting.values_mut().flat_map(BTreeMap::values_mut));
                waiting.filter(|file| !file.watched.is_complete).for_each(|file| file.watched.opens = None);
                return self.rescan_due = true;
            }
            Notice::Directory { drop_box, name, moved } => return self.note_directory(drop_box, name, moved),
            Notice::File { drop_box, name, what } => (drop_box, name, what),
        };
        let place = (drop_box, name);
        let known = self.take_waiting(&place).map(|file| file.watched);
        let known = known.or_else(|| self.open.get(&place).map(|open| open.watched));
        // Somebody may read what was taken, or was never to be read; that is nobody's file.
        if known.is_none() && what == Happened::Opened {
            return;
        }
        self.settled.remove(&place);
        let mut watched = known.unwrap_or_else(Watched::unknown);
        watched.note(what);
        if watched.is_complete {
            self.open.remove(&place);
            self.noticed.insert(place, Waiting { watched, inode: 0 });
        } else {
            // Whatever was complete before is written again.
            self.wait(place, watched);
        }
    }

    /// Has a directory that appeared watched first and then listed: what is put there in between is seen by one of the two.
    fn note_directory(&mut self, drop_box: DropBox, name: String, moved: bool) {
        self.look_at_directory(drop_box, &name);
        if moved {
            self.carried.insert((drop_box, name.clone()));
        }
        match &mut self.rescan {
            Some((rescan, _)) => rescan.also(drop_box, name),
            None => self.rescan = Some((Rescan::of(&self.layout, drop_box, name), false)),
        }
    }

    fn look_at_directory(&mut self, drop_box: DropBox, name: &str) {
        let Some(uid) = intake::owner_of_directory(&self.layout, drop_box, name) else { return };
        let actor = users::actor(uid);
        if !is_directory_of(name, &actor) {
            return;
        }
        let whose = self.sharer(uid);
        let most = if whose.is_some() { DIRECTORIES_PER_PERSON } else { DIRECTORIES_OF_NOBODY };
        let known = self.watched.entry(whose).or_default();
        if known.len() < most || known.contains(&(drop_box, name.to_owned())) {
            known.insert((drop_box, name.to_owned()));
            self.to_watch.push((drop_box, name.to_owned()));
        }
    }

    /// Has the directories watched that are known by now; what is put there afterwards is seen. Comes before every
    /// [`SpoolInbox::look`].
    pub(super) fn have_watched(&mut self, watch: &mut SpoolWatch) {
        for (drop_box, directory) in std::mem::take(&mut self.to_watch) {
            watch.add(drop_box, &self.layout.drop_box(drop_box), directory);
        }
    }

    /// Takes in what became of files that were handed on, and the rules of who is heard next.
    pub(super) fn take_answers(&mut self, performer: &mut Performer, library: &Arc<Library>) {
        if !Arc::ptr_eq(&self.library, library) {
            self.library = Arc::clone(library);
            self.sharers.clear();
        }
        for (drop_box, name) in performer.take_again() {
            self.look_again(drop_box, name);
        }
        for uid in performer.take_refused() {
            let whose = self.sharer(uid);
            self.count_refusal(whose);
        }
        for (drop_box, name, inode) in performer.take_settled() {
            self.settle(drop_box, name, inode);
        }
    }

    fn take_waiting(&mut self, place: &Place) -> Option<Waiting> {
        let sorted = || self.waiting.values_mut().find_map(|files| files.remove(place));
        self.noticed.remove(place).or_else(sorted)
    }

    fn wait(&mut self, place: Place, watched: Watched) {
        let rest = LOOK_AGAIN.max(watched.last.elapsed() / 8).min(LOOK_AGAIN_MAX);
        self.open.insert(place, Open { watched, again_at: Instant::now() + rest, was_read: false });
    }

    /// Looks at a file again in a while, though nothing happens to it.
    fn look_again(&mut self, drop_box: DropBox, name: DropName) {
        self.wait((drop_box, name), Watched { opens: Some(0), is_complete: true, ..Watched::unknown() });
    }

    /// Leaves a file alone that was answered and stands where it stood.
    fn settle(&mut self, drop_box: DropBox, name: DropName, inode: u64) {
        self.settled.insert((drop_box, name), inode);
    }

    /// Returns when to call [`SpoolInbox::look`] without any notice.
    pub(super) fn look_again_in(&self) -> Duration {
        if self.rescan_due || self.rescan.is_some() {
            return Duration::ZERO;
        }
        let soonest = self.open.values().map(|open| open.again_at).min();
        let soonest = soonest.map(|at| at.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
        soonest.into_iter().chain(self.again_in).min().unwrap_or(Duration::MAX)
    }

    /// Returns whose files wait in their boxes because they dropped many, and how many files those are.
    pub(super) fn kept_back(&mut self) -> (BTreeSet<Sharer>, usize) {
        let (shares, at) = (&self.library.shares, steady());
        let (mut people, mut files) = (BTreeSet::new(), 0_usize);
        for (line, waiting) in &self.waiting {
            let allowance = self.allowances.get_mut(line);
            if allowance.is_some_and(|allowance| !allowance.is_left(shares.files_per_minute, at)) {
                people.insert(line.of);
                files = files.saturating_add(waiting.len());
            }
        }
        (people, files)
    }

    /// Whether an order stands in its box that may still be written, or nobody has looked yet.
    pub(super) fn order_waits(&self) -> bool {
        let in_orders = |(drop_box, _): &Place| *drop_box == DropBox::Orders;
        self.rescan_due
            || self.rescan.is_some()
            || self.open.iter().any(|(place, open)| in_orders(place) && !open.was_read)
            || self.noticed.keys().any(in_orders)
            || self.waiting.keys().any(|line| !line.are_tasks)
    }

    /// Goes on with the look at everything.
    fn go_on_with_rescan(&mut self, store: &Store) -> Result<(), SpoolError> {
        if self.rescan.is_none() && std::mem::take(&mut self.rescan_due) {
            self.settled_still.clear();
            // Somebody may have an account by now.
            self.sharers.clear();
            self.rescan = Some((Rescan::begin(&self.layout), true));
        }
        let Some((rescan, _)) = &mut self.rescan else { return Ok(()) };
        let part = rescan.part()?;
        for Standing { drop_box, name, inode } in part.files {
            if name.directory().is_none() && store.is_own(drop_box, name.file()) {
                continue;
            }
            let place = (drop_box, name);
            if self.settled.get(&place) == Some(&inode) {
                self.settled_still.insert(place, inode);
                continue;
            }
            let known = self.open.contains_key(&place) || self.waiting.values().any(|files| files.contains_key(&place));
            if !known {
                let directory = place.1.directory().map(|directory| (place.0, directory.to_owned()));
                let is_carried = directory.is_some_and(|directory| self.carried.contains(&directory));
                let came = if is_carried { Came::Carried } else { Came::Otherwise };
                let watched = Watched { came, ..Watched::unknown() };
                self.noticed.entry(place).or_insert(Waiting { watched, inode });
            }
        }
        for (drop_box, name) in part.directories {
            self.look_at_directory(drop_box, &name);
        }
        if part.is_last {
            self.carried.clear();
        }
        if part.is_last
            && let Some((_, true)) = self.rescan.take()
        {
            self.settled = std::mem::take(&mut self.settled_still);
        }
        Ok(())
    }

    /// Tells by owner what was noticed.
    fn sort(&mut self) {
        let now = Instant::now();
        let ripe: Vec<_> =
            self.open.iter().filter(|(_, open)| open.again_at <= now).map(|(place, _)| place.clone()).collect();
        for place in ripe.into_iter().take(SORTED_PER_TURN) {
            if let Some(open) = self.open.remove(&place) {
                self.noticed.entry(place).or_insert(Waiting { watched: open.watched, inode: 0 });
            }
        }
        for _ in 0..SORTED_PER_TURN {
            let Some((place, mut file)) = self.noticed.pop_first() else { break };
            // A file that is known to be open and that a rescan found as well is one file.
            self.open.remove(&place);
            let uid = match intake::whose(&self.layout, place.0, &place.1) {
                Whose::Gone => continue,
                Whose::Unknown => None,
                Whose::Of { uid, inode } => {
                    file.inode = inode;
                    Some(uid)
                }
            };
            let of = uid.and_then(|uid| self.sharer(uid));
            let line = self.waiting.entry(Line { are_tasks: place.0 != DropBox::Orders, of }).or_default();
            let is_exempt = of.is_some_and(|of| self.library.shares.exempt.contains(&of));
            if line.len() < WAITING_PER_LINE || is_exempt || line.contains_key(&place) {
                line.insert(place, file);
            }
        }
    }

    /// Returns what comes next: one file of each in turn. Those stay where they are of whom enough were taken in this minute, and
    /// tasks for which there is no room.
    fn next(&mut self, has_room: bool, at: Timestamp) -> Option<(Place, Waiting)> {
        let after = (std::ops::Bound::Excluded(self.last_served), std::ops::Bound::Unbounded);
        let (shares, allowances) = (&self.library.shares, &mut self.allowances);
        let mut may = |line: &Line| {
            if line.of.is_some_and(|uid| shares.exempt.contains(&uid)) {
                return true;
            }
            let most = shares.files_per_minute;
            allowances.entry(*line).or_insert_with(|| Allowance::full(most, at)).take(most, at)
        };
        let mut lines = self.waiting.range(after).chain(self.waiting.range(..=self.last_served)).map(|(line, _)| *line);
        // Orders are small, and may be what makes room.
        let line = lines.find(|line| (has_room || !line.are_tasks) && may(line))?;
        self.last_served = line;
        let files = self.waiting.get_mut(&line)?;
        let next = files.pop_first();
        if files.is_empty() {
            self.waiting.remove(&line);
        }
        next
    }

    /// Reads what is complete; files that can never be read go to `bad/` at once.
    pub(super) fn look(&mut self, store: &mut Store, now: Timestamp) -> Result<Option<Input>, SpoolError> {
        self.go_on_with_rescan(store)?;
        self.sort();
        let (mut files, mut bytes_taken, mut refusals) = (Vec::new(), 0, Vec::new());
        // Asking the user database costs more than reading a file; a burst is mostly one person's.
        let mut people: BTreeMap<u32, Person> = BTreeMap::new();
        self.writers.forget();
        let begun = Instant::now();
        let (has_room, at, personal) = (self.has_room(), steady(), self.is_personal());
        self.again_in = Some(Duration::ZERO);
        for _ in 0..FILES_PER_TURN {
            if bytes_taken >= BYTES_PER_TURN || begun.elapsed() >= LOOK_MOST {
                break;
            }
            let Some((place, file)) = self.next(has_room, at) else {
                self.again_in = (!self.waiting.is_empty()).then_some(KEPT_BACK);
                break;
            };
            let (drop_box, name) = &place;
            if name.directory().is_none() && store.is_own(*drop_box, name.file()) {
                continue;
            }
            if *drop_box != DropBox::Orders && self.is_refused_too_often(self.last_served.of) {
                self.settle(place.0, place.1, file.inode);
                continue;
            }
            let seen = (file.watched.seen(), &mut self.writers);
            match intake::look(&self.layout, *drop_box, name, seen, personal, now) {
                Looked::Taken { key, bytes, may_grow } => {
                    let person = || Person { actor: users::actor(key.uid), groups: users::groups(key.uid) };
                    let owner = people.entry(key.uid).or_insert_with(person).clone();
                    if let Some(problem) = misnamed(name, &owner.actor) {
                        refusals.push((place, file.inode, Some(key.uid), vec![problem]));
                        continue;
                    }
                    bytes_taken = bytes_taken.saturating_add(bytes.len());
                    let drop_box = *drop_box;
                    if may_grow {
                        self.wait(place.clone(), file.watched);
                        self.open.entry(place).and_modify(|open| open.was_read = true);
                    }
                    files.push(Dropped { drop_box, key, owner, bytes, may_grow, scope: None, moved: Moved::Yes });
                }
                Looked::NotYet => self.wait(place, file.watched),
                Looked::Gone => {}
                Looked::Later(error) => {
                    if self.complained.len() < FILES_PER_TURN && self.complained.insert(place.clone()) {
                        let name = visible(place.1.as_str());
                        tracing::warn!(file = %name, "cannot be looked at now, and will be at every rescan: {error}");
                    }
                }
                Looked::Refused { uid, problems } => refusals.push((place, file.inode, uid, problems)),
            }
        }
        self.refuse(refusals, store, now)?;
        if !self.noticed.is_empty() {
            self.again_in = Some(Duration::ZERO);
        }
        Ok((!files.is_empty()).then_some(Input::Dropped(files)))
    }

    /// Whether there is room for tasks beside those that run; says so when it changes.
    fn has_room(&mut self) -> bool {
        let has_room = room::is_beyond_reserve(&self.layout);
        if has_room == self.is_short {
            self.is_short = !has_room;
            if has_room {
                tracing::info!("there is room again: tasks are taken in");
            } else {
                tracing::warn!("the disk is nearly full: no task is taken in until there is room; what runs goes on");
            }
        }
        has_room
    }

    fn is_personal(&self) -> bool {
        matches!(self.library.policy, Policy::Personal { .. })
    }

    fn is_refused_too_often(&self, whose: Sharer) -> bool {
        self.refused
            .get(&whose)
            .is_some_and(|(count, since)| *count > REFUSALS_PER_PERSON && since.elapsed() <= REFUSALS_COUNTED)
    }

    /// Counts a refusal; whether it is one of those that are still answered.
    fn count_refusal(&mut self, whose: Sharer) -> bool {
        let (count, since) = self.refused.entry(whose).or_insert((0, Instant::now()));
        if since.elapsed() > REFUSALS_COUNTED {
            (*count, *since) = (0, Instant::now());
        }
        *count = count.saturating_add(1);
        if *count == REFUSALS_PER_PERSON + 1 {
            let who = said_of(whose);
            tracing::warn!(
                "{REFUSALS_PER_PERSON} files of {who} were refused within an hour: more of them stay where they are"
            );
        }
        *count <= REFUSALS_PER_PERSON
    }

    /// Refuses files, all with one wait for the disk.
    fn refuse(
        &mut self,
        refusals: Vec<(Place, u64, Option<u32>, Vec<Problem>)>,
        store: &mut Store,
        now: Timestamp,
    ) -> Result<(), SpoolError> {
        let mut answered = Vec::new();
        for refusal in refusals {
            let whose = refusal.2.and_then(|uid| self.sharer(uid));
            if self.count_refusal(whose) {
                answered.push(refusal);
            } else {
                let ((drop_box, name), inode, _, _) = refusal;
                self.settle(drop_box, name, inode);
            }
        }
        let refusals = answered;
        if refusals.is_empty() {
            return Ok(());
        }
        let entry = |((drop_box, name), _, uid, problems): &(Place, u64, Option<u32>, Vec<Problem>)| {
            tracing::info!(file = %visible(name.as_str()), problems = problems.len(), "refused");
            let refused = RefusedFile { drop_box: drop_box.name(), name: name.as_str(), digest: None };
            Entry::of_refused(now, uid.map(users::actor).as_ref(), None, &refused, problems)
        };
        store.write(&[], Vec::new(), refusals.iter().map(entry).collect())?;
        for ((drop_box, name), inode, uid, problems) in refusals {
            if bad::refuse(store, drop_box, &name, uid, &problems, now)? == Refused::Stays {
                self.settle(drop_box, name, inode);
            }
        }
        Ok(())
    }
}

/// Names somebody who counts by themselves, or all the others.
pub(super) fn said_of(whose: Sharer) -> String {
    whose.map_or_else(|| "numbers without an account".to_owned(), |uid| users::actor(uid).user)
}

/// Returns the time of the clock that nobody sets.
fn steady() -> Timestamp {
    Timestamp(moment().steady_ms)
}

/// Says what is wrong with a directory whose name is somebody else's.
fn misnamed(name: &DropName, whose: &Actor) -> Option<Problem> {
    let directory = name.directory().filter(|directory| !is_directory_of(directory, whose))?;
    let user = &whose.user;
    let wanted = format!("a directory called {user}, or {user}+ and a word: what lies in it is {user}'s");
    Some(Problem::new("", format!("the directory {directory} of {user}"), wanted))
}
