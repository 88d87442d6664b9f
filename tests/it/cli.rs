//! The command line: what it prints, and how it ends.

use serde_json::{Value, json};

use crate::dashboard::Screen;
use crate::world::{ALICE, BOB, EVE, World, wait_for};

/// A task that a world without hosts in particular takes.
const TASK: &str = r#"{"task_name":"t","temp_id":"hello","hosts":{"1":["h1"]}}"#;

fn local() -> World {
    let world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.h1]\nconnection = \"local\"\n[host.h2]\nconnection = \"local\"\n");
    world
}

/// Writes a file that is no part of the spool, and returns its path.
fn file(world: &World, name: &str, text: &str) -> String {
    let path = world.etc().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_name_that_no_task_can_have_is_refused_before_anything_is_written() {
    let mut world = local();
    world.start();
    let task = file(&world, "task.json", TASK);
    for name in ["a/b", "../a", "..", ".a", "a\u{7}b", "17", "", &"a".repeat(101)] {
        let said = world.run(ALICE, &["submit", "--name", name, &task]);
        assert!(said.code == 2 && said.err.contains("wanted a name"), "{name}: {said:?}");
    }
    let odd = file(&world, "two words.json", TASK);
    let said = world.run(ALICE, &["submit", &odd]);
    assert!(said.code == 2 && said.err.contains("--name"), "{said:?}");
    assert_eq!(world.run(ALICE, &["submit", "--name", "words", &odd]).ok().trim(), "1");
    // The ending is one, however often it stands there: a refusal is found too.
    assert_eq!(world.run(ALICE, &["submit", "--name", "a.json", &task]).ok().trim(), "2");
    assert_eq!(world.events(2)[0]["name"], "a.json");
    let said = world.run(
        ALICE,
        &["submit", "--ready", "--name", "b.json", &file(&world, "bad.json", &TASK.replace("h1", "nobody"))],
    );
    assert!(said.code == 5 && said.err.contains("nobody"), "{said:?}");
    assert_eq!(world.tasks().len(), 2);
}

#[test]
fn who_may_not_submit_reads_a_sentence_and_an_exit_code_of_its_own() {
    let mut world = local();
    world.start();
    let said = world.run(EVE, &["submit", "--name", "denied", &file(&world, "task.json", TASK)]);
    assert_eq!(said.code, 6, "{said:?}");
    let sentence =
        "no rule in policy.toml lets uid-61003 submit hello; try: spoolgate policy explain uid-61003 submit FILE";
    assert!(said.err.contains(sentence) && !said.err.contains("wanted"), "{said:?}");
    assert_eq!(world.run(EVE, &["wait", "denied"]).code, 6);
    let both = world.run(EVE, &["submit", "--name", "both", &file(&world, "both.json", &TASK.replace("h1", "nobody"))]);
    assert!(
        both.code == 5 && both.err.contains("no rule in policy.toml lets") && both.err.contains("nobody"),
        "{both:?}"
    );
}

#[test]
fn a_step_that_no_host_has_is_said_to_be_none() {
    let mut world = local();
    world.start();
    let id = script(&world, "fails", "false");
    assert_eq!(world.record(id)["outcome"], "failed");
    let said = world.run(0, &["retry", &id.to_string(), "--from", "nostep"]);
    assert!(said.code == 6 && said.err.contains(&format!("task {id} has no step nostep; it has script")), "{said:?}");
    assert!(!said.err.contains("found retry"), "{said:?}");
}

#[test]
fn a_task_that_waits_for_a_busy_host_says_for_which_and_a_cancelled_batch_is_no_failure() {
    let mut world = local();
    world.start();
    let busy = script(&world, "busy", "while [ ! -e /proc/self/cwd/nothing ]; do sleep 0.1; done");
    wait_for("its step", || world.events(busy).iter().any(|event| event["event"] == "step_started").then_some(()));
    let waits = script(&world, "waits", "true");
    world.stands(waits, "ready");
    let shown = world.run(0, &["show", "waits"]).ok();
    assert!(shown.contains(&format!("waits for   h1, on which task {busy} is at work")), "{shown}");
    world.run(0, &["cancel", "busy", "--reason", "x"]).ok();
    assert_eq!(world.record(waits)["outcome"], "ok");
    let task = json!({"task_name": "t", "script": "true", "hosts": {"1": ["h1", "h2"]}, "batches": ["1", "1"], "batch_gate": true});
    world.drop_file("ready", "gated.json", task.to_string().as_bytes(), 0);
    let gated = world.task_of("gated");
    wait_for("the gate", || world.events(gated).iter().any(|event| event["event"] == "batch_waits").then_some(()));
    world.run(0, &["cancel", "gated", "--batch", "2", "--reason", "enough"]).ok();
    assert_eq!(world.record(gated)["outcome"], "cancelled");
    assert_eq!(world.run(0, &["wait", "gated"]).code, 10, "ended by a person, and nothing failed");
}

#[test]
fn a_refused_order_says_of_what_kind_the_refusal_is() {
    let mut world = local();
    world.start();
    world.drop_file("new", "t.json", TASK.as_bytes(), ALICE);
    let id = world.task_of("t");
    let digest = world.digest(id);
    let approve = |digest: &str| json!({"order": "approve", "task": id, "digest": digest}).to_string();
    let other = format!("sha256:{}", "0".repeat(64));
    for (name, uid, order, kind) in [
        ("other", BOB, approve(&other), "other_plan"),
        ("own", ALICE, approve(&digest), "not_allowed"),
        ("free", 0, json!({"order": "release", "task": id}).to_string(), "not_now"),
    ] {
        world.drop_file("orders", &format!("{name}.json"), order.as_bytes(), uid);
        let answer = wait_for(name, || {
            let ends = format!("/{name}.json");
            let names = |event: &Value| event["order"]["name"].as_str().is_some_and(|name| name.ends_with(&ends));
            world.events(id).into_iter().find(names)
        });
        assert_eq!((&answer["event"], &answer["kind"]), (&json!("order_refused"), &json!(kind)), "{answer:#}");
    }
    // The plan was another one when it was looked at: whoever compares it first, the command ends alike.
    world.write_etc("inventory/hosts.toml", "[host.h1]\nconnection = \"local\"\ntags = [\"new\"]\n");
    let said = world.run(BOB, &["approve", "t", "--digest", &digest]);
    assert!(said.code == 4 && said.err.contains("E-DIGEST"), "{said:?}");
}

#[test]
fn the_name_of_a_dropped_file_is_good_for_show_and_wait_whatever_became_of_it() {
    let mut world = local();
    world.start();
    world.drop_file("ready", "nightly.json", TASK.as_bytes(), 0);
    let id = world.task_of("nightly");
    let _ = world.run(0, &["wait", "nightly"]).ok();
    // The newest thing of a name is meant, also when it was refused.
    world.drop_file("ready", "nightly.json", b"{}", 0);
    for verb in ["wait", "show"] {
        let said = world.run(0, &[verb, "nightly"]);
        assert!(said.code == 5 && said.err.contains("/task_name"), "{said:?}");
        assert!(said.err.contains(&format!("spoolgate show {id}")), "{said:?}");
    }
    world.drop_file("new", "never.json", b"not JSON at all", 0);
    assert_eq!(world.run(0, &["wait", "never"]).code, 5);
    assert_eq!(world.run(0, &["wait", "nobody"]).code, 3);
    assert_eq!(world.run(0, &["show", "nobody"]).code, 3);
    let said = world.run(0, &["plan", "nobody"]);
    assert!(said.code == 3 && said.err.contains("no task nobody, and no file of that name"), "{said:?}");
    // A file of orders is no task, and another file's reasons are not this one's.
    world.drop_file("orders", "odd.json", b"{}", 0);
    world.drop_file("new", "other.1.json", b"{}", 0);
    wait_for("the refusals", || world.why("odd").and(world.why("other.1")));
    assert_eq!([world.run(0, &["wait", "odd"]).code, world.run(0, &["wait", "other"]).code], [3, 3]);
    // Without a daemon a file waits in its box, and whoever waits for it waits with it.
    world.kill_daemon();
    world.drop_file("ready", "later.json", TASK.as_bytes(), 0);
    let said = world.run(0, &["wait", "later", "--timeout", "0"]);
    assert!(said.code == 124 && said.err.contains("no daemon is running"), "{said:?}");
    assert_eq!(world.run(0, &["show", "later"]).code, 7);
    world.start();
    let said = world.run(0, &["wait", "later", "nightly"]);
    assert!(said.code == 5 && world.record(world.task_of("later"))["outcome"] == "ok", "{said:?}");
}

/// Runs a task of one script at once on both hosts, and returns its number.
fn script(world: &World, name: &str, script: &str) -> u64 {
    let task = json!({"task_name": name, "hosts": {"1": ["h1", "h2"]}, "script": script});
    world.drop_file("ready", &format!("{name}.json"), task.to_string().as_bytes(), 0);
    world.task_of(name)
}

fn row(world: &World, id: u64) -> Value {
    let listed: Value = serde_json::from_str(&world.run(0, &["--json", "ls"]).ok()).unwrap();
    listed["tasks"].as_array().unwrap().iter().find(|task| task["id"] == id).unwrap().clone()
}

#[test]
fn ls_counts_every_host_that_ended_and_says_what_is_held_in_the_zone_of_the_settings() {
    let mut world = local();
    world.start();
    let gate = world.etc().join("gate");
    let wait = format!("[ $SPOOLGATE_HOST = h2 ] || exit 3\nuntil [ -e {} ]; do sleep 0.05; done\n", gate.display());
    let id = script(&world, "half", &wait);
    wait_for("h1 to fail", || (row(&world, id)["hosts_ended"] == 1).then_some(()));
    let _ = world.run(0, &["hold", "half", "--reason", "lunch"]).ok();
    assert_eq!((&row(&world, id)["held"], &row(&world, id)["state"]), (&json!(true), &json!("running")));
    let listed = world.run(0, &["ls"]).ok();
    let line = listed.lines().find(|line| line.contains("half")).unwrap();
    assert!(line.contains("running, held ") && line.contains(" 1/2 ") && line.ends_with("+08:00"), "{listed}");
    let plain = world.run(0, &["ls", "--plain"]).ok();
    assert!(plain.lines().next().unwrap().ends_with("\theld\t") && plain.contains("Z\t"), "{plain}");
    let _ = world.run(0, &["release", "half"]).ok();
    std::fs::write(&gate, "").unwrap();
    world.record(id);
    world.drop_file("new", "no.json", TASK.as_bytes(), 0);
    let no = world.task_of("no");
    assert_eq!(row(&world, no)["held"], false);
    let _ = world.run(0, &["reject", "no", "--reason", "no"]).ok();
    world.record(no);
    let ended = |id| {
        wait_for("the history", || {
            row(&world, id)["outcome"].is_string().then(|| row(&world, id)["hosts_ended"].clone())
        })
    };
    assert_eq!(
        [ended(id), ended(no)],
        [json!(2), json!(0)],
        "a host that failed has ended, one that never began has not"
    );
    // Without settings that can be read there is UTC, and no failure.
    world.write_etc("spoolgate.toml", "time_zone = 3\n");
    assert!(world.run(0, &["ls"]).ok().contains("+00:00"));
}

#[test]
fn show_names_what_runs_and_calls_nothing_skipped_that_has_not_begun() {
    let mut world = local();
    world.write_etc(
        "templates/two.toml",
        "id = 70\nname = \"two\"\ntitle = \"t\"\n[[param]]\nname = \"GATE\"\n[[step]]\nname = \"first\"\nscript = 'until [ -e \"$GATE\" ]; do sleep 0.05; done; exit 1'\n[[step]]\nname = \"second\"\nscript = \"true\"\n",
    );
    world.start();
    let gate = world.etc().join("gate");
    let task = json!({"task_name": "t", "temp_id": "two", "hosts": {"1": ["h1", "h2"]}, "batches": [1, 1], "max_fail": 0, "args": {"GATE": gate}});
    world.drop_file("ready", "two.json", task.to_string().as_bytes(), 0);
    let id = world.task_of("two").to_string();
    let json = || serde_json::from_str::<Value>(&world.run(0, &["--json", "show", &id]).ok()).unwrap();
    let shown = wait_for("the first step", || Some(json()).filter(|shown| shown["results"][0]["step"] == "first"));
    let text = world.run(0, &["show", &id]).ok();
    assert!(
        text.contains("host h1 (group 1)  running first\n") && text.contains("1 host(s) waiting, h2 first"),
        "{text}"
    );
    assert!(!text.contains("skipped"), "{text}");
    for host in shown["results"].as_array().unwrap() {
        let outcomes = host["steps"].as_array().unwrap().iter().map(|step| &step["outcome"]);
        assert!(outcomes.chain([&host["outcome"]]).all(Value::is_null), "{host:#}");
    }
    std::fs::write(&gate, "").unwrap();
    world.record(id.parse().unwrap());
    let shown = json();
    let of = |n: usize| [&shown["results"][n]["outcome"], &shown["results"][n]["steps"][1]["outcome"]];
    assert_eq!([of(0), of(1)], [["failed", "skipped"], ["skipped", "skipped"]], "{shown:#}");
    let text = world.run(0, &["show", &id]).ok();
    assert!(text.contains("host h2 (group 1)  skipped\n") && !text.contains("waiting"), "{text}");
}

#[test]
fn a_directory_that_is_named_and_not_there_is_no_empty_one() {
    let world = local();
    let none = world.etc().join("none");
    let none = none.to_str().unwrap();
    for verb in [
        &["daemon"][..],
        &["hosts"],
        &["template", "check"],
        &["token", "list"],
        &["policy", "check"],
        &["top", "--once"],
    ] {
        let said = world.run(0, &[&["--config", none], verb].concat());
        assert!(said.code == 7 && said.err.contains(&format!("--config {none}: there is no such")), "{said:?}");
    }
    for verb in [&["audit", "verify"][..], &["audit", "tail"], &["ls"], &["gc", "--older-than", "9d"]] {
        let said = world.run(0, &[&["--state", none], verb].concat());
        assert!(said.code == 7 && said.err.contains(&format!("spoolgate --state {none} daemon")), "{said:?}");
    }
    let said = world.run(0, &["--state", &format!("{none}/state"), "daemon"]);
    assert!(said.code == 7 && said.err.contains("above it"), "{said:?}");
    // The default is not there before the first start, and then no chain holds.
    for verb in ["verify", "tail", "head"] {
        let said = world.run(0, &["audit", verb]);
        assert!(said.code == 7 && said.err.contains("the daemon makes it"), "{said:?}");
    }
    let _ = world.run(0, &["check", &file(&world, "task.json", TASK)]).ok();
}

#[test]
fn a_file_that_cannot_be_read_is_named_whoever_was_to_read_it() {
    let world = local();
    for args in [
        &["check", "no.json"][..],
        &["submit", "no.json"],
        &["plan", "no.json"],
        &["plan", "./no"],
        &["policy", "explain", "root", "approve", "no.json"],
        &["template", "check", "no.toml"],
    ] {
        let said = world.run(0, args);
        assert!(
            said.code == 5 && said.err.contains(&format!("cannot read {}", args.last().unwrap())),
            "{args:?}: {said:?}"
        );
    }
}

#[test]
fn policy_explain_judges_the_files_owner_and_sends_nobody_in_circles() {
    let world = local();
    let task = file(&world, "hello.json", TASK);
    let explain = |who: u32, act: &str| world.run(0, &["policy", "explain", &format!("uid-{who}"), act, &task]).ok();
    // The file is root's: of two people the one who did not write it may approve it.
    assert!(explain(ALICE, "approve").starts_with("yes: "), "{}", explain(ALICE, "approve"));
    std::os::unix::fs::chown(&task, Some(ALICE), None).unwrap();
    assert!(explain(ALICE, "approve").contains("two-person rule"));
    assert!(explain(ALICE, "submit").starts_with("yes: "));
    let no = explain(EVE, "cancel");
    assert!(no.starts_with("no: no rule in policy.toml lets") && !no.contains("try: "), "{no}");
    // Of a template alone a rule that looks at hosts says neither yes nor no.
    let policy = std::fs::read_to_string(world.etc().join("policy.toml")).unwrap();
    let prod = "[[submit]]\nwho = [\"uid-61003\"]\ntemplates = [\"*\"]\nenvironments = [\"prod\"]\ninto = [\"new\"]\n";
    world.write_etc("policy.toml", &(policy + prod));
    let of = |what: &str| world.run(0, &["policy", "explain", "uid-61003", "submit", what]).ok();
    assert!(of(&task).starts_with("no: "), "{}", of(&task));
    assert!(of("hello").starts_with("perhaps: ") && of("hello").contains("ask with a task file"), "{}", of("hello"));
    let help = world.run(0, &["policy", "explain", "--help"]).ok();
    assert!(help.contains("submit-ready, approve, reject, withdraw,") && help.contains("continue"), "{help}");
}

#[test]
fn logs_in_json_are_lines_with_their_places_and_a_name_that_is_not_there_is_not_found() {
    let mut world = local();
    world.start();
    let id = script(&world, "talk", "printf 'one\\n\\033[2Jtwo\\n'; echo oops >&2; printf rest\n");
    world.record(id);
    for (args, lines) in [
        (
            &["logs", "talk", "--host", "h1"][..],
            &[("err", "oops"), ("out", "one"), ("out", "rest"), ("out", "\u{1b}[2Jtwo")][..],
        ),
        (&["logs", "talk", "--host", "h1", "--stream", "err"], &[("err", "oops")]),
    ] {
        let said = world.run(0, &[&["--json"], args].concat()).ok();
        let mut found: Vec<(String, String)> = Vec::new();
        for line in said.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                (&line["task"], &line["host"], &line["attempt"]),
                (&json!(id), &json!("h1"), &json!(1)),
                "{line}"
            );
            assert!(line["step"].is_string() && line["group"] == 1, "{line}");
            found.push((line["stream"].as_str().unwrap().to_owned(), line["text"].as_str().unwrap().to_owned()));
        }
        found.sort();
        let mut wanted: Vec<(String, String)> = lines.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        wanted.sort();
        assert_eq!(found, wanted, "{said}");
    }
    for (args, what) in [(["--step", "nope"], "no step nope"), (["--host", "nope"], "no host nope")] {
        let said = world.run(0, &[&["logs", "talk", "-f"][..], &args].concat());
        assert!(said.code == 3 && said.err.contains(what), "{said:?}");
    }
    let said = world.run(0, &["--json", "show", "nobody"]);
    let error: Value = serde_json::from_str(said.err.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&error["error"]["code"], &error["error"]["exit"], said.code),
        (&json!("E-NOT-FOUND"), &json!(3), 3),
        "{error}"
    );
    assert_eq!(world.run(0, &["--json", "logs", "talk", "--raw"]).code, 2);
}

