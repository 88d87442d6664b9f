//! The approval: exactly what will run.
//!
//! **Invariant:** pure; nothing of the plan is left away or cut without a sign: long lines are wrapped, hidden characters
//! are written out, and every section can be scrolled to its end.

use ratatui::layout::{Position, Rect};

use crate::base::ids::HostName;
use crate::domain::inventory::host::Connection;
use crate::domain::level::Level;
use crate::domain::plan::diff::{differences, script_changes};
use crate::domain::plan::{Part, Plan, PlannedStep};
use crate::domain::run::Run;
use crate::domain::template::Trigger;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::dialog::{Approval, Closed, DIFF, SECTIONS};
use crate::shells::dashboard::layout::{LOW, ScreenSize};
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::phrases::span;
use crate::shells::dashboard::ui::Ui;
use crate::shells::dashboard::view::dialogs::hint;
use crate::shells::dashboard::words::{fill, names};
use crate::shells::text::{cells, cut, sentence, shown, wrapped};

/// Where the parts of the window stand.
struct Parts {
    window: Rect,
    facts: Rect,
    tabs: Rect,
    section: Rect,
    notes: Rect,
    typed: Rect,
    /// Whether lines are drawn between them.
    lines: bool,
}

/// How many rows the notes take: on a low screen one, where the section is worth more; what does not fit stands in the
/// first section.
fn notes_count(cx: Context<'_>, approval: &Approval) -> usize {
    let Some((_, plan)) = &approval.shown else { return 0 };
    let most = match cx.size.height {
        30.. => 8,
        LOW.. => 3,
        _ => 1,
    };
    usize::from(approval.was.is_some())
        .saturating_add(plan.warnings().len())
        .saturating_add(cx.world.risk(plan).reasons.len())
        .min(most)
}

fn parts(cx: Context<'_>, approval: &Approval) -> Parts {
    let ScreenSize { width, height } = cx.size;
    let low = cx.size.is_low();
    // Lines between the parts only where there is room for them.
    let line = u16::from(!low);
    let window = Rect { x: 0, y: 0, width: width.min(160), height };
    let inside = Rect { x: 2, y: 1, width: window.width.saturating_sub(4), height: height.saturating_sub(2) };
    let facts = Rect { height: if low { 2 } else { 4 }, ..inside };
    let tabs = Rect { y: facts.bottom().saturating_add(line), height: 1, ..inside };
    let count = u16::try_from(notes_count(cx, approval)).unwrap_or(0);
    let typed = Rect { y: inside.bottom().saturating_sub(3), height: 3, ..inside };
    let notes = Rect { y: typed.y.saturating_sub(count.saturating_add(line)), height: count, ..inside };
    let bottom = if count > 0 { notes.y } else { typed.y }.saturating_sub(line);
    let section = Rect { y: tabs.bottom(), height: bottom.saturating_sub(tabs.bottom()), ..inside };
    Parts { window, facts, tabs, section, notes, typed, lines: !low }
}

/// How many rows the section that is seen has, and how many of them are seen.
pub(in crate::shells::dashboard) fn section_size(cx: Context<'_>, approval: &Approval) -> (usize, usize) {
    let area = parts(cx, approval).section;
    let rows = section(cx, approval, approval.section, usize::from(area.width));
    (rows.len(), usize::from(area.height))
}

pub(super) fn draw(pen: &mut Pen<'_>, cx: Context<'_>, ui: &Ui, approval: &Approval) -> Option<Position> {
    let words = pen.look.words;
    let parts = parts(cx, approval);
    let changed = approval.was.is_some();
    let closed = approval.closed(cx.world);
    let refused = matches!(closed, Some(Closed::Unresolvable(_)));
    let tone = if changed || refused { Tone::Danger } else { Tone::Title };
    let title = match (approval.changed, changed) {
        (true, _) => words.approve_changed.to_owned(),
        (false, true) => words.approve_drifted.to_owned(),
        (false, false) if ui.queue.is_empty() => words.approve_title.to_owned(),
        (false, false) => {
            format!("{} ({})", words.approve_title, fill(words.queue_left, &[&ui.queue.len().to_string()]))
        }
    };
    pen.window(parts.window, &title, tone);
    let (Some(run), Some((digest, plan))) = (cx.world.run(approval.id), &approval.shown) else {
        pen.row(parts.facts, &Row::new().put(words.reading, Tone::Dim));
        return None;
    };
    pen.rows(parts.facts, &facts(cx, run, plan, &digest.to_string(), usize::from(parts.facts.width)));
    if parts.lines {
        pen.divide(parts.window, parts.tabs.y.saturating_sub(1));
        pen.divide(parts.window, parts.typed.y.saturating_sub(1));
    }
    pen.row(parts.tabs, &tabs(cx, approval, plan));
    let rows = section(cx, approval, approval.section, usize::from(parts.section.width));
    pen.rows(parts.section, rows.iter().skip(approval.tops[approval.section]));
    if parts.notes.height > 0 {
        if parts.lines {
            pen.divide(parts.window, parts.notes.y.saturating_sub(1));
        }
        pen.rows(parts.notes, &notes(cx, approval, plan, usize::from(parts.notes.width)));
    }
    typed(pen, cx, ui, approval, closed, parts.typed)
}

