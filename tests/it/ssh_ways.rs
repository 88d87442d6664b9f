//! Ways to a host against a real sshd: encrypted keys, commands that connections go through, and what `known_hosts` says.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use spoolgate::adapters::ssh::Session;
use spoolgate::adapters::ssh::SshError;
use spoolgate::adapters::ssh::{Passphrase, Target};
use spoolgate::base::text::Secret;
use spoolgate::domain::known_hosts::KnownHosts;
use spoolgate::domain::mask::Masker;
use spoolgate::domain::output::ExecEnd;

use crate::patience::InTime as _;
use crate::ssh::{block_on, exec, target};
use crate::sshd::Sshd;
use crate::world::{World, someone_runs, wait_for};

const PASSPHRASE: &str = "correct horse battery";

/// Makes a key with a passphrase.
fn keygen(path: &Path, options: &[&str]) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-N", PASSPHRASE, "-C", "test"]).args(options).arg("-f").arg(path);
    assert!(command.status_in_time().unwrap().success(), "{options:?}");
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase { secret: "deploy-key".parse().unwrap(), value: Ok(Secret::new(text.to_owned())) }
}

fn write_private(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

async fn refused(target: &Target) -> SshError {
    Session::connect(target).await.err().expect("it is refused")
}

#[test]
fn an_encrypted_key_opens_with_its_passphrase_alone() {
    let sshd = Sshd::start();
    let scratch = tempfile::tempdir().unwrap();
    for (n, options) in [
        &["-t", "ed25519"][..],
        &["-t", "ecdsa"],
        &["-t", "rsa", "-b", "2048", "-m", "PEM"],
        &["-t", "rsa", "-b", "2048", "-m", "PKCS8"],
    ]
    .into_iter()
    .enumerate()
    {
        let key = scratch.path().join(format!("key{n}"));
        keygen(&key, options);
        sshd.let_in_only(&key.with_extension("pub"));
        let with = |passphrase| Target { key: Some(key.clone()), passphrase, ..target(&sshd) };
        block_on(async {
            let mut session = Session::connect(&with(Some(passphrase(PASSPHRASE)))).await.unwrap();
            let (end, out, _) = exec(&mut session, "/bin/sh", b"echo in\n").await;
            assert_eq!((end, out.as_slice()), (ExecEnd::Exit(0), &b"in\n"[..]), "{options:?}");
            session.close().await;
            for (given, want) in [
                (
                    Some(passphrase("another one")),
                    "the secret deploy-key is not its passphrase; put the right one there",
                ),
                (None, "it is encrypted and its passphrase is not known; make the passphrase a secret"),
                (
                    Some(Passphrase { value: Err("no secret deploy-key".to_owned()), ..passphrase("x") }),
                    "no secret deploy-key",
                ),
            ] {
                let error = refused(&with(given)).await;
                let shown = error.to_string();
                assert!(shown.contains(want) && shown.contains(key.to_str().unwrap()), "{options:?}: {shown}");
                assert!(!format!("{shown}{error:?}").contains("another one"), "{error:?}");
                assert!(error.never_sent());
            }
        });
    }
}

#[test]
fn a_certificate_beside_an_encrypted_key_is_used_and_a_wrong_passphrase_said() {
    let scratch = tempfile::tempdir().unwrap();
    let (key, authority) = (scratch.path().join("key"), scratch.path().join("ca"));
    keygen(&key, &["-t", "ed25519"]);
    keygen(&authority, &["-t", "ed25519"]);
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-P", PASSPHRASE, "-I", "test", "-n", "root", "-s"])
        .args([&authority, &key.with_extension("pub")])
        .status_in_time();
    assert!(signed.unwrap().success());
    let sshd = Sshd::start_with(&format!("TrustedUserCAKeys {}.pub", authority.display()));
    let with = |passphrase| Target { key: Some(key.clone()), passphrase, ..target(&sshd) };
    block_on(async {
        Session::connect(&with(Some(passphrase(PASSPHRASE)))).await.unwrap().close().await;
        for (given, want) in [(Some(passphrase("another one")), "is not its passphrase"), (None, "it is encrypted")] {
            let shown = refused(&with(given)).await.to_string();
            assert!(shown.contains(want), "{shown}");
        }
    });
}

/// Every file below a directory, as text.
fn everything(dir: &Path) -> String {
    let mut text = String::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                text += &String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap());
            }
        }
    }
    text
}

