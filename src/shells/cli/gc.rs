//! `gc`: removes what old tasks printed, and old files in `bad/`. Floor 4.
//!
//! **Invariant:** chooses what is old and says what went; [`gc`] removes, and keeps everything else.

use std::time::Duration;

use clap::Args;

use crate::adapters::spool::{gc, reader};
use crate::adapters::users;
use crate::base::time::Timestamp;
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::Failure;
use crate::shells::clock::now;

/// Arguments of `gc`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Gc {
    /// The age from which output and refused files are deleted, in days, such as 365d.
    #[arg(long, value_parser = days)]
    older_than: Duration,
    /// Print what would be deleted, and delete nothing.
    #[arg(long)]
    dry_run: bool,
}

fn days(text: &str) -> Result<Duration, String> {
    let days =
        text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok()).filter(|days| (1..=36_500).contains(days));
    days.map(|days| Duration::from_secs(days.saturating_mul(86_400))).ok_or_else(|| "wanted days: 365d".to_owned())
}

impl Gc {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let old = Timestamp(now().0.saturating_sub(i64::try_from(self.older_than.as_millis()).unwrap_or(i64::MAX)));
        let layout = &context.layout;
        let failed = |error| Failure::from(error).hint("run it as the daemon's user");
        let (mut count, mut bytes) = (0_usize, 0_u64);
        let me = users::actor(nix::unistd::geteuid().as_raw());
        let by = (!self.dry_run).then(|| (now(), &me));
        for line in reader::history(layout)? {
            if let Some(removed) = gc::output(layout, line.id, line.ended < old, by).map_err(failed)? {
                bytes = bytes.saturating_add(removed);
                count = count.saturating_add(1);
            }
        }
        let bad = gc::bad(layout, self.older_than, self.dry_run)?;
        if context.output.json {
            let said = serde_json::json!({"tasks": count, "bytes": bytes, "bad": bad, "removed": !self.dry_run});
            return context.output.object(said);
        }
        let verb = if self.dry_run { "would remove" } else { "removed" };
        context.output.line(format!("{verb} the output of {count} task(s), {bytes} bytes, and {bad} file(s) of bad/"))
    }
}
