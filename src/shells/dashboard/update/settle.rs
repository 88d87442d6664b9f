//! Where selections stand after something changed.
//!
//! **Invariant:** pure. A selection stays with what was selected, or with the line that stands for it where it is folded
//! away; when it is listed nowhere, nothing is selected. What is selected is never another because something happened.

use crate::base::ids::TaskId;
use crate::shells::dashboard::message::HistoryWant;
use crate::shells::dashboard::model::{Model, Past};
use crate::shells::dashboard::screens::{BoardRow, Item, Screen, TaskScreen};
use crate::shells::dashboard::table::{HostRow, RowKey, heat};
use crate::shells::dashboard::update::screens::count;
use crate::shells::dashboard::view;

/// Forgets which hosts are shown of a task whose plan is another one: its hosts are others.
pub(super) fn forget(model: &mut Model) {
    let Screen::Task(screen) = model.screen() else { return };
    let Some(plan) = model.runs.get(&screen.id).map(|run| run.digest) else { return };
    let Screen::Task(screen) = model.screen_mut() else { return };
    if screen.plan.replace(plan).is_some_and(|known| known != plan) {
        screen.shape.only = None;
        screen.shape.unfolded.clear();
        if matches!(screen.list.chosen, Some(Item::Fold(..))) {
            screen.list.stand(0);
        }
    }
}

/// Finds what was selected where it stands now, and keeps it on the screen.
pub(super) fn settle(model: &mut Model) {
    match model.screen() {
        Screen::Board(_) => settle_board(model),
        Screen::Task(_) => settle_hosts(model),
        _ => settle_list(model),
    }
}

fn settle_board(model: &mut Model) {
    let rows = view::list_rows(model);
    let lines = model.board_rows();
    let Screen::Board(board) = model.screen() else { return };
    let can = |n: &usize| !matches!(lines[*n], BoardRow::Heading(_));
    let found = match &board.list.chosen {
        _ if !board.moved => None,
        Some(Item::Task(id)) => {
            let state = model.tasks.get(id).map(|task| task.state);
            let own = lines.iter().position(|row| model.task_of_row(*row) == Some(*id));
            own.or_else(|| lines.iter().position(|row| matches!(row, BoardRow::More(of, _) if Some(*of) == state)))
        }
        Some(Item::More(state)) => lines.iter().position(|row| matches!(row, BoardRow::More(of, _) if of == state)),
        _ => None,
    };
    let near = if board.moved { board.list.at.min(lines.len().saturating_sub(1)) } else { 0 };
    let near = (near..lines.len()).find(can).or_else(|| (0..near).rev().find(can)).unwrap_or(0);
    let item_at = |at: usize| match lines.get(at)? {
        BoardRow::More(state, _) => Some(Item::More(*state)),
        row => model.task_of_row(*row).map(Item::Task),
    };
    let near_item = item_at(near);
    let Screen::Board(board) = model.screen_mut() else { return };
    // Before somebody selected a task the first one is selected.
    if !board.moved {
        board.list.stand(near);
    }
    if board.list.follow(found) && !lines.is_empty() {
        (board.list.at, board.list.chosen) = (near, near_item);
    }
    board.list.settle(lines.len(), rows);
    let (at, lost) = (board.list.at, board.list.lost);
    // The heading of the first task is seen with it.
    let heading = at.checked_sub(1).filter(|n| lines.get(*n).is_some_and(|row| matches!(row, BoardRow::Heading(_))));
    if let Some(heading) = heading {
        board.list.top = board.list.top.min(heading);
    }
    let selected = lines.get(at).filter(|_| !lost).and_then(|row| model.task_of_row(*row));
    if let Screen::Board(board) = model.screen_mut() {
        board.selected = selected;
    }
}

/// Where the host or the fold that was chosen stands: in its own row, or in that of the fold that holds it.
fn place_of(model: &Model, screen: &TaskScreen, lines: &[HostRow]) -> Option<usize> {
    let run = model.runs.get(&screen.id)?;
    let own = |key: &RowKey| lines.iter().position(|row| row.key() == *key);
    match screen.list.chosen.as_ref()? {
        Item::Lane(group, host) => {
            let lane = run.lane_position(*group, host)?;
            let holds =
                |row: &HostRow| matches!(row, HostRow::Fold { lanes, .. } if lanes.binary_search(&lane).is_ok());
            own(&RowKey::Lane(lane)).or_else(|| lines.iter().position(holds))
        }
        // A fold is known by the state of its hosts, or by most of its hosts when that changed.
        Item::Fold(key, known) => own(key).or_else(|| {
            let shared = |row: &HostRow| match row {
                HostRow::Fold { lanes, .. } => known.iter().filter(|lane| lanes.binary_search(lane).is_ok()).count(),
                HostRow::Lane(_) => 0,
            };
            let best = (0..lines.len()).max_by_key(|n| (shared(&lines[*n]), std::cmp::Reverse(*n)))?;
            (shared(&lines[best]) > 0).then_some(best)
        }),
        _ => None,
    }
}