fn facts(cx: Context<'_>, run: &Run, plan: &Plan, digest: &str, width: usize) -> Vec<Row> {
    let words = cx.words;
    let level = cx.world.risk(plan).level;
    let tone = match level {
        Level::Low => Tone::Plain,
        Level::Medium => Tone::Warn,
        Level::High => Tone::Fail,
    };
    let wanted: u32 = run.needs.iter().map(|need| need.approvals).max().unwrap_or(1);
    let vote = fill(words.vote_of, &[&run.approvals.len().saturating_add(1).to_string(), &wanted.to_string()]);
    let right = Row::new().put(names::level(words, level), tone).gap(2).put(&vote, Tone::Plain);
    let first = Row::new()
        .put(&run.id.to_string(), Tone::Title)
        .gap(1)
        .put(&cut(&shown(&plan.task_name), width.saturating_sub(right.used().saturating_add(10))), Tone::Strong);
    let first = first.to(width.saturating_sub(right.used())).join(right);
    let second = Row::new().put(&cut(&shown(&submitted(cx, run)), width), Tone::Plain);
    let third = Row::new().put("plan ", Tone::Dim).put(digest, Tone::Plain);
    let times = Row::new().put(&times(cx, plan), Tone::Plain);
    if cx.size.is_low() {
        return vec![first, Row::new().put(&plan.digest().short(), Tone::Dim).gap(1).join(times)];
    }
    vec![first, second, third, times]
}

/// Who submitted it, by the kernel and by the file.
fn submitted(cx: Context<'_>, run: &Run) -> String {
    let words = cx.words;
    let file = format!("{}.json", run.accepted.name);
    let by = fill(words.submitted_by, &[&run.accepted.by.to_string(), &file, &cx.world.clock(run.accepted_at)]);
    let claim = run.accepted.claims.submitter.as_ref().map(|claim| fill(words.claims, &[claim]));
    let unproved = if run.accepted.unproved { words.unproved_why } else { "" };
    format!("{by} {}{unproved}", claim.unwrap_or_default())
}

/// When it may begin, and until when.
fn times(cx: Context<'_>, plan: &Plan) -> String {
    let words = cx.words;
    let start = match plan.exec_time {
        Some(time) if time > cx.world.now() => {
            fill(words.runs_at, &[&time.in_zone(cx.world.zone()), &span(time.0.saturating_sub(cx.world.now().0))])
        }
        Some(time) => fill(words.runs_at_once_after, &[&time.in_zone(cx.world.zone())]),
        None => words.runs_at_once.to_owned(),
    };
    let end = plan.not_after.map(|time| fill(words.not_after_is, &[&time.in_zone(cx.world.zone())]));
    format!("{start} {}", end.unwrap_or_default()).trim_end().to_owned()
}

fn section_names(cx: Context<'_>, plan: &Plan) -> [String; SECTIONS] {
    let words = cx.words;
    [
        words.section_commands.to_owned(),
        format!("{} {}", words.section_hosts, plan.hosts.len()),
        format!("{} {}", words.section_params, plan.env.len().saturating_add(plan.secrets.len())),
        words.section_diff.to_owned(),
        "JSON".to_owned(),
    ]
}

fn tabs(cx: Context<'_>, approval: &Approval, plan: &Plan) -> Row {
    let mut row = Row::new();
    for (n, name) in section_names(cx, plan).into_iter().enumerate() {
        let sign = if approval.read[n] { "+" } else { " " };
        let label = format!("{sign}{} {name}", n.saturating_add(1));
        row = if n == approval.section {
            row.put(&format!("[{label} ]"), Tone::Strong)
        } else {
            row.put(&format!(" {label}  "), Tone::Dim)
        };
    }
    row
}

