//! Servers that are set up in unusual ways: with each, a task either ends well, or its reason is a sentence that says what to change;
//! and no fact costs more than one connection.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use spoolgate::adapters::ssh::Session;
use spoolgate::adapters::ssh::SshError;
use spoolgate::adapters::ssh::Target;
use spoolgate::domain::known_hosts::KnownHosts;
use spoolgate::domain::output::ExecEnd;

use crate::patience::InTime as _;
use crate::ssh::{block_on, exec, target};
use crate::sshd::Sshd;
use crate::world::{World, wait_at_most, wait_for};

/// What a server is told in its configuration, and before the key in its `authorized_keys`.
type Told = (&'static str, &'static str);

/// With these everything goes as ever, over one connection.
const WORKS: &[Told] = &[
    ("MaxAuthTries 1", ""),
    ("MaxSessions 1", ""),
    ("MaxSessions 2", ""),
    ("RekeyLimit 256K", ""),
    ("RekeyLimit 16K", ""),
    ("RekeyLimit default 1s", ""),
    ("PermitTTY no\nX11Forwarding no\nPermitUserRC no", ""),
    ("DisableForwarding yes", ""),
    ("AllowTcpForwarding no\nAllowStreamLocalForwarding no\nAllowAgentForwarding no", ""),
    ("Compression no", ""),
    ("Compression yes", ""),
    ("Banner /etc/passwd", ""),
    ("Banner /usr/share/common-licenses/GPL-3", ""),
    ("PrintMotd yes\nPrintLastLog yes", ""),
    ("VersionAddendum for authorised persons only; everything is logged", ""),
    ("LoginGraceTime 9", ""),
    ("ClientAliveInterval 1\nClientAliveCountMax 3", ""),
    ("UnusedConnectionTimeout 1s", ""),
    ("AuthenticationMethods any", ""),
    ("Ciphers chacha20-poly1305@openssh.com", ""),
    ("Ciphers aes256-gcm@openssh.com", ""),
    ("Ciphers 3des-cbc,aes192-ctr\nMACs umac-64@openssh.com,hmac-sha2-512", ""),
    ("KexAlgorithms sntrup761x25519-sha512@openssh.com,ecdh-sha2-nistp521", ""),
    ("KexAlgorithms diffie-hellman-group-exchange-sha256", ""),
    ("HostKeyAlgorithms rsa-sha2-512,ssh-ed25519", ""),
    ("PubkeyAcceptedAlgorithms ssh-ed25519", ""),
    ("IPQoS none", ""),
    (r#"ForceCommand /bin/sh -c "$SSH_ORIGINAL_COMMAND""#, ""),
    (r#"ForceCommand eval "$SSH_ORIGINAL_COMMAND""#, ""),
    (r#"ForceCommand echo hello; eval "$SSH_ORIGINAL_COMMAND""#, ""),
    ("", "restrict "),
    ("", "no-pty,no-port-forwarding "),
    ("", r#"from="127.0.0.0/8",expiry-time="20991231" "#),
    ("", r#"command="eval \"$SSH_ORIGINAL_COMMAND\"" "#),
];

/// With these nothing is started, after so many connections, and this is said.
const SAYS: &[(Told, usize, &[&str])] = &[
    (("MaxSessions 0", ""), 1, &["did not start the command: it lets us in and opens no session (MaxSessions in its"]),
    (("PubkeyAcceptedAlgorithms rsa-sha2-512", ""), 1, &["does not take it", "PubkeyAcceptedAlgorithms"]),
    (
        ("PubkeyAuthentication no\nPasswordAuthentication yes\nAuthenticationMethods any", ""),
        1,
        &["it takes no keys, only password", "(PubkeyAuthentication,"],
    ),
    (("AuthenticationMethods password", ""), 1, &["it takes no keys, only password", "AuthenticationMethods in its"]),
    (
        ("AuthenticationMethods publickey,password", ""),
        1,
        &["it knows the key, and wants password too", "(AuthenticationMethods in its sshd_config)"],
    ),
    (("AuthenticationMethods publickey,publickey", ""), 1, &["does it want something more", "AuthenticationMethods"]),
    (("DenyUsers root", ""), 1, &["authorized_keys there", "DenyUsers"]),
    (("PermitRootLogin no", ""), 1, &["it knows the key", "PermitRootLogin"]),
    (("PermitRootLogin forced-commands-only", ""), 1, &["it let us in and hung up", "its sshd's log"]),
    (("AuthorizedKeysFile none", ""), 1, &["is its public half in root's authorized_keys there"]),
    (("", r#"from="10.0.0.0/8" "#), 1, &["is its public half in root's authorized_keys there"]),
    (("", r#"expiry-time="20200101" "#), 1, &["is its public half in root's authorized_keys there"]),
    (("ForceCommand internal-sftp", ""), 1, &["This service allows sftp connections only; does", "(ForceCommand,"]),
    (("ForceCommand /bin/false", ""), 1, &["ran no shell for it (exit code 1); does its sshd force a command"]),
    (("ForceCommand /bin/true", ""), 1, &["ran no shell for it (exit code 0); does its sshd force a command"]),
    (("ForceCommand /nonexistent", ""), 1, &["(exit code 127): ", "/nonexistent: No such file", "(ForceCommand,"]),
    (("ForceCommand echo backups only", ""), 1, &["(exit code 0): backups only; does its sshd force a command"]),
    (("ForceCommand /usr/sbin/nologin", ""), 1, &["This account is currently not available; does", "shell none?"]),
    (("ForceCommand $SSH_ORIGINAL_COMMAND", ""), 1, &["ran no shell for it (exit code 2)", "(ForceCommand,"]),
    (("", r#"command="echo backups only" "#), 1, &["(exit code 0): backups only; does", "command= in authorized_keys"]),
    (("ChrootDirectory /srv", ""), 1, &["ran no shell for it (exit code 1): ", "ChrootDirectory"]),
    (
        (r#"ForceCommand read x; eval "$SSH_ORIGINAL_COMMAND""#, ""),
        1,
        &["a command that its sshd forces, read the input"],
    ),
    // The second one makes sure that it never begins.
    (("ForceCommand cat", ""), 2, &["said nothing for 4s, so nothing was started", "a command that its sshd forces"]),
    (("ForceCommand sleep 1000", ""), 2, &["said nothing for 4s, so nothing was started"]),
    (("ForceCommand /bin/sh", ""), 2, &["said nothing for 4s, so nothing was started"]),
    // The second one asks what it offers.
    (("Ciphers aes256-cbc", ""), 2, &["no cipher in common: it offers aes256-cbc", "(Ciphers in its sshd_config)"]),
    (("Ciphers aes128-ctr\nMACs hmac-sha1", ""), 2, &["no MAC in common: it offers hmac-sha1", "(MACs in its"]),
    (
        ("KexAlgorithms sntrup761x25519-sha512@openssh.com", ""),
        2,
        &["no key exchange in common: it offers sntrup761x25519-sha512@openssh.com", "(KexAlgorithms in its"],
    ),
    (
        ("HostKeyAlgorithms rsa-sha2-512", ""),
        2,
        &["it hung up twice before it said which methods it has", "HostKeyAlg"],
    ),
];

/// Servers that are told something, one host each in one world: `h0`, `h1` and so on.
struct Odd {
    /// Holds the key that all of them let in.
    _first: Sshd,
    servers: Vec<Sshd>,
    world: World,
}

impl Odd {
    fn start(all: &[Told]) -> Odd {
        let first = Sshd::start();
        let mut world = World::new(&[], Some(&first));
        let key = std::fs::read_to_string(first.identity().with_extension("pub")).unwrap();
        let (mut inventory, mut known) = (String::new(), String::new());
        let mut servers = Vec::new();
        for (n, (lines, options)) in all.iter().enumerate() {
            let keys = world.etc().join(format!("keys{n}"));
            std::fs::write(&keys, format!("{options}{key}")).unwrap();
            let sshd = Sshd::start_with(&format!("{lines}\nAuthorizedKeysFile {}", keys.display()));
            known += &sshd.known_hosts();
            inventory += &format!("[host.h{n}]\naddress = \"{}\"\nport = {}\n", sshd.address(n), sshd.port());
            servers.push(sshd);
        }
        world.write_etc("inventory/hosts.toml", &inventory);
        world.write_etc("known_hosts", &known);
        let config = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
        // Few at once: a machine that is busy with logins is no test of limits in seconds.
        world.write_etc("spoolgate.toml", &format!("{config}first_word_s = 4\n[limits]\nhosts_in_flight = 8\n"));
        std::fs::create_dir(world.etc().join("files")).unwrap();
        std::fs::write(world.etc().join("files/small"), vec![7; 300_000]).unwrap();
        std::fs::write(world.etc().join("files/large"), vec![8; 5_000_000]).unwrap();
        world.write_etc("templates/all.toml", &template(&world));
        world.start();
        Odd { _first: first, servers, world }
    }

    /// Has every host do all that there is to do.
    fn run(&self) -> Value {
        let hosts: Vec<String> = (0..self.servers.len()).map(|n| format!("h{n}")).collect();
        let text = json!({"task_name": "all", "temp_id": 96, "hosts": {"1": hosts}}).to_string();
        self.world.drop_file("ready", "all.json", text.as_bytes(), 0);
        let id = self.world.task_of("all");
        wait_at_most(Duration::from_mins(4), "the record", || self.world.try_record(id))
    }
}

/// Steps over one shell and over channels of their own; what is silent for a while is told apart from what is gone.
fn template(world: &World) -> String {
    let there = world.etc().with_file_name("there");
    std::fs::create_dir(&there).unwrap();
    let there = there.display();
    let steps = [
        r#"script = 'head -c 500000 /dev/zero | tr "\0" x'"#.to_owned(),
        format!("copy = \"small\"\nto = \"{there}/small\""),
        format!("copy = \"large\"\nto = \"{there}/large\""),
        "script = 'sleep 3'".to_owned(),
        "script = 'true'".to_owned(),
    ];
    let steps = steps.iter().enumerate().map(|(n, step)| format!("[[step]]\nname = \"s{n}\"\n{step}\n"));
    format!("id = 96\nname = \"all\"\ntitle = \"t\"\n{}", steps.collect::<String>())
}

#[test]
fn unusual_servers_are_as_good_as_others() {
    let odd = Odd::start(WORKS);
    let record = odd.run();
    for (n, told) in WORKS.iter().enumerate() {
        let host = format!("h{n}");
        assert_eq!(record["outcomes"][&host], "ok", "{told:?}: {:#}", record["results"][&host]);
        assert_eq!(odd.servers[n].connections(), 1, "{told:?}: {}", odd.servers[n].log());
    }
}

#[test]
fn what_a_server_does_not_do_is_said_with_what_to_change() {
    let told: Vec<Told> = SAYS.iter().map(|(told, ..)| *told).collect();
    let odd = Odd::start(&told);
    let record = odd.run();
    for (n, (told, connections, want)) in SAYS.iter().enumerate() {
        let first = &record["results"][format!("h{n}")][0];
        let reason = first["reason"].as_str().unwrap_or_default();
        assert!(first["outcome"] == "failed" && want.iter().all(|want| reason.contains(want)), "{told:?}: {first:#}");
        assert_eq!(odd.servers[n].connections(), *connections, "{told:?}: {}", odd.servers[n].log());
    }
}

/// A server closes a channel on which nothing comes for a while: its step goes on, and is shown again.
#[test]
fn a_channel_that_is_closed_for_its_silence_loses_nothing() {
    let odd = Odd::start(&[("ChannelTimeout session:*=2s", "")]);
    let record = odd.run();
    assert_eq!(record["outcome"], "ok", "{record:#}");
    let attempts = record["results"]["h0"].as_array().unwrap().iter().map(|step| step["attempts"].as_u64());
    assert!(attempts.eq([Some(1); 5]), "{record:#}");
}

/// Many hosts that are one server, directly and behind another one.
#[test]
fn a_server_that_takes_few_connections_at_once_gets_them_one_after_the_other() {
    let count = 12;
    for (line, newest) in [("MaxStartups 1", false), ("PerSourceMaxStartups 1", false), ("MaxStartups 1:100:1", true)] {
        let sshd = if newest { Sshd::start_newest(line) } else { Sshd::start_with(line) };
        let bastion = Sshd::start_with(line);
        bastion.let_in(&sshd);
        let mut world = World::new(&[], Some(&sshd));
        let host = |n: usize| {
            let way = if n.is_multiple_of(2) { "jump = [\"b\"]\n" } else { "" };
            format!("[host.h{n}]\naddress = \"{}\"\nport = {}\n{way}", sshd.address(n), sshd.port())
        };
        let hosts: String = (0..count).map(host).collect();
        let bastion_at = format!("[host.b]\naddress = \"127.0.0.9\"\nport = {}\n", bastion.port());
        world.write_etc("inventory/hosts.toml", &(bastion_at + &hosts));
        world.write_etc("known_hosts", &(sshd.known_hosts() + &bastion.known_hosts()));
        world.start();
        let names: Vec<String> = (0..count).map(|n| format!("h{n}")).collect();
        let text = json!({"task_name": "all", "script": "true", "hosts": {"1": names}}).to_string();
        world.drop_file("ready", "all.json", text.as_bytes(), 0);
        let record = world.record(world.task_of("all"));
        assert_eq!(record["outcome"], "ok", "{line}: {record:#} {}", sshd.log());
        assert_eq!(sshd.connections(), count, "{line}: {}", sshd.log());
    }
}

/// A server that has shut this machine out for a while is not asked for ever.
#[test]
fn a_penalty_is_said() {
    let sshd = Sshd::start_newest("PerSourcePenalties authfail:60s noauth:60s min:1s");
    let scratch = tempfile::tempdir().unwrap();
    let key = scratch.path().join("stranger");
    keygen(&key, &["ed25519"]);
    let stranger = Target { key: Some(key), ..target(&sshd) };
    let said = wait_for("the penalty", || {
        let error = block_on(Session::connect(&stranger)).err().expect("it is refused");
        (!matches!(error, SshError::Auth { .. })).then(|| error.to_string())
    });
    let want = "shuts this machine out for a while after failed logins (PerSourcePenalties)";
    assert!(said.contains(want), "{said}");
    let mut world = World::new(&[("h1", "127.0.1.1")], Some(&sshd));
    world.start();
    let dropped = || sshd.log().matches("drop connection").count();
    // The server writes of the one before a little later.
    let before = wait_for("the first one in its log", || Some(dropped()).filter(|count| *count > 0));
    let text = json!({"task_name": "one", "script": "true", "hosts": {"1": ["h1"]}}).to_string();
    world.drop_file("ready", "one.json", text.as_bytes(), 0);
    let record = world.record(world.task_of("one"));
    let reason = record["results"]["h1"][0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(want), "{record:#}");
    // It could as well be one too many at once, which is over soon. How many tries come within the limit, seven or eight, hangs on
    // how the hosts' tries are spread.
    assert!(dropped() - before <= 8, "{}", sshd.log());
}

fn keygen(path: &Path, kind: &[&str]) {
    let status =
        Command::new("ssh-keygen").args(["-q", "-N", "", "-t"]).args(kind).arg("-f").arg(path).status_in_time();
    assert!(status.unwrap().success());
}

/// Kinds of host keys and of our own, and how they sign.
#[test]
fn every_kind_of_key_is_taken_that_signs_with_more_than_sha_1() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    for (name, kind) in
        [("rsa", &["rsa", "-b", "2048"][..]), ("ecdsa", &["ecdsa", "-b", "384"]), ("ed25519", &["ed25519"])]
    {
        keygen(&path(name), kind);
    }
    let sha1 = "signs with its RSA key by SHA-1 alone";
    for (key, line, want) in [
        ("rsa", "HostKeyAlgorithms rsa-sha2-256\nPubkeyAcceptedAlgorithms rsa-sha2-512", ""),
        ("rsa", "HostKeyAlgorithms rsa-sha2-512\nPubkeyAcceptedAlgorithms rsa-sha2-256,rsa-sha2-512", ""),
        // This sshd does not say that it takes only the second one.
        ("rsa", "PubkeyAcceptedAlgorithms rsa-sha2-256", "PubkeyAcceptedAlgorithms in its sshd_config"),
        ("rsa", "HostKeyAlgorithms ssh-rsa", sha1),
        ("rsa", "PubkeyAcceptedAlgorithms ssh-ed25519", "PubkeyAcceptedAlgorithms in its sshd_config"),
        ("ecdsa", "HostKeyAlgorithms ecdsa-sha2-nistp384\nPubkeyAcceptedAlgorithms ecdsa-sha2-nistp384", ""),
        ("ed25519", "MaxAuthTries 1", ""),
    ] {
        let sshd = Sshd::start_with(&format!("HostKey {}\n{line}", path(key).display()));
        sshd.let_in_only(&path(key).with_extension("pub"));
        let public = std::fs::read_to_string(path(key).with_extension("pub")).unwrap();
        let known = KnownHosts::parse(&format!("[127.0.1.1]:{} {public}", sshd.port()));
        let host_keys = known.keys_for("127.0.1.1", sshd.port()).iter().map(ToString::to_string).collect();
        let target = Target { key: Some(path(key)), host_keys, ..target(&sshd) };
        block_on(async {
            match (Session::connect(&target).await, want) {
                (Ok(mut session), "") => {
                    assert_eq!(exec(&mut session, "/bin/sh", b"exit 7\n").await.0, ExecEnd::Exit(7), "{key} {line}");
                    session.close().await;
                }
                (Ok(_), _) => panic!("{key} {line}: it is let in"),
                (Err(error), want) => {
                    assert!(!want.is_empty() && error.to_string().contains(want), "{key} {line}: {error}");
                }
            }
        });
    }
    // One that lets no second key be tried says so by hanging up.
    let sshd = Sshd::start_with("MaxAuthTries 1");
    let stranger = Target { key: Some(path("rsa")), ..target(&sshd) };
    let said = block_on(Session::connect(&stranger)).err().expect("it is refused").to_string();
    assert!(said.contains("it hung up when it was offered") && said.contains("(MaxAuthTries"), "{said}");
    assert_eq!(sshd.connections(), 1);
}
