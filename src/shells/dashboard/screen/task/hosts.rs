//! How the hosts of a task are painted: a row for each, or for several that stand alike.
//!
//! **Invariant:** pure; only rows that are seen are built.

use ratatui::layout::{Position, Rect};

use crate::domain::run::{Run, StepState};
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::host_state::host_state;
use crate::shells::dashboard::list;
use crate::shells::dashboard::log_keys::log_key;
use crate::shells::dashboard::look::{Mark, Pen, Row, Tone};
use crate::shells::dashboard::message::Tail;
use crate::shells::dashboard::phrases::{one_line, span};
use crate::shells::dashboard::screen::task::state::TaskScreen;
use crate::shells::dashboard::table::{HostRow, LaneLine, RowKey, Table, ending_detail};
use crate::shells::dashboard::words::{Words, fill};

/// How wide the names of hosts are.
const HOST: usize = 22;

/// Paints the rows that are seen.
pub(super) fn draw(
    pen: &mut Pen<'_>,
    cx: Context<'_>,
    run: &Run,
    table: &Table,
    screen: &TaskScreen,
    area: Rect,
) -> Option<Position> {
    if area.height < 2 {
        return None;
    }
    let words = pen.look.words;
    let rows = screen.host_rows();
    let steps = table.lanes.iter().map(|lane| lane.marks.len()).max().unwrap_or(1);
    // A host with many steps is shown by what it comes to.
    let width = if steps <= 12 { steps.saturating_mul(2) } else { 12 };
    let last = usize::from(area.width)
        .saturating_sub((2 + HOST).saturating_add(width).saturating_add(10).saturating_add(18).saturating_add(1));
    let numbers: String =
        if steps <= 12 { (1..=steps).map(|n| format!("{} ", n % 10)).collect() } else { words.col_step.to_owned() };
    let heading = Row::new()
        .gap(2)
        .col(words.col_host, HOST, Tone::Dim)
        .col(&numbers, width, Tone::Dim)
        .gap(1)
        .col(words.col_end, 18, Tone::Dim)
        .col(words.col_last_line, last, Tone::Dim)
        .right(words.col_time, 9, Tone::Dim);
    let line = |n: usize| match rows.get(n) {
        Some(HostRow::Lane(lane)) => {
            lane_row(cx, run, table, *lane, (width, last), screen.selected == Some(RowKey::Lane(*lane)))
        }
        Some(HostRow::Fold { lanes, open, .. }) => fold_row(cx, run, table, lanes, *open, width),
        None => Row::new(),
    };
    list::draw(pen, area, &heading, &screen.list, rows.len(), line)
}

fn marks(lane: &LaneLine, width: usize) -> Row {
    let mut row = Row::new();
    if lane.marks.len().saturating_mul(2) <= width {
        for mark in &lane.marks {
            row = row.put(&format!("{} ", mark.glyph()), mark.tone());
        }
        return row;
    }
    let over = lane.marks.iter().filter(|mark| !matches!(mark, Mark::Waits | Mark::Runs | Mark::Asks)).count();
    row.put(&format!("{} {over}/{}", lane.mark.glyph(), lane.marks.len()), lane.mark.tone())
}

fn lane_row(cx: Context<'_>, run: &Run, table: &Table, n: usize, (width, last): (usize, usize), selected: bool) -> Row {
    let (Some(lane), Some(line)) = (run.lanes.get(n), table.lanes.get(n)) else { return Row::new() };
    let words = cx.words;
    let host = if run.plan.groups.len() > 1 { format!("{} {}", lane.group, lane.host) } else { lane.host.to_string() };
    let end = host_state(words, run, n, line);
    let tail = log_key(run, n).and_then(|key| cx.world.tail(&key)).and_then(Tail::last_line);
    // What a script says of itself is more than what it printed last.
    let open = lane.open_step().and_then(|open| lane.steps[open].said.as_ref());
    let tail = open.map(|said| one_line(&said.text)).or(tail);
    let shown = tail.or_else(|| detail(words, run, n)).unwrap_or_default();
    let sign = if selected { ">" } else { " " };
    Row::new()
        .put(sign, Tone::Key)
        .gap(1)
        .col(&host, HOST - 1, Tone::Plain)
        .gap(1)
        .join(marks(line, width))
        .to((2 + HOST).saturating_add(width).saturating_add(1))
        .col(&end, 17, line.mark.tone())
        .gap(1)
        .col(&shown, last.saturating_sub(1), Tone::Plain)
        .gap(1)
        .right(&line.took_ms.map_or_else(|| "-".to_owned(), span), 9, Tone::Dim)
}

/// What is known of a host that printed nothing.
fn detail(words: &Words, run: &Run, n: usize) -> Option<String> {
    let lane = run.lanes.get(n)?;
    lane.steps.iter().rev().find_map(|step| match &step.state {
        StepState::Ended(result) => ending_detail(&result.ending).map(one_line),
        StepState::Open { unconfirmed, unreachable, .. } => {
            let why = one_line(unconfirmed.as_deref().or(unreachable.as_deref())?);
            // What is to be ended keeps the task until its host answers.
            let ends = lane.stopped || run.cancelled.is_some();
            Some(if ends { format!("{}: {why}", words.asked_until) } else { why })
        }
        _ => None,
    })
}

fn fold_row(cx: Context<'_>, run: &Run, table: &Table, lanes: &[usize], open: bool, width: usize) -> Row {
    let words = cx.words;
    let name = |lane: Option<&usize>| {
        lane.and_then(|n| run.lanes.get(*n)).map_or_else(String::new, |lane| lane.host.to_string())
    };
    let group = lanes.first().and_then(|n| run.lanes.get(*n)).filter(|_| run.plan.groups.len() > 1);
    let group = group.map(|lane| format!("{} ", lane.group)).unwrap_or_default();
    let label = format!("{group}{} +{}", name(lanes.first()), lanes.len().saturating_sub(1));
    let Some(line) = lanes.first().and_then(|n| table.lanes.get(*n)) else { return Row::new() };
    let said = if open { words.fold_open } else { words.fold_closed };
    Row::new()
        .put(if open { "v" } else { "+" }, Tone::Key)
        .gap(1)
        .col(&label, HOST - 1, Tone::Plain)
        .gap(1)
        .join(marks(line, width))
        .to((2 + HOST).saturating_add(width).saturating_add(1))
        .put(&fill(said, &[&lanes.len().to_string()]), Tone::Dim)
}
