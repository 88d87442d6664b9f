//! Where configuration and state stand, and the configuration read whole. Floor 4.
//!
//! **Invariant:** every shell reads the configuration here; the daemon believes nothing of it that others could change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::adapters::config::{self, Config, ConfigError, Surroundings};
use crate::adapters::file_folder::FileFolder;
use crate::adapters::sources::Sources;
use crate::adapters::{repo, strict_modes, tokens, users};
use crate::base::digest::Digest;
use crate::shells::clock;

/// Where configuration and state stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// The configuration directory.
    pub config: PathBuf,
    /// The state directory.
    pub state: PathBuf,
}

/// The configuration as it stood at one moment, with what its templates name outside of it.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) config: Config,
    /// To see whether it changed.
    pub(super) sources: Sources,
    /// What is odd and stands in nobody's way, one sentence each.
    pub(super) notes: Vec<String>,
    /// What was read, for the audit: the digest of the policy and of everything.
    pub(super) digests: String,
}

/// Reads the configuration, and the tags of the repositories that its templates name.
pub(super) fn read_configuration(dirs: &Dirs) -> Result<Configuration, ConfigError> {
    let begun = clock::now();
    let mut config = config::load(&dirs.config, &surroundings(dirs))?;
    let (mut files, mut notes) = (config.files.clone(), Vec::new());
    for repository in config.library.catalogue.repositories() {
        let path = Path::new(repository);
        files.extend(repo::tag_files(path));
        match repo::tags(path) {
            Ok(tags) => drop(config.library.tags.insert(repository.to_owned(), tags)),
            Err(error) => notes.push(error.to_string()),
        }
    }
    let folder = FileFolder::new(dirs.config.join("files"));
    let watched = folder.folders();
    config.library.files = Arc::new(folder);
    notes.extend(known_hosts_notes(&config));
    let policy = std::fs::read(dirs.config.join("policy.toml")).map(|bytes| Digest::of(&bytes).to_string());
    let policy = policy.unwrap_or_else(|_| "none".to_owned());
    let sources = Sources::look(files, watched, begun).until(config.expires);
    // Whoever reads the audit sees when a token was made or revoked.
    let tokens = match tokens::read(&dirs.config, &config.library.zone) {
        Ok(tokens) if tokens.0.is_empty() => String::new(),
        Ok(tokens) => {
            let good = tokens.0.iter().filter(|token| token.is_good(begun)).map(|token| token.name.as_str());
            format!(", good tokens: {}", good.collect::<Vec<_>>().join(" "))
        }
        Err(_) => ", tokens.toml cannot be read".to_owned(),
    };
    let digests = format!("policy.toml {policy}, all files {}{tokens}", sources.digest());
    Ok(Configuration { config, sources, notes, digests })
}

/// Reads the configuration as the daemon does, which believes nothing that others could change.
pub(super) fn read_trusted_configuration(dirs: &Dirs) -> Result<Configuration, ConfigError> {
    let read = read_configuration(dirs)?;
    let problems = strict_modes::weaknesses(&read.config.files, users::current_uid());
    if problems.is_empty() { Ok(read) } else { Err(ConfigError::Wrong { dir: dirs.config.clone(), problems }) }
}

/// How many lines of `known_hosts` that count for nothing are named.
const LINES_NAMED_MAX: usize = 3;

/// Says which lines of `known_hosts` count for nothing.
fn known_hosts_notes(config: &Config) -> Vec<String> {
    let odd = config.library.known_hosts.notes();
    let mut notes: Vec<String> = odd.iter().take(LINES_NAMED_MAX).map(ToString::to_string).collect();
    if odd.len() > LINES_NAMED_MAX {
        notes.push(format!("known_hosts: {} more lines count for nothing", odd.len().saturating_sub(LINES_NAMED_MAX)));
    }
    notes
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
