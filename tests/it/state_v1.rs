//! A state that an older version wrote, opened by this one: `tests/data/state-v1`, whose README says how it was made. What that
//! version said of it stands beside it, and is compared with what this one says.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use spoolgate::adapters::spool::layout::Layout;
use spoolgate::adapters::spool::reader;
use spoolgate::base::ids::TaskId;
use spoolgate::domain::record::{record, view};
use spoolgate::domain::run::{Recorded, Run, TaskState};

use crate::approval::event;
use crate::world::{ALICE, BOB, GROUP_ID, Said, World, wait_for};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/state-v1")
}

/// Copies files and directories with the modes that they had where the older version wrote them: git keeps none, and no group.
fn copy(from: &Path, to: &Path, (dir_mode, file_mode): (u32, u32), group: u32) {
    fs::create_dir_all(to).unwrap();
    chown(to, None, Some(group)).unwrap();
    fs::set_permissions(to, PermissionsExt::from_mode(dir_mode)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to, (dir_mode, file_mode), group);
        } else {
            fs::copy(entry.path(), &to).unwrap();
            chown(&to, None, Some(group)).unwrap();
            fs::set_permissions(&to, PermissionsExt::from_mode(file_mode)).unwrap();
        }
    }
}

/// A world with the old configuration, the old state and what the steps left on their hosts.
fn witness() -> World {
    let world = World::new(&[], None);
    fs::remove_dir_all(world.etc()).unwrap();
    copy(&data().join("etc"), &world.etc(), (0o755, 0o644), 0);
    copy(&data().join("etc/secrets"), &world.etc().join("secrets"), (0o700, 0o600), 0);
    copy(
        &data().join("home/.spoolgate"),
        &world.scratch().with_file_name("home").join(".spoolgate"),
        (0o700, 0o600),
        0,
    );
    fs::set_permissions(world.etc().join("tokens.toml"), PermissionsExt::from_mode(0o600)).unwrap();
    copy(&data().join("state"), &world.state(), (0o2750, 0o640), GROUP_ID);
    // Git keeps no empty directories.
    for dir in ["ready", "orders", "bad", ".tmp"] {
        fs::create_dir_all(world.box_dir(dir)).unwrap();
    }
    for outer in [world.state(), world.state().join("spool")] {
        fs::set_permissions(outer, PermissionsExt::from_mode(0o2755)).unwrap();
    }
    for drop_box in ["new", "ready", "orders"] {
        chown(world.box_dir(drop_box), None, Some(GROUP_ID)).unwrap();
        fs::set_permissions(world.box_dir(drop_box), PermissionsExt::from_mode(0o3730)).unwrap();
    }
    world
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What the older version said: `ls` and, of each task, `show`.
fn expected(what: &str) -> Vec<Value> {
    read(&data().join("expected.json"))[what].as_array().unwrap().clone()
}

/// Finds where `new` does not say what `old` said. It may say more.
fn differences(old: &Value, new: &Value, at: &str, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old {
                differences(value, new.get(name).unwrap_or(&Value::Null), &format!("{at}/{name}"), found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (n, (old, new)) in old.iter().zip(new).enumerate() {
                differences(old, new, &format!("{at}/{n}"), found);
            }
        }
        _ if old == new => {}
        _ => found.push(format!("{at}: was {old}, is {new}")),
    }
}

#[track_caller]
fn same(old: &Value, new: &Value, what: &str) {
    let mut found = Vec::new();
    differences(old, new, what, &mut found);
    assert_eq!(found, Vec::<String>::new());
}

fn number(name: &str) -> u64 {
    let task = expected("ls").into_iter().rfind(|task| task["name"] == name);
    task.unwrap_or_else(|| panic!("no task {name}"))["id"].as_u64().unwrap()
}

#[test]
fn every_journal_folds_to_the_outcome_that_was_recorded() {
    let world = witness();
    let layout = Layout::new(world.state());
    let ids = reader::task_ids(&layout).unwrap();
    let shown = expected("show");
    assert_eq!(ids.len(), shown.len());
    let mut outcomes = std::collections::BTreeSet::new();
    for (id, old) in ids.into_iter().zip(shown) {
        let events = fs::read_to_string(layout.events(id)).unwrap();
        let events: Vec<Recorded> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let run = Run::fold(id, Arc::new(reader::plan(&layout, id).unwrap()), &events).unwrap();
        assert_eq!((run.state().word(), run.contradicted), (old["state"].as_str().unwrap(), None), "task {id}");
        let path = layout.task_file(run.state(), id);
        let new = match record(&run) {
            Some(record) => json!(record),
            None => json!(view(&run)),
        };
        assert_eq!(read(&path), new, "task {id}: {}", path.display());
        outcomes.extend(old["outcome"].as_str().map(str::to_owned));
        outcomes.extend(
            old["results"].as_array().unwrap().iter().filter_map(|lane| Some(lane["outcome"].as_str()?.to_owned())),
        );
    }
    // Somebody had stopped one of its hosts, and the other one was well: that was a failure then, and would be `cancelled` now. What
    // was said stands.
    assert_eq!(read(&layout.task_file(TaskState::Done, TaskId(number("one-of-two"))))["outcome"], "failed");
    let all = [
        "ok",
        "skipped",
        "rolled_back",
        "failed",
        "timed_out",
        "rollback_failed",
        "cancelled",
        "lost",
        "kill_unconfirmed",
        "rejected",
        "expired",
        "stale",
    ];
    assert_eq!(outcomes, all.map(str::to_owned).into(), "the witness holds every outcome");
}

#[test]
fn commands_say_of_it_what_the_older_version_said() {
    let world = witness();
    let listed: Value = serde_json::from_str(&world.run(0, &["--json", "ls", "--done", "1000"]).ok()).unwrap();
    same(&Value::Array(expected("ls")), &listed["tasks"], "ls");
    for old in expected("show") {
        let id = old["task"]["id"].to_string();
        let new: Value = serde_json::from_str(&world.run(0, &["--json", "show", &id]).ok()).unwrap();
        same(&old, &new, &format!("show {id}"));
        assert_eq!(new["events"], Value::Array(world.events(id.parse().unwrap())), "show {id}");
    }
    // A name still means its task, as members of the group read it.
    assert!(world.run(ALICE, &["show", "codo"]).ok().contains("发布"));
    assert_eq!(world.run(0, &["logs", "flaky"]).ok().matches("attempt").count(), 2);
    // So does the name of a file that was refused, and what it was refused for.
    for (name, why) in [("unknown", "/colour"), ("keyed-other", "task 33 has this key"), ("broken", "end of the text")]
    {
        let said = world.run(0, &["show", name]);
        assert!(said.code == 5 && said.err.contains(why), "{said:?}");
    }
    assert!(world.run(0, &["token", "list"]).ok().contains("\tci\t"));
    assert!(world.run(0, &["audit", "show", "stops"]).ok().contains("retried task"));
    let frame = world.run(0, &["top", "--once"]).ok();
    assert!(frame.contains("new 3  ready 5  running 6  done 39"), "{frame}");
}

/// What was approved must not become another plan by an upgrade: it would have to be approved again.
#[test]
fn every_task_is_planned_as_it_was() {
    let world = witness();
    // The key that the plans name is on this machine no more; whoever has an agent may do without.
    let settings = fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &settings.replace("agent = false", "agent = true"));
    // Their templates were edited or taken away after they had been planned.
    let edited = |old: &Value| ["moving", "gone"].contains(&old["task"]["name"].as_str().unwrap());
    for old in expected("show").into_iter().filter(|old| !edited(old)) {
        let id = old["task"]["id"].as_u64().unwrap();
        let accepted = &world.events(id)[0];
        let file = world.scratch().join(format!("{id}.json"));
        fs::write(&file, accepted["submission"].as_str().unwrap()).unwrap();
        let said = world.run(0, &["--json", "plan", file.to_str().unwrap()]);
        let planned: Value = serde_json::from_str(&said.ok()).unwrap();
        assert_eq!(planned["digest"], old["task"]["digest"], "task {id}, {}", old["task"]["name"]);
    }
}