#[test]
fn the_dashboards_options_work_without_a_verb_too() {
    let mut world = local();
    world.start();
    let screen = Screen::open(&world, 0, (80, 24), "spoolgate --lang zh --readonly --ascii --theme mono");
    let shown = screen.shows("没有任务。");
    assert!(shown.contains("只读") && !shown.contains('─'), "{shown}");
    let frame = world.run(0, &["--lang", "zh", "top", "--once", "--size", "80x24"]).ok();
    assert!(frame.contains("没有任务。"), "{frame}");
    let frame = world.run(0, &["--lang", "zh", "top", "--once", "--size", "80x24", "--lang", "en"]).ok();
    assert!(!frame.contains("没有任务。"), "{frame}");
    let said = world.run(0, &["--lang", "zh", "ls"]);
    assert!(said.code == 2 && said.err.contains("--lang is for the dashboard"), "{said:?}");
}

#[test]
fn a_token_is_made_once_under_a_name() {
    let world = local();
    let create = || world.run(0, &["token", "create", "ci", "--templates", "*"]);
    let _ = create().ok();
    let said = create();
    assert!(said.code == 2 && said.err.contains("E-USAGE: there is a token ci already"), "{said:?}");
}

#[test]
fn whatever_goes_wrong_is_json_where_json_is_wanted() {
    let mut world = local();
    world.start();
    for args in [&["--json", "hold", "1"][..], &["--json", "frobnicate"], &["ls", "--json", "--in", "nowhere"]] {
        let said = world.run(0, args);
        let error: Value = serde_json::from_str(said.err.lines().last().unwrap()).unwrap();
        assert_eq!((said.code, &error["error"]["code"]), (2, &json!("E-USAGE")), "{args:?}: {error}");
    }
    let good = file(
        &world,
        "good.toml",
        "id = 7\nname = \"good\"\ntitle = \"g\"\n[[step]]\nname = \"a\"\nscript = \"true\\n\"\n",
    );
    let said: Value = serde_json::from_str(&world.run(0, &["--json", "template", "check", &good]).ok()).unwrap();
    assert_eq!((&said["checked"][0]["name"], &said["checked"][0]["steps"]), (&json!("good"), &json!(1)), "{said}");
    let said: Value = serde_json::from_str(&world.run(0, &["--json", "template", "check"]).ok()).unwrap();
    assert!(said["templates"].as_u64().unwrap() > 0, "{said}");
}

