//! What a screen is told of a log: its end, a page without lines, and which stream a line came from.
//!
//! **Invariant:** opens logs for reading only, and of each only what was asked for.

use std::os::unix::fs::FileExt as _;

use crate::adapters::output_log::Mark;
use crate::domain::output::Stream;
use crate::shells::dashboard::message::{LogPage, LogWant, Tail};

pub(super) fn empty_page(wanted: &LogWant) -> LogPage {
    LogPage {
        key: wanted.key.clone(),
        anchor: wanted.anchor,
        length: 0,
        lines: Vec::new(),
        next: 0,
        number: None,
        cut: None,
    }
}

pub(super) fn stream_at(marks: &[Mark], offset: u64) -> Stream {
    let after = marks.partition_point(|mark| mark.offset <= offset);
    after.checked_sub(1).and_then(|n| marks.get(n)).map_or(Stream::Out, |mark| mark.stream)
}

/// Reads the last lines of a log, whole but perhaps for the last.
pub(super) fn read_tail(path: &std::path::Path, length: u64, most: usize) -> Option<Tail> {
    let file = std::fs::File::open(path).ok()?;
    let from = length.saturating_sub(most as u64);
    let mut bytes = vec![0; usize::try_from(length - from).ok()?];
    file.read_exact_at(&mut bytes, from).ok()?;
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let mut lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if from > 0 && lines.len() > 1 {
        lines.remove(0);
    }
    Some(Tail { length, lines })
}
