//! What is recorded cannot be changed without `audit verify` naming it, and what is shown is computed from the steps.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::patience::InTime as _;
use crate::world::{ALICE, BOB, World, wait_for};

/// A world with a local host, a task that ended well, one that failed and was tried again, and one that waits.
fn world() -> (World, u64, u64, u64) {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    let template = "id = 90\nname = \"noisy\"\ntitle = \"t\"\n[[step]]\nname = \"say\"\nscript = \"echo one; echo two >&2\"\n\
                    [[step]]\nname = \"hush\"\nscript = \"true\"\n";
    world.write_etc("templates/noisy.toml", template);
    world.start();
    let drop_task = |name: &str, drop_box: &str, uid: u32, task: Value| {
        world.drop_file(drop_box, &format!("{name}.json"), task.to_string().as_bytes(), uid);
        world.task_of(name)
    };
    let good =
        drop_task("good", "ready", 0, json!({"task_name": "good", "temp_id": "noisy", "hosts": {"1": ["here"]}}));
    let script = "echo failed $SPOOLGATE_TASK; exit 3";
    let bad = drop_task("bad", "ready", 0, json!({"task_name": "bad", "script": script, "hosts": {"1": ["here"]}}));
    let waits =
        drop_task("waits", "new", ALICE, json!({"task_name": "waits", "temp_id": "noisy", "hosts": {"1": ["here"]}}));
    assert_eq!((&world.record(good)["outcome"], &world.record(bad)["outcome"]), (&json!("ok"), &json!("failed")));
    world.run(0, &["retry", &bad.to_string()]).ok();
    wait_for("the second end", || {
        let acts = world.try_record(bad)?["acts"].as_array()?.len();
        (acts == 5).then_some(())
    });
    (world, good, bad, waits)
}

/// Edits a file, or removes it where the edit says nothing.
fn edit(path: &Path, change: impl Fn(&str) -> Option<String>) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    match change(&text) {
        Some(other) => {
            assert_ne!(other, text, "{} is edited", path.display());
            std::fs::write(path, other).unwrap();
        }
        None => std::fs::remove_file(path).unwrap(),
    }
}

/// An edit, and what is said of it.
type Case = (&'static str, PathBuf, Box<dyn Fn(&str) -> Option<String>>, &'static str);

