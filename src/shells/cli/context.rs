//! What every verb needs. Floor 4.
//!
//! **Invariant:** nothing is read before a verb asks for it.

use crate::adapters::config::Config;
use crate::adapters::spool::layout::Layout;
use crate::shells::cli::failure::Failure;
use crate::shells::cli::output::Output;
use crate::shells::configuration::{Dirs, read_configuration};

/// What every verb needs.
pub(in crate::shells) struct Context {
    pub(in crate::shells) dirs: Dirs,
    pub(in crate::shells) layout: Layout,
    pub(in crate::shells) output: Output,
}

impl Context {
    /// Reads the configuration, and says what is odd about it.
    pub(in crate::shells) fn config(&self) -> Result<Config, Failure> {
        let read = read_configuration(&self.dirs)?;
        for note in read.notes {
            self.output.say(note);
        }
        Ok(read.config)
    }
}
