//! What goes into a process and what comes back, whatever carries it.
//!
//! **Invariant:** exit code and exit signal are never folded into one number.

use serde::{Deserialize, Serialize};

/// One of a process's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecEnd {
    /// It exited with this code.
    Exit(i32),
    /// This signal ended it, without `SIG` in front.
    Signal(String),
}
