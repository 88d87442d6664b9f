//! How the board is painted: one list, or four beside each other.
//!
//! **Invariant:** pure; a row that changed in the last seconds is bold, and says in a word what its colour says.

use ratatui::layout::{Position, Rect};
use ratatui::style::{Modifier, Style};

use crate::base::ids::TaskId;
use crate::base::time::Timestamp;
use crate::domain::outcome::Outcome;
use crate::domain::record::{HistoryLine, View};
use crate::domain::run::{Run, TaskState};
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::list::nothing;
use crate::shells::dashboard::look::{Mark, Pen, Row, Tone, bar, outcome_tone};
use crate::shells::dashboard::phrases::span;
use crate::shells::dashboard::screen::board::rows::{BoardRow, BoardScreen};
use crate::shells::dashboard::words::{fill, names};
use crate::shells::dashboard::world::{NEWS_MS, Standing};

const STATE: usize = 10;
const BY: usize = 10;
const WHEN: usize = 19;
const HOSTS: usize = 8;
const RISK: usize = 6;

pub(super) fn draw(pen: &mut Pen<'_>, cx: Context<'_>, board: &BoardScreen, body: Rect) -> Option<Position> {
    let rows = board.rows();
    if rows.is_empty() {
        empty(pen, cx, board, body);
        return None;
    }
    if cx.size.is_wide() {
        return lanes(pen, cx, board, &rows, body);
    }
    let words = pen.look.words;
    let room = name_room(usize::from(body.width));
    let heading = Row::new()
        .gap(2)
        .col(words.col_state, STATE, Tone::Dim)
        .col(words.col_task, room, Tone::Dim)
        .col(words.col_by, BY, Tone::Dim)
        .col(words.col_when, WHEN, Tone::Dim)
        .right(words.col_hosts, HOSTS, Tone::Dim)
        .gap(1)
        .col(words.col_risk, RISK, Tone::Dim);
    pen.row(body, &heading);
    let mut cursor = None;
    for (n, at) in (board.list.top..rows.len()).take(usize::from(body.height).saturating_sub(1)).enumerate() {
        let y = body.y.saturating_add(1).saturating_add(u16::try_from(n).unwrap_or(0));
        let line = Rect { y, height: 1, ..body };
        let mut over = Style::new();
        if at == board.list.at && !board.list.lost {
            over = pen.look.selected();
            cursor = Some(Position { x: body.x, y });
        }
        if is_news(cx, rows[at]) {
            over = over.add_modifier(Modifier::BOLD);
        }
        pen.row_over(line, &row(cx, board, rows[at], room), over);
    }
    cursor
}

fn name_room(width: usize) -> usize {
    width.saturating_sub(2 + STATE + BY + WHEN + HOSTS + 1 + RISK).max(12)
}

/// What to do when there is nothing.
fn empty(pen: &mut Pen<'_>, cx: Context<'_>, board: &BoardScreen, body: Rect) {
    let words = cx.words;
    if let Some(why) = cx.world.blind() {
        let rows =
            [Row::new(), Row::new().gap(2).put(words.board_blind, Tone::Fail), Row::new().gap(2).put(why, Tone::Plain)];
        pen.rows(body, &rows);
        return;
    }
    if !board.list.filter.is_empty() || board.list.failed_only {
        let said = nothing(words, &board.list, words.board_empty);
        pen.rows(body, &[Row::new(), Row::new().gap(2).put(said, Tone::Strong)]);
        return;
    }
    let mut rows = vec![Row::new(), Row::new().gap(2).put(words.board_empty, Tone::Strong)];
    let hint = if cx.readonly { words.board_empty_readonly } else { words.board_empty_hint };
    rows.push(Row::new().gap(2).put(hint, Tone::Plain));
    if cx.world.is_daemon_known() && cx.world.daemon().is_none() {
        rows.push(Row::new().gap(2).put(words.daemon_down_hint, Tone::Warn));
    }
    pen.rows(body, &rows);
}

fn is_news(cx: Context<'_>, row: BoardRow) -> bool {
    match row {
        BoardRow::Task(id) => {
            cx.world.tasks().get(&id).is_some_and(|task| cx.world.now().0.saturating_sub(task.since.0) < NEWS_MS)
        }
        BoardRow::Ended(n) => {
            cx.world.recent().get(n).is_some_and(|line| cx.world.now().0.saturating_sub(line.ended.0) < NEWS_MS)
        }
        BoardRow::Heading(_) | BoardRow::More(..) => false,
    }
}