#[expect(clippy::too_many_lines, reason = "a table of edits, one beside the other")]
fn cases(state: &Path, good: u64, bad: u64, waits: u64) -> Vec<Case> {
    let run = |id: u64, rest: &str| state.join(format!("runs/{id}/{rest}"));
    let done = |id: u64| state.join(format!("spool/done/{id}.json"));
    let history = || state.join("history.jsonl");
    let replace = |from: &'static str, to: &'static str| move |text: &str| Some(text.replacen(from, to, 1));
    let boxed = |change: fn(&str) -> Option<String>| Box::new(change) as Box<dyn Fn(&str) -> Option<String>>;
    let last_line = |text: &str| text.lines().last().unwrap().to_owned() + "\n";
    vec![
        (
            "a record's outcome",
            done(bad),
            Box::new(replace("\"failed\"", "\"ok\"")),
            "expected /outcome: \"failed\", found \"ok\"",
        ),
        ("a record's approver", done(good), Box::new(replace("\"by\"", "\"buy\"")), "expected no /acts"),
        (
            "a field more",
            done(good),
            Box::new(replace("{", "{\n  \"approved_by\": \"root\",")),
            "expected no /approved_by, found",
        ),
        (
            "a field twice",
            done(good),
            Box::new(replace("{", "{\n  \"outcome\": \"lost\",")),
            "expected the bytes that the daemon wrote",
        ),
        (
            "a record's space",
            done(good),
            boxed(|text| Some(text.to_owned() + "\n")),
            "expected the bytes that the daemon wrote",
        ),
        ("no record", done(bad), boxed(|_| None), "expected the record of task 2, found no file"),
        (
            "a record of nobody",
            done(77),
            boxed(|_| Some("{}".to_owned())),
            "expected the journal of task 77, found no file",
        ),
        (
            "a record too soon",
            done(waits),
            boxed(|_| Some("{}".to_owned())),
            "expected no record: task 3 is new, found a file",
        ),
        (
            "the history's outcome",
            history(),
            Box::new(replace("\"outcome\":\"failed\"", "\"outcome\":\"ok\"")),
            "history.jsonl: expected /outcome",
        ),
        (
            "the history's acts",
            history(),
            Box::new(replace("\"acts\":3", "\"acts\":1")),
            "history.jsonl: expected /acts: 3, found 1",
        ),
        (
            "half a history",
            history(),
            boxed(|text| Some(text.split_inclusive('\n').skip(1).collect())),
            "expected a line of task",
        ),
        ("no history", history(), boxed(|_| None), "expected a line of task 1: it has ended, found none"),
        (
            "a line more",
            history(),
            Box::new(move |text: &str| Some(text.to_owned() + &last_line(text).replace("\"id\":2", "\"id\":78"))),
            "expected the journal of task 78",
        ),
        (
            "noise in the history",
            history(),
            boxed(|text| Some(text.to_owned() + "noise\n")),
            "history.jsonl: expected lines of tasks that have ended",
        ),
        (
            "an old end last",
            history(),
            boxed(|text| {
                let first = text.lines().find(|line| line.contains("\"id\":2,")).unwrap();
                Some(format!("{text}{first}\n"))
            }),
            "expected the last end of task 2 in its last line",
        ),
        (
            "a log's bytes",
            run(good, "output/here/say.log"),
            Box::new(replace("one", "on3")),
            "say.log: expected sha256:",
        ),
        (
            "a log's end",
            run(good, "output/here/say.log"),
            boxed(|text| Some(text[..5].to_owned())),
            "of 8 byte(s), found sha256:",
        ),
        ("no log", run(bad, "output/here/script.log"), boxed(|_| None), "script.log: expected sha256:"),
        (
            "an earlier log",
            run(bad, "output/here/script@2.log"),
            Box::new(replace("failed", "passed")),
            "script@2.log: expected sha256:",
        ),
        (
            "words of a silent step",
            run(good, "output/here/hush.log"),
            boxed(|_| Some("all is well\n".to_owned())),
            "expected nothing: it printed nothing, found 12 byte(s)",
        ),
        ("a plan", run(good, "plan.json"), Box::new(replace("echo one", "echo 0ne")), "plan.json: expected sha256:"),
        ("no plan", run(good, "plan.json"), boxed(|_| None), "plan.json: expected sha256:"),
        (
            "a plan that waits",
            run(waits, "plan.json"),
            Box::new(replace("echo one", "echo 0ne")),
            "plan.json: expected sha256:",
        ),
        (
            "a result",
            run(bad, "events.jsonl"),
            Box::new(replace("\"exit\":3", "\"exit\":0")),
            "events.jsonl: expected sha256:",
        ),
        (
            "a journal's end",
            run(good, "events.jsonl"),
            boxed(|text| Some(text.lines().take(3).map(|line| line.to_owned() + "\n").collect())),
            "found fewer than",
        ),
        (
            "more after the end",
            run(good, "events.jsonl"),
            Box::new(move |text: &str| Some(text.to_owned() + &last_line(text))),
            "expected nothing after the task's end, found 1 more event(s)",
        ),
        ("no journal", run(good, "events.jsonl"), boxed(|_| None), "expected the journal of task 1, found no file"),
        (
            "a view",
            state.join(format!("spool/new/{waits}.json")),
            Box::new(replace("\"uid-61001\"", "\"uid-61002\"")),
            "expected /submitter/user",
        ),
        (
            "no view",
            state.join(format!("spool/new/{waits}.json")),
            boxed(|_| None),
            "expected the view of task 3, found no file",
        ),
    ]
}

