//! A disk that is full: nothing ends, nothing is acted on that is not written, and everything goes on by itself.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::disk::Disk;
use crate::world::{World, wait_at_most, wait_for};

const WAITS: &str = "until there is room on the disk";
const GOES_ON: &str = "there is room on the disk again";

/// A world whose state stands on a small disk, with hosts on this machine.
fn small(bytes: u64) -> (Disk, World) {
    let world = World::new(&[], None);
    let hosts: String = (1..=4).map(|n| format!("[host.h{n}]\nconnection = \"local\"\n")).collect();
    world.write_etc("inventory/hosts.toml", &hosts);
    let disk = Disk::in_memory(&world.state(), bytes);
    (disk, world)
}

/// A task that marks its start, waits for a file, and does something.
fn task(world: &World, name: &str, then: &str) -> String {
    let scratch = world.scratch();
    let script = format!(
        "echo \"$SPOOLGATE_TASK $SPOOLGATE_HOST\" >>{0}/starts; while [ ! -e {0}/gate ]; do sleep 0.05; done; {then}",
        scratch.display()
    );
    json!({"task_name": name, "script": script, "hosts": {"1": ["h1", "h2", "h3", "h4"]}}).to_string()
}

/// How often each line was written by steps that started; once each.
fn starts(world: &World) -> usize {
    let text = std::fs::read_to_string(world.scratch().join("starts")).unwrap_or_default();
    let mut lines: Vec<&str> = text.lines().collect();
    let count = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), count, "a step was started twice: {text}");
    count
}

fn is_said(world: &World, what: &str, times: usize) {
    wait_for(&format!("the log to say {what}"), || (world.daemon_log().matches(what).count() >= times).then_some(()));
}

#[test]
fn a_full_disk_is_waited_out_and_the_daemon_goes_on_by_itself() {
    let (disk, mut world) = small(4 << 20);
    world.start();
    let pid = world.daemon_pid();
    for round in 1..=2 {
        let name = format!("t{round}");
        // What is printed waits on its host; a silent step's end has to be written.
        world.drop_file("ready", &format!("{name}.json"), task(&world, &name, "true").as_bytes(), 0);
        let id = world.task_of(&name);
        wait_for("its steps to run", || (starts(&world) == 4 * round).then_some(()));
        disk.fill();
        std::fs::write(world.scratch().join("gate"), "").unwrap();
        is_said(&world, WAITS, round);
        // It is there, says what it waits for, and nobody else takes its place.
        assert!(world.run(0, &["daemon"]).err.contains(&format!("pid {pid}")));
        let sign = std::fs::read_to_string(world.box_dir(".serving")).unwrap();
        assert!(sign.starts_with(&format!("{pid}\nroom ")), "{sign}");
        assert!(world.try_record(id).is_none());
        disk.make_room();
        let record = world.record(id);
        is_said(&world, GOES_ON, round);
        assert_eq!(record["outcome"], "ok", "{record:#}");
        assert_eq!(starts(&world), 4 * round);
        std::fs::remove_file(world.scratch().join("gate")).unwrap();
    }
    assert_eq!(world.daemon_pid(), pid);
    let sign = std::fs::read_to_string(world.box_dir(".serving")).unwrap();
    assert_eq!(sign.split_whitespace().count(), 1, "{sign}");
    let _ = world.run(0, &["audit", "verify"]).ok();
}

#[test]
fn a_start_on_a_full_disk_waits_too_and_ends_when_it_is_told_to() {
    let (disk, mut world) = small(4 << 20);
    world.start();
    world.drop_file("ready", "t.json", task(&world, "t", "true").as_bytes(), 0);
    let id = world.task_of("t");
    wait_for("its steps to run", || (starts(&world) == 4).then_some(()));
    std::fs::write(world.scratch().join("gate"), "").unwrap();
    world.kill_daemon();
    // A start makes room itself: it removes what the last one left aside.
    for left in std::fs::read_dir(world.box_dir(".tmp")).unwrap() {
        std::fs::remove_file(left.unwrap().path()).unwrap();
    }
    disk.fill();
    world.spawn();
    is_said(&world, WAITS, 1);
    let (took, status) = world.terminate();
    assert!(took < Duration::from_secs(5) && status.success(), "{status} after {took:?}");
    world.spawn();
    is_said(&world, WAITS, 2);
    disk.make_room();
    assert_eq!(world.record(id)["outcome"], "ok");
    assert_eq!(starts(&world), 4);
    let _ = world.run(0, &["audit", "verify"]).ok();
}

/// `FULLS=86 cargo test --test it a_disk_that_fills` makes it a campaign.
#[test]
fn a_disk_that_fills_up_at_any_moment_loses_nothing() {
    let fulls: u32 = std::env::var("FULLS").map_or(3, |count| count.parse().expect("FULLS is a number"));
    // What each round leaves has its place, too.
    let (disk, mut world) = small((4 << 20) + u64::from(fulls) * (1 << 20));
    std::fs::write(world.scratch().join("gate"), "").unwrap();
    world.start();
    let pid = world.daemon_pid();
    for full in 1..=fulls {
        let names: Vec<String> = (0..6).map(|n| format!("f{full}-{n}")).collect();
        for (n, name) in names.iter().enumerate() {
            // What is printed waits on its host; a silent step's end has to be written.
            let then = if n % 2 == 0 { "seq 2000; seq 300 >&2" } else { "true" };
            world.drop_file("ready", &format!("{name}.json"), task(&world, name, then).as_bytes(), 0);
        }
        // Somewhere between the first file's arrival and the last step's end.
        std::thread::park_timeout(Duration::from_millis(u64::from(full) * 97 % 700));
        disk.fill();
        let begun = Instant::now();
        let waits = || world.daemon_log().matches(WAITS).count() > world.daemon_log().matches(GOES_ON).count();
        while !waits() && begun.elapsed() < Duration::from_secs(2) {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        disk.make_room();
        for (n, name) in names.iter().enumerate() {
            let id = wait_at_most(Duration::from_secs(90), name, || {
                let found = world.tasks().into_iter().find(|(_, events)| events[0]["name"] == name.as_str());
                found.map(|(id, _)| id)
            });
            let record = wait_at_most(Duration::from_secs(90), name, || world.try_record(id));
            assert_eq!(record["outcome"], "ok", "{record:#}");
            for host in ["h1", "h2", "h3", "h4"] {
                let facts = &record["results"][host][0];
                let seen = (&facts["out_bytes"], &facts["err_bytes"], &facts["dropped_bytes"]);
                let (out, err) = if n % 2 == 0 { (8_893, 1_092) } else { (0, 0) };
                assert_eq!(seen, (&json!(out), &json!(err), &json!(0)), "{facts:#}");
            }
        }
        assert_eq!(starts(&world), full as usize * 24);
    }
    assert_eq!(world.daemon_pid(), pid);
    assert_eq!(std::fs::read_dir(world.box_dir("bad")).unwrap().count(), 0, "nothing was refused");
    let _ = world.run(0, &["audit", "verify"]).ok();
}
