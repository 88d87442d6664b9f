//! What travels arrives byte for byte over links like real ones, whichever way leads to the host; and whoever wants it to end
//! need not wait.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use spoolgate::adapters::output_log;
use spoolgate::base::digest::Digest;
use spoolgate::domain::output::Stream;

use crate::link::Link;
use crate::links::Random;
use crate::relay::{Passed, Relay, Shape, Way, wait_until};
use crate::remote::{from_env, log, task};
use crate::sshd::{Setup, Sshd};
use crate::world::{World, wait_at_most, wait_for, wait_unless};

/// Who the ways lead over, to the last one.
const WAYS: [&str; 4] = ["direct", "jump", "jumps", "command"];
/// What is kept of an output's beginning and end.
const KEPT: (usize, usize) = (15 << 20, 1 << 20);
/// A command that joins its streams to a port.
const JOIN: &str = r#"bash -c 'exec 3<>"/dev/tcp/$0/$1"; cat <&3 & cat >&3' %h %p"#;

/// Two servers to jump over and one to reach, behind links of one shape.
struct Chain {
    name: &'static str,
    servers: Vec<Sshd>,
}

impl Chain {
    fn start(link: &Link, name: &'static str, shape: Option<Shape>, lines: &str) -> Chain {
        let start = |_| {
            let sshd = Sshd::set_up(&Setup { lines, link: Some(link), ..Setup::default() });
            match shape {
                Some(shape) => sshd.behind(shape),
                None => sshd,
            }
        };
        Chain { name, servers: (0..3).map(start).collect() }
    }

    /// Lines of an inventory: a host for every way.
    fn inventory(&self) -> String {
        let [first, second, last] = &self.servers[..] else { unreachable!("a chain has three servers") };
        let name = self.name;
        let place = |sshd: &Sshd, n| format!("address = \"{}\"\nport = {}\n", sshd.address(n), sshd.port());
        let mut text = String::new();
        for (n, sshd) in [first, second].into_iter().enumerate() {
            text.push_str(&format!("[host.over{n}-{name}]\n{}", place(sshd, n)));
        }
        for (n, way) in WAYS.iter().enumerate() {
            let over = match *way {
                "jump" => format!("jump = [\"over0-{name}\"]\n"),
                "jumps" => format!("jump = [\"over0-{name}\", \"over1-{name}\"]\n"),
                "command" => format!("proxy_command = '''{JOIN}'''\n"),
                _ => String::new(),
            };
            text.push_str(&format!("[host.{way}-{name}]\n{}{over}", place(last, 10 + n)));
        }
        text
    }

    fn hosts(&self) -> impl Iterator<Item = String> {
        WAYS.iter().map(|way| format!("{way}-{}", self.name))
    }
}

/// A world whose hosts are reached by every way over every chain.
struct Freight {
    world: World,
    chains: Vec<Chain>,
    /// What is on the hosts.
    there: PathBuf,
    script: Vec<u8>,
    secrets: Vec<String>,
}

