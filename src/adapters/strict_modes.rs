//! Whether others could change what the daemon believes: owners and modes of files and of every directory above them, as
//! sshd's `StrictModes` asks. Floor 3.
//!
//! **Invariant:** reads only, and decides nothing but whether a path is safe. Root and the account that asks may own and write
//! what is believed, nobody else.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};

use crate::domain::problem::Problem;

/// In a directory with this bit nobody renames or removes what belongs to others.
const STICKY: u32 = 0o1000;

/// Says of each path who else could change it or put another file there; one problem for each file or directory at fault. What
/// is not there is passed over, but not the directories that it would be in.
#[must_use]
pub fn weaknesses(paths: &[PathBuf], me: u32) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for path in paths.iter().flat_map(|path| with_contents(path)) {
        problems.extend(along(&path, me, &mut seen));
    }
    problems
}

/// Says of a directory and of those above it who else could change them.
#[must_use]
pub fn weaknesses_above(directory: &Path, me: u32) -> Vec<Problem> {
    along(directory, me, &mut BTreeSet::new())
}

/// Looks at a path, at every directory above it, and at where links lead.
fn along(path: &Path, me: u32, seen: &mut BTreeSet<PathBuf>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Ok(path) = std::path::absolute(path) {
        // A link's own directories count, and those that it leads to.
        let real = fs::canonicalize(&path).ok().filter(|real| *real != path);
        for part in [Some(path), real].into_iter().flatten().flat_map(|path| parts(&path)) {
            if seen.insert(part.clone())
                && let Ok(meta) = fs::metadata(&part)
                && let Some((found, wanted)) = weakness(&meta, me)
            {
                problems.push(Problem::new(part.display().to_string(), found, wanted));
            }
        }
    }
    problems
}

/// Returns a path, and of a directory the files in it.
fn with_contents(path: &Path) -> Vec<PathBuf> {
    let inside = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(path.to_owned()).chain(inside).collect()
}

/// Returns a path and every directory above it.
fn parts(path: &Path) -> Vec<PathBuf> {
    path.ancestors().map(Path::to_owned).collect()
}

/// Says what is wrong with one of them, and what would be right.
fn weakness(meta: &Metadata, me: u32) -> Option<(String, &'static str)> {
    // Nobody reads sockets and devices as configuration; /dev/null is named as one now and then.
    if !(meta.is_file() || meta.is_dir()) {
        return None;
    }
    if meta.uid() != 0 && meta.uid() != me {
        let owner = User::from_uid(Uid::from_raw(meta.uid())).ok().flatten();
        let owner = owner.map_or_else(|| format!("uid {}", meta.uid()), |user| user.name);
        let wanted = "it to belong to root or to the daemon's user: whoever owns it decides what runs; try: chown root";
        return Some((format!("it belongs to {owner}"), wanted));
    }
    let mode = meta.mode();
    if meta.is_dir() && mode & STICKY != 0 {
        return None;
    }
    let by_group = mode & 0o020 != 0 && !is_private(meta.gid(), meta.uid());
    let by_others = mode & 0o002 != 0;
    (by_group || by_others).then(|| {
        (format!("mode {:04o}: others can write it", mode & 0o7777), "only its owner to write it; try: chmod go-w")
    })
}

/// Whether a group is its user's own, as many systems make one for each user: nobody else is in it.
fn is_private(gid: u32, uid: u32) -> bool {
    let (Ok(Some(group)), Ok(Some(user))) = (Group::from_gid(Gid::from_raw(gid)), User::from_uid(Uid::from_raw(uid)))
    else {
        return false;
    };
    group.name == user.name && user.gid == group.gid && group.mem.iter().all(|member| *member == user.name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn whatever_others_could_change_is_named_parents_included() {
        let dir = tempfile::tempdir().unwrap();
        let me = nix::unistd::geteuid().as_raw();
        let at = |name: &str| dir.path().join(name);
        let set = |name: &str, mode| fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        fs::create_dir_all(at("etc/templates")).unwrap();
        for file in ["etc/policy.toml", "etc/templates/a.toml"] {
            fs::write(at(file), "").unwrap();
            set(file, 0o644);
        }
        let paths = [at("etc/policy.toml"), at("etc/templates"), at("etc/none.toml")];
        let named = || {
            let found = weaknesses(&paths, me);
            found.into_iter().map(|problem| problem.to_string()).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(named(), "");
        for (name, mode, back) in [
            ("etc/policy.toml", 0o666, 0o644),
            ("etc/templates/a.toml", 0o646, 0o644),
            ("etc/templates", 0o777, 0o755),
            ("etc", 0o757, 0o755),
        ] {
            set(name, mode);
            let said = named();
            assert!(said.contains(&at(name).display().to_string()) && said.contains("chmod go-w"), "{name}: {said}");
            set(name, back);
        }
        // A directory in which nobody touches what is another's may stand above.
        set("etc", 0o1777);
        assert_eq!(named(), "");
        set("etc", 0o755);
        if me == 0 {
            chown(at("etc/templates/a.toml"), Some(61_003), None).unwrap();
            assert!(named().contains("it belongs to uid 61003"), "{}", named());
            chown(at("etc/templates/a.toml"), Some(0), None).unwrap();
            // What a link leads to is believed as well.
            fs::create_dir(at("theirs")).unwrap();
            fs::write(at("theirs/x.toml"), "").unwrap();
            chown(at("theirs"), Some(61_003), None).unwrap();
            symlink(at("theirs/x.toml"), at("etc/templates/x.toml")).unwrap();
            assert!(named().contains("theirs"), "{}", named());
        }
    }
}
