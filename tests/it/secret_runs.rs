//! Secrets: scripts get them, and nobody else does.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use serde_json::json;

use crate::sshd::{Sshd, free_port};
use crate::world::{ALICE, BOB, World, wait_at_most, wait_for};

/// Prints its secret in every way that it can think of, and fails.
const SCRIPT: &str = r#"
printf '%s' "$DB_PASS" | sha256sum | cut -c1-64
echo "plain $DB_PASS" ; echo "err $DB_PASS" >&2
printf '%s' "user:$DB_PASS" | base64 -w 20
printf '%s' "$DB_PASS" | base64
bash -c 'printf "%q\n" "$DB_PASS"; declare -p DB_PASS'; export -p | grep DB_PASS
/usr/bin/python3 -c 'import os, json, shlex, urllib.parse as u; s = os.environ["DB_PASS"]; print(u.quote(s), u.quote_plus(s), json.dumps(s), json.dumps(s, ensure_ascii=False), shlex.quote(s), repr(s))'
printf '%s' "$DB_PASS" | head -c 11; sleep 0.05; printf '%s' "$DB_PASS" | tail -c +12; echo
set -x; : "$DB_PASS"; set +x
if [ "$SPOOLGATE_CALLBACK" ]; then
    printf '"at %s"' "$DB_PASS" | curl -fsS -o /dev/null -H "Authorization: Bearer $SPOOLGATE_TOKEN" --data-binary @- "$SPOOLGATE_CALLBACK"
fi
sleep 0.2
echo "done $OTHER"; exit 3
"#;

/// Returns the files below a directory that hold one of the texts.
fn holders(dir: &Path, texts: &[Vec<u8>], but: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return found };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| !but.contains(path)) {
        if path.is_dir() {
            found.extend(holders(&path, texts, but));
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            found.extend(holds(&bytes, texts).then_some(path));
        }
    }
    found
}

fn holds(bytes: &[u8], texts: &[Vec<u8>]) -> bool {
    texts.iter().any(|text| memchr::memmem::find(bytes, text).is_some())
}