/// The rows of a section.
fn section(cx: Context<'_>, approval: &Approval, section: usize, width: usize) -> Vec<Row> {
    let Some((_, plan)) = &approval.shown else { return Vec::new() };
    let words = cx.words;
    match section {
        0 => cx.world.run(approval.id).map_or_else(Vec::new, |run| commands(cx, run, plan, width)),
        1 => hosts(cx, approval, plan, width),
        2 => {
            let mut rows = Vec::new();
            for (name, value) in &plan.env {
                let label = plan.labels.get(name).map(|label| format!(" ({label})")).unwrap_or_default();
                block(&mut rows, &format!("{name}{label} = "), value, width);
            }
            for (name, secret) in &plan.secrets {
                block(&mut rows, &format!("{name} = "), &format!("secret:{secret}"), width);
            }
            for (name, pinned) in &plan.commits {
                let commit = format!("{} {} {}", pinned.tag, pinned.commit, pinned.repository);
                block(&mut rows, &format!("{name} = "), &commit, width);
            }
            if rows.is_empty() {
                rows.push(Row::new().put(words.no_params, Tone::Dim));
            }
            rows
        }
        DIFF => diff(cx, approval, plan, width),
        _ => {
            let mut rows = Vec::new();
            let text = cx.world.run(approval.id).map_or("", |run| run.accepted.submission.as_str());
            for line in text.split('\n') {
                let line = line.replace('\t', "    ");
                rows.extend(wrapped(&shown(&line), width).iter().map(|line| Row::new().put(line, Tone::Plain)));
            }
            rows
        }
    }
}

/// What differs from what was on the screen or was submitted, and from the last run of the same template.
fn diff(cx: Context<'_>, approval: &Approval, plan: &Plan, width: usize) -> Vec<Row> {
    let words = cx.words;
    let mut rows = Vec::new();
    if let Some(was) = &approval.was {
        let head = if approval.changed { words.approve_changed } else { words.approve_drifted };
        rows.push(Row::new().put(head, Tone::Danger));
        changes(cx, was, plan, width, &mut rows);
        rows.push(Row::new());
    }
    match cx.world.previous(approval.id) {
        Some(Some((id, before))) => {
            rows.push(Row::new().put(&fill(words.against, &[&id.to_string()]), Tone::Dim));
            changes(cx, before, plan, width, &mut rows);
        }
        _ if approval.is_reading(cx.world) => rows.push(Row::new().put(words.reading, Tone::Dim)),
        _ => rows.push(Row::new().put(words.no_previous, Tone::Dim)),
    }
    rows
}

/// Everything that differs between two plans; of scripts the lines.
fn changes(cx: Context<'_>, was: &Plan, now: &Plan, width: usize, rows: &mut Vec<Row>) {
    let words = cx.words;
    let mut put = |sign: &str, tone: Tone, text: &str| {
        for line in wrapped(&shown(text), width.saturating_sub(4)) {
            rows.push(Row::new().gap(2).put(sign, tone).put(&line, Tone::Plain));
        }
    };
    let scripts = script_changes(was, now);
    for change in &scripts {
        let step = fill(words.lines_changed, &[&change.step]);
        put("", Tone::Key, &format!("{step} {}", fill(words.line_number, &[&change.line.to_string()])));
        change.was.iter().for_each(|line| put("- ", Tone::Fail, line));
        change.now.iter().for_each(|line| put("+ ", Tone::Ok, line));
    }
    let found = differences(was, now);
    for difference in &found {
        // Scripts were shown line by line, and their digests say no more.
        let pointer = difference.pointer.as_str();
        let of_script = pointer.starts_with("/scripts/") || pointer.ends_with("/script") || pointer == "/template/file";
        if of_script && !scripts.is_empty() {
            continue;
        }
        put("", Tone::Key, pointer);
        if let Some(was) = &difference.was {
            put("- ", Tone::Fail, was);
        }
        if let Some(now) = &difference.now {
            put("+ ", Tone::Ok, now);
        }
    }
    if found.is_empty() {
        rows.push(Row::new().put(words.same_plan, Tone::Ok));
    }
}

