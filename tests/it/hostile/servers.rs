//! SSH servers that mean ill, beside hosts at work.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::remote::from_env;
use crate::sshd::Sshd;
use crate::world::{World, wait_at_most};

/// What one says that never lets anybody in. It is cut off when nobody reads any more.
struct Liar {
    name: &'static str,
    /// What it says first.
    first: Vec<u8>,
    /// What it says for ever after; with nothing it only waits.
    then: Vec<u8>,
    /// How long it waits between two sayings, in milliseconds.
    pause_ms: u64,
}

/// A packet of the protocol as it is before keys are exchanged: length, padding, payload, padding.
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 8 - (payload.len() + 5) % 8;
    let padding = if padding < 4 { padding + 8 } else { padding };
    let length = u32::try_from(payload.len() + 1 + padding).unwrap();
    let mut whole = length.to_be_bytes().to_vec();
    whole.push(u8::try_from(padding).unwrap());
    whole.extend(payload);
    whole.extend(vec![0; padding]);
    whole
}

/// The lists of methods (`SSH_MSG_KEXINIT`), each of them `list`.
fn kexinit(list: &str) -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend([7; 16]);
    for _ in 0..10 {
        payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
        payload.extend(list.as_bytes());
    }
    payload.extend([0; 5]);
    packet(&payload)
}

fn liars() -> Vec<Liar> {
    let name = b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec();
    let after = |rest: &[u8]| [&name[..], rest].concat();
    let liar = |name, first: Vec<u8>, then: Vec<u8>, pause_ms| Liar { name, first, then, pause_ms };
    let huge = |length: u32| [&length.to_be_bytes()[..], &[4; 8000]].concat();
    let usual = "curve25519-sha256,ssh-ed25519,aes128-ctr,aes128-gcm@openssh.com,hmac-sha2-256,none";
    // A string that is longer than its packet.
    let mut cut = vec![20];
    cut.extend([7; 16]);
    cut.extend([0xff, 0xff, 0xff, 0xf0, b'x']);
    vec![
        liar("lines for ever", vec![], b"welcome\r\n".repeat(800), 0),
        liar("a line without an end", vec![], vec![b'x'; 8000], 0),
        liar("a line now and then", vec![], b"please wait\r\n".to_vec(), 200),
        liar("a byte now and then", b"SSH".to_vec(), b"-".to_vec(), 300),
        liar("nothing at all", vec![], vec![], 0),
        liar("its name alone", after(b""), vec![], 0),
        liar("its name without an end", b"SSH-2.0-".to_vec(), vec![b'x'; 8000], 0),
        liar("noise behind its name", after(b""), (0..=255).cycle().take(8000).collect(), 0),
        liar("a packet of 4 GiB", after(&huge(u32::MAX)), vec![1; 8000], 0),
        liar("a packet of 35000", after(&huge(35_000)), vec![1; 8000], 0),
        liar("a packet of nothing", after(&[0; 64]), vec![0; 64], 1),
        liar("SSH_MSG_IGNORE for ever", after(b""), packet(&[2, 0, 0, 0, 0]).repeat(500), 0),
        liar("its lists for ever", after(b""), kexinit(usual).repeat(20), 0),
        liar("lists of 30 kB", after(&kexinit(&"x,".repeat(1500))), vec![], 0),
        liar("a list longer than its packet", after(&packet(&cut)), vec![], 0),
        liar(
            "a wrong key exchange",
            after(&[kexinit(usual), packet(&[31, 0, 0, 0, 1, 0, 0, 0, 0])].concat()),
            vec![],
            0,
        ),
    ]
}

/// Has one listen, and returns its port.
fn listen(liar: Liar) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (first, then, pause) = (liar.first.clone(), liar.then.clone(), liar.pause_ms);
            std::thread::spawn(move || lie(stream, &first, &then, Duration::from_millis(pause)));
        }
    });
    port
}

fn lie(mut stream: TcpStream, first: &[u8], then: &[u8], pause: Duration) {
    if stream.write_all(first).is_err() {
        return;
    }
    if then.is_empty() {
        // Until the other side is gone.
        while let Ok(1..) = stream.read(&mut [0; 4096]) {}
        return;
    }
    while stream.write_all(then).is_ok() {
        std::thread::park_timeout(pause);
    }
}

