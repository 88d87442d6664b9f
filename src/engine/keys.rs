//! Idempotency keys, and whose they are. Floor 2.
//!
//! **Invariant:** nobody takes another's key; the newest task with a key is the one that it stands for.

use crate::base::digest::Digest;
use crate::base::ids::TaskId;
use crate::base::time::Timestamp;
use crate::domain::run::Accepted;

/// An idempotency key and the uid whose it is: nobody can take another's, or report a push in another's place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyOf(u32, String);

impl KeyOf {
    pub(super) fn new(key: &str, uid: u32) -> KeyOf {
        KeyOf(uid, key.to_owned())
    }
}

/// The newest task with a key.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    pub(super) id: TaskId,
    /// Of its submission's bytes.
    pub(super) digest: Digest,
    /// When it was accepted.
    pub(super) at: Timestamp,
    /// The hooks that reported the push that it is about.
    pub(super) hooks: Vec<String>,
}

/// Returns the idempotency key of a task, if it has one, and what is known by it.
pub(super) fn keyed(id: TaskId, accepted: &Accepted, at: Timestamp) -> Option<(KeyOf, Keyed)> {
    let key = accepted.idempotency_key.as_ref()?;
    let digest = Digest::of(accepted.submission.as_bytes());
    let hooks = accepted.hook.iter().cloned().collect();
    Some((KeyOf::new(key, accepted.by.uid), Keyed { id, digest, at, hooks }))
}