fn heading(cx: Context<'_>, state: TaskState) -> Row {
    let words = cx.words;
    let (said, tone) = match state {
        TaskState::New => (words.heading_new, Tone::Warn),
        TaskState::Ready => (words.heading_ready, Tone::Strong),
        TaskState::Running => (words.heading_running, Tone::Run),
        TaskState::Done => (words.heading_done, Tone::Strong),
    };
    Row::new().gap(1).put(&fill(said, &[&cx.world.count(state).to_string()]), tone)
}

fn row(cx: Context<'_>, board: &BoardScreen, row: BoardRow, room: usize) -> Row {
    match row {
        BoardRow::Heading(state) => heading(cx, state),
        BoardRow::More(_, count) => {
            Row::new().gap(2 + STATE).put(&fill(cx.words.more, &[&count.to_string()]), Tone::Dim)
        }
        BoardRow::Task(id) => match cx.world.tasks().get(&id) {
            Some(task) => task_row(cx, board, task, room),
            None => Row::new(),
        },
        BoardRow::Ended(n) => match cx.world.recent().get(n) {
            Some(line) => ended_row(cx, board, line, room),
            None => Row::new(),
        },
    }
}

fn sign(board: &BoardScreen, id: TaskId) -> (&'static str, Tone) {
    match (board.selected == Some(id), board.marks.contains(&id)) {
        (true, true) => (">*", Tone::Key),
        (true, false) => ("> ", Tone::Key),
        (false, true) => (" *", Tone::Key),
        (false, false) => ("  ", Tone::Plain),
    }
}

fn task_row(cx: Context<'_>, board: &BoardScreen, task: &Standing, room: usize) -> Row {
    let run = cx.world.run(task.view.id);
    let (mark, mark_tone) = sign(board, task.view.id);
    let (state, tone) = state(cx, task, run);
    let name = format!("{} {}", task.view.id, task.view.task_name);
    let (when, when_tone) = when(cx, task, run);
    let hosts = match (task.state, run) {
        (TaskState::Running, Some(run)) => {
            let (ended, _) = progress(run);
            format!("{ended}/{}", run.lanes.len())
        }
        _ => task.view.hosts.to_string(),
    };
    let (risk, risk_tone) = risk(cx, run);
    Row::new()
        .put(mark, mark_tone)
        .col(&state, STATE, tone)
        .col(&name, room.saturating_sub(1), Tone::Plain)
        .gap(1)
        .col(&by(&task.view), BY - 1, if task.view.unproved { Tone::Warn } else { Tone::Plain })
        .gap(1)
        .col(&when, WHEN, when_tone)
        .right(&hosts, HOSTS, Tone::Plain)
        .gap(1)
        .col(risk, RISK, risk_tone)
}

/// The word for where a task stands, and how many votes it has.
fn state(cx: Context<'_>, task: &Standing, run: Option<&Run>) -> (String, Tone) {
    let words = cx.words;
    let Some(run) = run else { return (names::state(words, task.state).to_owned(), Tone::Plain) };
    if run.held().is_some() {
        return (words.held.to_owned(), Tone::Warn);
    }
    match task.state {
        TaskState::New => {
            let wanted: u32 = run.needs.iter().map(|need| need.approvals).max().unwrap_or(1);
            let given = run.approvals.len();
            let voted = run.approvals.iter().any(|(_, vote)| vote.by.uid == cx.world.me().actor.uid);
            let tone = if voted { Tone::Dim } else { Tone::Warn };
            (format!("{} {given}/{wanted}", words.new), tone)
        }
        TaskState::Ready if run.frozen.is_some() => (words.frozen.to_owned(), Tone::Warn),
        TaskState::Running if run.cancelled.is_some() => (words.cancelling.to_owned(), Tone::Fail),
        TaskState::Running => {
            let bad = progress(run).1;
            if run.batch_wait.as_ref().is_some_and(|wait| wait.gate) || asks(run) {
                return (words.mark_asks.to_owned(), Tone::Warn);
            }
            (format!("{}%", percent(run)), if bad > 0 { Tone::Fail } else { Tone::Run })
        }
        state => (names::state(words, state).to_owned(), Tone::Plain),
    }
}

/// How many hosts have come to an end, and how many of them not well.
fn progress(run: &Run) -> (usize, usize) {
    let (mut ended, mut bad) = (0_usize, 0_usize);
    for lane in &run.lanes {
        let outcome = lane.outcome();
        let failed = !matches!(outcome, Outcome::Ok | Outcome::Skipped);
        ended = ended.saturating_add(usize::from(failed || outcome == Outcome::Ok));
        bad = bad.saturating_add(usize::from(failed));
    }
    (ended, bad)
}

