//! The main job on real parts: files dropped by real users, a real daemon, real sshd hosts, the real record.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use serde_json::{Value, json};

use crate::patience::InTime as _;
use crate::sshd::Sshd;
use crate::world::{ALICE, BOB, EVE, World, someone_runs, wait_for};

const SEED_000: &[u8] = include_bytes!("../data/seeds/000_example3.json");
const SEED_002: &[u8] = include_bytes!("../data/seeds/002_custom.json");
const SEED_004: &[u8] = include_bytes!("../data/seeds/004_task_add.json");

fn ten_hosts() -> Vec<(String, String)> {
    (1..=10).map(|n| (format!("web{n}"), format!("127.0.1.{n}"))).collect()
}

fn borrowed(hosts: &[(String, String)]) -> Vec<(&str, &str)> {
    hosts.iter().map(|(name, address)| (name.as_str(), address.as_str())).collect()
}

#[test]
fn the_seeds_become_tasks_byte_for_byte() {
    let mut world = World::new(
        &[("seed0", "172.16.0.101"), ("seed2", "127.0.0.1"), ("seed4a", "192.168.3.200"), ("seed4b", "192.168.3.201")],
        None,
    );
    world.start();
    for (name, bytes, hosts) in [("seed000", SEED_000, 1), ("seed002", SEED_002, 1), ("seed004", SEED_004, 2)] {
        // Plain `cp`, as a person would.
        let source = world.etc().join(format!("{name}.json"));
        std::fs::write(&source, bytes).unwrap();
        let target = world.box_dir("new").join(format!("{name}.json"));
        assert!(std::process::Command::new("cp").args([&source, &target]).status_in_time().unwrap().success());
        let id = world.task_of(name);
        assert_eq!(world.standing(id), ["new"], "dropped into new/, so it waits for approval");
        let plan: Value =
            serde_json::from_slice(&std::fs::read(world.state().join(format!("runs/{id}/plan.json"))).unwrap())
                .unwrap();
        assert_eq!(plan["hosts"].as_object().unwrap().len(), hosts);
        wait_for("the dropped file to be removed", || (!target.exists()).then_some(()));
    }
    let events = world.events(world.task_of("seed000"));
    assert_eq!(events[0]["claims"]["submitter"], "yanghongfei");
    assert_eq!(events[0]["submission"].as_str().unwrap().as_bytes(), SEED_000);
}

#[test]
fn a_seed_dropped_into_ready_runs_at_once_because_its_time_has_passed() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("seed0", "127.0.1.9")], Some(&sshd));
    world.start();
    let seed = String::from_utf8(SEED_000.to_vec()).unwrap().replace("172.16.0.101", "127.0.1.9");
    world.drop_file("ready", "seed.json", seed.as_bytes(), 0);
    let id = world.task_of("seed");
    let record = world.record(id);
    assert_eq!(record["outcome"], "ok", "{record:#}");
    let log = world.run(0, &["logs", &id.to_string()]).ok();
    assert!(log.contains("你可以看到我这次传入的参数是VERSION"), "{log}");
}

#[test]
fn a_file_written_slowly_becomes_one_task() {
    use std::io::Write as _;
    let mut world = World::new(&[("web1", "127.0.1.1")], None);
    world.start();
    let text = br#"{"task_name": "slow", "temp_id": "1", "hosts": {"1": ["web1"]}}"#;
    let path = world.box_dir("new").join("slow.json");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&text[..20]).unwrap();
    file.sync_all().unwrap();
    // The point of the test is the writer's pause, so time has to pass.
    std::thread::park_timeout(Duration::from_secs(3));
    assert!(path.exists(), "a half-written file was taken away");
    assert!(world.tasks().is_empty(), "a half-written file was read as a task");
    file.write_all(&text[20..]).unwrap();
    drop(file);
    world.task_of("slow");
    wait_for("the file to be taken", || (!path.exists()).then_some(()));
    assert_eq!(world.tasks().len(), 1);
    assert!(world.why("slow").is_none());
}

