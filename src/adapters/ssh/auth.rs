//! Logging in. Floor 3.
//!
//! **Invariant:** runs only after the host proved a known key. Passwords are never tried.

use std::path::Path;

use ssh2::{ErrorCode, Session as Ssh2};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::block_in_place;

use crate::adapters::ssh::key_file;
use crate::adapters::ssh::socket::Readiness;
use crate::adapters::ssh::{SshError, Target};

/// How many key files are opened with a passphrase at once: that is made to be slow, and done on the processor alone.
static DECRYPTING: Semaphore = Semaphore::const_new(2);

/// Waits until one more key file may be opened with a passphrase; whoever has none need not wait.
pub(super) async fn turn_to_decrypt(target: &Target) -> Option<SemaphorePermit<'static>> {
    target.passphrase.as_ref().filter(|_| target.key.is_some())?;
    DECRYPTING.acquire().await.ok()
}

/// Logs in with the key file, then with the agent's keys.
pub(super) async fn log_in(target: &Target, host: &str, session: &Ssh2, readiness: &Readiness) -> Result<(), SshError> {
    let mut tried = Vec::new();
    if let Some(key) = &target.key {
        match with_file(target, key, session, readiness).await {
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

async fn with_file(target: &Target, key: &Path, session: &Ssh2, readiness: &Readiness) -> Result<(), String> {
    let file = key_file::read(key).map_err(|error| error.to_string())?;
    let encrypted = file.encrypted;
    let (name, passphrase) = match &target.passphrase {
        Some(passphrase) if encrypted => (Some(&passphrase.secret), passphrase.value.as_ref()?.reveal()),
        None if encrypted => {
            return Err("it is encrypted and its passphrase is not known; make the passphrase a secret and name that \
                 (key_passphrase under [ssh] in spoolgate.toml or at the host), or load the key into the agent"
                .to_owned());
        }
        // Never none: the library would ask the terminal, should the file be another one by now.
        _ => (None, ""),
    };
    // A certificate beside the key is what `ssh` would use too.
    let certificate = key.with_file_name(format!("{}-cert.pub", key.file_name().unwrap_or_default().to_string_lossy()));
    let beside = certificate.exists().then_some(certificate.as_path());
    let public = target.certificate.as_deref().or(beside);
    let attempt = || match (public, &file.public) {
        (None, Some(text)) => session.userauth_pubkey_memory(&target.user, Some(text), &file.text, Some(passphrase)),
        _ => session.userauth_pubkey_file(&target.user, public, key, Some(passphrase)),
    };
    readiness
        .retry(
            || session.block_directions(),
            // The passphrase is made a key in a tenth of a second or more; others go on meanwhile.
            || if encrypted { block_in_place(attempt) } else { attempt() },
        )
        .await
        .map_err(|error| match name {
            Some(secret) if could_not_open(&error) => {
                format!("the secret {secret} is not its passphrase; put the right one there")
            }
            _ => error.message().to_owned(),
        })
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

/// Whether the library stumbled over the key file, before it asked the host (`LIBSSH2_ERROR_FILE`, `_KEYFILE_AUTH_FAILED`) or
/// when it was to sign, which has no number of its own.
fn could_not_open(error: &ssh2::Error) -> bool {
    const KEY_FILE: [i32; 2] = [-16, -48];
    matches!(error.code(), ErrorCode::Session(code) if KEY_FILE.contains(&code))
        || error.message() == "Callback returned error"
}
