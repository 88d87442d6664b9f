//! A file that a step fetched from its host. Floor 3.
//!
//! What comes begins with a line: `file` or `tar`, and the SHA-256 of what follows.
//!
//! **Invariant:** one writer. Survives a power cut: the file is synced, then gets its name, then its directory is synced; what
//! came in part, or is not what the host said, gets no name.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::base::digest::{Digest, Digester};
use crate::domain::mask::{Masked, Masker};

/// The longest first line.
const HEAD_BYTES_MAX: usize = 100;

/// A file on its way here.
#[derive(Debug)]
pub struct FetchedFile<'a> {
    place: PathBuf,
    part: PathBuf,
    file: File,
    head: Vec<u8>,
    headed: bool,
    left: u64,
    digester: Digester,
    /// Of what is kept, which differs where something is hidden.
    kept: Digester,
    masker: &'a Masker,
    masked: Masked,
    failed: Option<io::Error>,
}

impl<'a> FetchedFile<'a> {
    /// Begins a file that will stand at `place`, or at `place` with `.tar` behind it when it is an archive.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(place: PathBuf, most_bytes: u64, masker: &'a Masker) -> io::Result<FetchedFile<'a>> {
        // What a step prints nothing of has no directory yet.
        let dir = place.parent().unwrap_or(Path::new("/"));
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        let part = place.with_extension("part");
        let file = File::options().write(true).create(true).truncate(true).mode(0o640).open(&part)?;
        Ok(FetchedFile {
            place,
            part,
            file,
            head: Vec::new(),
            headed: false,
            left: most_bytes,
            digester: Digester::default(),
            kept: Digester::default(),
            masker,
            masked: Masked::default(),
            failed: None,
        })
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if !self.headed {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(bytes.len()).min(HEAD_BYTES_MAX.saturating_sub(self.head.len()));
            self.head.extend_from_slice(&bytes[..taken]);
            let Some(end) = end else { return };
            self.headed = true;
            bytes = &bytes[end.saturating_add(1)..];
        }
        if bytes.len() as u64 > self.left && self.failed.is_none() {
            self.failed = Some(io::Error::other("the host sends more than it said"));
        }
        if self.failed.is_some() {
            return;
        }
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.digester.update(bytes);
        let (file, kept, failed) = (&mut self.file, &mut self.kept, &mut self.failed);
        self.masked.push(self.masker, bytes, |bytes| keep(file, kept, bytes, failed));
    }

    /// Gives the file its name; `false` when it is not what the host said, and may be asked for again.
    ///
    /// # Errors
    /// When it cannot be written here.
    pub fn finish(mut self) -> io::Result<bool> {
        let (file, kept, failed) = (&mut self.file, &mut self.kept, &mut self.failed);
        self.masked.finish(|bytes| keep(file, kept, bytes, failed));
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let said = head.split_once(' ').filter(|_| self.headed);
        let came = self.digester.finish();
        let same = said.and_then(|(_, hex)| format!("sha256:{hex}").parse::<Digest>().ok()) == Some(came);
        let is_archive = said.is_some_and(|(kind, _)| kind == "tar");
        // An archive with stars in it is none any more.
        if is_archive && same && self.failed.is_none() && self.kept.finish() != came {
            self.failed =
                Some(io::Error::other("a secret stands in what was fetched; fetch the other files one by one"));
        }
        let kept = match self.failed.take() {
            Some(error) => Err(error),
            None => self.file.sync_all(),
        };
        if kept.is_err() || !same {
            let _ = std::fs::remove_file(&self.part);
            return kept.map(|()| false);
        }
        let mut place = self.place.into_os_string();
        if is_archive {
            place.push(".tar");
        }
        std::fs::rename(&self.part, &place)?;
        File::open(Path::new(&place).parent().unwrap_or(Path::new("/")))?.sync_all()?;
        Ok(true)
    }
}

fn keep(file: &mut File, kept: &mut Digester, bytes: &[u8], failed: &mut Option<io::Error>) {
    if failed.is_none() {
        kept.update(bytes);
        *failed = file.write_all(bytes).err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(said: &[u8], name: Option<&str>) {
        let (dir, masker) = (tempfile::tempdir().unwrap(), Masker::default());
        for size in [1, 7, said.len().max(1)] {
            let mut file = FetchedFile::create(dir.path().join("a.fetched"), 60, &masker).unwrap();
            said.chunks(size).for_each(|bytes| file.push(bytes));
            assert_eq!(file.finish().unwrap(), name.is_some());
        }
        let found: Vec<String> =
            dir.path().read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(found, name.map(str::to_owned).into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn only_what_the_host_said_gets_a_name() {
        let said = |kind: &str, content: &str| format!("{kind} {}\n{content}", Digest::of(content.as_bytes()).hex());
        check(said("file", "two\nlines").as_bytes(), Some("a.fetched"));
        check(said("tar", "").as_bytes(), Some("a.fetched.tar"));
        check(&said("file", "whole").as_bytes()[..50], None);
        check(format!("{}!", said("file", "x")).as_bytes(), None);
        check(b"", None);
        check(b"garbage without a line", None);
    }
}
