//! The inventory of a daemon that runs: scripts are asked again when their answer is old, and trusted or not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::world::{ALICE, World, wait_for};

/// A world whose hosts come from a script that prints the file `answer`.
fn scripted(answer: &Path) -> World {
    let world = World::new(&[], None);
    std::fs::remove_file(world.etc().join("inventory/hosts.toml")).unwrap();
    let settings = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &format!("{settings}[inventory]\nscript_cache_s = 1\nscript_timeout_s = 2\n"));
    let script = world.etc().join("inventory/hosts.sh");
    world.write_etc(
        "inventory/hosts.sh",
        &format!("#!/bin/sh\ncat {} || {{ echo no answer today >&2; exit 7; }}\n", answer.display()),
    );
    std::fs::set_permissions(script, PermissionsExt::from_mode(0o755)).unwrap();
    world
}

fn say(answer: &Path, hosts: &[&str]) {
    let vars = json!({"ansible_connection": "local", "ZDOPS_PROJECT": "shop"});
    let text = json!({"web": {"hosts": hosts, "vars": vars}, "_meta": {"hostvars": {}}}).to_string();
    std::fs::write(answer.with_extension("new"), text).unwrap();
    std::fs::rename(answer.with_extension("new"), answer).unwrap();
}

/// Waits until an answer is old.
#[expect(clippy::disallowed_methods, reason = "an answer grows old by time alone")]
fn old() {
    std::thread::sleep(Duration::from_millis(1_200));
}

fn task(world: &World, name: &str) {
    let task = json!({"task_name": name, "script": "echo hello", "hosts": {"1": "project:shop"}});
    world.drop_file("ready", &format!("{name}.json"), task.to_string().as_bytes(), 0);
}

fn hosts(world: &World, id: u64) -> Vec<String> {
    let plan = std::fs::read_to_string(world.state().join(format!("runs/{id}/plan.json"))).unwrap();
    ["h1", "h2", "h3"].into_iter().filter(|host| plan.contains(&format!("\"{host}\""))).map(str::to_owned).collect()
}

#[test]
fn a_script_is_asked_again_before_something_is_planned_and_a_broken_one_stops_everything() {
    let dir = tempfile::tempdir().unwrap();
    let answer = dir.path().join("answer");
    say(&answer, &["h1", "h2"]);
    let mut world = scripted(&answer);
    world.start();
    task(&world, "first");
    let id = world.task_of("first");
    assert_eq!(world.record(id)["outcome"], "ok");
    assert_eq!(hosts(&world, id), ["h1", "h2"]);

    // No file of the configuration changes; the answer is old, and that is enough.
    say(&answer, &["h1", "h2", "h3"]);
    old();
    task(&world, "second");
    let id = world.task_of("second");
    assert_eq!(world.record(id)["outcome"], "ok");
    assert_eq!(hosts(&world, id), ["h1", "h2", "h3"]);

    std::fs::remove_file(&answer).unwrap();
    old();
    task(&world, "third");
    wait_for("the daemon to say what is wrong", || {
        let said = "hosts.sh: found --list: exit code 7, and said: cat:";
        world.daemon_log().contains(said).then_some(())
    });
    let listed = world.run(0, &["hosts"]);
    assert_ne!(listed.code, 0);
    assert!(listed.err.contains("hosts.sh"), "{listed:?}");
    let id = world.task_of("third");
    world.stands(id, "new");
    say(&answer, &["h1", "h2", "h3"]);
    old();
    kill(Pid::from_raw(i32::try_from(world.daemon_pid()).unwrap()), Signal::SIGHUP).unwrap();
    // An approval that the daemon hears before the signal is refused, and given again.
    let record = wait_for("the third task to be approved and done", || {
        let _maybe_too_early = world.approve(ALICE, id);
        world.try_record(id)
    });
    assert_eq!(record["outcome"], "ok");
    assert_eq!(hosts(&world, id), ["h1", "h2", "h3"]);
}

#[test]
fn the_seeds_own_inventory_is_refused_with_its_lines() {
    let world = World::new(&[], None);
    world.write_etc("inventory/seed", crate::ansible_cases::SEED);
    let said = world.run(0, &["hosts"]);
    assert_ne!(said.code, 0);
    for line in [
        "seed:12: found [clustername:children] with appname1",
        "seed:19: found [projectname:children] with clustername2",
    ] {
        assert!(said.err.contains(line), "{line} is not in {}", said.err);
    }
}
