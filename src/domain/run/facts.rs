//! What a run remembers of acts that changed what may happen.
//!
//! **Invariant:** pure values; only [`Run::apply`](super::Run::apply) makes and changes them.

use serde::{Deserialize, Serialize};

use crate::base::ids::{Actor, GroupNo};
use crate::base::time::Timestamp;

/// Why nothing more starts for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Who; `None` for the daemon itself.
    pub by: Option<Actor>,
    /// Why.
    pub why: String,
    /// Since when.
    pub at: Timestamp,
}

/// A group's next batch, while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchWait {
    /// The group.
    pub group: GroupNo,
    /// The batch, from 1.
    pub batch: u32,
    /// Not before this time.
    pub until: Option<Timestamp>,
    /// Whether somebody must let it begin still.
    pub gate: bool,
}

/// An order to end a task early, as it was obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}
