//! Remote work that survives: a killed daemon, cut and silent links, stubborn processes, floods.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::relay::Relay;
use crate::sshd::Sshd;
use crate::world::{World, someone_runs, wait_at_most, wait_for};

pub(crate) fn from_env(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

pub(crate) fn task(name: &str, script: &str, hosts: &[String], timeout: u64) -> Vec<u8> {
    json!({"task_name": name, "script": script, "hosts": {"1": hosts}, "timeout": timeout}).to_string().into_bytes()
}

/// Every line that scripts wrote into a journal on the hosts' side, counted by what it says.
pub(crate) fn journal(world: &World) -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string(journal_path(world)).unwrap_or_default();
    text.lines().fold(BTreeMap::new(), |mut lines, line| {
        *lines.entry(line.to_owned()).or_default() += 1;
        lines
    })
}

pub(crate) fn journal_path(world: &World) -> PathBuf {
    world.etc().with_file_name("journal")
}

pub(crate) fn log(world: &World, id: u64, host: &str) -> String {
    let path = world.state().join(format!("runs/{id}/output/{host}/script.log"));
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Hosts behind relays of their own: each may fail in its own way.
fn behind_relays(world: &World, sshd: &Sshd, relays: &BTreeMap<String, Relay>) {
    let inventory: String = relays
        .iter()
        .map(|(name, relay)| format!("[host.\"{name}\"]\naddress = \"127.0.0.1\"\nport = {}\n", relay.port()))
        .collect();
    world.write_etc("inventory/hosts.toml", &inventory);
    let key = sshd.known_hosts();
    let key = key.split_once(' ').unwrap().1;
    let known: String = relays.values().map(|relay| format!("[127.0.0.1]:{} {key}", relay.port())).collect();
    world.write_etc("known_hosts", &known);
}

/// `REMOTE_HOSTS=50 REMOTE_SECONDS=60` for the long campaign.
#[test]
fn killing_the_daemon_during_a_step_loses_no_byte_and_starts_nothing_twice() {
    let (count, seconds) = (from_env("REMOTE_HOSTS", 12), from_env("REMOTE_SECONDS", 6));
    let sshd = Sshd::start();
    let hosts: Vec<(String, String)> = (1..=count).map(|n| (format!("h{n}"), format!("127.0.3.{n}"))).collect();
    let pairs: Vec<(&str, &str)> = hosts.iter().map(|(name, address)| (name.as_str(), address.as_str())).collect();
    let mut world = World::new(&pairs, Some(&sshd));
    world.start();
    let lines = seconds * 5;
    let script = format!(
        "echo \"$SPOOLGATE_HOST\" >>{}; n=0; while [ $n -lt {lines} ]; do echo \"$SPOOLGATE_HOST line $n\"; n=$((n+1)); sleep 0.2; done",
        journal_path(&world).display()
    );
    let names: Vec<String> = hosts.iter().map(|(name, _)| name.clone()).collect();
    world.drop_file("ready", "long.json", &task("long", &script, &names, seconds * 10), 0);
    let id = world.task_of("long");
    wait_at_most(Duration::from_mins(1), "every host to have begun", || {
        (journal(&world).len() as u64 == count).then_some(())
    });
    for kill in 1..=3 {
        let want = format!("line {}", lines * kill / 5);
        wait_at_most(Duration::from_secs(seconds * 4), &format!("{want} in a log"), || {
            names.iter().any(|host| log(&world, id, host).contains(&want)).then_some(())
        });
        world.kill_daemon();
        world.start();
    }
    let record = wait_at_most(Duration::from_secs(seconds * 10), "the record", || world.try_record(id));
    assert_eq!(record["outcome"], "ok", "{record:#}");
    for host in &names {
        let want: String = (0..lines).map(|n| format!("{host} line {n}\n")).collect();
        assert_eq!(log(&world, id, host), want, "{host}");
        assert_eq!(record["results"][host][0]["attempts"], 1);
    }
    let starts = journal(&world);
    assert!(starts.len() as u64 == count && starts.values().all(|count| *count == 1), "{starts:?}");
}

/// `CUT_STEP=1` cuts at every byte; one step in so many otherwise.
#[test]
fn a_link_cut_at_any_byte_of_the_start_never_makes_two_starts() {
    let step = from_env("CUT_STEP", 223);
    let sshd = Sshd::start();
    let (mut outcomes, mut again): (BTreeMap<String, u32>, bool) = (BTreeMap::new(), false);
    // From the first byte to past the end of everything that a start sends.
    let cuts: Vec<u64> = (0..24_000 / step).map(|n| 1 + n * step).collect();
    for cuts in cuts.chunks(400) {
        let relays: BTreeMap<String, Relay> =
            cuts.iter().map(|cut| (format!("cut{cut}"), Relay::start(sshd.port(), *cut))).collect();
        let mut world = World::new(&[], Some(&sshd));
        behind_relays(&world, &sshd, &relays);
        world.start();
        let script = format!("echo \"$SPOOLGATE_HOST\" >>{}; echo done", journal_path(&world).display());
        let names: Vec<String> = relays.keys().cloned().collect();
        let mut ids = Vec::new();
        for (n, names) in names.chunks(100).enumerate() {
            world.drop_file("ready", &format!("cut-{n}.json"), &task("cut", &script, names, 60), 0);
            ids.push(world.task_of(&format!("cut-{n}")));
        }
        for id in ids {
            for (outcome, count) in cut_outcomes(&world, id) {
                *outcomes.entry(outcome).or_default() += count;
            }
        }
        again |= relays.values().any(|relay| relay.links() > 1);
    }
    assert!(outcomes["ok"] > 5, "{outcomes:?}");
    assert!(again, "no host was gone back to");
    eprintln!("cut at {} places: {outcomes:?}", cuts.len());
}

/// Waits for a task whose hosts were cut off, and returns how many ended how; each was started at most once.
fn cut_outcomes(world: &World, id: u64) -> BTreeMap<String, u32> {
    let record = wait_at_most(Duration::from_mins(2), "the record", || world.try_record(id));
    let starts = journal(world);
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    for (host, outcome) in record["outcomes"].as_object().unwrap() {
        let outcome = outcome.as_str().unwrap();
        let started = starts.get(host).copied().unwrap_or(0);
        let want = u32::from(outcome == "ok");
        assert_eq!(started, want, "{host} is {outcome}: {:#}", record["results"][host]);
        assert!(outcome == "ok" || outcome == "failed", "{host} is {outcome}: nothing was unknown");
        if outcome == "ok" {
            assert_eq!(log(world, id, host), "done\n", "{host}");
        }
        *outcomes.entry(outcome.to_owned()).or_default() += 1;
    }
    outcomes
}

#[test]
fn a_link_that_is_lost_in_the_middle_is_gone_back_to() {
    let sshd = Sshd::start();
    let mut world = World::new(&[], Some(&sshd));
    let relays = BTreeMap::from([("web1".to_owned(), Relay::start(sshd.port(), 0))]);
    behind_relays(&world, &sshd, &relays);
    world.start();
    let script = format!(
        "echo once >>{}; for n in 1 2 3 4 5 6 7 8; do echo $n; sleep 0.5; done; exit 3",
        journal_path(&world).display()
    );
    world.drop_file("ready", "mid.json", &task("mid", &script, &["web1".to_owned()], 60), 0);
    let id = world.task_of("mid");
    for seen in ["2\n", "5\n"] {
        wait_for("some output", || log(&world, id, "web1").contains(seen).then_some(()));
        relays["web1"].cut();
    }
    let record = world.record(id);
    assert_eq!(record["results"]["web1"][0]["exit_code"], 3, "{record:#}");
    assert_eq!(log(&world, id, "web1"), "1\n2\n3\n4\n5\n6\n7\n8\n");
    assert_eq!(journal(&world)["once"], 1);
    assert!(relays["web1"].links() >= 3);
}

#[test]
fn a_kill_that_cannot_be_proved_is_said_and_proved_when_the_host_is_back() {
    let sshd = Sshd::start();
    let mut world = World::new(&[], Some(&sshd));
    let relays = BTreeMap::from([("web1".to_owned(), Relay::start(sshd.port(), 0))]);
    behind_relays(&world, &sshd, &relays);
    let config = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &config.replace("agent = false", "agent = false\nconnect_timeout_s = 1"));
    world.start();
    let mark = format!("75310{}", std::process::id() % 1000);
    let script =
        format!("(trap '' TERM HUP; sleep {mark} & sleep {mark}) & trap '' TERM; echo on; sleep {mark}; sleep {mark}");
    world.drop_file("ready", "stubborn.json", &task("stubborn", &script, &["web1".to_owned()], 600), 0);
    let id = world.task_of("stubborn");
    wait_for("it to run", || (log(&world, id, "web1") == "on\n").then_some(()));
    relays["web1"].silence(true);
    let _ = world.run(0, &["cancel", "stubborn", "--reason", "enough"]).ok();
    wait_at_most(Duration::from_secs(30), "the doubt to be said", || {
        world.events(id).iter().any(|event| event["event"] == "kill_unconfirmed").then_some(())
    });
    assert!(someone_runs(&format!("sleep {mark}")), "it lives on, unreached");
    assert!(world.try_record(id).is_none());
    // A new daemon goes on with the doubt.
    world.kill_daemon();
    world.start();
    relays["web1"].cut();
    relays["web1"].silence(false);
    let record = wait_at_most(Duration::from_secs(90), "the record", || world.try_record(id));
    assert_eq!(record["outcome"], "cancelled", "{record:#}");
    assert_eq!(record["results"]["web1"][0]["outcome"], "cancelled", "{record:#}");
    assert!(!someone_runs(&format!("sleep {mark}")), "nothing of it is left");
}

