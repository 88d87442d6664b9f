//! The screens that have a name: one row for each.
//!
//! **Invariant:** the only list of screens; the views, the commands, their completion and `--view` are made from it.

use crate::base::ids::HostName;
use crate::shells::dashboard::screen::Screen;
use crate::shells::dashboard::screen::audit::AuditScreen;
use crate::shells::dashboard::screen::board::BoardScreen;
use crate::shells::dashboard::screen::history::HistoryScreen;
use crate::shells::dashboard::screen::host::HostScreen;
use crate::shells::dashboard::screen::hosts::HostsScreen;
use crate::shells::dashboard::screen::needs::NeedsScreen;
use crate::shells::dashboard::screen::refused::RefusedScreen;
use crate::shells::dashboard::screen::requests::RequestsScreen;
use crate::shells::dashboard::screen::templates::TemplatesScreen;
use crate::shells::dashboard::words::Words;

/// A screen with a name.
pub(in crate::shells::dashboard) struct NamedScreen {
    /// The command that shows it.
    pub(in crate::shells::dashboard) word: &'static str,
    pub(in crate::shells::dashboard) placement: Placement,
    /// Makes it from the word after the command.
    pub(in crate::shells::dashboard) open: OpenScreen,
}

/// How a screen comes into sight.
#[derive(Clone, Copy)]
pub(in crate::shells::dashboard) enum Placement {
    /// Instead of every other screen; a digit shows it too, under this name.
    View(fn(&Words) -> &'static str),
    /// Over the screen that is shown, as a part of one of the views.
    OfView,
    /// Over the screen that is shown.
    Over,
}

/// Makes a screen from the word after its command.
type OpenScreen = fn(&str) -> Result<Box<dyn Screen>, String>;

const fn view(word: &'static str, title: fn(&Words) -> &'static str, open: OpenScreen) -> NamedScreen {
    NamedScreen { word, placement: Placement::View(title), open }
}

const fn of_view(word: &'static str, open: OpenScreen) -> NamedScreen {
    NamedScreen { word, placement: Placement::OfView, open }
}

const fn over(word: &'static str, open: OpenScreen) -> NamedScreen {
    NamedScreen { word, placement: Placement::Over, open }
}

/// Every screen with a name, in the order in which commands are offered. The first one is below all others.
pub(in crate::shells::dashboard) static NAMED_SCREENS: &[NamedScreen] = &[
    view("board", |words| words.board, |_| Ok(Box::new(BoardScreen::default()))),
    view("hosts", |words| words.hosts, |_| Ok(Box::new(HostsScreen::default()))),
    of_view("host", host),
    view("history", |words| words.history, |_| Ok(Box::new(HistoryScreen::default()))),
    view("audit", |words| words.audit, |_| Ok(Box::new(AuditScreen::at_end()))),
    view("templates", |words| words.templates, |_| Ok(Box::new(TemplatesScreen::default()))),
    over("needs", |_| Ok(Box::new(NeedsScreen::default()))),
    over("requests", |_| Ok(Box::new(RequestsScreen::at_end()))),
    over("bad", |_| Ok(Box::new(RefusedScreen::default()))),
];

fn host(name: &str) -> Result<Box<dyn Screen>, String> {
    let name: HostName = name.parse().map_err(|wanted| format!("host {name}: {wanted}"))?;
    Ok(Box::new(HostScreen::of(name)))
}

/// The views, each with its name.
pub(in crate::shells::dashboard) fn views() -> impl Iterator<Item = (&'static NamedScreen, fn(&Words) -> &'static str)>
{
    NAMED_SCREENS.iter().filter_map(|named| match named.placement {
        Placement::View(title) => Some((named, title)),
        Placement::OfView | Placement::Over => None,
    })
}

/// The screen with this name.
pub(in crate::shells::dashboard) fn screen_named(word: &str) -> Option<&'static NamedScreen> {
    NAMED_SCREENS.iter().find(|named| named.word == word)
}
