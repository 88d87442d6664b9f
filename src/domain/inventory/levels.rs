//! Projects, clusters and applications: what a group may say that it is. Floor 1.
//!
//! **Invariant:** pure. A group is what its own variables say, whatever it stands in.

use std::collections::{BTreeMap, BTreeSet};

use super::host::{Vars, first};
use crate::base::ids::HostName;

/// What a group may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The whole of something: `ZDOPS_PROJECT`.
    Project,
    /// A part of a project: `ZDOPS_CLUSTER`.
    Cluster,
    /// What is published: `ZDOPS_APP`.
    App,
}

impl Level {
    /// All of them, the widest first.
    pub const ALL: [Level; 3] = [Level::Project, Level::Cluster, Level::App];

    /// Returns the word that selectors use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Level::Project => "project",
            Level::Cluster => "cluster",
            Level::App => "app",
        }
    }

    /// Returns the variables that name it, the one that counts first.
    #[must_use]
    pub fn variables(self) -> [&'static str; 2] {
        match self {
            Level::Project => ["ZDOPS_PROJECT", "project"],
            Level::Cluster => ["ZDOPS_CLUSTER", "cluster"],
            Level::App => ["ZDOPS_APP", "app"],
        }
    }

    /// Reads the word that selectors use.
    pub(super) fn of_word(word: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.word() == word)
    }
}

/// The hosts of each project, cluster and application that a group says it is.
pub type Levels = BTreeMap<(Level, String), BTreeSet<HostName>>;

/// Adds what a group says that it is.
pub(super) fn note(levels: &mut Levels, own: &Vars, members: &BTreeSet<HostName>) {
    for level in Level::ALL {
        let name = first(own, &level.variables());
        if !name.is_empty() {
            levels.entry((level, name.to_owned())).or_default().extend(members.iter().cloned());
        }
    }
}
