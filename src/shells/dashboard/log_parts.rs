//! The logs of steps, as screens show them: their ends, and pages of them.
//!
//! **Invariant:** opens logs for reading only, and of each only what was asked for. A line of the screen is of one stream:
//! where the other one broke in, there are several; of one stream alone, every line is whole.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::adapters::log_file::{Line, LogFile};
use crate::adapters::output_log::{self, Mark};
use crate::adapters::spool::layout::Layout;
use crate::domain::output::Stream;
use crate::shells::dashboard::message::{
    Anchor, LINE_BYTES_MAX, LogKey, LogLine, LogPage, LogPart, LogWant, Message, Tail, Wants,
};

/// How long the marks beside a log may be to be read for its last line.
const TAIL_MARKS_MAX: u64 = 64 << 10;

/// The logs that were opened.
#[derive(Debug)]
pub(super) struct Logs {
    layout: Layout,
    tails: BTreeMap<LogKey, (u64, usize, Tail)>,
    open: Option<Open>,
    page: Option<(LogWant, u64)>,
}

/// The log that is read by pages.
#[derive(Debug)]
struct Open {
    of: LogPart,
    file: LogFile,
    /// Its marks, and how long their file was.
    marks: (u64, Vec<Mark>),
    /// How long the file was when the parts were made that are shown.
    parts_of: Option<u64>,
}

impl Logs {
    pub(super) fn new(state: PathBuf) -> Logs {
        Logs { layout: Layout::new(state), tails: BTreeMap::new(), open: None, page: None }
    }

    /// Looks at what the screen wants of logs.
    pub(super) fn look(&mut self, wants: &Wants, messages: &mut Vec<Message>) {
        self.look_at_tails(&wants.tails, messages);
        self.look_at_page(wants.log.as_ref(), messages);
    }

    fn path(&self, key: &LogKey) -> PathBuf {
        self.layout.log(key.task, &key.host, &key.step, key.attempt)
    }

    fn look_at_tails(&mut self, wanted: &BTreeMap<LogKey, usize>, messages: &mut Vec<Message>) {
        let known = self.tails.len();
        self.tails.retain(|key, _| wanted.contains_key(key));
        let mut changed = self.tails.len() != known;
        for (key, most) in wanted {
            let path = self.path(key);
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            if self.tails.get(key).is_some_and(|(length, bytes, _)| (*length, *bytes) == (meta.size(), *most)) {
                continue;
            }
            if let Some(tail) = read_tail(&path, meta.size(), *most) {
                self.tails.insert(key.clone(), (meta.size(), *most, tail));
                changed = true;
            }
        }
        if changed {
            let tails = self.tails.iter().map(|(key, (_, _, tail))| (key.clone(), tail.clone())).collect();
            messages.push(Message::Tails(tails));
        }
    }

    fn look_at_page(&mut self, wanted: Option<&LogWant>, messages: &mut Vec<Message>) {
        let Some(wanted) = wanted else {
            (self.open, self.page) = (None, None);
            return;
        };
        let Some(length) = self.open(&wanted.of) else {
            let gone = self.page.as_ref().is_none_or(|(known, _)| known != wanted);
            if gone {
                self.page = Some((wanted.clone(), 0));
                messages.push(Message::Log(empty_page(wanted)));
            }
            return;
        };
        if self.page.as_ref().is_some_and(|(known, at)| known == wanted && *at == length) {
            return;
        }
        match self.read_page(wanted, length) {
            Ok(page) => {
                self.page = Some((wanted.clone(), length));
                messages.push(Message::Log(page));
            }
            Err(error) => messages.push(Message::Say(format!("{}: {error}", wanted.of.key.host))),
        }
    }

    /// Opens what is shown of a log, unless it is open, and looks how long it is.
    fn open(&mut self, of: &LogPart) -> Option<u64> {
        let path = self.path(&of.key);
        if self.open.as_ref().is_none_or(|open| open.of != *of) {
            let file = LogFile::open(&path).ok()?;
            self.open = Some(Open { of: of.clone(), file, marks: (0, Vec::new()), parts_of: None });
        }
        self.open.as_mut()?.look(&path).ok()
    }

