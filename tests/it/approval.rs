//! What approval means, on real parts: digests, four eyes, windows, orders, freezes, and the audit of it all.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::patience::InTime as _;
use crate::world::{ALICE, BOB, EVE, World, wait_at_most, wait_for};

/// Where an SSH server would listen: counts who knocks.
struct Door {
    port: u16,
    knocks: Arc<AtomicU64>,
}

impl Door {
    fn open() -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let knocks = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&knocks);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counter.fetch_add(1, Ordering::SeqCst);
                drop(stream);
            }
        });
        Door { port, knocks }
    }

    fn knocks(&self) -> u64 {
        self.knocks.load(Ordering::SeqCst)
    }
}

/// A key that no server has; the door never gets as far as to show one.
const SOME_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIZQJZdyqHxHTHJvZDaXaOcCQFYmMkLmPcSrVZ4mkMIr";
const OTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKqnV7lGm1ZTqRfJwXnOZ0nFw2Cw9F8qTVaY3fRr0Ezx";

/// Writes the inventory of a world whose one host is behind the door.
fn inventory(port: u16) -> String {
    format!("[host.web1]\naddress = \"127.0.0.1\"\nport = {port}\n")
}

const DEPLOY: &str = r#"
id = 70
name = "deploy"
title = "deploy a tag"
[[param]]
name = "TAG"
type = "tag"
repository = "REPOSITORY"
required = true
[[param]]
name = "MODE"
default = "fast"
[[step]]
name = "deploy"
file = "deploy.sh"
args = ["{TAG}", "{MODE}"]
"#;