impl Freight {
    /// `file` is how long the file to copy is, `output` what the script prints, `text` how long the script itself is.
    fn load(chains: Vec<Chain>, text: usize, file: u64, output: u64) -> Freight {
        let first = &chains[0].servers[0];
        let mut world = World::new(&[], Some(first));
        let mut known = String::new();
        for sshd in chains.iter().flat_map(|chain| &chain.servers) {
            // The first one lets in whoever it lets in already.
            if sshd.port() != first.port() {
                sshd.let_in(first);
            }
            known.push_str(&sshd.known_hosts());
        }
        world.write_etc("known_hosts", &known);
        world.write_etc("inventory/hosts.toml", &chains.iter().map(Chain::inventory).collect::<String>());
        let there = world.etc().with_file_name("there");
        std::fs::create_dir(&there).unwrap();
        let bytes = noise(9, usize::try_from(file.max(output)).unwrap());
        std::fs::create_dir(world.etc().join("files")).unwrap();
        std::fs::write(world.etc().join("files/freight"), &bytes[..usize::try_from(file).unwrap()]).unwrap();
        std::fs::write(there.join("output"), &bytes[..usize::try_from(output).unwrap()]).unwrap();
        let secrets: Vec<String> = (0..6).map(|n| text_noise(n, 10_000)).collect();
        std::fs::create_dir(world.etc().join("secrets")).unwrap();
        let mut variables = String::new();
        for (n, secret) in secrets.iter().enumerate() {
            let path = world.etc().join(format!("secrets/s{n}"));
            std::fs::write(&path, secret).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            variables.push_str(&format!("S{n} = \"secret:s{n}\", "));
        }
        let script = script(&there, text);
        std::fs::write(world.etc().join("templates/big.sh"), &script).unwrap();
        world.write_etc(
            "templates/freight.toml",
            &format!(
                "id = 95\nname = \"freight\"\ntitle = \"t\"\n[[param]]\nname = \"TO\"\ntype = \"path\"\nrequired = true\n\
                 [[step]]\nname = \"script\"\nfile = \"big.sh\"\nenv = {{ {} }}\n\
                 [[step]]\nname = \"copy\"\ncopy = \"freight\"\nto = \"{{TO}}\"\n",
                variables.trim_end_matches(", ")
            ),
        );
        world.start();
        Freight { world, chains, there, script, secrets }
    }

    /// Drops a task for a host.
    fn send(&self, host: &str, name: &str) -> u64 {
        let to = self.there.join(name);
        let task = json!({"task_name": name, "temp_id": 95, "hosts": {"1": [host]}, "args": {"TO": to}}).to_string();
        self.world.drop_file("ready", &format!("{name}.json"), task.as_bytes(), 0);
        self.world.task_of(name)
    }

    fn file(&self) -> PathBuf {
        self.world.etc().join("files/freight")
    }

    /// Every byte of a task that ended well is where it belongs, once.
    fn check(&self, id: u64, host: &str, name: &str, record: &Value) {
        assert_eq!(record["outcome"], "ok", "{host}: {record:#}");
        let log = self.world.state().join(format!("runs/{id}/output/{host}/script.log"));
        let stream = |stream| output_log::piece(stream, &log, Some(0), u64::MAX).unwrap().bytes;
        let told = String::from_utf8(stream(Stream::Err)).unwrap();
        let mut want = format!("{}\n", Digest::of(&self.script).hex());
        for secret in &self.secrets {
            want.push_str(&format!("{}\n", Digest::of(secret.as_bytes()).hex()));
        }
        assert_eq!(told, want, "{host}: digests of the script and the secrets");
        let printed = std::fs::read(self.there.join("output")).unwrap();
        assert_eq!(record["results"][host][0]["out_bytes"].as_u64(), Some(printed.len() as u64), "{host}");
        let out = stream(Stream::Out);
        let whole = printed.len() <= KEPT.0 + KEPT.1;
        let (head, tail) = if whole { (printed.len(), 0) } else { KEPT };
        assert!(out.starts_with(&printed[..head]), "{host}: another output");
        assert!(out.ends_with(&printed[printed.len() - tail..]), "{host}: another end of the output");
        let copied = self.there.join(name);
        assert!(std::fs::read(&copied).unwrap() == std::fs::read(self.file()).unwrap(), "{host}: another file");
        std::fs::remove_file(&copied).unwrap();
    }
}

/// A script of so many bytes. On standard error it says what arrived; what it prints is the file beside it.
fn script(there: &Path, length: usize) -> Vec<u8> {
    let head = format!(
        "#!/bin/sh\nsum() {{ sha256sum | cut -c1-64 >&2; }}\nsum <\"$0\"\n\
         for secret in \"$S0\" \"$S1\" \"$S2\" \"$S3\" \"$S4\" \"$S5\"; do printf %s \"$secret\" | sum; done\n\
         cat {}/output\nexit\n",
        there.display()
    );
    let mut text = head.into_bytes();
    // Lines that no compression makes much smaller.
    while text.len() + 80 < length {
        text.extend_from_slice(format!("# {}\n", text_noise(text.len() as u64, 76)).as_bytes());
    }
    text
}