    fn read_page(&mut self, wanted: &LogWant, length: u64) -> io::Result<LogPage> {
        let Some(open) = &mut self.open else { return Ok(empty_page(wanted)) };
        let keep = wanted.keep.as_bytes();
        let from = match wanted.anchor {
            Anchor::End => open.file.last_page(wanted.rows, keep, LINE_BYTES_MAX)?,
            Anchor::At(offset) => offset.min(length),
        };
        let found = open.file.lines(from, wanted.rows.saturating_add(1), keep, LINE_BYTES_MAX)?;
        let marks = &open.marks.1;
        let mut lines: Vec<LogLine> = match wanted.of.stream {
            None => {
                let mut open = [false; 2];
                found.lines.into_iter().flat_map(|line| pieces(&line, marks, &mut open)).collect()
            }
            Some(stream) => found.lines.into_iter().map(|line| whole(line, stream)).collect(),
        };
        if wanted.anchor == Anchor::End {
            lines.drain(..lines.len().saturating_sub(wanted.rows));
        }
        let number = lines.first().map_or(Ok(None), |line| open.file.number(line.offset))?;
        let cut = marks.iter().find(|mark| mark.tail && wanted.of.stream.is_none_or(|stream| mark.stream == stream));
        let cut = cut.map(|mark| open.file.as_shown(mark.offset));
        Ok(LogPage { of: wanted.of.clone(), anchor: wanted.anchor, length, lines, next: found.next, number, cut })
    }

    /// Finds where a page begins that ends before an offset.
    pub(super) fn back(&mut self, of: &LogPart, from: u64, lines: usize, keep: &str) -> Option<Message> {
        self.open(of)?;
        let open = self.open.as_ref()?;
        let offset = open.file.back(from, lines.min(100_000), keep.as_bytes(), LINE_BYTES_MAX).ok()?;
        Some(Message::LogTop(of.clone(), offset))
    }

    /// Finds a text in a log.
    pub(super) fn find(&mut self, of: &LogPart, from: u64, needle: &str, forward: bool) -> Option<Message> {
        self.open(of)?;
        let found = self.open.as_ref()?.file.find(from, needle.as_bytes(), forward).ok()?;
        Some(Message::Found(of.clone(), found))
    }

    /// Finds where the line that stands at an offset of one part of a log stands in another part of it, or what comes after it.
    pub(super) fn other(&mut self, of: &LogPart, from: u64, to: Option<Stream>) -> Option<Message> {
        self.open(of)?;
        let offset = self.open.as_ref()?.file.in_file(from);
        let to = LogPart { key: of.key.clone(), stream: to };
        self.open(&to)?;
        let file = &self.open.as_ref()?.file;
        let place = file.as_shown(offset);
        // From the beginning of a line on.
        let top = file.back(place.saturating_add(1), 1, b"", LINE_BYTES_MAX).ok()?;
        Some(Message::LogTop(to, top))
    }
}

impl Open {
    /// Looks how long the log is, and what of it is of the stream that is shown.
    fn look(&mut self, path: &Path) -> io::Result<u64> {
        // Marks are written before the bytes they speak of, so they are read after these were counted.
        let length = self.file.file_length()?;
        let size = std::fs::metadata(path.with_extension("streams")).map_or(0, |meta| meta.size());
        if self.marks.0 != size {
            self.marks = (size, output_log::marks(path));
            self.parts_of = None;
        }
        if let Some(stream) = self.of.stream.filter(|_| self.parts_of != Some(length)) {
            self.file.show_only(parts_of(&self.marks.1, stream, length));
            self.parts_of = Some(length);
        }
        self.file.length()
    }
}

/// From where to where a log is of one stream. What stands before the first mark was printed to standard output.
fn parts_of(marks: &[Mark], stream: Stream, length: u64) -> Vec<(u64, u64)> {
    let first = marks.first().map_or(length, |mark| mark.offset);
    let head = (stream == Stream::Out && first > 0).then_some((0, first.min(length)));
    let until = |n: usize| marks.get(n.saturating_add(1)).map_or(length, |next| next.offset).min(length);
    let of = marks.iter().enumerate().filter(|(_, mark)| mark.stream == stream);
    head.into_iter().chain(of.map(|(n, mark)| (mark.offset.min(length), until(n)))).collect()
}

