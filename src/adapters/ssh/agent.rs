//! The agent that workers log in with, and the one of this account that it may ask in turn. Floor 3.
//!
//! **Invariant:** a worker gets signatures, never keys, and only for a login: of the user of a connection that logs in now, with a
//! key of that connection (RFC 4252, section 7; the protocol is draft-ietf-sshm-ssh-agent). Nobody but that process is answered.

use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;
use std::{fs, io};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::adapters::ssh::key_file::string;
use crate::adapters::ssh::signing_key::{SigningKey, put};

/// The socket's name in a worker's directory.
pub(super) const SOCKET: &str = "agent";
/// The numbers of requests and answers.
const LIST: u8 = 11;
const LISTED: u8 = 12;
const SIGN: u8 = 13;
const SIGNED: u8 = 14;
const FAILURE: u8 = 5;
/// The number of a request to log in (`SSH_MSG_USERAUTH_REQUEST`).
const USERAUTH_REQUEST: u8 = 50;
/// The longest request of a worker, and the longest answer: the library takes 8 KiB.
const MESSAGE_BYTES_MAX: usize = 8000;
/// The longest answer of the account's agent.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// The account without rights that a worker of root's becomes (`nobody`).
pub(super) const NOBODY: u32 = 65534;
/// How many connections of a worker are answered at once: as many as it has connections to hosts.
const ANSWERS_MAX: usize = 64;
/// How long a worker may keep a connection to the agent without a request.
const QUIET_LIMIT: Duration = Duration::from_mins(2);
/// How long the account's agent may take to sign: it may wait for a person.
const SIGN_LIMIT: Duration = Duration::from_mins(1);

/// Who signs with a key.
#[derive(Debug)]
pub(super) enum Signer {
    /// This process.
    File(SigningKey),
    /// The account's agent.
    Agent,
}

/// A key to log in with.
#[derive(Debug)]
pub(super) struct Identity {
    /// What the host is offered: the public key, or its certificate.
    pub(super) public: Vec<u8>,
    /// What people call it.
    pub(super) name: String,
    pub(super) signer: Signer,
}

/// The keys that one connection may log in with, in the order in which they are tried.
#[derive(Debug)]
pub(super) struct Keyring {
    pub(super) user: String,
    pub(super) identities: Vec<Identity>,
}

/// The agent of one worker.
#[derive(Debug, Default)]
pub(super) struct Agent {
    /// The keys of the connection whose turn it is to ask.
    lent: Mutex<Weak<Keyring>>,
    /// The number of the process that is answered.
    worker: OnceLock<i32>,
    /// Whether it was said that it wanted what it should not.
    warned: AtomicBool,
}

impl Agent {
    /// Makes the socket in `dir`, of which the path may be of any length.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn bind(dir: &Path) -> io::Result<UnixListener> {
        use std::os::fd::AsRawFd as _;
        use std::os::unix::fs::PermissionsExt as _;
        let opened = fs::File::open(dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd()));
        let listener = StdListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        if nix::unistd::geteuid().is_root() {
            // A worker of root's becomes nobody.
            std::os::unix::fs::chown(&path, Some(NOBODY), None)?;
        }
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    }

    /// Says which process is answered.
    pub(super) fn belongs_to(&self, worker: i32) {
        let _ = self.worker.set(worker);
    }

    /// Lists these keys to whoever asks next.
    pub(super) fn lend(&self, keyring: &Arc<Keyring>) {
        *self.lent.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(keyring);
    }

    /// Answers the worker until nobody needs it any more.
    pub(super) async fn serve(self: Arc<Agent>, listener: UnixListener) {
        let places = Arc::new(Semaphore::new(ANSWERS_MAX));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Too few descriptors, perhaps; the login that waits has a limit.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let asker = stream.peer_cred().ok().and_then(|peer| peer.pid());
            // An honest worker asks for one login at a time, and has few under way.
            let place = Arc::clone(&places).try_acquire_owned();
            if let Ok(place) = place
                && asker.is_some()
                && asker == self.worker.get().copied()
            {
                let agent = Arc::clone(&self);
                tokio::spawn(async move {
                    let _place = place;
                    agent.answer(stream).await;
                });
            }
        }
    }

    async fn answer(&self, mut stream: UnixStream) {
        let (mut keyring, mut left) = (Weak::new(), 0_usize);
        while let Ok(Ok(request)) = timeout(QUIET_LIMIT, read(&mut stream, MESSAGE_BYTES_MAX)).await {
            let answer = match request.split_first() {
                Some((&LIST, [])) => {
                    keyring = std::mem::take(&mut *self.lent.lock().unwrap_or_else(PoisonError::into_inner));
                    // Each key is signed with once; the library may ask again with another digest.
                    left =
                        keyring.upgrade().map_or(0, |keyring: Arc<Keyring>| keyring.identities.len().saturating_mul(2));
                    keyring.upgrade().as_deref().map(listed)
                }
                // Whose login is over has nothing signed any more.
                Some((&SIGN, rest)) if left > 0 => {
                    left = left.saturating_sub(1);
                    match keyring.upgrade() {
                        Some(keyring) => match signed(&keyring, rest).await {
                            Ok(answer) => answer,
                            Err(NoLogin) => return self.warn(),
                        },
                        None => None,
                    }
                }
                _ => None,
            };
            if write(&mut stream, &answer.unwrap_or_else(|| vec![FAILURE])).await.is_err() {
                return;
            }
        }
    }

    /// Says once that a worker wants what it should not.
    fn warn(&self) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            let pid = self.worker.get();
            tracing::warn!(
                ?pid,
                "a process that speaks SSH wanted a signature that is no login of its connection: refused"
            );
        }
    }
}

