//! Puts a file into a drop box, as everybody may. Floor 3.
//!
//! **Invariant:** a file appears in its box whole and durable, under a name that nobody had: written aside under a hidden
//! name, synced, renamed without replacing. It appears in a directory that only its owner can write, which proves that nobody
//! else put it there.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::adapters::spool::SpoolError;
use crate::adapters::spool::intake::stamp;
use crate::adapters::spool::layout::Layout;
use crate::base::ids::Actor;
use crate::domain::drop_name::{DropName, is_drop_name};
use crate::engine::DropBox;

/// How many directories of somebody's own are tried: others may have taken the name.
const DIRECTORIES_MAX: u32 = 10;

/// A file that was put into a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Where it is there.
    pub name: DropName,
    /// Its inode.
    pub inode: u64,
    /// What tells it from a later file with that number.
    stamp: String,
    path: PathBuf,
}

impl Put {
    /// Whether it stands in its box and nobody has taken it. One that was taken, and that the daemon may not remove, is removed.
    #[must_use]
    pub fn stands(&self, layout: &Layout) -> bool {
        if !fs::symlink_metadata(&self.path).is_ok_and(|meta| stamp(&meta) == self.stamp) {
            return false;
        }
        let taken = taken(layout).contains(&self.stamp);
        if taken {
            // It counts once, whether it goes or not.
            let _ = fs::remove_file(&self.path);
        }
        !taken
    }
}

/// Puts `bytes` into a box as `stem.json`, in the directory of `me` there; a taken name gets a number. `aside` is a name that
/// no other process gives.
///
/// # Errors
/// When the box cannot be written.
pub fn put(
    layout: &Layout,
    drop_box: DropBox,
    me: &Actor,
    (stem, aside): (&str, &str),
    bytes: &[u8],
) -> Result<Put, SpoolError> {
    let in_box = layout.drop_box(drop_box);
    let failed = |error: io::Error| SpoolError::io("write into", &in_box, error);
    let own = own_directory(&in_box, me, aside).map_err(failed)?;
    let directory = match own {
        Own::There(directory) => directory,
        // With the file in it: whoever watches the box is told of both by one rename.
        Own::New { directory, made } => {
            let name = format!("{stem}.json");
            // It is closed when it appears, so that nobody takes it for one that is still written.
            let (_, meta) = write(&made.join(&name), bytes).map_err(failed)?;
            let dir = in_box.join(&directory);
            return match rename_new(&made, &dir) {
                Ok(()) => {
                    let path = dir.join(&name);
                    let name = DropName::within(&directory, &name);
                    match File::open(&path).and_then(|file| file.sync_all()) {
                        // What the daemon took already is durable.
                        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
                        _ => Ok(Put { name, inode: meta.ino(), stamp: stamp(&meta), path }),
                    }
                }
                // Another command of ours was faster; its directory serves as well.
                Err(errno) => {
                    let gone = fs::remove_file(made.join(&name)).and_then(|()| fs::remove_dir(&made));
                    gone.map_err(failed)?;
                    if errno == Errno::EEXIST {
                        put(layout, drop_box, me, (stem, aside), bytes)
                    } else {
                        Err(failed(errno.into()))
                    }
                }
            };
        }
    };
    let dir = in_box.join(&directory);
    tidy(layout, &dir);
    let staged = dir.join(format!(".{aside}"));
    let (file, meta) = write(&staged, bytes).map_err(failed)?;
    for n in 0_u32.. {
        let name = if n == 0 { format!("{stem}.json") } else { format!("{stem}-{n}.json") };
        let path = dir.join(&name);
        match rename_new(&staged, &path) {
            // A journalling file system brings the new name to the disk with the file. The daemon may have taken it already.
            Ok(()) => {
                let name = DropName::within(&directory, &name);
                let put = Put { name, inode: meta.ino(), stamp: stamp(&meta), path };
                return file.sync_all().map(|()| put).map_err(failed);
            }
            Err(Errno::EEXIST) => {}
            Err(errno) => {
                // The hidden file is ours alone; that it cannot be removed either adds nothing to the message.
                let _ = fs::remove_file(&staged);
                return Err(failed(errno.into()));
            }
        }
    }
    Err(failed(io::ErrorKind::AlreadyExists.into()))
}

/// Whether a file of this name stands in one of `boxes`, flat or in a directory of `me`, and nobody has taken it.
#[must_use]
pub fn stands(layout: &Layout, boxes: &[DropBox], me: &Actor, file: &str) -> bool {
    let own = (1..DIRECTORIES_MAX).map(|n| format!("{}+{n}", me.user));
    let directories: Vec<String> = [String::new(), me.user.clone()].into_iter().chain(own).collect();
    let found =
        boxes.iter().flat_map(|known| directories.iter().map(|dir| layout.drop_box(*known).join(dir).join(file)));
    let stamps: Vec<String> =
        found.filter_map(|path| fs::symlink_metadata(path).ok()).map(|meta| stamp(&meta)).collect();
    let taken = if stamps.is_empty() { Vec::new() } else { taken(layout) };
    stamps.iter().any(|stamp| !taken.contains(stamp))
}