fn empty_page(wanted: &LogWant) -> LogPage {
    LogPage {
        of: wanted.of.clone(),
        anchor: wanted.anchor,
        length: 0,
        lines: Vec::new(),
        next: 0,
        number: None,
        cut: None,
    }
}

fn whole(line: Line, stream: Stream) -> LogLine {
    LogLine { offset: line.offset, stream, bytes: line.bytes, length: line.length, goes_on: false }
}

/// Cuts a line where the stream changes in it. `open` says of both streams whether what they printed last was no whole line.
fn pieces(line: &Line, marks: &[Mark], open: &mut [bool; 2]) -> Vec<LogLine> {
    let end = line.offset.saturating_add(line.length);
    let inside = |mark: &&Mark| mark.offset > line.offset && mark.offset < end;
    let mut begins = vec![(line.offset, stream_at(marks, line.offset))];
    let from = marks.partition_point(|mark| mark.offset <= line.offset);
    for mark in marks[from..].iter().take_while(inside) {
        if begins.last().is_some_and(|(_, stream)| *stream != mark.stream) {
            begins.push((mark.offset, mark.stream));
        }
    }
    let ends = begins.iter().skip(1).map(|(begin, _)| *begin).chain([end]);
    let slice =
        |offset: u64| usize::try_from(offset.saturating_sub(line.offset)).unwrap_or(usize::MAX).min(line.bytes.len());
    let piece = |((begin, stream), until): (&(u64, Stream), u64)| {
        let bytes = line.bytes[slice(*begin)..slice(until)].to_vec();
        let open = &mut open[usize::from(*stream == Stream::Err)];
        let goes_on = std::mem::replace(open, until < end);
        LogLine { offset: *begin, stream: *stream, bytes, length: until.saturating_sub(*begin), goes_on }
    };
    begins.iter().zip(ends).map(piece).collect()
}

fn stream_at(marks: &[Mark], offset: u64) -> Stream {
    let after = marks.partition_point(|mark| mark.offset <= offset);
    after.checked_sub(1).and_then(|n| marks.get(n)).map_or(Stream::Out, |mark| mark.stream)
}