#[test]
fn a_thousand_files_renamed_in_at_once_become_a_thousand_tasks() {
    let mut world = World::new(&[("web1", "127.0.1.1")], None);
    world.start();
    let staged = world.state().join("spool/staged");
    std::fs::create_dir(&staged).unwrap();
    for n in 1..=1000 {
        let text = json!({"task_name": format!("burst {n}"), "temp_id": 1, "hosts": {"1": ["web1"]}});
        std::fs::write(staged.join(format!("{n}.json")), text.to_string()).unwrap();
    }
    // Names made of digits only are the hardest: the daemon's own files are called so too.
    for n in 1..=1000 {
        std::fs::rename(staged.join(format!("{n}.json")), world.box_dir("new").join(format!("{n}.json"))).unwrap();
    }
    let runs = || std::fs::read_dir(world.state().join("runs")).unwrap().count();
    wait_for("1,000 tasks", || (runs() >= 1000).then_some(()));
    let tasks = world.tasks();
    assert_eq!(tasks.len(), 1000);
    let mut names: Vec<u32> = tasks
        .iter()
        .map(|(_, events)| {
            let submission: Value = serde_json::from_str(events[0]["submission"].as_str().unwrap()).unwrap();
            submission["task_name"].as_str().unwrap().strip_prefix("burst ").unwrap().parse().unwrap()
        })
        .collect();
    names.sort_unstable();
    assert_eq!(names, (1..=1000).collect::<Vec<_>>(), "a drop was lost or taken twice");
    wait_for("every file to stand in new/", || (1..=1000).all(|id| world.standing(id) == ["new"]).then_some(()));
    assert!(std::fs::read_dir(world.box_dir("bad")).unwrap().next().is_none());
}

#[test]
fn who_submitted_is_the_files_owner_whatever_the_file_says() {
    let mut world = World::new(&[("web1", "127.0.1.1")], None);
    world.start();
    let text = br#"{"task_name": "t", "temp_id": 1, "hosts": {"1": ["web1"]}, "submitter": "root"}"#;
    world.drop_file("new", "forged.json", text, ALICE);
    let accepted = &world.events(world.task_of("forged"))[0];
    assert_eq!(accepted["by"], json!({"uid": ALICE, "user": "uid-61001"}));
    assert_eq!(accepted["claims"]["submitter"], "root");
    let shown = world.run(ALICE, &["show", "forged"]).ok();
    assert!(shown.contains("uid-61001") && shown.contains("claim"), "{shown}");
}

