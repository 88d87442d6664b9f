//! Sends the audit's head to the system's log, out of the daemon's reach. Floor 4.
//!
//! **Invariant:** a head that was sent proves every line before it, so of many only the last is sent.

use tokio::sync::watch;

use super::observer::{Observer, ObserverSettings};
use crate::adapters::spool::follow_audit::Followed;
use crate::adapters::syslog;

/// Sends heads where the configuration names a place.
pub(super) struct AuditHead {
    settings: watch::Receiver<ObserverSettings>,
}

impl AuditHead {
    pub(super) fn new(settings: watch::Receiver<ObserverSettings>) -> AuditHead {
        AuditHead { settings }
    }
}

impl Observer for AuditHead {
    const NAME: &'static str = "audit-head";

    async fn tell(&mut self, lines: &[Followed]) -> Result<(), String> {
        let path = self.settings.borrow().syslog.clone();
        let (Some(path), Some(last)) = (path, lines.last()) else { return Ok(()) };
        syslog::send(&path, &format!("audit head {}", last.head)).map_err(|error| error.to_string())
    }
}
