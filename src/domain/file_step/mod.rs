//! Steps that carry files: copy and render to a host, fetch from it. Floor 1.
//!
//! On the host they are scripts like any other: started at most once, logged, limited, killed. The bytes to copy are taken
//! there before, to a private place from which the script moves them; a place that holds them already is not touched.
//!
//! **Invariant:** pure. What is put in a place is named by its SHA-256 in the plan, and the host compares it before the file
//! gets its name: what was approved is what lies there, or nothing new does.

mod render;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;
use crate::base::ids::HostName;

pub use render::{Source, Texts};

/// What puts files in their places.
pub const INSTALL: &str = include_str!("install.sh");
/// What takes a large file, before it is put in its place. Arguments: a directory, the file's SHA-256, its length in bytes.
pub const BRING: &str = include_str!("bring.sh");
/// What makes a copy to be carried away.
pub const FETCH: &str = include_str!("fetch.sh");

/// What a template says of a step that carries files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileWork {
    /// A file or a directory of `files/`, byte for byte.
    Copy {
        /// Its name beneath `files/`; `{NAME}` stands for a parameter's value.
        from: String,
        /// Where it goes.
        to: Place,
    },
    /// A file or a directory of templates, filled in for each host.
    Render {
        /// What is filled in, by where it stands beneath the place: nothing for a single file.
        sources: BTreeMap<String, Source>,
        /// What the template names.
        from: String,
        /// Where it goes.
        to: Place,
    },
    /// A file or a directory of the host.
    Fetch {
        /// Its whole path; `{NAME}` stands for a parameter's value.
        path: String,
        /// The most bytes that are fetched.
        most_bytes: u64,
    },
}

/// Where a file goes, and whose it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The whole path; `{NAME}` stands for a parameter's value.
    pub path: String,
    /// Its mode, such as `0644`; that of the file it comes from when `None`.
    pub mode: Option<String>,
    /// `USER`, `USER:GROUP` or `:GROUP`; whoever the step runs as when `None`.
    pub owner: Option<String>,
}

/// A file that a step puts in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFile {
    /// The SHA-256 of its bytes, where they are the same for every host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What it comes from: a file beneath `files/`, or a template.
    pub from: String,
    /// Its mode, in octal digits.
    pub mode: String,
    /// The SHA-256 of its bytes by host, where it is filled in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub of_host: BTreeMap<HostName, Digest>,
    /// Whose it becomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Its whole path.
    pub to: String,
}

impl PlannedFile {
    /// Returns the SHA-256 of the bytes that a host gets.
    #[must_use]
    pub fn digest_on(&self, host: &HostName) -> Option<Digest> {
        self.digest.or_else(|| self.of_host.get(host).copied())
    }

    /// Returns what people are to see of it: where it goes, and every text that it is filled in with, with the hosts that get
    /// it. Lines of a text begin with `|`.
    #[must_use]
    pub fn lines(&self, texts: &Texts) -> Vec<String> {
        let owner = self.owner.as_ref().map(|owner| format!(" {owner}")).unwrap_or_default();
        let digest = self.digest.map(|digest| format!(" {digest}")).unwrap_or_default();
        let mut lines = vec![format!("{} -> {} ({}{owner}){digest}", self.from, self.to, self.mode)];
        let mut of: BTreeMap<Digest, Vec<&str>> = self.digest.map(|digest| (digest, Vec::new())).into_iter().collect();
        for (host, digest) in &self.of_host {
            of.entry(*digest).or_default().push(host.as_str());
        }
        for (digest, hosts) in of {
            let Some(text) = texts.get(&digest) else { continue };
            if !hosts.is_empty() {
                lines.push(format!("{digest} on {}", hosts.join(", ")));
            }
            lines.extend(text.strip_suffix('\n').unwrap_or(text).split('\n').map(|line| format!("| {line}")));
            if !text.is_empty() && !text.ends_with('\n') {
                lines.push("(without a line feed at its end)".to_owned());
            }
        }
        lines
    }
}

/// A file or directory that a step fetches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFetch {
    /// The most bytes.
    pub most_bytes: u64,
    /// Its whole path on the host.
    pub path: String,
}

/// A file beneath `files/` as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFile {
    /// Where it stands beneath what was asked for; nothing when it is what was asked for.
    pub below: String,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// Its mode, in octal digits.
    pub mode: String,
}

/// Who knows the files that can be copied.
pub trait Files: std::fmt::Debug + Send + Sync {
    /// Returns a file, or every file beneath a directory, in the order of their names.
    ///
    /// # Errors
    /// Why there is none, for people.
    fn find(&self, name: &str) -> Result<Vec<FoundFile>, String>;
}

/// A shared [`Files`]; equal bytes on the disk give equal answers.
pub type SharedFiles = Arc<dyn Files>;

/// No file at all.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl Files for NoFiles {
    fn find(&self, _: &str) -> Result<Vec<FoundFile>, String> {
        Err("a file beneath files/".to_owned())
    }
}

/// Whether a text names something beneath a folder: parts with `/` between them, none of them empty, `.` or `..`.
#[must_use]
pub fn is_beneath(text: &str) -> bool {
    !text.is_empty()
        && !text.chars().any(char::is_control)
        && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether a text is a whole path without `..`, which is the same place wherever it is looked at from.
#[must_use]
pub fn is_whole_path(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(is_beneath)
}

/// Whether a text is a mode of three or four octal digits.
#[must_use]
pub fn is_mode(text: &str) -> bool {
    matches!(text.len(), 3 | 4) && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'))
}

/// Whether a text is `USER`, `USER:GROUP` or `:GROUP`, of names or numbers.
#[must_use]
pub fn is_owner(text: &str) -> bool {
    let name = |name: &str| {
        let first = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        first && name.len() <= 32 && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    match text.split_once(':') {
        None => name(text),
        Some((user, group)) => (user.is_empty() || name(user)) && name(group),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_whole_and_lead_nowhere_else() {
        for good in ["/etc/app.ini", "/a", "/a b/c'd", "/é"] {
            assert!(is_whole_path(good), "{good}");
        }
        for bad in ["", "/", "etc", "/etc/", "/etc//x", "/etc/../x", "/./x", "/a\nb", "/a\0"] {
            assert!(!is_whole_path(bad), "{bad:?}");
        }
    }

    #[test]
    fn owners_and_modes_are_words_that_nothing_reads_otherwise() {
        for (owner, good) in [
            ("app", true),
            ("app:www-data", true),
            (":0", true),
            ("0", true),
            ("-R", false),
            ("a:", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(is_owner(owner), good, "{owner}");
        }
        for (mode, good) in
            [("0644", true), ("755", true), ("4755", true), ("64", false), ("0888", false), ("u+x", false)]
        {
            assert_eq!(is_mode(mode), good, "{mode}");
        }
    }
}