/// Bytes that look random, the same ones for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed * 2 + 1);
    let mut bytes: Vec<u8> = (0..length.div_ceil(6)).flat_map(|_| random.next().to_le_bytes()[..6].to_vec()).collect();
    bytes.truncate(length);
    bytes
}

fn text_noise(seed: u64, length: usize) -> String {
    use base64::Engine as _;
    let mut text = base64::engine::general_purpose::STANDARD.encode(noise(seed, length));
    text.truncate(length);
    text
}

/// CPU seconds that a process has used.
fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |n: usize| fields[n].parse::<u32>().unwrap();
    f64::from(ticks(11) + ticks(12)) / 100.0
}

/// `FREIGHT_FILE=256000000 FREIGHT_OUTPUT=256000000 FREIGHT_SCRIPT=1048576` for the long campaign, in which each host has its
/// own turn.
#[test]
fn every_byte_arrives_by_every_way_over_every_link() {
    let file = from_env("FREIGHT_FILE", 4_500_000);
    let output = from_env("FREIGHT_OUTPUT", 3_000_000);
    let text = usize::try_from(from_env("FREIGHT_SCRIPT", 500_000)).unwrap();
    let link = Link::lan();
    let chain = |name, shape, lines| Chain::start(&link, name, shape, lines);
    let chains = vec![
        chain("plain", None, ""),
        chain("small", Some(Shape { segment: 1000, ..Shape::default() }), ""),
        chain("far", Some(Shape::round_trip(Duration::from_millis(50))), ""),
        chain("rekey", None, "RekeyLimit 256K"),
    ];
    let freight = Freight::load(chains, text, file, output);
    let hosts: Vec<String> = freight.chains.iter().flat_map(Chain::hosts).collect();
    let at_once = usize::try_from(from_env("FREIGHT_AT_ONCE", 8)).unwrap();
    for hosts in hosts.chunks(at_once) {
        let (begin, cpu) = (Instant::now(), cpu_s(freight.world.daemon_pid()));
        let ids: Vec<u64> = hosts.iter().map(|host| freight.send(host, host)).collect();
        for (id, host) in ids.into_iter().zip(hosts) {
            let limit = Duration::from_secs(120 + file / 1_000_000 * 2);
            let record = wait_at_most(limit, &format!("the record of {host}"), || freight.world.try_record(id));
            freight.check(id, host, host, &record);
        }
        let bytes = (file + output + text as u64) * hosts.len() as u64;
        let megabytes = f64::from(u32::try_from(bytes / 1000).unwrap()) / 1000.0;
        let cpu = cpu_s(freight.world.daemon_pid()) - cpu;
        eprintln!(
            "{}: {megabytes:.0} MB in {:.1?}, {:.1} ms of the daemon's CPU a MB",
            hosts.join(" "),
            begin.elapsed(),
            cpu / megabytes * 1e3
        );
    }
}

/// Hosts at the end of links that take seconds for what travels: narrow ones, and ones that are far too and cut it into small
/// pieces.
fn slow_freight() -> (Link, Freight) {
    let link = Link::lan();
    let narrow = Shape { bandwidth: 4_000_000, ..Shape::round_trip(Duration::from_millis(20)) };
    let pieces = Shape { segment: 1000, latency: Duration::from_millis(25), ..narrow };
    let chains =
        [("narrow", narrow), ("pieces", pieces)].map(|(name, shape)| Chain::start(&link, name, Some(shape), ""));
    (link, Freight::load(chains.into(), 500_000, 10_000_000, 5_000_000))
}

