//! `hook`: what git hooks run, how they are installed, and what the rules would make of a push. Floor 4.
//!
//! **Invariant:** a push is refused only by policy that was asked for (`spoolgate.strict`); every trouble of ours is one line
//! and success. What a ref is called reaches no shell, no path and no pattern.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use crate::adapters::push::{HookConfig, HookRepository};
use crate::adapters::spool::drop_file;
use crate::adapters::spool::layout::Layout;
use crate::adapters::users;
use crate::base::text::visible;
use crate::domain::hook::{BRANCHES, Push, TAGS};
use crate::domain::resolve::resolve;
use crate::domain::wire::read_task;
use crate::engine::DropBox;
use crate::shells::ask_ssh;
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::clock::{now, unique};

/// The hook itself.
const SCRIPT: &str = include_str!("../../../hooks/spoolgate-git-hook");
/// How long the spool, or git, may do nothing, and how long everything may take: nothing of ours holds a push.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_IN_ALL: Duration = Duration::from_secs(5);
/// How many refs of one push are told of.
const REFS_MAX: usize = 200;

/// Arguments of `hook`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Hook {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run as the hook: report a push to the daemon (`REF OLD NEW`, or such lines on standard input).
    Git {
        /// Print the file that would be dropped, and drop nothing.
        #[arg(long)]
        print: bool,
        /// An update hook's three arguments; none for post-receive.
        words: Vec<OsString>,
    },
    /// Install the hook in a repository.
    Install {
        /// The repository's directory.
        repository: PathBuf,
        /// The name that rules use for it [its directory's name, or the server's name for it].
        #[arg(long)]
        name: Option<String>,
        /// Install it as update hook, which runs before a ref moves [post-receive].
        #[arg(long)]
        update: bool,
    },
    /// Print the task that the rules make of a push, and its problems; drops nothing.
    Test {
        /// The name that rules use for the repository.
        repository: String,
        /// The ref: refs/tags/v1, or a tag's name.
        reference: String,
    },
}

impl Hook {
    /// Whether git runs it: then it ends well whatever happens.
    pub(in crate::shells) fn is_for_git(&self) -> bool {
        matches!(self.verb, Verb::Git { .. })
    }

    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        match self.verb {
            Verb::Git { print, words } => git(context, print, &words),
            Verb::Install { repository, name, update } => install(context, &repository, name.as_deref(), update),
            Verb::Test { repository, reference } => test(context, &repository, &reference),
        }
    }
}

/// Tells of a push: whatever takes too long is given up, whoever waits for it.
fn git(context: &Context, print: bool, words: &[OsString]) -> Result<(), Failure> {
    let (hook, changes) = changes(words)?;
    let (tell, told) = mpsc::channel();
    let layout = context.layout.clone();
    std::thread::spawn(move || {
        let result = tell_all(layout, print, hook, changes, &tell);
        // Who waits may have gone.
        let _ = tell.send(Word::Done(result));
    });
    let begun = Instant::now();
    let (mut strict, mut count, mut all) = (false, 0_usize, 0);
    loop {
        let patience = PATIENCE.min(PATIENCE_IN_ALL.saturating_sub(begun.elapsed()));
        match told.recv_timeout(patience) {
            Ok(Word::Said(text)) => context.output.say(format!("spoolgate: {}", visible(&text))),
            Ok(Word::Strict(asked)) => strict = asked && hook == "update",
            Ok(Word::Will(refs)) => all = refs,
            Ok(Word::Event(text)) => context.output.line(text)?,
            Ok(Word::Dropped) => count = count.saturating_add(1),
            Ok(Word::Done(Ok(()))) => return Ok(()),
            Ok(Word::Done(Err(Trouble::Policy(why)))) => return refuse(context, &why),
            Ok(Word::Done(Err(Trouble::Ours(why)))) => return lost(context, strict, (count, all), &why),
            Err(_) => return lost(context, strict, (count, all), "the spool does not answer"),
        }
    }
}

/// Says which refs nobody was told of; that is the end of it, unless the repository wants it otherwise.
fn lost(context: &Context, strict: bool, (count, all): (usize, usize), why: &str) -> Result<(), Failure> {
    let told =
        if count == 0 { "nobody was told of this push".to_owned() } else { format!("told of {count} of {all} refs") };
    context.output.say(format!("spoolgate: {told}: {}", visible(why)));
    if strict { refuse(context, &told) } else { Ok(()) }
}

/// Refuses the ref. GitLab shows lines that begin like this to the person.
fn refuse(context: &Context, why: &str) -> Result<(), Failure> {
    context.output.say(format!("GL-HOOK-ERR: spoolgate: {}", visible(why)));
    Err(Failure::new(Kind::Refused, why.to_owned()))
}

/// What the one who tells says on the way.
enum Word {
    Said(String),
    /// Whether the repository wants pushes refused that nobody can be told of.
    Strict(bool),
    /// How many refs there are to tell of.
    Will(usize),
    /// What would be dropped.
    Event(String),
    Dropped,
    Done(Result<(), Trouble>),
}

/// Why nobody was told.
enum Trouble {
    Policy(String),
    Ours(String),
}