/// Somebody wanted something signed that is no login.
struct NoLogin;

/// Lists keys: as many as fit.
fn listed(keyring: &Keyring) -> Vec<u8> {
    let (mut count, mut keys) = (0_u32, Vec::new());
    for identity in &keyring.identities {
        let mut one = Vec::new();
        put(&mut one, &identity.public);
        put(&mut one, identity.name.as_bytes());
        if keys.len().saturating_add(one.len()) > MESSAGE_BYTES_MAX {
            break;
        }
        keys.extend(one);
        count = count.saturating_add(1);
    }
    let mut answer = vec![LISTED];
    answer.extend(count.to_be_bytes());
    answer.extend(keys);
    answer
}

/// Signs a login; nothing when nobody signs it.
async fn signed(keyring: &Keyring, request: &[u8]) -> Result<Option<Vec<u8>>, NoLogin> {
    let read = || {
        let (public, rest) = string(request)?;
        let (data, rest) = string(rest)?;
        let flags = u32::from_be_bytes(rest.try_into().ok()?);
        let identity = keyring.identities.iter().find(|identity| identity.public == public)?;
        is_login(data, &keyring.user, public).then_some((identity, data, flags))
    };
    let (identity, data, flags) = read().ok_or(NoLogin)?;
    Ok(match &identity.signer {
        Signer::File(key) => {
            let signature = key.sign(data, flags).ok();
            signature.map(|signature| {
                let mut answer = vec![SIGNED];
                put(&mut answer, &signature);
                answer
            })
        }
        Signer::Agent => {
            let whole = [&[SIGN][..], request].concat();
            let answer = timeout(SIGN_LIMIT, ask(&whole)).await.ok().and_then(Result::ok);
            answer.filter(|answer| answer.first() == Some(&SIGNED))
        }
    })
}

/// Whether bytes are what is signed to log `user` in with a key.
fn is_login(data: &[u8], user: &str, public: &[u8]) -> bool {
    let read = || {
        let (_session, rest) = string(data)?;
        let (name, rest) = string(rest.strip_prefix(&[USERAUTH_REQUEST])?)?;
        let (service, rest) = string(rest)?;
        let (method, rest) = string(rest)?;
        let (_algorithm, rest) = string(rest.strip_prefix(&[1])?)?;
        let (key, rest) = string(rest)?;
        let whole = rest.is_empty() && service == b"ssh-connection" && method == b"publickey";
        Some(whole && name == user.as_bytes() && key == public)
    };
    read().unwrap_or(false)
}

