//! Which file of the sources imports which: no circles, the layers of the domain in order, shells apart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use regex_lite::{Captures, Regex};

use crate::tidy::sources;

/// The layers of `src/domain`, lowest first: a module imports from layers below its own, and from itself.
const LAYERS: [&[&str]; 11] = [
    &[
        "arguments",
        "batch",
        "callback",
        "drop_name",
        "file_check",
        "level",
        "mask",
        "outcome",
        "output",
        "problem",
        "right",
        "script_text",
    ],
    &["condition", "delegate", "known_hosts", "read", "share", "submission"],
    &["file_step", "inventory", "order", "token"],
    &["ssh_config", "template"],
    &["hook", "plan"],
    &["risk"],
    &["policy"],
    &["library"],
    &["run"],
    &["audit", "needs", "record", "resolve", "wire"],
    &["runner"],
];
/// The layers of `src/shells/dashboard`, lowest first: a module imports from its own and from those below.
const DASHBOARD_LAYERS: [&[&str]; 8] = [
    &["edit", "filter", "keys", "look", "message", "pace", "phrases", "prompt", "words"],
    &["context", "eta", "host_state", "layout", "list", "log_keys", "requests", "table", "world"],
    &["can", "consequences", "dialog", "form"],
    &["screen"],
    &["completion", "drafts", "model", "ui"],
    &["view"],
    &["update"],
    &["editor", "files", "input", "log_parts", "mod", "paint", "refused", "terminal"],
];
/// The shells that do not know each other, and what may know all of them.
const SHELLS: [&str; 3] = ["cli", "daemon", "dashboard"];
const ENTRY: &str = "entry";

/// A name that a file brings in, and where it leads.
struct Use {
    name: String,
    path: Vec<String>,
    /// Whether it is handed on; a door is no use of what is behind it.
    is_door: bool,
}

/// A file as imports see it.
struct Source {
    module: Vec<String>,
    uses: Vec<Use>,
    body: String,
    items: BTreeSet<String>,
    children: BTreeSet<String>,
}

static COMMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"//[^\n]*").unwrap());
static TEXT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r###"(?s)r##".*?"##|r#".*?"#|"(\\.|[^"\\])*"|'(\\.|[^'\\])'"###).unwrap());
static USE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^[ \t]*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);").unwrap());
static ITEM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b(?:struct|enum|fn|const|static|trait|type|macro_rules!)\s+([A-Za-z_][A-Za-z0-9_]*)").unwrap()
});
static CHILD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bmod\s+([a-z_0-9]+)\s*;").unwrap());
static PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[A-Za-z_0-9$]+(?:\s*::\s*[A-Za-z_0-9]+)+").unwrap());

impl Source {
    fn read(path: &str, text: &str) -> Source {
        let mut module: Vec<String> =
            path.trim_start_matches("src/").trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| ["mod", "lib"].contains(&last.as_str())) {
            module.pop();
        }
        let text = text.split("\n#[cfg(test)]").next().unwrap_or(text);
        // Texts first: they may hold what looks like a comment. Letters of lifetimes are no texts.
        let text = TEXT.replace_all(text, "\"\"");
        let text = COMMENT.replace_all(&text, "");
        let mut uses = Vec::new();
        let body = USE.replace_all(&text, |found: &Captures<'_>| {
            for (path, alias) in leaves(&found[2]) {
                let own = path.last().filter(|last| *last != "self");
                let path: Vec<String> = if own.is_some() { path } else { path[..path.len() - 1].to_vec() };
                let name = alias.or_else(|| path.last().cloned()).unwrap_or_default();
                uses.push(Use { name, path, is_door: found.get(1).is_some() });
            }
            String::new()
        });
        let names = |of: &Regex| of.captures_iter(&body).map(|found| found[1].to_owned()).collect();
        Source { module, uses, items: names(&ITEM), children: names(&CHILD), body: body.clone().into_owned() }
    }

    /// Makes a path one from the crate's root; `None` where it leads outside, or is a name of the file's own.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let first = path.first()?.as_str();
        let under = |module: &[String], rest: &[String]| [module, rest].concat();
        match first {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some(under(&self.module, &path[1..])),
            "super" => {
                let up = path.iter().take_while(|word| *word == "super").count();
                Some(under(&self.module[..self.module.len().checked_sub(up)?], &path[up..]))
            }
            _ if self.children.contains(first) => Some(under(&self.module, path)),
            _ => None,
        }
    }
}

/// Takes a tree of imports apart: each path, with the name it is given.
fn leaves(tree: &str) -> Vec<(Vec<String>, Option<String>)> {
    let tree = tree.trim();
    if let Some((head, inner)) = tree.split_once('{') {
        let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
        let head: Vec<String> = head.split("::").map(|word| word.trim().to_owned()).filter(|w| !w.is_empty()).collect();
        let (mut depth, mut begin, mut pieces) = (0_usize, 0, Vec::new());
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => pieces.push(&inner[std::mem::replace(&mut begin, at + 1)..at]),
                _ => {}
            }
        }
        pieces.push(&inner[begin..]);
        let each = pieces.into_iter().filter(|piece| !piece.trim().is_empty()).flat_map(leaves);
        return each.map(|(path, alias)| ([head.clone(), path].concat(), alias)).collect();
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    vec![(path.split("::").map(|word| word.trim().to_owned()).collect(), alias.map(str::to_owned))]
}