/// How many of a hundred steps are over.
fn percent(run: &Run) -> usize {
    use crate::domain::run::StepState;
    let over =
        |step: &&crate::domain::run::lane::LaneStep| matches!(step.state, StepState::Ended(_) | StepState::Skipped(_));
    let steps = || run.lanes.iter().flat_map(|lane| &lane.steps).filter(|step| step.is_shown());
    steps().filter(over).count().saturating_mul(100).checked_div(steps().count()).unwrap_or(0)
}

/// Whether nothing goes on until somebody lets a step begin.
fn asks(run: &Run) -> bool {
    use crate::domain::run::lane::Next;
    let mut any = false;
    for lane in &run.lanes {
        if lane.open_step().is_some() {
            return false;
        }
        let planned = run.plan.group(lane.group).map_or(&[][..], |group| &group.steps);
        any |= matches!(lane.next_step(planned, run.timed_at()), Next::Asks { .. });
    }
    any
}

fn when(cx: Context<'_>, task: &Standing, run: Option<&Run>) -> (String, Tone) {
    let words = cx.words;
    let until = |time: Timestamp| {
        let left = time.0.saturating_sub(cx.world.now().0);
        if left > 0 {
            format!("{} {}", cx.world.clock(time), fill(words.in_time, &[&span(left)]))
        } else {
            cx.world.clock(time)
        }
    };
    match task.state {
        TaskState::Running => {
            let since = run.and_then(|run| match run.stage {
                crate::domain::run::Stage::Running { since, .. } => Some(since),
                _ => None,
            });
            match since {
                Some(since) => (fill(words.for_time, &[&span(cx.world.now().0.saturating_sub(since.0))]), Tone::Plain),
                None => (String::new(), Tone::Plain),
            }
        }
        TaskState::Ready => match run.and_then(Run::begins_at).or(task.view.exec_time) {
            Some(time) if time > cx.world.now() => (until(time), Tone::Plain),
            time => match run.and_then(|run| run.waits_for(cx.world.runs().values())) {
                Some((host, other)) => (fill(words.waits_for, &[&other.to_string(), host.as_str()]), Tone::Warn),
                None => (time.map_or_else(|| words.now.to_owned(), until), Tone::Plain),
            },
        },
        _ => match task.view.exec_time {
            Some(time) if time <= cx.world.now() => (words.when_approved.to_owned(), Tone::Plain),
            Some(time) => (until(time), Tone::Plain),
            None => (words.when_approved.to_owned(), Tone::Plain),
        },
    }
}

fn risk(cx: Context<'_>, run: Option<&Run>) -> (&'static str, Tone) {
    use crate::domain::level::Level;
    let words = cx.words;
    match run.map(|run| cx.world.risk(&run.plan).level) {
        None => ("", Tone::Plain),
        Some(Level::Low) => (words.low, Tone::Dim),
        Some(Level::Medium) => (words.medium, Tone::Warn),
        Some(Level::High) => (words.high, Tone::Fail),
    }
}

fn ended_row(cx: Context<'_>, board: &BoardScreen, line: &HistoryLine, room: usize) -> Row {
    let (mark, mark_tone) = sign(board, line.id);
    let took = line.started.map(|started| span(line.ended.0.saturating_sub(started.0))).unwrap_or_default();
    let when = format!("{} {took}", cx.world.clock(line.ended));
    Row::new()
        .put(mark, mark_tone)
        .col(names::outcome(cx.words, line.outcome), STATE, outcome_tone(line.outcome))
        .col(&format!("{} {}", line.id, line.task_name), room.saturating_sub(1), Tone::Plain)
        .gap(1)
        .col(&line.submitter.user, BY - 1, Tone::Plain)
        .gap(1)
        .col(&when, WHEN, Tone::Dim)
        .right(&format!("{}/{}", line.hosts.saturating_sub(line.hosts_not_ok), line.hosts), HOSTS, Tone::Plain)
}

