//! Names of dropped files: where they stand, which ones are looked at, which ones a task may answer to. Floor 1.
//!
//! **Invariant:** pure. Whoever writes a file into a box, reads one, or says what became of it asks here what it is called.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::ids::Actor;
use crate::base::limits::DROP_NAME_BYTES_MAX;

/// Where a dropped file stands in its box: `x.json`, where every submitter puts files, or `alice/x.json`, in a directory that
/// only alice can write.
///
/// Whoever may rename a file moves its owner along, so what lies flat in a box says nothing of who put it there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DropName(String);

impl DropName {
    /// Names a file of somebody's own directory.
    #[must_use]
    pub fn within(directory: &str, file: &str) -> DropName {
        DropName(format!("{directory}/{file}"))
    }

    /// Returns the directory that it stands in, where that is somebody's own.
    #[must_use]
    pub fn directory(&self) -> Option<&str> {
        self.0.split_once('/').map(|(directory, _)| directory)
    }

    /// Returns the name of the file itself.
    #[must_use]
    pub fn file(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, file)| file)
    }

    /// Returns it as a path from its box on.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns it as one word without a slash.
    #[must_use]
    pub fn flattened(&self) -> String {
        self.0.replace('/', "+")
    }

    /// Reads back what [`DropName::flattened`] wrote; nothing where no dropped file can be called so. A directory's name may
    /// hold a `+`, a file's cannot.
    #[must_use]
    pub fn unflattened(word: &str) -> Option<DropName> {
        let (directory, file) = word.rsplit_once('+').map_or((None, word), |(directory, file)| (Some(directory), file));
        let is_good = is_drop_name(file) && broken_rule(file).is_none() && directory.is_none_or(is_directory_name);
        is_good.then(|| directory.map_or_else(|| DropName::from(file), |directory| DropName::within(directory, file)))
    }
}

impl From<&str> for DropName {
    fn from(name: &str) -> DropName {
        DropName(name.to_owned())
    }
}

impl From<String> for DropName {
    fn from(name: String) -> DropName {
        DropName(name)
    }
}

impl fmt::Display for DropName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a directory of `whose` in a box may be called so: by their name, or by `uid-` and their number, which is known also
/// where the user database is not; with a `+` and any word behind it where somebody else has taken the name.
#[must_use]
pub fn is_directory_of(name: &str, whose: &Actor) -> bool {
    let number = format!("uid-{}", whose.uid);
    [&whose.user, &number].into_iter().any(|called| match name.strip_prefix(called.as_str()) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('+').is_some_and(|word| broken_rule(word).is_none()),
        None => false,
    })
}

/// Whether a name in a drop box can be a directory of somebody's own: no file is called so.
#[must_use]
pub fn is_directory_name(name: &str) -> bool {
    !is_drop_name(name) && broken_rule(&name.replacen('+', "-", 1)).is_none()
}

/// What a name must be.
const RULE: &str = "a name of letters, digits and . _ -, first a letter or digit, at most 105 bytes with .json";

/// Returns the name of a file without its one `.json`: what a task answers to.
#[must_use]
pub fn stem(name: &str) -> &str {
    name.strip_suffix(".json").unwrap_or(name)
}

/// Whether a name in a drop box is looked at: `.json` at the end, no dot in front.
#[must_use]
pub fn is_drop_name(name: &str) -> bool {
    !name.starts_with('.') && stem(name) != name
}

/// Returns the rule that the name of a dropped file breaks. Tasks answer to their names, so they must be words on a line.
#[must_use]
pub fn broken_rule(name: &str) -> Option<&'static str> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    let good = name.len() <= DROP_NAME_BYTES_MAX
        && name.chars().all(allowed)
        && name.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_');
    (!good).then_some(RULE)
}

/// Returns the rule that a name breaks which somebody chooses for a task, without `.json`: it must be one to call the task
/// by, and numbers mean the numbers of tasks.
#[must_use]
pub fn broken_rule_of_choice(name: &str) -> Option<&'static str> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        return Some("a name with a letter in it: a number is the number of a task");
    }
    broken_rule(&format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_one_word_leads_back_to_the_file() {
        for name in ["a.json", "alice/a.json", "alice+x/b-c.json", "uid-7/1.json"] {
            let name = DropName::from(name);
            assert_eq!(DropName::unflattened(&name.flattened()), Some(name));
        }
        for word in ["", "a", "a/b.json", "../a.json", "..+a.json", "+a.json", "a.json+b.json", ".a.json"] {
            assert_eq!(DropName::unflattened(word), None, "{word}");
        }
    }

    #[test]
    fn names_are_words() {
        for good in ["a.json", "1.json", "nightly-backup.json", "发布.json"] {
            assert!(is_drop_name(good) && broken_rule(good).is_none(), "{good}");
        }
        for ignored in [".a.json", "a.txt", "json", ".json", "a.json~"] {
            assert!(!is_drop_name(ignored), "{ignored}");
        }
        let long = format!("{}.json", "a".repeat(101));
        for bad in ["a b.json", "-rf.json", "a\n.json", "$(id).json", &long] {
            assert!(broken_rule(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_name_that_is_chosen_is_one_to_call_a_task_by() {
        for good in ["nightly", "1a", "发布", "a.json", "v1.2_3-4"] {
            assert_eq!(broken_rule_of_choice(good), None, "{good}");
        }
        let long = "a".repeat(101);
        for bad in ["", "17", "a/b", "../a", "..", ".a", "a\u{7}", "a b", "-a", &long] {
            assert!(broken_rule_of_choice(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_directory_is_called_after_its_owner() {
        let ann = Actor { uid: 1001, user: "ann".to_owned() };
        for good in ["ann", "ann+1", "ann+laptop", "uid-1001", "uid-1001+2"] {
            assert!(is_directory_of(good, &ann) && is_directory_name(good), "{good}");
        }
        for other in ["anna", "ben", "ann-1", "ann+", "ann+a+b", "ann+../x", "uid-100", "uid-10010", ""] {
            assert!(!is_directory_of(other, &ann), "{other}");
        }
        for none in [".ann", "ann.json", "a b", "", "-x"] {
            assert!(!is_directory_name(none), "{none}");
        }
        let (flat, own) = (DropName::from("x.json"), DropName::within("ann", "x.json"));
        assert_eq!((flat.directory(), flat.file()), (None, "x.json"));
        assert_eq!((own.directory(), own.file(), own.flattened().as_str()), (Some("ann"), "x.json", "ann+x.json"));
    }

    #[test]
    fn one_ending_is_taken_off() {
        assert_eq!([stem("a.json"), stem("a.json.json"), stem("a")], ["a", "a.json", "a"]);
    }
}
