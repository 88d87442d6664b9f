//! Inventories that nobody wrote: made up by dice, whole or damaged.

use crate::ansible_cases::YAML_VALUES;
use crate::ansible_inventory::Files;

/// Numbers that are the same for the same seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.roll(words.len())]
    }
}

const WORDS: &[&str] = &[
    "1",
    "1.50",
    "0x1F",
    "True",
    "none",
    "\"a b\"",
    "'x'",
    "[1,2]",
    "\"[1, 'a']\"",
    "{}",
    "\"{'a': 1}\"",
    "a#b",
    "a\\ b",
    "1_000",
    "007",
    "-5",
    "1e3",
    "''",
    "\"'1'\"",
    "x=y",
    "发布",
    "\"(1, 2)\"",
    "10.0.0.1",
    "1:30",
    "yes",
    "\"{{ x }}\"",
    "\"[1, 2.50, {'k': None}]\"",
    "~",
    "a,b",
    "@x",
    "\"{1: [True]}\"",
    "0b11",
    "-0",
    "1e-7",
    "\"'it\\\\'s'\"",
];
const LINES: &[&str] = &[
    "1",
    "1 # c",
    "abc # c",
    "\"a b\" # c",
    "[1, 2] # c",
    "{'a': [1, 2.50, None]}",
    "'x' 'y'",
    "; semi",
    "",
    "= =",
    "r'a\\b'",
    "\"\\u53d1\\n\"",
    "{{ x }}",
    "[1, x]",
    "True",
    "yes",
    "(1, 'a')",
    "0o17",
    "'''a'''",
];
const HOSTS: &[&str] = &[
    "h1",
    "h2",
    "h3",
    "h4:22",
    "h[5:7]",
    "h[08:10].x",
    "10.0.0.1",
    "h[a:c]:2200",
    "h6.y:23",
    "h[1:9:4]",
    "h-x_y.example.com",
];
const NAMES: &[&str] = &["a", "b", "c", "ansible_become_user", "ZDOPS_APP", "ansible_password"];

/// An inventory that both understand.
pub(crate) fn random(dice: &mut Dice) -> Files {
    let mut files = match dice.roll(7) {
        0..3 => vec![("hosts.ini".to_owned(), ini(dice))],
        3..6 => vec![("hosts.yml".to_owned(), yaml(dice))],
        _ => vec![("hosts.sh".to_owned(), json(dice))],
    };
    for folder in ["group_vars", "host_vars"] {
        for _ in 0..dice.roll(4).saturating_sub(1) {
            let name = if folder == "group_vars" {
                dice.pick(&["all", "g1", "g2", "g3", "ungrouped"])
            } else {
                dice.pick(&["h1", "h2", "10.0.0.1"])
            };
            let ending = dice.pick(&["", ".yml", ".yaml", ".json", "/x.yml", "/a", "/s/b.yaml"]);
            let path = format!("{folder}/{name}{ending}");
            // A name is a file or a directory.
            let clash = |known: &str| {
                known.starts_with(&format!("{path}/")) || path.starts_with(&format!("{known}/")) || known == path
            };
            if !files.iter().any(|(known, _)| clash(known)) {
                let text = if ending == ".json" { variables_json(dice) } else { variables(dice, "") };
                files.push((path, text));
            }
        }
    }
    files
}

/// An inventory somebody's hand slipped over.
pub(crate) fn broken(dice: &mut Dice) -> Files {
    let (name, mut text) = match dice.roll(2) {
        0 => ("hosts.ini", ini(dice)),
        _ => ("hosts.yml", yaml(dice)),
    };
    for _ in 0..=dice.roll(3) {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let Some(&at) = places.get(dice.roll(places.len().max(1))) else { break };
        match dice.roll(4) {
            0 => drop(text.remove(at)),
            1 => {
                let line = text[at..].find('\n').map_or(text.len(), |end| at + end + 1);
                text.replace_range(at..line, "");
            }
            _ => {
                let c = dice.pick(&[
                    "[", "]", ":", "{", "}", "#", "=", "\"", "'", "\\", " ", "\n", "\t", "-", "&", "*", "!", "|", ">",
                    ",", "%", "~", "7", "a", "  ", ": ", "- ",
                ]);
                text.insert_str(at, c);
            }
        }
    }
    vec![(name.to_owned(), text)]
}

