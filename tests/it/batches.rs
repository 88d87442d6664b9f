//! Batches on a real daemon: slices of a group one after the other, with a wait, a gate, and an end after too many failures.

use serde_json::{Value, json};

use crate::world::{ALICE, BOB, World, wait_for};

/// A world with `count` hosts on this machine, and a task of Alice's for all of them that Bob approved.
fn run(count: usize, more: &Value) -> (World, u64) {
    let mut world = World::new(&[], None);
    let inventory: String = (1..=count).map(|n| format!("[host.h{n}]\nconnection = \"local\"\n")).collect();
    world.write_etc("inventory/hosts.toml", &inventory);
    world.start();
    let mut task = json!({"task_name": "t", "hosts": {"1": "h*"}, "script": "test \"$SPOOLGATE_HOST\" != \"$BAD\"",
        "env": {"BAD": "nobody"}});
    for (name, value) in more.as_object().unwrap() {
        task[name] = value.clone();
    }
    world.drop_file("new", "batches.json", task.to_string().as_bytes(), ALICE);
    let id = world.task_of("batches");
    world.approve(BOB, id).ok();
    (world, id)
}

/// Returns the sizes of the batches as they began: how many hosts between two of the daemon's words about them.
fn begun(world: &World, id: u64) -> Vec<usize> {
    let mut sizes = vec![0];
    for event in world.events(id) {
        match event["event"].as_str().unwrap() {
            "step_started" => *sizes.last_mut().unwrap() += 1,
            "batch_started" => sizes.push(0),
            _ => {}
        }
    }
    sizes
}

fn ms(event: &Value, field: &str) -> i64 {
    let time: jiff::Timestamp = event[field].as_str().unwrap().parse().unwrap();
    time.as_millisecond()
}

#[test]
fn hosts_are_taken_in_slices_each_once_and_no_slice_begins_before_the_one_before_it_ended() {
    for (hosts, want) in [(7, vec![1, 2, 2, 2]), (2, vec![1, 1]), (37, vec![4, 8, 11, 14])] {
        let (world, id) = run(hosts, &json!({"batches": ["10%", "20%", "30%", "40%"]}));
        assert_eq!(world.record(id)["outcome"], "ok");
        assert_eq!(begun(&world, id), want);
        let mut open = 0;
        for event in world.events(id) {
            match event["event"].as_str().unwrap() {
                "step_started" => open += 1,
                "step_ended" => open -= 1,
                "batch_started" => assert_eq!(open, 0, "a batch began while another ran"),
                _ => {}
            }
        }
    }
}

#[test]
fn the_wait_between_batches_holds_over_a_restart() {
    let (mut world, id) = run(2, &json!({"batches": [1, 1], "batch_interval": 4}));
    let waits = wait_for("the wait", || world.events(id).into_iter().find(|event| event["event"] == "batch_waits"));
    let until = ms(&waits, "until");
    assert_eq!(until - ms(&waits, "at"), 4_000);
    world.kill_daemon();
    world.start();
    assert_eq!(world.record(id)["outcome"], "ok");
    let events = world.events(id);
    assert_eq!(events.iter().filter(|event| event["event"] == "batch_waits").count(), 1, "one wait, one time");
    let started = ms(events.iter().find(|event| event["event"] == "batch_started").unwrap(), "at");
    assert!((until..until + 1_500).contains(&started), "{} ms after its time", started - until);
}

#[test]
fn a_gate_waits_for_a_person() {
    let (world, id) = run(3, &json!({"batches": ["34%", "66%"], "batch_gate": true}));
    wait_for("the gate", || world.events(id).into_iter().find(|event| event["event"] == "batch_waits"));
    let refused = world.run(ALICE, &["continue", &id.to_string()]);
    assert_eq!(refused.code, 6, "{}", refused.err);
    world.stands(id, "running");
    assert_eq!(begun(&world, id), [2]);
    world.run(0, &["continue", &id.to_string(), "--reason", "the canary lives"]).ok();
    let record = world.record(id);
    assert_eq!((&record["outcome"], begun(&world, id)), (&json!("ok"), vec![2, 1]));
    let continued = record["acts"].as_array().unwrap().iter().find(|act| act["act"] == "continued").unwrap();
    assert_eq!(continued["by"]["user"], "root");
    assert_eq!(world.run(0, &["continue", &id.to_string()]).code, 6, "it has ended");
}

#[test]
fn nobody_is_asked_to_go_on_with_a_batch_that_was_cancelled() {
    let (world, id) = run(2, &json!({"batches": ["1", "1"], "batch_gate": true}));
    let asked = || world.events(id).iter().any(|event| event["event"] == "batch_waits");
    wait_for("the gate", || asked().then_some(()));
    world.run(0, &["cancel", &id.to_string(), "--batch", "2", "--reason", "enough"]).ok();
    assert_eq!(world.record(id)["results"]["h2"][0]["attempts"], 0, "the second host never began");
}

