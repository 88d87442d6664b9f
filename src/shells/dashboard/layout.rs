//! The size of the screen, and what fits on it.
//!
//! **Invariant:** pure; the same numbers say what is painted, what is read from the disk, and how far a key scrolls.

use ratatui::layout::Rect;

/// From this width on lanes, maps and logs stand side by side.
const WIDE: u16 = 140;
/// Below this height there is one line above and one below, and no rules.
pub(super) const LOW: u16 = 18;

/// How many columns and rows the terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScreenSize {
    pub(super) width: u16,
    pub(super) height: u16,
}

impl ScreenSize {
    /// The smallest screen that is painted.
    pub(super) const SMALLEST: ScreenSize = ScreenSize { width: 60, height: 15 };

    pub(super) fn new(width: u16, height: u16) -> ScreenSize {
        ScreenSize { width, height }
    }

    /// Whether nothing is painted because there is no room for it.
    pub(super) fn is_too_small(self) -> bool {
        self.width < ScreenSize::SMALLEST.width || self.height < ScreenSize::SMALLEST.height
    }

    pub(super) fn is_low(self) -> bool {
        self.height < LOW
    }

    pub(super) fn is_wide(self) -> bool {
        self.width >= WIDE
    }

    /// How many rows there are between the lines at the top and at the bottom.
    pub(super) fn body_rows(self) -> usize {
        usize::from(self.body().height)
    }

    /// What is between the lines at the top and at the bottom.
    pub(super) fn body(self) -> Rect {
        let (y, taken) = if self.is_low() { (1, 2) } else { (3, 6) };
        Rect { x: 0, y, width: self.width, height: self.height.saturating_sub(taken) }
    }

    /// Which row of the body a row of the terminal is.
    pub(super) fn body_row(self, row: u16) -> Option<usize> {
        usize::from(row).checked_sub(usize::from(self.body().y)).filter(|row| *row < self.body_rows())
    }
}

/// Divides an area into a list and what is known of its selected line, which stands below it.
pub(super) fn above(body: Rect) -> (Rect, Rect) {
    let height = (body.height.saturating_sub(1) / 2).saturating_add(1);
    let below = Rect { y: body.y.saturating_add(height), height: body.height.saturating_sub(height), ..body };
    (Rect { height, ..body }, below)
}

/// Divides an area into a list and what is known of its selected line, which stands beside it.
pub(super) fn beside(body: Rect) -> (Rect, Rect) {
    let width = body.width.saturating_mul(2) / 5;
    let right = Rect {
        x: body.x.saturating_add(width).saturating_add(1),
        width: body.width.saturating_sub(width).saturating_sub(1),
        ..body
    };
    (Rect { width, ..body }, right)
}

/// How many lines of a list an area shows below its heading.
pub(super) fn lines(area: Rect) -> usize {
    usize::from(area.height).saturating_sub(1)
}

/// A window in the middle, as wide as it may be and as high as it must.
pub(super) fn centred(screen: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(screen.width), height.min(screen.height));
    Rect {
        x: screen.x.saturating_add(screen.width.saturating_sub(width) / 2),
        y: screen.y.saturating_add(screen.height.saturating_sub(height) / 2),
        width,
        height,
    }
}
