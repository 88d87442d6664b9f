//! An SSH server inside the process: one listener answers for all of 127.0.0.0/8, so it stands for as many hosts as a
//! test, the demo or a benchmark needs. What a host does is decided by its address.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{HashAlg, LineEnding};
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{Auth, Config, Handle, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, Preferred, Sig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;

/// What a host does with a command.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Has a real `/bin/sh` run the command, in a directory of the host's own.
    Shell { home: PathBuf, path: String },
    /// Answers the same to everything.
    Fixed { out: Vec<u8>, exit: u32 },
    /// Says that a signal ended the command.
    Killed,
    /// Answers whatever comes on standard input with a word and, some microseconds later, another one; both stay unanswered.
    Twice,
    /// Takes the command and says nothing more.
    Hangs,
    /// Takes the command and cuts the connection.
    Cuts,
    /// Answers every program as the runner does whose script prints nothing and exits with 0; starts no process.
    Runner(Arc<Steps>),
}

/// The steps of all hosts that answer as runners: how many have begun, and whether they may end.
#[derive(Debug)]
pub(crate) struct Steps {
    begun: AtomicUsize,
    may_end: tokio::sync::watch::Sender<bool>,
}

impl Steps {
    /// Steps that end at once, or, where `held`, when they are let go.
    pub(crate) fn new(held: bool) -> Arc<Steps> {
        Arc::new(Steps { begun: AtomicUsize::new(0), may_end: tokio::sync::watch::Sender::new(!held) })
    }

    /// How many steps have begun.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Lets every step end.
    pub(crate) fn let_go(&self) {
        self.may_end.send_replace(true);
    }
}

/// A running server.
pub(crate) struct FakeSsh {
    pub(crate) port: u16,
    host_key: PublicKey,
    logins: Arc<AtomicUsize>,
    listener: tokio::task::JoinHandle<()>,
}

type Decide = dyn Fn(IpAddr) -> Behaviour + Send + Sync;

impl FakeSsh {
    /// Starts a server that lets the owner of `client` in.
    pub(crate) async fn start(
        client: &PublicKey,
        behaviour: impl Fn(IpAddr) -> Behaviour + Send + Sync + 'static,
    ) -> FakeSsh {
        let key = new_key();
        let host_key = key.public_key().clone();
        let config = Arc::new(Config {
            keys: vec![key],
            auth_rejection_time: std::time::Duration::ZERO,
            inactivity_timeout: None,
            preferred: Preferred {
                cipher: std::borrow::Cow::Borrowed(&[russh::cipher::AES_128_GCM, russh::cipher::AES_256_GCM]),
                ..Preferred::default()
            },
            ..Config::default()
        });
        let listener = TcpListener::bind(("0.0.0.0", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let logins = Arc::new(AtomicUsize::new(0));
        let (client, behaviour): (_, Arc<Decide>) = (Arc::new(client.clone()), Arc::new(behaviour));
        let counted = Arc::clone(&logins);
        let listener = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let address =
                    stream.local_addr().map_or(IpAddr::from([127, 0, 0, 1]), |address: SocketAddr| address.ip());
                let connection = Connection {
                    client: Arc::clone(&client),
                    behaviour: behaviour(address),
                    logins: Arc::clone(&counted),
                    stdin: None,
                };
                let config = Arc::clone(&config);
                tokio::spawn(async move {
                    if let Ok(running) = russh::server::run_stream(config, stream, connection).await {
                        let _ = running.await;
                    }
                });
            }
        });
        FakeSsh { port, host_key, logins, listener }
    }

    /// The server's key as `ssh-ed25519 SHA256:…`.
    pub(crate) fn fingerprint(&self) -> String {
        format!("ssh-ed25519 {}", self.host_key.fingerprint(HashAlg::Sha256))
    }

    /// A `known_hosts` file for all of its addresses.
    pub(crate) fn known_hosts(&self) -> String {
        format!("[127.*]:{} {}\n", self.port, self.host_key.to_openssh().expect("a key has a text"))
    }

    /// How many clients have logged in.
    pub(crate) fn logins(&self) -> usize {
        self.logins.load(Ordering::Relaxed)
    }
}