/// All files, by the path of their module.
struct Sources(BTreeMap<Vec<String>, (String, Source)>);

/// What a path leads to.
enum Found<'a> {
    Module(&'a [String]),
    ItemOf(&'a str),
}

impl Sources {
    fn read(files: &BTreeMap<String, String>) -> Sources {
        let is_test =
            |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/") || path.contains("/simulator/");
        let own = files.iter().filter(|(path, _)| path.starts_with("src/") && *path != "src/main.rs" && !is_test(path));
        let read = own.map(|(path, text)| (path, Source::read(path, text)));
        Sources(read.map(|(path, source)| (source.module.clone(), (path.clone(), source))).collect())
    }

    /// Finds the file that says what a path means, however many doors lead to it.
    fn find(&self, path: &[String], doors: usize) -> Option<Found<'_>> {
        let (at, (module, (file, source))) =
            (0..=path.len()).rev().find_map(|at| Some((at, self.0.get_key_value(&path[..at])?)))?;
        let Some(name) = path.get(at) else { return Some(Found::Module(module)) };
        if source.items.contains(name) || doors == 0 {
            return Some(Found::ItemOf(file));
        }
        let door = source.uses.iter().find(|one| one.name == *name);
        let behind = door.and_then(|door| source.absolute(&door.path));
        let behind = behind.and_then(|behind| self.find(&[&behind, &path[at + 1..]].concat(), doors - 1));
        Some(behind.unwrap_or(Found::ItemOf(file)))
    }

    /// Returns the files that each file imports something from.
    fn imports(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        self.0.values().map(|(file, source)| (file.as_str(), self.imports_of(file, source))).collect()
    }

    fn imports_of(&self, file: &str, source: &Source) -> BTreeSet<&str> {
        let (mut found, mut modules) = (BTreeSet::new(), BTreeMap::new());
        for one in &source.uses {
            let used = Regex::new(&format!(r"\b{}\b", one.name)).is_ok_and(|name| name.is_match(&source.body));
            if one.is_door && !used {
                continue;
            }
            match source.absolute(&one.path).and_then(|path| self.find(&path, 8)) {
                Some(Found::ItemOf(other)) => drop(found.insert(other)),
                Some(Found::Module(module)) => drop(modules.insert(one.name.as_str(), module)),
                None => {}
            }
        }
        for written in PATH.find_iter(&source.body) {
            let path: Vec<String> = written.as_str().split("::").map(|word| word.trim().to_owned()).collect();
            let path = match modules.get(path[0].as_str()) {
                Some(module) => Some([module, &path[1..]].concat()),
                None => source.absolute(&path),
            };
            if let Some(Found::ItemOf(other)) = path.and_then(|path| self.find(&path, 8)) {
                found.insert(other);
            }
        }
        found.remove(file);
        found
    }
}