fn ini(dice: &mut Dice) -> String {
    let mut sections = Vec::new();
    let groups = dice.roll(5);
    for n in 0..groups {
        let mut text = format!("[g{n}]{}\n", dice.pick(&["", " # c", ""]));
        (0..dice.roll(4)).for_each(|_| text += &host_line(dice));
        sections.push(text);
        if dice.roll(2) == 0 {
            let mut text = format!("[g{n}:vars]\n");
            (0..dice.roll(4)).for_each(|_| {
                text += &format!("{}{}{}\n", dice.pick(NAMES), dice.pick(&["=", " = "]), dice.pick(LINES));
            });
            if dice.roll(4) == 0 {
                text += &format!("ansible_group_priority={}\n", dice.roll(5));
            }
            sections.push(text);
        }
        // Only groups with higher numbers, so that there is no loop.
        if n + 1 < groups && dice.roll(2) == 0 {
            let mut text = format!("[g{n}:children]\n");
            (0..=dice.roll(2)).for_each(|_| text += &format!("g{}\n", n + 1 + dice.roll(groups - n - 1)));
            sections.push(text);
        }
    }
    if dice.roll(2) == 0 {
        sections.push(format!(
            "[{}:vars]\n{}={}\n",
            dice.pick(&["all", "ungrouped"]),
            dice.pick(NAMES),
            dice.pick(LINES)
        ));
    }
    let mut text: String = (0..dice.roll(3)).map(|_| host_line(dice)).collect();
    while !sections.is_empty() {
        text += &sections.swap_remove(dice.roll(sections.len()));
        text += dice.pick(&["", "\n", "# c\n", "; c\n"]);
    }
    text
}

fn host_line(dice: &mut Dice) -> String {
    let mut line = dice.pick(HOSTS).to_owned();
    (0..dice.roll(4)).for_each(|_| line += &format!(" {}={}", dice.pick(NAMES), dice.pick(WORDS)));
    line + dice.pick(&["\n", "\n", "  \n", " # c\n"])
}

/// Values that stand on one line and are right.
fn value(dice: &mut Dice) -> &'static str {
    loop {
        let value = dice.pick(YAML_VALUES);
        let right = |value: &str| {
            let odd = [
                "0b_",
                "2026-13-01",
                "2025-02-29",
                "25:00:00",
                "!",
                ": no",
                "a: b",
                "nope",
                "\"open",
                "'open",
                "[1",
                "{a: 1",
                "- ",
                "? ",
                "a b: c",
                "=",
                "<<",
                "%x",
                "@x",
                "`x`",
                "{{ x }}",
                "{{",
                "*",
                "&",
            ];
            !value.contains('\n')
                && !odd.iter().any(|word| {
                    value == *word
                        || (value.starts_with(word) && value != "[1, 2, yes, '1', 1.50, ~]" && !value.ends_with('}'))
                        || (word.len() > 3 && value.contains(word))
                })
        };
        if right(value) {
            return value;
        }
    }
}

/// A mapping of variables, each name once.
fn variables(dice: &mut Dice, indent: &str) -> String {
    let mut names: Vec<&str> = NAMES.to_vec();
    let mut text = String::new();
    if dice.roll(5) == 0 {
        // An anchor has one place for PyYAML.
        let anchor = dice.roll(1 << 30);
        text += &format!("{indent}m: &m{anchor} {{k: 1, l: [x]}}\n{indent}n: {{<<: *m{anchor}, l: 2}}\n");
    }
    if dice.roll(6) == 0 {
        text += &format!("{indent}t: |\n{indent}  line\n{indent}   more: x\n");
    }
    for _ in 0..=dice.roll(3) {
        let name = names.swap_remove(dice.roll(names.len()));
        text += &format!("{indent}{name}: {}{}\n", value(dice), dice.pick(&["", " # c"]));
    }
    text
}