fn commands(cx: Context<'_>, run: &Run, plan: &Plan, width: usize) -> Vec<Row> {
    let words = cx.words;
    let mut rows = Vec::new();
    let prose = |text: &str, tone: Tone, rows: &mut Vec<Row>| {
        rows.extend(sentence(&shown(text), width).iter().map(|line| Row::new().put(line, tone)));
    };
    for warning in plan.warnings() {
        prose(&format!("! {warning}"), Tone::Warn, &mut rows);
    }
    if cx.size.is_low() {
        // The lines above have no room for these.
        for reason in cx.world.risk(plan).reasons {
            prose(&format!("! {reason}"), Tone::Warn, &mut rows);
        }
        prose(&submitted(cx, run), Tone::Plain, &mut rows);
        prose(&format!("plan {}", plan.digest()), Tone::Dim, &mut rows);
    }
    if cx.size.width < 100 || plan.not_after.is_some() {
        prose(&times(cx, plan), Tone::Plain, &mut rows);
    }
    if plan.exec_time.is_some() {
        prose(&fill(words.missed_is, &[names::missed(words, plan.missed)]), Tone::Dim, &mut rows);
    }
    for group in &plan.groups {
        let head = fill(words.group_head, &[&group.number.to_string(), &group.hosts.len().to_string()]);
        rows.push(Row::new().put(&head, Tone::Strong));
        if group.batches.len() > 1 {
            let sizes = group.batches.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            prose(&fill(words.in_batches, &[&sizes, &seconds(plan.batch_interval_s)]), Tone::Warn, &mut rows);
            if plan.batch_gate {
                prose(words.gate_waits, Tone::Warn, &mut rows);
            }
        }
        if let Some(most) = group.batch_max_fail.first() {
            let most = group.batch_max_fail.iter().max().unwrap_or(most);
            prose(&fill(words.batch_max_fail_is, &[&most.to_string()]), Tone::Warn, &mut rows);
        }
        if let Some(most) = group.max_fail {
            prose(&fill(words.max_fail_is, &[&most.to_string()]), Tone::Warn, &mut rows);
        }
        for (n, step) in group.steps.iter().enumerate() {
            step_rows(cx, plan, step, n, width, &mut rows);
        }
    }
    rows
}

fn seconds(count: u64) -> String {
    span(i64::try_from(count.saturating_mul(1000)).unwrap_or(i64::MAX))
}

/// Everything that a step says of itself.
fn step_rows(cx: Context<'_>, plan: &Plan, step: &PlannedStep, n: usize, width: usize, rows: &mut Vec<Row>) {
    let words = cx.words;
    let mut facts = Vec::new();
    match &step.part {
        Part::Step => {}
        Part::Handler(of) => facts.push(fill(words.handles, &[of.as_str()])),
        Part::Rollback { of, partial } => {
            facts.push(fill(if *partial { words.undoes_partial } else { words.undoes }, &[of.as_str()]));
        }
    }
    facts.extend(step.account.as_ref().map(|account| fill(words.as_account, &[account.as_str()])));
    facts.push(match step.timeout_s {
        0 => words.no_limit.to_owned(),
        limit => fill(words.limit, &[&seconds(limit)]),
    });
    facts.push(fill(
        words.step_facts,
        &[names::on_failure(words, step.on_failure), &step.retries.to_string(), &seconds(step.retry_delay_s)],
    ));
    let mut word = |holds: bool, word: String| facts.extend(holds.then_some(word));
    word(step.idle_timeout_s > 0, format!("idle_timeout {}", seconds(step.idle_timeout_s)));
    word(step.trigger != Trigger::Auto, names::trigger(words, step.trigger).to_owned());
    word(step.idempotent, "idempotent".to_owned());
    word(step.nice > 0, format!("nice {}", step.nice));
    rows.push(Row::new().gap(1).put(&format!("{} {}", n.saturating_add(1), step.name), Tone::Title));
    let facts = sentence(&shown(&facts.join(", ")), width.saturating_sub(3));
    rows.extend(facts.iter().map(|line| Row::new().gap(3).put(line, Tone::Dim)));
    if !step.args.is_empty() {
        let args = step.args.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" ");
        block(rows, "   argv: ", &args, width);
    }
    for (name, value) in &step.env {
        block(rows, &format!("   env {name} = "), value, width);
    }
    for (name, secret) in &step.secrets {
        block(rows, &format!("   env {name} = "), &format!("secret:{secret}"), width);
    }
    for (n, file) in step.files.iter().flat_map(|file| file.lines(&plan.texts)).enumerate() {
        block(rows, if n == 0 { "   files " } else { "         " }, &file, width);
    }
    for limit in step.limits() {
        block(rows, "   at most ", &limit, width);
    }
    if let Some(when) = &step.when {
        block(rows, "   when ", when, width);
    }
    if !step.not_on.is_empty() {
        let hosts = step.not_on.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ");
        block(rows, &format!("   {} ", words.not_on), &hosts, width);
    }
    let script = plan.scripts.get(&step.script).map_or("", String::as_str);
    for line in script.strip_suffix('\n').unwrap_or(script).split('\n') {
        let line = line.replace('\t', "    ");
        for (n, piece) in wrapped(&shown(&line), width.saturating_sub(5)).iter().enumerate() {
            // A line that goes on in the next row is one line still.
            let sign = if n == 0 { "| " } else { "\\ " };
            rows.push(Row::new().gap(3).put(sign, Tone::Dim).put(piece, Tone::Plain));
        }
    }
}

