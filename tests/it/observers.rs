//! What is told of recorded acts: the daemon's log, and whoever keeps the audit's head elsewhere.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::{World, wait_for};

/// A world with a host of this machine, whose audit's head goes to a socket that nobody listens to yet.
fn world() -> (World, std::path::PathBuf) {
    let world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    let path = world.etc().join("log.sock");
    let settings = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &format!("{settings}[audit]\nsyslog = \"{}\"\n", path.display()));
    (world, path)
}

fn run(world: &World, name: &str, script: &str) -> u64 {
    let task = json!({"task_name": "t", "script": script, "hosts": {"1": ["here"]}}).to_string();
    world.drop_file("ready", &format!("{name}.json"), task.as_bytes(), 0);
    let id = world.task_of(name);
    world.record(id);
    id
}

#[test]
fn the_daemons_log_has_a_line_for_each_turn_of_a_task() {
    let (mut world, _) = world();
    world.start();
    let id = run(&world, "fails", "exit 3");
    wait_for("its end in the log", || world.daemon_log().contains("closed task=").then_some(()));
    let log = world.daemon_log();
    let of_task: Vec<&str> = log.lines().filter(|line| line.contains(&format!("task={id} name=\"fails\""))).collect();
    let acts: Vec<&str> = of_task.iter().filter_map(|line| line.split(" task=").next()?.rsplit(' ').next()).collect();
    assert_eq!(acts, ["accepted", "started", "closed"], "{log}");
    assert!(of_task[2].contains("state=\"done\"") && of_task[2].ends_with("detail=\"failed\""), "{}", of_task[2]);
    // What was told is not told again after a start, once the place is kept.
    let head = world.run(0, &["audit", "head"]).ok();
    let (last, kept) = (head.split(':').next().unwrap().to_owned(), world.state().join("notify/task-log"));
    wait_for("the place", || (std::fs::read_to_string(&kept).unwrap_or_default().trim() == last).then_some(()));
    world.kill_daemon();
    let before = world.daemon_log().len();
    world.start();
    run(&world, "next", "true");
    wait_for("the next end", || world.daemon_log()[before..].contains("closed task=").then_some(()));
    assert!(!world.daemon_log()[before..].contains("name=\"fails\""), "{}", &world.daemon_log()[before..]);
}

#[test]
fn what_nobody_took_is_told_when_somebody_listens_and_delays_nothing() {
    let (mut world, path) = world();
    world.start();
    let begin = Instant::now();
    for n in 0..3 {
        run(&world, &format!("t{n}"), "true");
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "three small tasks took {:?}", begin.elapsed());
    wait_for("the log to say so", || world.daemon_log().contains("it is told again").then_some(()));
    // A daemon that is killed meanwhile knows how far it has come.
    world.kill_daemon();
    let log = UnixDatagram::bind(&path).unwrap();
    log.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    world.start();
    let last = world.run(0, &["audit", "head"]).ok();
    let mut bytes = [0_u8; 512];
    let head = loop {
        let length = log.recv(&mut bytes).unwrap();
        let line = String::from_utf8_lossy(&bytes[..length]).into_owned();
        let head = line.rsplit(' ').next().unwrap().to_owned();
        if head == last.trim() {
            break head;
        }
    };
    world.run(0, &["audit", "verify", "--head", &head]).ok();
    // Who listens and takes nothing: its buffer is full, and the daemon goes on.
    let begin = Instant::now();
    for n in 0..12 {
        run(&world, &format!("full{n}"), "true");
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "twelve small tasks took {:?}", begin.elapsed());
}
