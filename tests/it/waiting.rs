//! Steps that wait for people: they hold no connection, no thread and no slot, however many there are.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::{BOB, World, wait_at_most, wait_for};

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

/// Drops a task for one host and waits until it is one; says how long that took.
fn answer(world: &World, name: &str) -> Duration {
    let task = json!({"task_name": "now", "hosts": {"1": ["h0"]}, "script": "true"}).to_string();
    let begun = Instant::now();
    world.drop_file("ready", &format!("{name}.json"), task.as_bytes(), 0);
    let stands = || world.box_dir("ready").join(format!("{name}.json")).exists();
    wait_at_most(ANSWER_AT_MOST, "a dropped file to be taken", || (!stands()).then_some(()));
    begun.elapsed()
}

fn resident_mib(world: &World) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.daemon_pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// How many tasks stand in a directory.
fn standing(world: &World, dir: &str) -> usize {
    let files = std::fs::read_dir(world.box_dir(dir)).unwrap().filter_map(Result::ok);
    files.filter(|file| file.file_name().to_string_lossy().ends_with(".json")).count()
}

/// More than a daemon takes that is not deaf, on a machine that is busy with other tests.
const ANSWER_AT_MOST: Duration = Duration::from_secs(20);

/// However many tasks wait, the daemon answers after a start and after a change of their template, before it has looked at
/// all of them; none of them is approved as what it was. `make waiting` has more of them, and figures.
#[test]
fn thousands_of_waiting_tasks_keep_nobody_waiting() {
    let waiting: usize = std::env::var("WAITING").map_or(1_000, |count| count.parse().unwrap());
    let limit = Duration::from_secs(60 + waiting as u64 / 10);
    let mut world = World::new(&[], None);
    let hosts: String = (0..48).map(|n| format!("[host.h{n}]\nconnection = \"local\"\n")).collect();
    world.write_etc("inventory/hosts.toml", &hosts);
    let template = |words: &str| {
        let script = format!("# {}\ntrue {words}", "what a script says of itself ".repeat(30));
        format!(
            "id = 72\nname = \"later\"\ntitle = \"t\"\n[[step]]\nname = \"check\"\nscript = {script:?}\n\
             [[step]]\nname = \"go\"\nscript = \"true\"\n"
        )
    };
    world.write_etc("templates/later.toml", &template("before"));
    world.start();
    for n in 0..waiting {
        let hosts: Vec<String> = (0..4).map(|more| format!("h{}", (n + 7 * more) % 48)).collect();
        let task = json!({"task_name": "waits", "temp_id": "later", "hosts": {"1": hosts}, "exec_time": "2999-01-01 00:00:00"});
        world.drop_file("ready", &format!("waits-{n}.json"), task.to_string().as_bytes(), 0);
    }
    let runs = || std::fs::read_dir(world.state().join("runs")).unwrap().count();
    wait_at_most(limit, "all of them to wait", || {
        (runs() == waiting && standing(&world, "ready") == waiting).then_some(())
    });
    eprintln!("{waiting} waiting: {} MiB resident after they came", resident_mib(&world));
    // The first start removes what so many drops left behind; the next one has nothing else to do.
    world.kill_daemon();
    world.start();
    world.kill_daemon();
    let begun = Instant::now();
    world.start();
    let ready = begun.elapsed();
    let first = answer(&world, "first");
    eprintln!("ready after {ready:.2?}, first answer {first:.2?} later, {} MiB resident", resident_mib(&world));
    let last = waiting as u64;
    let old = world.digest(last);
    let replanned = || (1..=last).filter(|id| world.state().join(format!("runs/{id}/plan@2.json")).exists()).count();
    world.write_etc("templates/later.toml", &template("after"));
    let begun = Instant::now();
    // The daemon looks at what a dropped file may be compared with.
    let heard = answer(&world, "second");
    wait_at_most(limit, "the first new plan", || (replanned() > 0).then_some(()));
    let then = answer(&world, "third");
    let left = waiting - replanned();
    eprintln!(
        "after a change of the template: answers in {heard:.2?} and {then:.2?}, with {left} of {waiting} left to plan"
    );
    assert!(left > 0, "all were planned before anybody was answered");
    // One that may not have been looked at yet is approved as what it is now, or not at all.
    let refused = world.run(BOB, &["approve", &last.to_string(), "--digest", &old]);
    assert_ne!(refused.code, 0, "{refused:?}");
    wait_at_most(limit, "all of them to be planned again", || (standing(&world, "new") == waiting).then_some(()));
    eprintln!("all planned again after {:.2?}, {} MiB resident", begun.elapsed(), resident_mib(&world));
    world.approve(BOB, last).ok();
    world.stands(last, "ready");
    assert_eq!(world.record(world.task_of("third"))["outcome"], "ok");
}
