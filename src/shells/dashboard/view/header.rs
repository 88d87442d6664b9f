//! The lines above every screen: what runs here, who looks, what waits, and what somebody should see to.
//!
//! **Invariant:** pure; nothing that is wrong takes the place of how many tasks stand where, as far as there is room for both.

use crate::adapters::spool::Lack;
use crate::adapters::spool::reader::Serving;
use crate::domain::run::TaskState;
use crate::shells::dashboard::look::{Row, Tone};
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::screens::Screen;
use crate::shells::dashboard::view::one_line;
use crate::shells::dashboard::words::fill;
use crate::shells::text::{cells, cut};

/// How many cells say something of what is wrong.
const ENOUGH: usize = 40;

/// The line at the top: what runs here, who looks, and what waits.
pub(super) fn first(model: &Model) -> Row {
    let words = model.look.words;
    // On a low screen what is wrong stands in the place of the name.
    let named = !model.is_low() || (model.library_problems.is_empty() && model.cuts == 0);
    let mut row = if named { Row::new().put(" spoolgate", Tone::Title).gap(2) } else { Row::new().gap(1) };
    row = match &model.daemon {
        _ if !model.daemon_known => row.put(words.daemon_unknown, Tone::Dim),
        Some(Serving { lacks: None, .. }) => row.put(words.daemon_up, Tone::Ok),
        Some(Serving { lacks: Some(Lack::Room), .. }) => row.put(words.daemon_full, Tone::Danger),
        Some(Serving { lacks: Some(_), .. }) => row.put(words.daemon_waits, Tone::Danger),
        None => row.put(words.daemon_down, Tone::Danger),
    };
    if model.watch_lost {
        row = row.gap(2).put(words.watch_lost, Tone::Warn);
    }
    let mut me = model.me.actor.user.clone();
    if model.is_personal() {
        me = format!("{me} ({})", words.personal);
    }
    if model.readonly {
        me = format!("{me} [{}]", words.readonly_short);
    }
    let now = model.now.in_zone(&model.zone);
    let clock = now.get(11..16).unwrap_or_default();
    let right = Row::new().put(&me, Tone::Strong).gap(2).put(clock, Tone::Plain).gap(1);
    let width = usize::from(model.size.0);
    let counts = counts(model);
    if row.used().saturating_add(2).saturating_add(counts.used()).saturating_add(2).saturating_add(right.used())
        <= width
    {
        row = row.gap(2).join(counts);
    }
    if model.is_low()
        && let Some(notice) =
            notice(model, width.saturating_sub(row.used().saturating_add(right.used()).saturating_add(1)))
    {
        row = row.gap(1).join(notice);
    }
    row.to(width.saturating_sub(right.used())).join(right)
}

/// How many tasks stand where.
fn counts(model: &Model) -> Row {
    let words = model.look.words;
    let count = |state| model.count(state).to_string();
    let new = if model.count(TaskState::New) > 0 { Tone::Warn } else { Tone::Dim };
    let row = Row::new()
        .put(&format!("{} {}", words.new, count(TaskState::New)), new)
        .put(&format!("  {} {}", words.ready, count(TaskState::Ready)), Tone::Plain)
        .put(&format!("  {} {}", words.running, count(TaskState::Running)), Tone::Run)
        .put(&format!("  {} {}", words.done_state, model.ended), Tone::Plain);
    if model.failed > 0 { row.put(&format!(" x{}", model.failed), Tone::Fail) } else { row }
}

/// The line of views, and what of them is shown.
pub(super) fn views(model: &Model) -> Row {
    let words = model.look.words;
    let here = match model.screens.get(1).unwrap_or_else(|| model.screen()) {
        Screen::Hosts(_) | Screen::Host(..) => 1,
        Screen::History(_) => 2,
        Screen::Audit(_) => 3,
        Screen::Templates(_) => 4,
        _ => 0,
    };
    let mut row = Row::new().gap(1);
    for (n, name) in [words.board, words.hosts, words.history, words.audit, words.templates].into_iter().enumerate() {
        let tone = if n == here { Tone::Strong } else { Tone::Dim };
        row = row.put(&format!("{}:", n.saturating_add(1)), Tone::Key).put(name, tone).gap(1);
    }
    let filter = match model.screen() {
        Screen::Board(board) => &board.list.filter,
        Screen::Hosts(list)
        | Screen::History(list)
        | Screen::Audit(list)
        | Screen::Templates(list)
        | Screen::Refused(list) => &list.filter,
        Screen::Task(screen) => &screen.shape.filter,
        _ => return row,
    };
    if !filter.is_empty() {
        row = row.gap(2).put(&format!("{} {filter}", words.filter), Tone::Warn);
    }
    let failed = match model.screen() {
        Screen::Board(board) => board.list.failed_only,
        Screen::Hosts(list) | Screen::History(list) => list.failed_only,
        Screen::Task(screen) => screen.shape.failed_only,
        _ => false,
    };
    if failed {
        row = row.gap(2).put(words.failed_only, Tone::Warn);
    }
    if let Screen::Task(screen) = model.screen()
        && let Some(only) = &screen.shape.only
    {
        row = row.gap(2).put(&fill(words.only_hosts, &[&only.len().to_string()]), Tone::Warn);
    }
    if let Screen::Board(board) = model.screen()
        && !board.marks.is_empty()
    {
        row = row.gap(2).put(&fill(words.marked, &[&board.marks.len().to_string()]), Tone::Key);
    }
    row
}

/// What somebody should see to, in at most `room` cells; `None` when there is nothing.
pub(super) fn notice(model: &Model, room: usize) -> Option<Row> {
    let words = model.look.words;
    let mut row = Row::new();
    if let Some(first) = model.library_problems.first() {
        let more = model.library_problems.len().saturating_sub(1);
        let more = if more > 0 { format!(" (+{more})") } else { String::new() };
        let said = fill(words.configuration_broken, &[&one_line(first)]);
        let end = format!("{more} {}", words.problem_in_help);
        // Where there is hardly room, what is wrong is worth more than where all of it stands.
        let end = if room < cells(&end).saturating_add(ENOUGH) { more } else { end };
        row = row
            .gap(1)
            .put(&cut(&said, room.saturating_sub(cells(&end).saturating_add(2))), Tone::Fail)
            .put(&end, Tone::Dim)
            .gap(1);
    }
    if model.cuts > 0 {
        let said = fill(words.audit_cut, &[&model.cuts.to_string()]);
        let left = room.saturating_sub(row.used().saturating_add(2));
        row = row.gap(1).put(&cut(&said, left), Tone::Danger).gap(1);
    }
    let refused = (model.refused.0 > 0).then(|| fill(words.refused_files, &[&model.refused.0.to_string()]));
    let limited = model.daemon.as_ref().and_then(|daemon| daemon.limited.as_ref());
    let limited = limited.map(|(people, first)| fill(words.at_limit, &[&one_line(first), &people.to_string()]));
    for said in limited.into_iter().chain(refused) {
        let left = room.saturating_sub(row.used().saturating_add(2));
        if row.used() == 0 || cells(&said) <= left {
            row = row.gap(1).put(&cut(&said, left), Tone::Warn).gap(1);
        }
    }
    (row.used() > 0).then_some(row)
}
