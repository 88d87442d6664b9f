//! Logging in. Floor 3.
//!
//! **Invariant:** runs only after the host proved a known key. Passwords are never tried. What a host refused and what could not
//! be tried from here are told apart; a connection that the host has closed is not used for another try.

use std::path::{Path, PathBuf};

use ssh2::{ErrorCode, PublicKey, Session as Ssh2};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::block_in_place;
use tokio::time::{Instant, timeout_at};

use crate::adapters::ssh::key_file::{self, KeyFile, Unfit, beside, blob};
use crate::adapters::ssh::socket::Readiness;
use crate::adapters::ssh::{SshError, Target};
use crate::base::text::visible;

/// How many key files are opened with a passphrase at once: that is made to be slow, and done on the processor alone.
static DECRYPTING: Semaphore = Semaphore::const_new(2);
/// How many logins ask the agent at once: one that does not answer holds a thread for each.
static ASKING: Semaphore = Semaphore::const_new(32);

/// The method that keys log in with (RFC 4252, section 7).
const BY_KEY: &str = "publickey";
/// What the library says when the host sent no answer to a key, because it closed the connection.
const NO_ANSWER: &[&str] = &["Waiting for USERAUTH response", "Waiting for publickey USERAUTH response"];
/// What it says when the host knew the key and refused what was signed with it.
const NOT_ENOUGH: &str = "Invalid signature for supplied public key";

/// Waits until one more key file may be opened with a passphrase; whoever has none need not wait.
pub(super) async fn turn_to_decrypt(target: &Target) -> Option<SemaphorePermit<'static>> {
    target.passphrase.as_ref().filter(|_| target.key.is_some())?;
    DECRYPTING.acquire().await.ok()
}

/// What was tried, and what came of it.
#[derive(Default)]
struct Tried {
    said: Vec<String>,
    /// How many keys the host was offered.
    offered: usize,
    /// Whether it knows one of them.
    knows_one: bool,
    /// Whether it closed the connection.
    over: bool,
}

impl Tried {
    /// Takes in what the library said of a key that was offered.
    fn refused(&mut self, error: &ssh2::Error, user: &str) -> String {
        self.offered = self.offered.saturating_add(1);
        let message = error.message();
        if NO_ANSWER.contains(&message) {
            self.over = true;
            return format!(
                "it hung up when it was offered: it does not take this key and lets no other be tried (MaxAuthTries in its \
                 sshd_config; is its public half in {user}'s authorized_keys there?), or the login took too long for it \
                 (LoginGraceTime)"
            );
        }
        if message.starts_with(NOT_ENOUGH) {
            self.knows_one = true;
            return format!(
                "it knows the key and does not let {user} in with it; does it want something more, or is {user} \
                 not to log in there at all (AuthenticationMethods, PermitRootLogin in its sshd_config; a locked account)?"
            );
        }
        format!(
            "it does not take it; is its public half in {user}'s authorized_keys there, and are {user} and this kind of key let in \
             (AllowUsers, DenyUsers, PubkeyAcceptedAlgorithms in its sshd_config)?"
        )
    }
}

