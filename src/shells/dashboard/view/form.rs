//! The form of a new task, the file it makes, and the plan it comes to.
//!
//! **Invariant:** pure; a field says what is wrong with it while it is typed.

use ratatui::layout::{Position, Rect};

use crate::domain::inventory::host::Host;
use crate::domain::library::Library;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::filter::matches;
use crate::shells::dashboard::form::{FieldKind, Form, Picker, Tab};
use crate::shells::dashboard::layout::centred;
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::ui::Ui;
use crate::shells::dashboard::view::dialogs::hint;
use crate::shells::dashboard::words::{fill, names};
use crate::shells::text::{cells, fit, sentence, shown, skip_cells, wrapped};

const FORM_WIDTH: u16 = 160;
const LABEL: usize = 27;
const LINES_ROWS: usize = 6;

/// Words that choose hosts and pass the filter: names, groups, tags, environments.
pub(in crate::shells::dashboard) fn picker_items(library: &Library, picker: &Picker) -> Vec<String> {
    let filter = picker.filter.text().to_lowercase();
    let inventory = &library.inventory;
    let groups = inventory.groups.keys().map(|name| format!("group:{name}"));
    let mut tags: Vec<String> =
        inventory.hosts.values().flat_map(|host| &host.tags).map(|tag| format!("tag:{tag}")).collect();
    tags.extend(
        inventory.hosts.values().map(Host::environment).filter(|env| !env.is_empty()).map(|env| format!("env:{env}")),
    );
    tags.sort();
    tags.dedup();
    let names = inventory.hosts.keys().map(ToString::to_string);
    groups.chain(tags).chain(names).filter(|word| filter.is_empty() || matches(word, &filter)).collect()
}

pub(super) fn draw(pen: &mut Pen<'_>, cx: Context<'_>, ui: &Ui, form: &Form) -> Option<Position> {
    let words = pen.look.words;
    let screen = pen.buffer.area;
    let window = Rect { width: screen.width.min(FORM_WIDTH), ..screen };
    let title = fill(words.form_title, &[&form.title]);
    let inside = pen.window(window, &title, Tone::Title);
    pen.row(inside, &tabs(cx, form));
    let notice = notice(form, inside);
    let below = u16::try_from(notice.len()).unwrap_or(0).saturating_add(3);
    let body =
        Rect { y: inside.y.saturating_add(2), height: inside.height.saturating_sub(below.saturating_add(2)), ..inside };
    let cursor = match form.tab {
        Tab::Fields => fields(pen, cx, form, body),
        Tab::Json => json(pen, cx, form, body),
        Tab::Plan => {
            plan(pen, form, body);
            None
        }
    };
    pen.rows(Rect { y: body.bottom(), height: below.saturating_sub(3), ..inside }, &notice);
    bottom(pen, cx, ui, form, Rect { y: inside.bottom().saturating_sub(3), height: 3, ..inside });
    match &form.picker {
        Some(picker) => pick(pen, cx, picker),
        None => cursor,
    }
}

/// What was said of the form, on at most a third of it; all of it stands with the plan.
fn notice(form: &Form, inside: Rect) -> Vec<Row> {
    let Some(said) = form.notice.as_ref().filter(|_| form.tab != Tab::Plan) else { return Vec::new() };
    let width = usize::from(inside.width);
    let most = usize::from(inside.height / 3).max(1);
    let mut lines = sentence(&shown(&said.replace('\n', " ")), width);
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = fit(&format!("{last} ~~~"), width);
        }
    }
    lines.iter().map(|line| Row::new().put(line, Tone::Fail)).collect()
}

fn tabs(cx: Context<'_>, form: &Form) -> Row {
    let words = cx.words;
    let names = [(Tab::Fields, words.tab_fields), (Tab::Json, "JSON"), (Tab::Plan, words.tab_plan)];
    let mut row = names.iter().fold(Row::new(), |row, (tab, name)| {
        if *tab == form.tab {
            row.put(&format!("[{name}]"), Tone::Strong).gap(1)
        } else {
            row.put(&format!(" {name} "), Tone::Dim).gap(1)
        }
    });
    row = row.gap(2);
    let (said, tone) = if form.ready { (words.into_ready, Tone::Warn) } else { (words.into_new, Tone::Plain) };
    row.put(said, tone)
}