#[test]
fn a_step_whose_runner_is_killed_before_it_says_a_word_is_not_taken_for_unsent() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("web1", "127.0.1.1")], Some(&sshd));
    world.write_etc("inventory/more.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    let mark = format!("75311{}", std::process::id() % 1000);
    let kills = format!(
        "echo once >>{}; kill -9 $(sed -n 's/^run \\([0-9]*\\) .*/\\1/p' ~/.spoolgate/$SPOOLGATE_ATTEMPT_ID.state); sleep {mark}",
        journal_path(&world).display()
    );
    for host in ["web1", "here"] {
        let name = format!("killed-{host}");
        world.drop_file("ready", &format!("{name}.json"), &task(&name, &kills, &[host.to_owned()], 60), 0);
        let record = world.record(world.task_of(&name));
        assert_eq!(record["results"][host][0]["outcome"], "failed", "{record:#}");
        let reason = record["results"][host][0]["reason"].as_str().unwrap();
        assert!(reason.contains("its runner was killed on the host"), "{reason}");
        assert!(!someone_runs(&format!("sleep {mark}")), "nothing of it is left");
    }
    assert_eq!(journal(&world)["once"], 2, "each started once");
}

#[test]
fn a_step_that_was_not_sent_before_the_daemon_was_down_for_long_does_not_begin_by_itself() {
    let sshd = Sshd::start();
    let mut world = World::new(&[], Some(&sshd));
    let relays = BTreeMap::from([("web1".to_owned(), Relay::start(sshd.port(), 0))]);
    behind_relays(&world, &sshd, &relays);
    let config = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &(config + "[limits]\nlate_after_s = 1\n"));
    relays["web1"].silence(true);
    world.start();
    let script = format!("echo once >>{}", journal_path(&world).display());
    world.drop_file("ready", "late.json", &task("late", &script, &["web1".to_owned()], 60), 0);
    let id = world.task_of("late");
    let started = wait_for("the connection to be made", || {
        let events = world.events(id);
        events.iter().find(|event| event["event"] == "step_started").map(|event| event["at"].clone())
    });
    world.kill_daemon();
    let since: jiff::Timestamp = started.as_str().unwrap().parse().unwrap();
    let late = || spoolgate::shells::clock::now().0 - since.as_millisecond() > 1_500;
    wait_for("its time to pass", || late().then_some(()));
    relays["web1"].cut();
    relays["web1"].silence(false);
    world.start();
    let record = world.record(id);
    let reason = record["results"]["web1"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("the daemon was not running when it was to be sent"), "{reason}");
    assert!(!journal_path(&world).exists(), "it never began");
    // Somebody who looks at it decides.
    world.run(0, &["retry", &id.to_string(), "--reason", "still wanted"]).ok();
    wait_for("the second attempt", || journal_path(&world).exists().then_some(()));
    wait_for("its end", || (world.try_record(id)?["outcome"] == "ok").then_some(()));
    assert_eq!(journal(&world)["once"], 1);
}

