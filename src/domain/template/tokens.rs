//! CODO's arguments: `args = "VERSION FLOW_ID"`. Floor 1.
//!
//! CODO splits the text at single spaces and puts a value in the place of every word that is a parameter's name; what it
//! replaces is then a piece of shell text. Here every word stays one argument, whatever its value holds.
//!
//! **Invariant:** pure.

use std::collections::BTreeMap;

use crate::base::ids::ParamName;

/// The word that stands for the task's number, also inside other words.
pub const FLOW_ID: &str = "FLOW_ID";

/// Returns the words of an argument text.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}

/// Puts values in the place of words that are names, without the spaces around them, as CODO does.
#[must_use]
pub fn substitute(text: &str, values: &BTreeMap<ParamName, String>) -> Vec<String> {
    let value = |word: &str| values.get(&word.parse::<ParamName>().ok()?).map(|value| value.trim().to_owned());
    words(text).map(|word| value(word).unwrap_or_else(|| word.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        let values = [("VERSION", " v1 \"x\" "), ("A", "VERSION")];
        let values = values.into_iter().map(|(name, value)| (name.parse().unwrap(), value.to_owned())).collect();
        assert_eq!(substitute(text, &values), want, "{text}");
    }

    #[test]
    fn only_whole_words_are_names() {
        check("VERSION FLOW_ID", &["v1 \"x\"", "FLOW_ID"]);
        check("--x=VERSION  VERSIONS version", &["--x=VERSION", "VERSIONS", "version"]);
        check("A", &["VERSION"]);
        check(" ", &[]);
    }
}
