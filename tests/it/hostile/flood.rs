//! One person floods the boxes with files, directories and immutable things of every kind while another one works.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::mixed_load::Dice;
use crate::patience::InTime as _;
use crate::remote::from_env;
use crate::world::{ALICE, EVE, GROUP_ID, World, wait_for};

/// How long the other one's slowest task but for one in a hundred may take from its rename on.
const P99: Duration = Duration::from_millis(200);
/// How many tasks the other one submits before the flood.
const ALONE: usize = 20;
/// Where the slowest of these took longer than that already: how much slower one may be in the flood.
const SLOWER_AT_MOST: u32 = 2;
const MEMORY_KIB: u64 = 64 << 10;
const AUDIT_BYTES_EACH: u64 = 1_000;
/// How many of the hostile ones come before the other one submits again.
const BURST: u64 = 25;

/// Makes one hostile thing in a box; `n` makes its name its own.
fn make(dice: &mut Dice, new: &Path, n: u64, is_directory: bool) {
    let (staged, uid) = (new.join(format!(".e{n}")), owner(dice));
    let long = "a".repeat(90);
    let name = match dice.roll(6) {
        0 => format!("{long}{n:06}.json"),
        1 => format!("长长长{n}.json"),
        2 => format!("-{n}.json"),
        3 => format!("{n}\u{1b}[2J.json"),
        4 => format!("{}.json", 500_000 + n),
        _ => format!("e{n}.json"),
    };
    let mut mode = 0o640;
    if is_directory {
        std::fs::create_dir(&staged).unwrap();
        if dice.roll(2) == 0 {
            std::fs::write(staged.join("x.json"), "{}").unwrap();
        }
        mode = dice.one_of(&[0o700, 0o2750, 0o777, 0o000]);
    } else {
        match dice.roll(12) {
            0 => symlink("/etc/shadow", &staged).unwrap(),
            1 => nix::unistd::mkfifo(&staged, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            2 => drop(std::os::unix::net::UnixListener::bind(&staged).unwrap()),
            3 => std::fs::File::create(&staged).unwrap().set_len(5 << 30).unwrap(),
            4 => std::fs::write(&staged, "[".repeat(10_000)).unwrap(),
            5 => std::fs::write(&staged, "").unwrap(),
            6 => {
                std::fs::write(&staged, "{}").unwrap();
                mode = 0o666;
            }
            7 => {
                std::fs::write(&staged, "{}").unwrap();
                std::fs::hard_link(&staged, new.join(format!(".linked{n}"))).unwrap();
            }
            8 => std::fs::write(&staged, vec![0xff; 3_000]).unwrap(),
            _ => std::fs::write(&staged, json!({"task_name": n, "hosts": "*", "x": n}).to_string()).unwrap(),
        }
    }
    std::os::unix::fs::lchown(&staged, Some(uid), Some(GROUP_ID)).unwrap();
    if !staged.is_symlink() {
        std::fs::set_permissions(&staged, Permissions::from_mode(mode)).unwrap();
    }
    // Half of the directories could be somebody's own.
    let name = if is_directory && dice.roll(2) == 0 { format!("uid-{uid}+{n}") } else { name };
    std::fs::rename(&staged, new.join(name)).unwrap();
}

/// Eve, or one of the numbers that she owns beside her own.
fn owner(dice: &mut Dice) -> u32 {
    if dice.roll(2) == 0 { EVE } else { 700_000 + u32::try_from(dice.roll(60_000)).unwrap() }
}

/// Makes a file that nobody may move where the file system can; whether it could.
fn make_immutable(new: &Path, n: u64) -> bool {
    let path = new.join(format!("immutable{n}.json"));
    std::fs::write(&path, "{}").unwrap();
    chown(&path, Some(EVE), Some(GROUP_ID)).unwrap();
    Command::new("chattr").arg("+i").arg(&path).output_in_time().is_ok_and(|said| said.status.success())
}

fn audit_bytes(world: &World) -> u64 {
    let files = std::fs::read_dir(world.state().join("audit")).unwrap().flatten();
    files.filter(|file| file.file_name() != "head").map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn a_flood_of_hostile_things_keeps_nobody_waiting() {
    let (files, directories) = (from_env("HOSTILE_FILES", 800), from_env("HOSTILE_DIRECTORIES", 160));
    let seed = from_env("HOSTILE_SEED", 1);
    eprintln!("replay: make hostile HOSTILE_SEED={seed} HOSTILE_FILES={files} HOSTILE_DIRECTORIES={directories}");
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    // The other one's tasks are what is measured, not their limit.
    crate::http::append(&world.etc().join("spoolgate.toml"), "[limits]\nwaiting_tasks = 100000\n");
    world.start();
    let (mut dice, new, before) = (Dice(seed), world.box_dir("new"), audit_bytes(&world));
    let task = json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "true"}).to_string();
    let immutable: Vec<u64> = (0..10).filter(|n| make_immutable(&new, *n)).collect();
    let mut submit = |n: usize| {
        let name = format!("mine-{n}");
        world.drop_file("new", &format!("{name}.json"), task.as_bytes(), ALICE);
        let begun = Instant::now();
        wait_for("the other one's task", || {
            // Numbers may pass over what stands in a task's place.
            (world.own_dir("new", ALICE).read_dir().unwrap().count() == 0).then_some(())
        });
        begun.elapsed()
    };
    // The same before the flood: this machine may have other things to do.
    let alone = (0..ALONE).map(&mut submit).max().unwrap();
    let (mut times, mut left_files, mut left_directories) = (Vec::new(), files, directories);
    while left_files + left_directories > 0 {
        for _ in 0..BURST.min(left_files + left_directories) {
            let is_directory = dice.roll(left_files + left_directories) < left_directories;
            *(if is_directory { &mut left_directories } else { &mut left_files }) -= 1;
            make(&mut dice, &new, left_files * 10_000 + left_directories, is_directory);
        }
        times.push(submit(ALONE + times.len()));
    }
    times.sort();
    let (p99, slowest) = (times[times.len() * 99 / 100], times.last().unwrap());
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.daemon_pid())).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let memory: u64 = memory.trim().trim_end_matches(" kB").parse().unwrap();
    let each = (audit_bytes(&world) - before) / (files + directories);
    for n in &immutable {
        let path = new.join(format!("immutable{n}.json"));
        let _ = Command::new("chattr").arg("-i").arg(path).output_in_time();
    }
    eprintln!(
        "{files} files, {directories} directories, {} immutable files: the other one's {} tasks took at p99 {p99:?}, at most \
         {slowest:?}; the daemon's memory was at most {memory} KiB; the audit grew by {each} bytes each",
        immutable.len(),
        times.len()
    );
    assert!(world.ended().is_none(), "the daemon ended");
    assert_eq!(world.tasks().iter().filter(|(_, events)| events[0]["by"]["uid"] == ALICE).count(), ALONE + times.len());
    assert!(
        p99 < P99.max(alone * SLOWER_AT_MOST) && memory < MEMORY_KIB && each < AUDIT_BYTES_EACH,
        "{p99:?} (alone {alone:?}) {memory} KiB {each} bytes each"
    );
}
