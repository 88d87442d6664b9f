//! Floor 4: what people and the system start.
//!
//! **Invariant:** shells read arguments, the environment and the clock, and hand them down as values.

pub mod cli;
pub mod clock;
pub mod daemon;

use std::path::PathBuf;

use crate::adapters::config::Surroundings;
use crate::adapters::users;

/// Where configuration and state stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// The configuration directory.
    pub config: PathBuf,
    /// The state directory.
    pub state: PathBuf,
}

/// Returns what configuration falls back to.
fn surroundings(dirs: &Dirs) -> Surroundings {
    use std::os::unix::fs::MetadataExt as _;
    let uid = users::current_uid();
    Surroundings {
        user: users::actor(uid).user,
        home: users::home(uid).unwrap_or_else(|| PathBuf::from("/")),
        // Before the first start there is no state directory; whoever starts the daemon will own it.
        owner: std::fs::metadata(&dirs.state).map_or(uid, |meta| meta.uid()),
    }
}
