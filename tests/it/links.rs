//! Links that go silent for a while, as the kernel drops their packets: nothing is lost and nothing is started twice.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::patience::InTime as _;
use crate::remote::{from_env, journal, journal_path, log, task};
use crate::sshd::Sshd;
use crate::world::{World, wait_at_most};

/// Which packets of a host are dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    To,
    From,
    Both,
}

/// Rules of this machine's firewall for one port on loopback; they go away with it.
pub(crate) struct Firewall {
    port: u16,
    rules: Vec<Vec<String>>,
}

impl Firewall {
    pub(crate) fn new(port: u16) -> Firewall {
        Firewall { port, rules: Vec::new() }
    }

    fn run(action: &str, rule: &[String]) -> bool {
        // With -w it waits for whoever else changes rules.
        let run = Command::new("iptables").args(["-w", action, "INPUT"]).args(rule).status_in_time();
        run.expect("iptables is installed").success()
    }

    pub(crate) fn drop_packets(&mut self, address: &str, way: Way) {
        let port = self.port.to_string();
        let rule = |words: [&str; 4]| {
            let words = [&["-i", "lo", "-p", "tcp"][..], &words, &["-j", "DROP"]].concat();
            words.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let (to, from) = (rule(["-d", address, "--dport", &port]), rule(["-s", address, "--sport", &port]));
        let rules = match way {
            Way::To => vec![to],
            Way::From => vec![from],
            Way::Both => vec![to, from],
        };
        for rule in rules {
            assert!(Firewall::run("-I", &rule), "these tests change rules of the firewall for a port of their own");
            self.rules.push(rule);
        }
    }

    fn accept(&mut self, address: &str) {
        self.rules.retain(|rule| !(rule.contains(&address.to_owned()) && Firewall::run("-D", rule)));
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        for rule in &self.rules {
            Firewall::run("-D", rule);
        }
    }
}

/// Numbers that look random, the same ones for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        (self.next() >> 16) % most
    }
}

/// When which host goes silent and when it is back, in milliseconds from the beginning.
fn silences(
    random: &mut Random,
    hosts: usize,
    step_s: u64,
    count: u64,
    longest_s: u64,
) -> Vec<(u64, usize, Option<Way>)> {
    let mut acts = Vec::new();
    for host in 0..hosts {
        let mut at = random.below(step_s * 1000 / 2);
        for _ in 0..count {
            let way = [Way::To, Way::From, Way::Both][usize::try_from(random.below(3)).unwrap()];
            acts.push((at, host, Some(way)));
            at += 1000 + random.below((longest_s - 1) * 1000 + 1);
            acts.push((at, host, None));
            at += random.below(step_s * 1000 / count);
        }
    }
    acts.sort_by_key(|(at, ..)| *at);
    acts
}

/// `LINKS_HOSTS=12 LINKS_SECONDS=60 LINKS_LONGEST=120 LINKS_COUNT=3` for the long campaign; `LINKS_SEED` for another one.
#[test]
fn links_that_are_silent_for_a_while_lose_no_line_and_start_nothing_twice() {
    let (hosts, seconds) = (from_env("LINKS_HOSTS", 4), from_env("LINKS_SECONDS", 6));
    let (count, longest, seed) = (from_env("LINKS_COUNT", 2), from_env("LINKS_LONGEST", 4), from_env("LINKS_SEED", 7));
    let sshd = Sshd::start();
    let named: Vec<(String, String)> = (1..=hosts).map(|n| (format!("h{n}"), format!("127.0.5.{n}"))).collect();
    let pairs: Vec<(&str, &str)> = named.iter().map(|(name, address)| (name.as_str(), address.as_str())).collect();
    let mut world = World::new(&pairs, Some(&sshd));
    let config = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    let quick = "agent = false\nconnect_timeout_s = 2\nkeepalive_s = 2";
    world.write_etc("spoolgate.toml", &config.replace("agent = false", quick));
    world.start();
    let lines = seconds * 5;
    let script = format!(
        "echo \"$SPOOLGATE_HOST\" >>{}; n=0; while [ $n -lt {lines} ]; do echo \"$SPOOLGATE_HOST line $n\"; n=$((n+1)); sleep 0.2; done",
        journal_path(&world).display()
    );
    let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
    world.drop_file("ready", "long.json", &task("long", &script, &names, seconds * 10), 0);
    let id = world.task_of("long");
    wait_at_most(Duration::from_mins(2), "every host to have begun", || {
        (journal(&world).len() as u64 == hosts).then_some(())
    });
    let acts = silences(&mut Random(seed * 2 + 1), named.len(), seconds, count, longest);
    let (mut firewall, begin) = (Firewall::new(sshd.port()), Instant::now());
    for (at, host, way) in &acts {
        while let Some(left) = Duration::from_millis(*at).checked_sub(begin.elapsed()) {
            std::thread::park_timeout(left);
        }
        match way {
            Some(way) => firewall.drop_packets(&named[*host].1, *way),
            None => firewall.accept(&named[*host].1),
        }
    }
    let back = Instant::now();
    let record = wait_at_most(Duration::from_mins(10), "the record", || world.try_record(id));
    eprintln!(
        "seed {seed}: {} silences of up to {longest} s; the record {:.1?} after the last",
        acts.len() / 2,
        back.elapsed()
    );
    assert_eq!(record["outcome"], "ok", "seed {seed}: {record:#}");
    for host in &names {
        let want: String = (0..lines).map(|n| format!("{host} line {n}\n")).collect();
        assert_eq!(log(&world, id, host), want, "seed {seed}: {host}");
        assert_eq!(record["results"][host][0]["attempts"], 1);
    }
    let starts: BTreeMap<String, u32> = journal(&world);
    assert!(starts.len() as u64 == hosts && starts.values().all(|count| *count == 1), "seed {seed}: {starts:?}");
}
