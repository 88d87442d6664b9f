//! The log of one step on one host: the bytes as they came, and beside them which stream they came from. Floor 3.
//!
//! **Invariant:** one writer, append only. `STEP.log` holds the bytes of stdout and stderr in the order they
//! arrived, so `less` and `grep` work on it; `STEP.streams` holds a line `OFFSET o|e MILLISECONDS` at each change
//! of stream, so the two can be told apart. Memory does not grow with the output: past the limit bytes are
//! counted and dropped.
//!
//! After a power cut the last bytes may be missing; the sizes and the digest in the journal tell.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::base::digest::Digester;
use crate::base::limits;
use crate::base::time::Timestamp;
use crate::domain::output::Stream;
use crate::domain::run::OutputFacts;

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
    last: Option<(Stream, Timestamp)>,
    kept: u64,
    facts: OutputFacts,
    digester: Digester,
}

impl OutputLog {
    /// Begins the log at `path`, which ends in `.log`.
    #[must_use]
    pub fn new(path: PathBuf) -> OutputLog {
        OutputLog {
            path,
            files: None,
            last: None,
            kept: 0,
            facts: OutputFacts::default(),
            digester: Digester::default(),
        }
    }

    /// Adds bytes that came from `stream` at `at`.
    ///
    /// # Errors
    /// When the files cannot be made or written.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], at: Timestamp) -> Result<(), OutputLogError> {
        let count = bytes.len() as u64;
        match stream {
            Stream::Out => self.facts.out_bytes += count,
            Stream::Err => self.facts.err_bytes += count,
        }
        let room = usize::try_from(limits::OUTPUT_BYTES_MAX - self.kept).unwrap_or(usize::MAX);
        let kept = &bytes[..bytes.len().min(room)];
        self.facts.dropped_bytes += (bytes.len() - kept.len()) as u64;
        if kept.is_empty() {
            return Ok(());
        }
        self.digester.update(kept);
        self.keep(stream, kept, at).map_err(|source| OutputLogError { path: self.path.clone(), source })?;
        self.kept += kept.len() as u64;
        Ok(())
    }

    fn keep(&mut self, stream: Stream, kept: &[u8], at: Timestamp) -> io::Result<()> {
        const SAME_MARK_MS: i64 = 1000;
        let (log, streams) = match &mut self.files {
            Some(files) => files,
            None => self.files.insert((create(&self.path)?, create(&self.path.with_extension("streams"))?)),
        };
        log.write_all(kept)?;
        let changed = self.last.is_none_or(|(last, since)| last != stream || at.0 - since.0 >= SAME_MARK_MS);
        if changed {
            let letter = match stream {
                Stream::Out => 'o',
                Stream::Err => 'e',
            };
            writeln!(streams, "{} {letter} {}", self.kept, at.0)?;
            self.last = Some((stream, at));
        }
        Ok(())
    }

    /// Ends the log and says how much there was.
    #[must_use]
    pub fn finish(mut self) -> OutputFacts {
        self.facts.sha256 = (self.kept > 0).then(|| self.digester.finish());
        self.facts
    }
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

    #[test]
    fn streams_can_be_told_apart_and_the_log_is_plain() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web1/greet.log");
        let mut log = OutputLog::new(path.clone());
        log.write(Stream::Out, b"one\n", Timestamp(1)).unwrap();
        log.write(Stream::Out, b"two\n", Timestamp(2)).unwrap();
        log.write(Stream::Err, b"bad\n", Timestamp(3)).unwrap();
        let facts = log.finish();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\nbad\n");
        assert_eq!(std::fs::read_to_string(path.with_extension("streams")).unwrap(), "0 o 1\n8 e 3\n");
        assert_eq!((facts.out_bytes, facts.err_bytes, facts.dropped_bytes), (8, 4, 0));
        assert_eq!(facts.sha256, Some(Digest::of(b"one\ntwo\nbad\n")));
    }

    #[test]
    fn output_past_the_limit_is_counted_and_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flood.log");
        let mut log = OutputLog::new(path.clone());
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..17 {
            log.write(Stream::Out, &chunk, Timestamp(1)).unwrap();
        }
        let facts = log.finish();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), limits::OUTPUT_BYTES_MAX);
        assert_eq!((facts.out_bytes, facts.dropped_bytes), (17 << 20, 1 << 20));
    }

    #[test]
    fn a_silent_step_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let log = OutputLog::new(dir.path().join("h/s.log"));
        assert_eq!(log.finish(), OutputFacts::default());
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
    }
}
