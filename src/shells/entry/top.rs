//! `top`: the dashboard, or one frame of it. Floor 4.
//!
//! **Invariant:** without a terminal nothing is painted but a single frame, as text.

use std::io::IsTerminal as _;

use clap::Args;
use clap::builder::StyledStr;

use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::dashboard::{self, DashboardError, Options, terminal};
use crate::shells::entry::looks::Looks;

/// Arguments of `top`.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// Print one frame as text and exit.
    #[arg(long)]
    once: bool,
    /// The size of that frame [the terminal's, or 80x24].
    #[arg(long, value_name = "COLUMNSxROWS", value_parser = size)]
    size: Option<(u16, u16)>,
    /// The screen of that frame: board, hosts, history, audit, templates, or a task's number.
    #[arg(long)]
    view: Option<String>,
    #[command(flatten)]
    looks: Looks,
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let sizes = text.split_once('x').and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)));
    sizes
        .filter(|(columns, rows)| (1..=1000).contains(columns) && (1..=1000).contains(rows))
        .ok_or_else(|| "wanted columns and rows, as in 80x24".to_owned())
}

impl Top {
    pub(super) fn run(self, context: &Context, before: Looks) -> Result<(), Failure> {
        let options = Options { view: self.view, size: self.size, ..self.looks.over(before).options() };
        if self.once {
            return context.output.bytes(dashboard::once(&context.dirs, &options)?.as_bytes());
        }
        if !is_terminal() {
            let message = "the dashboard needs a terminal";
            return Err(Failure::new(Kind::Usage, message).hint("spoolgate top --once; spoolgate ls; spoolgate watch"));
        }
        Ok(dashboard::run(&context.dirs, &options)?)
    }
}

fn is_terminal() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !dumb
}

/// Shows the dashboard on a terminal, and help elsewhere.
pub(super) fn without_verb(context: &Context, looks: Looks, help: &StyledStr) -> Result<(), Failure> {
    if is_terminal() {
        return Ok(dashboard::run(&context.dirs, &looks.options())?);
    }
    context.output.say(help.to_string());
    Err(Failure::new(Kind::Usage, "no verb, and no terminal for the dashboard"))
}

/// Brings a terminal back from whatever a killed dashboard left.
pub(super) fn reset_tty() -> Result<(), Failure> {
    terminal::give_back();
    let failed = |error: std::io::Error| Failure::new(Kind::Unavailable, format!("stty sane: {error}"));
    let modes = terminal::remembered_modes().unwrap_or_else(|| "sane".to_owned());
    std::process::Command::new("stty").arg(modes).status().map(drop).map_err(failed)
}

impl From<DashboardError> for Failure {
    fn from(error: DashboardError) -> Failure {
        let kind = match &error {
            DashboardError::Word { .. } => Kind::Usage,
            DashboardError::NoTask(_) => Kind::NotFound,
            DashboardError::State { .. } | DashboardError::Terminal(_) => Kind::Unavailable,
        };
        let hint = matches!(error, DashboardError::State { .. }).then_some("spoolgate daemon, or another --state");
        let failure = Failure::new(kind, error.to_string());
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
