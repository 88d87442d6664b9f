//! Our inventory beside Ansible's: thousands of small inventories are given to ansible-core itself and to us, and both
//! must say the same hosts, groups and variables, or both must refuse.
//!
//! Where we refuse what Ansible takes, it is on a list, and counted; the other way round there is nothing. Needs what
//! `.ci/install` puts into `/opt/spoolgate-tests/ansible`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use spoolgate::adapters::config::ConfigError;
use spoolgate::adapters::config::{self, Surroundings};
use spoolgate::domain::inventory::Inventory;

use crate::ansible_cases::{FILES, INI, LAXER, OTHERWISE, SEED_REPAIRED, STRICTER, YAML, YAML_VALUES};
use crate::ansible_random::{Dice, broken, random};
use crate::patience::InTime as _;

const ANSIBLE: &str = "/opt/spoolgate-tests/ansible/bin";
const SEED: u64 = 20_261_121;
/// How many inventories are made up, and how many of those are then damaged.
const RANDOM: usize = 250;
const BROKEN: usize = 300;
/// What our problems say where we refuse on purpose what Ansible may take; see docs/inventory.md.
const ON_PURPOSE: &[&str] = &[
    "a host name",
    "control and invisible",
    "control characters",
    "a step of 1 or more",
    "a port from",
    "a port after the colon",
    "an address",
    "a name of its own for every host",
    "ranges in names only",
    "in no group",
    "hosts, vars or children",
    "a mapping of hosts, vars and children",
    "a mapping of groups",
    "each key once",
    "no tag, or one of",
    "numbers that JSON can hold",
    "the name of a variable",
    "set them for the whole group",
    "text or numbers as keys",
    // YAML 1.2 wants lines inside of brackets and quotes further in than what they belong to.
    "indentation",
    // And a space before a comment, also behind a bracket.
    "comments must be separated",
    // And takes a colon for a part of an anchor's name.
    "simple key expect",
];

/// Files by path below `inventory/`.
pub(crate) type Files = Vec<(String, String)>;

/// What is expected of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expect {
    /// Both say the same, or both refuse.
    Same,
    /// Like [`Expect::Same`], but we may refuse what is on the list.
    SameOrListed,
    /// Ansible takes it, and we refuse it with these words.
    Refused(&'static str),
    /// Both take it, and a variable has another value.
    Otherwise,
    /// We take what Ansible refuses.
    Taken,
}

/// What one of the two says: hosts with their variables, and groups with their hosts.
#[derive(Debug)]
struct Said {
    hosts: BTreeMap<String, BTreeMap<String, String>>,
    groups: BTreeMap<String, BTreeSet<String>>,
    /// Whether it reads a YAML file as INI, since it is no YAML.
    as_ini: bool,
}

impl Said {
    fn same(&self, other: &Said) -> bool {
        (&self.hosts, &self.groups) == (&other.hosts, &other.groups)
    }
}

fn of(files: &[(&str, &str)]) -> Files {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

fn cases(seed: u64) -> Vec<(Files, Expect)> {
    let mut cases: Vec<(Files, Expect)> = Vec::new();
    cases.extend(INI.iter().map(|text| (of(&[("hosts.ini", text)]), Expect::Same)));
    cases.push((of(&[("hosts.ini", SEED_REPAIRED)]), Expect::Same));
    cases.extend(YAML.iter().map(|text| (of(&[("hosts.yml", text)]), Expect::Same)));
    let value = |value: &&str| format!("web:\n  hosts:\n    h:\n      k: {value}\n");
    cases.extend(YAML_VALUES.iter().map(|text| (of(&[("hosts.yml", &value(text))]), Expect::Same)));
    let variable = |value: &&str| format!("k: {value}\n").replace("\n        ", "\n  ").replace("\n      ", "\n");
    let beside = |text: &str| of(&[("h.ini", "[g]\nh\n"), ("group_vars/g.yml", text)]);
    cases.extend(YAML_VALUES.iter().map(|text| (beside(&variable(text)), Expect::Same)));
    cases.extend(FILES.iter().map(|files| (of(files), Expect::Same)));
    for (file, text, words) in STRICTER {
        // A second file stands behind its name.
        let files = match text.split_once('<').and_then(|(first, rest)| Some((first, rest.split_once(">\n")?))) {
            Some((first, (path, second))) => of(&[(file, first), (path, second)]),
            None => of(&[(file, text)]),
        };
        cases.push((files, Expect::Refused(words)));
    }
    cases.extend(OTHERWISE.iter().map(|file| (of(&[*file]), Expect::Otherwise)));
    cases.extend(LAXER.iter().map(|file| (of(&[*file]), Expect::Taken)));
    let mut dice = Dice(seed);
    cases.extend((0..RANDOM).map(|_| (random(&mut dice), Expect::Same)));
    cases.extend((0..BROKEN).map(|_| (broken(&mut dice), Expect::SameOrListed)));
    cases
}

fn is_script(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|ending| ending == "sh")
}