fn variables_json(dice: &mut Dice) -> String {
    let mut names: Vec<&str> = NAMES.to_vec();
    let pairs: Vec<String> = (0..=dice.roll(3))
        .map(|_| {
            let name = names.swap_remove(dice.roll(names.len()));
            format!(
                "\"{name}\": {}",
                dice.pick(&[
                    "1",
                    "-2.50",
                    "1e3",
                    "true",
                    "null",
                    "\"x\"",
                    "[1, \"a\", {}]",
                    "{\"k\": [false]}",
                    "\"\\u53d1\"",
                    "12345678901234567890123"
                ])
            )
        })
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

fn yaml(dice: &mut Dice) -> String {
    let mut text = String::from(dice.pick(&["", "---\n", "# c\n"]));
    let mut next = 0;
    if dice.roll(2) == 0 {
        text += "all:\n";
        if dice.roll(2) == 0 {
            text += &format!("  vars:\n{}", variables(dice, "    "));
        }
        text += "  children:\n";
        (0..=dice.roll(2)).for_each(|_| text += &group(dice, "    ", 0, &mut next));
    } else {
        (0..=dice.roll(3)).for_each(|_| text += &group(dice, "", 0, &mut next));
    }
    text
}

fn group(dice: &mut Dice, indent: &str, depth: usize, next: &mut usize) -> String {
    let mut text = format!("{indent}g{next}:\n", next = *next);
    *next += 1;
    let mut hosts: Vec<&str> = HOSTS.to_vec();
    let count = dice.roll(4);
    if count > 0 {
        text += &format!("{indent}  hosts:\n");
    }
    for _ in 0..count {
        let host = hosts.swap_remove(dice.roll(hosts.len()));
        text += &format!("{indent}    {host}:\n");
        if dice.roll(2) == 0 {
            text += &variables(dice, &format!("{indent}      "));
        }
    }
    if dice.roll(2) == 0 {
        text += &format!("{indent}  vars:\n{}", variables(dice, &format!("{indent}    ")));
        if dice.roll(4) == 0 {
            text += &format!("{indent}    ansible_group_priority: {}\n", dice.roll(5));
        }
    }
    if depth < 3 && dice.roll(3) == 0 {
        text += &format!("{indent}  children:\n");
        (0..=dice.roll(2)).for_each(|_| text += &group(dice, &format!("{indent}    "), depth + 1, next));
    }
    text
}

fn json(dice: &mut Dice) -> String {
    let groups = 1 + dice.roll(4);
    let mut parts = Vec::new();
    for n in 0..groups {
        let hosts: Vec<String> =
            (0..dice.roll(4)).map(|_| format!("\"{}\"", dice.pick(&["h1", "h2", "h3", "10.0.0.1", "h4.x"]))).collect();
        let hosts = hosts.join(", ");
        if dice.roll(3) == 0 {
            parts.push(format!("\"g{n}\": [{hosts}]"));
            continue;
        }
        let mut fields = vec![format!("\"hosts\": [{hosts}]")];
        if dice.roll(2) == 0 {
            fields.push(format!("\"vars\": {}", variables_json(dice)));
        }
        if n + 1 < groups && dice.roll(2) == 0 {
            fields.push(format!("\"children\": [\"g{}\"]", n + 1 + dice.roll(groups - n - 1)));
        }
        parts.push(format!("\"g{n}\": {{{}}}", fields.join(", ")));
    }
    if dice.roll(4) > 0 {
        parts.push(format!("\"_meta\": {{\"hostvars\": {{\"h1\": {}, \"gone\": {{}}}}}}", variables_json(dice)));
    }
    format!("{{{}}}", parts.join(", "))
}