fn bottom(pen: &mut Pen<'_>, cx: Context<'_>, ui: &Ui, form: &Form, area: Rect) {
    let words = pen.look.words;
    let state = if let Some(plan) = &form.plan {
        let risk = names::level(words, cx.world.risk(plan).level);
        Row::new()
            .put("+ ", Tone::Ok)
            .put(&fill(words.form_ok, &[&plan.hosts.len().to_string(), risk, &plan.digest().short()]), Tone::Ok)
    } else {
        let first = form.problems.first().map(|problem| names::problem(words, problem)).unwrap_or_default();
        let tone = if form.tried { Tone::Fail } else { Tone::Dim };
        Row::new().put(&fill(words.problems_left, &[&form.problems.len().to_string(), &first]), tone)
    };
    let state = match &ui.said {
        // What was said of the last key is worth a row; what stands above in full is not said twice.
        Some((said, tone)) if form.notice.is_none() || form.leaving => Row::new().put(said, *tone),
        _ => state,
    };
    pen.row(area, &state);
    let keys = [
        ("Ctrl-s", words.hint_submit),
        ("Ctrl-t", words.hint_next_tab),
        ("Ctrl-r", words.hint_ready),
        ("Ctrl-o", words.hint_editor),
        ("Esc", words.hint_leave),
    ];
    pen.row(Rect { y: area.bottom().saturating_sub(1), height: 1, ..area }, &hint(&keys, usize::from(area.width)));
    let field = form.fields.get(form.at).filter(|_| form.tab == Tab::Fields);
    let label = field
        .filter(|field| cells(&shown(&field.label)) > LABEL)
        .map(|field| format!("{}  ", field.label))
        .unwrap_or_default();
    let more = label
        + &match field.map(|field| &field.kind) {
            Some(FieldKind::Choice(values)) => fill(words.hint_choice, &[&values.join(" | ")]),
            Some(FieldKind::Hosts) => words.hint_hosts.to_owned(),
            Some(FieldKind::Lines) => words.hint_lines.to_owned(),
            _ => String::new(),
        };
    pen.row(Rect { y: area.y.saturating_add(1), height: 1, ..area }, &Row::new().put(&more, Tone::Dim));
}

fn fields(pen: &mut Pen<'_>, cx: Context<'_>, form: &Form, area: Rect) -> Option<Position> {
    if form.raw.is_some() {
        pen.row(area, &Row::new().put(pen.look.words.raw_counts, Tone::Warn));
        return None;
    }
    let width = usize::from(area.width);
    let mut rows: Vec<(Row, Option<u16>)> = Vec::new();
    let mut here = 0;
    for (n, field) in form.fields.iter().enumerate() {
        if n == form.at {
            here = rows.len();
        }
        let problem = form.problem(field).filter(|_| field.touched || form.tried);
        let sign = match (n == form.at, field.required) {
            (true, true) => ">*",
            (true, false) => "> ",
            (false, true) => " *",
            (false, false) => "  ",
        };
        let label_tone = match (problem, n == form.at) {
            (Some(_), _) => Tone::Fail,
            (None, true) => Tone::Key,
            (None, false) => Tone::Dim,
        };
        let label = Row::new().put(sign, Tone::Key).col(&field.label, LABEL, label_tone);
        let room = width.saturating_sub(2 + LABEL + 1);
        if field.kind == FieldKind::Lines {
            let lines: Vec<&str> = field.edit.text().split('\n').collect();
            let (line, cell) = field.edit.position();
            let top = line.saturating_add(1).saturating_sub(LINES_ROWS);
            for (k, text) in lines.iter().enumerate().skip(top).take(LINES_ROWS) {
                let head = if k == top { label.clone() } else { Row::new().gap(2 + LABEL) };
                let cursor = (n == form.at && k == line)
                    .then(|| u16::try_from((2 + LABEL + 1).saturating_add(cell)).unwrap_or(u16::MAX));
                rows.push((head.put("|", Tone::Dim).put(&text.replace('\t', "    "), Tone::Plain), cursor));
            }
        } else {
            let text = shown(field.edit.text());
            let cell = field.edit.position().1;
            let over = cell.saturating_add(2).saturating_sub(room);
            let seen: String = if over > 0 { skip_cells(&text, over) } else { text };
            let count = match (&field.kind, cx.world.library()) {
                (FieldKind::Hosts, Some(library)) => {
                    Form::host_count(field, library).map(|count| fill(cx.words.hosts_chosen, &[&count.to_string()]))
                }
                _ => None,
            };
            let count = count.unwrap_or_default();
            let seen = fit(&seen, room.saturating_sub(cells(&count).saturating_add(1)));
            let cursor = (n == form.at)
                .then(|| u16::try_from((2 + LABEL + 1).saturating_add(cell.saturating_sub(over))).unwrap_or(u16::MAX));
            rows.push((label.gap(1).put(&seen, Tone::Strong).put(&count, Tone::Dim), cursor));
        }
        if let Some(problem) = problem {
            let said = fill(cx.words.wanted, &[&problem.wanted]);
            rows.push((Row::new().gap(2 + LABEL + 1).put(&said, Tone::Fail), None));
        }
    }
    let height = usize::from(area.height);
    let top = here.saturating_add(LINES_ROWS.min(height)).saturating_sub(height).min(rows.len().saturating_sub(height));
    let mut cursor = None;
    for (n, (row, at)) in rows.iter().enumerate().skip(top).take(height) {
        let y = area.y.saturating_add(u16::try_from(n.saturating_sub(top)).unwrap_or(0));
        pen.row(Rect { y, height: 1, ..area }, row);
        if let Some(x) = at {
            cursor = Some(Position { x: area.x.saturating_add(*x).min(area.right().saturating_sub(1)), y });
        }
    }
    cursor
}