/// Four states side by side.
fn lanes(pen: &mut Pen<'_>, cx: Context<'_>, board: &BoardScreen, rows: &[BoardRow], body: Rect) -> Option<Position> {
    let states = [TaskState::New, TaskState::Ready, TaskState::Running, TaskState::Done];
    let width = body.width / 4;
    let mut cursor = None;
    for (n, state) in states.into_iter().enumerate() {
        let x = body.x.saturating_add(width.saturating_mul(u16::try_from(n).unwrap_or(0)));
        let lane = Rect { x, width: if n == 3 { body.right().saturating_sub(x) } else { width }, ..body };
        pen.row(lane, &heading(cx, state));
        for y in body.y..body.bottom() {
            if n > 0 {
                pen.row(
                    Rect { y, width: 1, height: 1, ..lane },
                    &Row::new().put(&pen.look.frame().down.to_string(), Tone::Dim),
                );
            }
        }
        let of_lane = |row: &BoardRow| match row {
            BoardRow::Heading(_) => false,
            BoardRow::More(of, _) => *of == state,
            BoardRow::Task(id) => cx.world.tasks().get(id).is_some_and(|task| task.state == state),
            BoardRow::Ended(_) => state == TaskState::Done,
        };
        let own: Vec<(usize, BoardRow)> = rows.iter().copied().enumerate().filter(|(_, row)| of_lane(row)).collect();
        let each = if state == TaskState::Running { 3 } else { 2 };
        let room = usize::from(body.height).saturating_sub(1).checked_div(each).unwrap_or(0);
        let here = own.iter().position(|(at, _)| *at == board.list.at).unwrap_or(0);
        let top = here.saturating_add(1).saturating_sub(room.max(1));
        for (n, (at, row)) in own.iter().skip(top).take(room).enumerate() {
            let y = body.y.saturating_add(1).saturating_add(u16::try_from(n.saturating_mul(each)).unwrap_or(0));
            let card = Rect { x: lane.x.saturating_add(1), y, width: lane.width.saturating_sub(2), height: 1 };
            let selected = *at == board.list.at && !board.list.lost;
            let mut over = if selected { pen.look.selected() } else { Style::new() };
            if is_news(cx, *row) {
                over = over.add_modifier(Modifier::BOLD);
            }
            if selected {
                cursor = Some(Position { x: card.x, y });
            }
            for (k, line) in lane_card(cx, board, *row, usize::from(card.width)).iter().enumerate() {
                pen.row_over(Rect { y: y.saturating_add(u16::try_from(k).unwrap_or(0)), ..card }, line, over);
            }
        }
    }
    cursor
}

/// A task in two or three short lines.
fn lane_card(cx: Context<'_>, board: &BoardScreen, row: BoardRow, width: usize) -> Vec<Row> {
    match row {
        BoardRow::Heading(_) => Vec::new(),
        BoardRow::More(_, count) => {
            vec![Row::new().gap(2).put(&fill(cx.words.more, &[&count.to_string()]), Tone::Dim)]
        }
        BoardRow::Task(id) => {
            let Some(task) = cx.world.tasks().get(&id) else { return Vec::new() };
            let run = cx.world.run(id);
            let (mark, mark_tone) = sign(board, id);
            let (risk, risk_tone) = risk(cx, run);
            let (state, tone) = state(cx, task, run);
            let (when, when_tone) = when(cx, task, run);
            let name = format!("{id} {}", task.view.task_name);
            let mut rows = vec![
                Row::new()
                    .put(mark, mark_tone)
                    .col(&name, width.saturating_sub(2 + RISK), Tone::Plain)
                    .right(risk, RISK, risk_tone),
                Row::new()
                    .gap(2)
                    .put(&state, tone)
                    .put(&format!("  {}  {}  ", by(&task.view), task.view.hosts), Tone::Dim)
                    .put(&when, when_tone),
            ];
            if let Some(run) = run.filter(|_| task.state == TaskState::Running) {
                let (ended, bad) = progress(run);
                let tone = if bad > 0 { Mark::Failed.tone() } else { Tone::Run };
                let line =
                    format!("{} {ended}/{}", bar(percent(run), 100, width.saturating_sub(14).max(4)), run.lanes.len());
                rows.push(Row::new().gap(2).put(&line, tone));
            }
            rows
        }
        BoardRow::Ended(n) => {
            let Some(line) = cx.world.recent().get(n) else { return Vec::new() };
            let (mark, mark_tone) = sign(board, line.id);
            let took = line.started.map(|started| span(line.ended.0.saturating_sub(started.0))).unwrap_or_default();
            vec![
                Row::new().put(mark, mark_tone).col(
                    &format!("{} {}", line.id, line.task_name),
                    width.saturating_sub(2),
                    Tone::Plain,
                ),
                Row::new().gap(2).put(names::outcome(cx.words, line.outcome), outcome_tone(line.outcome)).put(
                    &format!(
                        "  {}  {} {took}  {}/{}",
                        line.submitter.user,
                        cx.world.clock(line.ended),
                        line.hosts.saturating_sub(line.hosts_not_ok),
                        line.hosts
                    ),
                    Tone::Dim,
                ),
            ]
        }
    }
}

/// Returns who submitted a task; a question mark stands before whom nobody knows it of.
fn by(view: &View) -> String {
    if view.unproved { format!("?{}", view.submitter.user) } else { view.submitter.user.clone() }
}