impl Drop for FakeSsh {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Makes a key from the system's random numbers.
fn new_key() -> PrivateKey {
    use std::io::Read as _;
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut seed)).expect("random numbers");
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

/// Writes a new private key to `path` and returns its public half.
pub(crate) fn write_client_key(path: &Path) -> PublicKey {
    use std::os::unix::fs::OpenOptionsExt as _;
    let key = new_key();
    let text = key.to_openssh(LineEnding::LF).expect("a key has a text");
    let mut file =
        std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).expect("a new key file");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("the key is written");
    key.public_key().clone()
}

struct Connection {
    client: Arc<PublicKey>,
    behaviour: Behaviour,
    logins: Arc<AtomicUsize>,
    stdin: Option<tokio::sync::mpsc::UnboundedSender<Vec<u8>>>,
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        if key.public_key.key_data() != self.client.key_data() {
            return Ok(Auth::reject());
        }
        self.logins.fetch_add(1, Ordering::Relaxed);
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: russh::server::ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)?;
        let handle = session.handle();
        match self.behaviour.clone() {
            Behaviour::Shell { home, path } => {
                let (sender, stdin) = tokio::sync::mpsc::unbounded_channel();
                self.stdin = Some(sender);
                let command = String::from_utf8_lossy(command).into_owned();
                tokio::spawn(shell(handle, channel, (command, home, path), stdin));
            }
            Behaviour::Runner(steps) => {
                let (sender, stdin) = tokio::sync::mpsc::unbounded_channel();
                self.stdin = Some(sender);
                tokio::spawn(runner(handle, channel, steps, stdin));
            }
            Behaviour::Twice => {
                let (sender, stdin) = tokio::sync::mpsc::unbounded_channel();
                self.stdin = Some(sender);
                tokio::spawn(twice(handle, channel, stdin));
            }
            Behaviour::Fixed { out, exit } => {
                session.data(channel, out)?;
                session.exit_status_request(channel, exit)?;
                session.eof(channel)?;
                session.close(channel)?;
            }
            Behaviour::Killed => {
                tokio::spawn(async move {
                    let (message, language) = (String::new(), String::new());
                    let _ = handle.exit_signal_request(channel, Sig::KILL, false, message, language).await;
                    let _ = handle.eof(channel).await;
                    let _ = handle.close(channel).await;
                });
            }
            Behaviour::Hangs => {}
            Behaviour::Cuts => return Err(russh::Error::Disconnect),
        }
        Ok(())
    }

    async fn data(&mut self, _channel: ChannelId, data: &[u8], _session: &mut Session) -> Result<(), russh::Error> {
        if let Some(stdin) = &self.stdin {
            let _ = stdin.send(data.to_vec());
        }
        Ok(())
    }

    async fn channel_eof(&mut self, _channel: ChannelId, _session: &mut Session) -> Result<(), russh::Error> {
        self.stdin = None;
        Ok(())
    }
}

/// Answers every message twice, with pauses of every length up to a tenth of a millisecond.
async fn twice(handle: Handle, channel: ChannelId, mut stdin: tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>) {
    let mut pause = 0;
    while stdin.recv().await.is_some() {
        let _ = handle.data(channel, b"one\n".to_vec()).await;
        tokio::task::yield_now().await;
        pause = (pause + 7) % 100;
        let begin = std::time::Instant::now();
        while begin.elapsed() < std::time::Duration::from_micros(pause) {
            std::hint::spin_loop();
        }
        let _ = handle.data(channel, b"two\n".to_vec()).await;
    }
}