#[test]
fn unreachable_host_of_a_running_step_is_reported() {
    let sshd = Sshd::start();
    let mut world = World::new(&[], Some(&sshd));
    let relays = BTreeMap::from([("web1".to_owned(), Relay::start(sshd.port(), 0))]);
    behind_relays(&world, &sshd, &relays);
    let config = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &config.replace("agent = false", "agent = false\nconnect_timeout_s = 1"));
    world.start();
    let go_on = world.etc().with_file_name("go-on");
    let script = format!("echo on; until [ -e {} ]; do sleep 0.1; done", go_on.display());
    world.drop_file("ready", "far.json", &task("far", &script, &["web1".to_owned()], 60), 0);
    let id = world.task_of("far");
    wait_for("it to run", || (log(&world, id, "web1") == "on\n").then_some(()));
    relays["web1"].silence(true);
    relays["web1"].cut();
    let said = |word: &str| world.events(id).into_iter().find(|event| event["event"] == word);
    let away = wait_at_most(Duration::from_secs(30), "the host to be missed", || said("host_unreachable"));
    assert_eq!((&away["host"], away["why"].as_str().is_some()), (&json!("web1"), true), "{away}");
    let shown = world.run(0, &["show", "far"]).ok();
    assert!(shown.contains("web1: cannot be reached while script runs there"), "{shown}");
    // A new daemon goes on missing it, and says when it is back.
    world.kill_daemon();
    world.start();
    std::fs::write(&go_on, "").unwrap();
    relays["web1"].silence(false);
    relays["web1"].cut();
    let record = wait_at_most(Duration::from_mins(1), "the record", || world.try_record(id));
    assert_eq!(record["outcome"], "ok", "{record:#}");
    let told: Vec<String> = world.events(id).iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told.iter().filter(|word| word.starts_with("host_")).count(), 2, "{told:?}");
}

