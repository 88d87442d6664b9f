//! Whose a dropped file is: only where nobody else could have put it does its owner say so.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::path::Path;

use serde_json::{Value, json};

use crate::world::{ALICE, BOB, EVE, GROUP_ID, World, wait_for};

/// Everybody may submit; root may skip approval, and Alice's team approves.
const POLICY: &str = r#"
[[submit]]
who = ["uid-61001", "uid-61002", "uid-61003"]
templates = ["*"]
into = ["new"]
[[submit]]
who = ["root"]
templates = ["*"]
into = ["new", "ready"]
[[approve]]
who = ["uid-61001", "uid-61002"]
templates = ["*"]
[[control]]
who = ["uid-61001"]
templates = ["*"]
"#;

fn world(policy: &str) -> World {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.write_etc("policy.toml", policy);
    world.start();
    world
}

fn task() -> Vec<u8> {
    json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": "true"}).to_string().into_bytes()
}

fn accepted(world: &World, id: u64) -> Value {
    world.events(id)[0].clone()
}

/// Waits until a file is refused; returns why.
fn refused(world: &World, name: &str) -> String {
    let why = wait_for(&format!("{name} to be refused"), || world.why(name));
    why["problems"].to_string()
}

#[test]
fn a_file_that_somebody_moved_speaks_for_its_owner_nowhere() {
    let world = world(POLICY);
    world.drop_file("new", "wait.json", &task(), BOB);
    let id = world.task_of("wait");
    assert_eq!(
        (accepted(&world, id)["drop"]["name"].as_str(), &accepted(&world, id)["unproved"]),
        (Some("uid-61002/wait.json"), &Value::Null)
    );

    // Whoever moved them, root owns the first and Alice the second.
    world.drop_flat("ready", "skip.json", &task(), 0);
    let skipped = world.task_of("skip");
    world.stands(skipped, "new");
    let note = accepted(&world, skipped)["admission"]["note"].to_string();
    assert!(note.contains("it lay flat in ready/") && note.contains("ready/root/"), "{note}");

    let order = json!({"order": "approve", "task": id, "digest": world.digest(id)}).to_string();
    world.drop_flat("orders", "vote.json", order.as_bytes(), ALICE);
    let why = refused(&world, "vote");
    assert!(why.contains("an order that lies flat in orders/") && why.contains("orders/uid-61001/"), "{why}");
    assert_eq!(world.standing(id), ["new"]);

    // The honest ones work.
    world.drop_file("ready", "honest.json", &task(), 0);
    assert_eq!(world.record(world.task_of("honest"))["outcome"], "ok");
    world.drop_file("orders", "honest-vote.json", order.as_bytes(), ALICE);
    assert_eq!(world.record(id)["outcome"], "ok");
}

#[test]
fn a_flat_drop_is_a_task_that_says_so() {
    let world = world(POLICY);
    world.drop_flat("new", "plain.json", &task(), BOB);
    let id = world.task_of("plain");
    assert_eq!(accepted(&world, id)["unproved"], true);
    for words in [&["show", "plain"][..], &["ls"]] {
        let said = world.run(BOB, words).ok();
        assert!(said.contains("unproved"), "{words:?}: {said}");
    }
    let _ = world.approve(ALICE, id).ok();
    let record = world.record(id);
    assert_eq!((&record["outcome"], &record["unproved"]), (&json!("ok"), &json!(true)));
}

#[test]
fn policy_says_what_an_unproved_task_takes() {
    let world = world(&format!("unproved = \"one-more\"\n{POLICY}"));
    world.drop_flat("new", "plain.json", &task(), EVE);
    let id = world.task_of("plain");
    let need = accepted(&world, id)["admission"]["needs"][0].clone();
    assert_eq!(need["approvals"], 2, "{need}");
    assert!(need["rule"].to_string().contains("nobody knows who put its file there"), "{need}");
    world.write_etc("policy.toml", &format!("unproved = \"refuse\"\n{POLICY}"));
    world.drop_flat("new", "other.json", &task(), EVE);
    let why = refused(&world, "other");
    assert!(why.contains("new/uid-61003/") && why.contains("unproved ="), "{why}");
    world.drop_file("new", "own.json", &task(), EVE);
    world.task_of("own");
}