fn settle_hosts(model: &mut Model) {
    let rows = view::list_rows(model);
    let lines = model.host_rows();
    let (map_rows, map_columns) = view::task::map_room(model);
    let (cells, each) = model.table().map_or((1, 1), |table| {
        let (cells, each) = heat(table, map_rows.saturating_mul(map_columns));
        (cells.len(), each)
    });
    let Screen::Task(screen) = model.screen() else { return };
    let found = place_of(model, screen, &lines);
    let near = screen.list.at.min(lines.len().saturating_sub(1));
    let item_at = |at: usize| match lines.get(at)? {
        HostRow::Lane(lane) => {
            let lane = model.runs.get(&screen.id)?.lanes.get(*lane)?;
            Some(Item::Lane(lane.group, lane.host.clone()))
        }
        HostRow::Fold { key, lanes, .. } => Some(Item::Fold(key.clone(), lanes.clone())),
    };
    // Of a fold those hosts count that it has now; a host that was chosen is remembered while it is in a fold.
    let fold = found.filter(|_| matches!(screen.list.chosen, Some(Item::Fold(..)))).and_then(item_at);
    let near_item = item_at(near);
    let Screen::Task(screen) = model.screen_mut() else { return };
    if screen.list.follow(found) {
        (screen.list.at, screen.list.chosen) = (near, near_item);
    }
    if let Some(fold) = fold {
        screen.list.chosen = Some(fold);
    }
    screen.list.settle(lines.len(), rows);
    screen.selected = lines.get(screen.list.at).filter(|_| !screen.list.lost).map(HostRow::key);
    // A cell of the map stands for the same hosts when the map has another size.
    if screen.each != each {
        screen.cell = screen.cell.saturating_mul(screen.each.max(1)).checked_div(each).unwrap_or(0);
        screen.each = each;
    }
    screen.cell = screen.cell.min(cells.saturating_sub(1));
}

/// What a line of a plain list is about.
fn item_at(model: &Model, at: usize) -> Option<Item> {
    match model.screen() {
        Screen::History(_) => model.past.lines.get(at.checked_sub(model.past.start)?).map(|line| Item::Task(line.id)),
        Screen::Audit(list) => view::audit::rows(model, list).get(at).map(|line| Item::Entry(line.seq)),
        Screen::Hosts(list) => view::hosts::rows(model, list).get(at).map(|host| Item::Host(host.name.clone())),
        Screen::Host(name, _) => view::hosts::page(model, name).into_iter().nth(at)?.1.map(Item::Task),
        Screen::Templates(list) => {
            view::templates::rows(model, list).get(at).map(|template| Item::Template(template.name.clone()))
        }
        Screen::Refused(list) => {
            view::refused::rows(model, list).get(at).map(|file| Item::File(file.refusal.at, file.refusal.name.clone()))
        }
        Screen::Requests(_) => {
            (at < model.requests.len()).then_some(Item::Request(model.first_request.saturating_add(at)))
        }
        Screen::Board(_) | Screen::Task(_) | Screen::Log(_) | Screen::Diff(_) => None,
    }
}

/// Where a plain list has what was selected.
fn position(model: &Model, item: &Item) -> Option<usize> {
    match (model.screen(), item) {
        (Screen::History(_), Item::Task(id)) => place_in_past(&model.past, *id),
        (Screen::Audit(list), Item::Entry(seq)) => {
            view::audit::rows(model, list).iter().position(|line| line.seq == *seq)
        }
        (Screen::Hosts(list), Item::Host(name)) => {
            view::hosts::rows(model, list).iter().position(|host| host.name == *name)
        }
        (Screen::Host(name, _), Item::Task(id)) => {
            view::hosts::page(model, name).iter().position(|(_, task)| *task == Some(*id))
        }
        (Screen::Templates(list), Item::Template(name)) => {
            view::templates::rows(model, list).iter().position(|template| template.name == *name)
        }
        (Screen::Refused(list), Item::File(at, name)) => view::refused::rows(model, list)
            .iter()
            .position(|file| file.refusal.at == *at && file.refusal.name == *name),
        (Screen::Requests(_), Item::Request(number)) => number.checked_sub(model.first_request),
        _ => None,
    }
}

fn place_in_past(past: &Past, id: TaskId) -> Option<usize> {
    past.lines.iter().position(|line| line.id == id).map(|n| past.start.saturating_add(n))
}

fn settle_list(model: &mut Model) {
    let rows = view::list_rows(model);
    let all = count(model);
    let partly = matches!(model.screen(), Screen::History(_));
    let Some(chosen) = model.screen_mut().list_mut().map(|list| list.chosen.clone()) else { return };
    let found = chosen.as_ref().and_then(|item| position(model, item));
    let Some(list) = model.screen_mut().list_mut() else { return };
    // Of a long history only a part is known; what stands in no known part is where it was.
    let elsewhere = partly && chosen.is_some() && found.is_none() && !list.again;
    let instead = !elsewhere && list.follow(found);
    list.settle(all, rows);
    if instead {
        let at = list.at;
        let item = item_at(model, at);
        if let Some(list) = model.screen_mut().list_mut() {
            list.chosen = item;
        }
    }
}

/// Takes a part of the history. What ended meanwhile stands above what was known: the rest stands further down.
pub(super) fn take_history(model: &mut Model, of: HistoryWant, count: usize, past: Past) {
    let same = (&of.filter, of.failed_only) == (&model.past.of.filter, model.past.of.failed_only);
    let more = count.saturating_sub(model.past.count);
    let known = model.past.count > 0;
    model.past = Past { of, count, ..past };
    if !(same && known && more > 0) {
        return;
    }
    for screen in &mut model.screens {
        if let Screen::History(list) = screen
            && let Some(Item::Task(id)) = &list.chosen
            && place_in_past(&model.past, *id).is_none()
        {
            list.at = list.at.saturating_add(more);
            list.top = list.top.saturating_add(if list.top > 0 { more } else { 0 });
        }
    }
}
