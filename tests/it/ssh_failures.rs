//! What is said when a host is not reached, does not agree, or does not let us in: each sentence says what to change, and each
//! fact costs one connection.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use spoolgate::adapters::ssh::SshError;
use spoolgate::adapters::ssh::Target;
use spoolgate::adapters::ssh::{Session, descriptors};

use crate::links::{Firewall, Way};
use crate::patience::InTime as _;
use crate::remote::task;
use crate::ssh::{block_on, target, workers};
use crate::sshd::Sshd;
use crate::world::{World, wait_for};

fn refused(target: &Target) -> SshError {
    block_on(async { Session::connect(target).await.err().expect("it is refused") })
}

/// Runs a script on hosts and returns why each one failed.
fn reasons(world: &World, name: &str, hosts: &[String]) -> Vec<String> {
    world.drop_file("ready", &format!("{name}.json"), &task(name, "true", hosts, 60), 0);
    let record = world.record(world.task_of(name));
    let reason = |host: &String| match &record["results"][host][0]["reason"] {
        Value::String(reason) => reason.clone(),
        _ => panic!("{host}: {record:#}"),
    };
    hosts.iter().map(reason).collect()
}

fn names(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("h{n}")).collect()
}

fn keygen(path: &Path) {
    let status = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status_in_time();
    assert!(status.unwrap().success());
}

/// An agent with keys of its own making; the last one may be one that exists.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(dir: &Path, keys: usize, last: Option<&Path>) -> Agent {
        let socket = dir.join("agent");
        let process = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        wait_for("the agent", || socket.exists().then_some(()));
        let add = |key: &Path| {
            let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).status_in_time();
            assert!(added.unwrap().success());
        };
        for n in 0..keys {
            let key = dir.join(format!("agent{n}"));
            keygen(&key);
            add(&key);
        }
        last.map(add);
        Agent { process, socket }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What sshd is told so that nothing is in common, and what is said then.
const MISFITS: &[(&str, &str)] = &[
    (
        "KexAlgorithms sntrup761x25519-sha512@openssh.com,diffie-hellman-group14-sha1",
        "no key exchange in common: it offers sntrup761x25519-sha512@openssh.com, diffie-hellman-group14-sha1; spoolgate has \
         mlkem768x25519-sha256,",
    ),
    (
        "Ciphers aes256-cbc,3des-cbc",
        "no cipher in common: it offers aes256-cbc, 3des-cbc; spoolgate has aes128-gcm@openssh.com,",
    ),
    (
        "Ciphers aes128-ctr\nMACs umac-128@openssh.com,hmac-sha1",
        "no MAC in common: it offers umac-128@openssh.com, hmac-sha1; spoolgate has hmac-sha2-256-etm@openssh.com,",
    ),
];

#[test]
fn no_common_ground_is_said_with_both_offers_over_one_more_connection() {
    for (line, want) in MISFITS {
        let sshd = Sshd::start_with(line);
        let error = refused(&target(&sshd));
        let said = error.to_string();
        assert!(said.contains(want) && said.contains("in its sshd_config)"), "{said}");
        assert!(matches!(error, SshError::Methods { .. }) && error.never_sent(), "{error:?}");
        assert_eq!(sshd.connections(), 2, "{}", sshd.log());
    }
    // The only key that is known is of a kind that is gone.
    let sshd = Sshd::start();
    let gone = Target { host_keys: vec![format!("ssh-rsa SHA256:{}", "A".repeat(43))], ..target(&sshd) };
    let said = refused(&gone).to_string();
    let want = format!(
        "it is known by ssh-rsa, and offers only ssh-ed25519; if its keys were replaced rightly, put a new one into known_hosts \
         (ssh-keyscan -p {} 127.0.1.1) and approve again",
        sshd.port()
    );
    assert!(said.contains(&want), "{said}");
    // Through a command as well.
    let (line, want) = MISFITS[1];
    let sshd = Sshd::start_with(line);
    let command = format!("bash -c 'exec 3<>/dev/tcp/127.0.1.1/{}; cat <&3 & cat >&3'", sshd.port());
    let said = refused(&Target { proxy_command: Some(command), ..target(&sshd) }).to_string();
    assert!(said.contains(want), "{said}");
}

