//! Says who is at a limit: in the log, in the sign that everybody reads, and in the metrics. Floor 4.
//!
//! **Invariant:** decides nothing; whoever goes over a limit again and again does not fill the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::base::text::visible;
use crate::engine::Engine;
use crate::shells::daemon::perform::Performer;
use crate::shells::daemon::spool_inbox::{Sharer, SpoolInbox, said_of};
use crate::shells::daemon::web::Web;

/// How often the log says the same of one person.
const SAID_AGAIN: Duration = Duration::from_mins(10);
/// How many people it remembers for that.
const REMEMBERED_MAX: usize = 1_000;

/// What was said last.
#[derive(Default)]
pub(super) struct AtLimits {
    people: BTreeSet<Sharer>,
    told: BTreeMap<Sharer, Instant>,
}

impl AtLimits {
    /// Looks who is at a limit now.
    pub(super) fn look(&mut self, engine: &Engine, inbox: &mut SpoolInbox, performer: &mut Performer, web: &Web) {
        let (slowed, files) = inbox.kept_back();
        let full: BTreeSet<Sharer> = engine.at_limit().map(Some).collect();
        let people: BTreeSet<Sharer> = slowed.union(&full).copied().collect();
        web.set_limited(people.len(), files);
        if people == self.people {
            return;
        }
        for whose in people.difference(&self.people) {
            if self.told.get(whose).is_some_and(|at| at.elapsed() < SAID_AGAIN) {
                continue;
            }
            if self.told.len() >= REMEMBERED_MAX {
                self.told.clear();
            }
            self.told.insert(*whose, Instant::now());
            let what = if full.contains(whose) {
                "as much waits of theirs as may wait (limits.waiting_tasks, limits.waiting_bytes); more is refused"
            } else {
                "they drop more than limits.files_per_minute; the rest waits in its box for its turn"
            };
            tracing::warn!(who = %visible(&said_of(*whose)), "{what}");
        }
        let first = people.first().map(|whose| visible(&said_of(*whose))).unwrap_or_default();
        performer.store_mut().say_limited(people.len(), &first);
        self.people = people;
    }
}
