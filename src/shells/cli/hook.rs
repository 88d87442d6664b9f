//! `hook`: what git hooks run, how they are installed, and what the rules would make of a push. Floor 4.
//!
//! **Invariant:** a push is refused only by policy that was asked for (`spoolgate.strict`); every trouble of ours is one line
//! and success. What a ref is called reaches no shell, no path and no pattern.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::adapters::push::{HookConfig, HookRepository};
use crate::adapters::spool::drop_file;
use crate::adapters::spool::layout::Layout;
use crate::adapters::users;
use crate::base::text::visible;
use crate::domain::hook::{BRANCHES, Push, TAGS};
use crate::domain::plan::resolve;
use crate::domain::wire::read_task;
use crate::engine::DropBox;
use crate::shells::cli::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::clock::{now, unique};

/// The hook itself.
const SCRIPT: &str = include_str!("../../../hooks/spoolgate-git-hook");
/// How long a spool may take; one on a file system that hangs must not hold a push.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many refs of one push are told of.
const REFS_MAX: usize = 200;

/// Arguments of `hook`.
#[derive(Debug, Args)]
pub(super) struct Hook {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What hooks run: tell the daemon of a push (`REF OLD NEW`, or such lines on standard input).
    Git {
        /// Print what would be dropped, and drop nothing.
        #[arg(long)]
        print: bool,
        /// An update hook's three arguments; none for post-receive.
        words: Vec<String>,
    },
    /// Put the hook into a repository.
    Install {
        /// The repository's directory.
        repository: PathBuf,
        /// What rules call it [its directory's name, or what its server says].
        #[arg(long)]
        name: Option<String>,
        /// As update hook, which sees a ref before it moves [post-receive].
        #[arg(long)]
        update: bool,
    },
    /// Say which task the rules make of a push, and what is wrong with it; drops nothing.
    Test {
        /// What rules call the repository.
        repository: String,
        /// The ref: refs/tags/v1, or a tag's name.
        reference: String,
    },
}

impl Hook {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        match self.verb {
            Verb::Git { print, words } => git(context, print, &words),
            Verb::Install { repository, name, update } => install(context, &repository, name.as_deref(), update),
            Verb::Test { repository, reference } => test(context, &repository, &reference),
        }
    }
}

/// Tells of a push.
fn git(context: &Context, print: bool, words: &[String]) -> Result<(), Failure> {
    let directory = std::env::var_os("GIT_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let repository = HookRepository::at(&directory);
    let config = repository.config();
    let name = repository_name(&repository, &config);
    // A wiki and its like have hooks of their own server too, and nothing to deploy.
    if [".wiki", ".design"].iter().any(|end| name.strip_suffix(end).is_some()) {
        return Ok(());
    }
    let (hook, changes) = changes(words)?;
    let strict = |why: String| {
        if !config.strict || hook != "update" {
            return Ok(());
        }
        // GitLab shows lines that begin like this to the person.
        context.output.say(format!("GL-HOOK-ERR: spoolgate: {why}"));
        Err(Failure::new(Kind::Refused, why))
    };
    let wanted = |reference: &str| reference.starts_with(TAGS) || (config.branches && reference.starts_with(BRANCHES));
    let pushes: Vec<Push> = changes
        .into_iter()
        .filter(|(reference, _, _)| wanted(reference))
        .map(|(reference, old, new)| Push {
            repository: name.clone(),
            reference,
            old,
            new,
            pusher: Some(pusher()),
            hook: hook.to_owned(),
            ..Push::default()
        })
        .filter(|push| !push.is_deletion())
        .collect();
    if let Some(moved) = pushes.iter().find(|push| push.is_move() && push.reference.starts_with(TAGS)) {
        strict(format!("{} is there already, and tags are not moved here", visible(&moved.reference)))?;
    }
    if pushes.len() > REFS_MAX {
        context.output.say(format!("spoolgate: {} refs at once; the first {REFS_MAX} are told of", pushes.len()));
    }
    let files: Vec<Vec<u8>> = pushes.into_iter().take(REFS_MAX).map(|push| file(&repository, push)).collect();
    if print {
        for file in files {
            context.output.line(String::from_utf8_lossy(&file))?;
        }
        return Ok(());
    }
    let layout = config.state.map_or_else(|| context.layout.clone(), Layout::new);
    if let Err(why) = drop_all(layout, files) {
        context.output.say(format!("spoolgate: nobody was told of this push: {}", visible(&why)));
        strict(why)?;
    }
    Ok(())
}

/// A ref, what it pointed at, and what it points at now.
type Change = (String, String, String);

/// Returns which hook this is, and which refs changed from what to what.
fn changes(words: &[String]) -> Result<(&'static str, Vec<Change>), Failure> {
    match words {
        [reference, old, new] => Ok(("update", vec![(reference.clone(), old.clone(), new.clone())])),
        [] => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            let change = |line: &str| {
                let mut parts = line.splitn(3, ' ').map(str::to_owned);
                let (old, new) = (parts.next()?, parts.next()?);
                Some((parts.next()?, old, new))
            };
            Ok(("post-receive", text.lines().filter_map(change).collect()))
        }
        _ => Err(Failure::new(Kind::Usage, "an update hook has three arguments: REF OLD NEW")),
    }
}

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What the rules call the repository: what it says itself, then its server, then its directory.
fn repository_name(repository: &HookRepository, config: &HookConfig) -> String {
    let gitea = || Some(format!("{}/{}", set("GITEA_REPO_USER_NAME")?, set("GITEA_REPO_NAME")?));
    let named = config.repository.clone().or_else(|| set("GL_PROJECT_PATH")).or_else(gitea);
    named.unwrap_or_else(|| repository.directory_name())
}