#[test]
fn too_many_failures_let_no_other_host_begin() {
    let (world, id) = run(6, &json!({"batches": [1, 2, 3], "max_fail": 0, "env": {"BAD": "h2"}}));
    let record = world.record(id);
    assert_eq!(record["outcome"], "failed");
    assert_eq!(begun(&world, id), [1, 2], "the third batch is untouched");
    for host in ["h4", "h5", "h6"] {
        assert_eq!(record["outcomes"][host], "skipped", "{record:#}");
    }
    // One failure is allowed: then all batches run.
    let (world, id) = run(6, &json!({"batches": [1, 2, 3], "max_fail": 1, "env": {"BAD": "h2"}}));
    assert_eq!((world.record(id)["outcome"].clone(), begun(&world, id)), (json!("failed"), vec![1, 2, 3]));
    // Of each batch half may fail: what failed in another one does not count.
    let script = "case \" $BAD \" in *\" $SPOOLGATE_HOST \"*) exit 1;; esac";
    for (bad, want) in [("h1 h3 h5", vec![2, 2, 2]), ("h3 h4", vec![2, 2])] {
        let more = json!({"batches": [2, 2, 2], "batch_max_fail": "50%", "script": script, "env": {"BAD": bad}});
        let (world, id) = run(6, &more);
        assert_eq!((world.record(id)["outcome"].clone(), begun(&world, id)), (json!("failed"), want), "{bad}");
    }
}

#[test]
fn a_selector_is_planned_as_names_and_another_choice_waits_again() {
    let mut world = World::new(&[], None);
    let host = |name: &str, tag: &str| format!("[host.{name}]\nconnection = \"local\"\ntags = [\"{tag}\"]\n");
    let three = host("web1", "web") + &host("web2", "web") + &host("db1", "db");
    world.write_etc("inventory/hosts.toml", &three);
    world.start();
    let task = serde_json::json!({"task_name": "t", "script": "true", "hosts": {"1": "tag:web"}});
    world.drop_file("new", "chosen.json", task.to_string().as_bytes(), ALICE);
    let id = world.task_of("chosen");
    let plan = |version: &str| {
        let path = world.state().join(format!("runs/{id}/{version}.json"));
        let text = wait_for("the plan", || std::fs::read(&path).ok());
        let plan: serde_json::Value = serde_json::from_slice(&text).unwrap();
        plan["hosts"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(plan("plan"), ["web1", "web2"]);
    let seen = world.digest(id);
    world.write_etc("inventory/hosts.toml", &(three + &host("web3", "web")));
    let refused = world.run(BOB, &["approve", &id.to_string(), "--digest", &seen]);
    assert_eq!(refused.code, 4, "what was seen is not what would run: {refused:?}");
    world.stands(id, "new");
    assert_eq!(plan("plan@2"), ["web1", "web2", "web3"]);
    world.approve(BOB, id).ok();
    assert_eq!(world.record(id)["outcomes"].as_object().unwrap().len(), 3);
    let none = serde_json::json!({"task_name": "t", "script": "true", "hosts": {"1": "tag:nothing"}});
    world.drop_file("new", "none.json", none.to_string().as_bytes(), ALICE);
    let why = wait_for("the refusal", || world.why("none"));
    assert!(why.to_string().contains("no host has this tag"), "{why}");
}

#[test]
fn a_batch_is_cancelled_and_the_others_go_on() {
    let script = "case $SPOOLGATE_HOST in h[123]) exec sleep 300 ;; esac";
    let (world, id) = run(6, &json!({"batches": [1, 2, 3], "script": script}));
    let task = id.to_string();
    let cancel = |batch: &str, more: &[&str]| {
        world.run(0, &[&["cancel", &task, "--batch", batch, "--reason", "wrong rack"], more].concat())
    };
    wait_for("the first host", || (begun(&world, id) == [1]).then_some(()));
    let strange = cancel("4", &[]);
    assert!(strange.code == 6 && strange.err.contains("no batch 4 in group 1"), "{}", strange.err);
    assert_eq!((cancel("1", &["--group", "2"]).code, cancel("0", &[]).code), (6, 2));
    // The second one before it begins, then the one that runs.
    cancel("2", &[]).ok();
    cancel("1", &[]).ok();
    let record = world.record(id);
    let outcomes: Vec<&str> = (1..=6).map(|n| record["outcomes"][format!("h{n}")].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["cancelled", "cancelled", "cancelled", "ok", "ok", "ok"], "{record:#}");
    assert_eq!(begun(&world, id).iter().sum::<usize>(), 4, "nothing of the second batch began");
    assert_eq!(cancel("1", &[]).code, 6, "it has ended");
}