#[test]
fn whatever_is_changed_of_what_is_recorded_is_named_with_what_was_expected() {
    let (mut world, good, bad, waits) = world();
    let said = world.run(0, &["audit", "verify"]).ok();
    assert!(said.contains("every link holds") && said.contains("3 task(s)") && said.contains("3 log(s)"), "{said}");
    // A daemon that runs is given time to write what it has begun; it writes nothing here.
    world.kill_daemon();
    for (what, path, change, wanted) in cases(&world.state(), good, bad, waits) {
        let whole = std::fs::read(&path).ok();
        edit(&path, change);
        let said = world.run(0, &["audit", "verify"]);
        assert!(said.code == 4 && said.err.contains(wanted), "{what}: {said:?}");
        assert!(said.err.contains(": expected ") && said.err.contains(", found "), "{what}: {said:?}");
        let json = world.run(0, &["audit", "verify", "--json"]);
        let value: Value = serde_json::from_str(&json.out).unwrap();
        let first = &value["findings"][0];
        assert!(json.code == 4 && value["ok"] == false && first["file"].is_string(), "{what}: {json:?}");
        world.run(0, &["audit", "verify", "--only-chain"]).ok();
        match whole {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
    }
    // A whole task that is gone.
    let (run, aside) = (world.state().join(format!("runs/{good}")), world.state().join("aside"));
    std::fs::rename(&run, &aside).unwrap();
    let said = world.run(0, &["audit", "verify"]);
    assert!(said.code == 4 && said.err.contains("expected the journal of task 1, found no file"), "{said:?}");
    std::fs::rename(&aside, &run).unwrap();
    let said = world.run(BOB, &["audit", "verify"]).ok();
    assert!(said.contains("are what was recorded"), "{said}");
    // It is the same while a daemon runs, which is not blamed for what it has not written yet.
    world.start();
    world.run(0, &["audit", "verify"]).ok();
    std::fs::remove_file(run.join("output/here/say.log")).unwrap();
    assert_eq!(world.run(0, &["audit", "verify"]).code, 4);
}

#[test]
fn an_end_that_the_steps_did_not_come_to_is_not_believed() {
    let (mut world, good, bad, waits) = world();
    world.run(BOB, &["reject", &waits.to_string(), "--reason", "no"]).ok();
    world.record(waits);
    world.run(0, &["audit", "verify"]).ok();
    world.kill_daemon();
    for (id, from, to, code) in [(bad, "failed", "ok", 8), (good, "ok", "failed", 4), (waits, "rejected", "ok", 10)] {
        let path = world.state().join(format!("runs/{id}/events.jsonl"));
        let closed = |outcome: &str| format!("\"event\":\"closed\",\"outcome\":\"{outcome}\"");
        let text = std::fs::read_to_string(&path).unwrap();
        let at = text.rfind(&closed(from)).unwrap();
        std::fs::write(&path, format!("{}{}", &text[..at], text[at..].replacen(&closed(from), &closed(to), 1)))
            .unwrap();
        let word = id.to_string();
        let wanted = format!("task {id} ended {from} by its steps, and its last event says {to}");
        let waited = world.run(0, &["wait", &word]);
        assert!(waited.code == code && waited.err.contains(&wanted), "{waited:?}");
        let shown = world.run(0, &["show", &word]).ok();
        assert!(shown.contains(&format!("state       {from}")) && shown.contains(&wanted), "{shown}");
        let shown: Value = serde_json::from_str(&world.run(0, &["show", &word, "--json"]).ok()).unwrap();
        assert_eq!((&shown["outcome"], &shown["contradicted"]), (&json!(from), &json!(to)));
        assert_eq!(world.run(0, &["audit", "verify"]).code, 4);
        std::fs::write(&path, text).unwrap();
        assert_ne!(world.run(0, &["wait", &word]).code, 4);
    }
    world.run(0, &["audit", "verify"]).ok();
}

#[test]
fn output_that_gc_removed_is_known_to_be_gone_and_what_is_lost_is_not() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    let library = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
        .map(|dir| PathBuf::from(dir).join("faketime/libfaketimeMT.so.1"));
    let library = library.into_iter().find(|path| path.exists()).expect("faketime is installed (.ci/install)");
    world.environment = vec![
        ("LD_PRELOAD".into(), library.into()),
        ("FAKETIME".into(), "-3d".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
        ("NO_FAKE_STAT".into(), "1".into()),
    ];
    world.start();
    let task = |name: &str| {
        let text = json!({"task_name": name, "script": "echo words", "hosts": {"1": ["here"]}}).to_string();
        world.drop_file("ready", &format!("{name}.json"), text.as_bytes(), 0);
        let id = world.task_of(name);
        world.record(id);
        id
    };
    let (old, _) = (task("old"), task("older"));
    world.run(0, &["audit", "verify"]).ok();
    world.kill_daemon();
    let output = world.state().join(format!("runs/{old}/output"));
    let aside = world.state().join("aside");
    std::fs::rename(&output, &aside).unwrap();
    let said = world.run(0, &["audit", "verify"]);
    assert!(said.code == 4 && said.err.contains("expected sha256:") && said.err.contains("found no file"), "{said:?}");
    std::fs::rename(&aside, &output).unwrap();
    world.run(0, &["gc", "--older-than", "2d"]).ok();
    assert!(!output.exists());
    let said = world.run(0, &["audit", "verify"]).ok();
    assert!(said.contains("2 more log(s) were removed by gc"), "{said}");
}

#[test]
fn a_log_that_is_not_what_was_recorded_is_never_shown_as_if_it_were() {
    let (world, good, bad, _) = world();
    let (good, bad) = (good.to_string(), bad.to_string());
    let logs = |args: &[&str]| world.run(0, &[&["logs"], args].concat());
    assert!(logs(&[&good]).ok().contains("one"));
    let path = world.state().join(format!("runs/{good}/output/here/say.log"));
    let whole = std::fs::read(&path).unwrap();
    let cases: [(&str, &dyn Fn()); 4] = [
        ("gone", &|| std::fs::remove_file(&path).unwrap()),
        ("empty", &|| std::fs::write(&path, "").unwrap()),
        ("cut", &|| std::fs::write(&path, &whole[..3]).unwrap()),
        ("other words", &|| std::fs::write(&path, "on3\ntwo\n").unwrap()),
    ];
    for (what, change) in cases {
        change();
        for args in [&[&*good][..], &[&good, "--raw"], &[&good, "--json"], &[&good, "--step", "say", "--stream", "out"]]
        {
            let said = logs(args);
            assert!(said.code == 4 && said.err.contains("say.log: this is not what was recorded"), "{what}: {said:?}");
        }
        assert_eq!(logs(&[&good, "--follow"]).code, 4, "{what}");
        logs(&[&good, "--step", "hush"]).ok();
        std::fs::write(&path, &whole).unwrap();
    }
    assert!(logs(&[&good, "--follow"]).ok().contains("two"));
    // A task that failed ends the command with its own code, and both are said.
    assert_eq!(logs(&[&bad, "--follow"]).code, 8);
    assert_eq!(logs(&[&bad]).ok().matches("failed").count(), 2, "both attempts are compared");
}

#[test]
fn a_task_is_found_by_its_name_without_a_look_at_those_that_have_ended() {
    let (world, good, _, waits) = world();
    wait_for("the history", || {
        let lines = std::fs::read_to_string(world.state().join("history.jsonl")).ok()?;
        (lines.lines().count() >= 4).then_some(())
    });
    // Whoever opened these would wait for ever.
    let fifo = |path: PathBuf| {
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    };
    let run = world.state().join("runs/2");
    fifo(run.join("plan.json"));
    fifo(run.join("events.jsonl"));
    let limited = |args: &[&str]| {
        let output = std::process::Command::new("timeout")
            .args(["20", env!("CARGO_BIN_EXE_spoolgate")])
            .args(args)
            .env("SPOOLGATE_CONFIG", world.etc())
            .env("SPOOLGATE_STATE", world.state())
            .output_in_time()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for (name, id) in [("good", good), ("waits", waits)] {
        let (code, out) = limited(&["show", name]);
        assert!(code == Some(0) && out.starts_with(&format!("task {id} ")), "{code:?} {out}");
    }
    assert_eq!(limited(&["show", "nobody"]).0, Some(3));
    let (code, out) = limited(&["ls"]);
    assert!(code == Some(0) && out.contains("bad") && out.contains("good"), "{code:?} {out}");
}
