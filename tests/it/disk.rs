//! File systems of the tests' own: small ones that can be filled.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::patience::InTime as _;

/// A file system that is mounted at a directory until it is dropped.
pub(crate) struct Disk {
    place: PathBuf,
}

impl Disk {
    /// Mounts a small file system in memory at `place`, which is made.
    pub(crate) fn in_memory(place: &Path, bytes: u64) -> Disk {
        std::fs::create_dir_all(place).unwrap();
        let size = format!("size={bytes},mode=0755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(place).status_in_time();
        assert!(mounted.unwrap().success(), "a tmpfs can be mounted: these tests run as root");
        Disk { place: place.to_owned() }
    }

    /// Fills it up to the last byte that can be written.
    pub(crate) fn fill(&self) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        let block = vec![1; 64 << 10];
        let mut size = block.len();
        while size > 0 {
            match file.write(&block[..size]).and_then(|_| file.sync_all()) {
                Ok(()) => {}
                Err(_) => size /= 2,
            }
        }
    }

    /// Makes room again.
    pub(crate) fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever has a file open there ends soon; the mount goes with it.
        let _ = Command::new("umount").arg("-l").arg(&self.place).output_in_time();
    }
}