#[test]
fn whatever_cannot_be_a_task_ends_in_bad_with_every_reason() {
    let mut world = World::new(&[("web1", "127.0.1.1")], None);
    world.start();
    let new = world.box_dir("new");
    let good = r#"{"task_name": "t", "temp_id": 1, "hosts": {"1": ["web1"]}}"#;
    let put = |name: &str, bytes: &[u8]| world.drop_file("new", &format!("{name}.json"), bytes, ALICE);
    std::fs::write(world.etc().join("target"), good).unwrap();
    symlink(world.etc().join("target"), new.join("symlink.json")).unwrap();
    let twin = world.box_dir("bad").with_file_name("twin");
    std::fs::write(&twin, good).unwrap();
    std::fs::hard_link(&twin, new.join("hardlink.json")).unwrap();
    nix::unistd::mkfifo(&new.join("fifo.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::create_dir(new.join("directory.json")).unwrap();
    put("empty", b"");
    let big = std::fs::File::create(new.join(".big")).unwrap();
    big.set_len(100 << 20).unwrap();
    std::fs::rename(new.join(".big"), new.join("big.json")).unwrap();
    put("utf8", b"{\"task_name\": \"\xff\"}");
    put("duplicate", br#"{"task_name": "t", "task_name": "u", "temp_id": 1, "hosts": {"1": ["web1"]}}"#);
    put("template", br#"{"task_name": "t", "temp_id": 777, "hosts": {"1": ["web1"]}}"#);
    put("host", br#"{"task_name": "t", "temp_id": 1, "hosts": {"1": ["nowhere"]}}"#);
    put("injected", br#"{"task_name": "t", "temp_id": 1, "hosts": {"1": ["10.0.0.1;id"]}}"#);
    put("several", br#"{"task_nam": "t", "temp_id": 777, "hosts": {"0": ["a b"]}, "exec_time": "soon"}"#);
    world.drop_file("new", "stranger.json", good.as_bytes(), EVE);
    let open = new.join(".open");
    std::fs::write(&open, good).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o666)).unwrap();
    std::fs::rename(&open, new.join("writable.json")).unwrap();
    for (name, word) in [
        ("symlink", "link"),
        ("hardlink", "link"),
        ("fifo", "regular"),
        ("directory", "regular"),
        ("empty", "empty"),
        ("big", "bytes"),
        ("utf8", "UTF-8"),
        ("duplicate", "task_name"),
        ("template", "777"),
        ("host", "nowhere"),
        ("injected", "10.0.0.1;id"),
        ("several", "task_nam"),
        ("stranger", "uid-61003"),
        ("writable", "writable"),
    ] {
        let why = wait_for(&format!("{name}.why"), || world.why(name));
        assert!(why.to_string().contains(word), "{name}: {why:#}");
        assert!(std::fs::symlink_metadata(world.box_dir("bad").join(format!("{name}.json"))).is_ok(), "{name} is lost");
    }
    let several = world.why("several").unwrap();
    assert!(several["problems"].as_array().unwrap().len() >= 3, "{several:#}");
    put("afterwards", good.as_bytes());
    world.task_of("afterwards");
    assert_eq!(world.tasks().len(), 1);
}

#[test]
fn somebody_else_approves_and_the_task_starts_at_its_time() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("web1", "127.0.1.1")], Some(&sshd));
    world.start();
    let start = spoolgate::shells::clock::now().plus_ms(4_000);
    let text = json!({"task_name": "timed", "temp_id": 1, "hosts": {"1": ["web1"]}, "exec_time": start.to_string()});
    world.drop_file("new", "timed.json", text.to_string().as_bytes(), ALICE);
    world.drop_file("new", "never.json", br#"{"task_name":"n","temp_id":1,"hosts":{"1":["web1"]}}"#, ALICE);
    let id = world.task_of("timed");
    let never = world.task_of("never");

    let own = world.approve(ALICE, id);
    assert_eq!(own.code, 6, "{own:?}");
    assert!(own.err.contains("two-person rule"), "{own:?}");
    let wrong = world.run(BOB, &["approve", &id.to_string(), "--digest", &format!("sha256:{}", "0".repeat(64))]);
    assert!(matches!(wrong.code, 4 | 6), "{wrong:?}");
    assert_eq!(world.standing(id), ["new"]);
    let _ = world.approve(BOB, id).ok();
    world.stands(id, "ready");

    let record = world.record(id);
    assert_eq!(record["outcome"], "ok", "{record:#}");
    let began = serde_json::from_value::<spoolgate::base::time::Timestamp>(record["started"].clone()).unwrap();
    assert!((0..1_000).contains(&(began.0 - start.0)), "began {} ms after its time", began.0 - start.0);
    assert_eq!(record["approvals"][0]["by"]["uid"], BOB);
    let listed = world.run(BOB, &["ls", "--plain"]).ok();
    assert!(listed.lines().any(|line| line.starts_with(&format!("{id}\tok\ttimed\t"))), "{listed}");
    let late = world.approve(BOB, id);
    assert_eq!(late.code, 6, "a task that has ended was approved again: {late:?}");
    assert_eq!(world.standing(never), ["new"], "a task nobody approved has moved");
    assert!(world.events(id).iter().any(|event| event["event"] == "order_refused"));
}

#[test]
fn one_failing_step_stops_its_host_and_the_next_group_but_no_sibling() {
    let sshd = Sshd::start();
    let hosts = ten_hosts();
    let mut world = World::new(&borrowed(&hosts), Some(&sshd));
    world.write_etc(
        "templates/three.toml",
        r#"
id = 300
name = "three"
title = "three steps, then a second group"
[[step]]
name = "first"
script = "echo first on $SPOOLGATE_HOST"
[[step]]
name = "second"
script = "echo out; echo err >&2; [ \"$SPOOLGATE_HOST\" != web4 ] || exit 3"
[[step]]
name = "third"
script = "echo third"
[[step]]
name = "later"
group = 2
script = "echo never"
"#,
    );
    world.start();
    let names: Vec<&str> = hosts.iter().take(9).map(|(name, _)| name.as_str()).collect();
    let text = json!({"task_name": "ten", "temp_id": "three", "hosts": {"1": names, "2": ["web10"]}});
    world.drop_file("ready", "ten.json", text.to_string().as_bytes(), 0);
    let id = world.task_of("ten");
    let waited = world.run(0, &["wait", "ten"]);
    assert_eq!(waited.code, 8, "{waited:?}");
    let record = world.record(id);
    assert_eq!(record["outcome"], "failed");
    for (name, _) in hosts.iter().take(9) {
        let steps = record["results"][name].as_array().unwrap();
        let order: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
        assert_eq!(order, ["first", "second", "third"]);
        let codes: Vec<Option<i64>> = steps.iter().map(|step| step["exit_code"].as_i64()).collect();
        if name == "web4" {
            assert_eq!(codes, [Some(0), Some(3), None], "{steps:#?}");
            assert_eq!(steps[2]["outcome"], "skipped");
        } else {
            assert_eq!(codes, [Some(0); 3], "{steps:#?}");
        }
        for step in steps.iter().filter(|step| step["outcome"] != "skipped") {
            assert!(step["started"].is_string() && step["ended"].is_string(), "{step:#}");
        }
    }
    assert_eq!(record["outcomes"]["web10"], "skipped");
    assert!(!world.state().join(format!("runs/{id}/output/web10")).exists(), "group 2 was started");
    let log = std::fs::read_to_string(world.state().join(format!("runs/{id}/output/web4/second.log"))).unwrap();
    assert!(log == "out\nerr\n" || log == "err\nout\n", "{log:?}");
    let err = world.run(0, &["logs", "ten", "--host", "web4", "--step", "second", "--stream", "err", "--raw"]).ok();
    assert_eq!(err, "err\n");
}

#[test]
fn a_step_that_runs_too_long_is_ended_and_proved_gone() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("web1", "127.0.1.1")], Some(&sshd));
    world.start();
    let mark = format!("97531{}", std::process::id() % 1000);
    let text = json!({"title": "slow", "account": "", "timeout": 1, "hosts": ["web1"],
        "script": format!("sleep {mark} & sleep {mark}; echo never")});
    let mut text = text;
    text.as_object_mut().unwrap().remove("account");
    world.drop_file("ready", "slow.json", text.to_string().as_bytes(), 0);
    let record = world.record(world.task_of("slow"));
    assert_eq!(record["results"]["web1"][0]["outcome"], "timed_out", "{record:#}");
    assert!(!someone_runs(&format!("sleep {mark}")), "the step's processes are still there");
}

