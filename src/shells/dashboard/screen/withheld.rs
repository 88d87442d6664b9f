//! A task that one may not see: what everybody may know of it, who may see more, and what to do.
//!
//! **Invariant:** pure; shows nothing of the plan.

use ratatui::layout::Rect;

use crate::base::ids::TaskId;
use crate::domain::policy::Part;
use crate::domain::run::TaskState;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::look::{Pen, Row, Tone, outcome_tone};
use crate::shells::dashboard::phrases::one_line;
use crate::shells::dashboard::words::names;
use crate::shells::text::wrapped;

/// Paints what everybody may know of a task; `false`, and nothing, where it is not withheld.
pub(super) fn draw(pen: &mut Pen<'_>, cx: Context<'_>, id: TaskId, body: Rect) -> bool {
    if cx.world.withheld(id) != Some(&Part::Plan) {
        return false;
    }
    let words = pen.look.words;
    let ended = || cx.world.recent().iter().chain(&cx.world.past().lines).find(|line| line.id == id);
    let known = match cx.world.tasks().get(&id) {
        Some(task) => {
            let state = match task.state {
                TaskState::New => (words.new, Tone::Warn),
                TaskState::Ready => (words.ready, Tone::Strong),
                TaskState::Running | TaskState::Done => (words.running, Tone::Run),
            };
            Some((&task.view.task_name, &task.view.submitter, state))
        }
        None => ended().map(|line| {
            let state = (names::outcome(words, line.outcome), outcome_tone(line.outcome));
            (&line.task_name, &line.submitter, state)
        }),
    };
    let mut y = body.y;
    let mut put = |pen: &mut Pen<'_>, row: &Row| {
        if y < body.bottom() {
            pen.row(Rect { y, height: 1, ..body }, row);
        }
        y = y.saturating_add(1);
    };
    let mut row = Row::new().gap(1).put(&id.to_string(), Tone::Title).gap(1);
    if let Some((name, submitter, (state, tone))) = known {
        row = row.put(&one_line(name), Tone::Strong).put(&format!("  {} {}", words.by, submitter.user), Tone::Dim);
        let right = Row::new().put(state, tone).gap(1);
        row = row.to(usize::from(body.width).saturating_sub(right.used())).join(right);
    }
    put(pen, &row);
    put(pen, &Row::new());
    let mine = known.is_some_and(|(_, submitter, _)| *submitter == cx.world.me().actor);
    let why = if mine { words.withheld_own } else { words.withheld };
    for (text, tone) in [(why, Tone::Warn), (words.withheld_do, Tone::Plain)] {
        for line in wrapped(text, usize::from(body.width).saturating_sub(2)) {
            put(pen, &Row::new().gap(1).put(&line, tone));
        }
    }
    true
}
