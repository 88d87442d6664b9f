//! What becomes of running tasks after a time in which nobody looked: no daemon ran, or the clock was set forward.
//!
//! **Invariant:** after such a time nothing begins by itself that would have begun in it, unless the template says that
//! its tasks start late; what runs already goes on, and what waits for a time to come waits for that alone.

use crate::base::ids::TaskId;
use crate::base::time::{Moment, Timestamp};
use crate::domain::run::lane::Next;
use crate::domain::run::{Event, Run};
use crate::domain::template::Missed;
use crate::engine::Engine;
use crate::engine::outbox::Outbox;
use crate::engine::progress::Progress;
use crate::engine::schedule::batch_interval;
use crate::engine::waits::{Wait, Waits, What};

/// How long the engine may rest until it is asked again.
const RESTS_MS: i64 = 60_000;

impl Engine {
    /// Whether nobody looked at the time for longer than what counts as late. An engine that rests because nothing is to be
    /// done looks at it all the same.
    pub(super) fn was_away(&self, now: Moment) -> bool {
        let rested = self.seen_steady_ms.map_or(0, |seen| now.steady_ms.saturating_sub(seen).clamp(0, RESTS_MS));
        now.wall.0.saturating_sub(self.seen.0).saturating_sub(rested) > self.library.defaults.late_after_ms
    }

    /// Holds running tasks of which more would have begun while nobody looked: what was approved was to begin then, and a
    /// person decides whether it still may.
    pub(super) fn hold_late(&mut self, out: &mut Outbox) {
        if !self.was_away(out.moment()) {
            return;
        }
        let known = self.seen > Timestamp(i64::MIN);
        let since = if known { format!("since {}", self.seen) } else { "for an unknown time".to_owned() };
        let why = format!("no daemon ran {since}, or the clock was set; release it to go on with what has not begun");
        let may = |run: &Run| run.may_start() && run.plan.missed != Missed::Run;
        let late = self.running.iter().filter(|(id, progress)| {
            self.runs.get(id).is_some_and(|run| may(run) && would_have_begun(run, progress, &self.waits, out.moment()))
        });
        for id in late.map(|(id, _)| *id).collect::<Vec<TaskId>>() {
            if let Some(run) = self.runs.get_mut(&id) {
                Engine::record(run, Event::Held { ordered: None, why: why.clone() }, out);
            }
        }
    }
}

/// Whether something of a running task may have been to begin by itself before now.
fn would_have_begun(run: &Run, progress: &Progress, known: &Waits, now: Moment) -> bool {
    // What waits for a while begins when that is over by the clock that nobody sets, and so it would have.
    let waits = |lane: &usize| match run.next_step(*lane) {
        Next::Start { step, attempt, not_before: Some(until), delay_ms: Some(ms) } => {
            known.is_over(run.id, What::Retry { lane: *lane, step, attempt }, Wait { until, ms }, now)
        }
        Next::Start { not_before, .. } => not_before.is_none_or(|at| at <= now.wall),
        Next::Asks { .. } | Next::Nothing => false,
    };
    let asks = run.batch_wait.map_or(run.plan.batch_gate, |wait| wait.gate);
    let follows = progress.following.is_some() && !asks;
    if progress.active.is_empty() {
        let due = || batch_interval(run).is_none_or(|(what, wait)| known.is_over(run.id, what, wait, now));
        return progress.waiting.iter().any(waits) || (progress.is_idle() && follows && due());
    }
    let goes_on = |lane: &usize| {
        let lane = &run.lanes[*lane];
        run.plan.group(lane.group).is_some_and(|group| lane.may_go_on(&group.steps, run.timed_at(), now.wall))
    };
    let group = progress.active.iter().map(|lane| run.lanes[*lane].group).max();
    let more_groups = run.lanes.iter().any(|lane| Some(lane.group) > group && !lane.is_passed());
    progress.waiting.iter().any(waits) || progress.active.iter().any(goes_on) || follows || more_groups
}
