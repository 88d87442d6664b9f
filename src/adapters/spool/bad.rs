//! The directory of what could not be accepted. Floor 3.
//!
//! **Invariant:** nothing in `bad/` is ever replaced or removed by the daemon: the bytes stand as they came, and beside
//! them `NAME.why` with every reason.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::adapters::spool::SpoolError;
use crate::adapters::spool::commit::Commit;
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::store::{Store, rename_new, write_file};
use crate::base::text::is_hidden;
use crate::base::time::Timestamp;
use crate::domain::drop_name;
use crate::domain::problem::Problem;
use crate::engine::DropBox;

/// How much of a file's name is kept, in bytes: room for a number and an ending stays below the 255 of a file name.
const STEM_BYTES_MAX: usize = 200;

/// What stands in `NAME.why`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// When.
    pub at: Timestamp,
    /// The drop box that it came from.
    pub from: String,
    /// What it was called there.
    pub name: String,
    /// Its owner, where it is known.
    pub uid: Option<u32>,
    /// Every reason.
    pub problems: Vec<Problem>,
}

/// Moves a file into `bad/`, as it is, and writes beside it why; durable after the next [`Store::settle`].
///
/// What cannot be moved (a directory of somebody else, when the daemon is not root) stays, and only the reasons are
/// written, once. After a power cut in the middle the file stands in one of the two places; in its box it is refused
/// again.
///
/// # Errors
/// When a file operation fails.
pub fn refuse(
    store: &mut Store,
    drop_box: DropBox,
    name: &str,
    uid: Option<u32>,
    problems: &[Problem],
    now: Timestamp,
) -> Result<(), SpoolError> {
    let path = store.layout.drop_box(drop_box).join(name);
    refuse_at(store, &path, (drop_box.name(), name), uid, problems, now)
}

/// Moves a file into `bad/` as [`refuse`] does, from where it stands now; `from` says which box it came from and what it
/// was called there.
///
/// # Errors
/// When a file operation fails.
pub fn refuse_at(
    store: &mut Store,
    path: &Path,
    from: (&str, &str),
    uid: Option<u32>,
    problems: &[Problem],
    now: Timestamp,
) -> Result<(), SpoolError> {
    let layout = store.layout.clone();
    let ((from, name), dir) = (from, path.parent().unwrap_or(path).to_owned());
    let stem = stem(name);
    let reasons = match move_aside(path, &layout.bad(), &stem)? {
        Moved::Gone => return Ok(()),
        Moved::To(path) => path.with_extension("why"),
        Moved::Stays => layout.bad().join(format!("{stem}.why")),
    };
    let why = Why { at: now, from: from.to_owned(), name: name.to_owned(), uid, problems: problems.to_vec() };
    let mut text = serde_json::to_vec_pretty(&why).expect("reasons serialise");
    text.push(b'\n');
    let staged = layout.staging().join("why");
    let file = write_file(&staged, &text)?;
    match rename_new(&staged, &reasons) {
        Ok(()) => store.unsettled.file(&reasons, file),
        Err(Errno::EEXIST) => return Ok(()),
        Err(errno) => return Err(SpoolError::io("rename into place", &reasons, errno)),
    }
    store.unsettled.dir(layout.bad());
    store.unsettled.dir(dir);
    Ok(())
}

/// Moves into `bad/` what a crash left, and nobody can tell what it was.
pub(super) fn set_aside(layout: &Layout, path: &Path, stem: &str) -> Result<(), SpoolError> {
    move_aside(path, &layout.bad(), stem)?;
    let mut commit = Commit::default();
    commit.dir(layout.bad());
    commit.dir(path.parent().unwrap_or(path).to_owned());
    commit.run()
}

