//! A directory in which dropped files stand, held open: a box, or somebody's own directory in it. Floor 3.
//!
//! **Invariant:** whatever others can rename is reached from a descriptor. No link is followed and no mount is entered (a FUSE
//! server may never answer), so nothing outside the box is looked at or changed, whatever a name becomes meanwhile.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat, openat2, renameat2};
use nix::sys::stat::{Mode, fstatat};

use crate::adapters::spool::layout::Layout;
use crate::domain::drop_name::DropName;
use crate::engine::DropBox;

/// Write permission for anybody but the owner. With a list of rights (ACL) the group's bits are the most that anybody named in
/// it has.
const OTHERS_WRITE: u32 = 0o022;

/// An open directory.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    /// Of somebody's own directory: what it is.
    own: Option<Metadata>,
}

impl Folder {
    /// Opens a box, or a directory in it.
    ///
    /// # Errors
    /// When it is not there, is no directory, or is something mounted (`EXDEV`).
    pub(super) fn open(layout: &Layout, drop_box: DropBox, directory: Option<&str>) -> io::Result<Folder> {
        let path = layout.drop_box(drop_box);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = openat(AT_FDCWD, &path, flags | OFlag::O_NOFOLLOW, Mode::empty())?;
        let Some(directory) = directory else { return Ok(Folder { fd, path, own: None }) };
        let fd = beneath(&fd, directory, flags)?;
        let meta = File::from(fd.try_clone()?).metadata()?;
        Ok(Folder { fd, path: path.join(directory), own: Some(meta) })
    }

    /// Opens the directory that a file stands in.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub(super) fn of(layout: &Layout, drop_box: DropBox, name: &DropName) -> io::Result<Folder> {
        Folder::open(layout, drop_box, name.directory())
    }

    /// Opens a directory that nobody but the daemon can change.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn of_ours(path: &Path) -> io::Result<Folder> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        Ok(Folder { fd: openat(AT_FDCWD, path, flags, Mode::empty())?, path: path.to_owned(), own: None })
    }

    /// Returns the owner of a directory that only its owner can write; `None` for a box.
    ///
    /// # Errors
    /// With its mode, when others can write it.
    pub(super) fn owner(&self) -> Result<Option<u32>, u32> {
        match &self.own {
            Some(meta) if meta.mode() & OTHERS_WRITE != 0 => Err(meta.mode() & 0o7777),
            own => Ok(own.as_ref().map(Metadata::uid)),
        }
    }

    /// Returns the path of a file in it, to show.
    pub(super) fn path_of(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }

    /// Returns its own path, to show and to sync.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at what a name stands for, without opening it or asking who mounted it.
    ///
    /// # Errors
    /// When nothing is there, or something mounted (`EXDEV`).
    pub(super) fn look(&self, file: &str) -> io::Result<Metadata> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // What a link leads to is nobody's business here; the link itself is looked at.
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV);
        let fd = match openat2(&self.fd, file, how) {
            Err(Errno::ENOSYS) => self.same_device(file, openat(&self.fd, file, flags, Mode::empty())?)?,
            opened => opened?,
        };
        File::from(fd).metadata()
    }

    /// Opens a regular file to read it, without waiting for anybody.
    ///
    /// # Errors
    /// When it cannot be opened; a link is `ELOOP`.
    pub(super) fn read(&self, file: &str) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Ok(File::from(beneath(&self.fd, file, flags)?))
    }

    /// Opens it to list what is in it.
    ///
    /// # Errors
    /// When the system does not let the daemon.
    pub(super) fn list(&self) -> io::Result<nix::dir::Dir> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(nix::dir::Dir::openat(&self.fd, ".", flags, Mode::empty())?)
    }

    /// Renames a file of it to a path of ours that nobody has.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn move_out(&self, file: &str, to: &Path) -> nix::Result<()> {
        renameat2(&self.fd, file, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE)
    }

    /// Renames a file of ours into it, under a name that nobody has.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn move_in(&self, from: &Path, file: &str) -> nix::Result<()> {
        renameat2(AT_FDCWD, from, &self.fd, file, RenameFlags::RENAME_NOREPLACE)
    }

    /// Renames a file within it, to a name that nobody has.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn rename(&self, file: &str, to: &str) -> nix::Result<()> {
        renameat2(&self.fd, file, &self.fd, to, RenameFlags::RENAME_NOREPLACE)
    }

    /// For kernels before 5.6: what was opened is of the directory's own device.
    fn same_device(&self, file: &str, fd: OwnedFd) -> io::Result<OwnedFd> {
        of_device_of(&self.fd, file, fd)
    }
}

