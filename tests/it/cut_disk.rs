//! A disk whose power can be cut: ext4 on a loop device on a file that this process serves (FUSE).
//!
//! The file is the disk as its firmware sees it. What is written goes into a cache that a cut empties; what is flushed
//! (`fsync`, a barrier of ext4's journal) stays. So a cut drops all that the kernel had not written out (dirty pages, file
//! sizes and names of the running transaction), and of what it had written since the last flush any part: each block of
//! 4 KiB is the old one, the new one, or the beginning of the new one and the rest of the old one. From the cut on every
//! write and flush fails, so nothing is believed durable that is not.
//!
//! What it does not drop: of a block that was written twice since the last flush only the oldest and the newest state are
//! known. Nothing that was flushed is ever damaged, and no flush is a lie. Hosts keep their power.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::mixed_load::Dice;
use crate::patience::InTime as _;

const BLOCK: usize = 4096;
const BYTES: u64 = 256 << 20;
/// How much the kernel sends or wants at once, at most.
const PIECE: usize = 128 << 10;

type Block = Box<[u8; BLOCK]>;

/// The blocks of a disk; those that were never written are zeros.
#[derive(Default)]
struct Blocks {
    now: HashMap<u64, Block>,
    /// What stood in blocks that were written since the last flush, as it was then.
    flushed: HashMap<u64, Option<Block>>,
    is_dead: bool,
}

/// What of a write since the last flush is there after a cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cache {
    /// Nothing.
    Lost,
    /// Everything.
    Kept,
    /// Of each block what the dice say.
    Mixed,
}

impl Blocks {
    fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        let (mut at, end) = (offset, BYTES.min(offset + length as u64));
        while at < end {
            let begin = usize::try_from(at % BLOCK as u64).unwrap();
            let count = (BLOCK - begin).min(usize::try_from(end - at).unwrap());
            match self.now.get(&(at / BLOCK as u64)) {
                Some(block) => bytes.extend_from_slice(&block[begin..begin + count]),
                None => bytes.resize(bytes.len() + count, 0),
            }
            at += count as u64;
        }
        bytes
    }

    fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        let mut at = offset;
        while !bytes.is_empty() {
            let (number, begin) = (at / BLOCK as u64, usize::try_from(at % BLOCK as u64).unwrap());
            let (part, rest) = bytes.split_at(bytes.len().min(BLOCK - begin));
            let old = self.now.get(&number).cloned();
            let mut block = old.clone().unwrap_or_else(|| Box::new([0; BLOCK]));
            block[begin..begin + part.len()].copy_from_slice(part);
            self.flushed.entry(number).or_insert(old);
            self.now.insert(number, block);
            (at, bytes) = (at + part.len() as u64, rest);
        }
    }

    /// The power goes; what stands on the disk is returned.
    fn cut(&mut self, cache: Cache, dice: &mut Dice) -> Blocks {
        self.is_dead = true;
        let mut now = std::mem::take(&mut self.now);
        let mut written: Vec<_> = std::mem::take(&mut self.flushed).into_iter().collect();
        written.sort_unstable_by_key(|(number, _)| *number);
        for (number, old) in written {
            let kept = match (cache, dice.roll(3)) {
                (Cache::Kept, _) | (Cache::Mixed, 0) => BLOCK,
                (Cache::Lost, _) | (Cache::Mixed, 1) => 0,
                // Sectors of 512 bytes are written whole.
                (Cache::Mixed, _) => 512 * usize::try_from(dice.roll(8)).unwrap(),
            };
            let mut block = old.unwrap_or_else(|| Box::new([0; BLOCK]));
            if let Some(new) = now.get(&number) {
                block[..kept].copy_from_slice(&new[..kept]);
            }
            now.insert(number, block);
        }
        Blocks { now, ..Blocks::default() }
    }
}

/// A disk that is mounted at a directory until it is dropped.
pub(crate) struct CutDisk {
    blocks: Arc<Mutex<Blocks>>,
    file: PathBuf,
    place: PathBuf,
}

