//! What differs between two plans, in the words of their JSON.
//!
//! **Invariant:** pure. Two plans with different digests have at least one difference; where there are too many, the
//! last one says how many more.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::plan::Plan;

/// How many differences are listed.
const DIFFERENCES_MAX: usize = 50;
/// How much is kept of a value, in characters.
const VALUE_CHARS_MAX: usize = 120;

/// One place in which two plans differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Where, as a JSON pointer into the plan.
    pub pointer: String,
    /// What stood there; `None` when nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// What stands there now; `None` when nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.was, &self.now) {
            (Some(was), Some(now)) => write!(f, "{}: {was} became {now}", self.pointer),
            (Some(was), None) => write!(f, "{}: {was} is gone", self.pointer),
            (None, Some(now)) => write!(f, "{}: {now} is new", self.pointer),
            (None, None) => write!(f, "{}", self.pointer),
        }
    }
}

/// How long a value may be to stand in a line beside another.
const BRIEF_CHARS_MAX: usize = 32;

/// Says in a few words each what differs: short values as they were and are, of long ones only that they changed. A script is
/// named by its step.
#[must_use]
pub fn brief(differences: &[Difference]) -> Vec<String> {
    let short = |value: &Option<String>| value.as_ref().is_none_or(|text| text.chars().count() <= BRIEF_CHARS_MAX);
    let by_step = differences.iter().any(|difference| difference.pointer.ends_with("/script"));
    let named = differences.iter().filter(|difference| !(by_step && difference.pointer.starts_with("/scripts/")));
    named
        .map(|difference| match (&difference.was, &difference.now) {
            _ if short(&difference.was) && short(&difference.now) => difference.to_string(),
            (Some(_), None) => format!("{} is gone", difference.pointer),
            (None, Some(_)) => format!("{} is new", difference.pointer),
            _ => format!("{} changed", difference.pointer),
        })
        .collect()
}

/// Returns what differs, in the order of the plan's form.
#[must_use]
pub fn differences(was: &Plan, now: &Plan) -> Vec<Difference> {
    let value = |plan| serde_json::to_value(plan).expect("a plan holds nothing that JSON cannot say");
    let mut found = Found::default();
    found.compare("", Some(&value(was)), Some(&value(now)));
    if found.more > 0 {
        let more = format!("and {} more", found.more);
        found.differences.push(Difference { pointer: more, was: None, now: None });
    }
    found.differences
}

/// What differs between the scripts of one step: its group and name, the lines that went, and those that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptChange {
    /// The step, as `GROUP.STEP`.
    pub step: String,
    /// The number of the first line that differs, from 1.
    pub line: usize,
    /// Lines that are gone.
    pub was: Vec<String>,
    /// Lines that are new.
    pub now: Vec<String>,
}

/// Returns for each step of both plans what differs in its script: everything between what is the same at the beginning and
/// what is the same at the end.
#[must_use]
pub fn script_changes(was: &Plan, now: &Plan) -> Vec<ScriptChange> {
    let mut changes = Vec::new();
    for group in &now.groups {
        let before = was.group(group.number).map_or(&[][..], |group| &group.steps);
        for step in &group.steps {
            let Some(known) = before.iter().find(|known| known.name == step.name) else { continue };
            let lines = |plan: &Plan, digest| -> Vec<String> {
                plan.scripts.get(digest).map_or("", String::as_str).split('\n').map(str::to_owned).collect()
            };
            let (old, new) = (lines(was, &known.script), lines(now, &step.script));
            if old == new {
                continue;
            }
            let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
            let rest = old.len().min(new.len()).saturating_sub(head);
            let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
            changes.push(ScriptChange {
                step: format!("{}.{}", group.number, step.name),
                line: head.saturating_add(1),
                was: old[head..old.len().saturating_sub(tail)].to_vec(),
                now: new[head..new.len().saturating_sub(tail)].to_vec(),
            });
        }
    }
    changes
}

#[derive(Default)]
struct Found {
    differences: Vec<Difference>,
    more: usize,
}

impl Found {
    fn compare(&mut self, pointer: &str, was: Option<&Value>, now: Option<&Value>) {
        match (was, now) {
            (was, now) if was == now => {}
            (Some(Value::Object(was)), Some(Value::Object(now))) => {
                let mut keys: Vec<&String> = was.keys().chain(now.keys()).collect();
                keys.sort();
                keys.dedup();
                for key in keys {
                    self.compare(&format!("{pointer}/{}", escaped(key)), was.get(key), now.get(key));
                }
            }
            (Some(Value::Array(was)), Some(Value::Array(now))) if words(was) && words(now) => {
                self.compare_words(pointer, was, now);
            }
            (Some(Value::Array(was)), Some(Value::Array(now))) => {
                for n in 0..was.len().max(now.len()) {
                    self.compare(&format!("{pointer}/{n}"), was.get(n), now.get(n));
                }
            }
            (was, now) => self.add(pointer, was, now),
        }
    }

