//! The way in: reads the command line and starts the verb, the daemon or the dashboard. Floor 4.
//!
//! **Invariant:** the one place that knows every shell; the shells do not know each other.

mod arguments;
mod looks;
mod top;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::adapters::spool::layout::Layout;
use crate::adapters::ssh::worker;
use crate::base::text::visible_lines;
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::cli::output::Output;
use crate::shells::cli::{listing, log_line};
use crate::shells::configuration::Dirs;
use crate::shells::daemon::{self, DaemonError};
use crate::shells::dashboard;

use arguments::{Arguments, Verb};

/// Shows the dashboard on this process's terminal until somebody quits.
///
/// # Errors
/// When there is no state, or the terminal fails; the text says what to do.
pub fn show_dashboard(dirs: &Dirs) -> Result<(), String> {
    dashboard::run(dirs, &dashboard::Options::default()).map_err(|error| error.to_string())
}

/// Runs one command; the exit codes are a table in `failure`.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(ended) = worker::run_if_asked() {
        return ended;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
            if json && error.use_stderr() {
                let failure = usage(&error.to_string());
                Output::new(true, false).fail(&failure);
                return ExitCode::from(failure.exit_code().0);
            }
            // Help that was asked for is data; everything else is talk, and quotes what was typed.
            if error.use_stderr() {
                Output::new(false, false).say(visible_lines(error.to_string().trim_end()));
            } else {
                // Nobody is left to tell when it cannot be printed.
                let _ = error.print();
            }
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let output = Output::new(arguments.json, arguments.quiet);
    match run(arguments, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.fail(&failure);
            ExitCode::from(failure.exit_code().0)
        }
    }
}

/// Makes a failure of what is wrong with a command line: what is wrong, and how it is used.
fn usage(text: &str) -> Failure {
    let (wrong, used) = text.split_once("Usage:").unwrap_or((text, ""));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let wrong = words(wrong.strip_prefix("error:").unwrap_or(wrong));
    let wrong = if wrong.is_empty() { "no verb is given".to_owned() } else { wrong };
    let failure = Failure::new(Kind::Usage, wrong);
    match used.lines().next().map(words) {
        Some(used) if !used.is_empty() => failure.hint(used),
        _ => failure.hint("spoolgate --help"),
    }
}

fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    check_named(&arguments)?;
    let dirs = directories(arguments.config, arguments.state, |name| std::env::var_os(name).map(PathBuf::from));
    let context = Context { layout: Layout::new(dirs.state.clone()), dirs, output };
    let looks = arguments.looks;
    let Some(verb) = arguments.verb else {
        return top::without_verb(&context, looks, &Arguments::command().render_help());
    };
    if !matches!(verb, Verb::Top(_)) {
        looks.expect_none()?;
    }
    match verb {
        Verb::Top(verb) => verb.run(&context, looks),
        Verb::ResetTty => top::reset_tty(),
        Verb::Daemon => {
            let _ = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(|| log_line::LogLine)
                .with_target(false)
                .try_init();
            Ok(daemon::run(&context.dirs)?)
        }
        Verb::Submit(verb) => verb.run(&context),
        Verb::Check(verb) => verb.run(&context),
        Verb::Plan(verb) => verb.run(&context),
        Verb::Ls(verb) => verb.run(&context),
        Verb::Show(verb) => verb.run(&context),
        Verb::Approve(verb) => verb.run(&context),
        Verb::Reject(verb) => verb.reject(&context),
        Verb::Withdraw(verb) => verb.run(&context),
        Verb::Cancel(verb) => verb.run(&context),
        Verb::Hold(verb) => verb.hold(&context),
        Verb::Release(verb) => verb.run(&context),
        Verb::Retry(verb) => verb.run(&context),
        Verb::Continue(verb) => verb.go_on(&context),
        Verb::Skip(verb) => verb.run(&context),
        Verb::Audit(verb) => verb.run(&context),
        Verb::Policy(verb) => verb.run(&context),
        Verb::Logs(verb) => verb.run(&context),
        Verb::Watch(verb) => verb.run(&context),
        Verb::Wait(verb) => verb.run(&context),
        Verb::Token(verb) => verb.run(&context),
        Verb::Gc(verb) => verb.run(&context),
        Verb::Hook(verb) => verb.run(&context),
        Verb::Template(verb) => verb.run(&context),
        Verb::Hosts => listing::hosts(&context),
    }
}

