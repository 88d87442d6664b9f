//! Six people with accounts try to act as one another, in generated ways; beside each attempt somebody honest does the same for
//! themselves, which must work.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::http::{append, ask, create_token, port_of};
use crate::mixed_load::Dice;
use crate::patience::InTime as _;
use crate::remote::from_env;
use crate::world::{GROUP_ID, World, wait_for};

const PEOPLE: [(u32, &str); 6] =
    [(61_101, "ann"), (61_102, "ben"), (61_103, "cat"), (61_104, "dan"), (61_105, "eva"), (61_106, "fay")];
/// The daemon's own account, where it has one.
const DAEMON: u32 = 61_050;
/// The first of the numbers that one person owns beside their own.
const SUBORDINATE: u32 = 700_000;

const POLICY: &str = r#"
[[submit]]
who = ["*", "token:ci"]
templates = ["*"]
into = ["new"]
[[submit]]
who = ["ann", "ben", "root"]
templates = ["*"]
into = ["new", "ready"]
[[approve]]
who = ["ann", "ben", "cat"]
templates = ["*"]
[[control]]
who = ["*"]
templates = ["*"]
own = true
"#;

/// As whom the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum As {
    Root,
    OwnUser,
    Personal,
}

/// The ways in which somebody acts as somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    MoveFlat,
    MoveIntoOwn,
    MoveOrder,
    MoveOrderIntoOwn,
    MoveDirectory,
    HardLink,
    Link,
    LinkedDirectory,
    SwappedDirectory,
    BoundDirectory,
    OthersName,
    Subordinate,
    ReplayedOrder,
    OthersKey,
    OthersTask,
    ForgedToken,
}

const KINDS: [Kind; 16] = [
    Kind::MoveFlat,
    Kind::MoveIntoOwn,
    Kind::MoveOrder,
    Kind::MoveOrderIntoOwn,
    Kind::MoveDirectory,
    Kind::HardLink,
    Kind::Link,
    Kind::LinkedDirectory,
    Kind::SwappedDirectory,
    Kind::BoundDirectory,
    Kind::OthersName,
    Kind::Subordinate,
    Kind::ReplayedOrder,
    Kind::OthersKey,
    Kind::OthersTask,
    Kind::ForgedToken,
];

struct Stage {
    world: World,
    daemon: As,
    /// Where everybody may put files and take others' away.
    common: PathBuf,
    /// A task that waits for approval, by its number.
    waiting: u64,
    token: String,
    acts: Vec<String>,
}

impl Stage {
    fn new(daemon: As) -> Stage {
        let mut world = World::new(&[], None);
        world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
        world.write_etc("policy.toml", POLICY);
        append(&world.etc().join("spoolgate.toml"), "[http]\nlisten = [\"127.0.0.1:0\"]\n");
        let passwd = world.etc().with_file_name("passwd");
        let accounts = PEOPLE.iter().map(|(uid, name)| format!("{name}:x:{uid}:100::/nonexistent:/bin/sh\n"));
        let known = std::fs::read_to_string("/etc/passwd").unwrap();
        std::fs::write(&passwd, known + &accounts.collect::<String>()).unwrap();
        let own = format!("setpriv --reuid={DAEMON} --regid={GROUP_ID} --clear-groups ");
        let own = if daemon == As::OwnUser { own.as_str() } else { "" };
        let command = format!("mount --bind {} /etc/passwd && exec {own}\"$@\"", passwd.display());
        world.through = ["unshare", "--mount", "sh", "-c", &command, "sh"].map(str::to_owned).to_vec();
        std::fs::create_dir(world.state()).unwrap();
        if daemon == As::OwnUser {
            chown(world.state(), Some(DAEMON), Some(GROUP_ID)).unwrap();
        }
        if daemon == As::Personal {
            std::fs::remove_file(world.etc().join("policy.toml")).unwrap();
        }
        let token = create_token(&world, "ci", &["--for", "submit", "--templates", "*"]);
        let common = world.scratch().join("common");
        std::fs::create_dir(&common).unwrap();
        std::fs::set_permissions(&common, Permissions::from_mode(0o777)).unwrap();
        world.start();
        let mut stage = Stage { world, daemon, common, waiting: 0, token, acts: Vec::new() };
        stage.honest(stage.somebody_honest(3), "waiting");
        stage.waiting = stage.world.task_of("waiting");
        stage
    }

