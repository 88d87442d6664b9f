//! Git repositories: which commits their tags point at. Floor 3.
//!
//! **Invariant:** reads only, and only repositories of this machine; no hook, no filter and no configuration of a
//! repository runs anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why a repository cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the refs of the git repository {path}: {source}; check its owner, its mode and git's safe.directory", path = path.display())]
pub struct RepoError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: git2::Error,
}

/// Returns the tags of a repository with the commits they point at, annotated tags peeled; tags of anything else are left
/// out.
///
/// # Errors
/// When it is no repository, or belongs to somebody whom git does not trust.
pub fn tags(path: &Path) -> Result<BTreeMap<String, String>, RepoError> {
    let fail = |source| RepoError { path: path.to_owned(), source };
    let repository = git2::Repository::open_bare(path).or_else(|_| git2::Repository::open(path)).map_err(fail)?;
    let mut tags = BTreeMap::new();
    for reference in repository.references_glob("refs/tags/*").map_err(fail)? {
        let reference = reference.map_err(fail)?;
        let Some(name) = reference.name().ok().and_then(|name| name.strip_prefix("refs/tags/")) else { continue };
        if let Ok(commit) = reference.peel_to_commit() {
            tags.insert(name.to_owned(), commit.id().to_string());
        }
    }
    Ok(tags)
}

/// Returns what a ref of a repository points at now, annotated tags as they are; `None` when there is no such ref.
///
/// # Errors
/// When it is no repository, or belongs to somebody whom git does not trust.
pub fn points_at(path: &Path, reference: &str) -> Result<Option<String>, RepoError> {
    let fail = |source| RepoError { path: path.to_owned(), source };
    let repository = git2::Repository::open_bare(path).or_else(|_| git2::Repository::open(path)).map_err(fail)?;
    match repository.find_reference(reference) {
        Ok(found) => Ok(found.target().map(|target| target.to_string())),
        Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
        Err(error) => Err(fail(error)),
    }
}

/// Returns the files and directories that change when a tag of the repository does.
#[must_use]
pub fn tag_files(path: &Path) -> Vec<PathBuf> {
    // A worktree keeps its tags where it came from.
    let repository = git2::Repository::open_bare(path).or_else(|_| git2::Repository::open(path));
    let git = repository.map_or_else(|_| path.to_owned(), |repository| repository.commondir().to_owned());
    let mut files = vec![git.join("packed-refs"), git.join("reftable/tables.list")];
    let mut open = vec![git.join("refs/tags")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().filter_map(Result::ok) {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                _ => files.push(entry.path()),
            }
        }
        files.push(dir);
    }
    files
}
