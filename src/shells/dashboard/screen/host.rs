//! Everything that is known of one host.
//!
//! **Invariant:** pure; a host whose key is not known is said to be refused, before anybody tries.

use ratatui::layout::{Position, Rect};

use crate::base::ids::{HostName, TaskId};
use crate::domain::inventory::host::Connection;
use crate::domain::run::TaskState;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::host_state::host_state;
use crate::shells::dashboard::keys::Action;
use crate::shells::dashboard::list::{self, Item, List};
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::message::Wants;
use crate::shells::dashboard::screen::{Reaction, Screen};
use crate::shells::dashboard::table::line_of;
use crate::shells::dashboard::words::fill;

/// How many unfinished tasks are looked through for a host.
const TASKS_MAX: usize = 200;

/// One host, and what runs there.
#[derive(Debug)]
pub(super) struct HostScreen {
    name: HostName,
    list: List,
}

impl HostScreen {
    pub(super) fn of(name: HostName) -> HostScreen {
        HostScreen { name, list: List::default() }
    }

    /// Everything that is known of a host, line by line; a line may be about a task.
    fn page(&self, cx: Context<'_>) -> Vec<(Row, Option<TaskId>)> {
        let words = cx.words;
        let mut rows: Vec<(Row, Option<TaskId>)> = Vec::new();
        let mut fact = |label: &str, value: String, tone: Tone| {
            rows.push((Row::new().gap(2).col(label, 16, Tone::Dim).put(&value, tone), None));
        };
        let host = cx.world.library().and_then(|library| library.inventory.hosts.get(&self.name));
        match host {
            None => fact(words.col_host, fill(words.not_in_inventory, &[self.name.as_str()]), Tone::Warn),
            Some(host) => {
                fact(words.col_address, format!("{}:{}", host.address, host.port), Tone::Plain);
                fact(words.col_user, host.user.clone().unwrap_or_else(|| "-".to_owned()), Tone::Plain);
                let way: Vec<&str> = host.jump.iter().map(|jump| jump.host.as_str()).collect();
                if !way.is_empty() {
                    fact(words.col_way, way.join(" > "), Tone::Plain);
                }
                if let Some(library) = cx.world.library() {
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
        for run in cx.world.runs().values().rev().filter(|run| run.state() != TaskState::Done) {
            for (n, _) in run.lanes.iter().enumerate().filter(|(_, lane)| lane.host == self.name) {
                let Some(line) = line_of(run, n, cx.world.now()) else { continue };
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
}

impl Screen for HostScreen {
    fn draw(&self, pen: &mut Pen<'_>, cx: Context<'_>, body: Rect) -> Option<Position> {
        let rows = self.page(cx);
        let heading =
            Row::new().gap(1).put(pen.look.words.col_host, Tone::Dim).gap(1).put(self.name.as_str(), Tone::Title);
        list::draw(pen, body, &heading, &self.list, rows.len(), |n| {
            rows.get(n).map(|(row, _)| row.clone()).unwrap_or_default()
        });
        None
    }

    fn view(&self) -> &'static str {
        "hosts"
    }

    fn wants(&self, cx: Context<'_>, wants: &mut Wants) {
        // Which of them have something to do there stands in their plans.
        wants.follow.extend(cx.world.tasks().keys().take(TASKS_MAX));
    }

    fn key(&mut self, cx: Context<'_>, action: Action) -> Reaction {
        if action != Action::Open {
            return Reaction::Pass;
        }
        let task = self.page(cx).into_iter().nth(self.list.at).and_then(|(_, task)| task);
        task.map_or(Reaction::Stay, Reaction::OpenTask)
    }

    fn list_mut(&mut self) -> Option<&mut List> {
        Some(&mut self.list)
    }

    fn count(&self, cx: Context<'_>) -> usize {
        self.page(cx).len()
    }

    fn item(&self, cx: Context<'_>, at: usize) -> Option<Item> {
        self.page(cx).into_iter().nth(at)?.1.map(Item::Task)
    }

    fn place_of(&self, cx: Context<'_>, item: &Item) -> Option<usize> {
        let Item::Task(id) = item else { return None };
        self.page(cx).iter().position(|(_, task)| *task == Some(*id))
    }
}