/// How long everything takes that is sent over such a link, and a bit.
const NARROW_MS: u64 = 6_000;

/// How long whoever wants an end waits for it at most: on a machine that other tests use too, longer than the campaign allows.
fn end_limit() -> Duration {
    Duration::from_secs(from_env("FREIGHT_END_S", 30))
}

/// `FREIGHT_CANCELS=200 FREIGHT_END_S=5` for the long campaign; `FREIGHT_SEED` for other moments.
#[test]
fn a_cancel_at_any_moment_of_a_transfer_ends_it_soon() {
    let (cancels, seed) = (from_env("FREIGHT_CANCELS", 8), from_env("FREIGHT_SEED", 7));
    let (_link, freight) = slow_freight();
    let mut random = Random(seed * 2 + 1);
    let mut all = Vec::new();
    for round in 0..cancels.div_ceil(4) {
        let chain = freight.chains[usize::try_from(round % 2).unwrap()].name;
        let moments: Vec<u64> = WAYS.iter().map(|_| random.below(NARROW_MS)).collect();
        let took = std::thread::scope(|scope| {
            let cancels = WAYS.iter().zip(&moments).map(|(way, at)| {
                let (freight, name) = (&freight, format!("{way}-{round}"));
                scope.spawn(move || {
                    cancelled_after(freight, &format!("{way}-{chain}"), &name, Duration::from_millis(*at))
                })
            });
            let cancels: Vec<_> = cancels.collect();
            cancels.into_iter().map(|cancel| cancel.join().unwrap()).collect::<Vec<_>>()
        });
        eprintln!("{chain}: {:?}", moments.iter().zip(&took).collect::<Vec<_>>());
        all.extend(took);
    }
    all.sort();
    let (middle, slowest) = (all[all.len() / 2], all[all.len() - 1]);
    eprintln!("seed {seed}: {cancels} cancels, half of them took {middle:.1?} or less, the slowest {slowest:.1?}");
}

/// Cancels a task some time after it was dropped; how long its end took.
fn cancelled_after(freight: &Freight, host: &str, name: &str, time: Duration) -> Duration {
    let dropped = Instant::now();
    let id = freight.send(host, name);
    wait_until(dropped + time);
    let (asked, limit) = (Instant::now(), end_limit());
    let said = freight.world.run(0, &["cancel", &id.to_string(), "--reason", "enough"]);
    let record = wait_unless(limit, || freight.world.try_record(id));
    let took = asked.elapsed();
    let Some(record) = record else {
        panic!("{host}, cancelled {time:?} after its drop, had no end after {limit:?}: {:#?}", freight.world.events(id))
    };
    if record["outcome"] == "ok" {
        freight.check(id, host, name, &record);
    } else {
        assert_eq!(record["outcome"], "cancelled", "{said:?} {record:#}");
        let copied = std::fs::read(freight.there.join(name));
        assert!(
            copied.is_err() || copied.unwrap() == std::fs::read(freight.file()).unwrap(),
            "half a file is in place"
        );
    }
    took
}