fn run(world: &World, name: &str) -> serde_json::Value {
    let file = format!(r#"{{"task_name":"{name}","script":"echo hi","hosts":{{"1":["web1"]}}}}"#);
    world.drop_file("ready", &format!("{name}.json"), file.as_bytes(), 0);
    world.record(world.task_of(name))
}

/// Makes the key of a world one with a passphrase; the secret holds `said`.
fn lock_key(world: &World, sshd: &Sshd, said: &str) -> PathBuf {
    let key = world.etc().join("locked");
    keygen(&key, &["-t", "ed25519"]);
    sshd.let_in_only(&key.with_extension("pub"));
    std::fs::create_dir(world.etc().join("secrets")).unwrap();
    write_private(&world.etc().join("secrets/deploy-key"), &format!("{said}\n"), 0o600);
    key
}

#[test]
fn the_passphrase_is_a_secret_and_shows_nowhere() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("web1", "127.0.1.1")], Some(&sshd));
    let key = lock_key(&world, &sshd, PASSPHRASE);
    let config = format!(
        "group = \"users\"\n[ssh]\nuser = \"root\"\nagent = false\nkey = {:?}\nkey_passphrase = \"deploy-key\"\n",
        key.to_str().unwrap()
    );
    world.write_etc("spoolgate.toml", &config);
    world.start();
    let record = run(&world, "good");
    assert_eq!(record["outcome"], "ok", "{record:#}");
    let plan = std::fs::read_to_string(world.state().join("runs/1/plan.json")).unwrap();
    assert!(plan.contains(r#""key_passphrase":"deploy-key""#), "{plan}");
    write_private(&world.etc().join("secrets/deploy-key"), "wrong and long\n", 0o600);
    let record = run(&world, "wrong");
    assert_eq!(record["outcome"], "failed", "{record:#}");
    let reason = record["results"]["web1"][0]["reason"].to_string();
    assert!(reason.contains("the secret deploy-key is not its passphrase"), "{record:#}");
    let said = everything(&world.state()) + &world.daemon_log();
    for hidden in [PASSPHRASE, "wrong and long"] {
        assert!(!said.contains(hidden), "{hidden} shows");
    }
}

#[test]
fn an_encrypted_key_in_the_agent_is_enough() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("web1", "127.0.1.1")], Some(&sshd));
    let key = lock_key(&world, &sshd, "not what opens it");
    let ask = world.etc().join("ask");
    write_private(&ask, &format!("#!/bin/sh\necho '{PASSPHRASE}'\n"), 0o700);
    let socket = world.etc().join("agent");
    let mut agent = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).spawn().unwrap();
    wait_for("the agent", || socket.exists().then_some(()));
    let added = Command::new("ssh-add")
        .arg("-q")
        .arg(&key)
        .env("SSH_AUTH_SOCK", &socket)
        .env("SSH_ASKPASS", &ask)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .status_in_time();
    assert!(added.unwrap().success());
    // The key file is named too, as people have it, and cannot be opened.
    let config = format!("group = \"users\"\n[ssh]\nuser = \"root\"\nkey = {:?}\n", key.to_str().unwrap());
    world.write_etc("spoolgate.toml", &config);
    world.agent = Some(socket);
    world.start();
    let record = run(&world, "agent");
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!(record["outcome"], "ok", "{record:#}");
}

/// Joins standard input and output to a place, with nothing but bash.
const JOIN: &str = r#"bash -c 'exec 3<>"/dev/tcp/$0/$1"; cat <&3 & cat >&3' "#;

