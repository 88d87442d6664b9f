//! The screens that have a name: one row for each.
//!
//! **Invariant:** the only list of screens; the views, the commands, their completion and `--view` are made from it.

use crate::base::ids::HostName;
use crate::shells::dashboard::screen::Screen;
use crate::shells::dashboard::screen::audit::Audit;
use crate::shells::dashboard::screen::board::Board;
use crate::shells::dashboard::screen::history::History;
use crate::shells::dashboard::screen::host::HostScreen;
use crate::shells::dashboard::screen::hosts::Hosts;
use crate::shells::dashboard::screen::refused::RefusedScreen;
use crate::shells::dashboard::screen::requests::RequestsScreen;
use crate::shells::dashboard::screen::templates::Templates;
use crate::shells::dashboard::words::Words;

/// A screen with a name.
pub(in crate::shells::dashboard) struct Named {
    /// The command that shows it.
    pub(in crate::shells::dashboard) word: &'static str,
    pub(in crate::shells::dashboard) way: Way,
    /// Makes it from the word after the command.
    pub(in crate::shells::dashboard) open: fn(&str) -> Result<Box<dyn Screen>, String>,
}

/// How a screen comes into sight.
#[derive(Clone, Copy)]
pub(in crate::shells::dashboard) enum Way {
    /// Instead of every other screen; a digit shows it too, under this name.
    View(fn(&Words) -> &'static str),
    /// Over the screen that is shown, as a part of one of the views.
    OfView,
    /// Over the screen that is shown.
    Over,
}

/// Every screen with a name, in the order in which commands are offered. The first one is below all others.
pub(in crate::shells::dashboard) static NAMED: &[Named] = &[
    Named { word: "board", way: Way::View(|words| words.board), open: |_| Ok(Box::new(Board::default())) },
    Named { word: "hosts", way: Way::View(|words| words.hosts), open: |_| Ok(Box::new(Hosts::default())) },
    Named { word: "host", way: Way::OfView, open: host },
    Named { word: "history", way: Way::View(|words| words.history), open: |_| Ok(Box::new(History::default())) },
    Named { word: "audit", way: Way::View(|words| words.audit), open: |_| Ok(Box::new(Audit::at_end())) },
    Named { word: "templates", way: Way::View(|words| words.templates), open: |_| Ok(Box::new(Templates::default())) },
    Named { word: "requests", way: Way::Over, open: |_| Ok(Box::new(RequestsScreen::at_end())) },
    Named { word: "bad", way: Way::Over, open: |_| Ok(Box::new(RefusedScreen::default())) },
];

fn host(name: &str) -> Result<Box<dyn Screen>, String> {
    let name: HostName = name.parse().map_err(|wanted| format!("host {name}: {wanted}"))?;
    Ok(Box::new(HostScreen::of(name)))
}

/// The views, each with its name.
pub(in crate::shells::dashboard) fn views() -> impl Iterator<Item = (&'static Named, fn(&Words) -> &'static str)> {
    NAMED.iter().filter_map(|named| match named.way {
        Way::View(title) => Some((named, title)),
        Way::OfView | Way::Over => None,
    })
}

/// The screen with this name.
pub(in crate::shells::dashboard) fn named(word: &str) -> Option<&'static Named> {
    NAMED.iter().find(|named| named.word == word)
}