#[test]
fn a_cancelled_task_ends_what_runs_and_starts_nothing_more() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("web1", "127.0.1.1"), ("web2", "127.0.1.2")], Some(&sshd));
    world.start();
    let mark = format!("86420{}", std::process::id() % 1000);
    let text =
        json!({"task_name": "long", "script": format!("echo begun; sleep {mark}"), "hosts": {"1": ["web1", "web2"]}});
    world.drop_file("ready", "long.json", text.to_string().as_bytes(), 0);
    let id = world.task_of("long");
    wait_for("both hosts to have begun", || {
        ["web1", "web2"]
            .iter()
            .all(|host| world.state().join(format!("runs/{id}/output/{host}/script.log")).exists())
            .then_some(())
    });
    let stranger = world.run(BOB, &["cancel", "long", "--reason", "not mine"]);
    assert_eq!(stranger.code, 6, "{stranger:?}");
    let _ = world.run(0, &["cancel", "long", "--reason", "wrong host"]).ok();
    let record = world.record(id);
    assert_eq!(record["outcome"], "cancelled", "{record:#}");
    assert_eq!(record["cancelled"]["reason"], "wrong host");
    assert!(!someone_runs(&format!("sleep {mark}")), "the step's processes are still there");
    assert_eq!(world.run(0, &["wait", "long"]).code, 10);
}

#[test]
fn a_host_with_another_key_is_refused_and_nothing_is_sent() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("web1", "127.0.1.1")], Some(&sshd));
    let known = sshd.known_hosts();
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3HqQw5vXvD2XQ5c0dRkJXG1gkz2nbyS0CwA0n0OqDZ";
    let forged: String =
        known.lines().map(|line| format!("{} {other}\n", line.split_whitespace().next().unwrap())).collect();
    world.write_etc("known_hosts", &forged);
    world.start();
    world.drop_file("ready", "t.json", br#"{"task_name":"t","temp_id":1,"hosts":{"1":["web1"]}}"#, 0);
    let record = world.record(world.task_of("t"));
    let step = &record["results"]["web1"][0];
    assert_eq!(record["outcome"], "failed");
    assert!(step["reason"].as_str().unwrap().contains("key"), "{step:#}");
    assert!(step.get("exit_code").is_none());
}

