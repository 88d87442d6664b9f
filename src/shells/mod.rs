//! Floor 4: what people and the system start.
//!
//! **Invariant:** shells read arguments, the environment and the clock, and hand them down as values.

mod ask_ssh;
mod cli;
pub mod clock;
mod configuration;
pub mod daemon;
pub(crate) mod dashboard;
mod describe;
pub mod entry;
pub(crate) mod text;

pub use configuration::Dirs;
