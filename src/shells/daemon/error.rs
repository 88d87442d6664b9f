//! Why the daemon did not start, or stopped. Floor 4.
//!
//! **Invariant:** every variant says what to do next, itself or by what it wraps.

use crate::adapters::config::ConfigError;
use crate::adapters::http::HttpError;
use crate::adapters::spool::SpoolError;

/// Why the daemon did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The spool could not be read or written.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The runtime could not be set up.
    #[error("cannot set up the event loop: {0}")]
    Runtime(#[from] std::io::Error),
    /// HTTP is configured and cannot be answered.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The configuration names a group that the system does not have.
    #[error("spoolgate.toml names the group {0}, which this system does not have; create it or name another")]
    NoGroup(String),
    /// Without its policy everything would be allowed to the owner of the state.
    #[error("policy.toml is missing, and this state was under a policy; put it back, or remove {mark} to go on in personal mode", mark = mark.display())]
    PolicyGone {
        /// What remembers the policy.
        mark: std::path::PathBuf,
    },
}
