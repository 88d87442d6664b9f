//! Writes a line to the daemon's log for each task that is accepted, waits, starts, is held, or ends. Floor 4.
//!
//! **Invariant:** what people wrote is made visible, and the fields have the same names in every line.

use super::observer::Observer;
use crate::adapters::spool::follow_audit::Followed;
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::reader;
use crate::base::ids::TaskId;
use crate::base::text::visible;
use crate::domain::audit::Entry;
use crate::domain::run::TaskState;

/// The acts that are told, as the audit calls them.
const ACTS: [&str; 9] =
    ["accepted", "approved", "rejected", "stale", "started", "held", "batch_waits", "cancelled", "closed"];

/// Writes lines about tasks.
pub(super) struct TaskLog {
    layout: Layout,
}

impl TaskLog {
    pub(super) fn new(layout: Layout) -> TaskLog {
        TaskLog { layout }
    }

    fn write(&self, task: TaskId, entry: &Entry) {
        let name = reader::name_of(&self.layout, task).map(|(name, _)| visible(&name)).unwrap_or_default();
        let by = entry.by.as_ref().map(|by| visible(&by.user)).unwrap_or_default();
        let state = entry.to.map_or("", TaskState::word);
        let detail = entry.detail.as_deref().map(visible).unwrap_or_default();
        tracing::info!(%task, name, state, by, detail, "{}", entry.act);
    }
}

impl Observer for TaskLog {
    const NAME: &'static str = "task-log";

    async fn tell(&mut self, lines: &[Followed]) -> Result<(), String> {
        for Followed { line, .. } in lines {
            let entry = &line.entry;
            if let Some(task) = entry.task.filter(|_| entry.event.is_some() && ACTS.contains(&entry.act.as_str())) {
                self.write(task, entry);
            }
        }
        Ok(())
    }
}
