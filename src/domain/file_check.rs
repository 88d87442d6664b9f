//! Whether a file holds what it should: what can be computed again is compared with what stands on the disk.
//!
//! **Invariant:** pure. A file is right when it is, byte for byte, what would be written now, or what a version would have
//! written that did not know a field yet. Nothing that was added, changed or taken away passes for that.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::base::digest::Digest;
use crate::base::limits;
use crate::base::text::visible;

/// How something differs from what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What should be there.
    pub expected: String,
    /// What is.
    pub found: String,
}

impl Difference {
    /// Puts one together; long texts are cut.
    #[must_use]
    pub fn new(expected: impl Into<String>, found: impl Into<String>) -> Difference {
        let short = |text: String| {
            let shown = visible(&text);
            let cut: String = shown.chars().take(limits::FOUND_CHARS_MAX).collect();
            if cut.len() < shown.len() { cut + "…" } else { cut }
        };
        Difference { expected: short(expected.into()), found: short(found.into()) }
    }

    /// Compares bytes by their digest.
    #[must_use]
    pub fn of_digest(expected: Digest, found: Digest) -> Option<Difference> {
        (expected != found).then(|| Difference { expected: expected.to_string(), found: found.to_string() })
    }
}

/// Returns how a file differs from a value that is written over several lines.
#[must_use]
pub fn of_lines<T: Serialize + DeserializeOwned + PartialEq>(bytes: &[u8], wanted: &T) -> Option<Difference> {
    let text = serde_json::to_string_pretty(wanted).expect("what is recorded can be written");
    if bytes == text.as_bytes() {
        return None;
    }
    // Of what an older version wrote, lines may be missing, and none is another one.
    let line = |line: &'_ str| line.strip_suffix(',').unwrap_or(line).to_owned();
    let older = std::str::from_utf8(bytes).is_ok_and(|found| {
        let mut lines = text.split('\n').map(line);
        found.split('\n').map(line).all(|found| lines.any(|wanted| wanted == found))
    });
    if older && serde_json::from_slice::<T>(bytes).is_ok_and(|found| found == *wanted) {
        return None;
    }
    Some(difference(bytes, wanted))
}

/// Returns how a line, without its line feed, differs from a value that is written in one.
#[must_use]
pub fn of_line<T: Serialize + DeserializeOwned + PartialEq>(bytes: &[u8], wanted: &T) -> Option<Difference> {
    let text = serde_json::to_string(wanted).expect("what is recorded can be written");
    if bytes == text.as_bytes() {
        return None;
    }
    // What an older version wrote does not have some of the last fields.
    if let (Ok(Value::Object(found)), Ok(Value::Object(members))) =
        (serde_json::from_slice(bytes), serde_json::to_value(wanted))
    {
        let mut older = text;
        for (name, value) in members.iter().filter(|(name, _)| !found.contains_key(*name)) {
            older = older.replacen(&format!(",\"{name}\":{value}"), "", 1);
        }
        if bytes == older.as_bytes() && serde_json::from_slice::<T>(bytes).is_ok_and(|found| found == *wanted) {
            return None;
        }
    }
    Some(difference(bytes, wanted))
}

/// Says where the first difference is.
fn difference<T: Serialize>(bytes: &[u8], wanted: &T) -> Difference {
    let wanted = serde_json::to_value(wanted).expect("what is recorded can be written");
    match serde_json::from_slice::<Value>(bytes) {
        Err(error) => Difference::new("what its journal says", format!("no JSON: {error}")),
        Ok(found) => first(&wanted, &found, "").unwrap_or_else(|| {
            // The values are the same: what is different stands between them, or twice.
            Difference::new("the bytes that the daemon wrote", format!("others, of {} byte(s)", bytes.len()))
        }),
    }
}

