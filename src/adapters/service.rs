//! What the service manager is told: that the daemon is ready, that its loop turns, that it stops. Floor 3.
//!
//! **Invariant:** without a service manager nothing is told and nothing fails.

use std::time::Duration;

use sd_notify::NotifyState;

/// Says that everything is set up.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// Says that the loop turns, and what it has to do.
pub fn alive(unfinished: usize, hosts_in_flight: usize) {
    let status = format!("{unfinished} tasks have not ended, {hosts_in_flight} hosts at work");
    tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
}

/// Says that the daemon lives and waits for something before it goes on.
pub fn waits(waits_for: &str) {
    let status = format!("nothing is taken in or started: there is no {waits_for}");
    tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
}

/// Says that the daemon stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Returns how often the loop has to say that it turns; `None` when nobody listens.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}