/// Logs in with the key file, then with the agent's keys; all of it by `deadline`.
pub(super) async fn log_in(
    target: &Target,
    host: &str,
    session: &Ssh2,
    readiness: &Readiness,
    deadline: Instant,
) -> Result<(), SshError> {
    let mut tried = Tried::default();
    // A key whose private half is in the agent alone is chosen by its public half.
    let mut chosen = None;
    if let Some(key) = &target.key {
        let late = || SshError::ConnectTimeout {
            host: host.to_owned(),
            why: format!("it did not answer the login within {:?}", target.connect_timeout),
        };
        let file = key_file::read(key);
        chosen =
            file.as_ref().ok().and_then(|file| blob(file.public.as_ref()?)).or_else(|| key_file::public_beside(key));
        let attempt = with_file(target, key, file, session, readiness, &mut tried);
        match timeout_at(deadline, attempt).await.map_err(|_| late())? {
            Ok(()) => return Ok(()),
            // Nothing is wrong where the agent is meant to have it.
            Err(why) if !(target.agent && why == Unfit::Missing.to_string() && chosen.is_some()) => {
                tried.said.push(format!("key {}: {why}", key.display()));
            }
            Err(_) => {}
        }
    }
    if target.agent && !tried.over {
        match timeout_at(deadline, with_agent(&target.user, session, chosen, tried.offered)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(of_agent)) => {
                tried.said.extend(of_agent.said);
                tried.offered = tried.offered.saturating_add(of_agent.offered);
                tried.knows_one |= of_agent.knows_one;
                tried.over |= of_agent.over;
            }
            Err(_) => tried
                .said
                .push(format!("agent: no answer within {:?}; does it wait for a person?", target.connect_timeout)),
        }
    }
    if tried.offered > 0
        && !tried.over
        && let Some(methods) = methods_left(target, session, readiness, deadline).await
        && !methods.split(',').any(|method| method == BY_KEY)
    {
        // Then it is no matter of the keys.
        tried.said = vec![no_keys(&methods, tried.knows_one)];
    }
    if tried.said.is_empty() {
        tried.said.push(
            "there is no key to try; name one in spoolgate.toml or in the inventory, or allow the agent".to_owned(),
        );
    }
    let (host, user, why) = (host.to_owned(), target.user.clone(), tried.said.join("; "));
    Err(if tried.offered > 0 { SshError::Auth { host, user, why } } else { SshError::NoKey { host, user, why } })
}

/// Asks what the host lets be tried now; nothing when it does not say.
async fn methods_left(target: &Target, session: &Ssh2, readiness: &Readiness, deadline: Instant) -> Option<String> {
    let ask = || session.auth_methods(&target.user).map(str::to_owned);
    timeout_at(deadline, readiness.retry(|| session.block_directions(), ask)).await.ok()?.ok()
}

/// Says that a host lets nobody in by a key alone; `knows_one` when it knows one that it was offered.
fn no_keys(methods: &str, knows_one: bool) -> String {
    let methods = visible(methods).replace(',', ", ");
    if knows_one {
        format!(
            "it knows the key, and wants {methods} too, which spoolgate does not do; let a key be enough for it there \
             (AuthenticationMethods in its sshd_config)"
        )
    } else {
        let others = if methods.is_empty() { "nor anything else".to_owned() } else { format!("only {methods}") };
        format!(
            "it takes no keys, {others}; let it take keys (PubkeyAuthentication, AuthenticationMethods in its sshd_config)"
        )
    }
}

async fn with_file(
    target: &Target,
    key: &Path,
    file: Result<KeyFile, Unfit>,
    session: &Ssh2,
    readiness: &Readiness,
    tried: &mut Tried,
) -> Result<(), String> {
    let file = file.map_err(|error| error.to_string())?;
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
    let public = certificate(target, key)?;
    let attempt = || match (&public, &file.public) {
        (None, Some(text)) => session.userauth_pubkey_memory(&target.user, Some(text), &file.text, Some(passphrase)),
        _ => session.userauth_pubkey_file(&target.user, public.as_deref(), key, Some(passphrase)),
    };
    let answered = readiness
        .retry(
            || session.block_directions(),
            // The passphrase is made a key in a tenth of a second or more; others go on meanwhile.
            || if encrypted { block_in_place(attempt) } else { attempt() },
        )
        .await;
    answered.map_err(|error| match name {
        Some(secret) if could_not_open(&error) => {
            format!("the secret {secret} is not its passphrase; put the right one there")
        }
        _ if could_not_open(&error) => format!("the library (libssh2) cannot use it: {}", error.message()),
        _ => tried.refused(&error, &target.user),
    })
}

/// Returns the certificate that goes with a key: the one named, or the one beside it, which `ssh` would use too.
fn certificate(target: &Target, key: &Path) -> Result<Option<PathBuf>, String> {
    let found = beside(key, "-cert.pub");
    let Some(path) = target.certificate.clone().or_else(|| found.exists().then_some(found)) else { return Ok(None) };
    match key_file::check_certificate(&path) {
        Ok(()) => Ok(Some(path)),
        Err(why) => Err(format!("its certificate {}: {why}", path.display())),
    }
}

