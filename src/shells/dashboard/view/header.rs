//! The lines above every screen: what runs here, who looks, what waits, and what somebody should see to.
//!
//! **Invariant:** pure; nothing that is wrong takes the place of how many tasks stand where, as far as there is room for both.

use crate::adapters::spool::Lack;
use crate::adapters::spool::reader::Serving;
use crate::domain::run::TaskState;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::look::{Row, Tone};
use crate::shells::dashboard::phrases::one_line;
use crate::shells::dashboard::screen::table;
use crate::shells::dashboard::ui::Ui;
use crate::shells::dashboard::words::fill;
use crate::shells::text::{cells, cut};

/// How many cells say something of what is wrong.
const ENOUGH: usize = 40;

/// The line at the top: what runs here, who looks, and what waits.
pub(super) fn first(cx: Context<'_>) -> Row {
    let words = cx.words;
    // On a low screen what is wrong stands in the place of the name.
    let named = !cx.size.is_low() || (cx.world.library_problems().is_empty() && cx.world.cuts() == 0);
    let mut row = if named { Row::new().put(" spoolgate", Tone::Title).gap(2) } else { Row::new().gap(1) };
    row = match cx.world.daemon() {
        _ if !cx.world.is_daemon_known() => row.put(words.daemon_unknown, Tone::Dim),
        Some(Serving { lacks: None, .. }) => row.put(words.daemon_up, Tone::Ok),
        Some(Serving { lacks: Some(Lack::Room), .. }) => row.put(words.daemon_full, Tone::Danger),
        Some(Serving { lacks: Some(_), .. }) => row.put(words.daemon_waits, Tone::Danger),
        None => row.put(words.daemon_down, Tone::Danger),
    };
    if cx.world.is_watch_lost() {
        row = row.gap(2).put(words.watch_lost, Tone::Warn);
    }
    let mut me = cx.world.me().actor.user.clone();
    if cx.world.is_personal() {
        me = format!("{me} ({})", words.personal);
    }
    if cx.readonly {
        me = format!("{me} [{}]", words.readonly_short);
    }
    let now = cx.world.now().in_zone(cx.world.zone());
    let clock = now.get(11..16).unwrap_or_default();
    let right = Row::new().put(&me, Tone::Strong).gap(2).put(clock, Tone::Plain).gap(1);
    let width = usize::from(cx.size.width);
    let counts = counts(cx);
    if row.used().saturating_add(2).saturating_add(counts.used()).saturating_add(2).saturating_add(right.used())
        <= width
    {
        row = row.gap(2).join(counts);
    }
    if cx.size.is_low()
        && let Some(notice) =
            notice(cx, width.saturating_sub(row.used().saturating_add(right.used()).saturating_add(1)))
    {
        row = row.gap(1).join(notice);
    }
    row.to(width.saturating_sub(right.used())).join(right)
}

/// How many tasks stand where.
fn counts(cx: Context<'_>) -> Row {
    let words = cx.words;
    let count = |state| cx.world.count(state).to_string();
    let new = if cx.world.count(TaskState::New) > 0 { Tone::Warn } else { Tone::Dim };
    let row = Row::new()
        .put(&format!("{} {}", words.new, count(TaskState::New)), new)
        .put(&format!("  {} {}", words.ready, count(TaskState::Ready)), Tone::Plain)
        .put(&format!("  {} {}", words.running, count(TaskState::Running)), Tone::Run)
        .put(&format!("  {} {}", words.done_state, cx.world.count(TaskState::Done)), Tone::Plain);
    if cx.world.failed() > 0 { row.put(&format!(" x{}", cx.world.failed()), Tone::Fail) } else { row }
}

/// The line of views, and what of them is shown.
pub(super) fn views(ui: &Ui) -> Row {
    let words = ui.look.words;
    let here = ui.view();
    let mut row = Row::new().gap(1);
    for (n, (named, title)) in table::views().enumerate() {
        let tone = if named.word == here { Tone::Strong } else { Tone::Dim };
        row = row.put(&format!("{}:", n.saturating_add(1)), Tone::Key).put(title(words), tone).gap(1);
    }
    ui.screen().notes(words).iter().fold(row, |row, (note, tone)| row.gap(2).put(note, *tone))
}

/// What somebody should see to, in at most `room` cells; `None` when there is nothing.
pub(super) fn notice(cx: Context<'_>, room: usize) -> Option<Row> {
    let words = cx.words;
    let mut row = Row::new();
    if let Some(first) = cx.world.library_problems().first() {
        let more = cx.world.library_problems().len().saturating_sub(1);
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
    if cx.world.cuts() > 0 {
        let said = fill(words.audit_cut, &[&cx.world.cuts().to_string()]);
        let left = room.saturating_sub(row.used().saturating_add(2));
        row = row.gap(1).put(&cut(&said, left), Tone::Danger).gap(1);
    }
    let refused =
        (cx.world.refused_count() > 0).then(|| fill(words.refused_files, &[&cx.world.refused_count().to_string()]));
    let limited = cx.world.daemon().and_then(|daemon| daemon.limited.as_ref());
    let limited = limited.map(|(people, first)| fill(words.at_limit, &[&one_line(first), &people.to_string()]));
    for said in limited.into_iter().chain(refused) {
        let left = room.saturating_sub(row.used().saturating_add(2));
        if row.used() == 0 || cells(&said) <= left {
            row = row.gap(1).put(&cut(&said, left), Tone::Warn).gap(1);
        }
    }
    (row.used() > 0).then_some(row)
}