fn git(dir: &Path, args: &[&str]) {
    let mut command = Command::new("git");
    command.current_dir(dir).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(args);
    let output = command.env("GIT_CONFIG_GLOBAL", "/dev/null").output_in_time().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A repository with two commits and the tag v1 on the first.
fn repository(dir: &Path) -> PathBuf {
    let path = dir.join("app");
    std::fs::create_dir(&path).unwrap();
    git(&path, &["init", "-q"]);
    git(&path, &["commit", "-q", "--allow-empty", "-m", "one"]);
    git(&path, &["tag", "-a", "-m", "v1", "v1"]);
    git(&path, &["commit", "-q", "--allow-empty", "-m", "two"]);
    path
}

/// What somebody changes.
type Change<'a> = Box<dyn Fn() + 'a>;

/// A world in which `deploy` goes to a host behind the door.
fn guarded() -> (World, Door, PathBuf) {
    let door = Door::open();
    let world = World::new(&[], None);
    let repository = repository(&world.etc());
    world.write_etc("inventory/hosts.toml", &inventory(door.port));
    world.write_etc("known_hosts", &format!("[127.0.0.1]:{} {SOME_KEY}\n", door.port));
    world.write_etc("templates/deploy.toml", &DEPLOY.replace("REPOSITORY", repository.to_str().unwrap()));
    world.write_etc("templates/deploy.sh", "echo deploying \"$1\" \"$TAG_COMMIT\"\n");
    (world, door, repository)
}

const DEPLOY_TASK: &str =
    r#"{"task_name": "deploy", "temp_id": "deploy", "hosts": {"1": ["web1"]}, "args": {"TAG": "v1"}}"#;

pub(crate) fn in_seconds(seconds: i64) -> String {
    spoolgate::shells::clock::now().plus_ms(seconds * 1000).to_string()
}

/// Approves as Bob, to start at a time.
#[track_caller]
pub(crate) fn approve_at(world: &World, id: u64, start: &str) {
    let digest = world.digest(id);
    world.run(BOB, &["approve", &id.to_string(), "--digest", &digest, "--start", start]).ok();
}

#[track_caller]
pub(crate) fn event(world: &World, id: u64, word: &str) -> Value {
    wait_for(&format!("{word} of task {id}"), || world.events(id).into_iter().find(|event| event["event"] == word))
}

#[test]
fn whatever_changes_after_approval_opens_no_connection_and_shows_the_difference() {
    let (mut world, door, repository) = guarded();
    world.start();
    let file = |name: &str| world.etc().join(name);
    let edit = |name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(file(name)).unwrap();
        assert!(text.contains(from), "{name} holds {from}");
        std::fs::write(file(name), text.replacen(from, to, 1)).unwrap();
    };
    let changes: Vec<(&str, &str, Change<'_>)> = vec![
        ("script", "/scripts", Box::new(|| edit("templates/deploy.sh", "deploying", "destroying"))),
        ("template", "/template/file", Box::new(|| edit("templates/deploy.toml", "deploy a tag", "deploy a tax"))),
        ("parameter", "/env/MODE", Box::new(|| edit("templates/deploy.toml", "fast", "slow"))),
        ("host", "/hosts/web1/user", Box::new(|| edit("inventory/hosts.toml", "port", "user = \"eve\"\nport"))),
        ("tag", "/commits/TAG/commit", Box::new(|| git(&repository, &["tag", "-f", "v1", "HEAD"]))),
        ("key", "/hosts/web1/host_keys", Box::new(|| edit("known_hosts", SOME_KEY, OTHER_KEY))),
        (
            "policy",
            "policy",
            Box::new(|| edit("policy.toml", "[[control]]", "[[require]]\napprovals = 2\n[[control]]")),
        ),
    ];
    for (name, pointer, change) in changes {
        let policy = std::fs::read_to_string(file("policy.toml")).unwrap();
        world.drop_file("new", &format!("{name}.json"), DEPLOY_TASK.as_bytes(), ALICE);
        let id = world.task_of(name);
        let before = world.digest(id);
        approve_at(&world, id, &in_seconds(2));
        world.stands(id, "ready");
        change();
        if name == "policy" {
            let readmitted = event(&world, id, "readmitted");
            assert!(readmitted["why"].as_str().unwrap().contains("asks for"), "{readmitted}");
        } else {
            let stale = event(&world, id, "stale");
            let pointers: Vec<&str> =
                stale["differences"].as_array().unwrap().iter().map(|d| d["pointer"].as_str().unwrap()).collect();
            assert!(pointers.iter().any(|found| found.starts_with(pointer)), "{name}: {pointers:?}");
        }
        world.stands(id, "new");
        // Its time passes, and nothing is sent: the old approval counts for nothing any more.
        let since = std::time::Instant::now();
        wait_for("the start to pass", || (since.elapsed() > Duration::from_millis(2_500)).then_some(()));
        assert_eq!(door.knocks(), 0, "{name}: somebody knocked");
        assert_eq!(world.standing(id), ["new"], "{name}");
        let shown = world.run(BOB, &["show", &id.to_string()]).ok();
        // A script is named by its step.
        let seen = if name == "script" { "/script changed" } else { pointer };
        assert!(shown.contains(seen), "{name}: {shown}");
        if name != "policy" {
            assert_ne!(world.digest(id), before, "{name}");
            let refused = world.run(BOB, &["approve", &id.to_string(), "--digest", &before]);
            assert_eq!(refused.code, 4, "{name}: {}", refused.err);
        }
        std::fs::write(file("policy.toml"), policy).unwrap();
    }
    // Without a change the same task knocks: the door is where the daemon goes.
    world.drop_file("new", "control.json", DEPLOY_TASK.as_bytes(), ALICE);
    let id = world.task_of("control");
    approve_at(&world, id, &in_seconds(1));
    wait_for("a knock", || (door.knocks() > 0).then_some(()));
}

#[test]
fn a_configuration_that_cannot_be_read_starts_nothing_until_it_can() {
    let (mut world, door, _) = guarded();
    world.start();
    world.drop_file("new", "wait.json", DEPLOY_TASK.as_bytes(), ALICE);
    let id = world.task_of("wait");
    approve_at(&world, id, &in_seconds(1));
    let policy = std::fs::read_to_string(world.etc().join("policy.toml")).unwrap();
    world.write_etc("policy.toml", "[[submit");
    wait_for("the daemon to say so", || {
        world.daemon_log().contains("until the configuration can be read").then_some(())
    });
    world.drop_file("new", "other.json", DEPLOY_TASK.as_bytes(), ALICE);
    let other = world.task_of("other");
    let said = world.run(BOB, &["approve", &other.to_string(), "--digest", &world.digest(other)]);
    assert_eq!(said.code, 6, "{}", said.err);
    assert_eq!((door.knocks(), world.standing(id)), (0, vec!["ready"]));
    world.write_etc("policy.toml", &policy);
    world.drop_file("new", "third.json", DEPLOY_TASK.as_bytes(), ALICE);
    wait_for("a knock", || (door.knocks() > 0).then_some(()));
}

