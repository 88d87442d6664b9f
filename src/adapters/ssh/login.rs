//! Logging in. Floor 3.
//!
//! **Invariant:** runs only after the host proved a known key. Passwords are never tried. What a host refused and what could not
//! be tried from here are told apart; a connection that the host has closed is not used for another try. Keys are opened here;
//! the worker is shown their public halves and gets signatures.

use std::path::Path;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::error::{Refused, SshError};
use super::target::Target;
use crate::adapters::ssh::agent::{self, Identity, Keyring, Signer};
use crate::adapters::ssh::key_file::{self, KeyFile, Unfit, beside, blob};
use crate::adapters::ssh::session::{Login, Session};
use crate::adapters::ssh::signing_key::{NotOpened, SigningKey};
use crate::base::text::visible;

/// How many key files are opened with a passphrase at once: that is made to be slow, and done on the processor alone.
static DECRYPTING: Semaphore = Semaphore::const_new(2);

/// The method that keys log in with (RFC 4252, section 7).
const BY_KEY: &str = "publickey";
/// What the library says when the host sent no answer to a key, because it closed the connection.
const NO_ANSWER: &[&str] = &["Waiting for USERAUTH response", "Waiting for publickey USERAUTH response"];
/// What it says when the host knew the key and refused what was signed with it.
const NOT_ENOUGH: &str = "Invalid signature for supplied public key";

/// Waits until one more key file may be opened with a passphrase; whoever has none need not wait.
async fn turn_to_decrypt(target: &Target) -> Option<SemaphorePermit<'static>> {
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
    fn refused(&mut self, message: &str, user: &str) -> String {
        self.offered = self.offered.saturating_add(1);
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

/// Logs in with the key file, then with the agent's keys; all of it takes at most `left`, but for waiting for a turn.
pub(super) async fn log_in(target: &Target, session: &mut Session, left: Duration) -> Result<(), SshError> {
    // Many at once who open a key file would make each other late; whose turn it is not is not late.
    let turn = turn_to_decrypt(target).await;
    let deadline = Instant::now() + left;
    let mut tried = Tried::default();
    // A key whose private half is in the agent alone is chosen by its public half.
    let mut chosen = None;
    if let Some(key) = &target.key {
        let late = || SshError::ConnectTimeout {
            host: session.host.clone(),
            why: format!("it did not answer the login within {:?}", target.connect_timeout),
        };
        let late = late();
        let file = key_file::read(key);
        chosen =
            file.as_ref().ok().and_then(|file| blob(file.public.as_ref()?)).or_else(|| key_file::public_beside(key));
        let opened = async {
            let opened = open(target, key, file).await;
            drop(turn);
            opened
        };
        let attempt = async {
            match opened.await {
                Ok(identity) => with_file(target, identity, session, &mut tried).await,
                Err(why) => Ok(Err(why)),
            }
        };
        match timeout_at(deadline, attempt).await.map_err(|_| late)?? {
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
        && let Ok(Some(methods)) = timeout_at(deadline, session.methods_left(&target.user)).await
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
    let (host, user, why) = (session.host.clone(), target.user.clone(), tried.said.join("; "));
    Err(if tried.offered > 0 { SshError::Auth { host, user, why } } else { SshError::NoKey { host, user, why } })
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

/// Opens the key file of a target; an error says why it is not tried.
async fn open(target: &Target, key: &Path, file: Result<KeyFile, Unfit>) -> Result<Identity, String> {
    let file = file.map_err(|error| error.to_string())?;
    let encrypted = file.encrypted;
    let (name, passphrase) = match &target.passphrase {
        Some(passphrase) if encrypted => (Some(&passphrase.secret), passphrase.value.as_ref()?.reveal().to_owned()),
        None if encrypted => {
            return Err("it is encrypted and its passphrase is not known; make the passphrase a secret and name that \
                 (key_passphrase under [ssh] in spoolgate.toml or at the host), or load the key into the agent"
                .to_owned());
        }
        _ => (None, String::new()),
    };
    let certificate = certificate(target, key)?;
    let work = move || SigningKey::open(&file.text, &passphrase, encrypted);
    let opened = if encrypted {
        // The passphrase is made a key in a tenth of a second or more; others go on meanwhile.
        spawn_blocking(work).await.map_err(|error| error.to_string())?
    } else {
        work()
    };
    let opened = opened.map_err(|why| match (why, name) {
        (NotOpened::Passphrase, Some(secret)) => {
            format!("the secret {secret} is not its passphrase; put the right one there")
        }
        (NotOpened::Passphrase, None) => "it is encrypted with another passphrase".to_owned(),
        (NotOpened::Unusable(why), _) => format!("it cannot be used: {why}"),
    })?;
    let public = certificate.unwrap_or_else(|| opened.public().to_vec());
    Ok(Identity { public, name: String::new(), signer: Signer::File(opened) })
}

/// Offers the key of a file; the inner error says why it did not do.
async fn with_file(
    target: &Target,
    identity: Identity,
    session: &mut Session,
    tried: &mut Tried,
) -> Result<Result<(), String>, SshError> {
    let keyring = Keyring { user: target.user.clone(), identities: vec![identity] };
    let login = session.log_in_with(keyring, false).await?;
    Ok(match (login.accepted, login.refused.first()) {
        (true, _) => Ok(()),
        (false, Some(Refused::ByHost { message })) => Err(tried.refused(message, &target.user)),
        (false, Some(Refused::NotSigned { .. })) => Err("it could not be signed with".to_owned()),
        (false, None) => Err(login.agent.unwrap_or_else(|| "nothing was tried".to_owned())),
    })
}

/// Returns the certificate that goes with a key: the one named, or the one beside it, which `ssh` would use too.
fn certificate(target: &Target, key: &Path) -> Result<Option<Vec<u8>>, String> {
    let found = beside(key, "-cert.pub");
    let Some(path) = target.certificate.clone().or_else(|| found.exists().then_some(found)) else { return Ok(None) };
    key_file::certificate(&path).map(Some).map_err(|why| format!("its certificate {}: {why}", path.display()))
}

/// Offers the keys of the account's agent, the chosen one first; `before` were offered already.
async fn with_agent(user: &str, session: &mut Session, chosen: Option<Vec<u8>>, before: usize) -> Result<(), Tried> {
    let ours = |why: &str| Tried { said: vec![format!("agent: {why}")], ..Tried::default() };
    let mut keys = agent::identities().await.map_err(ours)?;
    // Every key that the host does not know counts against what it lets be tried.
    keys.sort_by_key(|(public, _)| chosen.as_ref() != Some(public));
    let held = keys.len();
    let identities = keys.into_iter().map(|(public, name)| Identity { public, name, signer: Signer::Agent }).collect();
    let keyring = Keyring { user: user.to_owned(), identities };
    let login = session.log_in_with(keyring, true).await;
    let Login { accepted, refused, agent } = login.map_err(|error| ours(&error.to_string()))?;
    if accepted {
        return Ok(());
    }
    if let Some(why) = agent {
        return Err(ours(&visible(&why)));
    }
    let (mut tried, mut unsigned, mut last) = (Tried::default(), Vec::new(), String::new());
    for refused in refused {
        match refused {
            // It is held, and not to be used without a person, or not at all.
            Refused::NotSigned { name } => unsigned.push(name),
            Refused::ByHost { message } => last = tried.refused(&message, user),
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
