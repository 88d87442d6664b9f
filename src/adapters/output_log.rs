//! The log of one step on one host: the bytes as they came, and beside them which stream they came from. Floor 3.
//!
//! **Invariant:** one writer, append only. `STEP.log` holds the bytes of stdout and stderr in the order they
//! arrived, so `less` and `grep` work on it; `STEP.streams` holds a line `OFFSET o|e MILLISECONDS` at each change
//! of stream, written before the bytes it speaks of, so the two can be told apart and a new daemon knows how much of each
//! stream is there. Of each stream the head and the tail are kept; the tail's lines have a capital letter.
//!
//! After a power cut, or a write that failed, the last bytes may be missing: they are asked for again, since the host keeps
//! them. A log that was not written to the end is opened again before it is written on.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::base::count::Count;
use crate::base::digest::Digester;
use crate::base::limits;
use crate::base::time::Timestamp;
use crate::domain::outcome::OutputFacts;
use crate::domain::output::Stream;
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
    /// Begins the log at `path`, which ends in `.log`, or goes on with what was written of the same attempt before. Where
    /// something is hidden in it, it goes on before the stars that a stream ends with: they may stand for a part of it.
    ///
    /// # Errors
    /// When what is there cannot be read.
    pub fn open(path: PathBuf, hides: bool) -> Result<OutputLog, OutputLogError> {
        let mut log = OutputLog {
            path,
            files: None,
            last: None,
            kept: Offsets::default(),
            refused: 0,
            digester: Digester::default(),
        };
        match log.read_back(hides) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(OutputLogError { path: log.path, source: error })
            }
            _ => Ok(log),
        }
    }

    /// Counts what is there. What no mark speaks of was not written whole; it is cut off and comes again.
    fn read_back(&mut self, hides: bool) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        let marks_lost = cut_to_whole_lines(&self.path.with_extension("streams"))?;
        let marks = marks(&self.path);
        if marks.first().is_none_or(|mark| mark.offset != 0) {
            return file.set_len(0);
        }
        let mut length = file.metadata()?.len();
        if let Some(last) = marks.last().filter(|_| marks_lost) {
            // Nobody knows from where on they are another stream's.
            length = length.min(last.offset);
        }
        if hides {
            length = before_stars(&file, length, &marks)?;
        }
        file.set_len(length)?;
        for (n, mark) in marks.iter().enumerate() {
            let end = marks.get(n.saturating_add(1)).map_or(length, |next| next.offset.min(length));
            let count = end.saturating_sub(mark.offset);
            match mark.stream {
                Stream::Out => self.kept.out = self.kept.out.saturating_add(count),
                Stream::Err => self.kept.err = self.kept.err.saturating_add(count),
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
        self.refused = self.refused.saturating_add(bytes.len().saturating_sub(whole) as u64);
        let (head, tail) = bytes[..whole].split_at(head);
        let (head_letter, tail_letter) = match stream {
            Stream::Out => ('o', 'O'),
            Stream::Err => ('e', 'E'),
        };
        for (letter, piece) in [(head_letter, head), (tail_letter, tail)] {
            if !piece.is_empty() {
                self.keep(letter, piece, at).map_err(|source| OutputLogError { path: self.path.clone(), source })?;
                match stream {
                    Stream::Out => self.kept.out = self.kept.out.saturating_add(piece.len() as u64),
                    Stream::Err => self.kept.err = self.kept.err.saturating_add(piece.len() as u64),
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
        let changed =
            self.last.is_none_or(|(last, since)| last != letter || at.0.saturating_sub(since.0) >= SAME_MARK_MS);
        if changed {
            // One call: a mark that is there in part would be read as another.
            let mark = format!("{} {letter} {}\n", self.kept.out.saturating_add(self.kept.err), at.0);
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
        let any = self.kept.out.saturating_add(self.kept.err) > 0;
        OutputFacts {
            out_bytes: out.total.unwrap_or_default().max(self.kept.out.into()),
            err_bytes: err.total.unwrap_or_default().max(self.kept.err.into()),
            dropped_bytes: [out.cut, err.cut, missing(out, self.kept.out), missing(err, self.kept.err)]
                .into_iter()
                .sum::<Count>()
                .plus(self.refused),
            host_full: false,
            sha256: any.then(|| self.digester.finish()),
        }
    }
}

/// Says how much there was of output of which nothing could be kept.
#[must_use]
pub fn nothing_kept(out: Shown, err: Shown) -> OutputFacts {
    OutputFacts {
        out_bytes: out.total.unwrap_or_default(),
        err_bytes: err.total.unwrap_or_default(),
        dropped_bytes: out.total.unwrap_or_default().plus(err.total.unwrap_or_default()),
        host_full: false,
        sha256: None,
    }
}

/// Returns how many bytes of a stream the host kept that did not come.
fn missing(shown: Shown, kept: u64) -> Count {
    shown.total.unwrap_or_default().less(shown.cut).less(kept)
}

/// Returns the length up to which neither stream ends in stars, or in line ends behind stars.
fn before_stars(log: &File, mut length: u64, marks: &[Mark]) -> io::Result<u64> {
    loop {
        let before = length;
        for stream in [Stream::Out, Stream::Err] {
            length = length.min(stars_begin(log, length, marks, stream)?.unwrap_or(length));
        }
        if length == before {
            return Ok(length);
        }
    }
}

/// Returns where the stars begin in a log that one stream ends with.
fn stars_begin(log: &File, length: u64, marks: &[Mark], stream: Stream) -> io::Result<Option<u64>> {
    const PIECE_BYTES: u64 = 64 << 10;
    let mut begin = None;
    for (n, mark) in marks.iter().enumerate().rev().filter(|(_, mark)| mark.stream == stream) {
        let mut end = marks.get(n.saturating_add(1)).map_or(length, |next| next.offset).min(length);
        while end > mark.offset {
            let from = mark.offset.max(end.saturating_sub(PIECE_BYTES));
            let mut piece = vec![0; usize::try_from(end.saturating_sub(from)).unwrap_or(0)];
            log.read_exact_at(&mut piece, from)?;
            for (back, byte) in (1..).zip(piece.iter().rev()) {
                match byte {
                    b'*' => begin = Some(end.saturating_sub(back)),
                    b'\r' | b'\n' => {}
                    _ => return Ok(begin),
                }
            }
            end = from;
        }
    }
    Ok(begin)
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
    /// When they came; what follows within a second has no mark of its own.
    pub at: Timestamp,
}

/// Reads the marks beside a log; what is not one is passed over.
#[must_use]
pub fn marks(log: &Path) -> Vec<Mark> {
    read_marks(&std::fs::read_to_string(log.with_extension("streams")).unwrap_or_default())
}

/// Reads marks.
pub(crate) fn read_marks(text: &str) -> Vec<Mark> {
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
        let at = Timestamp(words.next()?.parse().ok()?);
        Some(Mark { offset, stream, tail, at })
    };
    let mut marks: Vec<Mark> = Vec::new();
    // What has no line feed was not written whole.
    let whole = &text[..text.rfind('\n').map_or(0, |end| end.saturating_add(1))];
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
    let until = |n: usize| marks.get(n.saturating_add(1)).map_or(end, |next| next.offset).min(end);
    let spans = marks.iter().enumerate().filter(|(_, mark)| mark.stream == stream && mark.offset < end);
    let spans: Vec<(u64, u64)> = spans.map(|(n, mark)| (mark.offset, until(n))).collect();
    let length: u64 = spans.iter().map(|(begin, until)| until.saturating_sub(*begin)).sum();
    let from = from.map_or(length.saturating_sub(most), |from| from.min(length));
    let (mut at, mut left, mut bytes) = (0, most.min(length.saturating_sub(from)), Vec::new());
    for (begin, until) in spans {
        let skip = from.saturating_sub(at).min(until.saturating_sub(begin));
        at = at.saturating_add(until.saturating_sub(begin));
        let count = left.min(until.saturating_sub(begin).saturating_sub(skip));
        let mut span = vec![0; usize::try_from(count).unwrap_or(0)];
        file.read_exact_at(&mut span, begin.saturating_add(skip))?;
        bytes.extend_from_slice(&span);
        left = left.saturating_sub(count);
    }
    Ok(Piece { bytes, from, length })
}

/// Cuts a piece of a log that begins at `from` into what came from one stream at a time, as the marks beside the log say.
#[must_use]
pub fn spans<'a>(log: &Path, from: u64, bytes: &'a [u8]) -> Vec<(Mark, &'a [u8])> {
    let marks = marks(log);
    let end = from.saturating_add(bytes.len() as u64);
    let slice = |at: u64| usize::try_from(at.saturating_sub(from)).unwrap_or(usize::MAX);
    let span = |(n, mark): (usize, &Mark)| {
        let until = marks.get(n.saturating_add(1)).map_or(end, |next| next.offset).min(end);
        let begin = mark.offset.max(from);
        (begin < until).then(|| (*mark, &bytes[slice(begin)..slice(until)]))
    };
    marks.iter().enumerate().filter_map(span).collect()
}

/// Cuts off a last line that was not written whole: the next one would become a part of it. Returns whether there was one.
fn cut_to_whole_lines(path: &Path) -> io::Result<bool> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        bytes => bytes?,
    };
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end.saturating_add(1));
    if whole < bytes.len() {
        OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
    }
    Ok(whole < bytes.len())
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o640).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;

    fn open(dir: &tempfile::TempDir) -> OutputLog {
        OutputLog::open(dir.path().join("web1/greet.log"), false).unwrap()
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
        assert_eq!((facts.out_bytes, facts.err_bytes, facts.dropped_bytes), (8.into(), 4.into(), 0.into()));
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
            assert_eq!((facts.out_bytes, facts.err_bytes), (8.into(), 4.into()));
            assert_eq!(open(&dir).offsets(), Offsets { out: 8, err: 4 }, "cut at {cut}");
            let mut sorted = bytes.clone();
            sorted.sort_unstable();
            let mut want = whole.to_vec();
            want.sort_unstable();
            assert_eq!(sorted, want, "cut at {cut}");
        }
    }

    /// What was to be hidden may have been written in part; the rest alone would not be known again.
    #[test]
    fn a_log_goes_on_before_stars() {
        for (pieces, out, err) in [
            (&[(Stream::Out, "a *")][..], 2, 0),
            (&[(Stream::Out, "a **\n"), (Stream::Err, "bad\n"), (Stream::Out, "\r\n*")], 2, 0),
            (&[(Stream::Out, "one\n"), (Stream::Err, "***"), (Stream::Out, "two\n")], 4, 0),
            (&[(Stream::Err, "*bad\n"), (Stream::Out, "*one\n")], 5, 5),
            (&[(Stream::Out, "**"), (Stream::Err, "\n")], 0, 0),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let mut log = open(&dir);
            let path = log.path.clone();
            for (stream, text) in pieces {
                log.write(*stream, text.as_bytes(), Timestamp(1)).unwrap();
            }
            let whole = log.offsets();
            assert_eq!(open(&dir).offsets(), whole);
            let log = OutputLog::open(path.clone(), true).unwrap();
            assert_eq!(log.offsets(), Offsets { out, err }, "{pieces:?}");
            let kept = std::fs::read(&path).unwrap();
            assert_eq!(kept.len() as u64, out + err);
            assert_eq!(finish(log).sha256, (out + err > 0).then(|| Digest::of(&kept)));
        }
    }

    #[test]
    fn what_the_host_kept_and_did_not_come_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(&dir);
        log.write(Stream::Out, b"one\n", Timestamp(1)).unwrap();
        let facts = log.finish(Shown { total: Some(10.into()), cut: 3.into() }, Shown::default());
        assert_eq!((facts.out_bytes, facts.dropped_bytes), (10.into(), 6.into()));
    }

    #[test]
    fn whatever_a_host_says_there_was_is_counted() {
        let numbers = [0, 1, 1 << 63, u64::MAX].map(Count::from);
        let totals: Vec<Option<Count>> = numbers.into_iter().map(Some).chain([None]).collect();
        let all: Vec<Shown> = totals.iter().flat_map(|total| numbers.map(|cut| Shown { total: *total, cut })).collect();
        for (out, err) in all.iter().flat_map(|out| all.iter().map(move |err| (*out, *err))) {
            let dir = tempfile::tempdir().unwrap();
            let mut log = open(&dir);
            log.write(Stream::Out, b"one\n", Timestamp(1)).unwrap();
            for facts in [log.finish(out, err), nothing_kept(out, err)] {
                assert!(facts.out_bytes >= out.total.unwrap_or_default(), "{out:?} {err:?}: {facts:?}");
                let text = serde_json::to_string(&facts).unwrap();
                assert_eq!(serde_json::from_str::<OutputFacts>(&text).unwrap(), facts);
            }
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
            let left = std::fs::read_to_string(&streams).unwrap();
            let known = left.matches('\n').count();
            if left.is_empty() || left.ends_with('\n') {
                // A write that failed left the bytes before the mark that it could not write.
                File::options().write(true).open(&path).unwrap().set_len(4 * known as u64).unwrap();
            }
            let mut log = open(&dir);
            let at = log.offsets();
            for (stream, whole, from) in [(Stream::Err, "bad\n", at.err), (Stream::Out, "one\ntwo\n", at.out)] {
                log.write(stream, &whole.as_bytes()[usize::try_from(from).unwrap()..], Timestamp(2)).unwrap();
            }
            assert_eq!(std::fs::read(&path).unwrap().len(), 12, "cut at {cut}");
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
        let facts = log.finish(Shown { total: Some((100 << 20).into()), cut: (84 << 20).into() }, Shown::default());
        let wanted = [100 << 20, 3, 85 << 20].map(Count::from);
        assert_eq!([facts.out_bytes, facts.err_bytes, facts.dropped_bytes], wanted);
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
