//! Deletes what dropped files left behind, a little in each turn. Floor 4.
//!
//! **Invariant:** nobody waits for it; what was written to a file after it had been read goes to `bad/`, so that its writer hears
//! of it.

use std::time::{Duration, Instant};

use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::store::Store;
use crate::adapters::spool::sweep::{Rewritten, Sweep};
use crate::adapters::spool::{SpoolError, bad};
use crate::adapters::users;
use crate::base::text::visible;
use crate::domain::audit::{Entry, RefusedFile};
use crate::domain::problem::Problem;
use crate::shells::clock::now;

/// For how long in one turn files are deleted, and how soon a turn goes on with it.
const MOST: Duration = Duration::from_millis(20);
const EVERY: Duration = Duration::from_millis(50);
/// Where a file stood that had been taken out of its box.
const TAKEN_FROM: &str = "taken";

/// What deletes them.
pub(super) struct Sweeper {
    layout: Layout,
    sweep: Sweep,
    /// When it went on last.
    last: Option<Instant>,
}

impl Sweeper {
    /// Deletes nothing yet. `remote` when files may be written from other machines.
    pub(super) fn new(layout: Layout, remote: bool) -> Sweeper {
        Sweeper { layout, sweep: Sweep::new(remote), last: None }
    }

    /// Begins, unless it is under way, and goes on at once.
    pub(super) fn begin(&mut self, store: &mut Store) -> Result<(), SpoolError> {
        if let Err(error) = self.sweep.begin(&self.layout) {
            tracing::warn!("{error}; it is tried again");
        }
        self.last = None;
        self.go_on(store)
    }

    /// Returns how soon to go on.
    pub(super) fn next_in(&self) -> Duration {
        if self.sweep.is_under_way() { EVERY } else { Duration::MAX }
    }

    /// Goes on for a little, if it is time.
    pub(super) fn go_on(&mut self, store: &mut Store) -> Result<(), SpoolError> {
        if !self.sweep.is_under_way() || self.last.is_some_and(|at| at.elapsed() < EVERY) {
            return Ok(());
        }
        // Some files more do no harm.
        let swept = self.sweep.part(MOST).inspect_err(|error| tracing::warn!("{error}; it is tried again"));
        self.last = Some(Instant::now());
        swept.unwrap_or_default().iter().try_for_each(|file| tell(file, store))
    }
}

/// Tells the writer of a file that what they wrote came too late.
fn tell(file: &Rewritten, store: &mut Store) -> Result<(), SpoolError> {
    let found = format!("bytes that were written after the file had been read ({})", file.read);
    let wanted = "a file that is complete when it is closed or renamed in; what was read then was taken, this was not";
    let problems = [Problem::new("", found, wanted)];
    tracing::warn!(file = %visible(&file.name), "was written after it had been read; what it says now is in bad/");
    let by = users::actor(file.uid);
    let refused = RefusedFile { drop_box: TAKEN_FROM, name: &file.name, digest: None };
    let entry = Entry::of_refused(now(), Some(&by), None, &refused, &problems);
    store.write(&[], Vec::new(), vec![entry])?;
    let from = (TAKEN_FROM, file.name.as_str());
    bad::refuse_at(store, &file.path, from, Some(file.uid), &problems, now()).map(drop)
}
