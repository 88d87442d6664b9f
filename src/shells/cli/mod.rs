//! The verbs of the command line: one file each. Floor 4.
//!
//! **Invariant:** writes only drop files and orders, like everybody else; reads the same files through the same fold
//! as the daemon.

pub(super) mod audit;
pub(super) mod check;
pub(super) mod context;
pub(super) mod failure;
pub(super) mod gc;
pub(super) mod hook;
pub(super) mod listing;
pub(super) mod log_line;
mod login_keys;
pub(super) mod logs;
pub(super) mod ls;
pub(super) mod order;
pub(super) mod output;
pub(super) mod policy;
mod sentences;
pub(super) mod show;
pub(super) mod submit;
mod tasks;
pub(super) mod template;
pub(super) mod token;
mod verify;
pub(super) mod watch;