/// A label and a value that may be longer than a line.
fn block(rows: &mut Vec<Row>, label: &str, value: &str, width: usize) {
    let indent = cells(&shown(label)).min(width / 2);
    // A line feed is written out: what only looks like two lines is told from what is.
    let value = shown(&value.replace('\n', "<LF>"));
    for (n, line) in wrapped(&value, width.saturating_sub(indent)).iter().enumerate() {
        let row = if n == 0 { Row::new().put(label, Tone::Dim) } else { Row::new().gap(indent) };
        rows.push(row.put(line, Tone::Plain));
    }
}

/// Writes a value as one word, so that its ends can be seen.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

fn hosts(cx: Context<'_>, approval: &Approval, plan: &Plan, width: usize) -> Vec<Row> {
    let words = cx.words;
    let before = cx.world.previous(approval.id).and_then(Option::as_ref).map(|(_, plan)| &plan.hosts);
    let mut rows = Vec::new();
    for group in &plan.groups {
        let head = fill(words.group_head, &[&group.number.to_string(), &group.hosts.len().to_string()]);
        rows.push(Row::new().put(&head, Tone::Strong));
        for name in &group.hosts {
            let Some(host) = plan.hosts.get(name) else { continue };
            let is_new = before.is_some_and(|hosts| !hosts.contains_key(name));
            let keyless = host.connection == Connection::Ssh && host.host_keys.is_empty();
            let mut facts = vec![match host.connection {
                Connection::Local => words.this_machine.to_owned(),
                Connection::Ssh => format!("{}@{}:{}", host.user, host.address, host.port),
            }];
            facts.extend(host.jump.iter().map(|hop| format!("< {}@{}:{}", hop.user, hop.address, hop.port)));
            facts.extend((!host.environment.is_empty()).then(|| host.environment.clone()));
            facts.extend(is_new.then(|| words.new_host.to_owned()));
            facts.extend(keyless.then(|| words.key_missing_long.to_owned()));
            let tone = match (keyless, is_new) {
                (true, _) => Tone::Fail,
                (_, true) => Tone::Warn,
                _ => Tone::Plain,
            };
            let lines = sentence(&shown(&format!("{name}  {}", facts.join("  "))), width.saturating_sub(4));
            for (n, line) in lines.iter().enumerate() {
                rows.push(Row::new().gap(if n == 0 { 1 } else { 4 }).put(line, tone));
            }
        }
    }
    rows
}

fn notes(cx: Context<'_>, approval: &Approval, plan: &Plan, width: usize) -> Vec<Row> {
    let words = cx.words;
    let mut rows = Vec::new();
    if let Some(was) = &approval.was {
        let count = differences(was, plan).len().to_string();
        let said =
            if approval.changed { fill(words.changed_underneath, &[&count]) } else { words.approve_drifted.to_owned() };
        rows.push(Row::new().put(&said, Tone::Danger));
    }
    for warning in plan.warnings() {
        rows.push(Row::new().put("! ", Tone::Warn).put(&cut(&shown(&warning), width.saturating_sub(2)), Tone::Warn));
    }
    for reason in cx.world.risk(plan).reasons {
        rows.push(Row::new().put("! ", Tone::Warn).put(&reason, Tone::Plain));
    }
    rows
}

