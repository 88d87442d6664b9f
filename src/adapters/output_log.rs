//! The log of one step on one host: the bytes as they came, and beside them which stream they came from. Floor 3.
//!
//! **Invariant:** one writer, append only. `STEP.log` holds the bytes of stdout and stderr in the order they
//! arrived, so `less` and `grep` work on it; `STEP.streams` holds a line `OFFSET o|e MILLISECONDS` at each change
//! of stream, written before the bytes it speaks of, so the two can be told apart and a new daemon knows how much of each
//! stream is there. Of each stream the head and the tail are kept; the tail's lines have a capital letter.
//!
//! After a power cut, or a write that failed, the last bytes may be missing: they are asked for again, since the host keeps
//! them. A log that was not written to the end is opened again before it is written on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::base::digest::Digester;
use crate::base::limits;
use crate::base::time::Timestamp;
use crate::domain::output::Stream;
use crate::domain::run::OutputFacts;
use crate::domain::runner::Offsets;
use crate::domain::runner::answer::Shown;

/// A log file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the output log {path}: {source}; check the disk", path = path.display())]
pub struct OutputLogError {
    path: PathBuf,
    source: io::Error,
}

/// An open log.
#[derive(Debug)]
pub struct OutputLog {
    path: PathBuf,
    /// Opened at the first byte: a silent step leaves no file.
    files: Option<(File, File)>,
    last: Option<(char, Timestamp)>,
    /// How many bytes of each stream are in the log.
    kept: Offsets,
    /// Bytes that were more than a stream may leave.
    refused: u64,
    digester: Digester,
}

/// How many bytes of one stream a log holds at most, whatever a host sends.
const STREAM_BYTES_MAX: u64 = limits::OUTPUT_HEAD_BYTES + limits::OUTPUT_TAIL_BYTES;

impl OutputLog {
    /// Begins the log at `path`, which ends in `.log`, or goes on with what an earlier daemon wrote of the same attempt.
    ///
    /// # Errors
    /// When what is there cannot be read.
    pub fn open(path: PathBuf) -> Result<OutputLog, OutputLogError> {
        let mut log = OutputLog {
            path,
            files: None,
            last: None,
            kept: Offsets::default(),
            refused: 0,
            digester: Digester::default(),
        };
        match log.read_back() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(OutputLogError { path: log.path, source: error })
            }
            _ => Ok(log),
        }
    }

    /// Counts what is there. What no mark speaks of was not written whole; it is cut off and comes again.
    fn read_back(&mut self) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        cut_to_whole_lines(&self.path.with_extension("streams"))?;
        let length = file.metadata()?.len();
        let marks = marks(&self.path);
        if marks.first().is_none_or(|mark| mark.offset != 0) {
            return file.set_len(0);
        }
        for (n, mark) in marks.iter().enumerate() {
            let end = marks.get(n + 1).map_or(length, |next| next.offset.min(length));
            let count = end.saturating_sub(mark.offset);
            match mark.stream {
                Stream::Out => self.kept.out += count,
                Stream::Err => self.kept.err += count,
            }
        }
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                count => self.digester.update(&buffer[..count]),
            }
        }
    }

    /// Returns how much of each stream is there: where the host goes on.
    #[must_use]
    pub fn offsets(&self) -> Offsets {
        self.kept
    }

    /// Adds bytes that came from `stream` at `at`.
    ///
    /// # Errors
    /// When the files cannot be made or written.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], at: Timestamp) -> Result<(), OutputLogError> {
        let kept = match stream {
            Stream::Out => self.kept.out,
            Stream::Err => self.kept.err,
        };
        let room = |limit: u64| usize::try_from(limit.saturating_sub(kept)).unwrap_or(usize::MAX).min(bytes.len());
        let (head, whole) = (room(limits::OUTPUT_HEAD_BYTES), room(STREAM_BYTES_MAX));
        self.refused += (bytes.len() - whole) as u64;
        let (head, tail) = bytes[..whole].split_at(head);
        let (head_letter, tail_letter) = match stream {
            Stream::Out => ('o', 'O'),
            Stream::Err => ('e', 'E'),
        };
        for (letter, piece) in [(head_letter, head), (tail_letter, tail)] {
            if !piece.is_empty() {
                self.keep(letter, piece, at).map_err(|source| OutputLogError { path: self.path.clone(), source })?;
                match stream {
                    Stream::Out => self.kept.out += piece.len() as u64,
                    Stream::Err => self.kept.err += piece.len() as u64,
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, letter: char, bytes: &[u8], at: Timestamp) -> io::Result<()> {
        const SAME_MARK_MS: i64 = 1000;
        let (log, streams) = match &mut self.files {
            Some(files) => files,
            None => self.files.insert((create(&self.path)?, create(&self.path.with_extension("streams"))?)),
        };
        let changed = self.last.is_none_or(|(last, since)| last != letter || at.0 - since.0 >= SAME_MARK_MS);
        if changed {
            // One call: a mark that is there in part would be read as another.
            let mark = format!("{} {letter} {}\n", self.kept.out + self.kept.err, at.0);
            streams.write_all(mark.as_bytes())?;
            self.last = Some((letter, at));
        }
        log.write_all(bytes)?;
        self.digester.update(bytes);
        Ok(())
    }

    /// Ends the log and says how much there was; what the host says it printed counts when it is more than came.
    #[must_use]
    pub fn finish(self, out: Shown, err: Shown) -> OutputFacts {
        let any = self.kept.out + self.kept.err > 0;
        OutputFacts {
            out_bytes: out.total.unwrap_or(0).max(self.kept.out),
            err_bytes: err.total.unwrap_or(0).max(self.kept.err),
            dropped_bytes: out.cut + err.cut + self.refused,
            sha256: any.then(|| self.digester.finish()),
        }
    }
}

/// Where a run of bytes of one stream begins in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Counted in the log's bytes.
    pub offset: u64,
    /// Which stream they came from.
    pub stream: Stream,
    /// Whether bytes of this stream are left out before the first such mark.
    pub tail: bool,
}