#[test]
fn old_methods_are_good_enough_where_there_are_no_others() {
    for line in [
        "KexAlgorithms diffie-hellman-group18-sha512\nCiphers aes192-ctr\nMACs hmac-sha2-512",
        "KexAlgorithms diffie-hellman-group-exchange-sha256\nCiphers aes128-ctr\nMACs hmac-sha2-256-etm@openssh.com",
        "Ciphers aes256-ctr\nMACs hmac-sha2-512-etm@openssh.com",
    ] {
        let sshd = Sshd::start_with(line);
        block_on(async { Session::connect(&target(&sshd)).await.unwrap().close().await });
    }
}

/// An inventory of hosts behind a bastion.
fn behind(world: &World, count: usize, bastion: &Sshd, target: &Sshd) {
    let hosts = names(count).into_iter().enumerate().map(|(n, name)| {
        format!("[host.{name}]\naddress = \"127.0.4.{}\"\nport = {}\njump = [\"b\"]\n", n + 1, target.port())
    });
    let bastion_port = bastion.port();
    let inventory = format!("[host.b]\naddress = \"127.0.0.9\"\nport = {bastion_port}\n{}", hosts.collect::<String>());
    world.write_etc("inventory/hosts.toml", &inventory);
    world.write_etc("known_hosts", &(target.known_hosts() + &bastion.known_hosts()));
}

#[test]
fn what_a_jump_host_refuses_is_asked_once_and_names_it_and_whom_it_was_for() {
    let (count, inner) = (40, Sshd::start());
    for (line, want, connections) in [
        // It lets in another key.
        ("MaxStartups 10000", "rejected the login as root: key ", 1),
        ("KexAlgorithms sntrup761x25519-sha512@openssh.com", "no key exchange in common", 2),
    ] {
        let bastion = Sshd::start_with(line);
        let mut world = World::new(&[], Some(&inner));
        behind(&world, count, &bastion, &inner);
        let config = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
        // One after the other comes by: twelve at a time.
        world.write_etc("spoolgate.toml", &format!("{config}[limits]\nhosts_in_flight = 12\n"));
        world.start();
        for (n, said) in reasons(&world, "through", &names(count)).into_iter().enumerate() {
            let to = format!("cannot reach 127.0.4.{}:{}", n + 1, inner.port());
            let hop = format!("{to} through the jump host 127.0.0.9:{}: ", bastion.port());
            assert!(said.starts_with(&hop) && said.contains(want), "{said}");
        }
        assert_eq!(bastion.connections(), connections, "{}", bastion.log());
    }
    // What the inner host refuses is asked through the same jump host.
    let inner = Sshd::start_with(MISFITS[1].0);
    let bastion = Sshd::start();
    bastion.let_in(&inner);
    let mut world = World::new(&[], Some(&inner));
    behind(&world, 1, &bastion, &inner);
    world.start();
    let said = reasons(&world, "inner", &names(1)).remove(0);
    assert!(said.starts_with(&format!("SSH handshake with 127.0.4.1:{}", inner.port())), "{said}");
    assert!(said.contains(MISFITS[1].1), "{said}");
    // One that leads nowhere says so.
    let closed = Sshd::start_with("AllowTcpForwarding no");
    closed.let_in(&inner);
    behind(&world, 2, &closed, &inner);
    for said in reasons(&world, "closed", &names(2)) {
        assert!(said.contains("its sshd does not lead on there (AllowTcpForwarding,"), "{said}");
    }
}

#[test]
fn an_agent_with_more_keys_than_the_host_lets_be_tried_is_explained_and_there_is_a_way_out() {
    let sshd = Sshd::start_with("MaxAuthTries 3");
    let mut world = World::new(&[("h1", "127.0.1.1")], Some(&sshd));
    let agent = Agent::start(&world.etc(), 5, Some(&sshd.identity()));
    world.agent = Some(agent.socket.clone());
    let config = |key: &str| format!("group = \"users\"\n[ssh]\nuser = \"root\"\nagent = true\n{key}");
    world.write_etc("spoolgate.toml", &config(""));
    world.start();
    let said = reasons(&world, "many", &names(1)).remove(0);
    assert!(
        said.contains("rejected the login as root: agent: it hung up after 3 keys (MaxAuthTries in its sshd_config), and the agent holds 6")
            && said.contains("choose one with `key`"),
        "{said}"
    );
    assert_eq!(sshd.connections(), 1, "{}", sshd.log());
    // The public half chooses, and the private one is in the agent alone.
    let chosen = world.etc().join("chosen");
    std::fs::copy(sshd.identity().with_extension("pub"), chosen.with_extension("pub")).unwrap();
    world.write_etc("spoolgate.toml", &config(&format!("key = {:?}\n", chosen.to_str().unwrap())));
    let file = world.etc().join("t.json");
    std::fs::write(&file, task("t", "true", &names(1), 60)).unwrap();
    let checked = world.run(0, &["check", file.to_str().unwrap()]);
    assert!(checked.code == 0 && !checked.err.contains("no such file"), "{checked:?}");
    world.drop_file("ready", "chosen.json", &task("chosen", "true", &names(1), 60), 0);
    let record = world.record(world.task_of("chosen"));
    assert_eq!(record["outcome"], "ok", "{record:#}");
}