fn typed(
    pen: &mut Pen<'_>,
    cx: Context<'_>,
    ui: &Ui,
    approval: &Approval,
    closed: Option<Closed>,
    area: Rect,
) -> Option<Position> {
    let words = pen.look.words;
    let keys = [
        ("Tab", words.hint_section),
        ("Up/Down", words.hint_scroll),
        ("Ctrl-y", words.hint_copy_digest),
        ("Ctrl-x", words.hint_reject),
        ("Esc", words.hint_leave),
    ];
    pen.row(Rect { y: area.bottom().saturating_sub(1), height: 1, ..area }, &hint(&keys, usize::from(area.width)));
    if let Some(closed) = closed.filter(|closed| *closed != Closed::Shut) {
        let lines = sentence(&shown(&why_closed(cx, approval, closed.clone())), usize::from(area.width));
        let tone = closed_tone(&closed);
        let rows: Vec<Row> = lines.iter().take(2).map(|line| Row::new().put(line, tone)).collect();
        pen.rows(Rect { height: 2, ..area }, &rows);
        return None;
    }
    field(pen, cx, ui, approval, area)
}

/// What is to be typed, and what is typed; what was said of the last try stands beside it.
fn field(pen: &mut Pen<'_>, cx: Context<'_>, ui: &Ui, approval: &Approval, area: Rect) -> Option<Position> {
    let words = pen.look.words;
    let phrase = approval.phrase(cx.world)?;
    let level = approval.shown.as_ref().map(|(_, plan)| cx.world.risk(plan).level);
    let label = match level {
        Some(Level::High) => fill(words.type_high, &[&phrase]),
        Some(Level::Medium) => fill(words.type_medium, &[&phrase]),
        _ => fill(words.type_low, &[&phrase]),
    };
    pen.row(area, &Row::new().put(&label, Tone::Key));
    let line = Rect { y: area.y.saturating_add(1), height: 1, ..area };
    let known = [words.no_paste, words.not_the_phrase];
    let said = ui.said.as_ref().filter(|(said, _)| known.contains(&said.as_str()));
    if approval.is_shut(cx.world.now()) {
        let (said, tone) = said.map_or((words.shut, Tone::Warn), |(said, tone)| (said.as_str(), *tone));
        pen.row(line, &Row::new().put("x ", Tone::Fail).put(said, tone));
        return None;
    }
    let typed = Row::new().put("> ", Tone::Key).put(approval.field.text(), Tone::Strong);
    let typed = match said.filter(|_| approval.field.text().is_empty()) {
        Some((said, _)) => typed.gap(1).put(said, Tone::Dim),
        None => typed,
    };
    pen.row(line, &typed);
    let x = line.x.saturating_add(2).saturating_add(u16::try_from(approval.field.position().1).ok()?);
    Some(Position { x: x.min(line.right().saturating_sub(1)), y: line.y })
}

/// Says why nothing can be typed.
fn why_closed(cx: Context<'_>, approval: &Approval, closed: Closed) -> String {
    let words = cx.words;
    match closed {
        Closed::Reading => words.reading.to_owned(),
        Closed::NotNew(state) => fill(words.not_new, &[names::state(words, state)]),
        Closed::NotAllowed(why) => why,
        Closed::Given => words.already_voted.to_owned(),
        Closed::Unresolvable(problems) => fill(words.cannot_be_planned, &[&problems.join("; ")]),
        Closed::Shut => words.shut.to_owned(),
        Closed::Pause(seconds) => fill(words.opens_in, &[&seconds.to_string()]),
        Closed::Unread(sections) => {
            let names = approval.shown.as_ref().map(|(_, plan)| section_names(cx, plan));
            let unread = sections
                .iter()
                .map(|n| format!("{} {}", n.saturating_add(1), names.as_ref().map_or("", |names| names[*n].as_str())));
            fill(words.still_unread, &[&unread.collect::<Vec<_>>().join(", ")])
        }
    }
}

fn closed_tone(closed: &Closed) -> Tone {
    match closed {
        Closed::Reading => Tone::Dim,
        Closed::NotNew(_) | Closed::Shut | Closed::Pause(_) | Closed::Unread(_) => Tone::Warn,
        Closed::NotAllowed(_) | Closed::Unresolvable(_) => Tone::Fail,
        Closed::Given => Tone::Ok,
    }
}
