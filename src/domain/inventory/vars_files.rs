//! `group_vars/` and `host_vars/` beside the inventory: variables in files of their own. Floor 1.
//!
//! **Invariant:** pure. Which files count for a name is Ansible's rule: the directory or file `NAME`, else `NAME.yml`, else
//! `NAME.yaml`, else `NAME.json`, the first that is there; of a directory everything in it, by name, the last one wins. A
//! file that nobody has use for is not read, as in Ansible.

use std::collections::BTreeMap;

use super::host::Vars;
use crate::domain::problem::Problem;
use crate::domain::read::data::Data;
use crate::domain::read::yaml;

/// The endings that count, in the order they are looked for.
const ENDINGS: [&str; 4] = ["", ".yml", ".yaml", ".json"];
/// Where variables of groups stand.
pub(super) const GROUP_VARS: &str = "group_vars";
/// Where variables of hosts stand.
pub(super) const HOST_VARS: &str = "host_vars";

/// The files below `group_vars/` and `host_vars/`, by their path (`group_vars/web/10.yml`); a directory ends in `/`.
#[derive(Debug, Default)]
pub(super) struct VarsFiles {
    texts: BTreeMap<String, String>,
}

impl VarsFiles {
    pub(super) fn new(texts: BTreeMap<String, String>) -> VarsFiles {
        VarsFiles { texts }
    }

    /// Returns the variables of each of some groups.
    pub(super) fn of_groups<'a>(
        &self,
        groups: impl Iterator<Item = &'a String>,
        problems: &mut Vec<Problem>,
    ) -> BTreeMap<String, Vars> {
        let mut outer = BTreeMap::new();
        for name in groups {
            let vars = self.of(GROUP_VARS, name, problems);
            if !vars.is_empty() {
                outer.insert(name.clone(), vars);
            }
        }
        outer
    }

    /// Returns the variables of a host.
    pub(super) fn of_host(&self, name: &str, problems: &mut Vec<Problem>) -> Vars {
        self.of(HOST_VARS, name, problems)
    }

    fn of(&self, folder: &str, name: &str, problems: &mut Vec<Problem>) -> Vars {
        let mut vars = Vars::new();
        // A name with a slash would mean another folder; none of ours has one.
        if self.texts.is_empty() || name.contains('/') {
            return vars;
        }
        for ending in ENDINGS {
            let path = format!("{folder}/{name}{ending}");
            if self.texts.contains_key(&path) {
                self.read(&path, &mut vars, problems);
                break;
            }
            if self.texts.contains_key(&format!("{path}/")) {
                for inside in self.inside(&path) {
                    self.read(inside, &mut vars, problems);
                }
                break;
            }
        }
        vars
    }

    /// Returns the files of a directory that count, directories in it among them, in the order they are merged.
    fn inside<'a>(&'a self, folder: &str) -> Vec<&'a str> {
        let prefix = format!("{folder}/");
        let below = self.texts.keys().filter_map(|path| Some((path.as_str(), path.strip_prefix(&prefix)?)));
        let counts = |rest: &str| {
            let mut names = rest.split('/');
            let file = names.next_back().unwrap_or_default();
            let shown = |name: &str| !name.starts_with('.') && !name.ends_with('~');
            !file.is_empty()
                && shown(file)
                && ENDINGS.contains(&ending(file))
                && names.all(|name| shown(name) && ending(name).is_empty())
        };
        let mut files: Vec<(Vec<&str>, &str)> =
            below.filter(|(_, rest)| counts(rest)).map(|(path, rest)| (rest.split('/').collect(), path)).collect();
        files.sort();
        files.into_iter().map(|(_, path)| path).collect()
    }

    fn read(&self, path: &str, vars: &mut Vars, problems: &mut Vec<Problem>) {
        let node = match yaml::read(path, &self.texts[path]) {
            Ok(node) => node,
            Err(problem) => return problems.push(problem),
        };
        let Data::Map(pairs) = &node.data else {
            if !node.data.is_falsy() {
                problems.push(Problem::new(
                    format!("{path}:{}", node.line),
                    node.data.kind(),
                    "a mapping of variables",
                ));
            }
            return;
        };
        for (key, value) in pairs {
            let mut problem = |found: String, wanted: &str| {
                problems.push(Problem::new(format!("{path}:{}", key.line), found, wanted));
            };
            let Data::Text(name) = &key.data else {
                problem(
                    key.data.kind().to_owned(),
                    "the name of a variable, in quotes where it looks like something else",
                );
                continue;
            };
            match value.data.text() {
                Ok(text) => drop(vars.insert(name.clone(), text)),
                Err(wanted) => problem(format!("the variable {name}"), wanted),
            }
        }
    }
}

/// Returns a file's ending with its point, as Python's `os.path.splitext` does.
fn ending(name: &str) -> &str {
    let begin = name.len().saturating_sub(name.trim_start_matches('.').len());
    name[begin..].rfind('.').map_or("", |at| &name[begin.saturating_add(at)..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], want: &str) {
        let texts = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let mut problems = Vec::new();
        let vars = VarsFiles::new(texts).of(GROUP_VARS, "web", &mut problems);
        let shown: Vec<String> = vars.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!([shown.join(" "), problems.join("; ")].join("|"), want, "{files:?}");
    }

    #[test]
    fn the_first_name_counts_and_directories_are_merged() {
        check(&[("group_vars/web.yml", "a: 1"), ("group_vars/web.yaml", "b: 1")], "a=1|");
        check(&[("group_vars/web", "a: 1"), ("group_vars/web.yml", "b: 1")], "a=1|");
        check(&[("group_vars/web/", ""), ("group_vars/web.yml", "b: 1")], "|");
        let many = [
            ("group_vars/web/", ""),
            ("group_vars/web/10.yml", "a: 1\nb: 1"),
            ("group_vars/web/20", "b: 2"),
            ("group_vars/web/sub/", ""),
            ("group_vars/web/sub/x.json", "{\"b\": [3]}"),
            ("group_vars/web/.hidden.yml", "b: 9"),
            ("group_vars/web/old.yml~", "b: 9"),
            ("group_vars/web/readme.md", "b: 9"),
            ("group_vars/web/sub.d/", ""),
            ("group_vars/web/sub.d/x.yml", "b: 9"),
        ];
        check(&many, "a=1 b=[3]|");
        check(&[("group_vars/other.yml", ":[")], "|");
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let wanted = "a mapping of variables";
        check(&[("group_vars/web.yml", "\n- a\n")], &format!("|group_vars/web.yml:2: found a list; wanted {wanted}"));
        check(&[("group_vars/web.yml", "# nothing\n")], "|");
        check(
            &[("group_vars/web.yml", "a: 1\n2: 3\n")],
            "a=1|group_vars/web.yml:2: found a number; wanted the name of a variable, in quotes where it looks like something else",
        );
        check(
            &[("group_vars/web.yml", "$ANSIBLE_VAULT;1.1;AES256\n")],
            "|group_vars/web.yml:1: found a file encrypted by ansible-vault; wanted a file in clear text",
        );
    }
}
