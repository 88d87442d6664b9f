//! The directory of what could not be accepted. Floor 3.
//!
//! **Invariant:** nothing in `bad/` is ever replaced or removed by the daemon: the bytes stand as they came, and beside
//! them `NAME.why` with every reason.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::adapters::spool::SpoolError;
use crate::adapters::spool::commit::Commit;
use crate::adapters::spool::folder::{Folder, is_error_of_the_disk, is_of_the_disk};
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::store::{Store, rename_new, write_file};
use crate::base::text::is_hidden;
use crate::base::time::Timestamp;
use crate::domain::drop_name::{self, DropName};
use crate::domain::problem::Problem;
use crate::engine::DropBox;

/// How much of a file's name is kept, in bytes: room for a number and an ending stays below the 255 of a file name.
const STEM_BYTES_MAX: usize = 200;
/// Up to which number free names are searched for.
const NUMBERED_MAX: u32 = 20;

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
/// What cannot be moved (a directory of somebody else, when the daemon is not root; something mounted) stays, and only the
/// reasons are written, once. After a power cut in the middle the file stands in one of the two places; in its box it is
/// refused again.
///
/// # Errors
/// When a file operation fails that is not about this file.
pub fn refuse(
    store: &mut Store,
    drop_box: DropBox,
    name: &DropName,
    uid: Option<u32>,
    problems: &[Problem],
    now: Timestamp,
) -> Result<Refused, SpoolError> {
    let folder = match Folder::of(&store.layout, drop_box, name) {
        Ok(folder) => folder,
        Err(error) if is_error_of_the_disk(&error) => {
            return Err(SpoolError::io("open", &store.layout.drop_box(drop_box), error));
        }
        Err(_) => return Ok(Refused::Gone),
    };
    refuse_from(store, &folder, name.file(), (drop_box.name(), name.as_str()), uid, problems, now)
}

/// Moves a file of the daemon's own into `bad/` as [`refuse`] does; `from` says which box it came from and what it was called
/// there.
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
) -> Result<Refused, SpoolError> {
    let dir = path.parent().unwrap_or(path);
    let folder = Folder::of_ours(dir).map_err(|e| SpoolError::io("open", dir, e))?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    refuse_from(store, &folder, &file, from, uid, problems, now)
}

fn refuse_from(
    store: &mut Store,
    folder: &Folder,
    file: &str,
    (from, name): (&str, &str),
    uid: Option<u32>,
    problems: &[Problem],
    now: Timestamp,
) -> Result<Refused, SpoolError> {
    let layout = store.layout.clone();
    let stem = stem(DropName::from(name).file());
    let (reasons, what) = match move_aside(folder, file, &layout.bad(), &stem)? {
        Moved::Gone => return Ok(Refused::Gone),
        Moved::To(path) => {
            if store.closes_refused {
                close(&path);
            }
            (path.with_extension("why"), Refused::Moved)
        }
        Moved::Stays => (layout.bad().join(format!("{stem}.why")), Refused::Stays),
    };
    let why = Why { at: now, from: from.to_owned(), name: name.to_owned(), uid, problems: problems.to_vec() };
    let mut text = serde_json::to_vec_pretty(&why).expect("reasons serialise");
    text.push(b'\n');
    let staged = layout.staging().join("why");
    let file = write_file(&staged, &text)?;
    match rename_new(&staged, &reasons) {
        Ok(()) => store.unsettled.file(&reasons, file),
        Err(Errno::EEXIST) => return Ok(what),
        Err(errno) => return Err(SpoolError::io("rename into place", &reasons, errno)),
    }
    store.unsettled.dir(layout.bad());
    store.unsettled.dir(folder.path().to_owned());
    Ok(what)
}

/// Leaves a refused file to its owner and the daemon. One that has other names is somebody else's, maybe; and where the daemon
/// may not change what others own, it stays as its owner made it.
fn close(path: &Path) {
    let meta = std::fs::symlink_metadata(path).ok().filter(|meta| meta.is_file() && meta.nlink() == 1);
    if let Some(meta) = meta.filter(|meta| meta.mode() & 0o077 != 0) {
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(meta.mode() & 0o700));
    }
}

/// What became of a refused file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It stands in `bad/`.
    Moved,
    /// It stands where it stood: the system does not let the daemon move it.
    Stays,
    /// Somebody took it away.
    Gone,
}

/// Moves into `bad/` what a crash left, and nobody can tell what it was.
pub(super) fn set_aside(layout: &Layout, path: &Path, stem: &str) -> Result<(), SpoolError> {
    let dir = path.parent().unwrap_or(path);
    let folder = Folder::of_ours(dir).map_err(|e| SpoolError::io("open", dir, e))?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    move_aside(&folder, &file, &layout.bad(), stem)?;
    let mut commit = Commit::default();
    commit.dir(layout.bad());
    commit.dir(dir.to_owned());
    commit.run()
}

/// Returns what a refused file is called. Its name may hold anything that a file name can; what stands in `bad/` must be
/// harmless to list.
fn stem(name: &str) -> String {
    let name = drop_name::stem(name);
    let mut stem = String::new();
    for c in name.chars().map(|c| if is_hidden(c) { '_' } else { c }) {
        if stem.len().saturating_add(c.len_utf8()) > STEM_BYTES_MAX {
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

/// Renames a file to a free name in `dir`: the stem, the stem with a number, and after a few of those the stem with a number that
/// nobody had. A name is free when its reasons are too.
fn move_aside(folder: &Folder, file: &str, dir: &Path, stem: &str) -> Result<Moved, SpoolError> {
    for n in 0.. {
        let name = match n {
            0 => format!("{stem}.json"),
            1..NUMBERED_MAX => format!("{stem}.{n}.json"),
            _ => format!("{stem}.{}.json", unique_number()),
        };
        let to = dir.join(name);
        if to.with_extension("why").symlink_metadata().is_ok() {
            continue;
        }
        match folder.move_out(file, &to) {
            Ok(()) => return Ok(Moved::To(to)),
            Err(Errno::EEXIST) => {}
            Err(Errno::ENOENT) => return Ok(Moved::Gone),
            Err(errno) if is_of_the_disk(errno) => {
                return Err(SpoolError::io("move to bad/", &folder.path_of(file), errno));
            }
            // A directory of somebody else, something mounted, something that was made immutable.
            Err(_) => return Ok(Moved::Stays),
        }
    }
    Ok(Moved::Stays)
}

/// Returns a number that hardly anybody had: searching for a free one from the beginning takes the longer the more there are.
fn unique_number() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
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
                refuse(&mut store, DropBox::New, &name.into(), Some(7), &problems, Timestamp(0)).unwrap();
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
        refuse(&mut store, DropBox::Orders, &"o.json".into(), Some(7), &[], Timestamp(0)).unwrap();
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
        refuse(&mut store, DropBox::New, &"gone.json".into(), None, &[], Timestamp(0)).unwrap();
        assert!(!layout.bad().join("gone.why").exists());
    }
}
