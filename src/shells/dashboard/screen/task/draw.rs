//! How a task is painted: what it is, how many hosts stand where, its steps, the map, and who did what.
//!
//! **Invariant:** pure; the same numbers stand in the line of counts, in the steps and on the map.

use ratatui::layout::{Position, Rect};

use crate::domain::run::{Run, Stage, TaskState};
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::log_keys::log_key;
use crate::shells::dashboard::look::{Mark, Pen, Row, Tone, bar, outcome_tone};
use crate::shells::dashboard::message::Tail;
use crate::shells::dashboard::phrases::{one_line, size, span};
use crate::shells::dashboard::screen::task::hosts;
use crate::shells::dashboard::screen::task::parts::{below_title, parts};
use crate::shells::dashboard::screen::task::state::{TaskScreen, Zoom};
use crate::shells::dashboard::screen::withheld;
use crate::shells::dashboard::table::{StepLine, Table, heat, reason, slot};
use crate::shells::dashboard::words::{fill, names};
use crate::shells::text::{cells, coloured, sentence};

/// How wide the times of acts are.
const WHEN: usize = 12;

pub(super) fn draw(pen: &mut Pen<'_>, cx: Context<'_>, screen: &TaskScreen, body: Rect) -> Option<Position> {
    let words = pen.look.words;
    let (Some(run), Some(table)) = (cx.world.run(screen.id), screen.table()) else {
        if withheld::draw(pen, cx, screen.id, body) {
            return None;
        }
        let why = cx.world.why_unreadable(screen.id);
        let said = why.map_or_else(|| words.reading.to_owned(), |why| fill(words.unreadable, &[why]));
        pen.row(body, &Row::new().gap(1).put(&said, Tone::Warn));
        return None;
    };
    pen.row(body, &title(cx, run));
    pen.row(Rect { y: body.y.saturating_add(1), ..body }, &counts(cx, run, table));
    if screen.zoom == Zoom::Acts {
        acts(pen, cx, run, screen, below_title(body));
        return None;
    }
    let parts = parts(cx.size, screen, body);
    steps(pen, table, parts.steps);
    if !parts.reasons.is_empty() {
        reasons(pen, cx, run, table, parts.reasons);
    }
    map(pen, table, screen, parts.map);
    let cursor = hosts::draw(pen, cx, run, table, screen, parts.hosts);
    live_log(pen, cx, run, screen, parts.log);
    if screen.zoom == Zoom::Map { map_cursor(screen, parts.map) } else { cursor }
}

fn title(cx: Context<'_>, run: &Run) -> Row {
    let words = cx.words;
    let (state, tone) = match &run.stage {
        _ if run.held().is_some() => (words.held, Tone::Warn),
        Stage::New => (words.new, Tone::Warn),
        Stage::Ready { .. } => (words.ready, Tone::Strong),
        Stage::Running { .. } if run.cancelled.is_some() => (words.cancelling, Tone::Fail),
        Stage::Running { .. } => (words.running, Tone::Run),
        Stage::Done { outcome, .. } => (names::outcome(words, *outcome), outcome_tone(*outcome)),
    };
    let took = match &run.stage {
        Stage::Running { since, .. } => span(cx.world.now().0.saturating_sub(since.0)),
        Stage::Done { started: Some(started), ended, .. } => span(ended.0.saturating_sub(started.0)),
        Stage::Ready { start: Some(start), .. } => cx.world.clock(*start),
        _ => String::new(),
    };
    let right = Row::new().put(state, tone).gap(2).put(&took, Tone::Plain).gap(1);
    let work = run.plan.template.as_ref().map_or_else(|| words.own_script_short.to_owned(), |t| t.name.to_string());
    let left = Row::new()
        .gap(1)
        .put(&run.id.to_string(), Tone::Title)
        .gap(1)
        .put(&one_line(&run.plan.task_name), Tone::Strong)
        .put(&format!("  {work}  {} {}", words.by, run.accepted.by.user), Tone::Dim)
        .put(&if run.accepted.unproved { format!("  {}", words.unproved) } else { String::new() }, Tone::Warn);
    let room = usize::from(cx.size.width).saturating_sub(right.used());
    let mut row = Row::new();
    row = row.join(left);
    if row.used() > room {
        // The state is never cut off: the name is.
        let name = crate::shells::text::cut(&one_line(&run.plan.task_name), room.saturating_sub(12));
        row = Row::new().gap(1).put(&run.id.to_string(), Tone::Title).gap(1).put(&name, Tone::Strong);
    }
    row.to(room).join(right)
}