/// `FLIPS=100000` makes it the long campaign.
#[test]
fn a_racer_that_flips_the_file_never_gets_other_bytes_run() {
    let flips: u64 = std::env::var("FLIPS").map_or(2_000, |count| count.parse().unwrap());
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    let marks = world.etc().join("marks");
    std::fs::create_dir(&marks).unwrap();
    let task = |word: &str| {
        let script = format!("echo {word} >> {}/\"$SPOOLGATE_TASK\"", marks.display());
        json!({"task_name": "race", "hosts": {"1": ["here"]}, "script": script}).to_string()
    };
    let (good, evil) = (task("good"), task("evil"));
    world.start();
    world.write_etc("good.json", &good);
    let planned = world.run(0, &["plan", "--json", world.etc().join("good.json").to_str().unwrap()]).ok();
    let digest = serde_json::from_str::<Value>(&planned).unwrap()["digest"].as_str().unwrap().to_owned();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..flips {
                // Taken away at any moment; a file that is there is flipped in place and by renaming.
                let bytes = if n % 2 == 0 { &good } else { &evil };
                world.drop_file("new", "race.json", bytes.as_bytes(), ALICE);
                if n % 3 == 0 {
                    let _ =
                        std::fs::write(world.box_dir("new").join("race.json"), if n % 2 == 0 { &evil } else { &good });
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut voted = 0;
        loop {
            let last = done.load(Ordering::SeqCst);
            for (id, _) in world.tasks().into_iter().filter(|(id, _)| *id > voted).collect::<Vec<_>>() {
                let order = json!({"order": "approve", "task": id, "digest": digest}).to_string();
                world.drop_file("orders", &format!("vote-{id}.json"), order.as_bytes(), BOB);
                voted = id;
            }
            if last {
                break;
            }
            std::thread::yield_now();
        }
    });
    let tasks = wait_at_most(Duration::from_mins(5), "every vote to be answered", || {
        let tasks = world.tasks();
        let answered = |events: &Vec<Value>| {
            let last = if events[0]["digest"] == digest.as_str() { "closed" } else { "order_refused" };
            events.iter().any(|event| event["event"] == last)
        };
        let unvoted = tasks.iter().filter(|(_, events)| !answered(events)).map(|(id, _)| *id).collect::<Vec<_>>();
        for id in &unvoted {
            // A task that came after the last look has no vote yet.
            if !tasks.iter().any(|(task, events)| task == id && events.iter().any(|event| event["event"] == "approved"))
            {
                let order = json!({"order": "approve", "task": id, "digest": digest}).to_string();
                world.drop_file("orders", &format!("late-{id}.json"), order.as_bytes(), BOB);
            }
        }
        unvoted.is_empty().then_some(tasks)
    });
    let (mut good_runs, mut evil_tasks) = (0, 0);
    for (id, events) in &tasks {
        let ran = std::fs::read_to_string(marks.join(id.to_string())).ok();
        let is_good = events[0]["digest"] == digest.as_str();
        assert_eq!(ran.as_deref(), is_good.then_some("good\n"), "task {id}");
        good_runs += u64::from(is_good);
        evil_tasks += u64::from(!is_good);
    }
    assert!(good_runs > 0 && evil_tasks > 0, "{good_runs} good and {evil_tasks} evil tasks of {flips} flips");
}

