//! Files as one tar archive, piece by piece. Floor 3.
//!
//! **Invariant:** memory is one piece, whatever the files hold. A file that has become shorter ends the archive with an error,
//! so that nobody takes it for whole.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};

use crate::domain::output::Feed;

/// How much of a file is read at once.
const PIECE_BYTES: usize = 256 << 10;
/// What everything in an archive is a multiple of.
const BLOCK_BYTES: u64 = 512;

/// An archive that is made while it is read.
#[derive(Debug, Default)]
pub struct Archive {
    entries: VecDeque<(String, Content, u64)>,
    /// What is being read, and how much of it is left.
    current: Option<(Content, u64)>,
    padding: usize,
    piece: Vec<u8>,
    ended: bool,
}

#[derive(Debug)]
enum Content {
    File(File),
    Text(io::Cursor<Vec<u8>>),
}

impl Archive {
    /// Adds a text.
    pub fn add_text(&mut self, name: &str, text: &str) {
        let content = Content::Text(io::Cursor::new(text.as_bytes().to_vec()));
        self.entries.push_back((name.to_owned(), content, text.len() as u64));
    }

    /// Adds a file as long as it is now.
    ///
    /// # Errors
    /// When its length cannot be read.
    pub fn add_file(&mut self, name: &str, file: File) -> io::Result<()> {
        let length = file.metadata()?.len();
        self.entries.push_back((name.to_owned(), Content::File(file), length));
        Ok(())
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
            *left -= count as u64;
            if *left == 0 {
                self.piece.resize(count + self.padding, 0);
                self.current = None;
            }
        } else if let Some((name, content, length)) = self.entries.pop_front() {
            let mut header = tar::Header::new_ustar();
            header.set_path(name)?;
            header.set_size(length);
            header.set_mode(0o600);
            header.set_cksum();
            self.piece.extend_from_slice(header.as_bytes());
            let behind = length % BLOCK_BYTES;
            self.padding = usize::try_from((BLOCK_BYTES - behind) % BLOCK_BYTES).unwrap_or(0);
            self.current = (length > 0).then_some((content, length));
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
        let mut archive = Archive::default();
        for length in lengths {
            let path = dir.path().join(length.to_string());
            std::fs::write(&path, vec![7; length]).unwrap();
            archive.add_file(&format!("f{length}"), File::open(path).unwrap()).unwrap();
            archive.add_text(&format!("t{length}"), &"x".repeat(length));
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
            let status = command.args(&tar[1..]).args(["-xof", "a.tar"]).current_dir(into.path()).status().unwrap();
            assert!(status.success(), "{tar:?}");
            for length in lengths {
                assert_eq!(std::fs::read(into.path().join(format!("f{length}"))).unwrap(), vec![7; length]);
                assert_eq!(std::fs::read(into.path().join(format!("t{length}"))).unwrap(), vec![b'x'; length]);
            }
        }
    }

    #[test]
    fn what_becomes_shorter_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "four").unwrap();
        let mut archive = Archive::default();
        archive.add_file("a", File::open(&path).unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(archive.next_piece().unwrap().len(), 512);
        assert!(archive.next_piece().is_err());
    }
}
