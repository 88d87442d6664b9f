//! What lets a running script say how far it is: an address, and a token for its one attempt at one step on one host.
//!
//! **Invariant:** pure. A token names its place and is signed; whoever does not have the key makes none, and it is good only
//! while the attempt runs. It travels on stdin and stands in no file, plan or log of ours.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::base::ids::{GroupNo, HostName, SecretName, StepName, TaskId};
use crate::base::text::Secret;

/// How tokens begin.
pub const CALLBACK_PREFIX: &str = "sgc_";

/// One attempt at a step on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The task.
    pub task: TaskId,
    /// The group.
    pub group: GroupNo,
    /// The host.
    pub host: HostName,
    /// The step.
    pub step: StepName,
    /// Which attempt, from 1.
    pub attempt: u32,
}

/// Where a script reports to, and with what.
#[derive(Clone, PartialEq, Eq)]
pub struct Callback {
    /// The address.
    pub url: String,
    /// The token.
    pub token: String,
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callback({}, a token)", self.url)
    }
}

/// What tokens are signed with.
#[derive(Clone)]
pub struct CallbackKey(pub [u8; 32]);

impl fmt::Debug for CallbackKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackKey")
    }
}

impl CallbackKey {
    /// Makes the token of an attempt.
    #[must_use]
    pub fn token(&self, attempt: &Attempt) -> String {
        let Attempt { task, group, host, step, attempt } = attempt;
        let place = serde_json::json!([task, group, host, step, attempt]).to_string();
        let sign = BASE64_URL_SAFE_NO_PAD.encode(self.mac(place.as_bytes()).finalize().into_bytes());
        format!("{CALLBACK_PREFIX}{}.{sign}", BASE64_URL_SAFE_NO_PAD.encode(place))
    }

    /// Returns what a token is for; `None` when it was not made with this key.
    #[must_use]
    pub fn open(&self, token: &str) -> Option<Attempt> {
        let (place, sign) = token.strip_prefix(CALLBACK_PREFIX)?.split_once('.')?;
        let place = BASE64_URL_SAFE_NO_PAD.decode(place).ok()?;
        let sign = BASE64_URL_SAFE_NO_PAD.decode(sign).ok()?;
        // Compares in constant time.
        self.mac(&place).verify_slice(&sign).ok()?;
        let (task, group, host, step, attempt) = serde_json::from_slice(&place).ok()?;
        Some(Attempt { task, group, host, step, attempt })
    }

    /// Returns what tells these secrets from others, and from whom the key is kept nothing of them.
    #[must_use]
    pub fn seal<'a>(&self, secrets: impl Iterator<Item = (&'a SecretName, &'a Secret)>) -> String {
        // Tokens are JSON and begin otherwise: neither can be taken for the other.
        let mut mac = self.mac(b"secrets\0");
        for (name, secret) in secrets {
            mac.update(format!("{name} {} ", secret.reveal().len()).as_bytes());
            mac.update(secret.reveal().as_bytes());
        }
        BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }

    fn mac(&self, place: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(place);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_with_its_own_key_only_and_no_other_byte() {
        let attempt = Attempt {
            task: TaskId(7),
            group: GroupNo(1),
            host: "数据库-1".parse().expect("a name"),
            step: "publish".parse().expect("a name"),
            attempt: 2,
        };
        let key = CallbackKey([7; 32]);
        let token = key.token(&attempt);
        assert_eq!(key.open(&token), Some(attempt));
        assert_eq!(CallbackKey([8; 32]).open(&token), None);
        for n in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[n] = if other[n] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).expect("ASCII");
            assert!(key.open(&other).is_none(), "byte {n}");
        }
        for other in ["", "sgc_", "sgc_.", "sgc_e30.e30", "x"] {
            assert_eq!(key.open(other), None);
        }
    }
}
