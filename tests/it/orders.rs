//! Orders and rules against each other, on a real daemon: what comes first, what counts, and what is remembered.

use std::time::Duration;

use serde_json::{Value, json};

use crate::approval::{TWO, approve_at, event, in_seconds};
use crate::world::{ALICE, BOB, EVE, World, wait_for};

/// A world with one host on this machine and a task of Alice's for it.
fn simple(policy: &str, task: &Value) -> (World, u64) {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    if !policy.is_empty() {
        world.write_etc("policy.toml", policy);
    }
    world.start();
    world.drop_file("new", "task.json", task.to_string().as_bytes(), ALICE);
    let id = world.task_of("task");
    (world, id)
}

#[test]
fn orders_that_came_while_no_daemon_ran_are_heard_before_anything_starts() {
    let (mut world, id) = simple("", &json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "true"}));
    approve_at(&world, id, &in_seconds(1));
    world.kill_daemon();
    let order = json!({"order": "withdraw", "task": id}).to_string();
    world.drop_file("orders", "withdraw.json", order.as_bytes(), BOB);
    let since = std::time::Instant::now();
    wait_for("its time to pass", || (since.elapsed() > Duration::from_millis(1_500)).then_some(()));
    world.start();
    event(&world, id, "withdrawn");
    world.stands(id, "new");
    assert!(world.events(id).iter().all(|event| event["event"] != "started"), "{:?}", world.events(id));
}

#[test]
fn a_file_named_like_a_task_takes_over_none_of_its_orders() {
    let task = json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "true"});
    let (world, id) = simple("", &task);
    world.drop_file("new", &format!("{id}.json"), task.to_string().as_bytes(), ALICE);
    let decoy = wait_for("the decoy", || world.tasks().into_iter().map(|(other, _)| other).find(|other| *other != id));
    world.run(0, &["hold", &id.to_string(), "--reason", "this one"]).ok();
    assert!(world.events(id).iter().any(|event| event["event"] == "held"));
    assert!(world.events(decoy).iter().all(|event| event["event"] != "held"));
}

#[test]
fn two_orders_at_once_that_cancel_each_other_out_leave_the_task_where_it_was() {
    let (mut world, id) = simple("", &json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "true"}));
    let digest = world.digest(id);
    world.kill_daemon();
    let approve = json!({"order": "approve", "task": id, "digest": digest, "start": in_seconds(60)}).to_string();
    world.drop_file("orders", "b-approve.json", approve.as_bytes(), BOB);
    let withdraw = json!({"order": "withdraw", "task": id}).to_string();
    // By name it would come first; it was given later.
    world.drop_file("orders", "a-withdraw.json", withdraw.as_bytes(), BOB);
    world.start();
    event(&world, id, "withdrawn");
    world.stands(id, "new");
    assert!(!world.box_dir("new").join(format!("{id}.dropped-0.json")).exists());
    world.approve(BOB, id).ok();
    assert_eq!(world.record(id)["outcome"], "ok");
}

#[test]
fn without_its_policy_a_state_that_had_one_lets_nobody_do_everything() {
    let (mut world, id) = simple("", &json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "true"}));
    approve_at(&world, id, &in_seconds(2));
    let policy = world.etc().join("policy.toml");
    std::fs::rename(&policy, world.etc().join("aside")).unwrap();
    wait_for("the daemon to say so", || world.daemon_log().contains("policy.toml is gone").then_some(()));
    world.kill_daemon();
    let refused = world.run(0, &["daemon"]);
    assert_eq!(refused.code, 7, "{}", refused.err);
    assert!(refused.err.contains("was under a policy"), "{}", refused.err);
    std::fs::rename(world.etc().join("aside"), &policy).unwrap();
    world.start();
    assert_eq!(world.record(id)["outcome"], "ok", "a few seconds late is not late");
}

#[test]
fn a_remark_in_the_policy_takes_no_vote_away_and_a_right_that_is_gone_does() {
    let task = json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "true"});
    let (world, id) = simple(TWO, &task);
    let digest = world.digest(id);
    let approve = |uid: u32| world.run(uid, &["approve", &id.to_string(), "--digest", &digest]).ok();
    approve(BOB);
    world.write_etc("policy.toml", &format!("# a remark\n{TWO}"));
    world.run(0, &["hold", &id.to_string(), "--reason", "wait"]).ok();
    approve(EVE);
    world.stands(id, "ready");
    // Bob may not approve any more: what he said counts no longer, and one is not two.
    world.write_etc("policy.toml", &TWO.replace("\"uid-61002\", ", ""));
    world.run(0, &["release", &id.to_string()]).ok();
    let lapsed = event(&world, id, "lapsed");
    assert_eq!(lapsed["by"]["uid"], BOB);
    world.stands(id, "new");
    approve(0);
    assert_eq!(world.record(id)["outcome"], "ok");
}

