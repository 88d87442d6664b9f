//! Who may see what of a task: by its files, on the command line, on the dashboard and over HTTP.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::http::{append, ask, create_token, port_of};
use crate::world::{Said, World, wait_for};

/// Submits, and is in the group that sees.
const SAM: u32 = 61_041;
/// Is in that group.
const OTTO: u32 = 61_042;
/// Approves, and is in it.
const LEA: u32 = 61_043;
/// May submit and look at the state, and sees nothing of others.
const EVE: u32 = 61_044;
const WATCH: u32 = 64_901;
const LEAD: u32 = 64_902;

const RULES: &str = "[[submit]]\nwho = [\"*\"]\ntemplates = [\"*\"]\ninto = [\"new\"]\n\
                     [[approve]]\nwho = [\"@lead\"]\ntemplates = [\"*\"]\n";
const SEE: &str = "[[see]]\nwho = [\"@watch\", \"token:board\"]\ntemplates = [\"script\"]\nsubmitters = [\"sam\"]\n";
/// Words of the task that no stranger may read anywhere.
const WORDS: [&str; 3] = ["word-of-env", "word-of-plan", "word-of-output"];

/// A world whose daemon knows these people and groups.
fn world(policy: &str) -> World {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.write_etc("policy.toml", policy);
    append(&world.etc().join("spoolgate.toml"), "[http]\nlisten = [\"127.0.0.1:0\"]\n");
    let files = ["passwd", "group"].map(|name| world.etc().with_file_name(name));
    let known = ["passwd", "group"].map(|name| std::fs::read_to_string(format!("/etc/{name}")).unwrap());
    let people: String = [("sam", SAM), ("otto", OTTO), ("lea", LEA), ("eve", EVE)]
        .map(|(name, uid)| format!("{name}:x:{uid}:100::/nonexistent:/usr/sbin/nologin\n"))
        .concat();
    std::fs::write(&files[0], known[0].clone() + &people).unwrap();
    let groups = format!("{}watch:x:{WATCH}:sam,otto,lea\nlead:x:{LEAD}:lea\n", known[1]);
    std::fs::write(&files[1], groups).unwrap();
    let [passwd, group] = files.map(|path| path.display().to_string());
    let bind = format!("mount --bind {passwd} /etc/passwd && mount --bind {group} /etc/group && exec \"$@\"");
    world.through = ["unshare", "--mount", "sh", "-c", &bind, "sh"].map(str::to_owned).to_vec();
    world
}

fn groups_of(uid: u32) -> &'static [u32] {
    match uid {
        LEA => &[WATCH, LEAD],
        SAM | OTTO => &[WATCH],
        _ => &[],
    }
}

fn verb(world: &World, uid: u32, args: &[&str]) -> Said {
    world.run_in(uid, groups_of(uid), None, args)
}

/// Submits a task as somebody, and returns its number.
fn submit(world: &World, uid: u32, name: &str) -> u64 {
    let script = "echo word-of-plan; echo word-of-output | tr a-z a-z";
    let task = json!({"task_name": name, "script": script, "hosts": {"1": ["here"]}, "env": {"E": "word-of-env"}});
    let file = world.scratch().join(format!("{name}.json"));
    std::fs::write(&file, task.to_string()).unwrap();
    let said = verb(world, uid, &["submit", file.to_str().unwrap()]).ok();
    std::fs::remove_file(&file).unwrap();
    said.trim().parse().unwrap()
}

/// Every file that says more of a task than that it is there.
fn files(world: &World, id: u64) -> Vec<PathBuf> {
    let run = world.state().join(format!("runs/{id}"));
    let done = world.box_dir("done").join(format!("{id}.json"));
    vec![run.join("plan.json"), run.join("events.jsonl"), run.join("output/here/script.log"), done]
}

fn reads(world: &World, uid: u32, file: &std::path::Path) -> bool {
    world.run_in(uid, groups_of(uid), Some("cat"), &[file.to_str().unwrap()]).code == 0
}

