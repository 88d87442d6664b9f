//! How much one person may take, whether they drop files or post.

use serde_json::json;

use crate::http::{Web, append};
use crate::world::{ALICE, BOB, World, wait_for};

const TASK: &str = r#"{"task_name": "t", "hosts": {"1": ["here"]}, "script": "true"}"#;

fn world(limits: &str) -> World {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    append(&world.etc().join("spoolgate.toml"), &format!("[limits]\n{limits}"));
    world.start();
    world
}

fn count(world: &World, drop_box: &str, ending: &str) -> usize {
    let names = std::fs::read_dir(world.box_dir(drop_box)).unwrap().flatten();
    names.filter(|entry| entry.file_name().to_string_lossy().ends_with(ending)).count()
}

#[test]
fn as_many_tasks_of_one_person_wait_as_may() {
    let mut world = world("waiting_tasks = 3\n");
    for n in 0..3 {
        world.drop_file("new", &format!("a{n}.json"), TASK.as_bytes(), ALICE);
        world.task_of(&format!("a{n}"));
    }
    let header = |world: &World| world.run(ALICE, &["top", "--once", "--size", "200x30"]).ok();
    wait_for("the header to say it", || header(&world).contains("at a limit: uid-61001 (1 in all)").then_some(()));
    world.drop_file("new", "many.json", TASK.as_bytes(), ALICE);
    let why = wait_for("it to be refused", || world.why("many"))["problems"][0].clone();
    assert_eq!(why["limited"], true, "{why}");
    assert_eq!(why["found"], "3 tasks of uid-61001 wait already");
    assert!(why["wanted"].to_string().contains("limits.waiting_tasks in spoolgate.toml"), "{why}");
    // Others, and whoever may do everything anyway, are not kept from anything; a start counts the same.
    world.kill_daemon();
    world.start();
    world.drop_file("new", "again.json", TASK.as_bytes(), ALICE);
    wait_for("it to be refused", || world.why("again"));
    world.drop_file("new", "bobs.json", TASK.as_bytes(), BOB);
    let bobs = world.task_of("bobs");
    for n in 0..5 {
        world.drop_file("new", &format!("root{n}.json"), TASK.as_bytes(), 0);
        world.task_of(&format!("root{n}"));
    }
    // What does not wait any more makes room.
    let _ = world.run(0, &["cancel", &world.task_of("a1").to_string(), "--reason", "room"]).ok();
    wait_for("the header to say nothing", || (!header(&world).contains("at a limit")).then_some(()));
    world.drop_file("new", "room.json", TASK.as_bytes(), ALICE);
    world.task_of("room");
    let _ = world.approve(ALICE, bobs).ok();
    assert_eq!(world.record(bobs)["outcome"], "ok");
}

#[test]
fn the_bytes_of_what_waits_count_too() {
    let world = world("waiting_bytes = 8000\n");
    let task = json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "#".repeat(3_000)}).to_string();
    world.drop_file("new", "one.json", task.as_bytes(), ALICE);
    world.task_of("one");
    world.drop_file("new", "two.json", task.as_bytes(), ALICE);
    let why = wait_for("it to be refused", || world.why("two")).to_string();
    assert!(why.contains("at most 8000 bytes (limits.waiting_bytes"), "{why}");
}

#[test]
fn whoever_drops_many_files_waits_and_nobody_else_does() {
    const FILES: usize = 660;
    let world = world("files_per_minute = 600\n");
    world.drop_file("new", "first.json", TASK.as_bytes(), ALICE);
    let first = world.task_of("first");
    // Nobody's task either way: the daemon only answers them.
    for n in 0..FILES {
        world.drop_file("new", &format!("many{n:03}.json"), b"{\"no\": 1}", ALICE);
    }
    let own = world.own_dir("new", ALICE);
    let left = || std::fs::read_dir(&own).unwrap().count();
    wait_for("enough to be taken", || (count(&world, "bad", ".why") >= 590).then_some(()));
    assert!(left() > 10, "{} are left", left());
    let said = || world.run(0, &["top", "--once", "--size", "200x30"]).ok().contains("at a limit: uid-61001");
    wait_for("the header to say it", || said().then_some(()));
    // Not what others drop, and not her own orders.
    world.drop_file("new", "bobs.json", TASK.as_bytes(), BOB);
    world.task_of("bobs");
    let approval = json!({"order": "approve", "task": first, "digest": world.digest(first)}).to_string();
    world.drop_file("orders", "approve.json", approval.as_bytes(), BOB);
    assert_eq!(world.record(first)["outcome"], "ok");
    assert!(left() > 0, "all of it took no longer than the others");
    wait_for("all to have had their turn", || (left() == 0).then_some(()));
    assert_eq!(count(&world, "bad", ".why"), FILES);
}

#[test]
fn a_post_beyond_the_limit_may_come_again_later() {
    let mut web = Web::start(None);
    web.world.kill_daemon();
    append(&web.world.etc().join("spoolgate.toml"), "[limits]\nwaiting_tasks = 2\n");
    web.world.start();
    web.port = crate::http::port_of(&web.world);
    let task = json!({"task_name": "t", "script": "true", "hosts": {"1": ["here"]}, "schedule": "new", "exec_time": "2030-01-01 00:00:00"});
    for _ in 0..2 {
        assert_eq!(web.ask("POST", "/api/v1/task", &task.to_string()).status, 200);
    }
    let heard = web.ask("POST", "/api/v1/task", &task.to_string());
    assert_eq!(heard.status, 429, "{heard:?}");
    assert!(heard.head.to_lowercase().contains("retry-after: 60"), "{heard:?}");
    assert!(heard.body.contains("2 tasks of token:ci wait already"), "{heard:?}");
    let metrics = web.ask("GET", "/metrics", "").body;
    assert!(metrics.contains("spoolgate_people_at_limit 1\n"), "{metrics}");
}
