//! What a step's script is told beside what the plan says. Floor 1.
//!
//! **Invariant:** pure. Nothing of it is in the plan, so nothing of it decides what runs.

use std::collections::BTreeMap;

use crate::base::ids::ParamName;
use crate::base::text::Secret;
use crate::domain::callback::Callback;
use crate::domain::run::earlier::Earlier;

/// What a step's script is told beside what the plan says.
#[derive(Clone, Debug)]
pub struct Told<'a> {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Which batch of its group, from 1.
    pub batch: u32,
    /// What came before it on the host.
    pub earlier: &'a Earlier,
    /// Where it may say how far it is.
    pub callback: Option<&'a Callback>,
    /// The values of the secrets that the plan names for it.
    pub secrets: &'a BTreeMap<ParamName, Secret>,
}

impl Told<'_> {
    /// Returns what a script is told that nothing came before, in a plan that nobody runs yet.
    #[must_use]
    pub fn preview<'a>(earlier: &'a Earlier, secrets: &'a BTreeMap<ParamName, Secret>) -> Told<'a> {
        Told { attempt: 1, batch: 1, earlier, callback: None, secrets }
    }
}