fn counts(cx: Context<'_>, run: &Run, table: &Table) -> Row {
    let words = cx.words;
    let mut row =
        Row::new().gap(1).put(&fill(words.hosts_count, &[&table.lanes.len().to_string()]), Tone::Plain).gap(1);
    for mark in Mark::ALL {
        let count = table.count(mark);
        let tone = if count > 0 { mark.tone() } else { Tone::Dim };
        if count > 0 || !matches!(mark, Mark::Asks | Mark::Lost | Mark::Skipped) {
            row = row.gap(1).put(&format!("{} {} {count}", mark.glyph(), names::mark(words, mark)), tone);
        }
    }
    if let Some(wait) = &run.batch_wait {
        let batch = wait.batch.to_string();
        let said = match wait.until.filter(|_| !wait.gate) {
            Some(until) => fill(words.batch_at, &[&batch, &cx.world.clock(until)]),
            None => fill(words.batch_gate, &[&batch]),
        };
        row = row.gap(2).put(&said, Tone::Warn);
    } else if run.plan.groups.iter().any(|group| group.batches.len() > 1) && run.state() == TaskState::Running {
        let batch = run.lanes.iter().filter(|lane| !lane.is_untouched()).map(|lane| lane.batch).max().unwrap_or(1);
        let all = run.plan.groups.iter().map(|group| group.batches.len()).max().unwrap_or(1);
        row = row.gap(2).put(&fill(words.batch_of, &[&batch.to_string(), &all.to_string()]), Tone::Plain);
    }
    for hold in &run.holds {
        row = row
            .gap(2)
            .put(&fill(words.held_by, &[names::person(words, hold.by.as_ref()), &one_line(&hold.why)]), Tone::Warn);
    }
    if let Some(eta) = table.left_ms {
        row = row.gap(2).put(&fill(words.eta, &[&span(eta)]), Tone::Dim);
    }
    row
}