fn first(wanted: &Value, found: &Value, pointer: &str) -> Option<Difference> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            let added = found.iter().find(|(name, _)| !wanted.contains_key(*name));
            let added = added.map(|(name, value)| {
                Difference::new(format!("no {pointer}/{name}"), format!("{pointer}/{name}: {value}"))
            });
            let differs = |(name, value): (&String, &Value)| match found.get(name) {
                Some(found) => first(value, found, &format!("{pointer}/{name}")),
                None => Some(Difference::new(format!("{pointer}/{name}: {value}"), "nothing there")),
            };
            added.or_else(|| wanted.iter().find_map(differs))
        }
        (Value::Array(wanted), Value::Array(found)) => {
            let pairs = wanted.iter().zip(found).enumerate();
            let differs = pairs.map(|(n, (wanted, found))| first(wanted, found, &format!("{pointer}/{n}")));
            let count = || Difference::new(format!("{pointer}: {} of them", wanted.len()), format!("{}", found.len()));
            differs.flatten().next().or_else(|| (wanted.len() != found.len()).then(count))
        }
        _ if wanted == found => None,
        _ => Some(Difference::new(format!("{pointer}: {wanted}"), found.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Kept {
        id: u64,
        word: String,
        list: Vec<u64>,
        #[serde(default)]
        newer: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rare: Option<String>,
    }

    fn kept(newer: u64) -> Kept {
        Kept { id: 7, word: "ok".to_owned(), list: vec![1, 2], newer, rare: None }
    }

    #[test]
    fn what_was_written_passes_and_what_an_older_version_wrote() {
        for newer in [0, 3] {
            let value = kept(newer);
            assert_eq!(of_line(&serde_json::to_vec(&value).unwrap(), &value), None);
            assert_eq!(of_lines(&serde_json::to_vec_pretty(&value).unwrap(), &value), None);
        }
        let line = br#"{"id":7,"word":"ok","list":[1,2]}"#;
        assert_eq!(of_line(line, &kept(0)), None);
        let lines = serde_json::to_string_pretty(&kept(0)).unwrap().replace(",\n  \"newer\": 0", "");
        assert_eq!(of_lines(lines.as_bytes(), &kept(0)), None);
        // A field that would not be what it is without being written is no older version's.
        assert!(of_line(line, &kept(3)).unwrap().expected.starts_with("/newer: 3"));
        assert!(of_lines(lines.as_bytes(), &kept(3)).unwrap().expected.starts_with("/newer: 3"));
    }

    #[test]
    fn every_edit_is_found_and_named() {
        let value = kept(3);
        let line = serde_json::to_string(&value).unwrap();
        let lines = serde_json::to_string_pretty(&value).unwrap();
        for (from, to, expected, found) in [
            ("\"ok\"", "\"failed\"", "/word: \"ok\"", "\"failed\""),
            ("1", "9", "/list/0: 1", "9"),
            ("7", "7,\"more\":1", "no /more", "/more: 1"),
            ("7", "8,\"id\":7", "the bytes that the daemon wrote", "others, of"),
            ("{", " {", "the bytes that the daemon wrote", "others, of"),
            ("}", "", "what its journal says", "no JSON"),
            ("}", "} ", "the bytes that the daemon wrote", "others, of"),
        ] {
            for (text, differs) in [
                (line.replacen(from, to, 1), of_line as fn(&[u8], &Kept) -> Option<Difference>),
                (lines.replacen(from, to, 1), of_lines),
            ] {
                let difference = differs(text.as_bytes(), &value).unwrap_or_else(|| panic!("{text} passed"));
                assert!(difference.expected.starts_with(expected), "{text}: {difference:?}");
                assert!(difference.found.starts_with(found), "{text}: {difference:?}");
            }
        }
        for text in [r#"{"id":7,"word":"ok","list":[1],"newer":3}"#, r#"{"id":7,"word":"ok","list":[1,2,3],"newer":3}"#]
        {
            assert!(of_line(text.as_bytes(), &value).unwrap().expected.starts_with("/list: 2 of them"), "{text}");
        }
        assert!(of_line(b"", &value).is_some() && of_lines(b"\xff", &value).is_some());
    }

    #[test]
    fn what_is_shown_of_a_difference_is_short_and_commands_nothing() {
        let difference = Difference::new("x".repeat(500), "a\u{1b}[2J");
        assert_eq!(difference.expected.chars().count(), limits::FOUND_CHARS_MAX + 1);
        assert_eq!(difference.found, "a<U+001B>[2J");
    }
}