/// Returns the public keys that the account's agent holds, with their names.
///
/// # Errors
/// Why there are none to be had, for people.
pub(super) async fn identities() -> Result<Vec<(Vec<u8>, String)>, &'static str> {
    let not_listed = "what answers at SSH_AUTH_SOCK does not list its keys";
    let answer = ask(&[LIST]).await.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => not_listed,
        _ => "no agent answers at SSH_AUTH_SOCK",
    })?;
    let rest = answer.strip_prefix(&[LISTED]).and_then(|rest| rest.split_first_chunk::<4>());
    let (_count, mut rest) = rest.ok_or(not_listed)?;
    let mut found = Vec::new();
    while let Some((public, after)) = string(rest) {
        let Some((name, after)) = string(after) else { break };
        found.push((public.to_vec(), String::from_utf8_lossy(name).into_owned()));
        rest = after;
    }
    Ok(found)
}

/// Asks the account's agent.
async fn ask(request: &[u8]) -> io::Result<Vec<u8>> {
    let path = std::env::var_os("SSH_AUTH_SOCK").ok_or(io::ErrorKind::NotFound)?;
    let mut stream = UnixStream::connect(path).await?;
    let answered = async {
        write(&mut stream, request).await?;
        read(&mut stream, ANSWER_BYTES_MAX).await
    };
    // It took the connection: whatever it does then is its answer.
    answered.await.map_err(|_| io::ErrorKind::InvalidData.into())
}

async fn read(stream: &mut UnixStream, most: usize) -> io::Result<Vec<u8>> {
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length == 0 || length > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let mut whole = Vec::new();
    put(&mut whole, message);
    stream.write_all(&whole).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a login signs.
    fn login(user: &str, service: &str, method: &str, key: &[u8]) -> Vec<u8> {
        let mut data = Vec::new();
        put(&mut data, b"session");
        data.push(USERAUTH_REQUEST);
        put(&mut data, user.as_bytes());
        put(&mut data, service.as_bytes());
        put(&mut data, method.as_bytes());
        data.push(1);
        put(&mut data, b"ssh-ed25519");
        put(&mut data, key);
        data
    }

    #[test]
    fn only_a_login_of_the_connection_is_signed() {
        let right = login("deploy", "ssh-connection", "publickey", b"key");
        assert!(is_login(&right, "deploy", b"key"));
        for length in 0..right.len() {
            assert!(!is_login(&right[..length], "deploy", b"key"), "{length}");
        }
        for wrong in [
            login("root", "ssh-connection", "publickey", b"key"),
            login("deploy", "ssh-userauth", "publickey", b"key"),
            login("deploy", "ssh-connection", "hostbased", b"key"),
            login("deploy", "ssh-connection", "publickey", b"other"),
            [&right[..], b"more"].concat(),
            b"SSHSIG\0\0\0\x04file".to_vec(),
        ] {
            assert!(!is_login(&wrong, "deploy", b"key"), "{wrong:?}");
        }
    }

    #[test]
    fn a_login_that_is_over_has_nothing_signed_any_more() {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let agent = Arc::new(Agent::default());
            let identity = Identity { public: b"key".to_vec(), name: "k".to_owned(), signer: Signer::Agent };
            let keyring = Arc::new(Keyring { user: "deploy".to_owned(), identities: vec![identity] });
            agent.lend(&keyring);
            let (mut worker, here) = UnixStream::pair().unwrap();
            tokio::spawn(async move { agent.answer(here).await });
            write(&mut worker, &[LIST]).await.unwrap();
            assert_eq!(read(&mut worker, 8000).await.unwrap()[..5], [LISTED, 0, 0, 0, 1]);
            // A second one finds nothing: it is lent once.
            write(&mut worker, &[LIST]).await.unwrap();
            assert_eq!(read(&mut worker, 8000).await.unwrap(), [FAILURE]);
            drop(keyring);
            let mut request = vec![SIGN];
            put(&mut request, b"key");
            put(&mut request, &login("deploy", "ssh-connection", "publickey", b"key"));
            request.extend([0; 4]);
            write(&mut worker, &request).await.unwrap();
            assert_eq!(read(&mut worker, 8000).await.unwrap(), [FAILURE]);
        });
    }

    #[test]
    fn keys_that_do_not_fit_are_not_listed() {
        let identities =
            (0..100).map(|n| Identity { public: vec![n; 500], name: n.to_string(), signer: Signer::Agent });
        let answer = listed(&Keyring { user: "u".to_owned(), identities: identities.collect() });
        assert!(answer.len() <= MESSAGE_BYTES_MAX + 5, "{}", answer.len());
        assert_eq!(answer[..5], [LISTED, 0, 0, 0, 15]);
    }
}