/// What somebody's login runs, whatever is asked for.
const COMMANDS: [(&str, &str); 4] = [
    ("output for ever", "exec yes 00000000000000000000000000000000"),
    (
        "numbers and marks",
        "while :; do echo 'exit exit 0 1 18446744073709551615 18446744073709551615 1 end'; sleep 0.1; done",
    ),
    ("zeros on both streams", "cat /dev/zero & exec cat /dev/zero >&2"),
    ("no end", "trap '' TERM HUP INT; while :; do sleep 1; done"),
];

/// The processor time of a process and of those that it has waited for, in ticks of a hundredth of a second.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    fields.split_ascii_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// `HOSTILE_HOSTS=100` for the size of the field.
#[test]
fn good_hosts_beside_hostile_servers_end_as_soon_as_alone() {
    let count = usize::try_from(from_env("HOSTILE_HOSTS", 20)).unwrap();
    let good = Sshd::start();
    let mut world = World::new(&[], Some(&good));
    let (mut inventory, mut known) = (String::new(), good.known_hosts());
    let names: Vec<String> = (0..count).map(|n| format!("good{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        inventory += &format!("[host.{name}]\naddress = \"{}\"\nport = {}\n", good.address(n), good.port());
    }
    let key = known.split_once(' ').unwrap().1.to_owned();
    let mut hostile: Vec<(String, &str)> = Vec::new();
    for liar in liars() {
        let (name, what) = (format!("liar{}", hostile.len()), liar.name);
        let port = listen(liar);
        inventory += &format!("[host.{name}]\naddress = \"127.0.0.1\"\nport = {port}\n");
        known += &format!("[127.0.0.1]:{port} {key}");
        hostile.push((name, what));
    }
    let mut servers = Vec::new();
    for (what, command) in COMMANDS {
        let script = world.scratch().join(format!("forced{}", servers.len()));
        std::fs::write(&script, format!("#!/bin/sh\n{command}\n")).unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let sshd = Sshd::start_with(&format!("ForceCommand {}", script.display()));
        sshd.let_in(&good);
        let name = format!("liar{}", hostile.len());
        inventory += &format!("[host.{name}]\naddress = \"{}\"\nport = {}\n", sshd.address(0), sshd.port());
        known += &sshd.known_hosts();
        hostile.push((name, what));
        servers.push(sshd);
    }
    world.write_etc("inventory/hosts.toml", &inventory);
    world.write_etc("known_hosts", &known);
    let config = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &format!("{config}connect_timeout_s = 5\nfirst_word_s = 4\n"));
    world.start();
    let run = |name: &str| {
        let text = json!({"task_name": name, "script": "sleep 1; echo done", "hosts": {"1": names}}).to_string();
        let begun = Instant::now();
        world.drop_file("ready", &format!("{name}.json"), text.as_bytes(), 0);
        let id = world.task_of(name);
        let record = wait_at_most(Duration::from_mins(3), "the good hosts", || world.try_record(id));
        assert_eq!(record["outcome"], "ok", "{record:#}");
        begun.elapsed().as_secs_f64()
    };
    run("first");
    let alone = run("alone");
    let liars: Vec<&String> = hostile.iter().map(|(name, _)| name).collect();
    let text = json!({"task_name": "liars", "script": "echo done", "timeout": 10, "hosts": {"1": liars}}).to_string();
    let (begun, before) = (Instant::now(), ticks(world.daemon_pid()));
    world.drop_file("ready", "liars.json", text.as_bytes(), 0);
    let id = world.task_of("liars");
    let beside: Vec<f64> = (0..3).map(|n| run(&format!("beside{n}"))).collect();
    let record = wait_at_most(Duration::from_mins(2), "an outcome of every hostile server", || world.try_record(id));
    for (name, what) in &hostile {
        assert_ne!(record["outcomes"][name], "ok", "{what}: {:#}", record["results"][name]);
    }
    let (took, spent) =
        (begun.elapsed().as_secs_f64(), Duration::from_millis(10 * (ticks(world.daemon_pid()) - before)));
    let worst = beside.iter().copied().fold(0.0, f64::max);
    println!(
        "{count} good hosts alone {alone:.2} s, beside {} hostile servers {beside:.2?} s ({:.2} times); the hostile ones had their \
         outcomes after {took:.1} s; the daemon spent {spent:.1?} of processor time",
        hostile.len(),
        worst / alone
    );
    // Other tests run beside this one: what is measured is printed, what is checked is that nobody waits for a limit of others.
    assert!(worst < alone * 2.0 + 3.0, "{alone} {beside:?}");
}
