//! A file system that somebody serves and that never answers, in a box.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::world::{ALICE, BOB, EVE, GROUP_ID, World, wait_for};

/// A mount, and what would answer for it.
struct Silent {
    at: PathBuf,
    _device: File,
}

impl Silent {
    /// Mounts; nothing where this machine lets nobody.
    fn mount(at: PathBuf) -> Option<Silent> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        std::fs::create_dir(&at).unwrap();
        let fd = device.as_raw_fd();
        let options = format!("fd={fd},rootmode=40000,user_id={EVE},group_id={GROUP_ID},allow_other");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("silent"), &at, Some("fuse"), flags, Some(options.as_str())).ok()?;
        Some(Silent { at, _device: device })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

/// Where a task's file is to stand, where somebody drops, and in the place of somebody's own directory. Nothing here may look at
/// those either.
#[test]
fn a_file_system_that_never_answers_stops_nothing() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    let task = json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "true"}).to_string();
    world.drop_file("new", "first.json", task.as_bytes(), ALICE);
    assert_eq!(world.task_of("first"), 1);
    // What it would move away before it is mounted is mounted while no daemon runs.
    world.kill_daemon();
    let mounts: Vec<Silent> = ["2.json", "mounted.json", "uid-61003+x"]
        .iter()
        .filter_map(|name| Silent::mount(world.box_dir("new").join(name)))
        .collect();
    if mounts.len() < 3 {
        eprintln!("left out: this machine lets nobody mount a file system of their own (/dev/fuse)");
        return;
    }
    world.start();
    assert!(wait_for("the answer", || world.why("mounted")).to_string().contains("something mounted"));
    world.drop_file("new", "second.json", task.as_bytes(), ALICE);
    wait_for("the second task", || world.events(2).first().filter(|event| event["name"] == "second").map(|_| ()));
    let approval = json!({"order": "approve", "task": 2, "digest": world.digest(2)}).to_string();
    world.drop_file("orders", "approve.json", approval.as_bytes(), BOB);
    assert_eq!(world.record(2)["outcome"], "ok");
    assert!(world.ended().is_none(), "the daemon ended");
    drop(mounts);
}
