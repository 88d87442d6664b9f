//! Identifiers: one type and one parser each.
//!
//! **Invariant:** a value of these types is safe as a file name and as a word on a line; none can hold a
//! slash, a control character or a leading dot or dash.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::limits;

/// The number of a task, given by the daemon; people say and type it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The number of a group of hosts in a task; groups run in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupNo(pub u32);

impl fmt::Display for GroupNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Text that is not an identifier of the wanted kind; its text says what was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {kind}: {rule}")]
pub struct BadId {
    /// What was wanted, in words.
    pub kind: &'static str,
    /// The rule that the text breaks.
    pub rule: &'static str,
}

/// Whether a name may begin with a character.
fn word_start(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Declares a text identifier with its parser and its serde form.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $max:expr, $first:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<$name, BadId> {
                let allowed: fn(char) -> bool = $allowed;
                let starts_well = text.chars().next().is_some_and($first);
                if starts_well && text.len() <= $max && text.chars().all(allowed) {
                    Ok($name(text.to_owned()))
                } else {
                    Err(BadId { kind: $kind, rule: $rule })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// The name or address of a host, as the inventory or a task writes it.
    HostName, "host name", "letters, digits and . _ : - only, first a letter or digit, at most 253 bytes",
    limits::HOST_NAME_BYTES_MAX, word_start, |c| c.is_alphanumeric() || matches!(c, '.' | '_' | ':' | '-')
);
text_id!(
    /// The name of a template in the catalogue.
    TemplateName, "template name", "letters, digits and . _ - only, first a letter or digit, at most 100 bytes",
    limits::NAME_BYTES_MAX, word_start, |c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-')
);
text_id!(
    /// The name of a step; unique inside its template, and the name of its log file.
    StepName, "step name", "letters, digits and . _ - only, first a letter or digit, at most 100 bytes",
    limits::NAME_BYTES_MAX, word_start, |c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-')
);
text_id!(
    /// The name of a parameter, which is also the name of an environment variable.
    ParamName, "parameter name", "ASCII letters, digits and _ only, first no digit, at most 100 bytes",
    limits::NAME_BYTES_MAX, |c: char| c.is_ascii_alphabetic() || c == '_', |c| c.is_ascii_alphanumeric() || c == '_'
);
text_id!(
    /// The name of a secret: of a file, of an entry of `secrets.toml`, or of a systemd credential.
    SecretName, "name of a secret", "letters, digits and . _ - only, first a letter or digit, at most 100 bytes",
    limits::NAME_BYTES_MAX, word_start, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
);
text_id!(
    /// A Unix account name.
    UserName, "user name", "letters, digits and . _ - only, first a letter, digit or _, at most 100 bytes",
    limits::NAME_BYTES_MAX, word_start, |c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-')
);

text_id!(
    /// The name of an HTTP token.
    TokenName, "token name", "ASCII letters, digits and . _ - only, first a letter or digit, at most 100 bytes",
    limits::NAME_BYTES_MAX, |c: char| c.is_ascii_alphanumeric(), |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
);

/// Where the numbers begin that stand for HTTP tokens. No account has such a number: systemd and the kernel's user
/// namespaces keep away from the upper half.
const TOKEN_UIDS: u32 = 1 << 31;

/// Who did something: what the kernel says of the owner of the file, never what a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// The numeric user id.
    pub uid: u32,
    /// The user's name, or `uid-N` when the system knows no name for the number.
    pub user: String,
}

impl Actor {
    /// Returns who acts with the token that has this number and name; in rules it is `token:NAME`.
    #[must_use]
    pub fn of_token(number: u32, name: &TokenName) -> Actor {
        Actor { uid: TOKEN_UIDS | number, user: format!("token:{name}") }
    }

    /// Whether the system knows no account of this number. One person may own many such numbers (subuid(5)).
    #[must_use]
    pub fn is_nameless(&self) -> bool {
        self.user.strip_prefix("uid-").is_some_and(|number| number == self.uid.to_string())
    }

    /// Whether this is a token and not somebody whom the system knows.
    #[must_use]
    pub fn is_token(&self) -> bool {
        is_token_uid(self.uid)
    }
}

/// Whether a number stands for a token.
#[must_use]
pub fn is_token_uid(uid: u32) -> bool {
    uid >= TOKEN_UIDS
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_token() {
            return f.write_str(&self.user);
        }
        write!(f, "{} (uid {})", self.user, self.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_names_are_names_of_variables() {
        assert!("_A1".parse::<ParamName>().is_ok());
        for bad in ["1A", "a-b", "a b", "", "\u{53d1}"] {
            assert!(bad.parse::<ParamName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_names_hold_nothing_a_shell_or_a_path_could_read() {
        for good in ["web1", "10.0.0.1", "fe80::1", "数据库-db-07", "a_b.c"] {
            assert_eq!(good.parse::<HostName>().map(|h| h.to_string()), Ok(good.to_owned()));
        }
        let long = "a".repeat(254);
        for bad in ["", "-oProxyCommand=x", ".", "..", "a/b", "10.0.0.1;id", "a b", "a\n", "$(id)", "a\u{202e}b", &long]
        {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
    }
}