/// Returns the files that import each other, by whatever detour, as one list each.
fn circles(imports: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    let reached = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(file) = open.pop() {
            for next in imports.get(file.as_str()).into_iter().flatten() {
                if seen.insert((*next).to_owned()) {
                    open.push((*next).to_owned());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<String>> = imports.keys().map(|file| (*file, reached(file))).collect();
    let circle = |file: &str| {
        let others = imports.keys().filter(|other| reached[file].contains(**other) && reached[**other].contains(file));
        others.copied().collect::<Vec<&str>>()
    };
    let all: BTreeSet<Vec<&str>> = imports.keys().map(|file| circle(file)).filter(|files| !files.is_empty()).collect();
    all.into_iter().map(|files| format!("these import each other: {}", files.join(", "))).collect()
}

/// Returns the imports that lead up among the layers of a directory; where `apart`, also those within a layer.
fn upward_in(
    imports: &BTreeMap<&str, BTreeSet<&str>>,
    directory: &str,
    layers: &[&[&str]],
    apart: bool,
) -> Vec<String> {
    let layer = |file: &str| {
        let name = file.strip_prefix(directory)?.split(['/', '.']).next()?.to_owned();
        Some((layers.iter().position(|layer| layer.contains(&name.as_str())), name))
            .filter(|(at, name)| name != "mod" || at.is_some())
    };
    let mut problems = Vec::new();
    for (file, others) in imports {
        let Some((own, name)) = layer(file) else { continue };
        let Some(own) = own else {
            problems.push(format!("{file} is in no layer: give {name} its place in the list"));
            continue;
        };
        let below = |at: Option<usize>| at.is_some_and(|at| at < own || (at == own && !apart));
        let up = others.iter().filter(|other| layer(other).is_some_and(|(at, other)| other != name && !below(at)));
        problems.extend(up.map(|other| format!("{file} (layer {own}) imports {other}, which is not below it")));
    }
    problems
}

/// Returns the imports that lead up among the layers of the domain and of the dashboard.
fn upward(imports: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    let mut problems = upward_in(imports, "src/domain/", &LAYERS, true);
    problems.extend(upward_in(imports, "src/shells/dashboard/", &DASHBOARD_LAYERS, false));
    problems
}

/// Returns the imports of one shell from another.
fn between_shells(imports: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    let shell = |file: &str| {
        let name = file.strip_prefix("src/shells/")?.split(['/', '.']).next()?.to_owned();
        SHELLS.into_iter().chain([ENTRY]).find(|shell| *shell == name)
    };
    let pairs = imports.iter().flat_map(|(file, others)| others.iter().map(move |other| (*file, *other)));
    let wrong = pairs.filter(|(file, other)| {
        let (from, to) = (shell(file), shell(other));
        file.starts_with("src/shells/") && to.is_some() && from != to && from != Some(ENTRY)
    });
    wrong.map(|(file, other)| format!("{file} imports {other}: shells do not know each other")).collect()
}

#[track_caller]
fn none(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn no_file_is_in_a_circle_of_imports() {
    let files = sources();
    let sources = Sources::read(&files);
    let imports = sources.imports();
    none(&circles(&imports));
    none(&upward(&imports));
    none(&between_shells(&imports));
    // What finds nothing would keep everything.
    let found = imports.values().map(BTreeSet::len).sum::<usize>();
    assert!(found > 5 * imports.len(), "only {found} imports were found in {} files", imports.len());
    let domain = LAYERS.iter().copied().flatten().map(|name| format!("src/domain/{name}"));
    let dashboard = DASHBOARD_LAYERS.iter().copied().flatten().map(|name| format!("src/shells/dashboard/{name}"));
    for module in domain.chain(dashboard) {
        let there = [format!("{module}.rs"), format!("{module}/mod.rs")];
        let exists = |file: &String| Path::new(env!("CARGO_MANIFEST_DIR")).join(file).exists();
        assert!(there.iter().any(exists), "there is no {module}");
    }
}

/// Reads files of this test's own: the problems of each kind.
fn of(files: &[(&str, &str)]) -> [usize; 3] {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    let sources = Sources::read(&files);
    let imports = sources.imports();
    [circles(&imports).len(), upward(&imports).len(), between_shells(&imports).len()]
}

#[test]
fn the_rules_of_imports_can_fail() {
    let plan = ("src/domain/plan/mod.rs", "mod cut;\npub mod size;\npub use cut::Cut;\npub struct Plan;");
    assert_eq!(of(&[plan, ("src/domain/plan/cut.rs", "use super::Plan;\npub struct Cut(Plan);")]), [0, 0, 0]);
    // The door itself uses what is behind it.
    let uses = ("src/domain/plan/mod.rs", "mod cut;\npub use cut::Cut;\npub struct Plan(Cut);");
    assert_eq!(of(&[uses, ("src/domain/plan/cut.rs", "use super::Plan;\npub struct Cut(Plan);")]), [1, 0, 0]);
    // Through a door, by a path in the code, and by the name of a module.
    let cut = ("src/domain/plan/cut.rs", "pub struct Cut(crate::domain::level::Level);");
    assert_eq!(
        of(&[plan, cut, ("src/domain/level.rs", "use super::plan::{self, Cut};\npub struct Level;")]),
        [1, 1, 0]
    );
    let by_module = ("src/domain/level.rs", "use crate::domain::plan;\npub struct Level(plan::Cut);");
    assert_eq!(of(&[plan, cut, by_module]), [1, 1, 0]);
    assert_eq!(of(&[("src/domain/misplaced.rs", "pub struct New;")]), [0, 1, 0]);
    let daemon = ("src/shells/daemon/mod.rs", "pub fn run() {}");
    assert_eq!(
        of(&[daemon, ("src/shells/cli/ls.rs", "use crate::shells::daemon;\nfn f() { daemon::run() }")]),
        [0, 0, 1]
    );
    assert_eq!(of(&[daemon, ("src/shells/entry/mod.rs", "use crate::shells::daemon::run;")]), [0, 0, 0]);
    let world = ("src/shells/dashboard/world.rs", "pub struct World(super::requests::Request);");
    let request = ("src/shells/dashboard/requests.rs", "pub struct Request;");
    assert_eq!(of(&[world, request]), [0, 0, 0]);
    let knows_ui = ("src/shells/dashboard/requests.rs", "pub struct Request(super::ui::Ui);");
    let ui = ("src/shells/dashboard/ui.rs", "pub struct Ui;");
    assert_eq!(of(&[world, knows_ui, ui, ("src/shells/dashboard/misplaced.rs", "pub struct New;")]), [0, 2, 0]);
    // What a text, a comment or a test says is no import.
    let quoted = "//! crate::domain::plan::Plan\npub struct Level(&'static str, \"crate::domain::plan::Plan\");\n\
                  #[cfg(test)]\nmod tests {\n    use crate::domain::plan::Plan;\n}";
    assert_eq!(of(&[plan, ("src/domain/level.rs", quoted)]), [0, 0, 0]);
}
