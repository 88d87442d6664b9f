//! Spans of time, sizes and foreign texts, as a line of a screen says them.
//!
//! **Invariant:** pure.

use crate::shells::text::shown;

/// Writes a span of time as people say it.
pub(super) fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0 if ms > 0 => format!("{ms}ms"),
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Writes a count of bytes as people say it.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{}.{} KiB", bytes >> 10, (bytes & 1023).saturating_mul(10) / 1024),
        1_048_576..1_073_741_824 => format!("{}.{} MiB", bytes >> 20, (bytes >> 10 & 1023).saturating_mul(10) / 1024),
        _ => format!("{}.{} GiB", bytes >> 30, (bytes >> 20 & 1023).saturating_mul(10) / 1024),
    }
}

/// One line of text that is safe to show, with its inner lines joined.
pub(super) fn one_line(text: &str) -> String {
    shown(&text.replace(['\n', '\t'], " "))
}