/// The template of these tests: one step, told in full.
fn template(world: &World, step: &str) {
    let text = format!("id = 900\nname = \"remote\"\ntitle = \"t\"\n[[step]]\nname = \"one\"\n{step}\n");
    world.write_etc("templates/remote.toml", &text);
}

#[test]
fn a_step_is_tried_again_as_often_as_its_template_says_and_every_attempt_is_kept() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("web1", "127.0.1.1")], Some(&sshd));
    let count = journal_path(&world);
    template(
        &world,
        &format!(
            "retries = 3\nretry_delay = 1\nscript = \"echo x >>{0}; n=$(wc -l <{0}); echo attempt $n; [ $n -ge 3 ]\"",
            count.display()
        ),
    );
    world.start();
    world.drop_file("ready", "again.json", br#"{"task_name":"again","temp_id":"remote","hosts":{"1":["web1"]}}"#, 0);
    let id = world.task_of("again");
    let record = world.record(id);
    let step = &record["results"]["web1"][0];
    assert_eq!((record["outcome"].as_str(), step["attempts"].as_u64()), (Some("ok"), Some(3)), "{record:#}");
    let earlier: Vec<&serde_json::Value> = step["earlier"].as_array().unwrap().iter().collect();
    assert_eq!(earlier.iter().map(|result| &result["ending"]["exit"]).collect::<Vec<_>>(), [1, 1]);
    for (name, want) in [("one.log", "attempt 1\n"), ("one@2.log", "attempt 2\n"), ("one@3.log", "attempt 3\n")] {
        let path = world.state().join(format!("runs/{id}/output/web1/{name}"));
        assert_eq!(std::fs::read_to_string(path).unwrap(), want);
    }
    let shown = world.run(0, &["logs", "again"]).ok();
    assert_eq!(shown, "web1 one | attempt 1\nweb1 one@2 | attempt 2\nweb1 one@3 | attempt 3\n");
    let starts: Vec<String> = world
        .events(id)
        .iter()
        .filter(|event| event["event"] == "step_started")
        .map(|event| event["at"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(starts.len(), 3, "{starts:?}");
}

#[test]
fn silence_has_a_limit_of_its_own() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("web1", "127.0.1.1")], Some(&sshd));
    let mark = format!("64208{}", std::process::id() % 1000);
    template(
        &world,
        &format!("idle_timeout = 2\nscript = \"for n in 1 2 3 4 5 6; do echo $n; sleep 0.5; done; exec sleep {mark}\""),
    );
    world.start();
    world.drop_file("ready", "idle.json", br#"{"task_name":"idle","temp_id":"remote","hosts":{"1":["web1"]}}"#, 0);
    let id = world.task_of("idle");
    let record = world.record(id);
    let step = &record["results"]["web1"][0];
    assert_eq!(step["outcome"], "timed_out", "{record:#}");
    assert_eq!(step["reason"], "it printed nothing for too long");
    let path = world.state().join(format!("runs/{id}/output/web1/one.log"));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "1\n2\n3\n4\n5\n6\n");
    assert!(!someone_runs(&format!("sleep {mark}")));
}

