//! Power cuts: what a disk holds at an instant is copied while everything goes on, and looked at as the next start would.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use spoolgate::base::digest::Digest;

use crate::patience::InTime as _;
use crate::world::{World, wait_for};

/// A small ext4 in a file, mounted at a directory until it is dropped.
struct Ext4 {
    image: PathBuf,
    place: PathBuf,
}

impl Ext4 {
    /// Makes one; nothing where this machine lets nobody mount files.
    fn make(image: PathBuf, place: PathBuf) -> Option<Ext4> {
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status_in_time();
        made.ok().filter(std::process::ExitStatus::success)?;
        let disk = Ext4::mount(image, place)?;
        std::fs::remove_dir(disk.place.join("lost+found")).unwrap();
        Some(disk)
    }

    fn mount(image: PathBuf, place: PathBuf) -> Option<Ext4> {
        std::fs::create_dir_all(&place).unwrap();
        // What nobody syncs stays in memory for as long as the test lasts.
        let mounted = Command::new("mount").args(["-o", "loop,commit=300"]).args([&image, &place]).output_in_time();
        mounted.ok().filter(|said| said.status.success())?;
        Some(Ext4 { image, place })
    }

    /// Returns what the disk would hold if the power went now.
    fn cut(&self, dir: &Path) -> Ext4 {
        let copy = dir.join("cut.image");
        std::fs::copy(&self.image, &copy).unwrap();
        Ext4::mount(copy, dir.join("cut")).expect("what was mounted once can be mounted again")
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        // Whoever has a file open there ends soon; the mount goes with it.
        let _ = Command::new("umount").arg("-l").arg(&self.place).output_in_time();
    }
}

#[test]
fn what_an_ended_step_printed_survives_a_power_cut() {
    let mut world = World::new(&[], None);
    world.write_etc(
        "inventory/hosts.toml",
        "[host.here]\nconnection = \"local\"\n[host.there]\nconnection = \"local\"\n",
    );
    let dir = world.etc().parent().unwrap().to_owned();
    let Some(disk) = Ext4::make(dir.join("image"), world.state()) else {
        eprintln!("left out: this machine lets nobody mount a file as a disk (mkfs.ext4, loop devices)");
        return;
    };
    world.start();
    for n in 1..=5 {
        let script = "echo words of $SPOOLGATE_HOST; echo more >&2";
        let task = json!({"task_name": "t", "script": script, "hosts": {"1": ["here", "there"]}}).to_string();
        world.drop_file("ready", &format!("t{n}.json"), task.as_bytes(), 0);
        let id = world.task_of(&format!("t{n}"));
        // The record follows what is durable; the journal can be read a moment before it is.
        wait_for("the record", || world.state().join(format!("spool/done/{id}.json")).exists().then_some(()));
        let cut = disk.cut(&dir);
        let mut logs = 0;
        for id in 1..=n {
            let run = cut.place.join(format!("runs/{id}"));
            let events = std::fs::read_to_string(run.join("events.jsonl")).unwrap();
            let events = events.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            for event in events.filter(|event| event["event"] == "step_ended") {
                let host = event["host"].as_str().unwrap();
                let log = std::fs::read(run.join(format!("output/{host}/script.log"))).unwrap_or_default();
                assert_eq!(event["output"]["sha256"], json!(Digest::of(&log)), "task {id} on {host}: {log:?}");
                let marks = std::fs::read_to_string(run.join(format!("output/{host}/script.streams"))).unwrap();
                assert!(marks.contains(" o ") && marks.contains(" e "), "task {id} on {host}: {marks}");
                logs += 1;
            }
        }
        assert_eq!(logs, 2 * n, "every step that has ended is in its journal");
    }
    // The daemon ends before its disk goes.
    world.kill_daemon();
}
