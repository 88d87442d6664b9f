//! Takes dropped files out of the drop boxes. Floor 3.
//!
//! **Invariant:** a file is opened once, without following links and without blocking, judged by that descriptor
//! and read through it; what is handed on are bytes that nobody can change any more. A file disappears from its box
//! only by [`consume`] (what it became is durable) or [`refuse`](super::bad::refuse) (it stands in `bad/` with the
//! reasons).

use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use nix::errno::Errno;

use crate::adapters::spool::folder::{Folder, is_error_of_the_disk, is_of_the_disk};
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::store::make_room;
use crate::adapters::spool::writers::{Held, Readiness, Seen, Writers, readiness};
use crate::adapters::spool::{SpoolError, fault_point};
use crate::base::digest::Digest;
use crate::base::ids::is_token_uid;
use crate::base::limits;
use crate::base::time::Timestamp;
use crate::domain::drop_name::{DropName, broken_rule};
use crate::domain::problem::Problem;
use crate::domain::run::DropKey;
use crate::engine::DropBox;

use Looked::Later;

/// What opening something says that is neither a regular file nor a directory.
const SWAPPED: [Errno; 3] = [Errno::ELOOP, Errno::ENXIO, Errno::ENODEV];

/// What a look at a dropped file found.
#[derive(Debug)]
pub enum Looked {
    /// Its bytes, copied.
    Taken {
        /// Which file.
        key: DropKey,
        /// Its bytes.
        bytes: Vec<u8>,
        /// Whether it may still be written.
        may_grow: bool,
    },
    /// It may still be written; look again later.
    NotYet,
    /// It is not there any more.
    Gone,
    /// The system does not let the daemon look at it now, for a reason of its own.
    Later(std::io::Error),
    /// It can never be read as a task.
    Refused {
        /// Its owner, where it is known.
        uid: Option<u32>,
        /// Why.
        problems: Vec<Problem>,
    },
}

/// Whose a file is that stands in a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// It belongs to somebody.
    Of {
        /// Its owner.
        uid: u32,
        /// Its inode.
        inode: u64,
    },
    /// Nobody can tell: something is mounted there, or the system does not say.
    Unknown,
    /// It is not there any more.
    Gone,
}

/// Looks whose a file is.
#[must_use]
pub fn whose(layout: &Layout, drop_box: DropBox, name: &DropName) -> Whose {
    match Folder::of(layout, drop_box, name).and_then(|folder| folder.look(name.file())) {
        Ok(meta) => Whose::Of { uid: meta.uid(), inode: meta.ino() },
        Err(error) if error.kind() == ErrorKind::NotFound => Whose::Gone,
        Err(_) => Whose::Unknown,
    }
}

/// Returns the owner of a directory in a box that only its owner can write.
#[must_use]
pub fn owner_of_directory(layout: &Layout, drop_box: DropBox, name: &str) -> Option<u32> {
    Folder::open(layout, drop_box, Some(name)).ok()?.owner().ok()?
}

/// Looks at one dropped file and copies it when it is complete. Whatever is wrong with the file, it is not an error of the
/// spool: nobody can stop the daemon by what they put into a box.
#[must_use]
pub fn look(
    layout: &Layout,
    drop_box: DropBox,
    name: &DropName,
    (seen, writers): (Option<Seen>, &mut Writers),
    personal: bool,
    now: Timestamp,
) -> Looked {
    let folder = match Folder::of(layout, drop_box, name) {
        Ok(folder) => folder,
        Err(error) if is_error_of_the_disk(&error) => return Later(error),
        // It went, or somebody made something else of it: no file stands there that could be looked at.
        Err(_) => return Looked::Gone,
    };
    look_in(&folder, name, (seen, writers), personal, now)
}