    /// Lists of words, such as hosts, differ by what came and what went; or by their order alone.
    fn compare_words(&mut self, pointer: &str, was: &[Value], now: &[Value]) {
        let only = |these: &[Value], those: &[Value]| -> Vec<Value> {
            let those: std::collections::HashSet<&str> = those.iter().filter_map(Value::as_str).collect();
            these.iter().filter(|value| value.as_str().is_none_or(|word| !those.contains(word))).cloned().collect()
        };
        let (gone, new) = (only(was, now), only(now, was));
        if gone.is_empty() && new.is_empty() {
            return self.add(pointer, Some(&Value::from(was.to_vec())), Some(&Value::from(now.to_vec())));
        }
        for value in gone {
            self.add(pointer, Some(&value), None);
        }
        for value in new {
            self.add(pointer, None, Some(&value));
        }
    }

    fn add(&mut self, pointer: &str, was: Option<&Value>, now: Option<&Value>) {
        if self.differences.len() >= DIFFERENCES_MAX {
            self.more = self.more.saturating_add(1);
            return;
        }
        let difference = Difference { pointer: pointer.to_owned(), was: was.map(short), now: now.map(short) };
        self.differences.push(difference);
    }
}

fn words(values: &[Value]) -> bool {
    values.iter().all(Value::is_string)
}

/// Writes a key as a piece of a JSON pointer (RFC 6901).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn short(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(VALUE_CHARS_MAX).collect();
    if chars.next().is_some() { head + "…" } else { head }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::domain::plan::PlannedHost;

    fn plan() -> Plan {
        let mut plan = Plan::empty_for_tests();
        plan.hosts.insert("web/1".replace('/', "-").parse().expect("a name"), PlannedHost::local_for_tests());
        plan.env.insert("TAG".parse().expect("a name"), "v1".to_owned());
        plan
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Plan), want: &[&str]) {
        let (was, mut now) = (plan(), plan());
        change(&mut now);
        let shown: Vec<String> = differences(&was, &now).iter().map(ToString::to_string).collect();
        assert_eq!(shown, want);
    }

    #[test]
    fn differences_are_named_where_they_are() {
        check(|_| {}, &[]);
        check(|plan| drop(plan.env.insert("TAG".parse().unwrap(), "v2".to_owned())), &["/env/TAG: v1 became v2"]);
        check(|plan| plan.env.clear(), &["/env/TAG: v1 is gone"]);
        check(|plan| plan.hosts.values_mut().for_each(|host| host.port = 23), &["/hosts/web-1/port: 22 became 23"]);
        let digest = Digest::of(b"x");
        let script = format!("/scripts/{digest}: {} is new", "y".repeat(120) + "…");
        check(|plan| drop(plan.scripts.insert(digest, "y".repeat(200))), &[&script]);
    }

    #[test]
    fn of_scripts_the_lines_that_differ_are_named() {
        use crate::domain::template::Template;
        let steps = |script: &str| {
            let text = format!("id = 1\nname = \"t\"\ntitle = \"t\"\n[[step]]\nname = \"a\"\nscript = {script:?}\n");
            let template = Template::parse("t.toml", &text, &std::collections::BTreeMap::new()).unwrap();
            template.steps[0].work.script.clone()
        };
        let plan = |script: &str| {
            let mut plan = Plan::empty_for_tests();
            let script = steps(script);
            plan.groups.push(crate::domain::plan::PlannedGroup::one_step_for_tests(&script));
            plan.scripts.insert(Digest::of(script.as_bytes()), script);
            plan
        };
        let changes = script_changes(&plan("one\ntwo\nthree\n"), &plan("one\n2\n2b\nthree\n"));
        assert_eq!(changes.len(), 1);
        assert_eq!(
            (changes[0].line, &changes[0].was[..], &changes[0].now[..]),
            (2, &["two".to_owned()][..], &["2".to_owned(), "2b".to_owned()][..])
        );
        assert!(script_changes(&plan("one\n"), &plan("one\n")).is_empty());
        assert_eq!(script_changes(&plan("a\n"), &plan("a\na\n"))[0].now, ["a"]);
    }

    #[test]
    fn there_is_an_end_to_them() {
        let (was, mut now) = (plan(), plan());
        for n in 0..200 {
            now.env.insert(format!("A{n}").parse().unwrap(), String::new());
        }
        let found = differences(&was, &now);
        assert_eq!(found.len(), DIFFERENCES_MAX + 1);
        assert_eq!(found[DIFFERENCES_MAX].to_string(), "and 150 more");
    }

    #[test]
    fn in_a_line_long_values_only_changed() {
        let difference = |pointer: &str, was: Option<&str>, now: Option<&str>| Difference {
            pointer: pointer.to_owned(),
            was: was.map(str::to_owned),
            now: now.map(str::to_owned),
        };
        let (one, other) = ("sha256:".to_owned() + &"1".repeat(64), "sha256:".to_owned() + &"2".repeat(64));
        let found = [
            difference("/env/V", Some("1"), Some("2")),
            difference("/groups/0/steps/0/script", Some(&one), Some(&other)),
            difference("/scripts/sha256:1", Some("echo one"), None),
            difference("/groups/0/steps/0/args", None, Some(&"x".repeat(80))),
        ];
        let want = ["/env/V: 1 became 2", "/groups/0/steps/0/script changed", "/groups/0/steps/0/args is new"];
        assert_eq!(brief(&found), want);
    }
}
