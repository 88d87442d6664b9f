//! What the engine says, as the bytes that are written. Floor 4.
//!
//! **Invariant:** the same value is the same bytes, always.

use crate::adapters::spool::store::NewFiles;
use crate::domain::record::HistoryLine;
use crate::domain::run::{Event, Recorded};
use crate::engine::NewTask;
use crate::shells::daemon::sight::Sight;

/// Returns the files of a new task, and who gets at them.
pub(super) fn new_files(new: &NewTask, sight: &Sight) -> NewFiles {
    let gates = new.events.first().and_then(|recorded| match &recorded.event {
        Event::Accepted(accepted) => sight.gates(accepted, &new.plan),
        _ => None,
    });
    NewFiles {
        gates,
        id: new.id,
        plan: new.plan.canonical(),
        events: lines(&new.events),
        state: new.state,
        view: new.view.clone(),
    }
}

/// Writes events as lines.
pub(super) fn lines(events: &[Recorded]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(events.len().saturating_mul(160));
    for event in events {
        serde_json::to_writer(&mut bytes, event).expect("an event holds nothing that JSON cannot say");
        bytes.push(b'\n');
    }
    bytes
}

/// Writes a line of the history.
pub(super) fn history_line(line: &HistoryLine) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).expect("a line holds nothing that JSON cannot say");
    bytes.push(b'\n');
    bytes
}
