//! Where the parts of a task's screen stand.
//!
//! **Invariant:** pure; depends on how much there is to show, and not on what it is.

use ratatui::layout::Rect;

use crate::shells::dashboard::layout::{ScreenSize, lines};
use crate::shells::dashboard::screen::task::state::{TaskScreen, Zoom};

/// How many lines stand above everything: what it is, and how many hosts stand where.
const TITLE: u16 = 2;
/// How many steps are shown beside hosts.
const STEPS_MAX: usize = 6;
/// How many rows the map takes beside hosts.
const MAP_ROWS: u16 = 3;
/// From which height on the log of the selected host is shown below.
const LIVE_LOG_FROM: u16 = 30;

/// Where the parts of the screen stand; an empty one is not shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts {
    pub(super) steps: Rect,
    pub(super) map: Rect,
    pub(super) reasons: Rect,
    pub(super) hosts: Rect,
    pub(super) log: Rect,
}

/// What is below the title.
pub(super) fn below_title(body: Rect) -> Rect {
    Rect { y: body.y.saturating_add(TITLE), height: body.height.saturating_sub(TITLE), ..body }
}

/// Divides the body as what is looked at asks for.
pub(super) fn parts(size: ScreenSize, screen: &TaskScreen, body: Rect) -> Parts {
    let rest = below_title(body);
    let mut parts = Parts::default();
    let Some(table) = screen.table() else { return parts };
    match screen.zoom {
        Zoom::Hosts => parts.hosts = rest,
        Zoom::Map => parts.map = rest,
        Zoom::Acts => {}
        Zoom::All => {
            let steps = u16::try_from(table.steps.len().min(STEPS_MAX)).unwrap_or(1).saturating_add(1);
            let few = table.lanes.len() <= 1;
            if size.is_wide() {
                let height = steps.saturating_add(8).min(rest.height / 2);
                let left = body.width.saturating_mul(2) / 5;
                parts.steps = Rect { width: left, height: steps.min(height), ..rest };
                let below = rest.y.saturating_add(parts.steps.height).saturating_add(1);
                let room = rest.y.saturating_add(height).saturating_sub(below);
                parts.reasons = Rect { y: below, width: left, height: room, ..rest };
                parts.map = Rect {
                    x: body.x.saturating_add(left).saturating_add(2),
                    width: body.width.saturating_sub(left).saturating_sub(2),
                    height,
                    ..rest
                };
                let log = if size.height >= LIVE_LOG_FROM { rest.height.saturating_sub(height) / 2 } else { 0 };
                let y = rest.y.saturating_add(height).saturating_add(1);
                parts.hosts = Rect { y, height: rest.bottom().saturating_sub(y.saturating_add(log)), ..rest };
                parts.log = Rect { y: rest.bottom().saturating_sub(log), height: log, ..rest };
            } else {
                let low = rest.height < 12;
                let steps = if low { 0 } else { steps.min(rest.height / 3) };
                let needed =
                    u16::try_from(table.lanes.len().div_ceil(usize::from(body.width).saturating_sub(2).max(1)));
                let map = if low || few {
                    0
                } else {
                    needed.unwrap_or(MAP_ROWS).min(MAP_ROWS).min(rest.height / 5).saturating_add(1)
                };
                parts.steps = Rect { height: steps, ..rest };
                parts.map = Rect { y: rest.y.saturating_add(steps), height: map, ..rest };
                parts.hosts = Rect {
                    y: rest.y.saturating_add(steps).saturating_add(map),
                    height: rest.height.saturating_sub(steps).saturating_sub(map),
                    ..rest
                };
            }
        }
    }
    parts
}

/// How many rows of hosts are seen.
pub(super) fn host_rows_seen(size: ScreenSize, screen: &TaskScreen) -> usize {
    lines(parts(size, screen, size.body()).hosts).max(1)
}

/// How many rows and columns the map has.
pub(super) fn map_room(size: ScreenSize) -> (usize, usize) {
    let area = size.body();
    (usize::from(area.height.saturating_sub(TITLE + 1)).max(1), usize::from(area.width.saturating_sub(2)).max(1))
}