#[test]
fn a_directory_proves_nothing_that_others_can_write_or_that_is_called_after_another() {
    let world = world(POLICY);
    let set_mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    // Bob's file in Alice's directory.
    let own = world.own_dir("ready", ALICE);
    let beside = world.scratch().join("bobs.json");
    std::fs::write(&beside, task()).unwrap();
    chown(&beside, Some(BOB), Some(GROUP_ID)).unwrap();
    set_mode(&beside, 0o640);
    std::fs::rename(&beside, own.join("bobs.json")).unwrap();
    assert!(refused(&world, "bobs").contains("a file of uid 61002 in a directory of uid 61001"));
    // A directory that the group can write.
    let open = world.own_dir("ready", BOB);
    set_mode(&open, 0o2770);
    world.drop_file("ready", "open.json", &task(), BOB);
    assert!(refused(&world, "open").contains("others can put files into it"));
    // A directory called after somebody else.
    let squat = world.own_dir("orders", ALICE);
    std::fs::remove_dir(&squat).unwrap();
    std::fs::create_dir(&squat).unwrap();
    chown(&squat, Some(EVE), Some(GROUP_ID)).unwrap();
    set_mode(&squat, 0o2750);
    let order = json!({"order": "hold", "task": 1}).to_string();
    std::fs::write(squat.join("o.json"), &order).unwrap();
    chown(squat.join("o.json"), Some(EVE), Some(GROUP_ID)).unwrap();
    set_mode(&squat.join("o.json"), 0o640);
    assert!(refused(&world, "o").contains("the directory uid-61001 of uid-61003"));
    // Whose name was taken uses another.
    world.drop_file("new", "task.json", &task(), BOB);
    let id = world.task_of("task");
    assert!(world.run(ALICE, &["hold", &id.to_string(), "--reason", "wait"]).ok().contains("held"));
    assert!(world.events(id).iter().any(|event| event["order"]["name"].to_string().contains("uid-61001+1/")));
}

#[test]
fn a_link_or_a_directory_swapped_for_one_is_not_followed() {
    let world = world(POLICY);
    let outside = world.scratch().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("x.json"), task()).unwrap();
    std::fs::remove_dir(world.own_dir("new", ALICE)).unwrap();
    std::os::unix::fs::symlink(&outside, world.box_dir("new").join("uid-61001")).unwrap();
    // A rescan has passed when what came after it is a task.
    world.drop_file("new", "after.json", &task(), BOB);
    world.task_of("after");
    assert!(outside.join("x.json").exists() && world.tasks().len() == 1);
    // Her next command uses another name.
    let file = world.scratch().join("mine.json");
    std::fs::write(&file, task()).unwrap();
    let said = world.run(ALICE, &["submit", file.to_str().unwrap()]).ok();
    let id: u64 = said.trim().parse().unwrap();
    assert_eq!(accepted(&world, id)["drop"]["name"], "uid-61001+1/mine.json");
}

/// A daemon that is not root may read what lies in somebody's own directory, and may not remove it.
#[test]
fn a_daemon_of_its_own_user_takes_each_file_once_and_its_owner_removes_it() {
    const DAEMON: u32 = 61_050;
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.write_etc("policy.toml", POLICY);
    let words = ["setpriv", "--reuid=61050", &format!("--regid={GROUP_ID}"), "--clear-groups"].map(str::to_owned);
    world.through = words.to_vec();
    std::fs::create_dir(world.state()).unwrap();
    chown(world.state(), Some(DAEMON), Some(GROUP_ID)).unwrap();
    world.start();
    world.drop_file("new", "plain.json", &task(), ALICE);
    let id = world.task_of("plain");
    let left = world.own_dir("new", ALICE).join("plain.json");
    let inode = std::fs::metadata(&left).unwrap().ino().to_string();
    let listed = || std::fs::read_to_string(world.state().join("spool/taken")).unwrap_or_default();
    let begin = format!("{inode} ");
    wait_for("it to be listed", || listed().lines().any(|line| line.starts_with(&begin)).then_some(()));
    // A start looks at everything again.
    world.kill_daemon();
    world.start();
    let file = world.scratch().join("mine.json");
    std::fs::write(&file, task()).unwrap();
    let said = world.run(ALICE, &["submit", file.to_str().unwrap()]).ok();
    let next: u64 = said.trim().parse().unwrap();
    assert_eq!((next, world.tasks().len()), (id + 1, 2), "each file is one task");
    assert!(!left.exists(), "her next command removed what was taken");
    assert!(!left.with_file_name("mine.json").exists(), "and its own file");
    // What is refused stays hers, and says why, once.
    world.drop_file("new", "broken.json", b"{", ALICE);
    assert!(!refused(&world, "broken").is_empty());
    let bad = |world: &World| std::fs::read_dir(world.box_dir("bad")).unwrap().count();
    let before = bad(&world);
    world.kill_daemon();
    world.start();
    world.drop_file("new", "after.json", &task(), ALICE);
    world.task_of("after");
    assert_eq!(bad(&world), before);
    let said = world.run(BOB, &["hold", &id.to_string(), "--reason", "no"]);
    assert_eq!(said.code, 6, "{said:?}");
    assert!(world.run(ALICE, &["hold", &id.to_string(), "--reason", "yes"]).ok().contains("held"));
}

