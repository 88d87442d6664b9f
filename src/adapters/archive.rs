//! Files as one tar archive, piece by piece. Floor 3.
//!
//! **Invariant:** memory is one piece, and one file is open, whatever the files hold. A file that is not what it must be ends
//! the archive with an error before its last bytes, so that nobody takes it for whole.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};

use crate::base::digest::{Digest, Digester};
use crate::domain::output::Feed;

/// How much of a file is read at once.
const PIECE_BYTES: usize = 256 << 10;
/// What everything in an archive is a multiple of.
const BLOCK_BYTES: u64 = 512;

/// An archive that is made while it is read.
#[derive(Debug, Default)]
pub struct Archive {
    entries: VecDeque<(Digest, Entry)>,
    /// What is being read, and how much of it is left.
    current: Option<(Content, u64)>,
    /// What its bytes must come to.
    expected: Option<Digest>,
    digester: Digester,
    padding: usize,
    piece: Vec<u8>,
    ended: bool,
}

/// Opens a file when its turn has come: a thousand of them are not open at once.
type Opener = Box<dyn FnOnce() -> io::Result<File> + Send>;

enum Entry {
    File(Opener),
    Text(String),
}

#[derive(Debug)]
enum Content {
    File(File),
    Text(io::Cursor<Vec<u8>>),
}

impl Archive {
    /// Adds a text, under its digest.
    pub fn add_text(&mut self, digest: Digest, text: &str) {
        self.entries.push_back((digest, Entry::Text(text.to_owned())));
    }

    /// Adds a file that is opened when its turn has come, under the digest that it must have.
    pub fn add_file(&mut self, digest: Digest, open: impl FnOnce() -> io::Result<File> + Send + 'static) {
        self.entries.push_back((digest, Entry::File(Box::new(open))));
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Begins an entry: its header.
    fn begin(&mut self, digest: Digest, entry: Entry) -> io::Result<()> {
        let (content, length) = match entry {
            Entry::File(open) => {
                let file = open()?;
                let length = file.metadata()?.len();
                (Content::File(file), length)
            }
            Entry::Text(text) => {
                let length = text.len() as u64;
                (Content::Text(io::Cursor::new(text.into_bytes())), length)
            }
        };
        let mut header = tar::Header::new_ustar();
        header.set_path(digest.hex())?;
        header.set_size(length);
        header.set_mode(0o600);
        header.set_cksum();
        self.piece.extend_from_slice(header.as_bytes());
        let behind = length % BLOCK_BYTES;
        self.padding = usize::try_from((BLOCK_BYTES - behind) % BLOCK_BYTES).unwrap_or(0);
        (self.expected, self.digester) = (Some(digest), Digester::default());
        self.current = Some((content, length));
        if length == 0 { self.end_entry() } else { Ok(()) }
    }

    /// Ends an entry; one that is not what it must be ends the archive, before its reader can take it for whole.
    fn end_entry(&mut self) -> io::Result<()> {
        self.current = None;
        if self.expected.take() == Some(std::mem::take(&mut self.digester).finish()) {
            self.piece.resize(self.piece.len() + self.padding, 0);
            return Ok(());
        }
        Err(io::Error::other("it is not what was approved any more"))
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if matches!(self, Entry::File(_)) { "File" } else { "Text" })
    }
}

impl Feed for Archive {
    fn next_piece(&mut self) -> io::Result<&[u8]> {
        self.piece.clear();
        if let Some((content, left)) = &mut self.current {
            let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            self.piece.resize(wanted, 0);
            let count = match content {
                Content::File(file) => file.read(&mut self.piece)?,
                Content::Text(text) => text.read(&mut self.piece)?,
            };
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read"));
            }
            self.piece.truncate(count);
            self.digester.update(&self.piece);
            *left -= count as u64;
            if *left == 0 {
                self.end_entry()?;
            }
        } else if let Some((digest, entry)) = self.entries.pop_front() {
            self.begin(digest, entry)?;
        } else if !self.ended {
            self.ended = true;
            self.piece.resize(2 * 512, 0);
        }
        Ok(&self.piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tar_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let lengths = [0_usize, 1, 511, 512, 513, 300_000];
        let (mut archive, mut want) = (Archive::default(), Vec::new());
        for length in lengths {
            let path = dir.path().join(length.to_string());
            std::fs::write(&path, vec![7; length]).unwrap();
            let (file, text) = (Digest::of(&vec![7; length]), Digest::of(&vec![b'x'; length]));
            archive.add_file(file, move || File::open(path));
            archive.add_text(text, &"x".repeat(length));
            want.extend([(file, vec![7; length]), (text, vec![b'x'; length])]);
        }
        let mut bytes = Vec::new();
        loop {
            let piece = archive.next_piece().unwrap();
            if piece.is_empty() {
                break;
            }
            bytes.extend_from_slice(piece);
        }
        for tar in [&["tar"][..], &["busybox", "tar"]] {
            let into = tempfile::tempdir().unwrap();
            std::fs::write(into.path().join("a.tar"), &bytes).unwrap();
            let mut command = std::process::Command::new(tar[0]);
            let status = command.args(&tar[1..]).args(["-xomf", "a.tar"]).current_dir(into.path()).status().unwrap();
            assert!(status.success(), "{tar:?}");
            for (digest, content) in &want {
                assert_eq!(std::fs::read(into.path().join(digest.hex())).unwrap(), *content, "{tar:?}");
            }
        }
    }

    #[test]
    fn what_is_something_else_is_an_error_before_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        for (now, pieces) in [("", 0), ("fou", 1), ("FOUR", 1), ("fours", 1)] {
            let path = dir.path().join("a");
            std::fs::write(&path, now).unwrap();
            let mut archive = Archive::default();
            archive.add_file(Digest::of(b"four"), move || File::open(path));
            for _ in 0..pieces {
                assert_eq!(archive.next_piece().unwrap().len(), 512);
            }
            assert!(archive.next_piece().is_err(), "{now}");
        }
    }
}
