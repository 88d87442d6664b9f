//! What becomes of running tasks after a time in which no daemon ran: what runs goes on, what had not begun waits.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::approval::event;
use crate::world::{ALICE, BOB, World, wait_for};

/// A world whose tasks are late after a second, and whose first step lasts until `go` exists.
fn world() -> World {
    let world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.h1]\nconnection = \"local\"\n[host.h2]\nconnection = \"local\"\n");
    let settings = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &(settings + "[limits]\nlate_after_s = 1\n"));
    let go = world.etc().join("go");
    let waits = format!("script = \"while [ ! -e {} ]; do sleep 0.1; done\"\n", go.display());
    for (n, (name, missed)) in [("goes", "run"), ("holds", "hold"), ("ends", "expire")].iter().enumerate() {
        let head = format!("id = {}\nname = \"{name}\"\ntitle = \"t\"\nmissed = \"{missed}\"\n", 90 + n);
        let steps = format!("[[step]]\nname = \"a\"\n{waits}[[step]]\nname = \"b\"\nscript = \"true\"\n");
        world.write_etc(&format!("templates/{name}.toml"), &(head + &steps));
    }
    let single = format!("id = 95\nname = \"single\"\ntitle = \"t\"\n[[step]]\nname = \"a\"\n{waits}");
    world.write_etc("templates/single.toml", &single);
    let asks = format!("{single}[[step]]\nname = \"m\"\nscript = \"true\"\ntrigger = \"manual\"\n");
    world.write_etc("templates/asks.toml", &asks.replace("single", "asks").replace("95", "96"));
    world
}

fn started(world: &World, id: u64) -> Vec<String> {
    let events = world.events(id);
    let steps = events.iter().filter(|event| event["event"] == "step_started");
    steps.map(|event| format!("{} {}", event["host"].as_str().unwrap(), event["step"].as_str().unwrap())).collect()
}

#[test]
fn what_had_not_begun_before_a_downtime_waits_for_a_person_unless_its_template_says_otherwise() {
    let mut world = world();
    world.start();
    let names = ["goes", "holds", "ends", "single", "asks"];
    // Each on a host of its own, so that none waits for another.
    let hosts = names.map(|name| format!("[host.{name}-h1]\nconnection = \"local\"\n")).concat();
    world.write_etc("inventory/more.toml", &hosts);
    let ids = names.map(|name| {
        let task = json!({"task_name": name, "temp_id": name, "hosts": {"1": [format!("{name}-h1")]}}).to_string();
        world.drop_file("new", &format!("{name}.json"), task.as_bytes(), ALICE);
        let id = world.task_of(name);
        world.approve(BOB, id).ok();
        wait_for("its first step", || (started(&world, id).len() == 1).then_some(()));
        id
    });
    world.kill_daemon();
    // What ran goes on without a daemon, and ends.
    std::fs::write(world.etc().join("go"), "").unwrap();
    let since = Instant::now();
    wait_for("it to be late", || (since.elapsed() > Duration::from_secs(3)).then_some(()));
    world.start();
    let [goes, holds, ends, single, asks] = ids;
    assert_eq!(world.record(goes)["outcome"], "ok", "it goes on by itself");
    assert_eq!(world.record(single)["outcome"], "ok", "nothing more was to begin");
    for id in [holds, ends] {
        let held = event(&world, id, "held");
        assert!(held["why"].as_str().unwrap().contains("no daemon ran since"), "{held}");
        event(&world, id, "step_ended");
        assert_eq!(started(&world, id).len(), 1, "task {id}: the result counts, and nothing begins");
        world.stands(id, "running");
    }
    event(&world, asks, "step_ended");
    assert!(world.events(asks).iter().all(|event| event["event"] != "held"), "it waits for a person anyway");
    world.run(0, &["release", &holds.to_string()]).ok();
    assert_eq!(world.record(holds)["outcome"], "ok");
    assert_eq!(started(&world, holds), ["holds-h1 a", "holds-h1 b"]);
    world.run(0, &["cancel", &ends.to_string(), "--reason", "too late"]).ok();
    assert_eq!(world.record(ends)["outcome"], "cancelled");
}

#[test]
fn a_batch_whose_time_is_to_come_waits_for_nothing_else_after_a_downtime() {
    let mut world = world();
    world.start();
    let task = |interval: u32| {
        json!({"task_name": "t", "script": "true", "hosts": {"1": ["h1", "h2"]}, "batches": ["1", "1"], "batch_interval": interval})
            .to_string()
    };
    for (name, interval) in [("soon", 1), ("later", 6)] {
        world.drop_file("new", &format!("{name}.json"), task(interval).as_bytes(), ALICE);
    }
    let (soon, later) = (world.task_of("soon"), world.task_of("later"));
    for id in [soon, later] {
        world.approve(BOB, id).ok();
        event(&world, id, "batch_waits");
    }
    world.kill_daemon();
    let since = Instant::now();
    wait_for("it to be late", || (since.elapsed() > Duration::from_secs(3)).then_some(()));
    let done = world.try_record(soon).is_some();
    world.start();
    assert_eq!(world.record(later)["outcome"], "ok", "its batch comes at its time");
    assert!(world.events(later).iter().all(|event| event["event"] != "held"));
    if !done {
        event(&world, soon, "held");
        assert_eq!(started(&world, soon), ["h1 script"], "its batch was to begin meanwhile");
    }
}