/// Writes a case below `dir`. What a script prints stands in the file; `exit N` is its end.
fn write(dir: &Path, files: &Files) {
    let inventory = dir.join("inventory");
    std::fs::create_dir_all(&inventory).unwrap();
    for (path, text) in files {
        let file = inventory.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        if is_script(path) {
            let body = match text.strip_prefix("exit ") {
                Some("-9") => "kill -9 $$\n".to_owned(),
                Some(code) => format!("echo it is broken >&2; exit {code}\n"),
                None => format!(
                    "[ \"$1\" = --host ] && {{ echo \"{{\\\"own\\\": \\\"$2\\\"}}\"; exit; }}\ncat <<'EOF'\n{text}\nEOF\n"
                ),
            };
            std::fs::write(&file, format!("#!/bin/sh\n{body}")).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        } else {
            std::fs::write(&file, text).unwrap();
        }
    }
}

fn ansible(program: &str, dir: &Path) -> Command {
    let program = format!("{ANSIBLE}/{program}");
    assert!(Path::new(&program).exists(), "{program} is missing: run .ci/install");
    let mut command = Command::new(program);
    command.current_dir(dir).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", dir).env("LC_ALL", "C.UTF-8");
    for name in ["UNPARSED_FAILED", "ANY_UNPARSED_IS_FAILED"] {
        command.env(format!("ANSIBLE_INVENTORY_{name}"), "true");
    }
    command.env("ANSIBLE_LOCALHOST_WARNING", "false").stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// What Ansible says to each case; nothing where it refuses.
fn theirs(root: &Path) -> BTreeMap<String, Option<Said>> {
    let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/ansible_inventory.py");
    let home = tempfile::tempdir().unwrap();
    let output = ansible("python3", home.path()).arg(driver).arg(root).output_in_time().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let said: Value = serde_json::from_str(line).unwrap();
        let name = said["case"].as_str().unwrap().to_owned();
        let Some(hosts) = said["hosts"].as_object() else { return (name, None) };
        let hosts = hosts.iter().map(|(host, vars)| {
            let vars = vars.as_object().unwrap().iter().filter(|(name, _)| !is_password(name));
            (host.clone(), vars.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect())
        });
        let groups = said["groups"].as_object().unwrap().iter().map(|(group, hosts)| {
            (group.clone(), hosts.as_array().unwrap().iter().map(|host| host.as_str().unwrap().to_owned()).collect())
        });
        (name, Some(Said { hosts: hosts.collect(), groups: told(groups.collect()), as_ini: said["fallback"] == true }))
    };
    text.lines().map(line).collect()
}

/// Passwords are dropped on purpose.
fn is_password(name: &str) -> bool {
    name.starts_with("ansible_") && ["_pass", "password", "passphrase"].iter().any(|end| name.ends_with(end))
}

/// Leaves out what only one of the two lists: groups without hosts, and the two that always are.
fn told(groups: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    groups.into_iter().filter(|(name, hosts)| !hosts.is_empty() && name != "all" && name != "ungrouped").collect()
}

/// What we say to a case, or what we have against it.
fn ours(dir: &Path) -> Result<Said, Vec<String>> {
    let surroundings = Surroundings { user: "u".to_owned(), home: PathBuf::from("/nonexistent"), owner: 0 };
    let inventory: Inventory = match config::load(dir, &surroundings) {
        Ok(config) => config.library.inventory,
        Err(ConfigError::Wrong { problems, .. }) => {
            for problem in &problems {
                let (file, line) = problem.pointer.split_once(':').unwrap_or((&problem.pointer, "script"));
                let placed = line.parse::<u32>().is_ok_and(|line| line > 0) || is_script(file);
                assert!(placed, "{problem} has no line");
            }
            return Err(problems.iter().map(ToString::to_string).collect());
        }
        Err(error) => panic!("{error}"),
    };
    let names = |hosts: &BTreeSet<_>| hosts.iter().map(ToString::to_string).collect();
    let groups = inventory.groups.iter().map(|(name, hosts)| (name.clone(), names(hosts))).collect();
    let hosts = inventory.hosts.values().map(|host| (host.name.to_string(), host.vars.clone())).collect();
    Ok(Said { hosts, groups: told(groups), as_ini: false })
}

/// Judges one case; the error says what differs.
fn judge(
    expect: &Expect,
    ours: &Result<Said, Vec<String>>,
    theirs: Option<&Said>,
    counts: &mut BTreeMap<String, usize>,
) -> Result<(), String> {
    let mut count = |what: &str| *counts.entry(what.to_owned()).or_default() += 1;
    match (ours, theirs, expect) {
        (Ok(ours), Some(theirs), Expect::Same | Expect::SameOrListed) if ours.same(theirs) => count("the same"),
        (Err(_), None, Expect::Same | Expect::SameOrListed) => count("refused by both"),
        (Err(problems), Some(_), Expect::Refused(words)) if problems.iter().any(|problem| problem.contains(words)) => {
            count("refused by us alone, by hand");
        }
        (Err(_), Some(theirs), Expect::SameOrListed) if theirs.as_ini => {
            count("damaged YAML that Ansible reads as INI");
        }
        (Err(problems), Some(_), Expect::SameOrListed) => {
            let listed = |problem: &String| ON_PURPOSE.iter().find(|words| problem.contains(**words));
            let all: Option<Vec<_>> = problems.iter().map(listed).collect();
            let all = all.ok_or_else(|| format!("we alone refuse it: {}", problems.join("; ")))?;
            count(&format!("damaged, refused by us alone: {}", all[0]));
        }
        (Ok(ours), Some(theirs), Expect::Otherwise) if !ours.same(theirs) => count("another value on purpose"),
        (Ok(_), None, Expect::Taken) => count("taken by us alone"),
        _ => return Err(format!("expected {expect:?}\n  ours: {ours:?}\ntheirs: {theirs:?}")),
    }
    Ok(())
}