/// An inventory of hosts that are reached through others.
fn behind(world: &World, way: &str, hosts: u32, bastions: &[(&str, u16)], target: &Sshd) {
    let mut inventory = String::new();
    for (name, port) in bastions {
        inventory.push_str(&format!("[host.\"{name}\"]\naddress = \"127.0.0.1\"\nport = {port}\n"));
    }
    for n in 1..=hosts {
        inventory.push_str(&format!(
            "[host.\"h{n}\"]\naddress = \"127.0.4.{n}\"\nport = {}\njump = [{way}]\n",
            target.port()
        ));
    }
    world.write_etc("inventory/hosts.toml", &inventory);
}

/// `JUMP_HOSTS=200` for the long campaign.
#[test]
fn hosts_behind_a_bastion_and_behind_two_share_one_connection_to_each() {
    let hosts = u32::try_from(from_env("JUMP_HOSTS", 40)).unwrap();
    // The defaults of sshd: what is dropped would be seen.
    let (target, bastion, second) =
        (Sshd::start_with("MaxStartups 10:30:100"), Sshd::start_with("MaxSessions 10"), Sshd::start());
    let relays = [Relay::start(bastion.port(), 0), Relay::start(second.port(), 0)];
    let ports = [("b1", relays[0].port()), ("b2", relays[1].port())];
    let mut world = World::new(&[], Some(&target));
    let config = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    // All of them let in the same key.
    for other in [&bastion, &second] {
        other.let_in(&target);
    }
    world.write_etc("spoolgate.toml", &format!("{config}[limits]\nhosts_per_group = 1000\n"));
    let key = |sshd: &Sshd, port: u16| {
        let known = sshd.known_hosts();
        format!("[127.0.0.1]:{port} {}", known.split_once(' ').unwrap().1)
    };
    let known = target.known_hosts() + &key(&bastion, ports[0].1) + &key(&second, ports[1].1);
    world.write_etc("known_hosts", &known);
    behind(&world, "\"b1\"", hosts, &ports, &target);
    world.start();
    let names: Vec<String> = (1..=hosts).map(|n| format!("h{n}")).collect();
    let script = "echo from $SPOOLGATE_HOST";
    world.drop_file("ready", "one.json", &task("one", script, &names, 60), 0);
    let record = wait_at_most(Duration::from_mins(2), "the record", || world.try_record(world.task_of("one")));
    assert_eq!(record["outcome"], "ok", "{record:#}");
    assert_eq!(relays[0].links(), 1, "one connection to the bastion");
    for host in &names {
        assert_eq!(log(&world, 1, host), format!("from {host}\n"));
    }
    // Two on the way, and a daemon that is new to both.
    world.kill_daemon();
    behind(&world, "\"b1\", \"b2\"", hosts, &ports, &target);
    world.start();
    let before = relays[0].links();
    world.drop_file("ready", "two.json", &task("two", script, &names, 60), 0);
    let record = wait_at_most(Duration::from_mins(2), "the record", || world.try_record(world.task_of("two")));
    assert_eq!(record["outcome"], "ok", "{record:#}");
    assert_eq!((relays[0].links() - before, relays[1].links()), (1, 1));
    // A way that is cut is made again, and nothing is lost.
    let slow = "for n in 1 2 3 4 5 6; do echo $n; sleep 0.5; done";
    world.drop_file("ready", "cut.json", &task("cut", slow, &names[..2], 60), 0);
    let id = world.task_of("cut");
    wait_for("some output", || log(&world, id, "h1").contains("2\n").then_some(()));
    relays[1].cut();
    let record = wait_at_most(Duration::from_mins(1), "the record", || world.try_record(id));
    assert_eq!(record["outcome"], "ok", "{record:#}");
    assert_eq!(log(&world, id, "h2"), "1\n2\n3\n4\n5\n6\n");
}