/// Returns what a refused file is called. Its name may hold anything that a file name can; what stands in `bad/` must be
/// harmless to list.
fn stem(name: &str) -> String {
    let name = drop_name::stem(name);
    let mut stem = String::new();
    for c in name.chars().map(|c| if is_hidden(c) { '_' } else { c }) {
        if stem.len() + c.len_utf8() > STEM_BYTES_MAX {
            break;
        }
        stem.push(c);
    }
    stem
}

/// Where a refused file is now.
enum Moved {
    /// Under this name.
    To(PathBuf),
    /// Where it was: the system does not let the daemon move it.
    Stays,
    /// Nowhere: somebody took it away.
    Gone,
}

/// Renames a file to a free name in `dir`: the stem, or the stem with a number. A name is free when its reasons are too.
fn move_aside(from: &Path, dir: &Path, stem: &str) -> Result<Moved, SpoolError> {
    let mut n = 0_u32;
    loop {
        let name = if n == 0 { format!("{stem}.json") } else { format!("{stem}.{n}.json") };
        let to = dir.join(name);
        n += 1;
        if to.with_extension("why").symlink_metadata().is_ok() {
            continue;
        }
        match rename_new(from, &to) {
            Ok(()) => return Ok(Moved::To(to)),
            Err(Errno::EEXIST) => {}
            Err(Errno::ENOENT) => return Ok(Moved::Gone),
            // A directory of somebody else, something mounted, something that is in use.
            Err(Errno::EACCES | Errno::EPERM | Errno::EBUSY | Errno::EXDEV | Errno::ENOTCONN) => {
                return Ok(Moved::Stays);
            }
            Err(errno) => return Err(SpoolError::io("move to bad/", from, errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::adapters::spool::reader;

    #[test]
    fn every_refused_file_keeps_its_bytes_and_its_own_reasons() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        layout.create(None, true).unwrap();
        let mut store = Store::open(layout.clone()).unwrap();
        let long = format!("{}.json", "长".repeat(83));
        for name in ["a.json", "a\u{1b}[2J.json", &long] {
            for n in 0..3 {
                fs::write(layout.drop_box(DropBox::New).join(name), format!("{name} {n}")).unwrap();
                let problems = [Problem::new("", format!("number {n}"), "nothing")];
                refuse(&mut store, DropBox::New, name, Some(7), &problems, Timestamp(0)).unwrap();
                // Reasons alone, of something that could not be moved, keep their place too.
                if n == 0 {
                    fs::remove_file(layout.bad().join(stem(name) + ".json")).unwrap();
                }
            }
            for n in 1..3 {
                let file = layout.bad().join(format!("{}.{n}.json", stem(name)));
                assert_eq!(fs::read_to_string(&file).unwrap(), format!("{name} {n}"));
                let why = fs::read_to_string(file.with_extension("why")).unwrap();
                assert!(why.contains(&format!("number {n}")), "{why}");
                let why: serde_json::Value = serde_json::from_str(&why).unwrap();
                assert_eq!(why["name"], name);
            }
        }
        // An order has its answer, and what was refused long ago was seen long ago.
        fs::write(layout.drop_box(DropBox::Orders).join("o.json"), "{}").unwrap();
        refuse(&mut store, DropBox::Orders, "o.json", Some(7), &[], Timestamp(0)).unwrap();
        assert_eq!(reader::refusals(&layout, Timestamp(1), 0).unwrap().0, 0);
        let (count, newest) = reader::refusals(&layout, Timestamp(0), 2).unwrap();
        assert_eq!((count, newest.len(), newest[0].uid), (9, 2, Some(7)));
        let all = reader::refusals(&layout, Timestamp(0), 100).unwrap().1;
        assert_eq!(all.iter().filter(|why| why.from == "orders").count(), 1, "it is listed all the same");
        let shown: Vec<String> = fs::read_dir(layout.bad())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(!shown.iter().any(|name| name.chars().any(is_hidden)), "{shown:?}");
        refuse(&mut store, DropBox::New, "gone.json", None, &[], Timestamp(0)).unwrap();
        assert!(!layout.bad().join("gone.why").exists());
    }
}
