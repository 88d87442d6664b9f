//! Reads pages of a log, however long it is. Floor 3.
//!
//! **Invariant:** reads only, and never more than a page and what is looked for: a page is known by the offset of its first
//! line, so the end of a gigabyte is as near as its beginning. A file that is cut or replaced meanwhile gives other lines,
//! never a fault.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use memchr::{memchr_iter, memmem, memrchr_iter};

/// How much is read at a time when lines are looked for.
const CHUNK: usize = 256 << 10;
/// How much is looked through at most for lines with a text in them, so that nobody waits for it.
const LOOK_MAX: u64 = 64 << 20;
/// How much is counted at a time.
const COUNT_CHUNK: usize = 1 << 20;
/// How much is counted in one go: a longer log is counted over several looks.
const COUNT_MAX: u64 = 256 << 20;

/// A log that is read by pages.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    /// The parts of the file that are shown, one after the other, when that is not all of it.
    parts: Option<Vec<Part>>,
    /// How many line feeds stand before each whole [`COUNT_CHUNK`].
    counted: Vec<u64>,
}

/// A part of a file: where it begins in the file and in what is shown, and how long it is.
#[derive(Clone, Copy, Debug)]
struct Part {
    from: u64,
    at: u64,
    length: u64,
}

/// A line of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it begins.
    pub offset: u64,
    /// Its bytes without the line feed, as many as were wanted.
    pub bytes: Vec<u8>,
    /// How long it is, without its line feed.
    pub length: u64,
}

/// Some lines of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The lines.
    pub lines: Vec<Line>,
    /// Where the line after the last one begins.
    pub next: u64,
}