    /// Runs a script as somebody, where the daemon's accounts and mounts are seen.
    fn run_as(&self, uid: u32, script: &str) {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.world.daemon_pid().to_string(), "setpriv"]);
        command.args([&format!("--reuid={uid}"), &format!("--regid={GROUP_ID}"), "--clear-groups", "sh", "-c", script]);
        // Most attempts fail in the shell already.
        let _ = command.output_in_time().unwrap();
    }

    /// Returns the path of a box.
    fn at(&self, drop_box: &str) -> String {
        self.world.box_dir(drop_box).display().to_string()
    }

    /// In personal mode nobody but the owner is heard.
    fn somebody_honest(&self, n: usize) -> (u32, &'static str) {
        if self.daemon == As::Personal { (0, "root") } else { PEOPLE[n] }
    }

    /// Drops a task of somebody's own as they would.
    fn honest(&self, (uid, user): (u32, &str), name: &str) {
        let into = format!("{}/{user}", self.at("new"));
        let text = task(&format!("honest actor={user}"), None);
        self.run_as(
            uid,
            &format!(
                "umask 027; mkdir -p {into}; printf %s '{text}' >{into}/.{name}; mv {into}/.{name} {into}/{name}.json"
            ),
        );
    }

    /// Leaves an old file of somebody's where others may take it away.
    fn leave(&self, uid: u32, name: &str, text: &str) -> String {
        let path = self.common.join(name);
        std::fs::write(&path, text).unwrap();
        chown(&path, Some(uid), Some(GROUP_ID)).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        path.display().to_string()
    }

    /// What approves the task that waits.
    fn approval(&self) -> String {
        json!({"order": "approve", "task": self.waiting, "digest": self.world.digest(self.waiting)}).to_string()
    }

    /// Leaves an old task, an old order and a directory of somebody's with both.
    fn leave_all(&self, uid: u32, n: usize, text: &str, approval: &str) -> [String; 3] {
        let folder = self.common.join(format!("folder{n}"));
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in [("attack.json", text), ("attack-vote.json", approval)] {
            std::fs::rename(self.leave(uid, name, text), folder.join(format!("{n}{name}"))).unwrap();
        }
        chown(&folder, Some(uid), Some(GROUP_ID)).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let file = self.leave(uid, &format!("attack{n}.json"), text);
        [file, self.leave(uid, &format!("attack-vote{n}.json"), approval), folder.display().to_string()]
    }

    fn attempt(&mut self, dice: &mut Dice, kind: Kind, n: usize) {
        let attacker = usize::try_from(dice.roll(6)).unwrap();
        let victim = (attacker + 1 + usize::try_from(dice.roll(5)).unwrap()) % 6;
        let ((uid, me), (their_uid, them)) = (PEOPLE[attacker], PEOPLE[victim]);
        let drop_box = dice.one_of(&["new", "ready"]);
        let (at, orders) = (self.at(drop_box), self.at("orders"));
        let text = task(&format!("attack actor={me}"), None);
        let approval = self.approval();
        let [file, order, folder] = self.leave_all(their_uid, n, &text, &approval);
        let own = format!("mkdir -p {at}/{me} {orders}/{me}; chmod 750 {at}/{me} {orders}/{me}");
        let script = match kind {
            Kind::MoveFlat => format!("mv {file} {at}/"),
            Kind::MoveIntoOwn => format!("{own}; mv {file} {at}/{me}/"),
            Kind::MoveOrder => format!("mv {order} {orders}/"),
            Kind::MoveOrderIntoOwn => format!("{own}; mv {order} {orders}/{me}/; mv {order} {orders}/{them}/"),
            Kind::MoveDirectory => format!("mv {folder} {at}/{them}+{n}; mv {folder} {orders}/{them}+{n}"),
            Kind::HardLink => format!("{own}; ln {file} {at}/{me}/; ln {order} {orders}/{me}/; ln {file} {at}/"),
            Kind::Link => format!("{own}; ln -s {file} {at}/{me}/; ln -s {order} {orders}/attack{n}.json"),
            Kind::LinkedDirectory => format!("ln -s {folder} {at}/{them}+{n}; ln -s {folder} {orders}/{them}+{n}"),
            Kind::SwappedDirectory => format!(
                "mkdir {at}/{me}+{n}; for i in 1 2 3 4 5 6 7 8; do mv {at}/{me}+{n} {at}/.{n}; ln -s {folder} {at}/{me}+{n}; \
                 rm {at}/{me}+{n}; mv {at}/.{n} {at}/{me}+{n}; done; mv {file} {at}/{me}+{n}/"
            ),
            Kind::BoundDirectory => {
                self.run_as(uid, &format!("mkdir {orders}/{them}+{n} {at}/{them}+{n}"));
                let bind = |at: &str| format!("mount --bind {folder} {at}/{them}+{n}");
                self.run_as(0, &format!("{}; {}", bind(&orders), bind(&at)));
                String::new()
            }
            Kind::OthersName => format!(
                "mkdir {at}/{them}+{n} {orders}/{them}+{n}; printf %s '{text}' >{at}/{them}+{n}/attack{n}.json; \
                 printf %s '{approval}' >{orders}/{them}+{n}/attack-vote{n}.json"
            ),
            Kind::Subordinate => {
                let uid = SUBORDINATE + u32::try_from(dice.roll(60_000)).unwrap();
                let own = format!("{orders}/uid-{uid}");
                self.run_as(0, &format!(
                    "mkdir {own}; cp {order} {own}/attack{n}.json; chown -R {uid}:{GROUP_ID} {own}; chown {uid} {file}; mv {file} {at}/"
                ));
                String::new()
            }
            Kind::ReplayedOrder => {
                // Whoever may approve approves nothing that is their own; the others approve nothing.
                if attacker < 3 {
                    return self.honest_beside(n);
                }
                format!("{own}; printf %s '{approval}' >{orders}/{me}/attack-vote{n}.json")
            }
            Kind::OthersKey => {
                let keyed = task(&format!("honest actor={them}"), Some(&format!("key{n}")));
                self.world.drop_flat("new", &format!("keyed{n}.json"), keyed.as_bytes(), their_uid);
                if self.daemon != As::Personal {
                    self.world.task_of(&format!("keyed{n}"));
                }
                format!("{own}; mkdir -p {0}/{me}; printf %s '{keyed}' >{0}/{me}/mykey{n}.json", self.at("new"))
            }
            Kind::OthersTask => {
                let hold = json!({"order": "hold", "task": dice.one_of(&["waiting", self.waiting.to_string().as_str()]), "reason": format!("actor={me}")});
                if attacker == 3 {
                    return self.honest_beside(n);
                }
                format!("{own}; printf %s '{hold}' >{orders}/{me}/attack-hold{n}.json")
            }
            Kind::ForgedToken => {
                self.forge(dice, &text);
                String::new()
            }
        };
        if !script.is_empty() {
            self.run_as(uid, &format!("umask 027; {script}"));
        }
        self.honest_beside(n);
    }

    fn honest_beside(&self, n: usize) {
        self.honest(self.somebody_honest(n % 6), &format!("honest{n}"));
    }

    fn forge(&mut self, dice: &mut Dice, text: &str) {
        let (port, token) = (port_of(&self.world), self.token.clone());
        let forged = match dice.roll(5) {
            0 => token[..token.len() - 1].to_owned(),
            1 => format!("{token}A"),
            2 => token.to_uppercase(),
            3 => format!("sgt_{:032x}", dice.roll(u64::MAX)),
            _ => token.chars().rev().collect(),
        };
        let heard =
            ask(port, "POST", "/api/v1/task", &[("Authorization", &format!("Bearer {forged}"))], text.as_bytes());
        if heard.status != 401 && heard.status != 429 {
            self.acts.push(format!("a forged token was answered {}", heard.status));
        }
    }

    /// Looks what became of it all, after a start that looks at everything.
    fn judge(&mut self, attempts: usize) -> usize {
        self.world.kill_daemon();
        self.world.start();
        self.honest(self.somebody_honest(0), "last");
        self.world.task_of("last");
        let tasks = self.world.tasks();
        let word = |text: &str| text.split("actor=").nth(1)?.split(['"', '\\', ' ']).next().map(str::to_owned);
        let mut honest = 0;
        for (id, events) in &tasks {
            let accepted = &events[0];
            let (by, text) = (accepted["by"]["user"].as_str().unwrap(), accepted["submission"].as_str().unwrap());
            let (is_attack, actor) = (text.contains("attack"), word(text).unwrap());
            let name = accepted["name"].as_str().unwrap();
            let unproved = accepted["unproved"] == true;
            if is_attack {
                let skipped = accepted["admission"]["state"] == "ready";
                let as_another = by != actor && !unproved;
                if as_another || skipped || self.daemon == As::Personal || by.starts_with("uid-") {
                    self.acts.push(format!("task {id} of {by}, by {actor}: {accepted}"));
                }
            } else if by == actor && !unproved && name.starts_with("honest") {
                honest += 1;
            }
            for event in &events[1..] {
                self.acts.extend(foreign(event, by).map(|why| format!("task {id} of {by}: {why}: {event}")));
            }
        }
        for n in (0..attempts).filter(|n| KINDS[n % KINDS.len()] == Kind::OthersKey && self.daemon != As::Personal) {
            let mine = tasks.iter().filter(|(_, events)| events[0]["name"] == format!("mykey{n}"));
            if mine.count() != 1 {
                self.acts.push(format!("a key of another's stood in the way of mykey{n}"));
            }
        }
        honest
    }
}