#[test]
fn an_agent_that_does_not_answer_holds_up_nothing_else_and_is_said_to_be_it() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("h1", "127.0.1.1"), ("here", "127.0.1.2")], Some(&sshd));
    let socket = world.etc().join("silent");
    let silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    world.agent = Some(socket);
    world.write_etc(
        "spoolgate.toml",
        "group = \"users\"\n[ssh]\nuser = \"root\"\nagent = true\nconnect_timeout_s = 2\n",
    );
    world.start();
    let said = reasons(&world, "silent", &names(1)).remove(0);
    assert!(said.starts_with("cannot log in to 127.0.1.1:"), "{said}");
    assert!(
        said.ends_with("and the host refused nothing: agent: no answer within 2s; does it wait for a person?"),
        "{said}"
    );
    // The thread that still waits for it does not hold up the end.
    let (pid, begin) = (i32::try_from(world.daemon_pid()).unwrap(), Instant::now());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    let gone =
        || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z ")).then_some(());
    wait_for("the daemon to end", gone);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    drop(silent);
}

#[test]
fn key_files_are_judged_by_check_and_plan_and_said_to_be_ours() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("h1", "127.0.1.1")], Some(&sshd));
    let good = std::fs::read_to_string(sshd.identity()).unwrap();
    let public = std::fs::read(sshd.identity().with_extension("pub")).unwrap();
    let key = world.etc().join("id");
    std::fs::write(key.with_extension("pub"), &public).unwrap();
    let named = |path: &Path| {
        let path = path.to_str().unwrap();
        world.write_etc(
            "spoolgate.toml",
            &format!("group = \"users\"\n[ssh]\nuser = \"root\"\nagent = false\nkey = {path:?}\n"),
        );
    };
    let file = world.etc().join("t.json");
    std::fs::write(&file, task("t", "true", &names(1), 60)).unwrap();
    let file = file.to_str().unwrap();
    let indented: String = good.lines().map(|line| format!("    {line}\n")).collect();
    let damaged = good.replacen("\nb", "\n", 1);
    let marked = [b"\xef\xbb\xbf", good.as_bytes()].concat();
    let cases: [(&[u8], &str); 6] = [
        (&marked, "a byte order mark (BOM)"),
        (indented.as_bytes(), "a key with indented lines"),
        (&public, "a public key; wanted the private key"),
        (&good.as_bytes()[..150], "a key whose end is missing"),
        (damaged.as_bytes(), "a key that is damaged or was cut"),
        (b"", "empty; wanted a private key"),
    ];
    named(&key);
    for (bytes, want) in cases {
        std::fs::write(&key, bytes).unwrap();
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        for verb in ["check", "plan"] {
            let said = world.run(0, &[verb, file]);
            assert!(said.code == 5 && said.err.contains(want), "{verb}: {said:?}");
            assert!(said.err.contains(&format!("key {} of h1", key.display())), "{said:?}");
        }
        // Whoever may not read it is told nothing: the daemon may.
        assert_eq!(world.run(crate::world::ALICE, &["check", file]).code, 0);
    }
    named(&key.with_extension("pub"));
    let said = world.run(0, &["check", file]);
    assert!(said.err.contains(&format!("wanted the private key, probably {}", key.display())), "{said:?}");
    // At its time it is ours, and the host was asked nothing.
    named(&key);
    world.start();
    let said = reasons(&world, "empty", &names(1)).remove(0);
    let want = format!(
        "cannot log in to 127.0.1.1:{} as root, and the host refused nothing: key {}: it is empty; wanted a private key",
        sshd.port(),
        key.display()
    );
    assert_eq!(said, want);
    let unreadable = Target { key: Some("/proc/self/mem".into()), ..target(&sshd) };
    let said = refused(&unreadable).to_string();
    assert!(said.contains("the host refused nothing: key /proc/self/mem: this account cannot read it ("), "{said}");
}

