//! Whether there is room on the disk. Floor 3.
//!
//! **Invariant:** what is asked is the disk itself, by writing: quotas, reserved blocks and full tables of inodes are found in
//! no other way.

use std::fs::{self, File};
use std::io::Write as _;

use nix::sys::statvfs::statvfs;

use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::{Lack, SpoolError};

/// How much of the disk is kept for tasks that run, at most; of a small disk it is a fiftieth.
const RESERVE_BYTES: u64 = 128 << 20;

/// Whether there is more room than what tasks that run may need for their journals and logs. What people drop is taken in only
/// then: nobody ends what runs by filling the disk with tasks that wait.
#[must_use]
pub fn is_beyond_reserve(layout: &Layout) -> bool {
    // Where the disk does not say, whoever writes finds out.
    let Ok(disk) = statvfs(&layout.spool()) else { return true };
    let bytes = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
    bytes(disk.blocks_available()) > RESERVE_BYTES.min(bytes(disk.blocks()) / 50)
}

/// Whether so many bytes can be written and brought to the disk. Where no file can be made for another reason, whoever needs the
/// room finds out.
#[must_use]
pub fn is_there(layout: &Layout, bytes: u64) -> bool {
    if !layout.staging().is_dir() {
        return true;
    }
    let path = layout.staging().join("room");
    let written = File::create(&path).and_then(|mut file| {
        // No two blocks are the same, and none is zeros: a file system may keep such for nothing.
        let mut block = [0; 4096];
        for n in 0..bytes.div_ceil(block.len() as u64) {
            for (word, at) in block.chunks_exact_mut(8).zip(0..) {
                word.copy_from_slice(&(n << 32 | at).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
            }
            file.write_all(&block)?;
        }
        file.sync_all()
    });
    // It may not have been made.
    let _ = fs::remove_file(&path);
    written.err().and_then(|error| SpoolError::lack_of(&error)) != Some(Lack::Room)
}
