//! Any text as a parameter: one argument and one variable, whatever it holds, in every shell and over a real sshd.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use crate::runner::{Account, SHELLS, step_with};
use crate::sshd::Sshd;
use crate::world::World;

/// Prints every argument and then the variables P0, P1, … in hexadecimal digits.
const SCRIPT: &str = "#!/usr/bin/perl\nprint unpack('H*', $_), \"\\n\" for @ARGV;\n\
    for (my $n = 0; exists $ENV{\"P$n\"}; $n++) { print unpack('H*', $ENV{\"P$n\"}), \"\\n\" }\n";

/// What shells, terminals and programs read as more than text.
const PIECES: &[&str] = &[
    "'",
    "\"",
    "\\",
    "$(id)",
    "`id`",
    "${HOME}",
    "$IFS",
    "\n",
    "\r\n",
    "\t",
    "\u{1b}[31m",
    "\u{7f}",
    "\u{1}",
    "%s",
    "*",
    "?",
    "[a-z]",
    "~",
    "!",
    "!!",
    "#",
    " ",
    "  ",
    "-n",
    "--",
    "-",
    "=",
    ";",
    "|",
    "&",
    ">",
    "<",
    "(",
    ")",
    "{a,b}",
    "EOF",
    "'\\''",
    "\\n",
    "\\",
    "版本",
    "\u{202e}",
    "\u{feff}",
    "é",
    "🚀",
    "FLOW_ID",
    "{TAG}",
    "A=B",
    "\u{fffd}",
    "sg_at",
    "\0x",
];

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.roll(8) {
            match self.roll(3) {
                0 => text.push_str(PIECES[usize::try_from(self.roll(PIECES.len() as u64)).unwrap()]),
                1 => text.push(char::from(u8::try_from(1 + self.roll(127)).unwrap())),
                _ => text.extend(char::from_u32(u32::try_from(1 + self.roll(0x10_fffe)).unwrap())),
            }
        }
        // NUL is no part of any argument; files with one are refused.
        text.replace('\0', "")
    }
}

fn from_env(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

fn texts(dice: &mut Dice, count: u64) -> Vec<String> {
    (0..count).map(|_| dice.text()).collect()
}

/// Returns what the script prints of these texts.
fn printed<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    let mut lines = String::new();
    for text in texts {
        text.bytes().for_each(|byte| write!(lines, "{byte:02x}").unwrap());
        lines.push('\n');
    }
    lines
}

/// `PARAMETERS=100000 PARAMETERS_SEED=7 cargo test --test it any_text` tries more, or others.
#[test]
fn any_text_is_one_argument_and_one_variable_in_every_shell() {
    const AT_ONCE: u64 = 400;
    let (count, seed) = (from_env("PARAMETERS", 6_000), from_env("PARAMETERS_SEED", 20_261_121));
    println!("PARAMETERS_SEED={seed}");
    let mut dice = Dice(seed);
    let accounts = SHELLS.map(Account::new);
    for round in 0..count.div_ceil(AT_ONCE) {
        let texts = texts(&mut dice, AT_ONCE);
        let env: BTreeMap<String, String> =
            texts.iter().enumerate().map(|(n, text)| (format!("P{n}"), text.clone())).collect();
        let step = step_with(SCRIPT, texts.clone(), &env);
        let want = printed(texts.iter().chain(&texts));
        // All shells see all texts when there are few, one each when there are many.
        for account in
            accounts.iter().skip(usize::try_from(round).unwrap() % 3).take(if count > 10_000 { 1 } else { 3 })
        {
            let heard = account.run_as(&step, round);
            assert!(heard == want, "seed {seed}, round {round}, {:?}:\n{heard}\nwanted\n{want}", account.shell());
        }
    }
}

#[test]
fn any_text_goes_through_a_task_file_and_sshd_as_it_is() {
    let seed = from_env("PARAMETERS_SEED", 20_261_122);
    println!("PARAMETERS_SEED={seed}");
    let sshd = Sshd::start();
    let mut world = World::new(&[("web1", "127.0.0.1")], Some(&sshd));
    world.start();
    let mut dice = Dice(seed);
    for round in 0..5 {
        let args: Vec<String> = texts(&mut dice, 300);
        let env: BTreeMap<String, String> = (0..50).map(|n| (format!("P{n}"), dice.text())).collect();
        let task =
            json!({"task_name": "any text", "hosts": {"1": ["web1"]}, "script": SCRIPT, "args": args, "env": env});
        let name = format!("any-{round}");
        world.drop_file("ready", &format!("{name}.json"), task.to_string().as_bytes(), 0);
        let id = world.task_of(&name);
        assert_eq!(world.record(id)["outcome"], "ok");
        let log = std::fs::read_to_string(world.state().join(format!("runs/{id}/output/web1/script.log"))).unwrap();
        let values: Vec<String> = (0..50).map(|n| env[&format!("P{n}")].clone()).collect();
        assert!(log == printed(args.iter().chain(&values)), "seed {seed}, round {round}:\n{log}");
    }
}

#[test]
fn a_host_and_a_group_that_are_not_there_are_told_together() {
    let world = World::new(&[("web1", "127.0.1.1")], None);
    let task = world.etc().join("task.json");
    std::fs::write(&task, r#"{"task_name": "t", "temp_id": "hello", "hosts": {"1": ["wbe1"], "2": ["web1"]}}"#)
        .unwrap();
    let said = world.run(0, &["check", task.to_str().unwrap()]);
    assert_eq!(said.code, 5, "{said:?}");
    assert!(said.err.contains("wbe1") && said.err.contains("/hosts/2: found group 2"), "{}", said.err);
}