/// Has a real shell run one command and sends back what it prints and how it ends.
async fn shell(
    handle: Handle,
    channel: ChannelId,
    (command, home, path): (String, PathBuf, String),
    mut stdin: tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>,
) {
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .env_clear()
        .envs([("PATH", path.as_str()), ("LC_ALL", "C.UTF-8")])
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .current_dir(&home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("/bin/sh starts");
    let mut input = child.stdin.take().expect("it is a pipe");
    tokio::spawn(async move {
        while let Some(bytes) = stdin.recv().await {
            if input.write_all(&bytes).await.is_err() {
                break;
            }
        }
    });
    let (mut out, mut err) = (child.stdout.take().expect("it is a pipe"), child.stderr.take().expect("it is a pipe"));
    let (mut out_buffer, mut err_buffer) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        tokio::select! {
            count = out.read(&mut out_buffer), if out_open => match count.unwrap_or(0) {
                0 => out_open = false,
                count => drop(handle.data(channel, out_buffer[..count].to_vec()).await),
            },
            count = err.read(&mut err_buffer), if err_open => match count.unwrap_or(0) {
                0 => err_open = false,
                count => drop(handle.extended_data(channel, 1, err_buffer[..count].to_vec()).await),
            },
        }
    }
    let code = child.wait().await.ok().and_then(|status| status.code()).unwrap_or(255);
    let _ = handle.exit_status_request(channel, u32::try_from(code).unwrap_or(255)).await;
    let _ = handle.eof(channel).await;
    let _ = handle.close(channel).await;
}

/// Answers programs, one after the other on one channel, until there is no more input.
async fn runner(
    handle: Handle,
    channel: ChannelId,
    steps: Arc<Steps>,
    mut stdin: tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>,
) {
    let mut text = Vec::new();
    while let Some(bytes) = stdin.recv().await {
        text.extend_from_slice(&bytes);
        while let Some(program) = next_program(&mut text) {
            let Some((_, program)) = program.split_once("sg_nonce=") else { return };
            if !answer(&handle, channel, &steps, program).await {
                return;
            }
        }
    }
    let _ = handle.exit_status_request(channel, 0).await;
    let _ = handle.eof(channel).await;
    let _ = handle.close(channel).await;
}

/// Takes the first program off what came in, once all of it is there.
fn next_program(text: &mut Vec<u8>) -> Option<String> {
    use base64::Engine as _;
    let head = text.iter().position(|byte| *byte == b'\n')? + 1;
    let length: usize = std::str::from_utf8(&text[..head]).ok()?.trim_end().rsplit_once(' ')?.1.parse().ok()?;
    if text.len() < head + length {
        return None;
    }
    let frame: Vec<u8> = text.drain(..head + length).collect();
    let packed = base64::engine::general_purpose::STANDARD.decode(frame[head..].trim_ascii_end()).ok()?;
    let mut program = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut program).ok()?;
    Some(program)
}

/// Says what the runner says to one program, of which what follows `sg_nonce=` is given; returns whether anybody hears it.
async fn answer(handle: &Handle, channel: ChannelId, steps: &Steps, program: &str) -> bool {
    let quoted = |text: &str| text.split('\'').nth(1).unwrap_or_default().to_owned();
    let nonce = quoted(program);
    let act = program.split_once("sg_act=").map(|(_, rest)| quoted(rest)).unwrap_or_default();
    let verdict = match act.as_str() {
        "kill" => "cancelled -",
        "forget" => "forgotten -",
        _ => "exit 0",
    };
    let end = format!("spoolgate-end {nonce} {verdict} 0 0 0 0\n");
    if act != "run" {
        return handle.data(channel, end.into_bytes()).await.is_ok();
    }
    steps.begun.fetch_add(1, Ordering::Relaxed);
    let _ = steps.may_end.subscribe().wait_for(|may_end| *may_end).await;
    let said = format!("spoolgate-running {nonce} 4242\n");
    handle.data(channel, (said + &end).into_bytes()).await.is_ok()
}