#[test]
fn a_submitter_who_lost_the_right_to_skip_approval_needs_it() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    let task = json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "true", "exec_time": in_seconds(2)});
    world.drop_file("ready", "task.json", task.to_string().as_bytes(), 0);
    let id = world.task_of("task");
    world.stands(id, "ready");
    let policy = std::fs::read_to_string(world.etc().join("policy.toml")).unwrap();
    world.write_etc("policy.toml", &policy.replace("into = [\"new\", \"ready\"]", "into = [\"new\"]"));
    event(&world, id, "readmitted");
    world.stands(id, "new");
    assert!(world.events(id).iter().all(|event| event["event"] != "started"));
}

#[test]
fn what_nobody_knows_the_end_of_and_what_was_approved_for_another_time_is_not_tried_again() {
    let (world, id) = simple("", &json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "exit 3"}));
    let digest = world.digest(id);
    world.run(BOB, &["approve", &id.to_string(), "--digest", &digest, "--until", &in_seconds(2)]).ok();
    assert_eq!(world.record(id)["outcome"], "failed");
    let since = std::time::Instant::now();
    wait_for("the approval to end", || (since.elapsed() > Duration::from_millis(2_200)).then_some(()));
    let late = world.run(0, &["retry", &id.to_string()]);
    assert_eq!(late.code, 6, "{}", late.err);
    assert!(late.err.contains("was to begin before"), "{}", late.err);
    let script = std::fs::read_to_string(world.etc().join("templates/hello.sh")).unwrap();
    world.drop_file("new", "hello.json", br#"{"task_name": "t", "temp_id": "hello", "hosts": {"1": ["here"]}}"#, ALICE);
    let other = world.task_of("hello");
    world.approve(BOB, other).ok();
    world.record(other);
    world.write_etc("templates/hello.sh", &(script + "# another\n"));
    let changed = world.run(0, &["retry", &other.to_string(), "--from", "hello", "--host", "here"]);
    assert_eq!(changed.code, 6, "{}", changed.err);
    assert!(changed.err.contains("not what would run now"), "{}", changed.err);
}

#[test]
fn another_run_of_what_ended_well_takes_somebody_who_may_approve_it() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    let policy = std::fs::read_to_string(world.etc().join("policy.toml")).unwrap();
    let retry = "[[control]]\nwho = [\"uid-61001\"]\nacts = [\"retry\"]\ntemplates = [\"*\"]\n";
    world.write_etc("policy.toml", &(policy + retry));
    world.start();
    let task = json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "true"}).to_string();
    world.drop_file("new", "twice.json", task.as_bytes(), ALICE);
    let id = world.task_of("twice");
    world.approve(BOB, id).ok();
    assert_eq!(world.record(id)["outcome"], "ok");
    let redo = |uid: u32| world.run(uid, &["retry", &id.to_string(), "--from", "script", "--host", "here", "--again"]);
    let own = redo(ALICE);
    assert!(own.code == 6 && own.err.contains("takes somebody who may approve the task"), "{own:?}");
    redo(0).ok();
    wait_for("the second run", || (world.try_record(id)?["results"]["here"][0]["attempts"] == 2).then_some(()));
}

#[test]
fn a_state_that_is_named_from_here_is_watched_as_well() {
    let world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    let dir = world.etc().parent().unwrap().to_owned();
    let mut daemon = std::process::Command::new(env!("CARGO_BIN_EXE_spoolgate"))
        .args(["--config", "etc", "--state", "state", "daemon"])
        .current_dir(&dir)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the daemon to serve", || world.run(0, &["ls"]).out.contains("ID").then_some(()));
    wait_for("the boxes", || world.box_dir("new").exists().then_some(()));
    let begin = std::time::Instant::now();
    let task = json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "true"}).to_string();
    wait_for("a task", || {
        // The first ones may have come before the watch began.
        world.drop_file("new", &format!("t{}.json", begin.elapsed().as_nanos()), task.as_bytes(), 0);
        let since = std::time::Instant::now();
        while since.elapsed() < Duration::from_secs(2) && world.tasks().is_empty() {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        (!world.tasks().is_empty()).then_some(())
    });
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(15), "only a rescan found it");
}

#[test]
fn a_task_whose_time_had_passed_when_it_came_in_starts_at_once_also_at_the_very_first_look() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    world.kill_daemon();
    // Nobody knows when a daemon looked last.
    let _ = std::fs::remove_file(world.state().join(".seen"));
    let task = json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "true", "exec_time": "2019-5-24 09:09:50"});
    world.drop_file("ready", "old.json", task.to_string().as_bytes(), 0);
    world.start();
    let id = world.task_of("old");
    assert_eq!(world.record(id)["outcome"], "ok");
}
