//! SSH alone: against a real OpenSSH sshd, and against a server inside the process that can misbehave.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use spoolgate::adapters::ssh::SshError;
use spoolgate::adapters::ssh::Target;
use spoolgate::adapters::ssh::{Session, Workers};
use spoolgate::domain::output::{ExecEnd, Stream};

use crate::fake_ssh::{Behaviour, FakeSsh, Steps, write_client_key};
use crate::fleet::Fleet;
use crate::patience::end_of;
use crate::runner::step_with;
use crate::sshd::Sshd;
use crate::world::{wait_at_most, wait_for};

pub(crate) fn target(sshd: &Sshd) -> Target {
    Target {
        address: "127.0.1.1".to_owned(),
        port: sshd.port(),
        user: "root".to_owned(),
        key: Some(sshd.identity()),
        certificate: None,
        passphrase: None,
        proxy_command: None,
        agent: false,
        host_keys: vec![sshd.host_key()],
        connect_timeout: Duration::from_secs(10),
        keepalive: Duration::from_secs(15),
        workers: workers(),
    }
}

/// Makes processes that speak SSH, in a directory of their own that goes with the test's process.
pub(crate) fn workers() -> Workers {
    static PLACES: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let dir = tempfile::Builder::new().prefix("spoolgate-workers.").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        dir
    });
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let dir = PLACES.path().join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
    Workers::new(env!("CARGO_BIN_EXE_spoolgate").into(), dir)
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// Runs a command and returns how it ended and what it printed on both streams.
pub(crate) async fn exec(session: &mut Session, command: &str, stdin: &[u8]) -> (ExecEnd, Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let end = session
        .exec(command, stdin, &mut |stream, bytes: &[u8]| match stream {
            Stream::Out => out.extend_from_slice(bytes),
            Stream::Err => err.extend_from_slice(bytes),
        })
        .await
        .unwrap();
    (end, out, err)
}

#[test]
fn one_session_takes_many_commands_and_tells_their_ends_apart() {
    let sshd = Sshd::start();
    block_on(async {
        let mut session = Session::connect(&target(&sshd)).await.unwrap();
        for (script, want) in [
            ("exit 0", ExecEnd::Exit(0)),
            ("exit 3", ExecEnd::Exit(3)),
            ("exit 255", ExecEnd::Exit(255)),
            ("kill -KILL $$", ExecEnd::Signal("KILL".to_owned())),
            ("kill -TERM $$", ExecEnd::Signal("TERM".to_owned())),
        ] {
            let (end, _, _) = exec(&mut session, "/bin/sh", script.as_bytes()).await;
            assert_eq!(end, want, "{script}");
        }
        let (end, out, err) = exec(&mut session, "/bin/sh", b"echo out; echo err >&2\n").await;
        assert_eq!((end, out.as_slice(), err.as_slice()), (ExecEnd::Exit(0), &b"out\n"[..], &b"err\n"[..]));
        session.close().await;
    });
}

#[test]
fn the_key_exchange_is_post_quantum_where_the_host_has_it() {
    for line in ["KexAlgorithms mlkem768x25519-sha256\nRekeyLimit 256K", "RekeyLimit 256K"] {
        let sshd = Sshd::start_newest(line);
        block_on(async {
            let mut session = Session::connect(&target(&sshd)).await.unwrap();
            assert_eq!(session.key_exchange().as_deref(), Some("mlkem768x25519-sha256"), "{line}");
            // New keys in the middle of a stream are exchanged in the same way.
            let sent = vec![b'x'; 1 << 20];
            let (end, out, _) = exec(&mut session, "cat", &sent).await;
            assert!(end == ExecEnd::Exit(0) && out == sent, "{end:?} after {} bytes", out.len());
            session.close().await;
        });
    }
    // One that has none, and another server than OpenSSH.
    let old = Sshd::start_with("KexAlgorithms sntrup761x25519-sha512@openssh.com,curve25519-sha256");
    block_on(async {
        let session = Session::connect(&target(&old)).await.unwrap();
        assert_eq!(session.key_exchange().as_deref(), Some("curve25519-sha256"));
        session.close().await;
        let (_server, target, _scratch) = fake().await;
        let session = Session::connect(&target(1)).await.unwrap();
        assert_eq!(session.key_exchange().as_deref(), Some("mlkem768x25519-sha256"), "with russh");
        session.close().await;
    });
}