impl CutDisk {
    /// Makes a disk in `dir` with an empty ext4 and mounts it at `place`; nothing where this machine lets nobody do that.
    /// All mounts are this thread's and its children's own, and go with them.
    pub(crate) fn make(dir: &Path, place: &Path, options: &str) -> Option<CutDisk> {
        unshare(CloneFlags::CLONE_NEWNS).ok()?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).ok()?;
        let image = dir.join("empty.image");
        File::create(&image).unwrap().set_len(BYTES).unwrap();
        let words = ["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,root_owner=0:0", "-J", "size=8"];
        let made = Command::new("mkfs.ext4").args(words).arg(&image).status_in_time();
        made.ok().filter(std::process::ExitStatus::success)?;
        let mut blocks = Blocks::default();
        let mut file = File::open(&image).unwrap();
        let mut block = [0; BLOCK];
        for number in 0..BYTES / BLOCK as u64 {
            file.read_exact(&mut block).unwrap();
            if block.iter().any(|byte| *byte != 0) {
                blocks.now.insert(number, Box::new(block));
            }
        }
        std::fs::remove_file(image).unwrap();
        let disk = CutDisk::serve(blocks, dir.join("disk"), place, options)?;
        std::fs::remove_dir(place.join("lost+found")).unwrap();
        Some(disk)
    }

    fn serve(blocks: Blocks, file: PathBuf, place: &Path, options: &str) -> Option<CutDisk> {
        File::create(&file).unwrap();
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let data = format!("fd={},rootmode=100600,user_id=0,group_id=0,max_read={PIECE}", device.as_raw_fd());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("cut-disk"), &file, Some("fuse"), flags, Some(data.as_str())).ok()?;
        let blocks = Arc::new(Mutex::new(blocks));
        let served = Arc::clone(&blocks);
        std::thread::spawn(move || answer_all(device, &served));
        let disk = CutDisk { blocks, file, place: place.to_owned() };
        std::fs::create_dir_all(place).unwrap();
        let words = ["-o", &format!("loop,{options}")];
        let mounted = Command::new("mount").args(words).args([&disk.file, &disk.place]).output_in_time();
        let mounted = mounted.unwrap();
        assert!(mounted.status.success(), "mount: {}", String::from_utf8_lossy(&mounted.stderr));
        Some(disk)
    }

    /// Cuts the power, has `then` end whoever used the disk, and mounts it again as it stands.
    pub(crate) fn cut(self, cache: Cache, dice: &mut Dice, options: &str, then: impl FnOnce()) -> CutDisk {
        let left = self.blocks.lock().unwrap().cut(cache, dice);
        then();
        let (place, file) = (self.place.clone(), self.file.clone());
        let next = file.with_extension(dice.roll(u64::MAX).to_string());
        drop(self);
        CutDisk::serve(left, next, &place, options).expect("what was mounted once can be mounted again")
    }
}

impl Drop for CutDisk {
    fn drop(&mut self) {
        // Whoever has a file open there ends soon; the mounts go with it.
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
        let _ = umount2(&self.file, MntFlags::MNT_DETACH);
    }
}

/// Answers the kernel until the file is mounted no more (fuse(4), linux/fuse.h). The file is the root of its file system.
fn answer_all(mut device: File, blocks: &Mutex<Blocks>) {
    let mut request = vec![0; PIECE + BLOCK];
    loop {
        match device.read(&mut request) {
            Ok(length) => {
                let Some(answer) = answer(&request[..length], &mut blocks.lock().unwrap()) else { continue };
                // Whoever asked may have been killed.
                let _ = device.write(&answer);
            }
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32) => return,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // A request that was taken back.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOENT as i32) => {}
            Err(error) => panic!("/dev/fuse: {error}"),
        }
    }
}

fn answer(request: &[u8], blocks: &mut Blocks) -> Option<Vec<u8>> {
    const HEAD: usize = 40;
    let u32_at = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
    let size = || usize::try_from(u32_at(HEAD + 16)).unwrap();
    let said = match u32_at(4) {
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // INIT: version 7.31, nothing optional but writes of more than a page.
        26 => Ok(words(&[7, 31, 0, 1 << 5, 0, u32::try_from(PIECE).unwrap(), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        // GETATTR, SETATTR: valid for an hour; inode 1, the size, blocks of 512 bytes, no times, 0100600, one link.
        3 | 4 => {
            let mut attributes = [3600, 1, BYTES, BYTES / 512, 0, 0, 0].map(u64::to_ne_bytes).concat();
            attributes.splice(8..8, [0; 8]);
            attributes.extend(words(&[0, 0, 0, 0o100_600, 1, 0, 0, 0, u32::try_from(BLOCK).unwrap(), 0]));
            Ok(attributes)
        }
        // OPEN
        14 => Ok(vec![0; 16]),
        // READ
        15 => Ok(blocks.read(u64_at(HEAD + 8), size())),
        // WRITE, FSYNC
        16 | 20 if blocks.is_dead => Err(nix::errno::Errno::EIO),
        16 => {
            blocks.write(u64_at(HEAD + 8), &request[HEAD + 40..HEAD + 40 + size()]);
            Ok(words(&[u32_at(HEAD + 16), 0]))
        }
        20 => {
            blocks.flushed.clear();
            Ok(Vec::new())
        }
        // STATFS
        17 => Ok(vec![0; 80]),
        // RELEASE, FLUSH, DESTROY
        18 | 25 | 38 => Ok(Vec::new()),
        _ => Err(nix::errno::Errno::ENOSYS),
    };
    let (error, body) = said.map_or_else(|errno| (-(errno as i32), Vec::new()), |body| (0, body));
    let length = u32::try_from(16 + body.len()).unwrap();
    Some([&length.to_ne_bytes()[..], &error.to_ne_bytes(), &request[8..16], &body].concat())
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