/// Reads the last lines of a log, whole but perhaps for the last.
fn read_tail(path: &Path, length: u64, most: usize) -> Option<Tail> {
    let file = std::fs::File::open(path).ok()?;
    let from = length.saturating_sub(most as u64);
    let mut bytes = vec![0; usize::try_from(length.saturating_sub(from)).ok()?];
    file.read_exact_at(&mut bytes, from).ok()?;
    let few = std::fs::metadata(path.with_extension("streams")).is_ok_and(|meta| meta.size() <= TAIL_MARKS_MAX);
    let marks = if few { output_log::marks(path) } else { Vec::new() };
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let mut at = from;
    let mut lines = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let line = Line { offset: at, bytes: line.to_vec(), length: line.len() as u64 };
        at = at.saturating_add(line.length.saturating_add(1));
        lines.push(pieces(&line, &marks, &mut [false; 2]).into_iter().map(|piece| piece.bytes).collect::<Vec<_>>());
    }
    if from > 0 && lines.len() > 1 {
        lines.remove(0);
    }
    Some(Tail { length, lines: lines.concat() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of pieces, each with its stream.
    fn logs(of: &[(char, &str)]) -> (tempfile::TempDir, Logs, LogKey) {
        let dir = tempfile::tempdir().unwrap();
        let key = LogKey {
            task: crate::base::ids::TaskId(1),
            host: "web1".parse().unwrap(),
            step: "run".parse().unwrap(),
            attempt: 1,
        };
        let logs = Logs::new(dir.path().to_owned());
        let path = logs.path(&key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let (mut text, mut marks) = (String::new(), String::new());
        for (letter, piece) in of {
            marks += &format!("{} {letter} 1\n", text.len());
            text += piece;
        }
        std::fs::write(&path, text).unwrap();
        std::fs::write(path.with_extension("streams"), marks).unwrap();
        (dir, logs, key)
    }

    fn want(key: &LogKey, stream: Option<Stream>, anchor: Anchor, rows: usize) -> LogWant {
        LogWant { of: LogPart { key: key.clone(), stream }, anchor, rows, keep: String::new() }
    }

    fn page(logs: &mut Logs, wanted: &LogWant) -> Vec<String> {
        let mut messages = Vec::new();
        logs.look(&Wants { log: Some(wanted.clone()), ..Wants::default() }, &mut messages);
        let Some(Message::Log(page)) = messages.pop() else { panic!("no page") };
        let line = |line: &LogLine| {
            let sign = if line.stream == Stream::Out { "out" } else { "err" };
            let glue = if line.goes_on { ':' } else { '|' };
            format!("{sign}{glue}{}", String::from_utf8_lossy(&line.bytes))
        };
        page.lines.iter().map(line).collect()
    }

    #[test]
    fn a_line_of_the_screen_is_of_one_stream() {
        let spliced =
            [('o', "line 187\nline 188"), ('e', "WARN at 3\nWA"), ('o', " is long\nline 189\n"), ('e', "RN at 4\n")];
        let (_dir, mut logs, key) = logs(&spliced);
        let all =
            ["out|line 187", "out|line 188", "err|WARN at 3", "err|WA", "out: is long", "out|line 189", "err:RN at 4"];
        assert_eq!(page(&mut logs, &want(&key, None, Anchor::At(0), 20)), all);
        let out = ["out|line 187", "out|line 188 is long", "out|line 189"];
        assert_eq!(page(&mut logs, &want(&key, Some(Stream::Out), Anchor::At(0), 20)), out);
        assert_eq!(
            page(&mut logs, &want(&key, Some(Stream::Err), Anchor::End, 20)),
            ["err|WARN at 3", "err|WARN at 4"]
        );
        let Some(tail) = read_tail(&logs.path(&key), 55, 55) else { panic!("no tail") };
        assert_eq!(tail.lines[1..3], [b"line 188".to_vec(), b"WARN at 3".to_vec()]);
    }

    #[test]
    fn the_few_lines_of_one_stream_are_found_in_a_long_log() {
        let noise: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
        let of = [('e', "first\n"), ('o', &noise), ('e', "second\n"), ('o', &noise), ('o', "end\n")];
        let (_dir, mut logs, key) = logs(&of);
        let part = |stream| LogPart { key: key.clone(), stream };
        for anchor in [Anchor::End, Anchor::At(0)] {
            assert_eq!(page(&mut logs, &want(&key, Some(Stream::Err), anchor, 10)), ["err|first", "err|second"]);
        }
        let top = |message: Option<Message>| match message {
            Some(Message::LogTop(_, offset) | Message::Found(_, Some(offset))) => offset,
            other => panic!("{other:?}"),
        };
        // Where it stands is where the other part stands.
        let second = 6 + noise.len() as u64;
        assert_eq!(top(logs.other(&part(Some(Stream::Err)), 6, None)), second);
        assert_eq!(top(logs.other(&part(None), second, Some(Stream::Err))), 6);
        assert_eq!(top(logs.other(&part(None), second + 7, Some(Stream::Out))), noise.len() as u64);
        assert_eq!(top(logs.back(&part(Some(Stream::Err)), 13, 1, "")), 6);
        assert_eq!(top(logs.find(&part(Some(Stream::Err)), 0, "cond", true)), 6);
        assert_eq!(page(&mut logs, &want(&key, Some(Stream::Out), Anchor::End, 1)), ["out|end"]);
        // It grows, and what comes is of its stream.
        let path = logs.path(&key);
        let length = std::fs::metadata(&path).unwrap().len();
        let append = |path: &Path, text: &str| {
            use std::io::Write as _;
            std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
        };
        append(&path.with_extension("streams"), &format!("{length} e 2\n"));
        append(&path, "third\n");
        assert_eq!(page(&mut logs, &want(&key, Some(Stream::Err), Anchor::End, 1)), ["err|third"]);
    }
}
