//! Why something did not come back from a host. Floor 3.
//!
//! **Invariant:** every variant names the host. What hosts and workers say is made fit to be shown here.

use serde::{Deserialize, Serialize};

use crate::base::text::visible;
use crate::domain::mask::Masker;

/// What the SSH library says of a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct LibraryError {
    /// Its number, as in `libssh2.h`; none where it is not the protocol's.
    pub code: Option<i32>,
    /// Its words.
    pub message: String,
}

impl From<ssh2::Error> for LibraryError {
    fn from(error: ssh2::Error) -> LibraryError {
        let code = match error.code() {
            ssh2::ErrorCode::Session(code) => Some(code),
            ssh2::ErrorCode::SFTP(_) => None,
        };
        LibraryError { code, message: error.message().to_owned() }
    }
}

/// Why a key did not let us in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refused {
    /// Nobody signed with it.
    NotSigned {
        /// The key, as the agent calls it.
        name: String,
    },
    /// The host did not take it.
    ByHost {
        /// What the library says.
        message: String,
    },
}

/// Why something did not come back from a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SshError {
    /// No TCP connection.
    #[error("cannot connect to {host}: {why}; is sshd running and reachable?")]
    Connect {
        /// `address:port`.
        host: String,
        /// Why; each of its addresses where it is a name.
        why: String,
    },
    /// This process, or this machine, may open no more files.
    #[error("cannot connect to {host}: {why}; raise LimitNOFILE in the daemon's unit (ulimit -n)")]
    Short {
        /// `address:port`.
        host: String,
        /// What the system said.
        why: String,
    },
    /// The process that spoke with it ended before anything was sent.
    #[error(
        "cannot begin a session with {host}: the process that spoke with it ended, or did not answer; nothing was sent"
    )]
    Ended {
        /// `address:port`.
        host: String,
    },
    /// There is no process that could speak with it.
    #[error("cannot speak SSH with {host}: {why}")]
    Worker {
        /// `address:port`.
        host: String,
        /// Why not.
        why: String,
    },
    /// The command that leads there did not.
    #[error("cannot connect to {host} through its ProxyCommand: {why}{}", complaint(said))]
    Proxy {
        /// `address:port`.
        host: String,
        /// Why not.
        why: String,
        /// What the command wrote to its standard error.
        said: String,
    },
    /// Not logged in in time.
    #[error("cannot connect to {host}: {why}")]
    ConnectTimeout {
        /// `address:port`.
        host: String,
        /// What did not happen within which limit; of each address where it is a name.
        why: String,
    },
    /// The two sides speak, and no session came of it.
    #[error("cannot begin a session with {host}: {source}{said}")]
    Handshake {
        /// `address:port`.
        host: String,
        /// Why.
        source: LibraryError,
        /// What it said, with the words before it.
        said: String,
    },
    /// The host takes no connection now, and may in a moment.
    #[error(
        "{host} takes no connection from this machine at the moment: there are too many at once (MaxStartups, PerSourceMaxStartups \
             in its sshd_config), or it shuts this machine out for a while after failed logins (PerSourcePenalties); its sshd's \
             log says which"
    )]
    Crowded {
        /// `address:port`.
        host: String,
    },
    /// The two sides have no methods in common, or the host hung up before it named its own:
    /// [`Session::explain`](super::Session::explain) finds out.
    #[error("SSH handshake with {host} failed: {source}")]
    Disagreement {
        /// `address:port`.
        host: String,
        /// What the library says.
        source: LibraryError,
    },
    /// The two sides have no methods in common.
    #[error("SSH handshake with {host} failed: {why}")]
    Methods {
        /// `address:port`.
        host: String,
        /// What is not in common, what both sides have, and where that is changed.
        why: String,
    },
    /// No key of the host is known.
    #[error(
        "the key of {host} is not known or revoked, so nothing was sent; if it is new, add it: \
             ssh-keyscan -p PORT HOST >> known_hosts"
    )]
    UnknownHostKey {
        /// `address:port`.
        host: String,
    },
    /// The host answered with a key that is not the known one.
    #[error(
        "{host} answered with the key {found}, but is known by {wanted}: refused, nothing was sent; \
             if the change is right, replace it in known_hosts and approve again"
    )]
    HostKey {
        /// `address:port`.
        host: String,
        /// What it answered with.
        found: String,
        /// What it is known by.
        wanted: String,
    },
    /// The host did not let us in.
    #[error("{host} rejected the login as {user}: {why}")]
    Auth {
        /// `address:port`.
        host: String,
        /// The user.
        user: String,
        /// What was tried and what came back.
        why: String,
    },
    /// No key could be shown to the host.
    #[error("cannot log in to {host} as {user}, and the host refused nothing: {why}")]
    NoKey {
        /// `address:port`.
        host: String,
        /// The user.
        user: String,
        /// What was to be tried and why it was not.
        why: String,
    },
    /// The command could not be started.
    #[error("{host} did not start the command: {why}")]
    NotStarted {
        /// `address:port`.
        host: String,
        /// Why.
        why: String,
    },
    /// The host on the way did not lead on.
    #[error("cannot reach {to} through the jump host {host}: {why}")]
    Way {
        /// The host on the way, as `address:port`.
        host: String,
        /// Where it should have led, as `address:port`.
        to: String,
        /// Why not.
        why: String,
        /// Whether the connection to the host on the way is what failed, so that a new one may lead there.
        gone: bool,
        /// Whether somebody was not there, or did not answer; and not that we were not let in.
        unreachable: bool,
    },
    /// The connection broke while the command ran, or may have run.
    #[error("the connection to {host} was lost: {why}; what the command did is not known")]
    Lost {
        /// `address:port`.
        host: String,
        /// What was seen.
        why: String,
    },
}