/// Refuses a directory that was named and is not there: what is read in its place would be an empty one.
fn check_named(arguments: &Arguments) -> Result<(), Failure> {
    // Nothing of ours holds a push up.
    if matches!(&arguments.verb, Some(Verb::Hook(hook)) if hook.is_for_git()) {
        return Ok(());
    }
    let missing = |option: &str, dir: &Path| {
        Failure::new(Kind::Unavailable, format!("{option} {}: there is no such directory", dir.display()))
    };
    if let Some(dir) = arguments.config.as_ref().filter(|dir| !dir.is_dir()) {
        return Err(missing("--config", dir).hint("name the directory that holds spoolgate.toml, or make one"));
    }
    let Some(dir) = arguments.state.as_ref().filter(|dir| !dir.is_dir()) else { return Ok(()) };
    // A state is made by its daemon, in a place that is there.
    let place = std::path::absolute(dir).ok().and_then(|whole| Some(whole.parent()?.is_dir() && !whole.exists()));
    match &arguments.verb {
        Some(Verb::Daemon) if place == Some(true) => Ok(()),
        Some(Verb::Daemon) => Err(missing("--state", dir).hint("make the directory above it first")),
        _ => {
            Err(missing("--state", dir)
                .hint(format!("the daemon makes it: spoolgate --state {} daemon", dir.display())))
        }
    }
}

/// Chooses the directories: what was said, then the environment, then the system's when it is configured, then the
/// user's own.
fn directories(config: Option<PathBuf>, state: Option<PathBuf>, environment: impl Fn(&str) -> Option<PathBuf>) -> Dirs {
    let set = |name: &str| environment(name).filter(|path| !path.as_os_str().is_empty());
    let home = || set("HOME").unwrap_or_else(|| PathBuf::from("/"));
    let system = PathBuf::from("/etc/spoolgate/spoolgate.toml").exists();
    let config = config.or_else(|| set("SPOOLGATE_CONFIG")).unwrap_or_else(|| {
        if system {
            return PathBuf::from("/etc/spoolgate");
        }
        set("XDG_CONFIG_HOME").unwrap_or_else(|| home().join(".config")).join("spoolgate")
    });
    let state = state.or_else(|| set("SPOOLGATE_STATE")).unwrap_or_else(|| {
        if system {
            return PathBuf::from("/var/lib/spoolgate");
        }
        set("XDG_STATE_HOME").unwrap_or_else(|| home().join(".local/state")).join("spoolgate")
    });
    // The watcher of the spool names files by their whole paths.
    let whole = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    Dirs { config: whole(config), state: whole(state) }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Failure {
        match error {
            DaemonError::Config(error) => error.into(),
            other => Failure::new(Kind::Unavailable, other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn directories_are_chosen_in_order() {
        let environment = |name: &str| match name {
            "HOME" => Some(PathBuf::from("/home/me")),
            "SPOOLGATE_STATE" => Some(PathBuf::from("/s")),
            _ => None,
        };
        let dirs = directories(Some("/c".into()), None, environment);
        assert_eq!(dirs, Dirs { config: "/c".into(), state: "/s".into() });
        let dirs = directories(None, None, |name| (name == "HOME").then(|| "/home/me".into()));
        assert_eq!(dirs.state, PathBuf::from("/home/me/.local/state/spoolgate"));
        assert_eq!(dirs.config, PathBuf::from("/home/me/.config/spoolgate"));
    }

    #[test]
    fn what_is_wrong_with_a_command_line_is_a_failure_like_others() {
        for (line, message, hint) in [
            (
                "spoolgate hold 7",
                "arguments were not provided: --reason <REASON>",
                "spoolgate hold --reason <REASON> <TASK>",
            ),
            ("spoolgate ls --in nowhere", "invalid value 'nowhere'", "spoolgate --help"),
            ("spoolgate frobnicate", "unrecognized subcommand 'frobnicate'", "spoolgate [OPTIONS]"),
            ("spoolgate wait", "arguments were not provided: <TASKS>...", "spoolgate wait"),
        ] {
            let error = Arguments::try_parse_from(line.split(' ')).unwrap_err();
            let failure = usage(&error.to_string());
            assert_eq!(failure.exit_code(), (2, "E-USAGE"));
            assert!(failure.message.contains(message), "{line}: {}", failure.message);
            assert!(failure.hint.as_ref().unwrap().starts_with(hint), "{line}: {:?}", failure.hint);
            assert!(!failure.message.contains('\n') && !failure.message.starts_with("error"), "{}", failure.message);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        let command = Arguments::command();
        command.clone().debug_assert();
        let of_all = command.get_arguments().filter(|arg| arg.is_global_set());
        let of_all: Vec<&str> = of_all.map(|arg| arg.get_id().as_str()).collect();
        assert!(of_all.contains(&"state"), "{of_all:?}");
        for verb in command.get_subcommands() {
            for arg in verb.get_arguments().map(|arg| arg.get_id().as_str()) {
                assert!(!of_all.contains(&arg), "{} --{arg} hides the --{arg} of every verb", verb.get_name());
            }
        }
    }
}