#[test]
fn a_plan_needs_no_daemon_and_no_network_and_is_always_the_same() {
    let sshd = Sshd::start();
    let world = World::new(&[("web1", "127.0.1.1"), ("web2", "127.0.1.2")], Some(&sshd));
    let file = world.etc().join("task.json");
    std::fs::write(
        &file,
        r#"{"task_name":"t","temp_id":1,"hosts":{"1":["web1","web2"]},"args":{"VERSION":"it's $(id)"}}"#,
    )
    .unwrap();
    let plan = || {
        let output = std::process::Command::new("unshare")
            .args(["-n", env!("CARGO_BIN_EXE_spoolgate"), "plan", "--bytes"])
            .arg(&file)
            .env("SPOOLGATE_CONFIG", world.etc())
            .env("SPOOLGATE_STATE", world.state())
            .output_in_time()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (first, second) = (plan(), plan());
    assert_eq!(first, second);
    assert!(
        first.contains("sha256:") && first.contains("web2") && first.contains("export VERSION='it'\\''s $(id)'"),
        "{first}"
    );
}

#[test]
fn orders_and_files_dropped_while_the_daemon_is_down_are_picked_up() {
    let mut world = World::new(&[("web1", "127.0.1.1")], None);
    world.start();
    world.drop_file("new", "a.json", br#"{"task_name":"a","temp_id":1,"hosts":{"1":["web1"]}}"#, ALICE);
    let id = world.task_of("a");
    world.kill_daemon();
    let queued = world.run(BOB, &["reject", "a", "--reason", "not today"]);
    assert_eq!(queued.code, 7, "{queued:?}");
    world.drop_file("new", "b.json", br#"{"task_name":"b","temp_id":1,"hosts":{"1":["web1"]}}"#, ALICE);
    world.start();
    let record = world.record(id);
    assert_eq!(record["outcome"], "rejected");
    assert_eq!(record["rejected"]["by"]["uid"], BOB);
    world.task_of("b");
}

#[test]
fn a_second_daemon_refuses_at_once() {
    let mut world = World::new(&[("web1", "127.0.1.1")], None);
    world.start();
    let begin = std::time::Instant::now();
    let second = world.run(0, &["daemon"]);
    assert_ne!(second.code, 0);
    assert!(second.err.contains(&world.daemon_pid().to_string()), "{second:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_same_key_and_bytes_are_one_task() {
    let mut world = World::new(&[("web1", "127.0.1.1")], None);
    world.start();
    let text = br#"{"task_name":"a","temp_id":1,"hosts":{"1":["web1"]},"idempotency_key":"nightly-1"}"#;
    world.drop_file("new", "a.json", text, ALICE);
    world.task_of("a");
    world.drop_file("new", "again.json", text, ALICE);
    wait_for("the repetition to be taken", || (!world.box_dir("new").join("again.json").exists()).then_some(()));
    let other = br#"{"task_name":"other","temp_id":1,"hosts":{"1":["web1"]},"idempotency_key":"nightly-1"}"#;
    world.drop_file("new", "other.json", other, ALICE);
    let why = wait_for("the refusal", || world.why("other"));
    assert!(why.to_string().contains("idempotency_key"), "{why:#}");
    assert_eq!(world.tasks().len(), 1);
    // A task that cannot be read any more is left alone, and does not come in a second time for it.
    world.kill_daemon();
    let journal = world.state().join("runs/1/events.jsonl");
    let first = std::fs::read_to_string(&journal).unwrap().lines().next().unwrap().to_owned();
    std::fs::write(&journal, first + "\n{\"damaged\n").unwrap();
    world.start();
    world.drop_file("new", "third.json", text, ALICE);
    wait_for("the repetition to be taken", || (!world.box_dir("new").join("third.json").exists()).then_some(()));
    assert!(!world.state().join("runs/2").exists());
    let told = world.run(0, &["audit", "tail"]).ok();
    assert!(told.contains("left_alone") || told.contains("left alone"), "{told}");
}

#[test]
fn a_key_in_the_agent_is_enough() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("web1", "127.0.1.1")], Some(&sshd));
    world.write_etc("spoolgate.toml", "group = \"users\"\n[ssh]\nuser = \"root\"\nagent = true\n");
    let socket = world.etc().join("agent");
    let mut agent = std::process::Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).spawn().unwrap();
    wait_for("the agent", || socket.exists().then_some(()));
    let added = std::process::Command::new("ssh-add")
        .arg("-q")
        .arg(sshd.identity())
        .env("SSH_AUTH_SOCK", &socket)
        .status_in_time();
    assert!(added.unwrap().success());
    world.agent = Some(socket);
    world.start();
    world.drop_file("new", "t.json", br#"{"task_name":"t","temp_id":1,"hosts":{"1":["web1"]}}"#, ALICE);
    let id = world.task_of("t");
    let _ = world.approve(BOB, id).ok();
    let record = world.record(id);
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!(record["outcome"], "ok", "{record:#}");
}

#[test]
fn a_file_of_a_number_that_stands_for_a_token_is_refused_once_and_runs_nothing() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    std::fs::remove_file(world.etc().join("policy.toml")).unwrap();
    world.start();
    let task = serde_json::json!({"task_name": "t", "script": "true", "hosts": {"1": ["here"]}}).to_string();
    world.drop_file("ready", "odd.json", task.as_bytes(), 3_000_000_000);
    let why = wait_for("the refusal", || world.why("odd"));
    assert!(why.to_string().contains("3000000000"), "{why}");
    assert!(world.tasks().is_empty() && !world.box_dir("ready").join("odd.json").exists());
}
