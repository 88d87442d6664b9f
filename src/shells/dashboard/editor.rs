//! The user's editor: a text goes out in a file, and comes back, or there is a reason why it does not.
//!
//! **Invariant:** the file is the user's alone and is gone afterwards; a text that does not come back whole leaves the one
//! that is there as it was.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use crate::base::limits::DROPPED_FILE_BYTES_MAX;
use crate::shells::clock::unique;
use crate::shells::dashboard::message::NotEdited;

/// What is started where nobody says which editor they like.
const USUAL: &str = "vi";

/// Lets the editor that `set` names change a text, in a file in `dir`; `set` returns what a variable of the environment
/// holds.
pub(super) fn edit(text: &str, dir: &Path, set: impl Fn(&str) -> Option<String>) -> Result<String, NotEdited> {
    let named = ["VISUAL", "EDITOR"].into_iter().find_map(|name| {
        let value = set(name).filter(|value| !value.trim().is_empty())?;
        Some((name, value))
    });
    let (variable, command) = named.unwrap_or(("EDITOR", USUAL.to_owned()));
    let words = shlex::split(&command).filter(|words| words.first().is_some_and(|word| !word.is_empty()));
    let Some(words) = words else {
        return Err(NotEdited::Words { variable: variable.to_owned(), command });
    };
    let path = dir.join(format!("{}.json", unique("spoolgate-task")));
    let made = File::options().create_new(true).write(true).mode(0o600).open(&path);
    let result = made
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| NotEdited::File { path: path.display().to_string(), why: error.to_string() })
        .and_then(|()| start(&words, variable, &path))
        .and_then(|()| read_back(&path, text, &words[0]));
    // It may never have been made, or the editor has removed it.
    let _ = std::fs::remove_file(&path);
    result
}

/// Runs the editor until it ends.
fn start(words: &[String], variable: &str, path: &Path) -> Result<(), NotEdited> {
    let program = words[0].clone();
    let status = Command::new(&program).args(&words[1..]).arg(path).status().map_err(|error| match error.kind() {
        ErrorKind::NotFound => NotEdited::NotFound { variable: variable.to_owned(), program: program.clone() },
        _ => NotEdited::Started { program: program.clone(), why: error.to_string() },
    })?;
    if status.success() { Ok(()) } else { Err(NotEdited::Ended { program, how: ending(status) }) }
}

/// Says how a program ended.
fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal().and_then(|signal| nix::sys::signal::Signal::try_from(signal).ok())) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => signal.as_str().to_owned(),
        (None, None) => status.to_string(),
    }
}

/// Reads what the editor left.
fn read_back(path: &Path, before: &str, program: &str) -> Result<String, NotEdited> {
    let program = program.to_owned();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(DROPPED_FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(NotEdited::Gone { program }),
        Err(error) => return Err(unreadable(path, &error)),
        Ok(count) if count as u64 > DROPPED_FILE_BYTES_MAX => return Err(NotEdited::TooLong { program }),
        Ok(_) => {}
    }
    let text = String::from_utf8(bytes).map_err(|_| NotEdited::NotText { program: program.clone() })?;
    if text.trim().is_empty() {
        return Err(NotEdited::Empty { program });
    }
    // Many editors end a last line that had no end.
    if text.trim_end() == before.trim_end() {
        return Err(NotEdited::Unchanged { program });
    }
    Ok(text)
}

fn unreadable(path: &Path, error: &io::Error) -> NotEdited {
    NotEdited::File { path: path.display().to_string(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A program that is an editor: it gets the file as its last argument.
    fn program(dir: &Path, name: &str, script: &str) -> String {
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\nfor last; do :; done\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    fn with(variable: &'static str, command: String) -> impl Fn(&str) -> Option<String> {
        move |name| (name == variable).then(|| command.clone())
    }

    #[test]
    fn an_editor_is_named_as_in_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        let odd = program(dir.path(), "my editor", "printf '%s|' \"$@\" > \"$last\"");
        let args = |command: String| {
            let text = edit("{}", dir.path(), with("VISUAL", command)).unwrap();
            let (args, file) = text.trim_end_matches('|').rsplit_once('|').unwrap_or(("", &text));
            assert!(file.trim_end_matches('|').rsplit_once(".json").is_some_and(|(_, rest)| rest.is_empty()), "{text}");
            args.to_owned()
        };
        assert_eq!(args(format!("'{odd}'")), "");
        assert_eq!(args(format!("\"{odd}\" --wait")), "--wait");
        assert_eq!(args(odd.replace(' ', "\\ ") + " -c 'set ft=json | norm G' -o"), "-c|set ft=json | norm G|-o");
        assert_eq!(args(format!("  '{odd}'   'a  b' \"\" ")), "a  b|");
        // VISUAL comes first, and an empty one is none.
        let both = |name: &str| Some(if name == "VISUAL" { " ".to_owned() } else { format!("'{odd}' e") });
        assert!(edit("{}", dir.path(), both).unwrap().starts_with("e|"));
    }

    #[test]
    fn a_text_that_does_not_come_back_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let name = |name: &str| dir.path().join(name).display().to_string();
        let fails = |command: String| edit("{\"a\": 1}", dir.path(), with("EDITOR", command)).unwrap_err();
        let made = |name: &str, script: &str| program(dir.path(), name, script);
        for (quit, script, how) in [("cq", "exit 1", "exit 1"), ("killed", "kill -KILL $$", "SIGKILL")] {
            let command = made(quit, script);
            assert_eq!(fails(command.clone()), NotEdited::Ended { program: command, how: how.to_owned() });
        }
        for (file, script, want) in [
            ("removes", "rm \"$last\"", NotEdited::Gone { program: name("removes") }),
            ("binary", "printf '\\377' > \"$last\"", NotEdited::NotText { program: name("binary") }),
            ("full", ": > \"$last\"", NotEdited::Empty { program: name("full") }),
            ("leaves", "true", NotEdited::Unchanged { program: name("leaves") }),
            ("ends-line", "echo >> \"$last\"", NotEdited::Unchanged { program: name("ends-line") }),
            (
                "long",
                "head -c 5000000 /dev/zero | tr '\\0' x > \"$last\"",
                NotEdited::TooLong { program: name("long") },
            ),
        ] {
            assert_eq!(fails(made(file, script)), want, "{file}");
        }
        let none = name("no such editor");
        assert_eq!(
            fails(format!("'{none}' -x")),
            NotEdited::NotFound { variable: "EDITOR".to_owned(), program: none.clone() }
        );
        let command = "vi 'half".to_owned();
        assert_eq!(fails(command.clone()), NotEdited::Words { variable: "EDITOR".to_owned(), command });
        let command = "''".to_owned();
        assert_eq!(fails(command.clone()), NotEdited::Words { variable: "EDITOR".to_owned(), command });
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "no program").unwrap();
        let NotEdited::Started { program, why } = fails(plain.display().to_string()) else { panic!("it started") };
        assert!(program.ends_with("plain") && why.contains("denied"), "{why}");
        let gone = dir.path().join("no such directory");
        let NotEdited::File { path, why } = edit("{}", &gone, |_| None).unwrap_err() else { panic!("it was made") };
        assert!(path.starts_with(gone.to_str().unwrap()) && why.contains("No such file"), "{path}: {why}");
        // Whatever happened, nothing of the text is left lying about.
        let left = std::fs::read_dir(dir.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "json"));
        assert_eq!(left.count(), 0);
    }
}
