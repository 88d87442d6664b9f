//! What the watcher saw of a file in a drop box. Floor 4.
//!
//! **Invariant:** what nobody saw is not made up: a file of which nothing is known counts as one that may still be written.

use std::time::Instant;

use crate::adapters::spool::writers::Seen;
use crate::adapters::watch::Happened;

/// How a file came into its box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Nobody saw it, or it was made there.
    Otherwise,
    /// It was renamed in.
    Renamed,
    /// It stood in a directory that was renamed in.
    Carried,
}

/// What the watcher saw of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    /// How often it was opened and, as far as is known, not closed; none when it stood here before anybody watched, or
    /// notices were lost.
    pub(super) opens: Option<u32>,
    /// Whether it was written to.
    pub(super) changed: bool,
    /// Whether a writer closed it, or it was renamed in, and nothing happened to it since.
    pub(super) is_complete: bool,
    /// How it came, if nothing happened to it since.
    pub(super) came: Came,
    /// When something happened to it last.
    pub(super) last: Instant,
}

impl Watched {
    /// A file of which nothing is known but that it stands there.
    pub(super) fn unknown() -> Watched {
        Watched { opens: None, changed: false, is_complete: false, came: Came::Otherwise, last: Instant::now() }
    }

    /// Takes in what happened to it.
    pub(super) fn note(&mut self, what: Happened) {
        self.last = Instant::now();
        match what {
            Happened::Made => *self = Watched { opens: Some(0), ..Watched::unknown() },
            Happened::Opened => self.opens = self.opens.map(|opens| opens.saturating_add(1)),
            Happened::Given => {}
            Happened::Changed => (self.changed, self.is_complete, self.came) = (true, false, Came::Otherwise),
            Happened::Closed => {
                self.is_complete = true;
                // Whoever carried it in had it open, and is done with it now.
                if self.came == Came::Renamed {
                    self.came = Came::Otherwise;
                }
                self.opens = self.opens.map(|opens| opens.saturating_sub(1));
            }
            Happened::Whole | Happened::MadeOther => {
                *self = Watched { opens: Some(0), is_complete: true, came: Came::Renamed, ..Watched::unknown() }
            }
        }
    }

    /// Returns what this says of whether it is still written.
    pub(super) fn seen(&self) -> Option<Seen> {
        match self.opens {
            None if self.came == Came::Carried => Some(Seen::Carried),
            Some(0) if self.came == Came::Renamed => Some(Seen::Complete),
            Some(0) if self.is_complete => Some(Seen::ClosedByOne),
            _ if self.is_complete => Some(Seen::Closed),
            Some(1..) => Some(Seen::Opened { silent: self.last.elapsed(), changed: self.changed }),
            Some(0) | None => None,
        }
    }
}