#[test]
fn everything_that_was_recorded_is_still_proved() {
    let world = witness();
    let head = read(&data().join("expected.json"))["audit_head"].as_str().unwrap().to_owned();
    let verified: Value =
        serde_json::from_str(&world.run(0, &["--json", "audit", "verify", "--head", &head]).ok()).unwrap();
    assert_eq!((&verified["head"], &verified["cuts"]), (&json!(head), &json!([])), "{verified}");
    assert_eq!(verified["tasks"], expected("ls").len());
    // What is changed in an old line is found, although the older version noted no dropped files there.
    let history = world.state().join("history.jsonl");
    let lines = fs::read_to_string(&history).unwrap();
    let (first, rest) = lines.split_once('\n').unwrap();
    assert!(!lines.contains("\"drops\""));
    fs::write(&history, format!("{}\n{rest}", first.replace("\"outcome\":\"ok\"", "\"outcome\":\"failed\""))).unwrap();
    let said = world.run(0, &["audit", "verify"]);
    assert!(said.code == 4 && said.err.contains("history.jsonl: expected /outcome: \"ok\""), "{said:?}");
}

#[test]
fn the_daemon_goes_on_with_what_waited_and_ran() {
    let mut world = witness();
    world.start();
    let task = |name: &str| number(name);

    // What waited for approval.
    for (who, name) in [(BOB, "untouched"), (0, "half-approved"), (BOB, "new-plan")] {
        world.approve(who, task(name)).ok();
        assert_eq!(world.record(task(name))["outcome"], "ok", "{name}");
    }
    assert!(world.run(0, &["logs", "new-plan"]).ok().contains("third"));
    // What was approved, and whose time came while no daemon ran.
    assert_eq!(world.record(task("late-run"))["outcome"], "ok");
    assert_eq!(world.record(task("late-expire"))["outcome"], "expired");
    for name in ["late-hold", "held-ready"] {
        event(&world, task(name), "held");
        world.run(0, &["release", name]).ok();
    }
    assert_eq!(world.record(task("late-hold"))["outcome"], "ok");
    assert_eq!(world.record(task("held-ready"))["outcome"], "ok");
    // What is not due goes on waiting.
    world.stands(task("in-2099"), "ready");
    assert!(world.events(task("in-2099")).iter().all(|event| event["event"] != "stale"));

    // What ran: it waits for a person, ...
    world.run(0, &["continue", "at-gate"]).ok();
    assert_eq!(world.record(task("at-gate"))["outcome"], "ok");
    world.run(0, &["release", "at-hand", "switch"]).ok();
    assert_eq!(world.record(task("at-hand"))["outcome"], "ok");
    // ... it ended on its host meanwhile, which still knows how, ...
    let ended = world.record(task("ends-alone"));
    assert_eq!((&ended["outcome"], &ended["results"]["h4"][0]["exit_code"]), (&json!("failed"), &json!(4)), "{ended}");
    let said = world.run(0, &["logs", "ends-alone"]).ok();
    assert!(said.contains("begun") && said.contains("gone on"), "{said}");
    // ... it has a next step, which after so long a time waits for a person, ...
    event(&world, task("goes-on-alone"), "held");
    event(&world, task("goes-on-alone"), "step_ended");
    world.run(0, &["release", "goes-on-alone"]).ok();
    assert_eq!(world.record(task("goes-on-alone"))["outcome"], "ok");
    // ... its host forgot it: nobody knows how it ended, and it is not begun again, ...
    assert_eq!(world.record(task("forgotten"))["outcome"], "lost");
    // ... or is out of reach: it is asked on and on.
    world.stands(task("out-of-reach"), "running");

    // What was submitted once stays that task, and numbers go on.
    let keyed = task("keyed");
    let bytes = world.events(keyed)[0]["submission"].as_str().unwrap().to_owned();
    let submit = |name: &str, text: &str| {
        fs::write(world.scratch().join(name), text).unwrap();
        world.run(0, &["--json", "submit", world.scratch().join(name).to_str().unwrap()])
    };
    let id = |said: Said| serde_json::from_str::<Value>(&said.ok()).unwrap()["id"].as_u64().unwrap();
    assert_eq!(id(submit("again.json", &bytes)), keyed);
    assert_eq!(submit("other.json", &bytes.replace("true", "false")).code, 5);
    assert_eq!(id(submit("next.json", &bytes.replace("nightly-7", "nightly-8"))), expected("ls").len() as u64 + 1);
    // A failure of then is tried again now, on the approval of then.
    world.run(0, &["retry", "timed-out", "--reason", "with the new version"]).ok();
    wait_for("its second end", || {
        let ends = world.events(task("timed-out")).iter().filter(|event| event["event"] == "closed").count();
        (ends == 2).then_some(())
    });
    let verified: Value = serde_json::from_str(&world.run(0, &["--json", "audit", "verify"]).ok()).unwrap();
    assert_eq!(verified["cuts"], json!([]), "no line of the old audit is missed");

    // The older version noted no dropped files in its history. A line of today that lost them is found all the same.
    let history = world.state().join("history.jsonl");
    let lines = fs::read_to_string(&history).unwrap();
    let line = lines.lines().rfind(|line| line.contains("\"drops\":[")).unwrap();
    let without = &line[..line.find(",\"drops\":[").unwrap()];
    world.kill_daemon();
    fs::write(&history, lines.replace(line, &format!("{without}}}"))).unwrap();
    let said = world.run(0, &["audit", "verify"]);
    assert!(said.code == 4 && said.err.contains("history.jsonl: expected /drops: "), "{said:?}");
}

/// An upgrade is a stop, an installation and a start: nothing of what ran is late then.
#[test]
fn after_a_short_stop_what_ran_goes_on_by_itself() {
    let mut world = witness();
    fs::write(world.state().join(".seen"), spoolgate::shells::clock::now().to_string()).unwrap();
    world.start();
    assert_eq!(world.record(number("goes-on-alone"))["outcome"], "ok");
    assert!(world.events(number("goes-on-alone")).iter().all(|event| event["event"] != "held"));
    assert_eq!(world.record(number("ends-alone"))["outcome"], "failed");
    assert_eq!(world.record(number("forgotten"))["outcome"], "lost");
}
