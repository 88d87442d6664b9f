//! Names of dropped files: which ones are looked at, which ones a task may answer to. Floor 1.
//!
//! **Invariant:** pure. Whoever writes a file into a box, reads one, or says what became of it asks here what it is called.

use crate::base::limits::DROP_NAME_BYTES_MAX;

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
    fn one_ending_is_taken_off() {
        assert_eq!([stem("a.json"), stem("a.json.json"), stem("a")], ["a", "a.json", "a"]);
    }
}