#[test]
fn another_account_is_no_obstacle_to_output_limits_and_kills() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("web1", "127.0.1.1"), ("web2", "127.0.1.2")], Some(&sshd));
    let mark = format!("53197{}", std::process::id() % 1000);
    template(
        &world,
        &format!(
            "account = \"nobody\"\nscript = \"id -un; echo err >&2; case $SPOOLGATE_HOST in web1) exit 4;; esac; trap '' TERM; sleep {mark}; sleep {mark}\""
        ),
    );
    world.start();
    let text = br#"{"task_name":"sudo","temp_id":"remote","hosts":{"1":["web1","web2"]}}"#;
    world.drop_file("ready", "sudo.json", text, 0);
    let id = world.task_of("sudo");
    let path = |host: &str| world.state().join(format!("runs/{id}/output/{host}/one.log"));
    wait_for("both to have spoken", || {
        ["web1", "web2"]
            .iter()
            .all(|host| std::fs::read_to_string(path(host)).is_ok_and(|text| text.len() == 11))
            .then_some(())
    });
    let _ = world.run(0, &["cancel", "sudo", "--reason", "enough"]).ok();
    let record = world.record(id);
    assert_eq!(record["results"]["web1"][0]["exit_code"], 4, "{record:#}");
    assert_eq!(record["results"]["web2"][0]["outcome"], "cancelled", "{record:#}");
    assert!(!someone_runs(&format!("sleep {mark}")), "nothing of it is left");
    // What the account left in the directory of everybody.
    for dir in ["/var/tmp", "/tmp"] {
        let dir = std::path::Path::new(dir).join(".spoolgate-65534");
        for file in std::fs::read_dir(&dir).into_iter().flatten().map(Result::unwrap) {
            if file.file_name().to_string_lossy().starts_with(&format!("{id}-1-one-1-")) {
                std::fs::remove_file(file.path()).unwrap();
            }
        }
    }
}

/// A step leaves its shell to the next one, whoever the script runs as.
#[test]
fn steps_share_a_shell() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("h1", "127.0.3.1")], Some(&sshd));
    let step = |name: &str, script: &str, more: &str| {
        format!("[[step]]\nname = \"{name}\"\nscript = '''\n{script}\n'''\non_failure = \"continue\"\n{more}\n")
    };
    let steps = [
        step("one", "echo out; echo err >&2", ""),
        step("two", "exit 3", "retries = 1"),
        step("zeros", "head -c 3 /dev/zero; kill -TERM $$", ""),
        step("four", "printf 'no line feed'; printf x >&2", ""),
        step("slow", "echo first; sleep 0.7; echo last", ""),
        step("after", "echo $SPOOLGATE_STEP $SPOOLGATE_PREVIOUS_STEP; read -r x || echo none", ""),
        step("nobody", "id -un", "account = \"nobody\""),
        step("last", "echo \"$0\" | grep -c last", ""),
    ];
    let head = "id = 75\nname = \"short\"\ntitle = \"t\"\n";
    world.write_etc("templates/short.toml", &format!("{head}{}", steps.concat()));
    world.start();
    let task = json!({"task_name": "short", "temp_id": 75, "hosts": {"1": ["h1"]}}).to_string();
    world.drop_file("ready", "short.json", task.as_bytes(), 0);
    let id = world.task_of("short");
    let record = world.record(id);
    for (step, want) in [
        ("one", "out\nerr\n"),
        ("two@2", ""),
        ("zeros", "\0\0\0"),
        ("four", "no line feedx"),
        ("slow", "first\nlast\n"),
        ("after", "after slow\nnone\n"),
        ("nobody", "nobody\n"),
        ("last", "1\n"),
    ] {
        let path = world.state().join(format!("runs/{id}/output/h1/{step}.log"));
        assert_eq!(String::from_utf8(std::fs::read(path).unwrap_or_default()).unwrap(), want, "{step}");
    }
    let outcomes: Vec<&str> =
        record["results"]["h1"].as_array().unwrap().iter().map(|step| step["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["ok", "failed", "failed", "ok", "ok", "ok", "ok", "ok"], "{record:#}");
    assert_eq!(sshd.sessions(), 1, "{}", sshd.log());
    let proofs: Vec<_> = record["results"]["h1"].as_array().unwrap().iter().map(|step| &step["proved_by"]).collect();
    assert!(proofs[6] == "other-account" && proofs[7] == "same-account", "{record:#}");
    let shown = world.run(0, &["show", &id.to_string()]).ok();
    assert!(shown.contains("proved by other-account") && shown.contains("proved by same-account"), "{shown}");
}