#[test]
fn a_hold_of_ones_own_ends_nobody_elses() {
    let world = world(POLICY);
    world.drop_file("new", "task.json", &task(), EVE);
    let id = world.task_of("task").to_string();
    let hold = |uid| world.run(uid, &["hold", &id, "--reason", "wait"]);
    let _ = hold(ALICE).ok();
    // The submitter may hold it, and release nobody else's hold.
    let _ = hold(EVE).ok();
    let _ = world.run(EVE, &["release", &id]).ok();
    let show = world.run(EVE, &["show", &id]).ok();
    assert!(
        show.contains("held") && show.contains("by uid-61001") && !show.contains("held        by uid-61003"),
        "{show}"
    );
    assert_eq!(world.run(EVE, &["release", &id]).code, 6);
    let _ = hold(EVE).ok();
    let _ = world.run(ALICE, &["release", &id]).ok();
    let show = world.run(EVE, &["show", &id]).ok();
    assert!(!show.contains("\nheld"), "who may release releases all: {show}");
}

#[test]
fn a_name_means_ones_own_task() {
    let world = world(POLICY);
    world.drop_file("new", "nightly.json", &task(), ALICE);
    let hers = world.task_of("nightly");
    world.drop_file("new", "nightly.json", &task(), EVE);
    let other = wait_for("the other one", || world.tasks().into_iter().map(|(id, _)| id).find(|id| *id != hers));
    assert!(world.run(ALICE, &["cancel", "nightly", "--reason", "no"]).ok().contains(&format!("task {hers}")));
    let _ = world.run(ALICE, &["show", "nightly"]).ok();
    let said = world.run(BOB, &["show", "nightly"]);
    assert!(said.code == 2 && said.err.contains(&format!("{other} of uid-61003")), "{said:?}");
    // So does an order that a script drops.
    let order = json!({"order": "hold", "task": "nightly", "reason": "wait"}).to_string();
    world.drop_file("orders", "by-name.json", order.as_bytes(), BOB);
    let why = refused(&world, "by-name");
    assert!(why.contains("the number of a task"), "{why}");
}

#[test]
fn a_uid_without_an_account_submits_nothing_under_a_rule_for_everybody() {
    let world = world(
        "[[submit]]\nwho = [\"*\"]\ntemplates = [\"*\"]\ninto = [\"new\", \"ready\"]\n[[approve]]\nwho = [\"root\"]\ntemplates = [\"*\"]\n",
    );
    world.drop_file("new", "theirs.json", &task(), EVE);
    let why = refused(&world, "theirs");
    assert!(why.contains("uid-61003 submit script"), "{why}");
    world.drop_file("new", "ours.json", &task(), 0);
    world.task_of("ours");
}

#[test]
fn nobody_fills_the_journal_of_a_task_with_what_they_may_not_do() {
    let world = world(POLICY);
    world.drop_file("new", "task.json", &task(), ALICE);
    let id = world.task_of("task");
    for n in 0..30 {
        let order = json!({"order": "cancel", "task": id, "reason": format!("{n}")}).to_string();
        world.drop_file("orders", &format!("eve-{n}.json"), order.as_bytes(), EVE);
    }
    let mut last = String::new();
    wait_for("every order to be answered", || {
        let answered = world.events(id).iter().filter(|event| event["event"] == "order_refused").count();
        let bad = (0..30).filter_map(|n| world.why(&format!("eve-{n}"))).collect::<Vec<_>>();
        last = bad.first().map(ToString::to_string).unwrap_or_default();
        (answered == 20 && bad.len() == 10).then_some(())
    });
    assert!(last.contains("refused: no rule in policy.toml lets uid-61003 cancel"), "{last}");
    assert!(world.run(ALICE, &["cancel", &id.to_string(), "--reason", "mine"]).ok().contains("cancelled"));
}
