//! Steps that wait for people: they hold no connection, no thread and no slot, however many there are.

use serde_json::json;

use crate::world::{World, wait_for};

/// How many tasks wait; as many as issue lists speak of would only be slower here. The benchmark has them.
const WAITING: usize = 200;

fn count(world: &World, what: &str) -> usize {
    std::fs::read_dir(format!("/proc/{}/{what}", world.daemon_pid())).unwrap().count()
}

#[test]
fn what_waits_for_somebody_holds_no_thread_and_no_connection_and_keeps_nobody_waiting() {
    let mut world = World::new(&[], None);
    let hosts: String = (0..WAITING).map(|n| format!("[host.h{n}]\nconnection = \"local\"\n")).collect();
    world.write_etc("inventory/hosts.toml", &hosts);
    world.write_etc(
        "templates/ask.toml",
        "id = 72\nname = \"ask\"\ntitle = \"t\"\n[[step]]\nname = \"go\"\nscript = \"true\"\ntrigger = \"manual\"\n\
         [[step]]\nname = \"later\"\nscript = \"true\"\ntrigger = \"timed\"\n",
    );
    world.start();
    let first = json!({"task_name": "t", "hosts": {"1": ["h0"]}, "script": "true"}).to_string();
    world.drop_file("ready", "first.json", first.as_bytes(), 0);
    world.record(world.task_of("first"));
    let (threads, files) = (count(&world, "task"), count(&world, "fd"));
    for n in 0..WAITING {
        let task = json!({"task_name": "waits", "temp_id": "ask", "hosts": {"1": [format!("h{n}")]}}).to_string();
        world.drop_file("ready", &format!("waits-{n}.json"), task.as_bytes(), 0);
    }
    wait_for("all of them to wait", || {
        let running = std::fs::read_dir(world.box_dir("running")).unwrap().filter_map(Result::ok);
        (running.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count() == WAITING).then_some(())
    });
    // More hosts wait than there are slots (100), and the next task runs on one of them.
    let next = json!({"task_name": "t", "hosts": {"1": ["h7"]}, "script": "true"}).to_string();
    world.drop_file("ready", "next.json", next.as_bytes(), 0);
    assert_eq!(world.record(world.task_of("next"))["outcome"], "ok");
    assert!(count(&world, "task") <= threads + 4, "{threads} threads became {}", count(&world, "task"));
    assert!(count(&world, "fd") <= files + 4, "{files} open files became {}", count(&world, "fd"));
    let id = world.task_of("waits-7");
    world.run(0, &["release", &id.to_string(), "go"]).ok();
    wait_for("the step that was released", || {
        world.events(id).iter().any(|event| event["event"] == "step_ended" && event["step"] == "go").then_some(())
    });
}

/// Two tasks that wait for each other end only on a host that takes two.
#[test]
fn a_host_takes_as_many_tasks_at_once_as_it_allows() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.h]\nconnection = \"local\"\njobs = 2\n");
    world.start();
    let at = world.state().join("../met");
    std::fs::create_dir(&at).unwrap();
    let meet = |own: &str, other: &str| {
        let script = format!(
            "touch {0}/{own}; n=0; until [ -e {0}/{other} ]; do n=$((n+1)); [ $n -lt 400 ] || exit 1; sleep 0.05; done",
            at.display()
        );
        json!({"task_name": own, "script": script, "hosts": {"1": ["h"]}}).to_string()
    };
    for (own, other) in [("a", "b"), ("b", "a")] {
        world.drop_file("ready", &format!("{own}.json"), meet(own, other).as_bytes(), 0);
    }
    for name in ["a", "b"] {
        let record = world.record(world.task_of(name));
        assert_eq!(record["outcome"], "ok", "{record:#}");
    }
}