impl SshError {
    /// Whether nothing of a command can have reached the host.
    #[must_use]
    pub fn never_sent(&self) -> bool {
        !matches!(self, SshError::Lost { .. })
    }

    /// Whether the two sides may have no methods in common, which [`Session::explain`](super::Session::explain) finds out.
    #[must_use]
    pub fn is_disagreement(&self) -> bool {
        matches!(self, SshError::Disagreement { .. })
    }

    /// Whether the host was not there at all, or did not answer in time.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            SshError::Way { unreachable, .. } => *unreachable,
            other => {
                matches!(other, SshError::Connect { .. } | SshError::ConnectTimeout { .. } | SshError::Proxy { .. })
            }
        }
    }

    /// Whether the host said that it takes no connection just now, so that another try may do in a moment.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        matches!(self, SshError::Crowded { .. })
    }

    /// Whether the host may have hung up for no reason of ours, so that another try may do: nothing was said yet.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        // The library's numbers: no greeting, cannot send, cut off, cannot receive (`LIBSSH2_ERROR_BANNER_RECV`, `_SOCKET_SEND`,
        // `_SOCKET_DISCONNECT`, `_SOCKET_RECV`); no lists (`_KEX_FAILURE`), where they would fit.
        const CUT: [i32; 5] = [-2, -7, -13, -43, -5];
        match self {
            SshError::Way { gone, .. } => *gone,
            // Perhaps because of another host; the next try has a process of its own.
            SshError::Ended { .. } => true,
            SshError::Handshake { source, .. } => source.code.is_some_and(|code| CUT.contains(&code)),
            _ => false,
        }
    }

    /// Makes an error that a worker told the one of a host, and its words fit to be shown.
    #[must_use]
    pub(crate) fn of_host(self, host: &str) -> SshError {
        let host = host.to_owned();
        let fit = |text: String| visible(&text).chars().take(WORDS_CHARS_MAX).collect::<String>();
        let plain = |source: LibraryError| LibraryError { code: source.code, message: fit(source.message) };
        match self {
            SshError::Connect { why, .. } => SshError::Connect { host, why: fit(why) },
            SshError::ConnectTimeout { why, .. } => SshError::ConnectTimeout { host, why: fit(why) },
            SshError::Handshake { source, said, .. } => {
                SshError::Handshake { host, source: plain(source), said: fit(said) }
            }
            SshError::Crowded { .. } => SshError::Crowded { host },
            SshError::Disagreement { source, .. } => SshError::Disagreement { host, source: plain(source) },
            SshError::HostKey { found, wanted, .. } => {
                SshError::HostKey { host, found: fit(found), wanted: fit(wanted) }
            }
            SshError::NotStarted { why, .. } => SshError::NotStarted { host, why: fit(why) },
            SshError::Lost { why, .. } => SshError::Lost { host, why: fit(why) },
            // No worker has anything to say of these.
            other => SshError::Lost { host, why: fit(other.to_string()) },
        }
    }

    /// Hides secrets in what a command wrote.
    #[must_use]
    pub fn masked(self, masker: &Masker) -> SshError {
        match self {
            SshError::Proxy { host, why, said } => SshError::Proxy { host, why, said: masker.text(&said) },
            // The first host on the way may be reached through a command.
            SshError::Way { host, to, why, gone, unreachable } => {
                SshError::Way { host, to, why: masker.text(&why), gone, unreachable }
            }
            other => other,
        }
    }
}

/// How much is shown of what a worker says, in characters.
const WORDS_CHARS_MAX: usize = 2000;

/// How much is shown of what a command wrote, in characters.
const SAID_CHARS_MAX: usize = 500;

fn complaint(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return String::new();
    }
    let shown: String = visible(&lines.join(" / ")).chars().take(SAID_CHARS_MAX).collect();
    format!("; it said: {shown}")
}