impl LogFile {
    /// Opens a log.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<LogFile> {
        Ok(LogFile { file: File::open(path)?, parts: None, counted: vec![0] })
    }

    /// Returns how long it is.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn length(&self) -> io::Result<u64> {
        match &self.parts {
            None => self.file_length(),
            Some(parts) => Ok(parts.last().map_or(0, |part| part.at.saturating_add(part.length))),
        }
    }

    /// Returns how long the whole file is.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn file_length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Shows only these parts of the file, each from where to where, as if there were nothing between them: every offset is
    /// one of what is shown from then on. What was shown stays where it is, when only parts are added at the end.
    pub fn show_only(&mut self, parts: impl IntoIterator<Item = (u64, u64)>) {
        let mut at = 0;
        let part = |(from, to): (u64, u64)| {
            let part = Part { from, at, length: to.saturating_sub(from) };
            at = at.saturating_add(part.length);
            part
        };
        self.parts = Some(parts.into_iter().map(part).filter(|part| part.length > 0).collect());
    }

    /// Returns where something stands in the file that stands at `offset` of what is shown.
    #[must_use]
    pub fn in_file(&self, offset: u64) -> u64 {
        let Some(parts) = &self.parts else { return offset };
        let part = parts[..parts.partition_point(|part| part.at <= offset)].last();
        part.map_or(0, |part| part.from.saturating_add(offset.saturating_sub(part.at).min(part.length)))
    }

    /// Returns where something is shown that stands at `offset` of the file, or what comes after it.
    #[must_use]
    pub fn as_shown(&self, offset: u64) -> u64 {
        let Some(parts) = &self.parts else { return offset };
        let part = parts[..parts.partition_point(|part| part.from <= offset)].last();
        part.map_or(0, |part| part.at.saturating_add(offset.saturating_sub(part.from).min(part.length)))
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let Some(parts) = &self.parts else { return self.file.read_at(buffer, at) };
        let part = parts[..parts.partition_point(|part| part.at <= at)].last();
        let Some(part) = part.filter(|part| at < part.at.saturating_add(part.length)) else { return Ok(0) };
        let left = usize::try_from(part.at.saturating_add(part.length).saturating_sub(at))
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        self.file.read_at(&mut buffer[..left], part.from.saturating_add(at.saturating_sub(part.at)))
    }

    /// Reads `count` lines that hold `keep`, from the one that begins at `from`; of each at most `most` bytes.
    ///
    /// Where few lines hold it, less is returned than there is: the rest is looked at from [`Lines::next`] on.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn lines(&self, from: u64, count: usize, keep: &[u8], most: usize) -> io::Result<Lines> {
        self.lines_before(from.saturating_add(LOOK_MAX), from, count, keep, most)
    }

    /// Reads lines that begin before `end`.
    fn lines_before(&self, end: u64, from: u64, count: usize, keep: &[u8], most: usize) -> io::Result<Lines> {
        let mut page = Lines { lines: Vec::new(), next: from };
        let mut line = Line { offset: from, bytes: Vec::new(), length: 0 };
        let mut at = from;
        let mut buffer = vec![0; CHUNK];
        let kept = |line: &Line| keep.is_empty() || memmem::find(&line.bytes, keep).is_some();
        while page.lines.len() < count && line.offset < end {
            let read = self.read_at(&mut buffer, at)?;
            if read == 0 {
                if line.length > 0 && kept(&line) {
                    page.next = at;
                    page.lines.push(line);
                }
                return Ok(page);
            }
            let mut begin = 0;
            for feed in memchr_iter(b'\n', &buffer[..read]) {
                add(&mut line, &buffer[begin..feed], most);
                begin = feed.saturating_add(1);
                let next = at.saturating_add(begin as u64);
                let whole = std::mem::replace(&mut line, Line { offset: next, bytes: Vec::new(), length: 0 });
                page.next = next;
                if kept(&whole) {
                    page.lines.push(whole);
                    if page.lines.len() == count {
                        return Ok(page);
                    }
                }
                if line.offset >= end {
                    return Ok(page);
                }
            }
            add(&mut line, &buffer[begin..read], most);
            at = at.saturating_add(read as u64);
        }
        Ok(page)
    }

    /// Returns where the line begins that is `count` kept lines before `from`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn back(&self, from: u64, count: usize, keep: &[u8], most: usize) -> io::Result<u64> {
        if count == 0 {
            return Ok(from);
        }
        if keep.is_empty() {
            return self.back_plain(from, count);
        }
        let (mut left, mut at) = (count, from);
        let stop = from.saturating_sub(LOOK_MAX);
        while at > stop {
            let begin = self.back_plain(at, 1_000)?;
            let page = self.lines_before(at, begin, 1_000, keep, most)?.lines;
            if page.len() >= left {
                return Ok(page[page.len().saturating_sub(left)].offset);
            }
            left = left.saturating_sub(page.len());
            at = begin;
        }
        Ok(at)
    }

    fn back_plain(&self, from: u64, count: usize) -> io::Result<u64> {
        let mut left = count;
        // The line feed that ends the line before `from` does not begin it.
        let mut end = from.saturating_sub(1);
        let mut buffer = vec![0; CHUNK];
        while end > 0 {
            let begin = end.saturating_sub(CHUNK as u64);
            let wanted = usize::try_from(end.saturating_sub(begin)).unwrap_or(CHUNK);
            let read = self.read_whole(&mut buffer[..wanted], begin)?;
            for at in memrchr_iter(b'\n', &buffer[..read]) {
                left = left.saturating_sub(1);
                if left == 0 {
                    return Ok(begin.saturating_add(at as u64).saturating_add(1));
                }
            }
            end = begin;
        }
        Ok(0)
    }

    /// Returns where the last page of so many lines begins.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last_page(&self, count: usize, keep: &[u8], most: usize) -> io::Result<u64> {
        let length = self.length()?;
        let mut last = [0];
        let ends = length > 0 && self.read_at(&mut last, length.saturating_sub(1))? == 1 && last[0] == b'\n';
        // A line that is still written counts as one.
        self.back(if ends { length } else { length.saturating_add(1) }, count, keep, most)
    }

    /// Returns where the line begins that holds `needle`: the first from `from` on, or the last that begins before it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find(&self, from: u64, needle: &[u8], forward: bool) -> io::Result<Option<u64>> {
        let overlap = needle.len().saturating_sub(1);
        let mut buffer = vec![0; CHUNK.max(needle.len().saturating_mul(2))];
        let step = buffer.len().saturating_sub(overlap) as u64;
        let length = self.length()?;
        let mut at = if forward { from } else { from.saturating_sub(step) };
        loop {
            let most = if forward {
                buffer.len()
            } else {
                usize::try_from(from.saturating_sub(at).min(step)).unwrap_or(0).saturating_add(overlap)
            };
            let most = most.min(buffer.len());
            let read = self.read_whole(&mut buffer[..most], at)?;
            let limit = from.saturating_sub(at.min(from));
            let found = if forward {
                memmem::find(&buffer[..read], needle)
            } else {
                let starts = |place: &usize| (*place as u64) < limit;
                memmem::rfind_iter(&buffer[..read], needle).find(starts)
            };
            if let Some(place) = found {
                return self.back_plain(at.saturating_add(place as u64).saturating_add(1), 1).map(Some);
            }
            if forward {
                at = at.saturating_add(step);
                if at >= length {
                    return Ok(None);
                }
            } else if at == 0 {
                return Ok(None);
            } else {
                at = at.saturating_sub(step);
            }
        }
    }

    /// Returns the number of the line that begins at `offset`, from 1; `None` while that much was not counted.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn number(&mut self, offset: u64) -> io::Result<Option<u64>> {
        const CHUNK: u64 = COUNT_CHUNK as u64;
        let mut buffer = vec![0; COUNT_CHUNK];
        let wanted = usize::try_from(offset / CHUNK).unwrap_or(usize::MAX);
        let mut budget = COUNT_MAX / CHUNK;
        while self.counted.len() <= wanted {
            if budget == 0 {
                return Ok(None);
            }
            budget = budget.saturating_sub(1);
            let at = (self.counted.len() as u64).saturating_sub(1).saturating_mul(CHUNK);
            let read = self.read_whole(&mut buffer, at)?;
            if read < COUNT_CHUNK {
                return Ok(None);
            }
            let known = self.counted.last().copied().unwrap_or(0);
            self.counted.push(known.saturating_add(memchr_iter(b'\n', &buffer).count() as u64));
        }
        let rest = usize::try_from(offset % CHUNK).unwrap_or(0);
        let read = self.read_whole(&mut buffer[..rest], offset.saturating_sub(rest as u64))?;
        Ok(Some(
            self.counted[wanted].saturating_add(memchr_iter(b'\n', &buffer[..read]).count() as u64).saturating_add(1),
        ))
    }

    fn read_whole(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(&mut buffer[done..], at.saturating_add(done as u64))? {
                0 => break,
                read => done = done.saturating_add(read),
            }
        }
        Ok(done)
    }
}