/// The agent is asked over a blocking socket inside the library and may wait for a person's finger: off the loop.
async fn with_agent(user: &str, session: &Ssh2, chosen: Option<Vec<u8>>, offered: usize) -> Result<(), Tried> {
    let turn = ASKING.acquire().await.ok();
    let (user, session) = (user.to_owned(), session.clone());
    let asked = tokio::task::spawn_blocking(move || {
        // Given back when the agent has answered, however long nobody waits for it any more.
        let _turn = turn;
        session.set_blocking(true);
        let answer = try_agent(&user, &session, chosen.as_deref(), offered);
        session.set_blocking(false);
        answer
    });
    asked.await.unwrap_or_else(|error| Err(Tried { said: vec![format!("agent: {error}")], ..Tried::default() }))
}

/// Tries the agent's keys, the chosen one first; `before` were offered already.
fn try_agent(user: &str, session: &Ssh2, chosen: Option<&[u8]>, before: usize) -> Result<(), Tried> {
    let mut tried = Tried::default();
    let ours = |why: String| Tried { said: vec![format!("agent: {why}")], ..Tried::default() };
    let failed = |error: ssh2::Error| ours(error.message().to_owned());
    let mut agent = session.agent().map_err(failed)?;
    agent.connect().map_err(|_| ours("no agent answers at SSH_AUTH_SOCK".to_owned()))?;
    agent.list_identities().map_err(|_| ours("what answers at SSH_AUTH_SOCK does not list its keys".to_owned()))?;
    let mut identities = agent.identities().map_err(failed)?;
    // Every key that the host does not know counts against what it lets be tried.
    identities.sort_by_key(|identity: &PublicKey| chosen != Some(identity.blob()));
    let (held, mut unsigned, mut last) = (identities.len(), Vec::new(), String::new());
    for identity in &identities {
        match agent.userauth(user, identity) {
            Ok(()) => return Ok(()),
            // It is held, and not to be used without a person, or not at all.
            Err(error) if could_not_open(&error) => unsigned.push(identity.comment().to_owned()),
            Err(error) => last = tried.refused(&error, user),
        }
        if tried.over {
            break;
        }
    }
    let offered = before.saturating_add(tried.offered);
    tried.said = vec![if tried.over && offered < before.saturating_add(held) {
        too_many(offered, held, "")
    } else if tried.over {
        too_many(offered, held, " and closed the connection with the last one")
    } else if held == 0 {
        "agent: it holds no key".to_owned()
    } else if tried.offered == 1 {
        format!("agent: {last}")
    } else {
        format!("agent: it takes none of its {held} keys; is the public half of one in {user}'s authorized_keys there?")
    }];
    if !unsigned.is_empty() {
        let names = visible(&unsigned.join(", "));
        tried.said.push(format!("the agent would not sign with {} of its keys ({names})", unsigned.len()));
    }
    Err(tried)
}

/// Says that a host hung up after some keys.
fn too_many(offered: usize, held: usize, how: &str) -> String {
    format!(
        "agent: it hung up after {offered} keys{how} (MaxAuthTries in its sshd_config), and the agent holds {held}; choose one \
         with `key` under [ssh] in spoolgate.toml or at the host (KEY.pub beside that name is enough, the private half may \
         stay in the agent alone), or have the agent hold fewer"
    )
}

/// Whether the library stumbled over the key file, before it asked the host (`LIBSSH2_ERROR_FILE`, `_KEYFILE_AUTH_FAILED`) or
/// when it was to sign, which has no number of its own.
fn could_not_open(error: &ssh2::Error) -> bool {
    const KEY_FILE: [i32; 2] = [-16, -48];
    matches!(error.code(), ErrorCode::Session(code) if KEY_FILE.contains(&code))
        || error.message() == "Callback returned error"
}