#[test]
fn a_task_that_failed_says_where_and_why_and_one_that_is_retried_runs() {
    let mut world = local();
    world.start();
    let gate = world.etc().join("gate");
    let text = "printf '10%%\\r100%%\\r\\n'; printf 'half'; echo WARN >&2; echo ' line'\n".to_owned();
    let text = text + &format!("[ -e {0} ] || exit 3\nuntil [ -e {0}.end ]; do sleep 0.05; done\n", gate.display());
    let id = script(&world, "flaky", &text);
    for args in [&["wait", "flaky"][..], &["logs", "-f", "flaky"], &["watch", "flaky"]] {
        let said = world.run(0, args);
        assert_eq!(said.code, 8, "{said:?}");
        assert!(said.err.contains("ended: failed\n  h1: script exit 3\n  h2: script exit 3\n"), "{said:?}");
    }
    let logs = world.run(0, &["logs", "flaky", "--host", "h1", "--step", "script"]).ok();
    let mut lines: Vec<&str> = logs.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["100%", "WARN", "half line"], "{logs:?}");
    // Times are those of the settings.
    let shown = world.run(0, &["show", "flaky"]).ok();
    assert!(shown.contains("+08:00") && !shown.contains("Z "), "{shown}");
    std::fs::write(&gate, "").unwrap();
    let _ = world.run(0, &["retry", "flaky"]).ok();
    wait_for("it to run again", || {
        let row = row(&world, id);
        (row["state"] == "running" && row["outcome"].is_null()).then_some(())
    });
    let listed = world.run(0, &["ls"]).ok();
    let line = listed.lines().find(|line| line.contains("flaky")).unwrap();
    assert!(line.contains("running") && !line.contains("failed"), "{listed}");
    std::fs::write(world.etc().join("gate.end"), "").unwrap();
    wait_for("the end", || (row(&world, id)["outcome"] == "ok").then_some(()));
}
