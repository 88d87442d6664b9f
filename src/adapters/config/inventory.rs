//! Reads the directory of the inventory: files, `group_vars/`, `host_vars/` and scripts.
//!
//! **Invariant:** reads only, and runs nothing but scripts that [`super::script`] trusts. What is skipped is skipped by
//! name (hidden files, backups, documents), never because it could not be read.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::error::{ConfigError, read_text};
use super::script;
use crate::base::limits;
use crate::domain::inventory::Inventory;
use crate::domain::inventory::build::Parts;
use crate::domain::problem::Problem;

/// How deep `group_vars/` may nest.
const DEPTH_MAX: usize = 8;
/// What Ansible skips in a directory of inventories.
const SKIPPED: &[&str] =
    &["pyc", "pyo", "swp", "bak", "rpm", "md", "txt", "rst", "orig", "cfg", "retry", "rpmsave", "rpmnew", "dpkg-old"];
/// What a script without its execute bit ends in; it is not skipped, since its hosts would be missing.
const SCRIPTS: &[&str] = &["py", "sh", "bash", "pl", "rb"];

/// The table `[inventory]` of spoolgate.toml.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InventoryTable {
    script_timeout_s: Option<u64>,
    script_cache_s: Option<u64>,
    required: Option<Vec<String>>,
}

/// What the directory says.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) inventory: Inventory,
    /// The directories below it that count.
    pub(super) dirs: Vec<PathBuf>,
    /// When a script must be asked again.
    pub(super) expires: Option<Instant>,
}

/// Reads the directory; nothing when there is none.
pub(super) fn read(dir: &Path, table: InventoryTable, problems: &mut Vec<Problem>) -> Result<Read, ConfigError> {
    let options = script::Options {
        timeout: seconds("script_timeout_s", table.script_timeout_s, limits::SCRIPT_TIMEOUT_S, 60, problems),
        cache: seconds("script_cache_s", table.script_cache_s, limits::SCRIPT_CACHE_S, 86_400, problems),
    };
    let mut parts = Parts { required: table.required.unwrap_or_default(), ..Parts::default() };
    let mut read = Read::default();
    let mut scripts = Vec::new();
    for path in entries(dir)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if is_skipped(name) {
            continue;
        }
        let Some(meta) = metadata(&path)? else { continue };
        if meta.is_dir() && matches!(name, "group_vars" | "host_vars") {
            read_vars(&path, name, 0, &mut parts.vars, &mut read.dirs)?;
        }
        if !meta.is_file() {
            continue;
        }
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("toml" | "ini" | "yml" | "yaml" | "json") => parts.files.push((name.to_owned(), read_text(&path)?)),
            _ if meta.permissions().mode() & 0o111 != 0 => scripts.push(path),
            None => parts.files.push((name.to_owned(), read_text(&path)?)),
            Some(ending) if SCRIPTS.contains(&ending) => {
                problems.push(Problem::new(name, "a script that may not be executed", format!("chmod +x {name}")));
            }
            Some(_) => {}
        }
    }
    let mut whole = true;
    for (answer, expires) in script::ask(&scripts, options) {
        read.expires = Some(read.expires.map_or(expires, |first| first.min(expires)));
        match answer {
            Ok(said) => parts.scripts.push(said),
            Err(problem) => {
                problems.push(problem);
                whole = false;
            }
        }
    }
    match Inventory::build(parts) {
        Ok(inventory) => read.inventory = inventory,
        Err(found) => problems.extend(found),
    }
    // Whoever looks at half an inventory would say wrong things about hosts.
    if !whole {
        read.inventory = Inventory::default();
    }
    Ok(read)
}

fn seconds(field: &str, given: Option<u64>, default: u64, most: u64, problems: &mut Vec<Problem>) -> Duration {
    let seconds = given.unwrap_or(default);
    if !(1..=most).contains(&seconds) {
        let pointer = format!("spoolgate.toml: [inventory] {field}");
        problems.push(Problem::new(pointer, seconds.to_string(), format!("a number from 1 to {most}")));
    }
    Duration::from_secs(seconds.clamp(1, most))
}

/// Hidden files, backups and what Ansible skips.
fn is_skipped(name: &str) -> bool {
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    name.starts_with('.') || name.ends_with('~') || SKIPPED.contains(&ending)
}

/// Returns what stands in a directory, by name; nothing when there is none.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}

/// Looks at a file; nothing when it went away since it was listed.
fn metadata(path: &Path) -> Result<Option<std::fs::Metadata>, ConfigError> {
    match std::fs::metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    }
}

/// Reads the files of variables below `dir`, whose path in the inventory is `name`.
fn read_vars(
    dir: &Path,
    name: &str,
    depth: usize,
    vars: &mut BTreeMap<String, String>,
    dirs: &mut Vec<PathBuf>,
) -> Result<(), ConfigError> {
    vars.insert(format!("{name}/"), String::new());
    dirs.push(dir.to_owned());
    for path in entries(dir)? {
        let Some(own) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if own.starts_with('.') || own.ends_with('~') {
            continue;
        }
        let Some(meta) = metadata(&path)? else { continue };
        let inside = format!("{name}/{own}");
        if meta.is_dir() && depth < DEPTH_MAX {
            read_vars(&path, &inside, depth.saturating_add(1), vars, dirs)?;
        } else if meta.is_file() {
            // A host may be called web1.example.com, so that endings say nothing here.
            vars.insert(inside, read_text(&path)?);
        }
    }
    Ok(())
}
