//! What stands on disk when an engine begins. Floor 2.
//!
//! **Invariant:** values only; the journals are believed, and nothing beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::ids::{TaskId, is_token_uid};
use crate::base::time::Timestamp;
use crate::domain::plan::Plan;
use crate::domain::record::HistoryLine;
use crate::domain::run::{DropKey, Event, Recorded, TaskState};
use crate::engine::keys::{KeyOf, Keyed, keyed};

/// What an earlier daemon left beside unfinished tasks.
#[derive(Debug, Default)]
pub struct Past {
    /// The finished tasks.
    pub history: Vec<HistoryLine>,
    /// The last line of each unfinished task's journal that the audit has.
    pub audited: BTreeMap<TaskId, u64>,
    /// When a daemon looked at the time last; `None` where that is not noted.
    pub seen: Option<Timestamp>,
    /// The tasks that wait, by their numbers.
    pub waiting: Vec<Waiting>,
    /// Unfinished tasks that cannot be read any more, with their first event where that can.
    pub unread: Vec<(TaskId, Option<Recorded>)>,
    /// The lines of the audit that speak of cuts which nobody took note of.
    pub cuts: BTreeSet<u64>,
}

/// An unfinished task as it stands on disk.
#[derive(Debug)]
pub struct FoundTask {
    /// Its number.
    pub id: TaskId,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// Its events.
    pub events: Vec<Recorded>,
    /// The directories that hold a file of it.
    pub standing: Vec<TaskState>,
}

/// An unfinished task that has not begun, as its journal shows it without its plan.
#[derive(Debug)]
pub struct Waiting {
    /// Its number.
    pub id: TaskId,
    /// What it was dropped as.
    pub(super) name: String,
    /// Whose it is.
    pub(super) by: u32,
    /// Whose idempotency key it has, and what stands for its submission then.
    pub(super) key: Option<(KeyOf, Keyed)>,
    /// Its file.
    pub(super) drop: DropKey,
    /// Those of its orders.
    pub(super) orders: Vec<DropKey>,
    /// Whom its rights depend on.
    pub(super) people: BTreeSet<u32>,
    /// When its last event was written.
    pub(super) written: Timestamp,
    /// The directories that hold a file of it.
    pub(super) standing: Vec<TaskState>,
    /// How many bytes its plan has.
    pub(super) plan_bytes: u64,
    /// How many its text has.
    pub(super) text_bytes: u64,
    /// The last line of its journal that the audit has.
    pub(super) audited: Option<u64>,
}

impl Waiting {
    /// Returns what a journal says of a task that waits; `None` where it has begun or ended, or begins with something else.
    #[must_use]
    pub fn of(id: TaskId, events: &[Recorded], standing: Vec<TaskState>, plan_bytes: u64) -> Option<Waiting> {
        let Some(Recorded { at, event: Event::Accepted(accepted) }) = events.first() else { return None };
        let has_begun = |recorded: &Recorded| matches!(recorded.event, Event::Started | Event::Closed { .. });
        if events.iter().any(has_begun) {
            return None;
        }
        let voter = |recorded: &Recorded| match &recorded.event {
            Event::Approved { approval, .. } => Some(approval.by.uid),
            _ => None,
        };
        let people = events.iter().filter_map(voter).chain([accepted.by.uid]);
        Some(Waiting {
            id,
            name: accepted.name.clone(),
            by: accepted.by.uid,
            key: keyed(id, accepted, *at),
            drop: accepted.drop.clone(),
            orders: events.iter().filter_map(|recorded| recorded.event.order().cloned()).collect(),
            people: people.filter(|uid| !is_token_uid(*uid)).collect(),
            written: events.last().map_or(*at, |recorded| recorded.at),
            standing,
            plan_bytes,
            text_bytes: accepted.submission.len() as u64,
            audited: None,
        })
    }
}