/// Who pushed: what the git server says, or else who runs the hook.
fn pusher() -> String {
    let named = set("GL_USERNAME").or_else(|| set("GITEA_PUSHER_NAME")).or_else(|| set("REMOTE_USER"));
    named.unwrap_or_else(|| users::actor(users::current_uid()).user)
}

/// Writes what a push says, as the daemon reads it.
fn file(repository: &HookRepository, push: Push) -> Vec<u8> {
    let (push, annotated) = repository.complete(push);
    let count = set("GIT_PUSH_OPTION_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0).min(100);
    let options: Vec<String> = (0..count).filter_map(|n| set(&format!("GIT_PUSH_OPTION_{n}"))).collect();
    let object = serde_json::json!({
        "git_push": 1,
        "repository": push.repository,
        "ref": push.reference,
        "old": push.old,
        "new": push.new,
        "commit": push.commit,
        "annotated": annotated,
        "pusher": push.pusher,
        "hook": push.hook,
        "protocol": set("GL_PROTOCOL"),
        "push_options": options,
        "received_at": now(),
    });
    object.to_string().into_bytes()
}

/// Drops files, and gives up when that takes too long.
fn drop_all(layout: Layout, files: Vec<Vec<u8>>) -> Result<(), String> {
    let (done, ends) = mpsc::channel();
    std::thread::spawn(move || {
        let result = files.iter().enumerate().try_for_each(|(n, bytes)| {
            let name = unique(&format!("git-{n}"));
            drop_file::put(&layout, DropBox::New, &name, &name, bytes).map(drop).map_err(|error| error.to_string())
        });
        // Who waits may have gone.
        let _ = done.send(result);
    });
    ends.recv_timeout(PATIENCE).unwrap_or_else(|_| Err("the spool does not answer".to_owned()))
}

/// Puts the hook where the repository's server looks for it.
fn install(context: &Context, path: &Path, name: Option<&str>, update: bool) -> Result<(), Failure> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let repository = HookRepository::at(path);
    let hook = if update { "update" } else { "post-receive" };
    let (git, hooks) = repository
        .hooks()
        .ok_or_else(|| Failure::new(Kind::NotFound, format!("{} is no git repository", path.display())))?;
    let gitlab = git.join("custom_hooks");
    let delegated = hooks.join(format!("{hook}.d"));
    let place = if gitlab.is_dir() || git.components().any(|part| part.as_os_str() == "@hashed") {
        gitlab.join(format!("{hook}.d")).join("50-spoolgate")
    } else if delegated.is_dir() {
        delegated.join("50-spoolgate")
    } else {
        hooks.join(hook)
    };
    let known = std::fs::read_to_string(&place);
    if known.as_ref().is_ok_and(|text| !text.contains("spoolgate")) {
        let why = format!("{} is somebody's hook", place.display());
        let hint = format!("let it call: spoolgate hook git{}", if update { " \"$@\"" } else { "" });
        return Err(Failure::new(Kind::Refused, why).hint(hint));
    }
    let failed = |error: std::io::Error| Failure::new(Kind::Unavailable, format!("{}: {error}", place.display()));
    let dir = place.parent().unwrap_or(&hooks);
    std::fs::create_dir_all(dir).map_err(failed)?;
    let staged = dir.join(format!(".{}", unique("spoolgate-hook")));
    std::fs::write(&staged, SCRIPT).map_err(failed)?;
    std::fs::set_permissions(&staged, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
    let owner = std::fs::metadata(&git).map_err(failed)?;
    if users::current_uid() == 0 {
        for path in [&staged, &dir.to_path_buf()] {
            std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
        }
    }
    std::fs::rename(&staged, &place).map_err(failed)?;
    if let Some(name) = name {
        repository.set_name(name).map_err(|why| Failure::new(Kind::Unavailable, why))?;
    }
    let name = repository_name(&repository, &repository.config());
    context.output.say(format!("rules call this repository {name}; try: spoolgate hook test {name} refs/tags/v1"));
    context.output.line(place.display().to_string())
}

/// Says what the rules make of a push.
fn test(context: &Context, repository: &str, reference: &str) -> Result<(), Failure> {
    let library = context.config()?.library;
    let reference = if reference.starts_with("refs/") { reference.to_owned() } else { format!("{TAGS}{reference}") };
    let push = Push {
        repository: repository.to_owned(),
        reference: reference.clone(),
        pusher: Some(pusher()),
        hook: "test".to_owned(),
        ..Push::default()
    };
    let Some(made) = library.hooks.of_push(&push) else {
        let why = format!("no rule of hooks.toml is for {} of {}", visible(&reference), visible(repository));
        return Err(Failure::new(Kind::NotFound, why));
    };
    let resolved = read_task(made.text.as_bytes(), &library.zone)
        .map_err(|unreadable| unreadable.problems)
        .and_then(|submission| resolve(&submission, &library));
    if context.output.json {
        let task: serde_json::Value = serde_json::from_str(&made.text).unwrap_or_default();
        let problems = resolved.as_ref().err().cloned().unwrap_or_default();
        let said = serde_json::json!({"rule": made.rule, "into": made.into, "task": task, "problems": problems});
        context.output.object(said)?;
    } else {
        context.output.line(format!("{}: into {}\n{}", made.rule, made.into.word(), made.text))?;
    }
    resolved.map(drop).map_err(|problems| Failure::invalid(&made.rule, &problems))
}