fn steps(pen: &mut Pen<'_>, table: &Table, area: Rect) {
    const TIME: usize = 7;
    const NAME_MIN: usize = 8;
    const BAR_MIN: usize = 8;
    if area.is_empty() {
        return;
    }
    let words = pen.look.words;
    let width = usize::from(area.width);
    let asks = table.steps.iter().any(|step| step.counts[slot(Mark::Asks)] > 0);
    let columns: &[Mark] = if asks {
        &[Mark::Waits, Mark::Asks, Mark::Runs, Mark::Ok, Mark::Failed, Mark::Lost]
    } else {
        &[Mark::Waits, Mark::Runs, Mark::Ok, Mark::Failed, Mark::Lost]
    };
    // As wide as a number of hosts, and as its word.
    let room = |mark: Mark| cells(names::mark(words, mark)).saturating_add(1).max(6);
    let counts = columns.iter().map(|mark| room(*mark)).sum::<usize>();
    // Where there is little room, times give way to the bar, and the name to both.
    let beside = |times: usize| [1, counts, 2, times.saturating_mul(TIME)].iter().sum::<usize>();
    let times = (0..=2).rev().find(|times| width.saturating_sub(beside(*times)) >= NAME_MIN + BAR_MIN).unwrap_or(0);
    let left = width.saturating_sub(beside(times));
    let name = left.saturating_sub(BAR_MIN).clamp(NAME_MIN, 26);
    let bar_room = left.saturating_sub(name).min(40);
    let mut heading = Row::new().gap(1).col(words.col_step, name, Tone::Dim);
    for mark in columns {
        heading = heading.right(names::mark(words, *mark), room(*mark), Tone::Dim);
    }
    if bar_room >= 8 {
        heading = heading.gap(2).col(words.col_progress, bar_room, Tone::Dim);
    }
    for word in ["max", "p50"].iter().take(times).rev() {
        heading = heading.right(word, TIME, Tone::Dim);
    }
    pen.row(area, &heading);
    let many = table.steps.windows(2).any(|pair| pair[0].group != pair[1].group);
    let height = usize::from(area.height).saturating_sub(1);
    let seen = if table.steps.len() > height { height.saturating_sub(1) } else { table.steps.len() };
    let line = |step: &StepLine, n: usize| {
        let first = table.steps.iter().position(|known| known.group == step.group).unwrap_or(0);
        let n = n.saturating_sub(first).saturating_add(1);
        let label = if many { format!("{}.{n} {}", step.group, step.name) } else { format!("{n} {}", step.name) };
        let mut row = Row::new().gap(1).col(&label, name, Tone::Plain);
        for mark in columns {
            let count = step.counts[slot(*mark)];
            row = row.right(&count.to_string(), room(*mark), if count > 0 { mark.tone() } else { Tone::Dim });
        }
        if bar_room >= 8 {
            let all: usize = step.counts.iter().sum();
            let open = [Mark::Waits, Mark::Runs, Mark::Asks].map(|mark| step.counts[slot(mark)]);
            let over = all.saturating_sub(open.iter().sum());
            let bad = step.counts[slot(Mark::Failed)].saturating_add(step.counts[slot(Mark::Lost)]) > 0;
            row = row.gap(2).put(&bar(over, all, bar_room), if bad { Tone::Fail } else { Tone::Ok });
        }
        let time = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), span);
        let took = [step.max_ms, step.p50_ms];
        took.iter().take(times).rev().fold(row, |row, ms| row.right(&time(*ms), TIME, Tone::Plain))
    };
    // What is going on is more than what is over: the steps that nobody has finished come into sight.
    let busy = table.steps.iter().position(|step| step.counts[slot(Mark::Ok)] < step.counts.iter().sum()).unwrap_or(0);
    let first = busy.min(table.steps.len().saturating_sub(seen));
    let mut rows: Vec<Row> =
        table.steps.iter().enumerate().skip(first).take(seen).map(|(n, step)| line(step, n)).collect();
    let unseen = table.steps.len().saturating_sub(seen);
    if unseen > 0 {
        rows.push(Row::new().gap(1).put(&fill(words.more_steps, &[&unseen.to_string()]), Tone::Dim));
    }
    pen.rows(Rect { y: area.y.saturating_add(1), height: area.height.saturating_sub(1), ..area }, &rows);
}

fn reasons(pen: &mut Pen<'_>, cx: Context<'_>, run: &Run, table: &Table, area: Rect) {
    let words = pen.look.words;
    let mut rows = vec![Row::new().gap(1).put(words.why_fail, Tone::Dim)];
    if table.reasons.is_empty() {
        rows = vec![Row::new().gap(1).put(words.nothing_fails, Tone::Dim)];
    }
    for (_, lanes) in &table.reasons {
        let Some(lane) = lanes.first().and_then(|lane| run.lanes.get(*lane)) else { continue };
        let sample = lanes.first().and_then(|lane| log_key(run, *lane)).and_then(|key| cx.world.tail(&key));
        let last = sample.and_then(Tail::last_line).unwrap_or_default();
        rows.push(
            Row::new()
                .right(&lanes.len().to_string(), 6, Tone::Fail)
                .gap(2)
                .put(&one_line(&reason(words, lane)), Tone::Plain)
                .gap(2)
                .put(&last, Tone::Dim),
        );
    }
    pen.rows(area, &rows);
}

fn map(pen: &mut Pen<'_>, table: &Table, screen: &TaskScreen, area: Rect) {
    if area.height < 2 {
        return;
    }
    let words = pen.look.words;
    let columns = usize::from(area.width).saturating_sub(2).max(1);
    let room = usize::from(area.height.saturating_sub(1));
    let (cells, each) = heat(table, columns.saturating_mul(room));
    let legend: String =
        Mark::ALL.iter().map(|mark| format!(" {} {}", mark.glyph(), names::mark(words, *mark))).collect();
    let head = if each == 1 { words.map_each } else { words.map_head };
    let head = fill(head, &[&table.lanes.len().to_string(), &each.to_string()]);
    let row = Row::new().gap(1).put(&head, Tone::Dim);
    let whole = row.clone().gap(1).put(&legend, Tone::Dim);
    pen.row(area, if whole.used() <= usize::from(area.width) { &whole } else { &row });
    for (n, line) in cells.chunks(columns).enumerate() {
        let mut row = Row::new().gap(1);
        for (k, mark) in line.iter().enumerate() {
            let chosen = screen.zoom == Zoom::Map && n.saturating_mul(columns).saturating_add(k) == screen.cell;
            let glyph = mark.glyph().to_string();
            row = if chosen { row.put(&glyph, Tone::Danger) } else { row.put(&glyph, mark.tone()) };
        }
        pen.row(
            Rect { y: area.y.saturating_add(1).saturating_add(u16::try_from(n).unwrap_or(0)), height: 1, ..area },
            &row,
        );
    }
}