fn world(sshd: &Sshd, canary: &str) -> World {
    let mut world = World::new(&[("far", "127.0.0.1")], Some(sshd));
    let hosts = std::fs::read_to_string(world.etc().join("inventory/hosts.toml")).unwrap();
    world.write_etc("inventory/hosts.toml", &format!("{hosts}[host.near]\nconnection = \"local\"\n"));
    let port = free_port();
    let settings = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    let http = format!("[http]\nlisten = [\"127.0.0.1:{port}\"]\ncallback = \"http://127.0.0.1:{port}\"\n");
    world.write_etc("spoolgate.toml", &format!("{settings}{http}"));
    std::fs::create_dir(world.etc().join("secrets")).unwrap();
    world.write_etc("secrets/db", &format!("{canary}\n"));
    world.write_etc("secrets/other", "the other one\n");
    for name in ["db", "other"] {
        std::fs::set_permissions(world.etc().join("secrets").join(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
    let template = format!(
        "id = 71\nname = \"leaky\"\ntitle = \"t\"\n\
         [[param]]\nname = \"DB_PASS\"\nlabel = \"password\"\nsecret = true\ndefault = \"secret:db\"\n\
         [[step]]\nname = \"a\"\nscript = '''{SCRIPT}'''\nenv = {{ OTHER = \"secret:other\" }}\non_failure = \"continue\"\n\
         [step.handler]\nscript = 'echo \"$DB_PASS $SPOOLGATE_FAILED_RESULT\"'\n\
         [[step]]\nname = \"b\"\nscript = 'echo \"again $DB_PASS\"'\n"
    );
    world.write_etc("templates/leaky.toml", &template);
    world.start();
    world
}

/// Notes every command line that shows one of the texts, until it is over.
fn watch_processes(texts: &[Vec<u8>], over: &AtomicBool, seen: &Mutex<Vec<String>>) {
    while !over.load(Ordering::Relaxed) {
        for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if holds(&line, texts) {
                seen.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        }
        std::thread::park_timeout(Duration::from_millis(3));
    }
}

/// `SECRET_RUNS=1000` runs more tasks, each on two hosts.
#[test]
fn a_canary_that_every_script_prints_is_found_nowhere() {
    let runs: u64 = std::env::var("SECRET_RUNS").map_or(25, |count| count.parse().unwrap());
    let canary = format!("cAn4/ry {}'@$x%é-long-{:x}", std::process::id(), spoolgate::shells::clock::now().0);
    let mut texts = vec![canary.clone().into_bytes(), canary[..12].into(), canary[canary.len() - 12..].into()];
    for before in ["", "x", "xy"] {
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{before}{canary}"));
        texts.push(text.as_bytes()[8..20].to_vec());
    }
    let sshd = Sshd::start();
    let mut world = world(&sshd, &canary);
    let (seen, over) = (Mutex::default(), AtomicBool::new(false));
    std::thread::scope(|threads| {
        threads.spawn(|| watch_processes(&texts, &over, &seen));
        for n in 0..runs {
            let name = format!("leak {n}");
            let task = json!({"task_name": name, "temp_id": "leaky", "hosts": {"1": ["far", "near"]}}).to_string();
            world.drop_file("ready", &format!("leak-{n}.json"), task.as_bytes(), 0);
            if n == runs / 2 {
                world.kill_daemon();
                world.start();
            }
        }
        wait_at_most(Duration::from_mins(4), "every task to end", || {
            let tasks = world.tasks();
            let all = tasks.len() as u64 == runs && tasks.iter().all(|(id, _)| world.try_record(*id).is_some());
            all.then_some(())
        });
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(*seen.lock().unwrap(), Vec::<String>::new(), "in a command line");
    let (id, _) = world.tasks().pop().unwrap();
    let digest = spoolgate::base::digest::Digest::of(canary.as_bytes());
    for host in ["far", "near"] {
        let log = std::fs::read_to_string(world.state().join(format!("runs/{id}/output/{host}/a.log"))).unwrap();
        assert!(log.contains(&digest.hex()), "the script on {host} got another secret:\n{log}");
        assert!(log.contains(&format!("plain {}", "*".repeat(canary.len()))), "{log}");
        assert!(log.contains(&format!("done {}", "*".repeat("the other one".len()))), "{log}");
    }
    let said = |event: &serde_json::Value| {
        event["event"] == "step_said" && event["text"].as_str().unwrap() == format!("at {}", "*".repeat(canary.len()))
    };
    assert!(world.events(id).iter().any(said), "{:?}", world.events(id));
    // Everything that the program wrote, here and on the hosts; and what it shows.
    let home = world.etc().parent().unwrap().join("home");
    let places = [world.state(), world.etc(), home, PathBuf::from("/root/.spoolgate")];
    let but = [world.etc().join("secrets")];
    let log = std::fs::read_to_string(world.state().join(format!("runs/{id}/output/near/a.log"))).unwrap();
    assert!(!holds(log.as_bytes(), &texts), "{log}");
    wait_for("the hosts to have forgotten it", || {
        places.iter().all(|place| holders(place, &texts, &but).is_empty()).then_some(())
    });
    let number = id.to_string();
    let screens: [&[&str]; 9] = [
        &["show", &number],
        &["--json", "show", &number],
        &["logs", &number],
        &["plan", &number, "--bytes"],
        &["--json", "plan", &number],
        &["ls"],
        &["top", "--once", "--view", &number],
        &["template", "show", "leaky"],
        &["audit", "show", &number],
    ];
    for args in screens {
        let said = world.run(0, args);
        let shown = [said.out.as_bytes(), said.err.as_bytes(), world.daemon_log().as_bytes()].concat();
        assert!(!holds(&shown, &texts), "{args:?} shows it:\n{}", said.out);
    }
    let plan = world.run(0, &["plan", &number]).ok();
    assert!(plan.contains("DB_PASS (password) = secret:db"), "{plan}");
}

#[test]
fn no_task_gets_a_secret_that_its_template_does_not_name_and_a_broken_one_sends_nothing() {
    let sshd = Sshd::start();
    let world = world(&sshd, "canary-canary");
    let refused = |name: &str, more: serde_json::Value, want: &str| {
        let mut task = json!({"task_name": "t", "hosts": {"1": ["near"]}});
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.drop_file("new", &format!("{name}.json"), task.to_string().as_bytes(), ALICE);
        let why = wait_for("the refusal", || world.why(name)).to_string();
        assert!(why.contains(want), "{why}");
        assert!(!why.contains("hunter2"), "{why}");
    };
    refused("other", json!({"temp_id": "leaky", "args": {"DB_PASS": "secret:other"}}), "one of secret:db");
    refused("value", json!({"temp_id": "leaky", "args": {"DB_PASS": "hunter2"}}), "no name of a secret");
    let want = "a template says which steps get which secrets";
    refused("env", json!({"script": "true", "env": {"X": "secret:db"}}), want);
    for (name, mode, want) in [("open", 0o644, "can be read or changed by others"), ("gone", 0, "no secret db")] {
        let file = world.etc().join("secrets/db");
        if mode == 0 {
            std::fs::remove_file(&file).unwrap();
        } else {
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        }
        let task = json!({"task_name": "t", "temp_id": "leaky", "hosts": {"1": ["near"]}}).to_string();
        world.drop_file("new", &format!("{name}.json"), task.as_bytes(), ALICE);
        let id = world.task_of(name);
        world.approve(BOB, id).ok();
        let record = world.record(id);
        let reason = record["results"]["near"][0]["reason"].as_str().unwrap();
        assert!(reason.contains(want), "{reason}");
    }
}

#[test]
fn a_secret_that_is_another_after_a_restart_hides_everything_that_the_old_one_could_be_in() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.near]\nconnection = \"local\"\n");
    std::fs::create_dir(world.etc().join("secrets")).unwrap();
    let write = |world: &World, text: &str| {
        world.write_etc("secrets/rot", text);
        std::fs::set_permissions(world.etc().join("secrets/rot"), PermissionsExt::from_mode(0o600)).unwrap();
    };
    write(&world, "OldSecretValue1\n");
    world.write_etc(
        "templates/rot.toml",
        "id = 73\nname = \"rot\"\ntitle = \"t\"\n[[step]]\nname = \"a\"\nenv = { P = \"secret:rot\" }\n\
         script = 'n=0; while [ -e \"$GATE\" ]; do n=$((n+1)); echo \"tick $n $P\"; sleep 0.1; done'\n[[param]]\nname = \"GATE\"\n",
    );
    world.start();
    let gate = world.etc().join("gate");
    for (name, after) in [("same", Some("OldSecretValue1\n")), ("another", Some("NewSecretValue2\n")), ("gone", None)] {
        write(&world, "OldSecretValue1\n");
        std::fs::write(&gate, "").unwrap();
        let task =
            json!({"task_name": "t", "temp_id": "rot", "hosts": {"1": ["near"]}, "args": {"GATE": gate}}).to_string();
        world.drop_file("ready", &format!("{name}.json"), task.as_bytes(), 0);
        let id = world.task_of(name);
        let path = world.state().join(format!("runs/{id}/output/near/a.log"));
        let log = || std::fs::read_to_string(&path).unwrap_or_default();
        wait_for("some lines", || log().contains("tick 3").then_some(()));
        world.kill_daemon();
        match after {
            Some(text) => write(&world, text),
            None => std::fs::remove_file(world.etc().join("secrets/rot")).unwrap(),
        }
        let before = log().len();
        world.start();
        wait_for("more lines", || (log().len() > before + 40).then_some(()));
        std::fs::remove_file(&gate).unwrap();
        assert_eq!(world.record(id)["outcome"], "ok");
        assert!(!log().contains("SecretValue"), "{}", log());
        let shown = log()[before..].contains("tick");
        assert_eq!(shown, name == "same", "{}", log());
    }
}
