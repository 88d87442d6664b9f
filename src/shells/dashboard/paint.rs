//! What is written to a terminal so that it shows a frame.
//!
//! **Invariant:** pure. Where a terminal may make one sign of neighbouring cells, or another width of one, nothing of an
//! earlier frame stays: the cells are painted together, one by one, each emptied before and each at its own place.

use ratatui::buffer::{Buffer, Cell};

use crate::shells::text::cells;
use crate::shells::text::cells::is_delicate;

/// One thing to write.
#[derive(Debug, PartialEq)]
pub(super) enum Stroke<'a> {
    /// Cells that stand each for itself.
    Plain(Vec<(u16, u16, &'a Cell)>),
    /// A cell that is emptied first, with as many as it takes.
    Careful(u16, u16, &'a Cell, u16),
}

fn delicate(cell: &Cell) -> bool {
    cell.symbol().chars().any(is_delicate)
}

/// Returns what differs between two frames of one size.
pub(super) fn strokes<'a>(before: &Buffer, after: &'a Buffer) -> Vec<Stroke<'a>> {
    let changed = before.diff(after);
    let mut strokes = Vec::new();
    let mut plain: Vec<(u16, u16, &Cell)> = Vec::new();
    let mut rest = &changed[..];
    while let Some((_, y, _)) = rest.first() {
        let (row, others) = rest.split_at(rest.iter().position(|(_, other, _)| other != y).unwrap_or(rest.len()));
        rest = others;
        let touched = spans(before, after, *y, row);
        let alone = |x: u16| !touched.iter().any(|(from, to)| (*from..*to).contains(&x));
        plain.extend(row.iter().filter(|(x, _, _)| alone(*x)));
        if touched.is_empty() {
            continue;
        }
        strokes.push(Stroke::Plain(std::mem::take(&mut plain)));
        for (from, to) in touched {
            let mut x = from;
            while x < to {
                let cell = &after[(x, *y)];
                let wide = u16::try_from(cells(cell.symbol())).unwrap_or(1).max(1);
                strokes.push(Stroke::Careful(x, *y, cell, wide));
                x = x.saturating_add(wide);
            }
        }
    }
    strokes.push(Stroke::Plain(plain));
    strokes.retain(|stroke| !matches!(stroke, Stroke::Plain(cells) if cells.is_empty()));
    strokes
}

/// Returns the parts of a row that are painted together because something changed in them, and what is delicate in either
/// frame stands in them.
fn spans(before: &Buffer, after: &Buffer, y: u16, changed: &[(u16, u16, &Cell)]) -> Vec<(u16, u16)> {
    let width = after.area.width;
    let mut all: Vec<(u16, u16)> = Vec::new();
    for x in (0..width).filter(|x| delicate(&before[(*x, y)]) || delicate(&after[(*x, y)])) {
        let wide = [before, after].map(|frame| cells(frame[(x, y)].symbol())).into_iter().max().unwrap_or(1);
        let wide = u16::try_from(wide).unwrap_or(1).max(1);
        // What stands before it may become one sign with it, and it may reach into what stands behind it.
        let from = x.saturating_sub(if x >= 2 && is_wide(before, after, x.saturating_sub(2), y) { 2 } else { 1 });
        let behind = x.saturating_add(wide);
        let next = if is_wide(before, after, behind.min(width.saturating_sub(1)), y) { 2 } else { 1 };
        let to = behind.saturating_add(next).min(width);
        match all.last_mut() {
            Some(last) if last.1 >= from => last.1 = last.1.max(to),
            _ => all.push((from, to)),
        }
    }
    all.retain(|(from, to)| changed.iter().any(|(x, _, _)| (*from..*to).contains(x)));
    all
}

fn is_wide(before: &Buffer, after: &Buffer, x: u16, y: u16) -> bool {
    [before, after].iter().any(|frame| cells(frame[(x, y)].symbol()) > 1)
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;
    use crate::shells::text::cells::units;

    fn frame(text: &str) -> Buffer {
        let mut buffer = Buffer::empty(Rect { x: 0, y: 0, width: 12, height: 1 });
        let mut x = 0;
        for (unit, wide) in units(text) {
            buffer[(x, 0)].set_symbol(unit).set_style(Style::new());
            x += u16::try_from(wide).unwrap();
        }
        buffer
    }

    /// The columns that are painted plainly, and those that are with care.
    fn painted(before: &str, after: &str) -> (Vec<u16>, Vec<u16>) {
        let (before, after) = (frame(before), frame(after));
        let (mut plain, mut careful) = (Vec::new(), Vec::new());
        for stroke in strokes(&before, &after) {
            match stroke {
                Stroke::Plain(cells) => plain.extend(cells.iter().map(|(x, _, _)| *x)),
                Stroke::Careful(x, _, _, wide) => careful.extend(x..x + wide),
            }
        }
        (plain, careful)
    }

    #[test]
    fn what_may_be_one_sign_is_painted_together() {
        for (before, after, plain, careful) in [
            ("", "abc", vec![0, 1, 2], vec![]),
            ("abc", "abx", vec![2], vec![]),
            ("发布", "发x", vec![2], vec![]),
            ("same น\u{e33}", "same น\u{e33}", vec![], vec![]),
            // The second cell of the old pair is written too, though it is blank in both frames.
            ("น\u{e33}", "a", vec![], vec![0, 1, 2]),
            ("xน\u{e33}y", "xay", vec![], vec![0, 1, 2, 3]),
            ("xxxxน\u{e33}", "yxxxน\u{e33}", vec![0], vec![]),
            ("xxxxน\u{e33}", "xxxyน\u{e33}", vec![], vec![3, 4, 5, 6]),
            ("", "发\u{915}\u{94d}\u{937}", vec![], vec![0, 1, 2, 3, 4]),
            ("ab", "\u{1f44d}", vec![], vec![0, 1, 2]),
        ] {
            assert_eq!(painted(before, after), (plain, careful), "{before:?} to {after:?}");
        }
    }
}
