//! Logging in. Floor 3.
//!
//! **Invariant:** runs only after the host proved a known key. Passwords are never tried.

use std::path::Path;

use ssh2::Session as Ssh2;

use crate::adapters::ssh::socket::Readiness;
use crate::adapters::ssh::{SshError, Target};

/// Logs in with the key file, then with the agent's keys.
pub(super) async fn log_in(target: &Target, host: &str, session: &Ssh2, readiness: &Readiness) -> Result<(), SshError> {
    let mut tried = Vec::new();
    if let Some(key) = &target.key {
        match with_file(&target.user, key, session, readiness).await {
            Ok(()) => return Ok(()),
            Err(why) => tried.push(format!("key {}: {why}", key.display())),
        }
    }
    if target.agent {
        match with_agent(&target.user, session).await {
            Ok(()) => return Ok(()),
            Err(why) => tried.push(format!("agent: {why}")),
        }
    }
    if tried.is_empty() {
        tried.push(
            "there is no key to try; name one in spoolgate.toml or in the inventory, or allow the agent".to_owned(),
        );
    }
    Err(SshError::Auth { host: host.to_owned(), user: target.user.clone(), why: tried.join("; ") })
}

async fn with_file(user: &str, key: &Path, session: &Ssh2, readiness: &Readiness) -> Result<(), String> {
    if let Err(error) = std::fs::File::open(key) {
        return Err(error.to_string());
    }
    // A certificate beside the key is what `ssh` would use too.
    let certificate = key.with_file_name(format!("{}-cert.pub", key.file_name().unwrap_or_default().to_string_lossy()));
    let public = certificate.exists().then_some(certificate.as_path());
    readiness
        .retry(|| session.block_directions(), || session.userauth_pubkey_file(user, public, key, None))
        .await
        .map_err(|error| error.message().to_owned())
}

/// The agent is asked over a blocking socket inside the library and may wait for a person's finger: off the loop.
async fn with_agent(user: &str, session: &Ssh2) -> Result<(), String> {
    let (user, session) = (user.to_owned(), session.clone());
    let asked = tokio::task::spawn_blocking(move || {
        session.set_blocking(true);
        let answer = try_agent(&user, &session);
        session.set_blocking(false);
        answer
    });
    asked.await.unwrap_or_else(|error| Err(error.to_string()))
}

fn try_agent(user: &str, session: &Ssh2) -> Result<(), String> {
    let message = |error: ssh2::Error| error.message().to_owned();
    let mut agent = session.agent().map_err(message)?;
    agent.connect().map_err(|_| "no agent answers at SSH_AUTH_SOCK".to_owned())?;
    agent.list_identities().map_err(message)?;
    let identities = agent.identities().map_err(message)?;
    let mut last = "it holds no key".to_owned();
    for identity in &identities {
        match agent.userauth(user, identity) {
            Ok(()) => return Ok(()),
            Err(error) => last = message(error),
        }
    }
    Err(last)
}