#[test]
fn ansible_and_we_say_the_same() {
    let seed = std::env::var("SPOOLGATE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(SEED);
    eprintln!("seed {seed}; replay: SPOOLGATE_SEED={seed} cargo nextest run --test it ansible_and_we --no-capture");
    let dir = tempfile::Builder::new().prefix("spoolgate-ansible.").tempdir().unwrap();
    let cases = cases(seed);
    assert!(cases.len() >= 300);
    // Two of Ansible's processes take half the time of one.
    let halves = ["a", "b"].map(|half| dir.path().join(half));
    let place = |n: usize| halves[n % 2].join(format!("{n:05}"));
    for (n, (files, _)) in cases.iter().enumerate() {
        write(&place(n), files);
    }
    let theirs: BTreeMap<String, Option<Said>> = std::thread::scope(|scope| {
        let asked = halves.each_ref().map(|half| scope.spawn(|| theirs(half)));
        asked.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let (mut counts, mut wrong) = (BTreeMap::new(), Vec::new());
    for (n, (files, expect)) in cases.iter().enumerate() {
        let said = theirs.get(&format!("{n:05}")).unwrap_or_else(|| panic!("no answer to {files:?}"));
        if let Err(difference) = judge(expect, &ours(&place(n)), said.as_ref(), &mut counts) {
            let shown: Vec<String> = files.iter().map(|(path, text)| format!("--- {path}\n{text}")).collect();
            wrong.push(format!("{}\n{difference}", shown.join("\n")));
        }
    }
    eprintln!("{} inventories given to Ansible and to us:", cases.len());
    for (what, count) in &counts {
        eprintln!("{count:6} {what}");
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n\n"));
}

/// The driver in Python asks what is behind the command; here both are asked.
#[test]
fn the_command_says_what_its_code_says() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("cases");
    let files: [&[(&str, &str)]; 5] = [
        &[("hosts.ini", SEED_REPAIRED)],
        &[(
            "hosts.yml",
            "web:\n  vars: {a: yes, b: 0123, c: [1, 1.50, ~]}\n  hosts:\n    w[1:3]:2200:\n  children:\n    x: {hosts: h}\n",
        )],
        &[("h.ini", "[g]\nh a=1\n[g:vars]\nb=1"), ("group_vars/g.yml", "b: 2\n"), ("host_vars/h.yml", "a: {x: y}\n")],
        &[("h.sh", "{\"g\": {\"hosts\": [\"h\"], \"vars\": {\"v\": true}}}")],
        &[("hosts.ini", crate::ansible_cases::SEED)],
    ];
    for (n, files) in files.iter().enumerate() {
        write(&root.join(n.to_string()), &of(files));
    }
    let driven = theirs(&root);
    for n in 0..files.len() {
        let inventory = root.join(n.to_string()).join("inventory");
        let output =
            ansible("ansible-inventory", dir.path()).arg("--list").arg("-i").arg(&inventory).output_in_time().unwrap();
        let said = &driven[&n.to_string()];
        assert_eq!(output.status.success(), said.is_some(), "{:?}", files[n]);
        let Some(said) = said else { continue };
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (host, vars) in &said.hosts {
            let told = listed["_meta"]["hostvars"][host].as_object().cloned().unwrap_or_default();
            assert_eq!(told.keys().collect::<Vec<_>>(), vars.keys().collect::<Vec<_>>(), "{host}");
            for (name, value) in &told {
                let same = match value {
                    Value::String(text) => *text == vars[name],
                    Value::Bool(yes) => vars[name] == if *yes { "True" } else { "False" },
                    Value::Null => vars[name] == "None",
                    other => serde_json::from_str::<Value>(&vars[name]).unwrap() == *other,
                };
                assert!(same, "{host} {name}: {value} and {}", vars[name]);
            }
        }
        for (group, hosts) in &said.groups {
            assert_eq!(flat(&listed, group), *hosts, "{group}");
        }
    }
}

fn flat(listed: &Value, group: &str) -> BTreeSet<String> {
    let words = |key: &str| {
        let list = listed[group][key].as_array().cloned().unwrap_or_default();
        list.iter().map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut hosts: BTreeSet<String> = words("hosts").into_iter().collect();
    for child in words("children") {
        hosts.extend(flat(listed, &child));
    }
    hosts
}