#[test]
fn a_connection_goes_through_a_command_that_ends_with_it() {
    let sshd = Sshd::start();
    let mark = format!("97411{}", std::process::id() % 1000);
    // Neither the command nor what it left behind ends by itself.
    let command = format!("trap '' TERM; sleep {mark} & {JOIN} 127.0.1.1 {}; wait", sshd.port());
    // What the target's address says is nothing to it then.
    let through = Target { address: "192.0.2.1".to_owned(), proxy_command: Some(command), ..target(&sshd) };
    block_on(async {
        let mut session = Session::connect(&through).await.unwrap();
        assert!(someone_runs(&format!("sleep {mark}")));
        let script = b"yes 0123456789 | head -c 3000000; exit 3\n";
        let talk = tokio::time::timeout(Duration::from_mins(1), exec(&mut session, "/bin/sh", script));
        let (end, out, _) = talk.await.expect("it ends");
        assert!(end == ExecEnd::Exit(3) && out.len() == 3_000_000, "{end:?} after {} bytes", out.len());
        session.close().await;
        wait_for("the command to end", || (!someone_runs(&format!("sleep {mark}"))).then_some(()));
    });
}

#[test]
fn a_command_that_leads_nowhere_says_why_and_is_ended() {
    let sshd = Sshd::start();
    let mark = format!("97412{}", std::process::id() % 1000);
    let with = |command: &str, limit_ms| Target {
        proxy_command: Some(command.to_owned()),
        connect_timeout: Duration::from_millis(limit_ms),
        ..target(&sshd)
    };
    block_on(async {
        let error = refused(&with("echo 'proxy: \x1b[1mno route\npassword hunter22' >&2; exit 1", 10_000)).await;
        let shown = error.masked(&Masker::new(&[Secret::new("hunter22".to_owned())])).to_string();
        assert!(shown.contains("through its ProxyCommand"), "{shown}");
        assert!(shown.ends_with("it said: proxy: <U+001B>[1mno route / password ********"), "{shown}");
        let flood = refused(&with("yes complaint | head -c 3000000 >&2", 10_000)).await.to_string();
        assert!(flood.len() < 1000, "{} bytes", flood.len());
        let error = refused(&with(&format!("echo waiting >&2; sleep {mark}"), 700)).await;
        assert_eq!(
            error.to_string(),
            format!(
                "cannot connect to 127.0.1.1:{} through its ProxyCommand: no answer within 700ms; it said: waiting",
                sshd.port()
            )
        );
        wait_for("the command to end", || (!someone_runs(&format!("sleep {mark}"))).then_some(()));
        // Whatever leads there, the host proves itself.
        let join = format!("{JOIN} 127.0.1.1 {}", sshd.port());
        let forged = format!("ssh-ed25519 SHA256:{}", "A".repeat(43));
        let error = refused(&Target { host_keys: vec![forged], ..with(&join, 10_000) }).await;
        assert!(matches!(error, SshError::HostKey { .. }), "{error}");
    });
}

#[test]
fn a_proxy_command_stands_in_the_plan_and_is_warned_of() {
    let (sshd, bastion) = (Sshd::start(), Sshd::start());
    bastion.let_in(&sshd);
    let mut world = World::new(&[], Some(&sshd));
    world.write_etc("bastion_known", &bastion.known_hosts());
    let command = format!(
        "ssh -F none -i {} -p {} -oBatchMode=yes -oUserKnownHostsFile={} root@127.0.0.1 -W %h:%p",
        sshd.identity().display(),
        bastion.port(),
        world.etc().join("bastion_known").display()
    );
    world.write_etc(
        "inventory/hosts.toml",
        &format!("[host.web1]\naddress = \"127.0.1.1\"\nport = {}\nproxy_command = {command:?}\n", sshd.port()),
    );
    world.start();
    let record = run(&world, "through");
    assert_eq!(record["outcome"], "ok", "{record:#}");
    let filled = command.replace("%h:%p", &format!("127.0.1.1:{}", sshd.port()));
    let plan = std::fs::read_to_string(world.state().join("runs/1/plan.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&plan).unwrap()["hosts"]["web1"]["proxy_command"], filled);
    let shown = world.run(0, &["plan", "1"]).ok();
    assert!(shown.contains(&format!("through the daemon's command '{filled}'")), "{shown}");
    let want =
        format!("1 host(s) are reached through a command that runs on the daemon's machine, web1 first: {filled}");
    assert!(shown.contains(&want), "{shown}");
    // Another command is another plan.
    world.write_etc(
        "inventory/hosts.toml",
        &format!("[host.web1]\naddress = \"127.0.1.1\"\nport = {}\nproxy_command = \"false\"\n", sshd.port()),
    );
    let record = run(&world, "nowhere");
    let reason = record["results"]["web1"][0]["reason"].to_string();
    assert!(reason.contains("through its ProxyCommand"), "{record:#}");
}

/// The lines of `known_hosts` with their names hashed, as `ssh-keygen -H` does.
fn hashed(text: &str) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("known_hosts");
    std::fs::write(&file, text).unwrap();
    let done = Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&file).output_in_time().unwrap();
    assert!(done.status.success(), "{done:?}");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.starts_with("|1|"), "{text}");
    text
}