#[track_caller]
fn sees_nothing(world: &World, uid: u32, id: u64, outcome: &str) {
    for file in files(world, id) {
        assert!(!reads(world, uid, &file), "{}", file.display());
    }
    let task = id.to_string();
    for words in
        [&["show", &task][..], &["show", &task, "--json"], &["plan", &task], &["logs", &task], &["watch", &task]]
    {
        let said = verb(world, uid, words);
        assert_eq!(said.code, 6, "{words:?}: {said:?}");
        assert!(said.err.contains("[[see]]") && said.err.contains("sudo -u root"), "{words:?}: {said:?}");
        assert!(words[0] != "show" || said.out.contains(outcome), "{said:?}");
        assert!(WORDS.iter().all(|word| !format!("{said:?}").contains(word)), "{said:?}");
    }
    let screen = verb(world, uid, &["top", "--once", "--size", "120x30", "--view", &task]);
    assert!(screen.out.contains("You may not see what this task runs"), "{screen:?}");
    let found =
        world.run_in(uid, groups_of(uid), Some("grep"), &["-rlE", &WORDS.join("|"), world.state().to_str().unwrap()]);
    assert_eq!(found.out, "");
    assert!(verb(world, uid, &["ls"]).ok().contains(outcome));
}

#[track_caller]
fn sees_everything(world: &World, uid: u32, id: u64) {
    for file in files(world, id) {
        assert!(reads(world, uid, &file), "{}", file.display());
    }
    let task = id.to_string();
    assert!(verb(world, uid, &["show", &task]).ok().contains("state       ok"));
    let plan = verb(world, uid, &["plan", &task]).ok();
    assert!(plan.contains("word-of-env") && plan.contains("word-of-plan"), "{plan}");
    assert!(verb(world, uid, &["logs", &task]).ok().contains("word-of-output"));
}

fn get(port: u16, token: &str, path: &str) -> (u16, Value) {
    let heard = ask(port, "GET", path, &[("Authorization", &format!("Bearer {token}"))], b"");
    (heard.status, heard.json())
}

#[test]
fn a_stranger_sees_that_a_task_exists_and_no_more() {
    let mut world = world(&format!("{RULES}{SEE}"));
    let [board, other] =
        ["board", "other"].map(|name| create_token(&world, name, &["--for", "read", "--templates", "*"]));
    world.start();
    let id = submit(&world, SAM, "payroll");
    sees_nothing(&world, EVE, id, "new");
    let approved = verb(&world, LEA, &["approve", &id.to_string(), "--digest", &world.digest(id)]);
    assert!(approved.ok().contains("approved"));
    assert_eq!(world.record(id)["outcome"], "ok");
    for uid in [SAM, OTTO, LEA, 0] {
        sees_everything(&world, uid, id);
    }
    sees_nothing(&world, EVE, id, "ok");
    assert_eq!(verb(&world, EVE, &["wait", &id.to_string()]).code, 0, "how it ended is no secret");
    // What is refused is its owner's.
    world.drop_file("new", "wrong.json", b"{\"task_name\": \"word-of-env\", \"hosts\": 7}", SAM);
    wait_for("it to be refused", || world.why("wrong"));
    assert!(!reads(&world, EVE, &world.box_dir("bad").join("wrong.json")));

    let (port, path) = (port_of(&world), format!("/api/v1/task/{id}"));
    let (status, task) = get(port, &board, &path);
    assert_eq!((status, &task["withheld"]), (200, &Value::Null));
    assert!(task["script"].to_string().contains("word-of-plan"));
    assert!(get(port, &board, &format!("{path}/stdout")).1.to_string().contains("word-of-output"));
    let (status, task) = get(port, &other, &path);
    assert_eq!((status, &task["state"], &task["outcome"]), (200, &json!("done"), &json!("ok")));
    assert_eq!(task["withheld"], json!(["plan", "output", "environment"]));
    let (status, state) = get(port, &other, &format!("{path}/state"));
    assert_eq!((status, &state["outcome"], &state["hosts"]), (200, &json!("ok"), &json!([])));
    let list = get(port, &other, "/api/v1/task").1;
    for said in [&task, &state, &list] {
        assert!(
            WORDS.iter().all(|word| !said.to_string().contains(word)) && !said.to_string().contains("here"),
            "{said}"
        );
    }
    for part in ["result", "stdout", "stderr", "stdout?host=none"] {
        let (status, said) = get(port, &other, &format!("{path}/{part}"));
        assert!(status == 403 && said["error"].to_string().contains("[[see]]"), "{part}: {status} {said}");
    }
    let explained = world.run(0, &["policy", "explain", "token:other", "see-output", &id.to_string()]).ok();
    assert!(explained.starts_with("no: ") && explained.contains("not included"), "{explained}");
    let checked = world.run(0, &["policy", "check"]);
    assert!(checked.err.contains("[[see]]: this system has no group watch"), "{checked:?}");
}

