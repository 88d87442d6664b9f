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
    /// Print JSON: one object, or one line each for streams; a failure is an object on stderr, its last line.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Say nothing but data and failures.
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
    #[command(flatten)]
    pub(super) looks: looks::Looks,
    /// What to do [on a terminal: show the dashboard].
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show the dashboard: every task and host, live, and the place to approve.
    Top(top::Top),
    /// Make a terminal sane again that a killed dashboard left odd.
    ResetTty,
    /// Serve the spool until told to stop (TERM, INT); HUP reads the configuration again.
    Daemon,
    /// Drop a task into the spool and wait for its number.
    Submit(submit::Submit),
    /// Say everything that is wrong with a task file; needs no daemon.
    Check(check::Check),
    /// Print what exactly would run where, and the digest; needs no daemon and no network.
    Plan(check::PlanOf),
    /// List tasks.
    Ls(ls::Ls),
    /// Show everything about a task.
    Show(show::Show),
    /// Let exactly the plan you saw run.
    Approve(order::Approve),
    /// Refuse a task for good.
    Reject(order::WithReason),
    /// Take back your approval, while the task has not begun.
    Withdraw(order::Withdraw),
    /// Stop a task, or its work on some hosts: what runs is ended, what has not started never starts.
    Cancel(order::Cancel),
    /// Start nothing more of a task for now; what runs goes on.
    Hold(order::WithReason),
    /// Let a held task go on, or a manual step begin.
    Release(order::Release),
    /// Take again what did not end well, also when the task has ended.
    Retry(order::Retry),
    /// Let the next batch begin.
    Continue(order::Withdraw),
    /// Let hosts go on without a step.
    Skip(order::Skip),
    /// Print what steps printed.
    Logs(logs::Logs),
    /// Print what happens, one sentence or one JSON line each.
    Watch(watch::Watch),
    /// Wait until tasks have ended and end with their result.
    Wait(watch::Wait),
    /// Look at the chain of acts: verify, tail, show, head.
    Audit(audit::Audit),
    /// Look at the rules: check, explain.
    Policy(policy::PolicyVerb),
    /// Make, list and revoke HTTP tokens.
    Token(token::TokenVerb),
    /// Remove what tasks printed that ended long ago, and files that stood in bad/ as long; everything else stays.
    Gc(gc::Gc),
    /// Git hooks: install one, try the rules, or be one.
    Hook(hook::Hook),
    /// List, show and check templates; make some of CODO's.
    Template(template::TemplateVerb),
    /// List the hosts of the inventory.
    Hosts,
}