/// Reads the marks beside a log; what is not one is passed over.
#[must_use]
pub fn marks(log: &Path) -> Vec<Mark> {
    let text = std::fs::read_to_string(log.with_extension("streams")).unwrap_or_default();
    let mark = |line: &str| {
        let mut words = line.split(' ');
        let offset = words.next()?.parse().ok()?;
        let (stream, tail) = match words.next()? {
            "o" => (Stream::Out, false),
            "e" => (Stream::Err, false),
            "O" => (Stream::Out, true),
            "E" => (Stream::Err, true),
            _ => return None,
        };
        words.next()?.parse::<i64>().ok()?;
        Some(Mark { offset, stream, tail })
    };
    let mut marks: Vec<Mark> = Vec::new();
    // What has no line feed was not written whole.
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    for mark in whole.lines().filter_map(mark) {
        // A log that lost its end was written on from there: what older marks say of those bytes is void.
        while marks.last().is_some_and(|last| last.offset >= mark.offset) {
            marks.pop();
        }
        marks.push(mark);
    }
    marks
}

/// A piece of what one stream of a step printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where they begin in the stream, as far as it was kept.
    pub from: u64,
    /// How long the stream is, as far as it was kept.
    pub length: u64,
}

/// Reads a piece of one stream of a log: from an offset in the stream on, or the end of it. A log that is not there is
/// empty.
///
/// # Errors
/// When the log cannot be read.
pub fn piece(stream: Stream, log: &Path, from: Option<u64>, most: u64) -> io::Result<Piece> {
    let file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Piece::default()),
        Err(error) => return Err(error),
    };
    let end = file.metadata()?.len();
    let marks = marks(log);
    let until = |n: usize| marks.get(n + 1).map_or(end, |next| next.offset).min(end);
    let spans = marks.iter().enumerate().filter(|(_, mark)| mark.stream == stream && mark.offset < end);
    let spans: Vec<(u64, u64)> = spans.map(|(n, mark)| (mark.offset, until(n))).collect();
    let length: u64 = spans.iter().map(|(begin, until)| until - begin).sum();
    let from = from.map_or(length.saturating_sub(most), |from| from.min(length));
    let (mut at, mut left, mut bytes) = (0, most.min(length - from), Vec::new());
    for (begin, until) in spans {
        let skip = from.saturating_sub(at).min(until - begin);
        at += until - begin;
        let count = left.min(until - begin - skip);
        let mut span = vec![0; usize::try_from(count).unwrap_or(0)];
        file.read_exact_at(&mut span, begin + skip)?;
        bytes.extend_from_slice(&span);
        left -= count;
    }
    Ok(Piece { bytes, from, length })
}

