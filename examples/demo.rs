//! The main job in a minute: an SSH server inside this process stands for eight hosts, a daemon serves a scratch
//! state, the seeds' tasks are dropped as files, people approve, and the record is read back.
//!
//! On a terminal the dashboard is opened over it, with tasks that wait, run and have ended; `--story` prints the story there
//! too. `LINK=wan` puts round trips of 50 ms between the daemon and its hosts. The story exits 0 only if every task ended as it
//! should. Nothing outside the scratch directory is touched.
#![expect(clippy::print_stdout, reason = "the demo tells a story")]
#![expect(clippy::unwrap_used, reason = "the demo stops at the first surprise")]

#[path = "../tests/it/fake_ssh.rs"]
#[expect(dead_code, reason = "tests use the rest of the server")]
mod fake_ssh;
#[path = "../tests/it/relay.rs"]
#[expect(dead_code, reason = "tests use the rest of the relay")]
mod relay;

use std::fs;
use std::io::IsTerminal as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fake_ssh::{Behaviour, FakeSsh, write_client_key};
use relay::{Relay, Shape};
use serde_json::{Value, json};
use spoolgate::base::digest::Digest;
use spoolgate::base::ids::TaskId;
use spoolgate::domain::order::{Order, Wish};
use spoolgate::shells::{Dirs, clock, daemon};

/// The hosts, with the addresses that the seeds give some of them.
const HOSTS: [(&str, &str); 8] = [
    ("web1", "127.0.1.1"),
    ("web2", "127.0.1.2"),
    ("web3", "127.0.1.3"),
    ("db1", "127.0.1.4"),
    ("172.16.0.101", "127.0.1.5"),
    ("127.0.0.1", "127.0.1.6"),
    ("192.168.3.200", "127.0.1.7"),
    ("192.168.3.201", "127.0.1.8"),
];

/// How many more hosts there are for the dashboard.
const FARM: u64 = 40;

/// A template with a step that waits for somebody.
const ROLLING: &str = r#"id = 900
name = "rolling-restart"
title = "Drain, restart, check"
risk = "medium"

[[step]]
name = "drain"
script = "echo draining; sleep 3; echo \"$(date +%T) no connections left\"\n"

[[step]]
name = "restart"
script = "echo restarting; sleep 4; printf '\\033[32mup again\\033[0m\\n'\n"

[[step]]
name = "check"
trigger = "manual"
script = "echo healthy\n"
"#;

/// Somebody who submits and somebody who approves, where this process may act as both.
const SUBMITTER: u32 = 61_001;
const APPROVER: u32 = 61_002;

