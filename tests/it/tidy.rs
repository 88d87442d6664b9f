//! The rules of the code, kept by reading it. Each rule is shown to be able to fail.

use std::collections::BTreeMap;
use std::path::Path;

/// The floors, bottom first. A module imports from floors below its own, and from its own.
const FLOORS: [&str; 5] = ["base", "domain", "engine", "adapters", "shells"];
const CODE_LINES_MAX: usize = 500;
const PACKAGES_MAX: usize = 345;

pub(crate) fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    let mut open = vec![root.join("src"), root.join("tests/it"), root.join("examples"), root.join("benches")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

/// The code of a file without its tests.
fn code(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

fn floor_of(path: &str) -> Option<usize> {
    let module = path.strip_prefix("src/")?.split(['/', '.']).next()?;
    FLOORS.iter().position(|floor| *floor == module)
}

/// Every `crate::…` path in a text, as its segments.
fn crate_paths(text: &str) -> Vec<Vec<&str>> {
    text.match_indices("crate::")
        .filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$'))
        .map(|(at, found)| {
            let rest = &text[at + found.len()..];
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
            rest[..end].split("::").filter(|segment| !segment.is_empty()).collect()
        })
        .collect()
}

fn floor_problems(path: &str, text: &str) -> Vec<String> {
    let Some(floor) = floor_of(path) else { return Vec::new() };
    let own_adapter = path.strip_prefix("src/adapters/").and_then(|rest| rest.split(['/', '.']).next());
    let mut problems = Vec::new();
    for segments in crate_paths(code(text)) {
        let Some(other) = segments.first().and_then(|first| FLOORS.iter().position(|floor| floor == first)) else {
            continue;
        };
        if other > floor {
            problems.push(format!("{path} (floor {floor}) imports {} (floor {other})", segments.join("::")));
        }
        if let (Some(own), "adapters", Some(used)) = (own_adapter, segments[0], segments.get(1))
            && own != *used
            && own != "mod"
        {
            problems.push(format!("{path}: the adapter {own} imports the adapter {used}"));
        }
    }
    problems
}

/// What pure code must not name.
fn impure(path: &str, text: &str) -> Vec<String> {
    if floor_of(path).is_none_or(|floor| floor > 2) || path.contains("/simulator/") {
        return Vec::new();
    }
    let banned = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "std::time",
        "tokio",
        "nix::",
        "ssh2",
        "notify::",
        "jiff::Timestamp::now",
    ];
    let code = code(text).lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    banned.iter().filter(|word| code.contains(**word)).map(|word| format!("{path} names {word}")).collect()
}

fn code_lines(text: &str) -> usize {
    code(text).lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// Whether a file of the sources is compiled for tests only.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.contains("/simulator/")
}

fn style_problems(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = code_lines(text);
    if lines > CODE_LINES_MAX {
        problems.push(format!("{path} has {lines} lines of code, at most {CODE_LINES_MAX}"));
    }
    let in_src = path.starts_with("src/");
    let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
    if in_src && head.is_empty() {
        problems.push(format!("{path} has no module head"));
    }
    let exempt = ["src/main.rs", "src/lib.rs"].contains(&path) || is_test(path);
    if in_src && !exempt && !head.contains("**Invariant:**") {
        problems.push(format!("{path}: its head has no **Invariant:** line"));
    }
    // The words are put together here so that this file does not hold them.
    let spoken = |a: &str, b: &str| format!("{a}{b}");
    for word in [spoken("todo", "!("), spoken("unimplemented", "!("), spoken("dbg", "!("), spoken("#[ig", "nore")] {
        if text.contains(&word) {
            problems.push(format!("{path} holds {word}"));
        }
    }
    if in_src && !is_test(path) && code(text).contains(&spoken(".unw", "rap()")) {
        problems.push(format!("{path} unwraps outside tests"));
    }
    for word in [spoken("Mana", "ger"), spoken("Hel", "per"), spoken("mod ut", "ils"), spoken("mod com", "mon")] {
        if text.contains(&word) {
            problems.push(format!("{path} holds the name {word}"));
        }
    }
    // A program that does not end is told and ended by whoever waits for it, not by the harness.
    let waits = [spoken(".out", "put()"), spoken(".sta", "tus()"), spoken("wait_with", "_output")];
    if let Some(word) = waits.iter().find(|word| path.starts_with("tests/it/") && text.contains(*word)) {
        problems.push(format!("{path} waits for a program without a limit ({word}); patience.rs has waits with one"));
    }
    for (n, line) in text.lines().enumerate() {
        if line.contains(&spoken("TO", "DO")) && !line.contains(&spoken("TO", "DO(")) {
            problems.push(format!("{path}:{}: a debt without a topic", n + 1));
        }
        if in_src
            && line.trim_start().starts_with("pub use ")
            // A module may be one thing in several files; its door is the only one.
            && !path.ends_with("/mod.rs")
        {
            problems.push(format!("{path}:{}: pub use", n + 1));
        }
    }
    if text.contains(&spoken("/wo", "rk/")) {
        problems.push(format!("{path} names a path of one machine"));
    }
    problems
}

#[track_caller]
fn none(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn floors_are_kept() {
    none(&sources().iter().flat_map(|(path, text)| floor_problems(path, text)).collect::<Vec<_>>());
}

#[test]
fn the_floor_rule_can_fail() {
    assert_eq!(floor_problems("src/base/time.rs", "use crate::domain::plan::Plan;").len(), 1);
    assert_eq!(floor_problems("src/domain/plan.rs", "let x = crate::engine::Engine::new();").len(), 1);
    assert_eq!(floor_problems("src/adapters/ssh/mod.rs", "use crate::adapters::spool::SpoolError;").len(), 1);
    assert_eq!(floor_problems("src/adapters/spool/store.rs", "use crate::adapters::spool::SpoolError;").len(), 0);
    assert_eq!(floor_problems("src/engine/mod.rs", "use crate::domain::plan::Plan;").len(), 0);
}

#[test]
fn pure_floors_do_not_touch_the_world() {
    none(&sources().iter().flat_map(|(path, text)| impure(path, text)).collect::<Vec<_>>());
    assert_eq!(impure("src/domain/x.rs", "let t = std::time::Instant::now();").len(), 1);
    assert_eq!(impure("src/domain/x.rs", "// std::fs is for adapters").len(), 0);
}

#[test]
fn files_keep_the_house_style() {
    none(&sources().iter().flat_map(|(path, text)| style_problems(path, text)).collect::<Vec<_>>());
    assert_eq!(style_problems("src/domain/x.rs", "fn f() {}").len(), 2);
    assert_eq!(
        style_problems("src/domain/x.rs", &format!("//! X.\n//! **Invariant:** y.\n{}", "x();\n".repeat(501))).len(),
        1
    );
    assert_eq!(style_problems("tests/it/x.rs", &["Command::new(\"true\").sta", "tus()"].concat()).len(), 1);
}

/// What stands in the way of the lint that keeps sums from ending the program.
fn sum_problems(path: &str, text: &str) -> Vec<String> {
    // The word is put together here so that this file does not hold it.
    let lint = ["arithmetic", "_side_effects"].concat();
    let words: Vec<&str> = text.lines().filter(|line| line.contains(&lint)).map(str::trim).collect();
    let wanted = format!("#![cfg_attr(not(test), warn(clippy::{lint}))]");
    match path {
        "src/lib.rs" if words != [&wanted] => vec![format!("{path} must hold {wanted} and nothing else of it")],
        "src/lib.rs" => Vec::new(),
        _ => words.iter().map(|word| format!("{path} goes without it: {word}")).collect(),
    }
}

#[test]
fn no_number_from_outside_is_reckoned_with_unchecked() {
    none(&sources().iter().flat_map(|(path, text)| sum_problems(path, text)).collect::<Vec<_>>());
    let lifts = ["#![expect(clippy::arithmetic", "_side_effects)]"].concat();
    assert_eq!(sum_problems("src/domain/x.rs", &lifts).len(), 1);
    assert_eq!(sum_problems("src/lib.rs", "pub mod base;").len(), 1);
}

#[test]
fn every_test_file_is_in_the_binary() {
    let sources = sources();
    for path in sources.keys().filter_map(|path| path.strip_prefix("tests/it/")).filter(|path| *path != "main.rs") {
        // A directory's door names its files, and the binary's names the directory.
        let module = path.strip_suffix(".rs").unwrap();
        let module = module.strip_suffix("/mod").unwrap_or(module);
        let (door, module) =
            module.rsplit_once('/').map_or(("main".to_owned(), module), |(dir, module)| (format!("{dir}/mod"), module));
        let door = sources.get(&format!("tests/it/{door}.rs"));
        assert!(door.is_some_and(|door| door.contains(&format!("mod {module};"))), "{path} is in no test binary");
    }
}

#[test]
fn dependencies_are_few_and_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).unwrap();
    let packages = lock.matches("[[package]]").count();
    assert!(packages <= PACKAGES_MAX, "{packages} packages in Cargo.lock, at most {PACKAGES_MAX}");
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("[dev-dependencies]").next().unwrap();
    let mut before = "";
    for line in section.lines() {
        if let Some((name, _)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            assert!(before.starts_with('#'), "{name} has no reason above it in Cargo.toml");
        }
        before = line;
    }
}