/// A directory in a box that only its owner can write.
enum Own {
    /// It stands there under this name.
    There(String),
    /// It is to have this name, and stands at a hidden one.
    New { directory: String, made: PathBuf },
}

/// Finds a directory in a box that only `me` can write, or makes one. Its group may read it: that is how a daemon which is not
/// root does.
fn own_directory(in_box: &Path, me: &Actor, aside: &str) -> io::Result<Own> {
    for n in 0..DIRECTORIES_MAX {
        let name = if n == 0 { me.user.clone() } else { format!("{}+{n}", me.user) };
        let dir = in_box.join(&name);
        match fs::symlink_metadata(&dir) {
            Ok(meta) if meta.is_dir() && meta.uid() == me.uid => {
                set_mode(&dir, &meta)?;
                return Ok(Own::There(name));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = in_box.join(format!(".{aside}.d"));
                DirBuilder::new().mode(0o750).create(&made)?;
                set_mode(&made, &fs::symlink_metadata(&made)?)?;
                return Ok(Own::New { directory: name, made });
            }
            Err(error) => return Err(error),
        }
    }
    let said = format!("others have taken the names {0}, {0}+1 … in it; whoever owns the box can remove them", me.user);
    Err(io::Error::new(io::ErrorKind::AlreadyExists, said))
}

/// Lets the owner alone write a directory. The box's group stays: a file in it must be one that the daemon may read.
fn set_mode(dir: &Path, meta: &fs::Metadata) -> io::Result<()> {
    if meta.mode() & 0o777 == 0o750 {
        return Ok(());
    }
    fs::set_permissions(dir, Permissions::from_mode(meta.mode() & 0o2000 | 0o750))
}

/// Writes a new file that the group may read, durably; returns it with its inode.
fn write(path: &Path, bytes: &[u8]) -> io::Result<(File, fs::Metadata)> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o640).open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(0o640))?;
    file.sync_all()?;
    let meta = file.metadata()?;
    Ok((file, meta))
}

fn rename_new(from: &Path, to: &Path) -> nix::Result<()> {
    renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE)
}

/// Removes from somebody's own directory what the daemon took and may not remove itself.
fn tidy(layout: &Layout, dir: &Path) {
    let taken = taken(layout);
    if taken.is_empty() {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_taken = entry.metadata().is_ok_and(|meta| meta.is_file() && taken.contains(&stamp(&meta)));
        if is_taken && name.to_str().is_some_and(is_drop_name) {
            // The next command tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns what tells the files that were taken and stand where they stood.
fn taken(layout: &Layout) -> Vec<String> {
    let text = fs::read_to_string(layout.taken()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Actor {
        Actor { uid: nix::unistd::geteuid().as_raw(), user: "me".to_owned() }
    }

    #[test]
    fn a_file_goes_into_a_directory_of_its_owners_own() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        layout.create(None, true).unwrap();
        let new = layout.drop_box(DropBox::New);
        let put = |aside: &str| put(&layout, DropBox::New, &me(), ("x", aside), b"{}").unwrap();
        let (first, second) = (put("1"), put("2"));
        assert_eq!([first.name.as_str(), second.name.as_str()], ["me/x.json", "me/x-1.json"]);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&new.join("me")), mode(&new.join("me/x.json"))), (0o750, 0o640));
        // Somebody else may have the name, and ours may have been opened to others.
        fs::set_permissions(new.join("me"), Permissions::from_mode(0o770)).unwrap();
        assert_eq!((put("3").name.as_str(), mode(&new.join("me"))), ("me/x-2.json", 0o750));
        fs::remove_dir_all(new.join("me")).unwrap();
        fs::write(new.join("me"), "").unwrap();
        assert_eq!(put("4").name.as_str(), "me+1/x.json");
    }

    #[test]
    fn what_was_taken_is_removed_by_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        layout.create(None, true).unwrap();
        let drop = |stem: &str| put(&layout, DropBox::Ready, &me(), (stem, stem), b"{}").unwrap();
        let (one, two, three) = (drop("one"), drop("two"), drop("three"));
        fs::write(layout.taken(), format!("{}\n{}\n", one.stamp, two.stamp)).unwrap();
        assert!(three.stands(&layout) && !one.stands(&layout) && !one.path.exists());
        drop("four");
        assert!(!two.path.exists() && three.path.exists());
    }
}
