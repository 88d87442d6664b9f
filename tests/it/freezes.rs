//! Freezes on a real daemon: what does not begin in one, and who may break it.

use serde_json::{Value, json};

use crate::approval::{event, in_seconds};
use crate::world::{ALICE, BOB, World};

#[test]
fn a_freeze_lets_nothing_start_but_what_the_excepted_approve() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\nvars = { environment = \"prod\" }\n");
    let policy = std::fs::read_to_string(world.etc().join("policy.toml")).unwrap();
    let freeze = format!(
        "[[freeze]]\nname = \"quiet\"\nenvironments = [\"prod\"]\nfrom = \"2020-01-01 00:00\"\nto = \"{}\"\nexcept = [\"root\"]\n",
        in_seconds(6)
    );
    world.write_etc("policy.toml", &(policy + &freeze));
    world.start();
    let task = json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "true"}).to_string();
    for name in ["waits", "goes"] {
        world.drop_file("new", &format!("{name}.json"), task.as_bytes(), ALICE);
    }
    let (waits, goes) = (world.task_of("waits"), world.task_of("goes"));
    world.approve(BOB, waits).ok();
    let frozen = event(&world, waits, "frozen");
    assert_eq!(frozen["freeze"], "quiet");
    world.approve(0, goes).ok();
    assert_eq!(world.record(goes)["outcome"], "ok", "root may break it");
    world.stands(waits, "ready");
    assert_eq!(world.record(waits)["outcome"], "ok", "and it starts by itself when the freeze ends");
}

#[test]
fn a_timed_step_does_not_begin_in_a_freeze_though_the_step_before_it_ended_there() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\nvars = { environment = \"prod\" }\n");
    let text = "id = 80\nname = \"slow\"\ntitle = \"t\"\n[[step]]\nname = \"a\"\nscript = \"sleep 3\"\n\
                [[step]]\nname = \"b\"\nscript = \"true\"\ntrigger = \"timed\"\n";
    world.write_etc("templates/slow.toml", text);
    let policy = std::fs::read_to_string(world.etc().join("policy.toml")).unwrap();
    let (from, to) = (in_seconds(2), in_seconds(6));
    let freeze = format!("[[freeze]]\nname = \"quiet\"\nenvironments = [\"prod\"]\nfrom = \"{from}\"\nto = \"{to}\"\n");
    world.write_etc("policy.toml", &(policy + &freeze));
    world.start();
    let start = in_seconds(0);
    let task = json!({"task_name": "t", "temp_id": "slow", "hosts": {"1": ["here"]}, "exec_time": start}).to_string();
    world.drop_file("new", "slow.json", task.as_bytes(), ALICE);
    let id = world.task_of("slow");
    world.approve(BOB, id).ok();
    assert_eq!(world.record(id)["outcome"], "ok");
    let begun = |step: &str| {
        let started = |event: &&Value| event["event"] == "step_started" && event["step"] == step;
        world.events(id).iter().find(started).unwrap()["at"].as_str().unwrap().to_owned()
    };
    assert!(begun("a") < from, "before the freeze");
    assert!(begun("b") >= to, "{} and not before {to}", begun("b"));
}