fn map_cursor(screen: &TaskScreen, area: Rect) -> Option<Position> {
    let columns = usize::from(area.width).saturating_sub(2).max(1);
    let x = u16::try_from(screen.cell.checked_rem(columns)?).ok()?.saturating_add(1);
    let y = area.y.saturating_add(1).saturating_add(u16::try_from(screen.cell.checked_div(columns)?).ok()?);
    Some(Position { x, y })
}

fn live_log(pen: &mut Pen<'_>, cx: Context<'_>, run: &Run, screen: &TaskScreen, area: Rect) {
    if area.height < 3 {
        return;
    }
    let words = pen.look.words;
    pen.rule(Rect { height: 1, ..area });
    let key = screen.lane().and_then(|lane| log_key(run, lane));
    let Some(key) = key else { return };
    let tail = cx.world.tail(&key);
    let length = tail.map_or(0, |tail| tail.length);
    let head = fill(words.live_log, &[key.host.as_str(), key.step.as_str(), &size(length)]);
    let head = Row::new().gap(1).put(&head, Tone::Dim).gap(2).put(names::proof(words, run, &key), Tone::Dim);
    pen.row(Rect { y: area.y.saturating_add(1), height: 1, ..area }, &head);
    let room = usize::from(area.height).saturating_sub(2);
    let lines = tail.map_or(&[][..], |tail| &tail.lines);
    let rows: Vec<Row> = lines[lines.len().saturating_sub(room)..]
        .iter()
        .map(|line| coloured(line).pieces.iter().fold(Row::new().gap(1), |row, (text, style)| row.styled(text, *style)))
        .collect();
    pen.rows(Rect { y: area.y.saturating_add(2), height: area.height.saturating_sub(2), ..area }, &rows);
}

/// Who did what, and what policy asks for.
fn acts(pen: &mut Pen<'_>, cx: Context<'_>, run: &Run, screen: &TaskScreen, area: Rect) {
    let words = pen.look.words;
    let mut rows = Vec::new();
    for need in &run.needs {
        let of = if need.of.is_empty() { words.whoever_may.to_owned() } else { need.of.join(", ") };
        let missing = need.missing(run.approvals.iter().map(|(_, approval)| approval));
        let tone = if missing > 0 { Tone::Warn } else { Tone::Ok };
        rows.push(
            Row::new()
                .gap(1)
                .put(&fill(words.needs, &[&need.approvals.to_string(), &of, &missing.to_string(), &need.rule]), tone),
        );
    }
    rows.push(Row::new().gap(1).put(&fill(words.plan_is, &[&run.digest.to_string()]), Tone::Dim));
    for act in run.acts.iter().skip(screen.acts_top) {
        let states = match act.from {
            Some(from) if from != act.to => {
                format!("{} -> {}", names::state(words, from), names::state(words, act.to))
            }
            _ => names::state(words, act.to).to_owned(),
        };
        let row = Row::new()
            .gap(1)
            .col(&cx.world.clock(act.at), WHEN, Tone::Dim)
            .col(names::person(words, act.by.as_ref()), 12, Tone::Plain)
            .col(&names::act(words, &act.act), 17, Tone::Strong)
            .col(&states, 17, Tone::Dim);
        let detail = one_line(act.detail.as_deref().unwrap_or_default());
        let width = usize::from(area.width);
        if row.used().saturating_add(cells(&detail)) <= width {
            rows.push(row.put(&detail, Tone::Plain));
            continue;
        }
        // What does not fit beside its act stands below it.
        rows.push(row);
        let lines = sentence(&detail, width.saturating_sub(WHEN + 2));
        rows.extend(lines.iter().map(|line| Row::new().gap(WHEN + 1).put(line, Tone::Plain)));
    }
    pen.rows(area, &rows);
}