#[test]
fn one_acts_on_ones_own_task_without_seeing_its_files() {
    let mut world = world(&format!("{RULES}{SEE}"));
    world.start();
    // Approvers see it, and their group gets its files.
    let id = submit(&world, EVE, "mine");
    let task = id.to_string();
    let said = verb(&world, EVE, &["show", &task]);
    assert!(said.code == 6 && said.err.contains("is yours, and its files cannot be given to you"), "{said:?}");
    assert!(verb(&world, LEA, &["plan", &task]).ok().contains("word-of-env"));
    let said = verb(&world, OTTO, &["hold", &task, "--reason", "no"]);
    assert!(said.code == 6 && said.err.contains("lets otto hold"), "{said:?}");
    let said = verb(&world, EVE, &["approve", &task, "--digest", &world.digest(id)]);
    assert_eq!(said.code, 6, "nobody approves what they do not see: {said:?}");
    assert!(verb(&world, EVE, &["cancel", "mine", "--reason", "enough"]).ok().contains("cancelled by eve"));
    assert_eq!(world.record(id)["outcome"], "cancelled");
    assert_eq!(verb(&world, EVE, &["wait", &task]).code, 10);
}

#[test]
fn files_follow_a_change_of_the_rules_and_a_start() {
    let mut world = world(RULES);
    world.start();
    let id = submit(&world, SAM, "payroll");
    let approved = verb(&world, LEA, &["approve", &id.to_string(), "--digest", &world.digest(id)]);
    assert!(approved.ok().contains("approved"));
    world.record(id);
    let mode = |path: PathBuf| std::fs::metadata(path).map(|meta| (meta.mode() & 0o777, meta.gid())).unwrap();
    let modes = |world: &World| {
        let run = world.state().join(format!("runs/{id}"));
        [mode(run.clone()), mode(run.join("output")), mode(world.box_dir("done").join(format!("{id}.json")))]
    };
    let open = [(0o750, 100), (0o750, 100), (0o640, 100)];
    // Without rules as ever.
    assert_eq!(modes(&world), open);
    sees_everything(&world, EVE, id);
    assert!(!world.state().join(".see").exists());
    let follow = |world: &World, policy: &str, wanted| {
        world.write_etc("policy.toml", policy);
        // The next task has the configuration looked at.
        submit(world, SAM, &format!("next-{}", policy.len()));
        wait_for("the modes to follow", || (modes(world) == wanted).then_some(()));
    };
    // Only somebody without a group: the files go to who approves, and what was printed to nobody.
    let named = format!("{RULES}[[see]]\nwho = [\"otto\"]\ntemplates = [\"*\"]\n");
    follow(&world, &named, [(0o750, LEAD), (0o700, 100), (0o640, LEAD)]);
    sees_nothing(&world, EVE, id, "ok");
    assert!(verb(&world, LEA, &["plan", &id.to_string()]).ok().contains("word-of-env"));
    let logs = verb(&world, LEA, &["logs", &id.to_string()]);
    assert!(logs.code == 6 && logs.err.contains("[[see]] in policy.toml lets see the output"), "{logs:?}");
    follow(&world, &format!("{RULES}{SEE}"), [(0o750, WATCH), (0o750, WATCH), (0o640, WATCH)]);
    sees_everything(&world, OTTO, id);
    // Changed while no daemon ran.
    world.kill_daemon();
    world.write_etc("policy.toml", &named);
    world.start();
    wait_for("the modes to follow", || (modes(&world)[0].1 == LEAD).then_some(()));
    follow(&world, RULES, open);
    sees_everything(&world, EVE, id);
    wait_for("nothing to be remembered", || (!world.state().join(".see").exists()).then_some(()));
}