#[test]
fn megabytes_go_both_ways_byte_for_byte() {
    let sshd = Sshd::start();
    block_on(async {
        let mut session = Session::connect(&target(&sshd)).await.unwrap();
        let sent: Vec<u8> = (0..10_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        // Both streams and stdin at once: whoever waits for one of them only would wait for ever.
        let (end, out, err) = exec(&mut session, "tee /dev/stderr", &sent).await;
        assert_eq!(end, ExecEnd::Exit(0));
        assert!(out == sent && err == sent, "{} and {} bytes came back", out.len(), err.len());
        session.close().await;
    });
}

#[test]
fn a_caller_who_stops_waiting_can_use_the_session_again() {
    let sshd = Sshd::start();
    block_on(async {
        let mut session = Session::connect(&target(&sshd)).await.unwrap();
        let mut nowhere = |_, _: &[u8]| {};
        let silent = session.exec("/bin/sh", &b"exec sleep 1000\n"[..], &mut nowhere);
        assert!(tokio::time::timeout(Duration::from_millis(300), silent).await.is_err(), "a silent command ended");
        let (end, out, _) = exec(&mut session, "/bin/sh", b"echo again\n").await;
        assert_eq!((end, out.as_slice()), (ExecEnd::Exit(0), &b"again\n"[..]));
        session.close().await;
    });
}

#[test]
fn who_cannot_be_trusted_or_reached_gets_nothing() {
    let sshd = Sshd::start();
    block_on(async {
        let no_key = Target { host_keys: Vec::new(), ..target(&sshd) };
        assert!(matches!(Session::connect(&no_key).await, Err(SshError::UnknownHostKey { .. })));

        let forged = format!("ssh-ed25519 SHA256:{}", "A".repeat(43));
        let other_key = Target { host_keys: vec![forged], ..target(&sshd) };
        let error = Session::connect(&other_key).await.err().unwrap();
        assert!(matches!(&error, SshError::HostKey { found, .. } if *found == sshd.host_key()), "{error}");
        assert!(error.never_sent());

        let scratch = tempfile::tempdir().unwrap();
        write_client_key(&scratch.path().join("other"));
        let stranger = Target { key: Some(scratch.path().join("other")), ..target(&sshd) };
        assert!(matches!(Session::connect(&stranger).await, Err(SshError::Auth { .. })));

        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let refused = Target { port: nobody, ..target(&sshd) };
        assert!(matches!(Session::connect(&refused).await, Err(SshError::Connect { .. })));

        // Takes the connection and never says a word.
        let silent = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let limit = Duration::from_millis(500);
        let mute = Target { port: silent.local_addr().unwrap().port(), connect_timeout: limit, ..target(&sshd) };
        let begin = Instant::now();
        assert!(matches!(Session::connect(&mute).await, Err(SshError::ConnectTimeout { .. })));
        assert!(begin.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn a_session_that_falls_silent_is_lost_within_three_periods() {
    let sshd = Sshd::start();
    block_on(async {
        let patient = Target { keepalive: Duration::from_secs(1), ..target(&sshd) };
        let mut session = Session::connect(&patient).await.unwrap();
        let (_, out, _) = exec(&mut session, "/bin/sh", b"echo $PPID\n").await;
        let sshd_session: i32 = String::from_utf8(out).unwrap().trim().parse().unwrap();
        let pid = nix::unistd::Pid::from_raw(sshd_session);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        let begin = Instant::now();
        let mut nowhere = |_, _: &[u8]| {};
        let waited = session.exec("/bin/sh", &b"sleep 100\n"[..], &mut nowhere);
        let error = tokio::time::timeout(Duration::from_secs(30), waited).await.expect("it is noticed").unwrap_err();
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
        assert!(!error.never_sent(), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(10), "noticed after {:?}", begin.elapsed());
        session.close().await;
    });
}

#[test]
fn a_command_that_is_quiet_for_long_is_not_lost() {
    let sshd = Sshd::start();
    block_on(async {
        let eager = Target { keepalive: Duration::from_secs(2), ..target(&sshd) };
        let mut session = Session::connect(&eager).await.unwrap();
        let (end, out, _) = exec(&mut session, "/bin/sh", b"sleep 11; echo done\n").await;
        assert_eq!((end, out.as_slice()), (ExecEnd::Exit(0), &b"done\n"[..]));
        session.close().await;
    });
}

/// A server whose hosts behave by their last number, and a target for one of them.
async fn fake() -> (FakeSsh, impl Fn(u32) -> Target, tempfile::TempDir) {
    let scratch = tempfile::tempdir().unwrap();
    let key = scratch.path().join("id_ed25519");
    let client = write_client_key(&key);
    let server = FakeSsh::start(&client, |address| match address {
        IpAddr::V4(v4) if v4.octets()[1] == 9 => match v4.octets()[3] {
            1 => Behaviour::Killed,
            2 => Behaviour::Cuts,
            3 => Behaviour::Twice,
            _ => Behaviour::Hangs,
        },
        _ => Behaviour::Fixed { out: b"fixed\n".to_vec(), exit: 0 },
    })
    .await;
    let (port, host_key) = (server.port, server.fingerprint());
    let workers = workers();
    let target = move |n: u32| Target {
        address: std::net::Ipv4Addr::from((127 << 24) + n).to_string(),
        port,
        user: "ops".to_owned(),
        key: Some(key.clone()),
        certificate: None,
        passphrase: None,
        proxy_command: None,
        agent: false,
        host_keys: vec![host_key.clone()],
        connect_timeout: Duration::from_secs(30),
        keepalive: Duration::from_secs(1),
        workers: workers.clone(),
    };
    (server, target, scratch)
}

#[test]
fn misbehaving_hosts_are_told_apart() {
    block_on(async {
        let (server, target, _scratch) = fake().await;
        let address = |last: u32| (9 << 16) + last;
        let mut killed = Session::connect(&target(address(1))).await.unwrap();
        assert_eq!(exec(&mut killed, "x", b"").await.0, ExecEnd::Signal("KILL".to_owned()));
        killed.close().await;
        let mut cut = Session::connect(&target(address(2))).await.unwrap();
        let error = cut.exec("x", &b""[..], &mut |_, _: &[u8]| {}).await.unwrap_err();
        assert!(matches!(error, SshError::Lost { .. }), "{error}");
        cut.close().await;
        assert_eq!(server.logins(), 2);
        let distrusted = Target { host_keys: vec![format!("ssh-ed25519 SHA256:{}", "A".repeat(43))], ..target(1) };
        assert!(Session::connect(&distrusted).await.is_err());
        assert_eq!(server.logins(), 2, "a host with the wrong key was logged in to");
    });
}

/// With the registration outliving its socket, this hangs: another connection gets the same number in between.
#[test]
fn thousands_of_hosts_come_and_go_without_a_hang() {
    block_on(async {
        let (server, target, _scratch) = fake().await;
        for round in 0..2 {
            let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(200));
            let hosts: Vec<_> = (0..2_000)
                .map(|n| {
                    let (target, slots) = (target((1 << 16) + n), std::sync::Arc::clone(&slots));
                    tokio::spawn(async move {
                        let _slot = slots.acquire().await;
                        let mut session = Session::connect(&target).await.unwrap();
                        let (end, out, _) = exec(&mut session, "x", b"script").await;
                        session.close().await;
                        assert_eq!((end, out.as_slice()), (ExecEnd::Exit(0), &b"fixed\n"[..]));
                    })
                })
                .collect();
            for host in hosts {
                tokio::time::timeout(Duration::from_mins(2), host).await.expect("no hang").unwrap();
            }
            assert_eq!(server.logins(), 2_000 * (round + 1));
        }
    });
}

/// `FLEET_HOSTS=10000 FLEET_RUNS=5` for the long campaign.
#[test]
fn hundreds_of_hosts_of_one_task_all_end_time_and_again() {
    let size = |name: &str, otherwise| std::env::var(name).map_or(otherwise, |value| value.parse().unwrap());
    let hosts = size("FLEET_HOSTS", 300);
    let fleet = Fleet::start(hosts, 256, &Steps::new(false));
    for run in 1..=size("FLEET_RUNS", 2) as u64 {
        fleet.world.drop_file("ready", &format!("all{run}.json"), fleet.task().as_bytes(), 0);
        wait_at_most(Duration::from_mins(5), "the record", || fleet.world.try_record(run));
        assert_eq!(fleet.ok(run), hosts);
    }
}

#[test]
fn hosts_that_are_at_work_are_all_connected_at_once() {
    let steps = Steps::new(true);
    let fleet = Fleet::start(150, 150, &steps);
    fleet.world.drop_file("ready", "all.json", fleet.task().as_bytes(), 0);
    wait_for("every step to run", || (steps.begun() == 150).then_some(()));
    assert!(fleet.world.try_record(1).is_none());
    steps.let_go();
    wait_for("the record", || fleet.world.try_record(1));
    assert_eq!(fleet.ok(1), 150);
    assert_eq!(steps.begun(), 150, "a step was started twice");
}

/// As one shell that is sent program after program: each is answered when it is whole, and the channel stays open.
/// What the library takes off the socket while it looks for something else is found without another byte from the host.
#[test]
fn nothing_that_came_is_waited_for() {
    block_on(async {
        let (_server, target, _scratch) = fake().await;
        let target = Target { keepalive: Duration::from_secs(1000), ..target((9 << 16) + 3) };
        let mut session = Session::connect(&target).await.unwrap();
        let step = step_with("true", Vec::new(), &std::collections::BTreeMap::new());
        for round in 0..20_000 {
            let mut heard = Vec::new();
            let mut sink = |_, bytes: &[u8]| {
                heard.extend_from_slice(bytes);
                heard.ends_with(b"two\n")
            };
            let told = tokio::time::timeout(
                Duration::from_secs(5),
                session.tell(&step.forget(), "ab".repeat(16), std::io::Cursor::new, &mut sink),
            )
            .await;
            assert!(matches!(told, Ok(Ok(None))), "round {round}: {told:?}");
        }
    });
}

#[test]
fn the_runner_inside_the_process_answers_every_program_on_one_channel() {
    use spoolgate::domain::runner::Offsets;
    use std::io::{BufRead as _, Write as _};
    let scratch = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let key = scratch.path().join("key");
    let (client, steps) = (write_client_key(&key), Steps::new(false));
    let server = runtime.block_on(FakeSsh::start(&client, move |_| Behaviour::Runner(std::sync::Arc::clone(&steps))));
    let known = scratch.path().join("known_hosts");
    std::fs::write(&known, server.known_hosts()).unwrap();
    let mut ssh = std::process::Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-p", &server.port.to_string(), "-i"])
        .arg(&key)
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .args(["root@127.0.0.1", "/bin/sh"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, output) = (ssh.stdin.take().unwrap(), ssh.stdout.take().unwrap());
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let lines = std::io::BufReader::new(output).lines().map_while(Result::ok);
        lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
    });
    let mut said = std::iter::from_fn(|| match lines.recv_timeout(Duration::from_mins(1)) {
        Err(RecvTimeoutError::Timeout) => panic!("ssh says nothing"),
        said => said.ok(),
    });
    let step = step_with("true", Vec::new(), &std::collections::BTreeMap::new());
    for (nonce, act, end) in [("a1", "run", "exit 0"), ("b2", "run", "exit 0"), ("n5", "forget", "forgotten -")] {
        let program = if act == "run" { step.program(Offsets::default(), nonce) } else { step.forget() };
        // In two pieces, the first of which looks whole to nobody.
        let frame = if nonce == "a1" { program.first("0ff") } else { program.again("0ff") };
        for piece in frame.chunks(frame.len() - 10) {
            input.write_all(piece).unwrap();
            input.flush().unwrap();
        }
        if act == "run" {
            assert_eq!(said.next().unwrap(), format!("spoolgate-running {nonce} 4242"));
        }
        assert_eq!(said.next().unwrap(), format!("spoolgate-end {nonce} {end} 0 0 0 0"));
    }
    drop(input);
    assert_eq!(said.next(), None);
    assert_eq!(end_of(ssh, "ssh").status.code(), Some(0));
}