#[test]
fn a_key_that_changed_or_is_revoked_is_refused_under_hashed_names_and_other_ports_too() {
    let (sshd, other) = (Sshd::start(), Sshd::start());
    let place = format!("[127.0.1.1]:{}", sshd.port());
    let key = |sshd: &Sshd| sshd.known_hosts().split_once(' ').unwrap().1.to_owned();
    let right = format!("{place} {}", key(&sshd));
    let changed = format!("{place} {}", key(&other));
    let keys = |text: &str| -> Vec<String> {
        KnownHosts::parse(text).keys_for("127.0.1.1", sshd.port()).iter().map(ToString::to_string).collect()
    };
    let with = |text: &str| Target { host_keys: keys(text), ..target(&sshd) };
    block_on(async {
        for text in [changed.clone(), hashed(&changed)] {
            let error = refused(&with(&text)).await;
            assert!(matches!(&error, SshError::HostKey { found, .. } if *found == sshd.host_key()), "{error}");
        }
        for revoked in [format!("@revoked * {}", key(&sshd)), format!("@revoked {}", hashed(&right))] {
            for text in [format!("{right}{revoked}"), format!("{revoked}{}", hashed(&right))] {
                let error = refused(&with(&text)).await;
                assert!(matches!(error, SshError::UnknownHostKey { .. }), "{error}");
                // Beside another key that is still good, the revoked one is a wrong one.
                let error = refused(&with(&format!("{text}{changed}"))).await;
                assert!(matches!(error, SshError::HostKey { .. }), "{error}");
            }
        }
        // Neither the bare name nor another port is this host.
        for text in [right.replace(&place, "127.0.1.1"), right.replace(&place, "[127.0.1.1]:1")] {
            assert!(keys(&text).is_empty() && keys(&hashed(&text)).is_empty());
        }
        assert!(!sshd.log().contains("Accepted"), "somebody was let in: {}", sshd.log());
        for text in [right.clone(), hashed(&right)] {
            Session::connect(&with(&text)).await.unwrap().close().await;
        }
        assert_eq!(sshd.log().matches("Accepted publickey").count(), 2, "{}", sshd.log());
    });
}

#[test]
fn an_authority_in_known_hosts_counts_for_nothing_and_that_is_said() {
    let sshd = Sshd::start();
    let world = World::new(&[("web1", "127.0.1.1")], Some(&sshd));
    let known = sshd.known_hosts();
    world.write_etc("known_hosts", &format!("@cert-authority {known}"));
    let task = world.etc().join("t.json");
    std::fs::write(&task, r#"{"task_name":"t","script":"true","hosts":{"1":["web1"]}}"#).unwrap();
    let said = world.run(0, &["check", task.to_str().unwrap()]);
    let place = known.split_once(' ').unwrap().0;
    let want = format!("known_hosts:1: found @cert-authority for {place}; wanted the hosts' own keys (ssh-keyscan)");
    assert!(said.code == 0 && said.err.contains(&want), "{said:?}");
    assert!(said.err.contains("have no known key and will be refused"), "{said:?}");
}