/// Whatever is done to a key file, either it is named as the reason, or the login works.
#[test]
fn no_key_file_passes_the_check_and_then_fails() {
    let sshd = Sshd::start();
    let good = std::fs::read_to_string(sshd.identity()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let key = scratch.path().join("id");
    let lines: Vec<&str> = good.lines().collect();
    let mut texts = vec![
        good.replace('\n', "\r\n"),
        good.trim_end().to_owned(),
        format!("# a comment\n{good}"),
        format!("\n\n{good}"),
        format!("{good}\n\ntrailing\n"),
        format!("{good}{good}"),
        good.replacen("-----\n", "----- \n", 1),
        good.replacen("-----\n", "-----\n\n", 1),
        lines.iter().map(|line| format!("{line}  \n")).collect(),
        lines[1..lines.len() - 1].concat(),
        format!("{}\n{}\n{}\n", lines[0], lines[1..lines.len() - 1].concat(), lines[lines.len() - 1]),
    ];
    texts.extend((0..lines.len()).map(|n| [&lines[..n], &lines[n + 1..]].concat().join("\n")));
    for text in texts {
        std::fs::write(&key, &text).unwrap();
        let judged = spoolgate::adapters::ssh::key_file::read(&key);
        let used = block_on(Session::connect(&Target { key: Some(key.clone()), ..target(&sshd) }));
        match (judged, used) {
            (Ok(_), Ok(session)) => block_on(session.close()),
            (Ok(_), Err(error)) => panic!("{error}: {}", text.replace(|c: char| c.is_ascii_alphanumeric(), "x")),
            (Err(why), Ok(_)) => panic!("it works, and is said to be wrong: {why}"),
            (Err(why), Err(error)) => assert!(error.to_string().contains(&why.to_string()), "{error}"),
        }
    }
}

#[test]
fn who_hangs_up_or_wants_more_is_told_apart() {
    // Takes connections and hangs up at once, or after a sentence.
    for (sentence, want) in [
        ("", "it hung up before it greeted"),
        ("Go away\r\n", "it hung up, and said only \"Go away\""),
        (
            "Exceeded MaxStartups\r\n",
            "there are too many at once (MaxStartups, PerSourceMaxStartups in its sshd_config)",
        ),
        ("Not allowed at this time\r\n", "or it shuts this machine out for a while after failed logins"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "it hung up, and said only \"HTTP/1.1 400 Bad Request\""),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 256]);
            stream.write_all(sentence.as_bytes()).unwrap();
        });
        let sshd = Target {
            address: "127.0.0.1".to_owned(),
            port,
            user: "root".to_owned(),
            key: None,
            certificate: None,
            passphrase: None,
            proxy_command: None,
            agent: false,
            host_keys: vec![format!("ssh-ed25519 SHA256:{}", "A".repeat(43))],
            connect_timeout: Duration::from_secs(5),
            keepalive: Duration::from_secs(15),
            workers: workers(),
        };
        let said = refused(&sshd).to_string();
        assert!(said.contains(want), "{said}");
        server.join().unwrap();
    }
    let sshd = Sshd::start_with("AuthenticationMethods publickey,password");
    let said = refused(&target(&sshd)).to_string();
    assert!(said.contains("it knows the key, and wants password too, which spoolgate does not do"), "{said}");
    let sshd = Sshd::start();
    let scratch = tempfile::tempdir().unwrap();
    keygen(&scratch.path().join("stranger"));
    let said = refused(&Target { key: Some(scratch.path().join("stranger")), ..target(&sshd) }).to_string();
    assert!(said.contains("it does not take it; is its public half in root's authorized_keys there"), "{said}");
}