/// Opens something in a directory that is no link and nothing mounted.
fn beneath(dir: &OwnedFd, name: &str, flags: OFlag) -> io::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    match openat2(dir, name, OpenHow::new().flags(flags | OFlag::O_NOFOLLOW).resolve(resolve)) {
        Err(Errno::ENOSYS) => {
            let opened = openat(dir.as_fd(), name, flags | OFlag::O_NOFOLLOW, Mode::empty())?;
            of_device_of(dir, name, opened)
        }
        opened => Ok(opened?),
    }
}

fn of_device_of(dir: &OwnedFd, name: &str, fd: OwnedFd) -> io::Result<OwnedFd> {
    let (of_dir, of_file) = (fstatat(dir, ".", AtFlags::empty())?, nix::sys::stat::fstat(&fd)?);
    if name.contains('/') || of_dir.st_dev != of_file.st_dev { Err(Errno::EXDEV.into()) } else { Ok(fd) }
}

/// Whether the system said this of the disk, and not of what somebody put into a box.
pub(super) fn is_of_the_disk(errno: Errno) -> bool {
    use Errno::{EDQUOT, EIO, EMFILE, ENFILE, ENOMEM, ENOSPC, EROFS};
    matches!(errno, EDQUOT | EIO | EMFILE | ENFILE | ENOMEM | ENOSPC | EROFS)
}

/// Like [`is_of_the_disk`], of what the standard library says.
pub(super) fn is_error_of_the_disk(error: &io::Error) -> bool {
    error.raw_os_error().is_none_or(|raw| is_of_the_disk(Errno::from_raw(raw)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        layout.create(None, true).unwrap();
        (dir, layout)
    }

    #[test]
    fn no_link_leads_out_of_a_box() {
        let (dir, layout) = layout();
        let (new, outside) = (layout.drop_box(DropBox::New), dir.path().join("outside"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("x.json"), "{}").unwrap();
        symlink(&outside, new.join("alice")).unwrap();
        symlink(outside.join("x.json"), new.join("x.json")).unwrap();
        assert!(Folder::open(&layout, DropBox::New, Some("alice")).is_err());
        assert!(Folder::open(&layout, DropBox::New, Some("..")).is_err());
        let folder = Folder::open(&layout, DropBox::New, None).unwrap();
        assert!(folder.look("x.json").unwrap().is_symlink());
        for name in ["x.json", "alice/x.json", "../orders", "/etc/passwd"] {
            assert!(folder.read(name).is_err(), "{name}");
        }
        assert_eq!(folder.owner(), Ok(None));
    }

    #[test]
    fn a_directory_is_somebodys_own_when_nobody_else_can_write_it() {
        let (_dir, layout) = layout();
        let own = layout.drop_box(DropBox::Orders).join("me");
        fs::create_dir(&own).unwrap();
        let me = nix::unistd::geteuid().as_raw();
        for (mode, want) in [(0o750, Ok(Some(me))), (0o700, Ok(Some(me))), (0o770, Err(0o770)), (0o752, Err(0o752))] {
            fs::set_permissions(&own, fs::Permissions::from_mode(mode)).unwrap();
            let folder = Folder::open(&layout, DropBox::Orders, Some("me")).unwrap();
            assert_eq!(folder.owner().map_err(|mode| mode & 0o777), want);
        }
    }
}
