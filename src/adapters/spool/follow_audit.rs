//! Follows the audit from a place in it, and keeps that place in `notify/NAME`. Floor 3.
//!
//! **Invariant:** only whole lines up to a given number are returned, each in its order and none twice, but after a start from a
//! kept place. The place is written by one follower: after a power cut it is the old one or the new one, so lines may be told
//! again and none is passed over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use super::FILE_MODE;
use super::audit::{files, head_of};
use crate::adapters::spool::SpoolError;
use crate::adapters::spool::layout::Layout;
use crate::domain::audit::{Head, Line};

/// The longest line that is looked at.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A line of the audit, with the end of the chain that it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Its number and digest.
    pub head: Head,
    /// What it says.
    pub line: Line,
}

/// Follows the audit.
#[derive(Debug)]
pub struct FollowAudit {
    layout: Layout,
    name: &'static str,
    /// The number of the last line that was returned.
    seq: u64,
    /// The file that the next line is looked for in, and where.
    at: Option<(PathBuf, u64)>,
}

impl FollowAudit {
    /// Begins behind the place that was kept under `name`, or else behind line `newest`.
    #[must_use]
    pub fn new(layout: Layout, name: &'static str, newest: u64) -> FollowAudit {
        let kept = fs::read_to_string(layout.observer(name)).ok().and_then(|text| text.trim().parse().ok());
        FollowAudit { layout, name, seq: kept.unwrap_or(newest), at: None }
    }

    /// Returns the number of the last line that was returned.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns the next lines, at most `most` of them, none behind line `last`. A line that cannot be read is passed over; that
    /// `spoolgate audit verify` names.
    ///
    /// # Errors
    /// When a file of the audit cannot be read.
    pub fn next(&mut self, last: u64, most: usize) -> Result<Vec<Followed>, SpoolError> {
        let mut found = Vec::new();
        let mut open = files(&self.layout)?;
        if let Some((path, _)) = &self.at {
            open.retain(|file| file >= path);
        }
        for path in open {
            let from = self.at.as_ref().filter(|(at, _)| *at == path).map_or(0, |(_, from)| *from);
            let from =
                self.read(&path, from, (last, most), &mut found).map_err(|e| SpoolError::io("read", &path, e))?;
            self.at = Some((path, from));
            if found.len() >= most || self.seq >= last {
                break;
            }
        }
        Ok(found)
    }

    /// Reads lines of one file from a place on; returns the place behind the last one that was taken.
    fn read(
        &mut self,
        path: &std::path::Path,
        from: u64,
        (last, most): (u64, usize),
        found: &mut Vec<Followed>,
    ) -> io::Result<u64> {
        let mut file = File::open(path)?;
        // Somebody cut it: whatever is left is older than what was returned.
        let mut from = if file.metadata()?.len() < from { 0 } else { from };
        file.seek(SeekFrom::Start(from))?;
        let (mut reader, mut line) = (BufReader::new(file), Vec::new());
        while found.len() < most && self.seq < last {
            line.clear();
            let read = io::Read::take(&mut reader, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            if read == 0 || line.last() != Some(&b'\n') && (read as u64) < LINE_BYTES_MAX {
                break;
            }
            let text = line.trim_ascii_end();
            if let (Some(head), Ok(parsed)) = (head_of(text), serde_json::from_slice::<Line>(text)) {
                if head.seq > last {
                    break;
                }
                if head.seq > self.seq {
                    self.seq = head.seq;
                    found.push(Followed { head, line: parsed });
                }
            }
            from = from.saturating_add(read as u64);
        }
        Ok(from)
    }

    /// Keeps the place, so that the next daemon goes on there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self) -> Result<(), SpoolError> {
        let path = self.layout.observer(self.name);
        let staged = path.with_extension("new");
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&staged);
        let written = written.and_then(|mut file| {
            file.write_all(format!("{}\n", self.seq).as_bytes())?;
            file.sync_data()?;
            fs::rename(&staged, &path)
        });
        written.map_err(|e| SpoolError::io("write", &path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;
    use crate::domain::audit::Entry;

    fn write(layout: &Layout, month: &str, head: &mut Head, acts: &[&str]) {
        let path = layout.audit().join(format!("{month}.jsonl"));
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        for act in acts {
            file.write_all(&head.write(Entry::of_daemon(Timestamp(0), act, None))).unwrap();
        }
    }

    fn acts(found: &[Followed]) -> Vec<&str> {
        found.iter().map(|one| one.line.entry.act.as_str()).collect()
    }

    #[test]
    fn lines_come_once_in_order_over_months_and_starts() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        layout.create(None, true).unwrap();
        let mut head = Head::default();
        write(&layout, "2026-10", &mut head, &["a", "b"]);
        let mut follow = FollowAudit::new(layout.clone(), "test", 1);
        assert_eq!(acts(&follow.next(9, 9).unwrap()), ["b"], "behind what was there already");
        write(&layout, "2026-10", &mut head, &["c"]);
        write(&layout, "2026-11", &mut head, &["d", "e"]);
        assert_eq!(acts(&follow.next(4, 9).unwrap()), ["c", "d"], "nothing behind what is durable");
        follow.keep().unwrap();
        assert_eq!(acts(&follow.next(9, 9).unwrap()), ["e"]);
        let mut later = FollowAudit::new(layout.clone(), "test", 77);
        assert_eq!(acts(&later.next(9, 1).unwrap()), ["e"], "from the place that was kept");
        // A line that is still written, and one that is none.
        let path = layout.audit().join("2026-11.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"seq\":6,").unwrap();
        assert_eq!(acts(&later.next(9, 9).unwrap()), [""; 0]);
        file.write_all(b"\n").unwrap();
        write(&layout, "2026-11", &mut head, &["f"]);
        assert_eq!(acts(&later.next(9, 9).unwrap()), ["f"]);
        // Somebody cut the file.
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.lines().next().unwrap().to_owned() + "\n").unwrap();
        write(&layout, "2026-11", &mut head, &["g"]);
        assert_eq!(acts(&later.next(9, 9).unwrap()), ["g"]);
    }
}
