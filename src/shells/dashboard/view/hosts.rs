//! The hosts of the inventory, and everything that is known of one.
//!
//! **Invariant:** pure; a host whose key is not known is said to be refused, before anybody tries.

use std::collections::BTreeMap;

use ratatui::layout::Rect;

use crate::base::ids::{HostName, TaskId};
use crate::domain::inventory::host::{Connection, Host};
use crate::domain::run::TaskState;
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::model::{Model, matches};
use crate::shells::dashboard::screens::List;
use crate::shells::dashboard::table::line_of;
use crate::shells::dashboard::view::task::host_state;
use crate::shells::dashboard::words::fill;

/// The hosts that pass the filter.
pub(in crate::shells::dashboard) fn rows<'m>(model: &'m Model, list: &List) -> Vec<&'m Host> {
    let Some(library) = &model.library else { return Vec::new() };
    let filter = list.filter.to_lowercase();
    let hosts = library.inventory.hosts.values();
    let passes = |host: &&Host| {
        let tags = || library.inventory.tags(host).into_iter().collect::<Vec<_>>().join(" ");
        filter.is_empty()
            || matches(&format!("{} {} {} {}", host.name, host.address, host.environment(), tags()), &filter)
    };
    let refused = |host: &&Host| !list.failed_only || keys(model, host) == Some(0);
    hosts.filter(passes).filter(refused).collect()
}

/// How many keys of a host are known; `None` where none is needed.
fn keys(model: &Model, host: &Host) -> Option<usize> {
    let library = model.library.as_ref()?;
    (host.connection == Connection::Ssh).then(|| library.known_hosts.keys_for(&host.address, host.port).len())
}

/// How many steps run on each host, in tasks that are followed.
fn busy(model: &Model) -> BTreeMap<&HostName, usize> {
    let mut counts = BTreeMap::new();
    for lane in model.runs.values().flat_map(|run| &run.lanes).filter(|lane| lane.open_step().is_some()) {
        let count = counts.entry(&lane.host).or_insert(0_usize);
        *count = count.saturating_add(1);
    }
    counts
}

pub(super) fn draw(pen: &mut Pen<'_>, model: &Model, list: &List, body: Rect) {
    let words = pen.look.words;
    let hosts = rows(model, list);
    let busy = busy(model);
    let heading = Row::new()
        .gap(2)
        .col(words.col_host, 22, Tone::Dim)
        .col(words.col_address, 23, Tone::Dim)
        .col(words.col_key, 9, Tone::Dim)
        .col(words.col_environment, 8, Tone::Dim)
        .col(words.col_now, 6, Tone::Dim)
        .put(words.col_tags, Tone::Dim);
    let line = |n: usize| {
        let Some(host) = hosts.get(n) else { return Row::new() };
        let (address, key, tone) = match keys(model, host) {
            None => (words.this_machine.to_owned(), "-", Tone::Dim),
            Some(0) => (format!("{}:{}", host.address, host.port), words.key_missing, Tone::Fail),
            Some(_) => (format!("{}:{}", host.address, host.port), words.key_known, Tone::Ok),
        };
        let tags: Vec<String> = model.library.iter().flat_map(|library| library.inventory.tags(host)).collect();
        let busy = busy.get(&host.name).copied().unwrap_or(0);
        Row::new()
            .gap(2)
            .col(host.name.as_str(), 21, Tone::Plain)
            .gap(1)
            .col(&address, 22, Tone::Plain)
            .gap(1)
            .col(key, 9, tone)
            .col(host.environment(), 8, Tone::Plain)
            .col(
                &if busy > 0 { format!("> {busy}") } else { "-".to_owned() },
                6,
                if busy > 0 { Tone::Run } else { Tone::Dim },
            )
            .put(&tags.join(" "), Tone::Dim)
    };
    super::list(pen, body, &heading, list, hosts.len(), line);
    if hosts.is_empty() {
        let said =
            if model.library.is_some() { super::nothing(words, list, words.no_hosts) } else { words.no_configuration };
        pen.row(Rect { y: body.y.saturating_add(2), ..body }, &Row::new().gap(2).put(said, Tone::Plain));
    }
}

/// Everything that is known of a host, line by line; a line may be about a task.
pub(in crate::shells::dashboard) fn page(model: &Model, name: &HostName) -> Vec<(Row, Option<TaskId>)> {
    let words = model.look.words;
    let mut rows: Vec<(Row, Option<TaskId>)> = Vec::new();
    let mut fact = |label: &str, value: String, tone: Tone| {
        rows.push((Row::new().gap(2).col(label, 16, Tone::Dim).put(&value, tone), None));
    };
    let host = model.library.as_ref().and_then(|library| library.inventory.hosts.get(name));
    match host {
        None => fact(words.col_host, fill(words.not_in_inventory, &[name.as_str()]), Tone::Warn),
        Some(host) => {
            fact(words.col_address, format!("{}:{}", host.address, host.port), Tone::Plain);
            fact(words.col_user, host.user.clone().unwrap_or_else(|| "-".to_owned()), Tone::Plain);
            let way: Vec<&str> = host.jump.iter().map(|jump| jump.host.as_str()).collect();
            if !way.is_empty() {
                fact(words.col_way, way.join(" > "), Tone::Plain);
            }
            if let Some(library) = &model.library {
                let known = library.known_hosts.keys_for(&host.address, host.port);
                if known.is_empty() && host.connection == Connection::Ssh {
                    fact(words.col_key, words.key_missing_long.to_owned(), Tone::Fail);
                }
                for key in known {
                    fact(words.col_key, key.to_string(), Tone::Ok);
                }
                let tags: Vec<String> = library.inventory.tags(host).into_iter().collect();
                fact(words.col_tags, tags.join(" "), Tone::Plain);
            }
            for (name, value) in &host.vars {
                fact(name, value.clone(), Tone::Plain);
            }
        }
    }
    rows.push((Row::new(), None));
    rows.push((Row::new().gap(2).put(words.tasks_here, Tone::Dim), None));
    for run in model.runs.values().rev().filter(|run| run.state() != TaskState::Done) {
        for (n, _) in run.lanes.iter().enumerate().filter(|(_, lane)| lane.host == *name) {
            let Some(line) = line_of(run, n, model.now) else { continue };
            let row = Row::new()
                .gap(2)
                .right(&run.id.to_string(), 6, Tone::Title)
                .gap(2)
                .col(&run.plan.task_name, 36, Tone::Plain)
                .put(&format!("{} {}", line.mark.glyph(), host_state(words, run, n, &line)), line.mark.tone());
            rows.push((row, Some(run.id)));
        }
    }
    rows
}

pub(super) fn draw_page(pen: &mut Pen<'_>, model: &Model, name: &HostName, list: &List, body: Rect) {
    let rows = page(model, name);
    let heading = Row::new().gap(1).put(pen.look.words.col_host, Tone::Dim).gap(1).put(name.as_str(), Tone::Title);
    super::list(pen, body, &heading, list, rows.len(), |n| rows.get(n).map(|(row, _)| row.clone()).unwrap_or_default());
}
