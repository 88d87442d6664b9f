//! What a git hook can find out about a push in its repository. Floor 3.
//!
//! **Invariant:** reads only, and whatever cannot be read is left out: a hook says what it knows.

use std::path::{Path, PathBuf};

use crate::domain::hook::Push;

/// What a repository's configuration says about us (`git config spoolgate.…`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookConfig {
    /// What rules call the repository.
    pub repository: Option<String>,
    /// Where the state is.
    pub state: Option<PathBuf>,
    /// Whether a push is refused that nobody can be told of.
    pub strict: bool,
    /// Whether branches are told of too.
    pub branches: bool,
}

/// A repository as its hooks see it.
pub struct HookRepository {
    path: PathBuf,
    opened: Option<git2::Repository>,
}

impl HookRepository {
    /// Opens the repository of a directory. What cannot be opened is still somewhere.
    #[must_use]
    pub fn at(path: &Path) -> HookRepository {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let opened = git2::Repository::open_bare(&path).or_else(|_| git2::Repository::open(&path)).ok();
        HookRepository { path, opened }
    }

    /// Returns what its configuration says.
    #[must_use]
    pub fn config(&self) -> HookConfig {
        // libgit2 opens no repository whose objects have SHA-256 names; their configuration is a file like any other.
        let whole = self.opened.as_ref().and_then(|repository| repository.config().ok());
        let config = whole.or_else(|| git2::Config::open(&self.path.join("config")).ok());
        let config = config.and_then(|mut config| config.snapshot().ok());
        let Some(config) = config else { return HookConfig::default() };
        HookConfig {
            repository: config.get_string("spoolgate.repository").ok(),
            state: config.get_path("spoolgate.state").ok(),
            strict: config.get_bool("spoolgate.strict").unwrap_or(false),
            branches: config.get_bool("spoolgate.branches").unwrap_or(false),
        }
    }

    /// Writes what rules call the repository into its configuration.
    ///
    /// # Errors
    /// When it cannot be written, or is no repository; the text says so.
    pub fn set_name(&self, name: &str) -> Result<(), String> {
        let fail = |error: git2::Error| format!("{}: {error}", self.path.display());
        let (git, _) = self.hooks().ok_or_else(|| format!("{} is no git repository", self.path.display()))?;
        let mut config = git2::Config::open(&git.join("config")).map_err(fail)?;
        config.set_str("spoolgate.repository", name).map_err(fail)
    }

    /// Returns the directory of the repository itself, and the one that its hooks stand in; `None` when it is none.
    #[must_use]
    pub fn hooks(&self) -> Option<(PathBuf, PathBuf)> {
        let Some(repository) = &self.opened else {
            let whole = ["HEAD", "config", "objects", "refs"].iter().all(|name| self.path.join(name).exists());
            return whole.then(|| (self.path.clone(), self.path.join("hooks")));
        };
        let git = repository.commondir().to_owned();
        let named = repository.config().and_then(|mut config| config.snapshot()?.get_path("core.hooksPath")).ok();
        let hooks = named.map_or_else(|| git.join("hooks"), |path| git.join(path));
        Some((git, hooks))
    }

    /// Returns the name of its directory, without `.git`.
    #[must_use]
    pub fn directory_name(&self) -> String {
        // The repository of a working tree is the `.git` in it.
        let own = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = own(&self.path);
        let name = if name == ".git" { self.path.parent().map(own).unwrap_or_default() } else { name };
        name.strip_suffix(".git").map_or(name.clone(), str::to_owned)
    }

    /// Asks the git that the hook runs under; nothing where it does not answer.
    fn ask_git(&self, words: &[&str]) -> Option<String> {
        let output = std::process::Command::new("git").arg("--git-dir").arg(&self.path).args(words).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    }

    /// Completes what a push says: the commit that its object comes to, or what else it comes to; and whether a tag stands
    /// between.
    #[must_use]
    pub fn complete(&self, push: Push) -> (Push, bool) {
        if self.opened.is_none() && push.new.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let annotated = self.ask_git(&["cat-file", "-t", &push.new]).is_some_and(|kind| kind == "tag");
            let commit = self.ask_git(&["rev-parse", "--verify", "--quiet", &format!("{}^{{commit}}", push.new)]);
            let whole = format!("{}^{{}}", push.new);
            let comes_to = commit.is_none().then(|| self.ask_git(&["cat-file", "-t", &whole])).flatten();
            return (Push { commit, comes_to, ..push }, annotated);
        }
        let object = self.opened.as_ref().and_then(|repository| {
            let oid = git2::Oid::from_str(&push.new).ok()?;
            repository.find_object(oid, None).ok()
        });
        let annotated = object.as_ref().is_some_and(|object| object.kind() == Some(git2::ObjectType::Tag));
        // What is no tag would be peeled to what it is made of.
        let end = if annotated { object.and_then(|tag| tag.peel(git2::ObjectType::Any).ok()) } else { object };
        let (commit, comes_to) = match end.map(|end| (end.kind(), end.id())) {
            Some((Some(git2::ObjectType::Commit), id)) => (Some(id.to_string()), None),
            Some((Some(kind), _)) => (None, Some(kind.str().to_owned())),
            _ => (None, None),
        };
        (Push { commit, comes_to, ..push }, annotated)
    }
}