fn json(pen: &mut Pen<'_>, cx: Context<'_>, form: &Form, area: Rect) -> Option<Position> {
    let library = cx.world.library()?;
    let bytes = form.bytes(library);
    let text = String::from_utf8_lossy(&bytes);
    let (line, cell) = form.raw.as_ref().map_or((0, 0), crate::shells::dashboard::edit::Edit::position);
    let height = usize::from(area.height);
    let top = line.saturating_add(1).saturating_sub(height);
    let width = usize::from(area.width);
    let left = cell.saturating_add(1).saturating_sub(width.saturating_sub(5));
    for (n, text) in text.split('\n').enumerate().skip(top).take(height) {
        let text = shown(&text.replace('\t', "    "));
        let text = if left > 0 { skip_cells(&text, left) } else { text };
        let row = Row::new().right(&n.saturating_add(1).to_string(), 4, Tone::Dim).gap(1).put(&text, Tone::Plain);
        pen.row(
            Rect { y: area.y.saturating_add(u16::try_from(n.saturating_sub(top)).unwrap_or(0)), height: 1, ..area },
            &row,
        );
    }
    form.raw.as_ref()?;
    let (x, y) = (
        u16::try_from(cell.saturating_add(5).saturating_sub(left.min(cell))).ok()?,
        u16::try_from(line.saturating_sub(top)).ok()?,
    );
    Some(Position { x: area.x.saturating_add(x).min(area.right().saturating_sub(1)), y: area.y.saturating_add(y) })
}

fn plan(pen: &mut Pen<'_>, form: &Form, area: Rect) {
    let words = pen.look.words;
    let width = usize::from(area.width);
    let mut rows: Vec<Row> = Vec::new();
    for line in form.notice.iter().flat_map(|said| said.lines()) {
        rows.extend(sentence(&shown(line), width).iter().map(|line| Row::new().put(line, Tone::Fail)));
    }
    match &form.plan {
        None => {
            for problem in &form.problems {
                for line in wrapped(&shown(&names::problem(words, problem)), width) {
                    rows.push(Row::new().put(&line, Tone::Fail));
                }
            }
        }
        Some(plan) => {
            for warning in plan.warnings() {
                rows.push(Row::new().put("! ", Tone::Warn).put(&warning, Tone::Warn));
            }
            let text = crate::shells::describe::describe(plan, None);
            for line in text.lines() {
                rows.extend(
                    wrapped(&shown(&line.replace('\t', "    ")), width)
                        .iter()
                        .map(|line| Row::new().put(line, Tone::Plain)),
                );
            }
        }
    }
    if rows.is_empty() {
        rows.push(Row::new().put(words.reading, Tone::Dim));
    }
    let top = form.top.min(rows.len().saturating_sub(usize::from(area.height)));
    pen.rows(area, rows.iter().skip(top));
}

fn pick(pen: &mut Pen<'_>, cx: Context<'_>, picker: &Picker) -> Option<Position> {
    let words = pen.look.words;
    let library = cx.world.library()?;
    let items = picker_items(library, picker);
    let screen = pen.buffer.area;
    let window = centred(screen, 70, screen.height.saturating_sub(4));
    let title = fill(words.pick_hosts, &[&picker.chosen.len().to_string()]);
    // The form's own frame stays.
    let lines = Rect { x: 1, width: screen.width.min(FORM_WIDTH).saturating_sub(2), ..screen };
    let inside = pen.popup(lines, window, &title, Tone::Title);
    let label = format!("{} ", words.filter);
    pen.row(inside, &Row::new().put(&label, Tone::Dim).put(picker.filter.text(), Tone::Strong));
    let room = usize::from(inside.height).saturating_sub(3).max(1);
    let top = picker.at.saturating_add(1).saturating_sub(room);
    for (n, word) in items.iter().enumerate().skip(top).take(room) {
        let line = Rect {
            y: inside.y.saturating_add(1).saturating_add(u16::try_from(n.saturating_sub(top)).unwrap_or(0)),
            height: 1,
            ..inside
        };
        let mark = if picker.chosen.contains(word) { "* " } else { "  " };
        let count = crate::domain::inventory::selector::select(&library.inventory, word).map_or(0, |hosts| hosts.len());
        let count = if count > 1 { fill(words.hosts_count, &[&count.to_string()]) } else { String::new() };
        let row = Row::new().put(mark, Tone::Key).col(word, 40, Tone::Plain).put(&count, Tone::Dim);
        if n == picker.at { pen.row_over(line, &row, pen.look.selected()) } else { pen.row(line, &row) }
    }
    let keys = [("Space", words.hint_mark), ("Enter", words.hint_take), ("Esc", words.hint_leave)];
    let keys = hint(&keys, usize::from(inside.width));
    pen.row(Rect { y: inside.bottom().saturating_sub(1), height: 1, ..inside }, &keys);
    let x = inside.x.saturating_add(u16::try_from(cells(&label).saturating_add(picker.filter.position().1)).ok()?);
    Some(Position { x: x.min(inside.right()), y: inside.y })
}