fn look_in(
    folder: &Folder,
    name: &DropName,
    (seen, writers): (Option<Seen>, &mut Writers),
    personal: bool,
    now: Timestamp,
) -> Looked {
    let refused =
        |uid, found: String, wanted: &str| Looked::Refused { uid, problems: vec![Problem::new("", found, wanted)] };
    let named = match folder.look(name.file()) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return Looked::Gone,
        Err(error) if is_one_of(&error, &[Errno::EXDEV]) => {
            return refused(None, "something mounted".to_owned(), "a regular file");
        }
        Err(error) => return Later(error),
    };
    let uid = Some(named.uid());
    if !named.is_file() {
        return refused(uid, kind(&named).to_owned(), "a regular file");
    }
    if let Some(rule) = broken_rule(name.file()) {
        return refused(uid, format!("the name {}", name.file()), rule);
    }
    // Asked before it is opened: the watcher sees the daemon's own look as well.
    let may_grow = match ready_to_read(&named, seen, writers, now) {
        Readiness::Now { may_grow } => may_grow,
        Readiness::NotYet => return Looked::NotYet,
    };
    let mut file = match folder.read(name.file()) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Looked::Gone,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let wanted = "a file that the daemon may read; try: chmod g+r before dropping it";
            return refused(uid, "no permission to read it".to_owned(), wanted);
        }
        // It was regular a moment ago and is a link, a socket or a device now: the next look says which.
        Err(error) if is_one_of(&error, &SWAPPED) => return Looked::NotYet,
        Err(error) => return Later(error),
    };
    let meta = match file.metadata() {
        Ok(meta) => meta,
        Err(error) => return Later(error),
    };
    let mut problems = file_problems(&meta, personal);
    problems.extend(folder_problem(folder, &meta));
    if !problems.is_empty() {
        return Looked::Refused { uid: Some(meta.uid()), problems };
    }
    let read = read_at_most(&mut file, limits::DROPPED_FILE_BYTES_MAX);
    let (bytes, after) = match read.and_then(|bytes| file.metadata().map(|after| (bytes, after))) {
        Ok(read) => read,
        Err(error) => return Later(error),
    };
    if state_of(&meta) != state_of(&after) || state_of(&meta) != state_of(&named) || bytes.len() as u64 != meta.size() {
        return Looked::NotYet;
    }
    // Room that somebody made for a text reads as zeros until the text comes.
    if may_grow && bytes.last().is_none_or(|last| *last == 0) {
        return Looked::NotYet;
    }
    if bytes.is_empty() {
        return refused(Some(meta.uid()), "an empty file".to_owned(), "a JSON object");
    }
    let key = DropKey {
        name: name.clone(),
        uid: meta.uid(),
        dev: meta.dev(),
        ino: meta.ino(),
        born_ns: born_ns(&meta),
        mtime_ns: mtime_ns(&meta),
        digest: Digest::of(&bytes),
    };
    Looked::Taken { key, bytes, may_grow }
}

/// Says what keeps a directory from proving whose a file in it is.
fn folder_problem(folder: &Folder, file: &Metadata) -> Option<Problem> {
    match folder.owner() {
        Ok(None) => None,
        Ok(Some(owner)) if owner == file.uid() => None,
        Ok(Some(owner)) => Some(Problem::new(
            "",
            format!("a file of uid {} in a directory of uid {owner}", file.uid()),
            "a file of its directory's owner; try: copy it there instead of moving it",
        )),
        Err(mode) => {
            let found = format!("a directory of mode {mode:04o}: others can put files into it");
            Some(Problem::new("", found, "a directory that only its owner can write; try: chmod 0750 on it"))
        }
    }
}

/// Decides whether a file is read now.
fn ready_to_read(meta: &Metadata, seen: Option<Seen>, writers: &mut Writers, now: Timestamp) -> Readiness {
    // Some file systems keep any 64-bit time that somebody set.
    let changed_ms = meta.mtime().saturating_mul(1000).saturating_add(meta.mtime_nsec() / 1_000_000);
    let held = if seen == Some(Seen::Complete) { Held::Unknown } else { writers.hold(meta) };
    readiness(seen, held, now.0.saturating_sub(changed_ms), meta.size() == 0)
}