/// A policy under which two people must approve, of whom one may be anybody.
pub(crate) const TWO: &str = r#"
[[submit]]
who = ["uid-61001", "uid-61002", "uid-61003", "root"]
templates = ["*"]
into = ["new"]
[[approve]]
who = ["uid-61001", "uid-61002", "uid-61003", "root"]
templates = ["*"]
approvals = 2
[[control]]
who = ["root"]
templates = ["*"]
"#;

#[test]
fn sixty_ways_to_approve_without_two_people_start_nothing() {
    let mut world = World::new(&[], None);
    world.write_etc("policy.toml", TWO);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    let marks = world.etc().join("marks");
    std::fs::create_dir(&marks).unwrap();
    let script = format!("touch {}/\"$SPOOLGATE_TASK\"", marks.display());
    let task = json!({"task_name": "two", "hosts": {"1": ["here"]}, "script": script}).to_string();
    world.start();
    let past = in_seconds(-5);
    // Who votes, and with what beside the right digest; Alice submitted.
    let (right, wrong) = ("right", "wrong");
    let kinds: Vec<Vec<(u32, &str, Option<&str>)>> = vec![
        vec![(ALICE, right, None), (ALICE, right, None)],
        vec![(ALICE, right, None), (BOB, right, None)],
        vec![(BOB, right, None)],
        vec![(BOB, right, None), (BOB, right, None)],
        vec![(BOB, wrong, None), (EVE, right, None)],
        vec![(BOB, wrong, None), (EVE, wrong, None)],
        vec![(BOB, right, Some(&past)), (EVE, right, None)],
        vec![(BOB, right, None), (EVE, right, Some(&past))],
        vec![(61_099, right, None), (BOB, right, None)],
        vec![(61_098, right, None), (61_099, right, None)],
        vec![(BOB, right, None), (BOB, wrong, None), (ALICE, right, None)],
        vec![(EVE, right, None), (BOB, "other task", None)],
    ];
    let mut cases = Vec::new();
    for round in 0..5 {
        for (n, votes) in kinds.iter().enumerate() {
            let name = format!("case-{round}-{n}");
            world.drop_file("new", &format!("{name}.json"), task.as_bytes(), ALICE);
            cases.push((name, votes));
        }
    }
    let ids: Vec<u64> = cases.iter().map(|(name, _)| world.task_of(name)).collect();
    let digest = world.digest(ids[0]);
    let other = format!("sha256:{}", "0".repeat(64));
    let mut orders = 0;
    for (round, ((name, votes), id)) in cases.iter().zip(&ids).enumerate() {
        for (n, (uid, kind, until)) in votes.iter().enumerate() {
            // Odd rounds come from "two terminals": under another name, and the same file dropped twice.
            let target = if *kind == "other task" { ids[(round + 1) % ids.len()] } else { *id };
            let mut order = json!({"order": "approve", "task": if *kind == "other task" { 999_999 } else { target }});
            order["digest"] = json!(if *kind == wrong { &other } else { &digest });
            if let Some(until) = until {
                order["until"] = json!(until);
            }
            world.drop_file("orders", &format!("{name}-{n}.json"), order.to_string().as_bytes(), *uid);
            orders += 1;
            if round % 2 == 1 {
                world.drop_file("orders", &format!("{name}-{n}-again.json"), order.to_string().as_bytes(), *uid);
                orders += 1;
            }
        }
    }
    wait_for("every order to be answered", || {
        let own = [ALICE, BOB, EVE, 0].map(|uid| world.own_dir("orders", uid));
        own.iter().all(|dir| std::fs::read_dir(dir).unwrap().next().is_none()).then_some(())
    });
    assert!(orders > 100);
    for (id, (name, _)) in ids.iter().zip(&cases) {
        assert_eq!(world.standing(*id), ["new"], "{name}: {:?}", world.events(*id));
    }
    assert_eq!(std::fs::read_dir(&marks).unwrap().count(), 0, "something ran");
    // The same votes by two entitled people do start it, and one rejection is final.
    for uid in [BOB, EVE] {
        world.run(uid, &["approve", &ids[0].to_string(), "--digest", &digest]).ok();
    }
    assert_eq!(world.record(ids[0])["outcome"], "ok");
    world.run(BOB, &["reject", &ids[1].to_string(), "--reason", "no"]).ok();
    let late = world.run(EVE, &["approve", &ids[1].to_string(), "--digest", &digest]);
    assert_eq!((late.code, world.record(ids[1])["outcome"].clone()), (6, json!("rejected")), "{}", late.err);
}