fn main() -> ExitCode {
    // The daemon in here starts processes that speak SSH, as the program does.
    if let Some(ended) = spoolgate::adapters::ssh::worker::run_if_asked() {
        return ended;
    }
    let scratch = tempfile::Builder::new().prefix("spoolgate-demo.").tempdir().unwrap();
    fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let demo = Demo::set_up(scratch.path(), &runtime);
    let dirs = Dirs { config: demo.root.join("etc"), state: demo.root.join("state") };
    let shown = dirs.clone();
    let served = std::thread::spawn(move || daemon::run(&dirs).map_err(|error| error.to_string()));
    while !demo.root.join("state/spool/.serving").exists() {
        if served.is_finished() {
            println!("the daemon ended: {:?}", served.join());
            return ExitCode::FAILURE;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let story = std::env::args().any(|arg| arg == "--story");
    if !story && std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        demo.fill_the_board();
        println!("The state is {}; q ends the demo and removes it.", demo.root.display());
        return match spoolgate::shells::entry::show_dashboard(&shown) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let surprises = demo.tell();
    if served.is_finished() {
        println!("the daemon ended: {:?}", served.join());
        return ExitCode::FAILURE;
    }
    println!();
    if surprises.is_empty() {
        println!("Every task ended as it should.");
        ExitCode::SUCCESS
    } else {
        for surprise in surprises {
            println!("SURPRISE: {surprise}");
        }
        ExitCode::FAILURE
    }
}

struct Demo {
    root: PathBuf,
    root_user: bool,
    _server: FakeSsh,
    _far: Option<Relay>,
}

impl Demo {
    fn set_up(root: &Path, runtime: &tokio::runtime::Runtime) -> Demo {
        let etc = root.join("etc");
        for dir in ["etc/inventory", "etc/templates", "hosts", "bin"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let client = write_client_key(&etc.join("id_ed25519"));
        let (homes, path) = (root.join("hosts"), format!("{}:/usr/bin:/bin", root.join("bin").display()));
        let server = runtime.block_on(FakeSsh::start(&client, move |address| {
            let name = HOSTS.iter().find(|(_, known)| *known == address.to_string()).map_or("other", |(name, _)| name);
            let home = homes.join(name);
            fs::create_dir_all(&home).unwrap();
            Behaviour::Shell { home, path: path.clone() }
        }));
        let far = (std::env::var("LINK").as_deref() == Ok("wan")).then(|| {
            let listener = std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap();
            Relay::listen(listener, server.port, Shape::round_trip(Duration::from_millis(50)))
        });
        let port = far.as_ref().map_or(server.port, Relay::port);
        // Seed 004 asks hosts for their sockets; the stand-ins have a program of that name too.
        fs::write(root.join("bin/ss"), "#!/bin/sh\necho 'LISTEN 0 128 0.0.0.0:22 users:((\"sshd\"))'\n").unwrap();
        fs::set_permissions(root.join("bin/ss"), PermissionsExt::from_mode(0o755)).unwrap();
        fs::create_dir_all(root.join("hosts/db1/data")).unwrap();
        fs::write(root.join("hosts/db1/data/orders.csv"), "1,2,3\n").unwrap();

        let me = spoolgate::adapters::users::current_uid();
        let root_user = me == 0;
        let mine = spoolgate::adapters::users::actor(me).user;
        let known = server.known_hosts().replace(&format!("]:{} ", server.port), &format!("]:{port} "));
        fs::write(etc.join("known_hosts"), known).unwrap();
        fs::write(
            etc.join("spoolgate.toml"),
            format!(
                "time_zone = \"Asia/Shanghai\"\n[ssh]\nuser = \"ops\"\nagent = false\nkey = \"{}\"\n",
                etc.join("id_ed25519").display()
            ),
        )
        .unwrap();
        fs::write(etc.join("policy.toml"), policy(&mine, root_user)).unwrap();
        let farm = (1..=FARM).map(|n| (format!("shop-{n:02}"), format!("127.0.2.{n}"), "tags = [\"shop\"]\n"));
        let named = HOSTS.iter().map(|(name, address)| ((*name).to_owned(), (*address).to_owned(), ""));
        let inventory: String = named
            .chain(farm)
            .map(|(name, address, tags)| format!("[host.\"{name}\"]\naddress = \"{address}\"\nport = {port}\n{tags}"))
            .collect();
        fs::write(etc.join("inventory/hosts.toml"), inventory).unwrap();
        for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/templates")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), etc.join("templates").join(file.file_name())).unwrap();
        }
        fs::write(etc.join("templates/rolling-restart.toml"), ROLLING).unwrap();
        Demo { root: root.to_owned(), root_user, _server: server, _far: far }
    }

    /// Drops tasks of every kind: some wait for approval, one waits for its time, one runs and one has failed.
    fn fill_the_board(&self) {
        let shop = |first: u64, last: u64| (first..=last).map(|n| format!("shop-{n:02}")).collect::<Vec<_>>();
        let check = "echo checking $SPOOLGATE_HOST\n[ $SPOOLGATE_HOST != web2 ] || { echo disk full >&2; exit 3; }\n";
        let failed = json!({"task_name": "滚动检查", "script": check, "hosts": {"1": ["web1", "web2", "web3"]}});
        let failed = self.drop_task("ready", "check", failed.to_string().as_bytes(), 0);
        let running = json!({"task_name": "滚动重启 shop", "temp_id": "rolling-restart", "hosts": {"1": shop(1, 24)},
            "batches": [6, 6, 12], "batch_interval": 20});
        self.drop_task("ready", "rolling", running.to_string().as_bytes(), 0);
        let later = json!({"task_name": "备份数据库", "temp_id": "backup", "hosts": {"1": ["db1"]},
            "exec_time": clock::now().plus_ms(3_600_000).to_string(),
            "args": {"SOURCE": self.root.join("hosts/db1/data"), "TARGET": self.root.join("hosts/db1/backups")}});
        self.drop_task("ready", "nightly-backup", later.to_string().as_bytes(), 0);
        self.drop_task("new", "seed-002", include_bytes!("../tests/data/seeds/002_custom.json"), SUBMITTER);
        let hello = json!({"task_name": "say hello", "temp_id": "hello", "hosts": {"1": ["web1", "web2"]},
            "args": {"VERSION": "2.8"}, "details": "try it: a approves"});
        self.drop_task("new", "hello", hello.to_string().as_bytes(), SUBMITTER);
        let big = json!({"task_name": "重启全部 shop", "temp_id": "rolling-restart", "hosts": {"1": "shop-*"},
            "batches": ["10%", "90%"], "batch_gate": true});
        self.drop_task("new", "restart-all", big.to_string().as_bytes(), SUBMITTER);
        self.wait_for("the record", || read(&self.root.join(format!("state/spool/done/{failed}.json"))));
    }

    /// Tells the story and returns what did not go as it should.
    fn tell(&self) -> Vec<String> {
        let mut surprises = Vec::new();
        println!("Eight hosts stand in this process, a daemon serves {}", self.root.join("state").display());
        println!(
            "\n1. Seed 000, example 3, is dropped into ready/ byte for byte. Its time has passed: it runs at once."
        );
        let seed_000 = self.drop_task("ready", "seed-000", include_bytes!("../tests/data/seeds/000_example3.json"), 0);
        self.expect(seed_000, "ok", &mut surprises);

        println!("\n2. Seed 002's JSON is dropped into new/. It says \"ready\"; the directory says that it waits.");
        let seed_002 =
            self.drop_task("new", "seed-002", include_bytes!("../tests/data/seeds/002_custom.json"), SUBMITTER);
        if self.root_user {
            println!("   Its submitter approves it:");
            self.approve(seed_002, SUBMITTER);
        }
        println!("   Somebody else approves it:");
        self.approve(seed_002, APPROVER);
        self.expect(seed_002, "ok", &mut surprises);

        println!("\n3. Seed 004's body, with its hosts as a JSON string, runs a script on two hosts.");
        let seed_004 = self.drop_task("ready", "seed-004", include_bytes!("../tests/data/seeds/004_task_add.json"), 0);
        self.expect(seed_004, "ok", &mut surprises);

        println!("\n4. A script fails on one of three hosts; its siblings go on.");
        let script =
            "echo step on $SPOOLGATE_HOST\n[ \"$SPOOLGATE_HOST\" != web2 ] || { echo disk full >&2; exit 3; }\n";
        let partial = json!({"task_name": "滚动检查", "script": script, "hosts": {"1": ["web1", "web2", "web3"]}});
        let partial = self.drop_task("ready", "partial", partial.to_string().as_bytes(), 0);
        self.expect(partial, "failed", &mut surprises);

        println!("\n5. A backup task runs at its time, one second from now.");
        let data = self.root.join("hosts/db1/data");
        let backup = json!({"task_name": "备份数据库", "temp_id": "backup", "hosts": "{1: 'db1'}",
            "exec_time": clock::now().plus_ms(1_000).to_string(),
            "args": {"SOURCE": data, "TARGET": self.root.join("hosts/db1/backups")}});
        let backup = self.drop_task("ready", "nightly-backup", backup.to_string().as_bytes(), 0);
        self.expect(backup, "ok", &mut surprises);

        println!("\n6. A file that is wrong in four ways ends in bad/, with all four reasons.");
        let wrong = br#"{"task_nam": "x", "temp_id": 777, "hosts": {"1": ["10.0.0.1;id"]}, "exec_time": "soon"}"#;
        self.put("new", "wrong.json", wrong, 0);
        let why = self.wait_for("wrong.why", || read(&self.root.join("state/spool/bad/wrong.why")));
        let problems = why["problems"].as_array().unwrap().clone();
        for problem in &problems {
            println!(
                "   {}: found {}; wanted {}",
                text(&problem["pointer"]),
                text(&problem["found"]),
                text(&problem["wanted"])
            );
        }
        if problems.len() < 4 {
            surprises.push(format!("only {} problems were found", problems.len()));
        }
        surprises
    }

    fn drop_task(&self, drop_box: &str, name: &str, bytes: &[u8], uid: u32) -> TaskId {
        self.put(drop_box, &format!("{name}.json"), bytes, uid);
        let id = self.wait_for(name, || {
            fs::read_dir(self.root.join("state/runs")).ok()?.find_map(|entry| {
                let id: u64 = entry.ok()?.file_name().to_str()?.parse().ok()?;
                (self.events(TaskId(id)).first()?["name"] == name).then_some(TaskId(id))
            })
        });
        println!("   spool/{drop_box}/{name}.json became task {id}");
        id
    }

    /// Drops a file as somebody, where this process may, into their own directory in a box; a file appears whole, by rename.
    fn put(&self, drop_box: &str, name: &str, bytes: &[u8], uid: u32) {
        let owner = if self.root_user { uid } else { nix::unistd::geteuid().as_raw() };
        let in_box = self.root.join("state/spool").join(drop_box);
        let dir = in_box.join(format!("uid-{owner}"));
        if !dir.exists() {
            let made = in_box.join(format!(".{owner}"));
            fs::create_dir(&made).unwrap();
            if self.root_user {
                chown(&made, Some(owner), None).unwrap();
            }
            fs::set_permissions(&made, PermissionsExt::from_mode(0o750)).unwrap();
            fs::rename(made, &dir).unwrap();
        }
        let staged = dir.join(format!(".{name}"));
        fs::write(&staged, bytes).unwrap();
        fs::set_permissions(&staged, PermissionsExt::from_mode(0o644)).unwrap();
        if self.root_user && uid != 0 {
            chown(&staged, Some(uid), None).unwrap();
        }
        fs::rename(staged, dir.join(name)).unwrap();
    }

    fn approve(&self, id: TaskId, uid: u32) {
        let plan = fs::read(self.root.join(format!("state/runs/{id}/plan.json"))).unwrap();
        let order = Order {
            task: id.to_string(),
            wish: Wish::Approve { digest: Digest::of(&plan), start: None, until: None },
            reason: None,
        };
        let name = format!("approve-{id}-{uid}.json");
        self.put("orders", &name, &order.write(), uid);
        let answer = self.wait_for("an answer", || {
            let ends = format!("/{name}");
            let names = |event: &Value| event["order"]["name"].as_str().is_some_and(|name| name.ends_with(&ends));
            self.events(id).into_iter().find(names)
        });
        match answer["event"].as_str() {
            Some("approved") => {
                println!("   approved by {}: plan {}", text(&answer["by"]["user"]), text(&answer["digest"]));
            }
            _ => println!("   refused: {}", text(&answer["why"])),
        }
    }

    /// Waits for a task's record, prints it and compares its outcome.
    fn expect(&self, id: TaskId, outcome: &str, surprises: &mut Vec<String>) {
        let path = self.root.join(format!("state/spool/done/{id}.json"));
        let record = self.wait_for("the record", || read(&path));
        println!("   task {id} \"{}\": {}", text(&record["task_name"]), text(&record["outcome"]));
        for (host, steps) in record["results"].as_object().unwrap() {
            for step in steps.as_array().unwrap() {
                let end =
                    step["exit_code"].as_i64().map_or_else(|| text(&step["reason"]), |code| format!("exit {code}"));
                println!("     {host:<14} {:<10} {:<8} {end}", text(&step["step"]), text(&step["outcome"]));
                let log = self.root.join(format!("state/runs/{id}/output/{host}/{}.log", text(&step["step"])));
                for line in fs::read_to_string(log).unwrap_or_default().lines().take(3) {
                    println!("       | {line}");
                }
            }
        }
        if record["outcome"] != outcome {
            surprises.push(format!("task {id} ended {}, not {outcome}: {record:#}", record["outcome"]));
        }
    }

    fn events(&self, id: TaskId) -> Vec<Value> {
        let journal = fs::read_to_string(self.root.join(format!("state/runs/{id}/events.jsonl"))).unwrap_or_default();
        journal.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            let bad = self.root.join(format!("state/spool/bad/{what}.why"));
            assert!(!bad.exists(), "{what} was refused: {}", fs::read_to_string(bad).unwrap_or_default());
            assert!(begin.elapsed() < Duration::from_mins(1), "waited a minute for {what}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

fn read(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The rules of the demo: who drops into ready/ is trusted, everybody else needs a second person. A process that is not
/// root has nobody else to be, so it may approve its own.
fn policy(me: &str, root_user: bool) -> String {
    let (submitter, approver) = if root_user { ("uid-61001", "uid-61002\", \"root") } else { (me, me) };
    format!(
        "[[submit]]\nwho = [\"{me}\"]\ntemplates = [\"*\"]\ninto = [\"new\", \"ready\"]\n\
         [[submit]]\nwho = [\"{submitter}\"]\ntemplates = [\"*\"]\ninto = [\"new\"]\n\
         [[approve]]\nwho = [\"{submitter}\", \"{approver}\"]\ntemplates = [\"*\"]\nself = {}\n\
         [[control]]\nwho = [\"{me}\"]\ntemplates = [\"*\"]\n",
        !root_user
    )
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
