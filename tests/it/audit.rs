//! Who did what, when, and what became of it: in `show`, in the record and in the chain of the audit.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{ALICE, BOB, World, wait_for};

/// A world with a task of two hosts: its first step fails until the flag is there, the second asks, the third fails.
fn world_with_acts() -> (World, PathBuf, u64) {
    let mut world = World::new(&[], None);
    world.write_etc(
        "inventory/hosts.toml",
        "[host.here]\nconnection = \"local\"\n[host.there]\nconnection = \"local\"\n",
    );
    let flag = world.etc().join("flag");
    let template = format!(
        "id = 90\nname = \"acts\"\ntitle = \"t\"\n[[step]]\nname = \"one\"\nscript = \"test -e {}\"\n\
         [[step]]\nname = \"ask\"\nscript = \"true\"\ntrigger = \"manual\"\n\
         [[step]]\nname = \"bad\"\nscript = \"false\"\n[[step]]\nname = \"last\"\nscript = \"true\"\n",
        flag.display()
    );
    world.write_etc("templates/acts.toml", &template);
    world.start();
    let task = json!({"task_name": "acts", "temp_id": "acts", "hosts": {"1": ["here", "there"]}}).to_string();
    world.drop_file("new", "acts.json", task.as_bytes(), ALICE);
    let id = world.task_of("acts");
    (world, flag, id)
}

/// Waits until a task has ended so many times, and returns its record.
fn record_after(world: &World, id: u64, ends: usize) -> Value {
    wait_for(&format!("end {ends} of task {id}"), || {
        let record = world.try_record(id)?;
        let closed = record["acts"].as_array().unwrap().iter().filter(|act| act["act"] == "closed").count();
        (closed == ends).then_some(record)
    })
}

#[test]
fn every_act_has_who_when_and_what_it_did_in_show_record_and_audit() {
    let (world, flag, id) = world_with_acts();
    let word = id.to_string();
    let digest = world.digest(id);
    let run = |uid: u32, args: &[&str]| world.run(uid, args);
    run(0, &["hold", &word, "--reason", "wait"]).ok();
    run(BOB, &["approve", &word, "--digest", &digest, "--reason", "fine"]).ok();
    world.stands(id, "ready");
    run(0, &["release", &word]).ok();
    assert_eq!(record_after(&world, id, 1)["outcome"], "failed");
    // Retried when what was missing is there: the manual step asks on both hosts, then a step fails again.
    std::fs::write(&flag, "").unwrap();
    assert_eq!(run(ALICE, &["retry", &word]).code, 6, "no rule lets Alice retry");
    world.drop_file("new", "broken.json", b"{\"hosts\": 7}", ALICE);
    let refused = wait_for("the broken file in the audit", || {
        let lines = run(0, &["audit", "tail", "--json"]).ok();
        lines.lines().find(|line| line.contains("new/uid-61001/broken.json sha256:")).map(str::to_owned)
    });
    assert!(refused.contains("\"by\":{\"uid\":") && refused.contains("/task_name: found nothing"), "{refused}");
    run(0, &["retry", &word, "--reason", "it is there now"]).ok();
    let asks = |host: &str| run(0, &["release", &word, "ask", "--host", host]).code == 0;
    wait_for("here to ask", || asks("here").then_some(()));
    wait_for("there to ask", || asks("there").then_some(()));
    assert_eq!(record_after(&world, id, 2)["outcome"], "failed", "the bad step");
    // What ended well runs a second time only if that is said.
    let second = run(0, &["retry", &word, "--from", "ask", "--host", "here"]);
    assert!(second.code == 6 && second.err.contains("ask ended well on here"), "{second:?}");
    run(0, &["retry", &word, "--from", "ask", "--host", "here", "--again"]).ok();
    wait_for("here to ask again", || asks("here").then_some(()));
    record_after(&world, id, 3);
    run(0, &["retry", &word, "--from", "ask", "--again"]).ok();
    let skip = |step: &str| run(0, &["skip", &word, step, "--reason", "known"]);
    wait_for("both to stand at ask", || (skip("ask").code == 0).then_some(()));
    let record = record_after(&world, id, 4);
    assert_eq!(record["outcome"], "failed", "a step that failed is not laundered");
    // Every attempt kept its log, and no step ran twice under one number.
    assert_eq!(record["results"]["here"][0]["attempts"], 2, "{:#}", record["results"]["here"]);
    assert_eq!(record["results"]["there"][0]["attempts"], 2);
    check_acts(&record);
    let shown = run(0, &["show", &word]).ok();
    assert!(shown.contains("done -> running") && shown.contains("it is there now"), "{shown}");
    let told = run(0, &["audit", "show", &word]).ok();
    for text in [shown, told] {
        assert!(text.contains("steps released") && !text.contains("steps_released"), "acts are words: {text}");
    }
    check_audit(&world, id, &record);
}

