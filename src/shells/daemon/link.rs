//! The seam to a host: over SSH or on this machine, the same four things. Floor 4.
//!
//! **Invariant:** connect, exec with streams, close; nothing else is known of a transport above this file.

use std::path::PathBuf;
use std::time::Duration;

use crate::adapters::local::LocalShell;
use crate::adapters::ssh::{Session, SshError, Target};
use crate::domain::inventory::Connection;
use crate::domain::output::{ExecEnd, Stream};
use crate::domain::plan::PlannedHost;
use crate::domain::runner::Program;

/// What every connection is made with.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkSettings {
    pub(super) connect_timeout: Duration,
    pub(super) keepalive: Duration,
    pub(super) agent: bool,
}

/// An open way to a host.
pub(super) enum Link {
    Ssh(Box<Session>),
    Local(LocalShell),
}

/// Why something did not come back from a host.
#[derive(Debug)]
pub(super) struct LinkError {
    /// What happened, to what, and what to do.
    pub(super) why: String,
    /// Whether nothing of the command can have reached the host.
    pub(super) never_sent: bool,
    /// Whether the host was not there at all, or did not answer in time.
    pub(super) unreachable: bool,
}

impl From<SshError> for LinkError {
    fn from(error: SshError) -> LinkError {
        let unreachable = matches!(error, SshError::Connect { .. } | SshError::ConnectTimeout { .. });
        LinkError { never_sent: error.never_sent(), unreachable, why: error.to_string() }
    }
}

impl Link {
    pub(super) async fn open(host: &PlannedHost, settings: LinkSettings) -> Result<Link, LinkError> {
        match host.connection {
            Connection::Local => Ok(Link::Local(LocalShell::new())),
            Connection::Ssh => {
                let target = Target {
                    address: host.address.clone(),
                    port: host.port,
                    user: host.user.clone(),
                    key: host.key.as_ref().map(PathBuf::from),
                    agent: settings.agent,
                    host_keys: host.host_keys.iter().map(ToString::to_string).collect(),
                    connect_timeout: settings.connect_timeout,
                    keepalive: settings.keepalive,
                };
                Ok(Link::Ssh(Box::new(Session::connect(&target).await?)))
            }
        }
    }

    /// Runs a program to its end. When the future is dropped the process is left alone and the link stays usable.
    pub(super) async fn exec(
        &mut self,
        program: &Program,
        sink: &mut (impl FnMut(Stream, &[u8]) + Send),
    ) -> Result<ExecEnd, LinkError> {
        match self {
            Link::Ssh(session) => Ok(session.exec(&program.command, &program.stdin, sink).await?),
            Link::Local(shell) => shell.exec(&program.command, &program.stdin, sink).await.map_err(|error| LinkError {
                why: error.to_string(),
                never_sent: error.never_sent(),
                unreachable: false,
            }),
        }
    }

    pub(super) async fn close(self) {
        match self {
            Link::Ssh(session) => session.close().await,
            Link::Local(_) => {}
        }
    }
}