fn add(line: &mut Line, bytes: &[u8], most: usize) {
    let room = most.saturating_sub(line.bytes.len()).min(bytes.len());
    line.bytes.extend_from_slice(&bytes[..room]);
    line.length = line.length.saturating_add(bytes.len() as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> (tempfile::TempDir, LogFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, text).unwrap();
        let file = LogFile::open(&path).unwrap();
        (dir, file)
    }

    fn texts(page: &Lines) -> Vec<String> {
        page.lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
    }

    #[test]
    fn pages_stand_where_they_are_asked_for() {
        let (_dir, log) = log("one\ntwo\n\nfour\nfive");
        assert_eq!(texts(&log.lines(0, 3, b"", 100).unwrap()), ["one", "two", ""]);
        assert_eq!(texts(&log.lines(4, 9, b"", 100).unwrap()), ["two", "", "four", "five"]);
        assert_eq!(texts(&log.lines(0, 9, b"o", 100).unwrap()), ["one", "two", "four"]);
        assert_eq!(texts(&log.lines(0, 1, b"", 2).unwrap()), ["on"]);
        let last = log.last_page(2, b"", 100).unwrap();
        assert_eq!(texts(&log.lines(last, 9, b"", 100).unwrap()), ["four", "five"]);
        assert_eq!(log.back(9, 2, b"", 100).unwrap(), 4);
        assert_eq!(log.back(4, 9, b"", 100).unwrap(), 0);
        assert_eq!(log.back(14, 2, b"o", 100).unwrap(), 4);
        assert_eq!(log.last_page(2, b"o", 100).unwrap(), 4);
    }

    #[test]
    fn parts_of_a_file_are_read_as_if_there_were_nothing_between_them() {
        //                       0123456789 123456789 12345678
        let (_dir, mut log) = log("out 1\nouWARN\nt 2\nerr\nout 3\n");
        log.show_only([(0, 8), (13, 17), (21, 27)]);
        assert_eq!(log.length().unwrap(), 18);
        let page = log.lines(0, 9, b"", 100).unwrap();
        assert_eq!(texts(&page), ["out 1", "out 2", "out 3"]);
        assert_eq!(page.lines.iter().map(|line| line.offset).collect::<Vec<_>>(), [0, 6, 12]);
        assert_eq!(log.last_page(1, b"", 100).unwrap(), 12);
        assert_eq!(log.back(12, 1, b"", 100).unwrap(), 6);
        assert_eq!((log.find(0, b"t 2", true).unwrap(), log.find(0, b"WARN", true).unwrap()), (Some(6), None));
        assert_eq!(log.number(12).unwrap(), Some(3));
        assert_eq!([0, 6, 8, 12, 18].map(|offset| log.in_file(offset)), [0, 6, 13, 21, 27]);
        assert_eq!([0, 6, 9, 13, 18, 27].map(|offset| log.as_shown(offset)), [0, 6, 8, 8, 12, 18]);
        log.show_only([(8, 13), (17, 21)]);
        assert_eq!(texts(&log.lines(0, 9, b"", 100).unwrap()), ["WARN", "err"]);
        log.show_only([]);
        assert_eq!((log.length().unwrap(), log.lines(0, 9, b"", 100).unwrap().lines.len()), (0, 0));
    }

    #[test]
    fn an_ended_line_is_the_last_one() {
        let (_dir, log) = log("one\ntwo\n");
        assert_eq!(log.last_page(1, b"", 100).unwrap(), 4);
        assert_eq!(log.last_page(9, b"", 100).unwrap(), 0);
    }

    #[test]
    fn what_is_looked_for_is_found_forward_and_back() {
        let (_dir, log) = log("alpha\nbeta\ngamma\nbeta two\n");
        assert_eq!(log.find(0, b"beta", true).unwrap(), Some(6));
        assert_eq!(log.find(7, b"beta", true).unwrap(), Some(17));
        assert_eq!(log.find(17, b"beta", false).unwrap(), Some(6));
        assert_eq!(log.find(6, b"beta", false).unwrap(), None);
        assert_eq!(log.find(0, b"delta", true).unwrap(), None);
    }

    #[test]
    fn long_logs_give_the_same_answers_as_short_ones() {
        let text: String = (0..200_000).map(|n| format!("line {n} {}\n", "x".repeat(n % 90))).collect();
        let offsets: Vec<u64> =
            std::iter::once(0).chain(memchr_iter(b'\n', text.as_bytes()).map(|at| at as u64 + 1)).collect();
        let (_dir, mut log) = log(&text);
        for n in [0_usize, 1, 17, 4_999, 5_000, 100_000, 199_999] {
            assert_eq!(log.number(offsets[n]).unwrap(), Some(n as u64 + 1));
            let page = log.lines(offsets[n], 2, b"", 10).unwrap();
            assert!(texts(&page)[0].starts_with(&format!("line {n} ")[..7.min(format!("line {n} ").len())]));
            assert_eq!(log.back(offsets[n], n.min(3_000), b"", 10).unwrap(), offsets[n - n.min(3_000)]);
            let needle = format!("line {n} ");
            assert_eq!(log.find(0, needle.as_bytes(), true).unwrap(), Some(offsets[n]), "{needle}");
            assert_eq!(log.find(text.len() as u64, needle.as_bytes(), false).unwrap(), Some(offsets[n]), "{needle}");
        }
    }
}
