//! A git repository that people push to, for tests of hooks.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::http::said;
use crate::patience::InTime as _;

/// A bare repository and a clone with one commit in it.
pub(crate) struct Repository {
    pub(crate) bare: PathBuf,
    pub(crate) clone: PathBuf,
    path: String,
}

impl Repository {
    pub(crate) fn new(dir: &Path, name: &str, path: String, format: &str) -> Repository {
        let (bare, clone) = (dir.join(format!("{name}.git")), dir.join(format!("{name}-clone")));
        let repository = Repository { bare, clone, path };
        let (bare, clone) = (repository.bare.to_str().unwrap(), repository.clone.to_str().unwrap());
        let init = [["init", "-q", "--bare"].as_slice(), &["--object-format", format, bare]].concat();
        repository.git(dir, &init);
        repository.git(dir, &["init", "-q", "--object-format", format, clone]);
        repository.git(&repository.clone, &["remote", "add", "origin", bare]);
        std::fs::write(repository.clone.join("README.md"), "README\n").unwrap();
        for words in
            [["add", "--all"].as_slice(), &["commit", "-q", "-m", "[Add] README"], &["push", "-q", "origin", "HEAD"]]
        {
            repository.git(&repository.clone, words);
        }
        repository
    }

    pub(crate) fn git_says(&self, dir: &Path, words: &[&str]) -> Output {
        let mut command = Command::new("/usr/bin/git");
        command.current_dir(dir).args(words).env_clear().env("PATH", &self.path).env("HOME", &self.bare);
        command.env("GIT_AUTHOR_NAME", "t").env("GIT_AUTHOR_EMAIL", "t@example.com").env("LC_ALL", "C.UTF-8");
        command.env("GIT_COMMITTER_NAME", "t").env("GIT_COMMITTER_EMAIL", "t@example.com");
        command.output_in_time().unwrap()
    }

    pub(crate) fn git(&self, dir: &Path, words: &[&str]) -> String {
        let output = self.git_says(dir, words);
        assert!(output.status.success(), "git {words:?}: {}", said(&output));
        said(&output)
    }

    /// Makes a tag and pushes it; returns what the server said, and how long it took.
    pub(crate) fn push_tag(&self, tag: &str) -> (String, Duration) {
        self.git(&self.clone, &["tag", "--", tag]);
        let begin = Instant::now();
        let said = self.git(&self.clone, &["push", "origin", &format!("refs/tags/{tag}")]);
        (said, begin.elapsed())
    }
}
