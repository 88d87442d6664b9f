//! What somebody can put into a box to stop the daemon, or to keep it from others.

use std::os::unix::fs::{PermissionsExt, chown};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::{ALICE, EVE, GROUP_ID, World, wait_at_most, wait_for};

fn task() -> Vec<u8> {
    json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "true"}).to_string().into_bytes()
}

/// A world in which Eve may submit as well, with one host on this machine.
fn world() -> World {
    let world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world
}

/// Where a task's file is to stand, where somebody drops, and in the place of somebody's own directory.
#[test]
fn what_is_mounted_in_a_box_stops_nothing() {
    let mut world = world();
    world.start();
    world.kill_daemon();
    let new = world.box_dir("new");
    for name in ["1.json", "mounted.json", "uid-61009"] {
        let _ = std::fs::remove_dir_all(new.join(name));
        std::fs::create_dir(new.join(name)).unwrap();
    }
    let mounts: Vec<String> = ["1.json", "mounted.json", "uid-61009"]
        .iter()
        .map(|name| format!("mount -t tmpfs none {}", new.join(name).display()))
        .collect();
    let command = format!("{} && exec \"$@\"", mounts.join(" && "));
    world.through = ["unshare", "--mount", "sh", "-c", &command, "sh"].map(str::to_owned).to_vec();
    world.start();
    world.drop_file("new", "first.json", &task(), ALICE);
    let id = wait_for("the task", || world.tasks().first().map(|(id, _)| *id));
    assert_eq!(id, 1, "its file would stand at a mount");
    assert!(wait_for("the answer", || world.why("mounted")).to_string().contains("something mounted"));
    let _ = world.approve(61_002, id).ok();
    assert_eq!(world.record(id)["outcome"], "ok");
    // A start meets them again.
    world.kill_daemon();
    world.start();
    world.drop_file("new", "second.json", &task(), ALICE);
    assert_eq!(world.task_of("second"), 2);
}

/// As after a crash in the middle of a flood: small ones, and some that are large and that somebody wrote since.
#[test]
fn a_start_waits_for_nothing_that_is_only_to_be_deleted() {
    const FILES: usize = 25_000;
    const LARGE: usize = 200;
    let mut world = world();
    world.start();
    world.kill_daemon();
    let staging = world.state().join("spool/.tmp");
    for n in 0..FILES {
        let file = std::fs::File::create(staging.join(format!("taken-1_0123456789ab_{n}.json"))).unwrap();
        if n < LARGE {
            file.set_len(4 << 20).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000)).unwrap();
        } else {
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_nanos(1)).unwrap();
        }
    }
    let begun = Instant::now();
    world.start();
    let ready = begun.elapsed();
    world.drop_file("new", "task.json", &task(), ALICE);
    world.task_of("task");
    eprintln!("ready after {ready:?} beside {FILES} files to delete");
    assert!(ready < Duration::from_secs(3), "{ready:?}");
}

/// Thousands of names that end alike and of directories that nobody may move, by one; the other one's tasks come in between.
#[test]
fn what_one_drops_keeps_nobody_else_waiting() {
    const FILES: usize = 3_000;
    const DIRECTORIES: usize = 400;
    let mut world = world();
    world.start();
    let audit = || {
        let files = std::fs::read_dir(world.state().join("audit")).unwrap().flatten();
        files.filter(|file| file.file_name() != "head").map(|file| file.metadata().unwrap().len()).sum::<u64>()
    };
    let before = audit();
    let new = world.box_dir("new");
    for n in 0..DIRECTORIES {
        let made = new.join(format!(".d{n}"));
        std::fs::create_dir(&made).unwrap();
        chown(&made, Some(EVE), Some(GROUP_ID)).unwrap();
        std::fs::set_permissions(&made, PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::rename(made, new.join(format!("d{n}.json"))).unwrap();
    }
    let mut slowest = Duration::ZERO;
    for n in 0..FILES {
        let name = format!("{}{n:04}.json", "a".repeat(90));
        world.drop_flat("new", &name, b"{\"broken", EVE);
        if n % (FILES / 20) == 0 {
            let name = format!("mine-{n}");
            world.drop_file("new", &format!("{name}.json"), &task(), ALICE);
            let begun = Instant::now();
            world.task_of(&name);
            slowest = slowest.max(begun.elapsed());
        }
    }
    eprintln!("the other one's slowest of 20 tasks: {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    // The first thousand are answered, the others stay where they are.
    wait_at_most(Duration::from_mins(2), "a thousand to be refused", || {
        let bad = std::fs::read_dir(world.box_dir("bad")).unwrap().count();
        (bad >= 1_000).then_some(())
    });
    world.drop_file("new", "last.json", &task(), ALICE);
    world.task_of("last");
    let hostile = (FILES + DIRECTORIES) as u64;
    assert!(audit() - before < 1_000 * hostile, "{} bytes of audit", audit() - before);
    assert!(world.ended().is_none(), "the daemon ended");
}
