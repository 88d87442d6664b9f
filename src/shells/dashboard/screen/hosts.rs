//! The hosts of the inventory.
//!
//! **Invariant:** pure; a host whose key is not known is said to be refused, before anybody tries.

use std::collections::BTreeMap;

use ratatui::layout::{Position, Rect};

use crate::base::ids::HostName;
use crate::domain::inventory::host::{Connection, Host};
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::filter::matches;
use crate::shells::dashboard::keys::Action;
use crate::shells::dashboard::list::{self, Item, List, draw_nothing, nothing};
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::screen::host::HostScreen;
use crate::shells::dashboard::screen::{BACK, FILTER, LineFilter, OPEN, Offer, Reaction, Screen};
use crate::shells::dashboard::words::Words;

/// The hosts of the inventory.
#[derive(Debug, Default)]
pub(super) struct HostsScreen {
    list: List,
}

impl HostsScreen {
    /// The hosts that pass the filter.
    fn rows<'a>(&self, cx: Context<'a>) -> Vec<&'a Host> {
        let Some(library) = cx.world.library() else { return Vec::new() };
        let filter = self.list.filter.to_lowercase();
        let hosts = library.inventory.hosts.values();
        let passes = |host: &&Host| {
            let tags = || library.inventory.tags(host).into_iter().collect::<Vec<_>>().join(" ");
            filter.is_empty()
                || matches(&format!("{} {} {} {}", host.name, host.address, host.environment(), tags()), &filter)
        };
        let refused = |host: &&Host| !self.list.failed_only || keys(cx, host) == Some(0);
        hosts.filter(passes).filter(refused).collect()
    }

    fn selected(&self, cx: Context<'_>) -> Option<HostName> {
        self.rows(cx).get(self.list.at).map(|host| host.name.clone())
    }
}

/// How many keys of a host are known; `None` where none is needed.
fn keys(cx: Context<'_>, host: &Host) -> Option<usize> {
    let library = cx.world.library()?;
    (host.connection == Connection::Ssh).then(|| library.known_hosts.keys_for(&host.address, host.port).len())
}

/// How many steps run on each host, in tasks that are followed.
fn busy(cx: Context<'_>) -> BTreeMap<&HostName, usize> {
    let mut counts = BTreeMap::new();
    for lane in cx.world.runs().values().flat_map(|run| &run.lanes).filter(|lane| lane.open_step().is_some()) {
        let count = counts.entry(&lane.host).or_insert(0_usize);
        *count = count.saturating_add(1);
    }
    counts
}

impl Screen for HostsScreen {
    fn draw(&self, pen: &mut Pen<'_>, cx: Context<'_>, body: Rect) -> Option<Position> {
        let words = pen.look.words;
        let hosts = self.rows(cx);
        let busy = busy(cx);
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
            let (address, key, tone) = match keys(cx, host) {
                None => (words.this_machine.to_owned(), "-", Tone::Dim),
                Some(0) => (format!("{}:{}", host.address, host.port), words.key_missing, Tone::Fail),
                Some(_) => (format!("{}:{}", host.address, host.port), words.key_known, Tone::Ok),
            };
            let tags: Vec<String> =
                cx.world.library().iter().flat_map(|library| library.inventory.tags(host)).collect();
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
        list::draw(pen, body, &heading, &self.list, hosts.len(), line);
        if hosts.is_empty() {
            let said = if cx.world.library().is_some() {
                nothing(words, &self.list, words.no_hosts)
            } else {
                words.no_configuration
            };
            draw_nothing(pen, body, said);
        }
        None
    }

    fn view(&self) -> &'static str {
        "hosts"
    }

    fn offers(&self) -> &'static [Offer] {
        &[OPEN, FILTER, BACK]
    }

    fn key(&mut self, cx: Context<'_>, action: Action) -> Reaction {
        match action {
            Action::Open => {
                self.selected(cx).map_or(Reaction::Stay, |name| Reaction::Open(Box::new(HostScreen::of(name))))
            }
            Action::Copy => Reaction::Copy(self.selected(cx).map_or_else(String::new, |name| name.to_string())),
            _ => Reaction::Pass,
        }
    }

    fn notes(&self, words: &Words) -> Vec<(String, Tone)> {
        self.list.notes(words)
    }

    fn line_filter(&mut self) -> LineFilter<'_> {
        LineFilter { filter: Some(&mut self.list.filter), failed_only: Some(&mut self.list.failed_only) }
    }

    fn list_mut(&mut self) -> Option<&mut List> {
        Some(&mut self.list)
    }

    fn count(&self, cx: Context<'_>) -> usize {
        self.rows(cx).len()
    }

    fn item(&self, cx: Context<'_>, at: usize) -> Option<Item> {
        self.rows(cx).get(at).map(|host| Item::Host(host.name.clone()))
    }

    fn place_of(&self, cx: Context<'_>, item: &Item) -> Option<usize> {
        let Item::Host(name) = item else { return None };
        self.rows(cx).iter().position(|host| host.name == *name)
    }
}