#[test]
fn an_approval_withdrawn_a_second_before_the_start_sends_nothing() {
    let (mut world, door, _) = guarded();
    world.start();
    world.drop_file("new", "late.json", DEPLOY_TASK.as_bytes(), ALICE);
    let id = world.task_of("late");
    let begin = std::time::Instant::now();
    approve_at(&world, id, &in_seconds(4));
    let not_mine = world.run(EVE, &["withdraw", &id.to_string()]);
    assert_eq!(not_mine.code, 6, "{}", not_mine.err);
    wait_for("the last second", || (begin.elapsed() >= Duration::from_millis(2_900)).then_some(()));
    world.run(BOB, &["withdraw", &id.to_string(), "--reason", "second thoughts"]).ok();
    // The answer is the event; the file in the state folder follows it.
    world.stands(id, "new");
    wait_for("the start to pass", || (begin.elapsed() > Duration::from_secs(6)).then_some(()));
    assert_eq!((door.knocks(), world.standing(id)), (0, vec!["new"]));
    let events = world.events(id);
    assert_eq!(events.last().unwrap()["event"], "withdrawn");
    // It may be given again, and an approval that ends by itself is withdrawn by itself.
    let digest = world.digest(id);
    let soon = in_seconds(2);
    world
        .run(
            BOB,
            &["approve", &id.to_string(), "--digest", &digest, "--start", &in_seconds(60), "--until", &in_seconds(90)],
        )
        .ok();
    world.run(BOB, &["withdraw", &id.to_string()]).ok();
    let order = json!({"order": "approve", "task": id, "digest": digest, "until": soon});
    world.run(0, &["hold", &id.to_string(), "--reason", "not yet"]).ok();
    world.drop_file("orders", "short.json", order.to_string().as_bytes(), BOB);
    event(&world, id, "lapsed");
    world.stands(id, "new");
    assert_eq!(door.knocks(), 0);
}

#[test]
fn tasks_whose_time_passed_while_the_daemon_was_down_do_what_their_templates_say() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    let settings = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &(settings + "[limits]\nlate_after_s = 1\n"));
    for (n, missed) in ["run", "hold", "expire"].iter().enumerate() {
        let text = format!(
            "id = {}\nname = \"{missed}\"\ntitle = \"t\"\nmissed = \"{missed}\"\n[[step]]\nname = \"s\"\nscript = \"echo $SPOOLGATE_TASK\"\n",
            80 + n
        );
        world.write_etc(&format!("templates/{missed}.toml"), &text);
    }
    world.start();
    let mut ids = Vec::new();
    for missed in ["run", "hold", "expire"] {
        let task = json!({"task_name": missed, "temp_id": missed, "hosts": {"1": ["here"]}}).to_string();
        world.drop_file("new", &format!("{missed}.json"), task.as_bytes(), ALICE);
        ids.push(world.task_of(missed));
    }
    let start = in_seconds(2);
    for id in &ids {
        approve_at(&world, *id, &start);
    }
    world.kill_daemon();
    let since = std::time::Instant::now();
    wait_for("their time to pass", || (since.elapsed() > Duration::from_secs(4)).then_some(()));
    world.start();
    assert_eq!(world.record(ids[0])["outcome"], "ok");
    assert_eq!(world.record(ids[2])["outcome"], "expired");
    let held = event(&world, ids[1], "held");
    assert!(held["why"].as_str().unwrap().contains("passed while it could not start"), "{held}");
    world.stands(ids[1], "ready");
    let refused = world.run(ALICE, &["release", &ids[1].to_string()]);
    assert_eq!(refused.code, 6, "{}", refused.err);
    world.run(0, &["release", &ids[1].to_string()]).ok();
    assert_eq!(world.record(ids[1])["outcome"], "ok");
}

