//! `gc`: removes what old tasks printed. Floor 4.
//!
//! **Invariant:** plans, events, records, history and audit stay for ever; only output goes, of tasks that ended long ago,
//! and files in `bad/`. A task that somebody takes again meanwhile keeps its output: it has not ended any more.

use std::path::Path;
use std::time::Duration;

use clap::Args;

use crate::adapters::spool::reader;
use crate::base::time::Timestamp;
use crate::domain::run::TaskState;
use crate::shells::cli::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::clock::now;

/// Arguments of `gc`.
#[derive(Debug, Args)]
pub(super) struct Gc {
    /// Since when a task must have ended: days such as 365d.
    #[arg(long, value_parser = days)]
    older_than: Duration,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
}

fn days(text: &str) -> Result<Duration, String> {
    let days =
        text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok()).filter(|days| (1..=36_500).contains(days));
    days.map(|days| Duration::from_secs(days * 86_400)).ok_or_else(|| "wanted days: 365d".to_owned())
}

impl Gc {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let old = Timestamp(now().0 - i64::try_from(self.older_than.as_millis()).unwrap_or(i64::MAX));
        let layout = &context.layout;
        let (mut count, mut bytes) = (0, 0);
        for line in reader::history(layout)? {
            let output = layout.run(line.id).join("output");
            let done = layout.state(TaskState::Done).join(format!("{}.json", line.id));
            if line.ended >= old || !output.is_dir() || !done.is_file() {
                continue;
            }
            let found = size(&output);
            if !self.dry_run && !remove(&output, &done)? {
                continue;
            }
            bytes += found;
            count += 1;
        }
        let mut bad = 0;
        for entry in std::fs::read_dir(layout.bad()).map_err(|error| failed(&layout.bad(), &error))? {
            let entry = entry?;
            if !entry.file_type()?.is_file() {
                continue;
            }
            let changed = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if changed >= self.older_than {
                bad += 1;
                if !self.dry_run {
                    std::fs::remove_file(entry.path()).map_err(|error| failed(&entry.path(), &error))?;
                }
            }
        }
        if context.output.json {
            let said = serde_json::json!({"tasks": count, "bytes": bytes, "bad": bad, "removed": !self.dry_run});
            return context.output.object(said);
        }
        let verb = if self.dry_run { "would remove" } else { "removed" };
        context.output.line(format!("{verb} the output of {count} task(s), {bytes} bytes, and {bad} file(s) of bad/"))
    }
}

/// Removes the output of a task whose record is `done`; `false` when somebody took it again meanwhile.
fn remove(output: &Path, done: &Path) -> Result<bool, Failure> {
    let aside = output.with_file_name(".output-removed");
    std::fs::rename(output, &aside).map_err(|error| failed(output, &error))?;
    if !done.is_file() && !output.exists() {
        std::fs::rename(&aside, output).map_err(|error| failed(&aside, &error))?;
        return Ok(false);
    }
    std::fs::remove_dir_all(&aside).map_err(|error| failed(&aside, &error))?;
    Ok(true)
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Unavailable, format!("cannot remove {}: {error}", path.display()))
        .hint("run it as the daemon's user")
}

/// Counts the bytes of the files in a directory.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let size_of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(size_of).sum()
}
