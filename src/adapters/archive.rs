//! Files as one tar archive, piece by piece. Floor 3.
//!
//! **Invariant:** memory is one piece, and one file is open, whatever the files hold. A file that becomes
//! shorter while it is read ends the archive with an error; whoever takes it compares the digests.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, Read};

use crate::base::digest::Digest;

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
    padding: usize,
    piece: Vec<u8>,
    /// How much of the piece was taken.
    taken: usize,
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
        self.padding = usize::try_from(BLOCK_BYTES.saturating_sub(behind) % BLOCK_BYTES).unwrap_or(0);
        self.current = (length > 0).then_some((content, length));
        Ok(())
    }

    /// Makes the next piece; an empty one is the end.
    fn next_piece(&mut self) -> io::Result<()> {
        self.piece.clear();
        self.taken = 0;
        if let Some((content, left)) = &mut self.current {
            let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            self.piece.resize(wanted, 0);
            let count = match content {
                Content::File(file) => file.read(&mut self.piece)?,
                Content::Text(text) => text.read(&mut self.piece)?,
            };
            if count == 0 {
                self.piece.clear();
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read"));
            }
            self.piece.truncate(count);
            *left = left.saturating_sub(count as u64);
            if *left == 0 {
                self.current = None;
                self.piece.resize(count.saturating_add(self.padding), 0);
            }
        } else if let Some((digest, entry)) = self.entries.pop_front() {
            self.begin(digest, entry)?;
        } else if !self.ended {
            self.ended = true;
            self.piece.resize(2 * 512, 0);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if matches!(self, Entry::File(_)) { "File" } else { "Text" })
    }
}

impl BufRead for Archive {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.piece.len() {
            self.next_piece()?;
        }
        Ok(&self.piece[self.taken..])
    }

    fn consume(&mut self, count: usize) {
        self.taken = self.piece.len().min(self.taken.saturating_add(count));
    }
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
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
        archive.read_to_end(&mut bytes).unwrap();
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
    fn what_became_shorter_is_an_error_before_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, vec![1; 2 * PIECE_BYTES]).unwrap();
        let (mut archive, opened) = (Archive::default(), path.clone());
        archive.add_file(Digest::of(b""), move || File::open(opened));
        for length in [512, PIECE_BYTES] {
            assert_eq!(archive.fill_buf().unwrap().len(), length);
            archive.consume(length);
        }
        File::options().write(true).open(&path).unwrap().set_len(PIECE_BYTES as u64).unwrap();
        assert!(archive.fill_buf().is_err());
    }
}