#[test]
fn policy_explains_itself() {
    let world = World::new(&[], None);
    let said = world.run(0, &["policy", "check"]).ok();
    assert_eq!(said, "policy.toml: ok\n");
    let yes = world.run(0, &["policy", "explain", "uid-61002", "approve", "hello"]).ok();
    assert!(yes.starts_with("yes: policy.toml:10 [[approve]]"), "{yes}");
    let no = world.run(0, &["policy", "explain", "uid-61003", "submit", "hello"]).ok();
    assert!(no.starts_with("no: ") && no.contains("uid-61003 is not included"), "{no}");
    assert_eq!(world.run(0, &["policy", "explain", "root", "eat", "hello"]).code, 2);
    let typo =
        "[[require]]\nenvironments = [\"prodd\"]\n[[approve]]\nwho = [\"*\"]\ntemplates = [\"hello\", \"hallo\"]\n";
    world.write_etc("policy.toml", typo);
    let odd = world.run(0, &["policy", "check"]);
    assert_eq!(odd.code, 0, "{}", odd.err);
    for name in ["environment prodd", "template hallo"] {
        assert!(odd.err.contains(&format!("nothing has the {name}")), "{}", odd.err);
    }
    assert!(!odd.err.contains("template hello"), "{}", odd.err);
    world.write_etc("policy.toml", "[[submit]]\nwho = [\"*\"]\ntemplates = [\"*\"]\ninto = [\"old\"]\n");
    let wrong = world.run(0, &["policy", "check"]);
    assert_eq!(wrong.code, 5, "{}", wrong.err);
    assert!(wrong.err.contains("policy.toml:4"), "{}", wrong.err);
}

#[test]
fn an_approval_counts_for_the_groups_that_its_giver_is_in_when_the_task_starts() {
    // Every Debian has this account; which groups it is in is the daemon's own view.
    const GAMES: u32 = 5;
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.write_etc(
        "policy.toml",
        "[[submit]]\nwho = [\"uid-61001\"]\ntemplates = [\"*\"]\ninto = [\"new\"]\n\
         [[approve]]\nwho = [\"@leads\"]\ntemplates = [\"*\"]\n[[control]]\nwho = [\"root\"]\ntemplates = [\"*\"]\n",
    );
    let groups = world.etc().with_file_name("group");
    let known = std::fs::read_to_string("/etc/group").unwrap();
    let of_leads = |member: &str| std::fs::write(&groups, format!("{known}leads:x:64999:{member}\n")).unwrap();
    of_leads("games");
    let bind = format!("mount --bind {} /etc/group && exec \"$@\"", groups.display());
    world.through = ["unshare", "--mount", "sh", "-c", &bind, "sh"].map(str::to_owned).to_vec();
    world.start();
    let drop = |name: &str, script: &str| {
        let task = json!({"task_name": name, "script": script, "hosts": {"1": ["here"]}}).to_string();
        world.drop_file("new", &format!("{name}.json"), task.as_bytes(), ALICE);
        world.task_of(name)
    };
    let approve = |id: u64, start: &str| {
        let digest = world.digest(id);
        world.run(GAMES, &["approve", &id.to_string(), "--digest", &digest, "--start", start]).ok();
    };
    // What has ended is judged by the groups of its approvers, too.
    let fails = drop("fails", "false");
    approve(fails, &in_seconds(0));
    assert_eq!(world.record(fails)["outcome"], "failed");
    world.run(0, &["retry", &fails.to_string(), "--reason", "again"]).ok();
    wait_for("its second end", || (world.try_record(fails)?["results"]["here"][0]["attempts"] == 2).then_some(()));
    let later = drop("later", "true");
    approve(later, &in_seconds(2));
    world.stands(later, "ready");
    of_leads("");
    let lapsed = event(&world, later, "lapsed");
    assert!(lapsed["why"].as_str().unwrap().contains("no rule in policy.toml lets games approve"), "{lapsed}");
    world.stands(later, "new");
    let refused = world.run(0, &["retry", &fails.to_string(), "--reason", "again"]);
    assert_eq!(refused.code, 6, "{}", refused.err);
}
