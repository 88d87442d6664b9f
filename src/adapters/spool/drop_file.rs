//! Puts a file into a drop box, as everybody may. Floor 3.
//!
//! **Invariant:** a file appears in its box whole and durable, under a name that nobody had: written aside under a hidden
//! name, synced, renamed without replacing.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::adapters::spool::SpoolError;
use crate::adapters::spool::layout::Layout;
use crate::engine::DropBox;

/// A file that was put into a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Its name there.
    pub name: String,
    /// Its inode.
    pub inode: u64,
}

/// Puts `bytes` into a box as `stem.json`; a taken name gets a number. `aside` is a name that no other process gives.
///
/// # Errors
/// When the box cannot be written.
pub fn put(layout: &Layout, drop_box: DropBox, stem: &str, aside: &str, bytes: &[u8]) -> Result<Put, SpoolError> {
    let dir = layout.drop_box(drop_box);
    let staged = dir.join(format!(".{aside}"));
    let failed = |error: io::Error| SpoolError::io("write into", &dir, error);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o640).open(&staged).map_err(failed)?;
    let inode =
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| file.metadata()).map_err(failed)?.ino();
    for n in 0_u32.. {
        let name = if n == 0 { format!("{stem}.json") } else { format!("{stem}-{n}.json") };
        match renameat2(AT_FDCWD, &staged, AT_FDCWD, &dir.join(&name), RenameFlags::RENAME_NOREPLACE) {
            // A journalling file system brings the new name to the disk with the file. The daemon may have taken it already.
            Ok(()) => return file.sync_all().map(|()| Put { name, inode }).map_err(failed),
            Err(nix::errno::Errno::EEXIST) => {}
            Err(errno) => {
                // The hidden file is ours alone; that it cannot be removed either adds nothing to the message.
                let _ = fs::remove_file(&staged);
                return Err(failed(errno.into()));
            }
        }
    }
    Err(failed(io::ErrorKind::AlreadyExists.into()))
}