/// Finds out what a push says and drops it, saying how far it is.
fn tell_all(
    layout: Layout,
    print: bool,
    hook: &str,
    changes: Vec<Change>,
    tell: &mpsc::Sender<Word>,
) -> Result<(), Trouble> {
    let say = |word: Word| tell.send(word).map_err(|_| Trouble::Ours("it took too long".to_owned()));
    let directory = std::env::var_os("GIT_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let repository = HookRepository::at(&directory);
    let config = repository.config();
    say(Word::Strict(config.strict))?;
    let name = repository_name(&repository, &config);
    // A wiki and its like have hooks of their own server too, and nothing to deploy.
    if [".wiki", ".design"].iter().any(|end| name.strip_suffix(end).is_some()) {
        return Ok(());
    }
    let pusher = pusher();
    let mut pushes = Vec::new();
    for (reference, old, new) in changes {
        let Ok(reference) = reference.into_string() else {
            say(Word::Said("a ref whose name is no UTF-8 is not told of".to_owned()))?;
            continue;
        };
        let wanted = reference.starts_with(TAGS) || (config.branches && reference.starts_with(BRANCHES));
        let (repository, pusher, hook) = (name.clone(), Some(pusher.clone()), hook.to_owned());
        let push = Push { repository, reference, old, new, pusher, hook, ..Push::default() };
        if wanted && !push.is_deletion() {
            pushes.push(push);
        }
    }
    if config.strict
        && hook == "update"
        && let Some(moved) = pushes.iter().find(|push| push.is_move() && push.reference.starts_with(TAGS))
    {
        return Err(Trouble::Policy(format!("{} is there already, and tags are not moved here", moved.reference)));
    }
    if pushes.len() > REFS_MAX {
        say(Word::Said(format!("{} refs at once; the first {REFS_MAX} are told of", pushes.len())))?;
    }
    let layout = config.state.map_or(layout, Layout::new);
    say(Word::Will(pushes.len().min(REFS_MAX)))?;
    for (n, push) in pushes.into_iter().take(REFS_MAX).enumerate() {
        let bytes = file(&repository, push);
        if print {
            say(Word::Event(String::from_utf8_lossy(&bytes).into_owned()))?;
            continue;
        }
        let stem = unique(&format!("git-{n}"));
        let me = users::actor(users::current_uid());
        let put = drop_file::put(&layout, DropBox::New, &me, (&stem, &stem), &bytes);
        put.map_err(|error| Trouble::Ours(error.to_string()))?;
        say(Word::Dropped)?;
    }
    Ok(())
}

/// A ref, what it pointed at, and what it points at now.
type Change = (OsString, String, String);

/// Returns which hook this is, and which refs changed from what to what.
fn changes(words: &[OsString]) -> Result<(&'static str, Vec<Change>), Failure> {
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    match words {
        [reference, old, new] => Ok(("update", vec![(reference.clone(), text(old), text(new))])),
        [] => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes)?;
            let change = |line: &[u8]| {
                let mut parts = line.splitn(3, |byte| *byte == b' ').map(<[u8]>::to_vec);
                let (old, new) = (parts.next()?, parts.next()?);
                let text = |bytes| String::from_utf8(bytes).ok();
                Some((OsString::from_vec(parts.next()?), text(old)?, text(new)?))
            };
            Ok(("post-receive", bytes.split(|byte| *byte == b'\n').filter_map(change).collect()))
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
        "comes_to": push.comes_to,
        "annotated": annotated,
        "pusher": push.pusher,
        "hook": push.hook,
        "protocol": set("GL_PROTOCOL"),
        "push_options": options,
        "received_at": now(),
    });
    object.to_string().into_bytes()
}

/// Puts the hook where the repository's server looks for it.
fn install(context: &Context, path: &Path, name: Option<&str>, update: bool) -> Result<(), Failure> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
    use std::os::unix::process::CommandExt as _;
    let owner = std::fs::metadata(path);
    let owner = owner.map_err(|error| Failure::new(Kind::NotFound, format!("{}: {error}", path.display())))?;
    // The repository says where its hooks are, and its owner says what the repository says: nobody but the owner goes there.
    if users::current_uid() == 0 && owner.uid() != 0 {
        let program = std::env::current_exe()?;
        let status = std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .uid(owner.uid())
            .gid(owner.gid())
            .status()?;
        let why = || format!("as the repository's owner, uid {}, it did not work", owner.uid());
        return if status.success() { Ok(()) } else { Err(Failure::new(Kind::Unavailable, why())) };
    }
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
    let file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o755).open(&staged);
    file.and_then(|mut file| file.write_all(SCRIPT.as_bytes())).map_err(failed)?;
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
    let mut library = context.config()?.library;
    let reference = if reference.starts_with("refs/") { reference.to_owned() } else { format!("{TAGS}{reference}") };
    let push = Push {
        repository: repository.to_owned(),
        reference: reference.clone(),
        pusher: Some(pusher()),
        hook: "test".to_owned(),
        ..Push::default()
    };
    let Some(Ok(made)) = library.hooks.of_push(&push) else {
        let why = format!("no rule of hooks.toml is for {} of {}", visible(&reference), visible(repository));
        return Err(Failure::new(Kind::NotFound, why));
    };
    let tasks = ask_ssh::tasks_in(std::iter::once(made.text.as_bytes()), &library);
    ask_ssh::complete(&mut library, &tasks);
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