/// Keeps the bytes of one stream of a piece of a log that begins at `from`: the marks beside the log say where each does.
#[must_use]
pub fn only(stream: Stream, log: &Path, from: u64, bytes: &[u8]) -> Vec<u8> {
    let marks = marks(log);
    let mut kept = Vec::new();
    let end = from + bytes.len() as u64;
    for (n, mark) in marks.iter().enumerate() {
        let until = marks.get(n + 1).map_or(end, |next| next.offset).min(end);
        let begin = mark.offset.max(from);
        if mark.stream == stream && begin < until {
            let slice = |at: u64| usize::try_from(at - from).unwrap_or(usize::MAX);
            kept.extend_from_slice(&bytes[slice(begin)..slice(until)]);
        }
    }
    kept
}

/// Cuts off a last line that was not written whole: the next one would become a part of it.
fn cut_to_whole_lines(path: &Path) -> io::Result<()> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        bytes => bytes?,
    };
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if whole < bytes.len() {
        OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
    }
    Ok(())
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;

    fn open(dir: &tempfile::TempDir) -> OutputLog {
        OutputLog::open(dir.path().join("web1/greet.log")).unwrap()
    }

    fn finish(log: OutputLog) -> OutputFacts {
        log.finish(Shown::default(), Shown::default())
    }

    #[test]
    fn streams_can_be_told_apart_and_the_log_is_plain() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(&dir);
        log.write(Stream::Out, b"one\n", Timestamp(1)).unwrap();
        log.write(Stream::Out, b"two\n", Timestamp(2)).unwrap();
        log.write(Stream::Err, b"bad\n", Timestamp(3)).unwrap();
        let path = log.path.clone();
        let facts = finish(log);
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\nbad\n");
        assert_eq!(std::fs::read_to_string(path.with_extension("streams")).unwrap(), "0 o 1\n8 e 3\n");
        assert_eq!((facts.out_bytes, facts.err_bytes, facts.dropped_bytes), (8, 4, 0));
        assert_eq!(facts.sha256, Some(Digest::of(b"one\ntwo\nbad\n")));
    }

    #[test]
    fn a_log_cut_at_any_byte_goes_on_where_it_stopped() {
        let pieces = [(Stream::Out, &b"one\n"[..]), (Stream::Err, b"bad\n"), (Stream::Out, b"two\n")];
        let whole = b"one\nbad\ntwo\n";
        for cut in 0..=whole.len() {
            let dir = tempfile::tempdir().unwrap();
            let mut log = open(&dir);
            let path = log.path.clone();
            for (stream, bytes) in pieces {
                log.write(stream, bytes, Timestamp(1)).unwrap();
            }
            drop(log);
            File::options().write(true).open(&path).unwrap().set_len(cut as u64).unwrap();
            let mut log = open(&dir);
            let (out, err) = (b"one\ntwo\n", b"bad\n");
            let at = log.offsets();
            assert_eq!(at.out + at.err, cut as u64);
            let from = |offset: u64| usize::try_from(offset).unwrap();
            log.write(Stream::Err, &err[from(at.err)..], Timestamp(2)).unwrap();
            log.write(Stream::Out, &out[from(at.out)..], Timestamp(2)).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let facts = finish(log);
            assert_eq!(facts.sha256, Some(Digest::of(&bytes)));
            assert_eq!((facts.out_bytes, facts.err_bytes), (8, 4));
            assert_eq!(open(&dir).offsets(), Offsets { out: 8, err: 4 }, "cut at {cut}");
            let mut sorted = bytes.clone();
            sorted.sort_unstable();
            let mut want = whole.to_vec();
            want.sort_unstable();
            assert_eq!(sorted, want, "cut at {cut}");
        }
    }

    #[test]
    fn marks_cut_at_any_byte_are_written_again() {
        let pieces = [(Stream::Out, &b"one\n"[..]), (Stream::Err, b"bad\n"), (Stream::Out, b"two\n")];
        for cut in 0..=16 {
            let dir = tempfile::tempdir().unwrap();
            let mut log = open(&dir);
            let path = log.path.clone();
            for (stream, bytes) in pieces {
                log.write(stream, bytes, Timestamp(1)).unwrap();
            }
            drop(log);
            let streams = path.with_extension("streams");
            let marks = File::options().write(true).open(&streams).unwrap();
            assert!(cut <= marks.metadata().unwrap().len());
            marks.set_len(cut).unwrap();
            // A write that failed left the bytes before the mark that it could not write whole.
            let known = std::fs::read_to_string(&streams).unwrap().matches('\n').count();
            File::options().write(true).open(&path).unwrap().set_len(4 * known as u64).unwrap();
            let mut log = open(&dir);
            for (stream, bytes) in &pieces[known..] {
                log.write(*stream, bytes, Timestamp(2)).unwrap();
            }
            assert_eq!(std::fs::read(&path).unwrap(), b"one\nbad\ntwo\n", "cut at {cut}");
            assert_eq!(piece(Stream::Err, &path, None, 99).unwrap().bytes, b"bad\n", "cut at {cut}");
            assert_eq!(piece(Stream::Out, &path, None, 99).unwrap().bytes, b"one\ntwo\n", "cut at {cut}");
        }
    }

    #[test]
    fn a_stream_leaves_its_head_and_its_tail_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(&dir);
        let path = log.path.clone();
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..17 {
            log.write(Stream::Out, &chunk, Timestamp(1)).unwrap();
        }
        log.write(Stream::Err, b"err", Timestamp(1)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), STREAM_BYTES_MAX + 3);
        let told = marks(&path);
        let shown: Vec<_> = told.iter().map(|mark| (mark.offset, mark.stream, mark.tail)).collect();
        assert_eq!(
            shown,
            [(0, Stream::Out, false), (15 << 20, Stream::Out, true), (STREAM_BYTES_MAX, Stream::Err, false)]
        );
        let facts = log.finish(Shown { total: Some(100 << 20), cut: 84 << 20 }, Shown::default());
        assert_eq!((facts.out_bytes, facts.err_bytes, facts.dropped_bytes), (100 << 20, 3, 85 << 20));
    }

    #[test]
    fn a_stream_is_read_piece_by_piece_by_its_own_offsets() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(&dir);
        let path = log.path.clone();
        for n in 0..10 {
            log.write(Stream::Out, format!("out {n}\n").as_bytes(), Timestamp(1)).unwrap();
            log.write(Stream::Err, format!("e{n}").as_bytes(), Timestamp(1)).unwrap();
        }
        let whole: String = (0..10).map(|n| format!("out {n}\n")).collect();
        for most in [1, 3, 7, 100] {
            let (mut found, mut from) = (Vec::new(), 0);
            while from < whole.len() as u64 {
                let next = piece(Stream::Out, &path, Some(from), most).unwrap();
                assert_eq!((next.from, next.length), (from, whole.len() as u64));
                from += next.bytes.len() as u64;
                found.extend(next.bytes);
            }
            assert_eq!(String::from_utf8(found).unwrap(), whole, "by {most}");
        }
        let end = piece(Stream::Err, &path, None, 4).unwrap();
        assert_eq!(end, Piece { bytes: b"e8e9".to_vec(), from: 16, length: 20 });
        assert_eq!(piece(Stream::Err, &path, Some(99), 4).unwrap(), Piece { bytes: Vec::new(), from: 20, length: 20 });
        assert_eq!(piece(Stream::Out, &dir.path().join("none"), None, 4).unwrap(), Piece::default());
    }

    #[test]
    fn a_silent_step_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(finish(open(&dir)), OutputFacts::default());
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
    }
}
