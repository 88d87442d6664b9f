//! Digests of journals up to a line, for the audit to hold. Floor 3.
//!
//! **Invariant:** reads only. What is digested is what stands on disk, with its line feeds; empty lines do not count.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;

use crate::adapters::spool::SpoolError;
use crate::base::digest::{Digest, Digester};
use crate::base::ids::TaskId;

/// How many journals are remembered; what is forgotten is read again from its beginning.
const KNOWN_MAX: usize = 4096;

/// Journals as far as they were digested.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    known: HashMap<TaskId, Prefix>,
}

#[derive(Clone, Debug, Default)]
struct Prefix {
    lines: u64,
    bytes: u64,
    digester: Digester,
}

impl Prefixes {
    /// Returns the digest of a task's journal up to line `event`, counted from 0, and with it.
    ///
    /// # Errors
    /// When it cannot be read, or is shorter.
    pub(super) fn up_to(&mut self, path: &Path, id: TaskId, event: u64) -> Result<Digest, SpoolError> {
        let known = self.known.remove(&id).filter(|known| known.lines <= event.saturating_add(1)).unwrap_or_default();
        let read = known.read(path, event).map_err(|error| SpoolError::io("read", path, error))?;
        let why =
            || SpoolError::io("digest", path, io::Error::other(format!("it has no line {}", event.saturating_add(1))));
        let prefix = read.ok_or_else(why)?;
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        let digest = prefix.digester.clone().finish();
        self.known.insert(id, prefix);
        Ok(digest)
    }
}

/// Returns the digest of a journal's bytes up to line `event`, counted from 0, and with it; nothing when there are fewer.
pub(super) fn digest_of_lines(bytes: &[u8], event: u64) -> Option<Digest> {
    let (mut lines, mut end) = (0, 0_usize);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if lines > event || line.last() != Some(&b'\n') {
            break;
        }
        lines = lines.saturating_add(u64::from(line.len() > 1));
        end = end.saturating_add(line.len());
    }
    (lines > event).then(|| Digest::of(&bytes[..end]))
}

impl Prefix {
    /// Reads on to line `event`; nothing when there is none.
    fn read(mut self, path: &Path, event: u64) -> io::Result<Option<Prefix>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.bytes))?;
        let (mut reader, mut line) = (BufReader::new(file), Vec::new());
        while self.lines <= event {
            line.clear();
            reader.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return Ok(None);
            }
            self.lines = self.lines.saturating_add(u64::from(line.len() > 1));
            self.bytes = self.bytes.saturating_add(line.len() as u64);
            self.digester.update(&line);
        }
        Ok(Some(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_digested_line_by_line_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let text = "{\"n\":0}\n{\"n\":1}\n\n{\"n\":2}\n{\"torn";
        std::fs::write(&path, text).unwrap();
        let of = |end: &str| Digest::of(&text.as_bytes()[..text.find(end).unwrap() + end.len()]);
        let mut prefixes = Prefixes::default();
        for (event, end) in [(0, "0}\n"), (2, "2}\n"), (1, "1}\n"), (1, "1}\n"), (2, "2}\n")] {
            assert_eq!(prefixes.up_to(&path, TaskId(1), event).unwrap(), of(end), "line {event}");
            assert_eq!(digest_of_lines(text.as_bytes(), event), Some(of(end)), "line {event}");
        }
        assert!(prefixes.up_to(&path, TaskId(1), 3).is_err());
        assert_eq!(digest_of_lines(text.as_bytes(), 3), None);
        assert_eq!(digest_of_lines(b"", 0), None);
    }
}
