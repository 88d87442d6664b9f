//! CODO's one-time keys: who posts has asked before, with the same token.
//!
//! **Invariant:** a key is good once, for the token that got it, for half an hour. They are lost with the daemon: a client
//! asks for one right before it posts.

use std::collections::{HashMap, VecDeque};
use std::io::Read as _;

use crate::base::limits;
use crate::base::time::Timestamp;

/// The keys that were given and not used, by token, the oldest first.
#[derive(Debug, Default)]
pub(super) struct OneTimeKeys(HashMap<u32, VecDeque<(String, Timestamp)>>);

impl OneTimeKeys {
    /// Gives a key to a token.
    pub(super) fn give(&mut self, token: u32, now: Timestamp) -> std::io::Result<String> {
        let key = random()?;
        let keys = self.0.entry(token).or_default();
        while keys.len() >= limits::CSRF_KEYS_MAX || keys.front().is_some_and(|(_, since)| is_over(*since, now)) {
            keys.pop_front();
        }
        keys.push_back((key.clone(), now));
        Ok(key)
    }

    /// Takes a key; `false` when it was not given to this token, was used, or is too old.
    pub(super) fn take(&mut self, token: u32, key: &str, now: Timestamp) -> bool {
        let Some(keys) = self.0.get_mut(&token) else { return false };
        let Some(at) = keys.iter().position(|(known, _)| known == key) else { return false };
        keys.remove(at).is_some_and(|(_, since)| !is_over(since, now))
    }
}

fn is_over(since: Timestamp, now: Timestamp) -> bool {
    // A clock that was set back makes no key good for longer: whoever has one asks for another.
    !(0..=limits::CSRF_S * 1000).contains(&now.0.saturating_sub(since.0))
}

/// Returns 128 random bits in letters and digits.
fn random() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_good_once_for_its_token_and_its_time() {
        let mut keys = OneTimeKeys::default();
        let key = keys.give(1, Timestamp(0)).expect("random");
        assert!(!keys.take(2, &key, Timestamp(1)), "another token's");
        assert!(keys.take(1, &key, Timestamp(1)));
        assert!(!keys.take(1, &key, Timestamp(1)), "used");
        let old = keys.give(1, Timestamp(0)).expect("random");
        assert!(!keys.take(1, &old, Timestamp(1_800_001)));
        let ahead = keys.give(1, Timestamp(1)).expect("random");
        assert!(!keys.take(1, &ahead, Timestamp(0)), "the clock was set back");
        let first = keys.give(1, Timestamp(0)).expect("random");
        for _ in 0..limits::CSRF_KEYS_MAX {
            keys.give(1, Timestamp(1)).expect("random");
        }
        assert!(!keys.take(1, &first, Timestamp(1)), "the oldest goes when there are too many");
    }
}
