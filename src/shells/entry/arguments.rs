//! The command line as it is typed. Floor 4.
//!
//! **Invariant:** a verb is one line here, with its words for `--help`; what it does stands in its own file.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::shells::cli::{audit, check, gc, hook, logs, ls, order, policy, show, submit, template, token, watch};
use crate::shells::entry::{looks, top};

/// Operations tasks as files: an exact plan, approved by the right people, run once per host over SSH.
#[derive(Debug, Parser)]
#[command(name = "spoolgate", version, disable_help_subcommand = true)]
pub(super) struct Arguments {
    /// Configuration directory [/etc/spoolgate, else ~/.config/spoolgate].
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) config: Option<PathBuf>,
    /// State directory [/var/lib/spoolgate, else ~/.local/state/spoolgate].
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    /// Print JSON: one object, or one line per item for streams; an error is one object, the last line on stderr.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Print only data and errors.
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
    #[command(flatten)]
    pub(super) looks: looks::Looks,
    /// The command [on a terminal: the dashboard].
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show the dashboard: every task and host live, and approvals.
    Top(top::Top),
    /// Restore the terminal after the dashboard was killed.
    ResetTty,
    /// Serve the spool until stopped (TERM, INT); HUP reloads the configuration.
    Daemon,
    /// Submit a task file and print the task's number.
    Submit(submit::Submit),
    /// Check a task file and list every problem; needs no daemon.
    Check(check::Check),
    /// Print exactly what would run where, and its digest; needs no daemon and no network.
    Plan(check::PlanOf),
    /// List tasks.
    Ls(ls::Ls),
    /// Show a task: its state, hosts, results and history.
    Show(show::Show),
    /// Approve the plan you reviewed.
    Approve(order::Approve),
    /// Reject a task; it never runs.
    Reject(order::WithReason),
    /// Withdraw your approval before the task starts.
    Withdraw(order::Withdraw),
    /// Cancel a task, or its work on some hosts: running steps are stopped, the rest never starts.
    Cancel(order::Cancel),
    /// Hold a task: nothing more of it starts; running steps go on.
    Hold(order::WithReason),
    /// Release a held task, or start a manual step.
    Release(order::Release),
    /// Run failed steps again, also of a task that has ended.
    Retry(order::Retry),
    /// Start the next batch.
    Continue(order::Withdraw),
    /// Skip a step on hosts that are stopped at it.
    Skip(order::Skip),
    /// Print the output of steps.
    Logs(logs::Logs),
    /// Follow tasks: one line per event, or one JSON object.
    Watch(watch::Watch),
    /// Wait for tasks and exit with their result.
    Wait(watch::Wait),
    /// Read and verify the audit log: verify, tail, show, head.
    Audit(audit::Audit),
    /// Check the policy, or explain a decision: check, explain.
    Policy(policy::PolicyVerb),
    /// Create, list and revoke HTTP tokens.
    Token(token::TokenVerb),
    /// Delete old task output and old files in bad/; everything else is kept.
    Gc(gc::Gc),
    /// Install a Git hook, test its rules, or run as one.
    Hook(hook::Hook),
    /// List, show and check templates, or import CODO's.
    Template(template::TemplateVerb),
    /// List the hosts of the inventory.
    Hosts,
}