/// Says what an event lets somebody do that they may not.
fn foreign(event: &Value, submitter: &str) -> Option<&'static str> {
    let what = event["event"].as_str()?;
    match what {
        "approved" => Some("nobody approved it honestly"),
        "held" if event["ordered"]["by"]["user"] != submitter => Some("held by another"),
        "started" if submitter != "root" => Some("started without approval"),
        _ => None,
    }
}

fn task(what: &str, key: Option<&str>) -> String {
    let task = json!({"task_name": "t", "hosts": {"1": ["here"]}, "script": format!("true # {what}")});
    let mut task = task;
    if let Some(key) = key {
        task["idempotency_key"] = json!(key);
    }
    task.to_string()
}

fn nobody_acts_as_another(daemon: As) {
    let (attempts, seed) = (from_env("HOSTILE_ATTEMPTS", 32), from_env("HOSTILE_SEED", 1));
    let attempts = usize::try_from(attempts).unwrap();
    let mut dice = Dice(seed);
    let mut stage = Stage::new(daemon);
    for n in 0..attempts {
        stage.attempt(&mut dice, KINDS[n % KINDS.len()], n);
    }
    wait_for("the last honest task", || {
        let name = format!("honest{}", attempts - 1);
        stage.world.tasks().iter().any(|(_, events)| events[0]["name"] == name).then_some(())
    });
    let honest = stage.judge(attempts);
    let bad = std::fs::read_dir(stage.world.box_dir("bad")).unwrap().flatten();
    let bad = bad.filter(|entry| entry.file_name().to_string_lossy().ends_with(".why")).count();
    assert!(bad >= attempts / 4, "only {bad} came before the daemon at all");
    eprintln!(
        "{daemon:?}: {attempts} attempts of {} kinds: {} acts; {attempts} controls: {}; replay: make hostile HOSTILE_SEED={seed} \
         HOSTILE_ATTEMPTS={attempts}",
        KINDS.len(),
        stage.acts.len(),
        if honest == attempts { "all worked".to_owned() } else { format!("{honest} worked") }
    );
    assert!(stage.acts.is_empty(), "{}", stage.acts.join("\n"));
    assert_eq!(honest, attempts, "what is honest works");
}

#[test]
fn nobody_acts_as_another_under_a_daemon_of_root() {
    nobody_acts_as_another(As::Root);
}

#[test]
fn nobody_acts_as_another_under_a_daemon_of_its_own_user() {
    nobody_acts_as_another(As::OwnUser);
}

#[test]
fn nobody_acts_as_the_owner_in_personal_mode() {
    nobody_acts_as_another(As::Personal);
}
