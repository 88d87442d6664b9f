//! Starts over a state that something happened to: nothing that concerns one thing stops everything.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::patience::InTime as _;
use crate::sshd::Sshd;
use crate::world::{ALICE, World, wait_at_most, wait_for};

fn local() -> World {
    let world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world
}

fn task(name: &str, host: &str, script: &str) -> String {
    json!({"task_name": name, "script": script, "hosts": {"1": [host]}}).to_string()
}

/// A step that had not reached its host when the daemon was killed is late after a long downtime, and only then.
#[test]
fn a_time_that_a_crash_took_away_is_not_long_ago() {
    for left in [Some(""), Some("2026-11-2"), None] {
        let sshd = Sshd::start();
        let mut world = World::new(&[("web1", "127.0.1.1")], Some(&sshd));
        world.start();
        // The host is silent: the step is on its way.
        sshd.pause();
        world.drop_file("ready", "t.json", task("t", "web1", "echo done").as_bytes(), 0);
        let id = world.task_of("t");
        let started = |world: &World| world.events(id).iter().any(|event| event["event"] == "step_started");
        wait_for("the step to be sent", || started(&world).then_some(()));
        world.kill_daemon();
        match left {
            Some(text) => std::fs::write(world.state().join(".seen"), text).unwrap(),
            None => std::fs::remove_file(world.state().join(".seen")).unwrap(),
        }
        sshd.go_on();
        world.start();
        let record = world.record(id);
        assert_eq!(record["outcome"], "ok", ".seen is {left:?}: {record:#}");
    }
}

#[test]
fn an_entry_of_the_runs_that_cannot_be_read_stops_no_start() {
    let mut world = local();
    world.start();
    let text = json!({"task_name": "w", "script": "true", "hosts": {"1": ["here"]}}).to_string();
    let ids: Vec<u64> = ["a", "b", "c"]
        .map(|name| {
            world.drop_file("new", &format!("{name}.json"), text.as_bytes(), 0);
            world.task_of(name)
        })
        .to_vec();
    world.kill_daemon();
    let runs = world.state().join("runs");
    let journal = runs.join(format!("{}/events.jsonl", ids[0]));
    std::fs::rename(&journal, journal.with_extension("aside")).unwrap();
    std::fs::create_dir(&journal).unwrap();
    std::fs::write(runs.join("70"), "a stray file").unwrap();
    world.start();
    for said in [
        format!("the task is left alone: cannot read {}: Is a directory", journal.display()),
        format!(
            "the task is left alone: cannot read {}: it is no task's directory; move it away",
            runs.join("70").display()
        ),
    ] {
        assert!(world.daemon_log().contains(&said), "{said} is not in {}", world.daemon_log());
    }
    let _ = world.approve(ALICE, ids[1]).ok();
    assert_eq!(world.record(ids[1])["outcome"], "ok");
    world.drop_file("ready", "d.json", text.as_bytes(), 0);
    let id = world.task_of("d");
    assert_eq!(id, 71, "no number is given twice");
    assert_eq!(world.record(id)["outcome"], "ok");
    // Its journal is back, and so is the task.
    world.kill_daemon();
    std::fs::remove_dir(&journal).unwrap();
    std::fs::rename(journal.with_extension("aside"), &journal).unwrap();
    world.start();
    let _ = world.approve(ALICE, ids[0]).ok();
    assert_eq!(world.record(ids[0])["outcome"], "ok");
}

#[test]
fn a_daemon_whose_state_is_replaced_below_it_stops_and_says_so() {
    let mut world = local();
    world.start();
    let (state, aside) = (world.state(), world.state().with_extension("old"));
    std::fs::rename(&state, &aside).unwrap();
    let copied = std::process::Command::new("cp").arg("-a").args([&aside, &state]).status_in_time().unwrap();
    assert!(copied.success());
    // A second daemon can take the place; the first one writes nothing more.
    world.drop_file("ready", "t.json", task("t", "here", "true").as_bytes(), 0);
    let status = wait_at_most(Duration::from_secs(40), "the daemon to end", || world.ended());
    assert_eq!(status.code(), Some(7), "{}", world.daemon_log());
    let said = "is not the one that this daemon locked: the state directory was moved, replaced or restored below it";
    assert!(world.daemon_log().contains(said), "{}", world.daemon_log());
    world.start();
    let id = world.task_of("t");
    assert_eq!(world.record(id)["outcome"], "ok");
}

/// What it asks of others takes its time; to stop is its own affair.
#[test]
fn a_daemon_that_waits_for_others_ends_in_time_all_the_same() {
    let mut world = World::new(&[("web1", "127.0.1.1")], None);
    let settings = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &format!("{settings}[inventory]\nscript_cache_s = 1\nscript_timeout_s = 60\n"));
    let (script, slow) = (world.etc().join("inventory/more"), world.scratch().join("slow"));
    let asked = world.scratch().join("asked");
    let text = format!(
        "#!/bin/sh\necho $$ >>{}\n[ ! -e {} ] || sleep 45\necho '{{\"g\": {{\"hosts\": []}}}}'\n",
        asked.display(),
        slow.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.start();
    std::fs::write(&slow, "").unwrap();
    let before = std::fs::read_to_string(&asked).unwrap().lines().count();
    let asks = || (std::fs::read_to_string(&asked).unwrap().lines().count() > before).then_some(());
    wait_for("the inventory to be asked", || {
        world.drop_file("new", "t.json", task("t", "web1", "true").as_bytes(), 0);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            if let Some(()) = asks() {
                return Some(());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        None
    });
    let (took, status) = world.terminate();
    let scripts = std::fs::read_to_string(&asked).unwrap();
    let last = scripts.lines().last().unwrap();
    let _ = std::process::Command::new("kill").args(["--", &format!("-{last}")]).status_in_time();
    assert!(took < Duration::from_secs(5) && status.success(), "{status} after {took:?}");
    std::fs::remove_file(&slow).unwrap();
    world.start();
    world.task_of("t");
}

#[test]
fn few_descriptors_make_steps_wait_and_end_nothing() {
    let mut world = World::new(&[], None);
    let hosts: Vec<String> = (1..=40).map(|n| format!("h{n}")).collect();
    let inventory: String = hosts.iter().map(|host| format!("[host.{host}]\nconnection = \"local\"\n")).collect();
    world.write_etc("inventory/hosts.toml", &inventory);
    world.through = ["prlimit", "--nofile=96:96"].map(str::to_owned).to_vec();
    world.start();
    let pid = world.daemon_pid();
    let said = "this process may open too few files for 100 hosts at once";
    assert!(world.daemon_log().contains(said), "{}", world.daemon_log());
    for n in 0..3 {
        let text = json!({"task_name": "t", "script": "seq 3000; seq 10 >&2", "hosts": {"1": hosts}}).to_string();
        world.drop_file("ready", &format!("t{n}.json"), text.as_bytes(), 0);
    }
    for n in 0..3 {
        let id = world.task_of(&format!("t{n}"));
        let record = wait_at_most(Duration::from_mins(2), "the task to be done", || world.try_record(id));
        assert_eq!(record["outcome"], "ok", "{record:#}");
    }
    assert_eq!((world.daemon_pid(), world.ended()), (pid, None));
}