#[test]
fn the_changelog_has_a_place_for_what_comes() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/CHANGELOG.md")).unwrap();
    assert!(text.contains("\n## Unreleased\n"));
}

#[test]
fn every_test_that_the_feature_table_names_exists() {
    let table = std::fs::read_to_string("docs/seed-features.md").unwrap();
    let mut named = 0;
    for word in table.split('`').filter(|word| word.contains("::") && !word.contains([' ', '\n']) && *word != "it::") {
        let path: Vec<&str> = word.split("::").collect();
        let (test, modules) = path.split_last().unwrap();
        let files: Vec<String> = match modules {
            ["it", rest @ ..] => vec![format!("tests/it/{}.rs", rest.join("/"))],
            modules => {
                let own: Vec<&str> = modules.iter().copied().filter(|module| *module != "tests").collect();
                let path = format!("src/{}", own.join("/"));
                vec![
                    format!("{path}.rs"),
                    format!("{path}/mod.rs"),
                    format!("{path}/tests.rs"),
                    format!("{path}/tests/mod.rs"),
                ]
            }
        };
        let text: String = files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
        assert!(text.contains(&format!("fn {test}()")), "{word} is in none of {files:?}");
        named += 1;
    }
    assert!(named > 80, "only {named} tests were found in the table");
}