pub(super) fn read_at_most(file: &mut File, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Says everything about an open file that keeps it from being a task.
fn file_problems(meta: &Metadata, personal: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !meta.is_file() {
        problems.push(Problem::new("", kind(meta), "a regular file"));
    }
    if is_token_uid(meta.uid()) {
        let found = format!("a file of uid {}", meta.uid());
        problems.push(Problem::new(
            "",
            found,
            "a file of an account: numbers from 2147483648 on stand for HTTP tokens here",
        ));
    }
    if meta.nlink() > 1 {
        let found = format!("a file with {} hard links", meta.nlink());
        problems.push(Problem::new("", found, "a file with one link: another name could belong to somebody else"));
    }
    if meta.size() > limits::DROPPED_FILE_BYTES_MAX {
        let wanted = format!("at most {} bytes", limits::DROPPED_FILE_BYTES_MAX);
        problems.push(Problem::new("", format!("{} bytes", meta.size()), wanted));
    }
    // Whoever can write the file could put words into its owner's mouth.
    let others = if personal { 0o002 } else { 0o022 };
    if meta.mode() & others != 0 {
        let found = format!("mode {:04o}: writable by others", meta.mode() & 0o7777);
        problems.push(Problem::new("", found, "a file that only its owner can write; try: chmod go-w"));
    }
    problems
}

/// Names the kind of a file that is not regular.
fn kind(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

fn state_of(meta: &Metadata) -> (u64, u64, i64, i64) {
    (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())
}

/// Returns what tells a file from a later one with the same inode number: in the list of those that were taken.
#[must_use]
pub fn stamp(meta: &Metadata) -> String {
    format!("{} {} {}", meta.ino(), born_ns(meta), mtime_ns(meta))
}

/// Returns the same of a file that was read.
#[must_use]
pub fn stamp_of(key: &DropKey) -> String {
    format!("{} {} {}", key.ino, key.born_ns, key.mtime_ns)
}

fn born_ns(meta: &Metadata) -> String {
    let born = meta.created().ok().and_then(|born| born.duration_since(std::time::UNIX_EPOCH).ok());
    born.map_or_else(|| "0".to_owned(), |born| born.as_nanos().to_string())
}

fn changed_ns(meta: &Metadata) -> i128 {
    i128::from(meta.mtime()).saturating_mul(1_000_000_000).saturating_add(i128::from(meta.mtime_nsec()))
}

pub(super) fn mtime_ns(meta: &Metadata) -> String {
    changed_ns(meta).to_string()
}

/// Where a file is whose task is durable.
#[derive(Debug)]
pub enum Consumed {
    /// Not in its box any more; what stands there now is another file, if anything does.
    Gone,
    /// Still in its box: the system does not let the daemon move it.
    Stays(std::io::Error),
}

/// Takes a file out of its box whose task is durable; the rename itself is durable after the next
/// [`Store::settle`](crate::adapters::spool::store::Store::settle). A file that was replaced or rewritten meanwhile is
/// another one and stays.
///
/// It is renamed away and deleted by [`Sweep`](super::sweep::Sweep) when there is time: ext4 makes new files several times slower while
/// it steps over inodes that were freed within the last seconds, and in a burst each deletion comes between creations.
///
/// After a power cut in the middle a file may be back, without its bytes where whoever dropped it had not synced them; its key
/// tells that it was taken.
///
/// # Errors
/// When a file operation fails for a reason that is not the file's own; then it may still stand in its box.
pub fn consume(layout: &Layout, drop_box: DropBox, key: &DropKey) -> Result<Consumed, SpoolError> {
    let folder = match Folder::of(layout, drop_box, &key.name) {
        Ok(folder) => folder,
        Err(error) if is_error_of_the_disk(&error) => {
            return Err(SpoolError::io("open", &layout.drop_box(drop_box), error));
        }
        Err(_) => return Ok(Consumed::Gone),
    };
    // What cannot be looked at may be that file all the same. Where it cannot be moved either, it is none of ours.
    if is_that_file(&folder, key).unwrap_or(true) { take(layout, drop_box, &folder, key) } else { Ok(Consumed::Gone) }
}

/// Takes away the file of a key, unless it is another one than was read.
fn take(layout: &Layout, drop_box: DropBox, folder: &Folder, key: &DropKey) -> Result<Consumed, SpoolError> {
    let staging = layout.staging();
    let path = folder.path_of(key.name.file());
    fault_point("take away", &path)?;
    let mut n = 0_u32;
    let held = loop {
        let held = staging.join(held_name(drop_box, key, n));
        match folder.move_out(key.name.file(), &held) {
            Ok(()) => break held,
            // A crash left somebody's file there; it is seen to at the next start.
            Err(Errno::EEXIST) if n < HELD_MAX => n = n.saturating_add(1),
            Err(Errno::ENOENT) => return Ok(Consumed::Gone),
            Err(errno) if is_of_the_disk(errno) => return Err(SpoolError::io("take away", &path, errno)),
            Err(errno) => {
                let stays = is_that_file(folder, key).unwrap_or(false);
                return Ok(if stays { Consumed::Stays(errno.into()) } else { Consumed::Gone });
            }
        }
    };
    let same = Folder::of_ours(&staging).and_then(|ours| is_key_of(&ours, &file_name(&held), key));
    if matches!(same, Ok(true)) {
        let taken = staging.join(taken_name(key));
        return fs::rename(&held, &taken).map(|()| Consumed::Gone).map_err(|e| SpoolError::io("take away", &held, e));
    }
    // Between the look and the rename somebody put another file there: it goes back. So does what cannot be read, which is
    // taken away when it can.
    put_back(folder, &held, key.name.file())?;
    same.map(|_| Consumed::Gone).map_err(|e| SpoolError::io("read", &path, e))
}

/// Puts a file back that was not the one to be taken. Where somebody lets nothing in any more, it stays with the daemon's own,
/// and the next start sets it aside.
fn put_back(folder: &Folder, held: &Path, file: &str) -> Result<(), SpoolError> {
    loop {
        match folder.move_in(held, file) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EEXIST) if make_room(folder, file)? => {}
            Err(errno) if is_of_the_disk(errno) => {
                return Err(SpoolError::io("put back", &folder.path_of(file), errno));
            }
            Err(errno) => {
                tracing::warn!("cannot put {} back where it came from: {errno}; it stays there", held.display());
                return Ok(());
            }
        }
    }
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Puts back what a daemon that was killed had in its hands: whether it is the file that was read, or somebody's other one, the
/// next look tells. False when it cannot be put where its name says.
///
/// # Errors
/// When a file operation fails.
pub(super) fn put_back_held(layout: &Layout, held: &Path) -> Result<bool, SpoolError> {
    let Some((drop_box, name)) = held_words(&file_name(held)) else { return Ok(false) };
    match Folder::of(layout, drop_box, &name) {
        Ok(folder) => put_back(&folder, held, name.file())?,
        Err(error) if is_error_of_the_disk(&error) => {
            return Err(SpoolError::io("open", &layout.drop_box(drop_box), error));
        }
        Err(_) => {}
    }
    Ok(fs::symlink_metadata(held).is_err())
}

/// Whether a file that was read still stands in its box, as far as that can be known.
#[must_use]
pub fn stands(layout: &Layout, drop_box: DropBox, key: &DropKey) -> bool {
    Folder::of(layout, drop_box, &key.name).and_then(|folder| is_that_file(&folder, key)).unwrap_or(false)
}

/// Whether the file that stands where a key says is the one that was read.
///
/// # Errors
/// When the disk does not say.
fn is_that_file(folder: &Folder, key: &DropKey) -> std::io::Result<bool> {
    is_key_of(folder, key.name.file(), key)
}

/// Whether a file is the one that was read, and still says what it said. Its times may have changed: many a copying program
/// sets them after the last byte. Its device may be numbered otherwise after a reboot; a file that says when it was made is
/// known without.
///
/// # Errors
/// When the disk does not say.
fn is_key_of(folder: &Folder, name: &str, key: &DropKey) -> std::io::Result<bool> {
    let mut file = match folder.read(name) {
        Ok(file) => file,
        Err(error) if is_error_of_the_disk(&error) => return Err(error),
        // Nothing is there, or something else, or somebody has closed it: then the next look refuses it.
        Err(_) => return Ok(false),
    };
    let meta = file.metadata()?;
    let born = born_ns(&meta);
    let says_when = |born: &str| !matches!(born, "" | "0");
    let same_birth =
        if says_when(&born) && says_when(&key.born_ns) { born == key.born_ns } else { meta.dev() == key.dev };
    if !meta.is_file() || !same_birth || (meta.ino(), meta.uid()) != (key.ino, key.uid) {
        return Ok(false);
    }
    let bytes = read_at_most(&mut file, limits::DROPPED_FILE_BYTES_MAX)?;
    Ok(Digest::of(&bytes) == key.digest || is_hollow(&bytes, &meta, &key.mtime_ns))
}

/// Whether this is what a power cut left of a file that was read: nothing, or zeros, and no newer than it was then. Who empties a
/// file to write it anew makes it newer.
pub(super) fn is_hollow(bytes: &[u8], meta: &Metadata, mtime: &str) -> bool {
    bytes.iter().all(|byte| *byte == 0) && mtime.parse::<i128>().is_ok_and(|read| changed_ns(meta) <= read)
}

/// Whether the system said one of these.
fn is_one_of(error: &std::io::Error, errnos: &[Errno]) -> bool {
    errnos.iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// How the names of files begin that were taken out of their boxes.
pub(super) const TAKEN: &str = "taken-";
/// How the names of files begin that are being taken, and may be somebody's other file.
pub(super) const HELD: &str = "held-";
/// How many such names of one file are tried.
const HELD_MAX: u32 = 1000;

/// Names a file that is being taken so that a later daemon can put it back.
fn held_name(drop_box: DropBox, key: &DropKey, n: u32) -> String {
    format!("{HELD}{}-{}-{n}-{}", drop_box.name(), key.ino, key.name.flattened())
}

/// Returns what the name of a file says that was being taken: its box and what it was called there.
fn held_words(name: &str) -> Option<(DropBox, DropName)> {
    let mut words = name.strip_prefix(HELD)?.splitn(4, '-');
    let drop_box = words.next()?;
    let drop_box =
        [DropBox::New, DropBox::Ready, DropBox::Orders].into_iter().find(|known| known.name() == drop_box)?;
    let (Ok(_), Ok(_)) = (words.next()?.parse::<u64>(), words.next()?.parse::<u32>()) else { return None };
    DropName::unflattened(words.next()?).map(|name| (drop_box, name))
}

/// Names a file that was taken so that a later look can tell whether it was written since.
fn taken_name(key: &DropKey) -> String {
    format!("{TAKEN}{}_{}_{}", key.mtime_ns, key.digest.short(), key.name.flattened())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::spool::sweep::{Rewritten, Sweep};

    fn sweep(layout: &Layout) -> Vec<Rewritten> {
        let mut sweep = Sweep::new(true);
        sweep.begin(layout).unwrap();
        sweep.part(std::time::Duration::MAX).unwrap()
    }

    fn spool() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        layout.create(None, true).unwrap();
        (dir, layout)
    }

    fn look_at(layout: &Layout, name: &str) -> Looked {
        let seen = (Some(Seen::Complete), &mut Writers::new(false));
        look(layout, DropBox::New, &name.into(), seen, true, Timestamp(i64::MAX / 2))
    }

    #[test]
    fn only_the_file_that_was_read_is_taken_away() {
        let (_dir, layout) = spool();
        let path = layout.drop_box(DropBox::New).join("a.json");
        fs::write(&path, "1").unwrap();
        let Looked::Taken { key, .. } = look_at(&layout, "a.json") else { panic!("not taken") };
        let other = path.with_extension("other");
        fs::write(&other, "2").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(!stands(&layout, DropBox::New, &key));
        consume(&layout, DropBox::New, &key).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        let Looked::Taken { key, .. } = look_at(&layout, "a.json") else { panic!("not taken") };
        consume(&layout, DropBox::New, &key).unwrap();
        consume(&layout, DropBox::New, &key).unwrap();
        assert!(!path.exists());
        assert!(sweep(&layout).is_empty());
        assert_eq!(fs::read_dir(layout.staging()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_swapped_in_after_the_look_goes_back() {
        let (_dir, layout) = spool();
        let path = layout.drop_box(DropBox::New).join("a.json");
        fs::write(&path, "1").unwrap();
        let Looked::Taken { key, .. } = look_at(&layout, "a.json") else { panic!("not taken") };
        fs::rename(&path, path.with_extension("old")).unwrap();
        fs::write(&path, "2").unwrap();
        let folder = Folder::open(&layout, DropBox::New, None).unwrap();
        take(&layout, DropBox::New, &folder, &key).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        take(&layout, DropBox::New, &folder, &DropKey { name: "none.json".into(), ..key }).unwrap();
        assert_eq!(fs::read_dir(layout.staging()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_written_after_a_file_was_read_is_not_lost() {
        use std::io::Write as _;
        let (_dir, layout) = spool();
        let path = layout.drop_box(DropBox::New).join("a-b.json");
        fs::write(&path, "1").unwrap();
        let mut late = File::options().append(true).open(&path).unwrap();
        let Looked::Taken { key, .. } = look_at(&layout, "a-b.json") else { panic!("not taken") };
        consume(&layout, DropBox::New, &key).unwrap();
        late.write_all(b"2").unwrap();
        drop(late);
        let found = sweep(&layout);
        assert_eq!(
            found.iter().map(|file| (file.name.as_str(), &file.read)).collect::<Vec<_>>(),
            [("a-b.json", &key.digest.short())]
        );
        assert_eq!(fs::read(&found[0].path).unwrap(), b"12");
    }

    #[test]
    fn what_is_written_while_writers_are_looked_for_is_not_lost() {
        use std::io::Write as _;
        let (_dir, layout) = spool();
        let path = layout.drop_box(DropBox::New).join("a.json");
        fs::write(&path, "1").unwrap();
        let mut late = File::options().append(true).open(&path).unwrap();
        let Looked::Taken { key, .. } = look_at(&layout, "a.json") else { panic!("not taken") };
        consume(&layout, DropBox::New, &key).unwrap();
        let mut look = |_: &Metadata| {
            late.write_all(b"2").unwrap();
            Held::No
        };
        let mut sweep = Sweep::new(true);
        sweep.begin(&layout).unwrap();
        let found = sweep.part_unless_held(std::time::Duration::MAX, &mut look).unwrap();
        assert_eq!(found.len(), 1, "what was written is deleted");
        assert_eq!(fs::read(&found[0].path).unwrap(), b"12");
    }

    #[test]
    fn a_file_is_the_same_by_what_it_says_not_by_its_times() {
        let (_dir, layout) = spool();
        let path = layout.drop_box(DropBox::New).join("a.json");
        fs::write(&path, "1").unwrap();
        let set = |seconds| {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        set(1_000);
        let Looked::Taken { key, .. } = look_at(&layout, "a.json") else { panic!("not taken") };
        fs::write(&path, "2").unwrap();
        set(1_000);
        consume(&layout, DropBox::New, &key).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2", "rewritten in place, with its old time");
        let Looked::Taken { key, .. } = look_at(&layout, "a.json") else { panic!("not taken") };
        set(2_000);
        consume(&layout, DropBox::New, &key).unwrap();
        assert!(!path.exists(), "copied by a program that sets the times at the end");
    }

    #[test]
    fn a_file_that_was_taken_and_is_back_without_its_bytes_is_the_same() {
        let (_dir, layout) = spool();
        let path = layout.drop_box(DropBox::New).join("a.json");
        let set = |seconds| {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        for (left, changed, is_taken) in
            [("", 1_000, true), ("\0\0", 1_000, true), ("", 999, true), ("", 1_001, false), ("2", 1_000, false)]
        {
            fs::write(&path, "1").unwrap();
            set(1_000);
            let Looked::Taken { key, .. } = look_at(&layout, "a.json") else { panic!("not taken") };
            fs::write(&path, left).unwrap();
            set(changed);
            consume(&layout, DropBox::New, &key).unwrap();
            assert_eq!(path.exists(), !is_taken, "{left:?} of {changed} was read at 1000");
            assert!(sweep(&layout).is_empty());
            let _ = fs::remove_file(&path);
        }
    }

    #[test]
    fn a_file_is_the_same_whatever_number_its_device_has_after_a_reboot() {
        let (_dir, layout) = spool();
        let path = layout.drop_box(DropBox::New).join("a.json");
        fs::write(&path, "1").unwrap();
        let Looked::Taken { key, .. } = look_at(&layout, "a.json") else { panic!("not taken") };
        let renumbered = DropKey { dev: key.dev + 1, ..key.clone() };
        assert_eq!(renumbered.identity(), key.identity());
        consume(&layout, DropBox::New, &renumbered).unwrap();
        assert_eq!(
            path.exists(),
            key.born_ns == "0",
            "a file system that does not say when a file was made has the number only"
        );
    }

    /// The task of such a file is durable: were it left in its box without a word, its task would run again.
    #[test]
    fn a_file_that_the_disk_does_not_let_go_is_an_error() {
        let (_dir, layout) = spool();
        let path = layout.drop_box(DropBox::New).join("a.json");
        fs::write(&path, "1").unwrap();
        let Looked::Taken { key, .. } = look_at(&layout, "a.json") else { panic!("not taken") };
        crate::adapters::spool::fault::after(Some(0));
        assert!(consume(&layout, DropBox::New, &key).is_err() && path.exists());
        crate::adapters::spool::fault::after(None);
        assert!(matches!(consume(&layout, DropBox::New, &key).unwrap(), Consumed::Gone));
        assert!(!path.exists());
    }

    #[test]
    fn what_stands_in_a_files_place_and_cannot_be_moved_is_not_that_file() {
        let (_dir, layout) = spool();
        let path = layout.drop_box(DropBox::New).join("a.json");
        fs::write(&path, "1").unwrap();
        let Looked::Taken { key, .. } = look_at(&layout, "a.json") else { panic!("not taken") };
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let left = layout.staging().join(held_name(DropBox::New, &key, 0));
        fs::write(&left, "left").unwrap();
        let folder = Folder::open(&layout, DropBox::New, None).unwrap();
        assert!(matches!(take(&layout, DropBox::New, &folder, &key).unwrap(), Consumed::Gone));
        assert_eq!(fs::read(left).unwrap(), b"left", "a crash left it, and it may be somebody's");
        assert!(path.is_dir(), "it is somebody else's");
    }

    #[test]
    fn whatever_a_name_becomes_between_two_calls_it_is_neither_followed_nor_waited_for() {
        let (_dir, layout) = spool();
        let box_dir = layout.drop_box(DropBox::New);
        let (path, spare) = (box_dir.join("a.json"), box_dir.join(".spare"));
        std::thread::scope(|scope| {
            let swapper = scope.spawn(|| {
                for n in 0..3_000 {
                    match n % 5 {
                        0 => fs::write(&spare, "{}").unwrap(),
                        1 => nix::unistd::mkfifo(&spare, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                        2 => std::os::unix::fs::symlink("/etc/passwd", &spare).unwrap(),
                        3 => drop(std::os::unix::net::UnixListener::bind(&spare).unwrap()),
                        _ => drop(fs::remove_file(&path)),
                    }
                    // Nothing was made in the fifth case.
                    let _ = fs::rename(&spare, &path);
                }
            });
            while !swapper.is_finished() {
                if let Looked::Taken { bytes, .. } = look_at(&layout, "a.json") {
                    assert!(bytes == b"{}" || bytes.is_empty());
                }
            }
        });
    }
}