fn check_acts(record: &Value) {
    let acts = record["acts"].as_array().unwrap();
    for act in
        ["accepted", "held", "approved", "released", "started", "closed", "retried", "steps_released", "steps_skipped"]
    {
        assert!(acts.iter().any(|found| found["act"] == act), "{act} in {acts:?}");
    }
    for act in acts {
        assert!(act["at"].is_string() && act["to"].is_string(), "{act}");
        let by_person = !["started", "closed"].contains(&act["act"].as_str().unwrap());
        assert_eq!(act["by"].is_object(), by_person, "{act}");
    }
    let retried = acts.iter().find(|act| act["act"] == "retried").unwrap();
    assert_eq!(
        (&retried["from"], &retried["to"], &retried["by"]["user"]),
        (&json!("done"), &json!("running"), &json!("root"))
    );
}

fn check_audit(world: &World, id: u64, record: &Value) {
    let audit = world.run(0, &["audit", "show", &id.to_string(), "--json"]).ok();
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // What the ended task's journal does not say: who wanted more of it, and was refused.
    let (lines, refused): (Vec<Value>, Vec<Value>) = lines.into_iter().partition(|line| line.get("event").is_some());
    let [refused, _] = &refused[..] else { panic!("two orders were refused: {refused:?}") };
    assert_eq!((&refused["act"], &refused["by"]["uid"]), (&json!("refused"), &json!(ALICE)));
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.starts_with("orders/") && detail.contains("sha256:") && detail.contains(" refused: "), "{detail}");
    let words = |acts: &[Value]| acts.iter().map(|act| act["act"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(words(&lines), words(record["acts"].as_array().unwrap()), "the audit has every act, in order");
    let verified = world.run(0, &["audit", "verify"]).ok();
    assert!(verified.contains("every link holds"), "{verified}");
    let head = world.run(0, &["audit", "head"]).ok();
    world.run(0, &["audit", "verify", "--head", head.trim()]).ok();
    // The host keeps where the audit ended when its step was sent.
    let home = world.etc().parent().unwrap().join("home/.spoolgate");
    let gate = std::fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path());
    let gate = gate.filter(|path| path.extension().is_some_and(|ending| ending == "state")).min().unwrap();
    let kept = std::fs::read_to_string(gate).unwrap();
    let kept = kept.lines().find_map(|line| line.strip_prefix("audit ")?.strip_suffix(" end")).unwrap().to_owned();
    world.run(0, &["audit", "verify", "--head", &kept]).ok();
    // So is a journal that says something else than when the act was written down.
    let journal = world.state().join(format!("runs/{id}/events.jsonl"));
    let told = std::fs::read_to_string(&journal).unwrap();
    for (from, to) in [("\"exit\":1", "\"exit\":0"), ("uid-61002", "uid-61003"), ("\"attempt\":2", "\"attempt\":1")] {
        assert!(told.contains(from), "{from} in {told}");
        std::fs::write(&journal, told.replacen(from, to, 1)).unwrap();
        let said = world.run(0, &["audit", "verify"]);
        assert!(said.code == 4 && said.err.contains("events.jsonl: expected sha256:"), "{}{}", said.out, said.err);
    }
    std::fs::write(&journal, told).unwrap();
    world.run(0, &["audit", "verify"]).ok();
    // An end that is cut off is known to who remembers it, and to the history.
    let file = std::fs::read_dir(world.state().join("audit")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read_to_string(&file).unwrap();
    let cut = whole.lines().count() / 3;
    std::fs::write(&file, whole.lines().take(cut).map(|line| line.to_owned() + "\n").collect::<String>()).unwrap();
    for args in [&["audit", "verify", "--head", head.trim()][..], &["audit", "verify"]] {
        let said = world.run(0, args);
        assert_eq!(said.code, 4, "{}{}", said.out, said.err);
    }
}

#[test]
fn what_is_cut_off_the_audit_is_said_until_somebody_entitled_takes_note() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    world.drop_file("ready", "t.json", br#"{"task_name": "t", "script": "true", "hosts": {"1": ["here"]}}"#, 0);
    world.record(world.task_of("t"));
    world.run(0, &["audit", "verify"]).ok();
    world.kill_daemon();
    let dir = world.state().join("audit");
    let is_month = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "jsonl");
    let file = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).find(is_month).unwrap();
    let whole = std::fs::read_to_string(&file).unwrap();
    let count = whole.lines().count();
    let kept: String = whole.split_inclusive('\n').take(count - 2).collect();
    std::fs::write(&file, kept).unwrap();
    let verify = |world: &World| world.run(0, &["audit", "verify"]);
    let (cut, begun) = (count - 1, world.daemon_log().len());
    assert_eq!(verify(&world).code, 4);
    for _ in 0..2 {
        world.start();
        let said = verify(&world);
        let wanted = format!("line {cut}, noticed at");
        assert!(
            said.code == 4 && said.err.contains(&wanted) && said.err.contains("2 line(s) were removed"),
            "{said:?}"
        );
        let log = world.daemon_log()[begun..].to_owned();
        assert!(log.contains(&format!("lines were removed from the audit: line {cut}")), "{log}");
        world.kill_daemon();
    }
    world.start();
    let top = world.run(0, &["top", "--once", "--size", "120x30", "--lang", "en"]).ok();
    assert!(top.contains("lines were removed from the audit (1)"), "{top}");
    let cut = cut.to_string();
    let acknowledge =
        |uid: u32, line: &str| world.run(uid, &["audit", "acknowledge", line, "--reason", "a test did it"]);
    // Who may do everything with tasks may not do this, as long as no rule says so.
    let refused = acknowledge(0, &cut);
    assert!(refused.code == 6 && refused.err.contains("it has no [[audit]] with who"), "{refused:?}");
    let policy = std::fs::read_to_string(world.etc().join("policy.toml")).unwrap();
    world.write_etc("policy.toml", &format!("{policy}[[audit]]\nwho = [\"uid-61002\"]\n"));
    assert_eq!(acknowledge(ALICE, &cut).code, 6);
    assert_eq!(acknowledge(BOB, "1").code, 3);
    acknowledge(BOB, &cut).ok();
    assert_eq!(acknowledge(BOB, &cut).code, 3);
    let said = verify(&world).ok();
    assert!(
        said.contains("uid-61002") && said.contains("a test did it") && said.contains("every link holds"),
        "{said}"
    );
    world.kill_daemon();
    world.start();
    verify(&world).ok();
    // What was removed about tasks is there again, and said to have been missing.
    let lines = world.run(0, &["audit", "show", "1", "--json"]).ok();
    let recovered = lines.lines().filter(|line| line.contains("\"recovered\":true")).count();
    assert_eq!((lines.lines().count(), recovered), (3, 2), "{lines}");
}

#[test]
fn the_audits_head_goes_to_the_system_log() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    let path = world.etc().join("log.sock");
    let log = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    log.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let settings = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &format!("{settings}[audit]\nsyslog = {path:?}\n"));
    world.start();
    let mut bytes = [0_u8; 512];
    let length = log.recv(&mut bytes).unwrap();
    let line = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let head = line.rsplit(' ').next().unwrap();
    assert!(line.starts_with("<86>spoolgate[") && line.contains("audit head 2:sha256:"), "{line}");
    world.run(0, &["audit", "verify", "--head", head]).ok();
}