/// The library reads on as long as there is something to read, and gives nobody else a turn: neither a limit nor a signal is heard.
#[test]
fn a_server_that_never_stops_talking_is_given_up_in_time() {
    use std::io::Write as _;
    // What it says first, after which silence, and then for ever: lines before its name, and packets that mean nothing
    // (SSH_MSG_IGNORE of 8 bytes: length, padding, number, an empty string, padding).
    let ignore = [0, 0, 0, 12, 6, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].repeat(500);
    for (first, silence_ms, then) in [
        ("", 0, b"one line more\r\n".repeat(500)),
        ("", 1_000, b"one line more\r\n".repeat(500)),
        ("", 0, vec![b'x'; 8000]),
        ("SSH-2.0-x\r\n", 0, ignore),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let then = then.clone();
                std::thread::spawn(move || {
                    let _ = stream.write_all(first.as_bytes());
                    std::thread::park_timeout(Duration::from_millis(silence_ms));
                    while stream.write_all(&then).is_ok() {}
                });
            }
        });
        let target = Target {
            address: "127.0.0.1".to_owned(),
            port,
            user: "root".to_owned(),
            key: None,
            certificate: None,
            passphrase: None,
            proxy_command: None,
            agent: false,
            host_keys: vec![format!("ssh-ed25519 SHA256:{}", "A".repeat(43))],
            connect_timeout: Duration::from_secs(5),
            keepalive: Duration::from_secs(15),
            workers: workers(),
        };
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(refused(&target).to_string()));
        let said = ended.recv_timeout(Duration::from_secs(20)).expect("it is given up");
        assert!(said.starts_with("cannot"), "{said}");
    }
}

/// Three of a name's four addresses let every packet fall.
#[test]
fn one_good_address_of_a_name_is_enough() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("h1", "four.example"), ("h2", "dead.example")], Some(&sshd));
    let config = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &config.replace("[ssh]\n", "[ssh]\nconnect_timeout_s = 3\n"));
    let known = sshd.known_hosts();
    let key = known.split_once(' ').unwrap().1;
    world.write_etc("known_hosts", &format!("[*.example]:{} {key}", sshd.port()));
    let mut firewall = Firewall::new(sshd.port());
    let mut hosts = "127.0.0.1 localhost\n".to_owned();
    for n in 1..=4 {
        hosts += &format!("127.6.0.{n} four.example\n");
        if n != 3 {
            firewall.drop_packets(&format!("127.6.0.{n}"), Way::To);
            hosts += &format!("127.6.0.{n} dead.example\n");
        }
    }
    world.write_etc("hosts", &hosts);
    let mount = format!("mount --bind {} /etc/hosts && exec \"$@\"", world.etc().join("hosts").display());
    world.through = ["unshare", "-m", "sh", "-c", &mount, "sh"].map(str::to_owned).to_vec();
    world.start();
    let begin = Instant::now();
    world.drop_file("ready", "four.json", &task("four", "true", &["h1".to_owned()], 60), 0);
    let record = world.record(world.task_of("four"));
    assert_eq!(record["outcome"], "ok", "{record:#}");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let said = reasons(&world, "dead", &["h2".to_owned()]).remove(0);
    for n in [1, 2, 4] {
        assert!(said.contains(&format!("127.6.0.{n}: no answer within 3s")), "{said}");
    }
}

#[test]
fn too_few_descriptors_make_hosts_wait_and_fail_nothing() {
    let sshd = Sshd::start();
    let hosts: Vec<(String, String)> = (1..=30).map(|n| (format!("h{n}"), format!("127.0.5.{n}"))).collect();
    let hosts: Vec<(&str, &str)> = hosts.iter().map(|(name, address)| (name.as_str(), address.as_str())).collect();
    let mut world = World::new(&hosts, Some(&sshd));
    world.through = ["prlimit", "--nofile=100:100"].map(str::to_owned).to_vec();
    world.start();
    world.drop_file("ready", "few.json", &task("few", "sleep 1; echo done", &names(30), 60), 0);
    let record = world.record(world.task_of("few"));
    assert_eq!(record["outcome"], "ok", "{record:#}");
    assert!(world.daemon_log().contains("may open too few files for 100 hosts at once"), "{}", world.daemon_log());
}

#[test]
fn a_connection_without_descriptors_is_no_fault_of_the_host_and_waiting_helps() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let sshd = Sshd::start();
    let good = target(&sshd);
    block_on(async {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
        let mut held: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        let error = Session::connect(&good).await.err().expect("there is none");
        assert!(matches!(error, SshError::Short { .. }), "{error}");
        assert!(descriptors::are_short() && !descriptors::wait_if_short(Duration::from_millis(300)).await);
        let waits = tokio::spawn(descriptors::wait_if_short(Duration::from_mins(1)));
        tokio::task::yield_now().await;
        held.clear();
        assert!(waits.await.unwrap() && !descriptors::are_short());
        Session::connect(&good).await.unwrap().close().await;
    });
}