/// `FREIGHT_TERMS=50 FREIGHT_END_S=5` for the long campaign; `FREIGHT_SEED` for other moments. In every other round the links are silent then.
#[test]
fn a_term_at_any_moment_of_a_transfer_ends_the_daemon_soon_and_loses_nothing() {
    let (terms, seed) = (usize::try_from(from_env("FREIGHT_TERMS", 2)).unwrap(), from_env("FREIGHT_SEED", 7));
    let (_link, mut freight) = slow_freight();
    let mut random = Random(seed * 2 + 1);
    let mut slowest = Duration::ZERO;
    for round in 0..terms {
        let tasks = WAYS.map(|way| {
            let (host, name) = (format!("{way}-{}", freight.chains[round / 2 % 2].name), format!("{way}-{round}"));
            (freight.send(&host, &name), host, name)
        });
        wait_until(Instant::now() + Duration::from_millis(random.below(NARROW_MS)));
        let silent = round % 2 == 1;
        let relays = |freight: &Freight, act: &dyn Fn(&Relay)| {
            freight.chains.iter().flat_map(|chain| &chain.servers).for_each(|sshd| act(sshd.relay()));
        };
        if silent {
            relays(&freight, &|relay| relay.silence(true));
            wait_until(Instant::now() + Duration::from_millis(random.below(1_000)));
        }
        slowest = slowest.max(freight.world.end_daemon(end_limit()));
        relays(&freight, &|relay| relay.cut());
        relays(&freight, &|relay| relay.silence(false));
        freight.world.start();
        for (id, host, name) in tasks {
            let limit = Duration::from_mins(2);
            let record = wait_at_most(limit, &format!("the record of {host}"), || freight.world.try_record(id));
            freight.check(id, &host, &name, &record);
            let attempts = record["results"][&host].as_array().unwrap().iter().map(|step| step["attempts"].as_u64());
            assert!(attempts.eq([Some(1), Some(1)]), "{record:#}");
        }
    }
    eprintln!("seed {seed}: {terms} times TERM, the slowest end took {slowest:.1?}");
}

/// Who goes back to a step that runs has its host show it, and sends nothing again that only its start needed.
#[test]
fn a_step_that_runs_is_not_sent_again() {
    let sshd = Sshd::start().behind(Shape { traced: true, ..Shape::default() });
    let mut world = World::new(&[("web1", "127.0.0.1")], Some(&sshd));
    world.start();
    let go = world.scratch().join("go");
    let script = format!("echo begun; until [ -e {} ]; do sleep 0.1; done; echo over\n# ", go.display());
    let script = script + &text_noise(3, 400_000);
    world.drop_file("ready", "long.json", &task("long", &script, &["web1".to_owned()], 600), 0);
    let id = world.task_of("long");
    wait_for("its first line", || (log(&world, id, "web1") == "begun\n").then_some(()));
    let sent =
        |trace: Vec<Passed>| trace.iter().filter(|passed| passed.way == Way::Up).map(|passed| passed.bytes).sum();
    let first: usize = sent(sshd.relay().trace());
    assert!(first > 300_000, "the script went another way: {first} bytes");
    world.kill_daemon();
    world.start();
    wait_for("the next connection", || (sshd.sessions() == 2).then_some(()));
    std::fs::write(&go, "").unwrap();
    assert_eq!(world.record(id)["outcome"], "ok");
    assert_eq!(log(&world, id, "web1"), "begun\nover\n");
    let again: usize = sent(sshd.relay().trace());
    assert!(again < 60_000, "{again} bytes were sent again, of {first}");
}

/// What a step fetched is here when it ended well, and a cancel before that is one.
#[test]
fn a_cancel_while_something_is_fetched_is_no_good_end() {
    let sshd = Sshd::start().behind(Shape { bandwidth: 1_000_000, ..Shape::default() });
    let mut world = World::new(&[("web1", "127.0.0.1")], Some(&sshd));
    let from = world.scratch().join("large");
    std::fs::write(&from, noise(5, 10_000_000)).unwrap();
    let template = "id = 97\nname = \"take\"\ntitle = \"t\"\n[[step]]\nname = \"take\"\nfetch = ";
    world.write_etc("templates/take.toml", &format!("{template}{:?}\n", from.to_str().unwrap()));
    world.start();
    let text = json!({"task_name": "take", "temp_id": 97, "hosts": {"1": ["web1"]}}).to_string();
    world.drop_file("ready", "take.json", text.as_bytes(), 0);
    let id = world.task_of("take");
    wait_for("the second channel", || (sshd.sessions() == 2).then_some(()));
    let _ = world.run(0, &["cancel", &id.to_string(), "--reason", "enough"]).ok();
    let record = world.record(id);
    assert_eq!(record["results"]["web1"][0]["outcome"], "cancelled", "{record:#}");
}
