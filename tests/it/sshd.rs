//! A private OpenSSH sshd. On loopback all of 127.0.0.0/8 answers, behind a link all of 10.77.0.0/16: it stands for as many
//! hosts as a test needs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::link::{Link, NETWORK};
use crate::patience::InTime as _;
use crate::relay::{Relay, Shape};
use crate::world::wait_at_most;

/// A variable of everything that somebody with an account of [`Setup::accounts`] starts: the server's directory.
const STARTED_BY: &str = "SSHD_STARTED_BY";

/// An account that only one server knows. It is the user of the tests under another name, with another shell and home.
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) shell: PathBuf,
}

/// What a server is like; unless told otherwise it is on loopback, and everybody's shell and home are the tests' own.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// Lines of configuration that come before the others: of two, the first one counts.
    pub(crate) lines: &'a str,
    /// The link at whose far end it stands.
    pub(crate) link: Option<&'a Link>,
    /// Accounts beside the tests' own. With any, login files are read as everywhere.
    pub(crate) accounts: &'a [Account],
    /// Whether it is the OpenSSH (9.9 or newer) that `.ci/install` puts beside the system's.
    pub(crate) newest: bool,
}

pub(crate) struct Sshd {
    dir: tempfile::TempDir,
    port: u16,
    link: Option<Link>,
    /// What clients go through.
    relay: Option<Relay>,
    child: Child,
}

impl Sshd {
    /// Starts an sshd with keys of its own and waits until it answers.
    pub(crate) fn start() -> Sshd {
        Sshd::set_up(&Setup::default())
    }

    /// Like [`Sshd::start`], with a line of configuration that comes before the others: of two, the first one counts.
    pub(crate) fn start_with(line: &str) -> Sshd {
        Sshd::set_up(&Setup { lines: line, ..Setup::default() })
    }

    /// Like [`Sshd::start_with`], of the OpenSSH (9.9 or newer) that `.ci/install` puts beside the system's.
    pub(crate) fn start_newest(line: &str) -> Sshd {
        Sshd::set_up(&Setup { lines: line, newest: true, ..Setup::default() })
    }

    /// Like [`Sshd::start`], at the far end of a link.
    pub(crate) fn start_on(link: &Link) -> Sshd {
        Sshd::set_up(&Setup { link: Some(link), ..Setup::default() })
    }

    /// Starts an sshd that is as it is told to be.
    pub(crate) fn set_up(setup: &Setup) -> Sshd {
        let dir = tempfile::Builder::new().prefix("spoolgate-sshd.").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        // sshd's place for its unprivileged half; the package makes it only when its service starts.
        std::fs::create_dir_all("/run/sshd").unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        for key in ["host_ed25519", "id_ed25519"] {
            keygen(&dir.path().join(key));
        }
        std::fs::copy(dir.path().join("id_ed25519.pub"), dir.path().join("authorized_keys")).unwrap();
        let (program, more) = program(setup, dir.path());
        loop {
            let port = setup.link.map_or_else(free_port, Link::free_port);
            let config = dir.path().join("sshd_config");
            std::fs::write(&config, format!("{more}\n{}\n{}", setup.lines, sshd_config(setup, dir.path(), port)))
                .unwrap();
            let log = std::fs::File::create(dir.path().join("log")).unwrap();
            let mut command = Command::new(&program[0]);
            command.args(&program[1..]);
            command.arg("-D").arg("-e").arg("-f").arg(&config);
            let mut child = command.stdin(Stdio::null()).stderr(log).spawn().expect("openssh-server is installed");
            if answers(&mut child, port, setup.link) {
                return Sshd { dir, port, link: setup.link.cloned(), relay: None, child };
            }
            // Somebody else may have taken the port in between.
            let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
            assert!(log.contains("already in use"), "sshd does not start: {log}");
        }
    }

    /// Puts links of a shape between clients and the server.
    pub(crate) fn behind(mut self, shape: Shape) -> Sshd {
        self.relay = Some(match &self.link {
            Some(link) => link.relay(self.port, shape),
            None => Relay::shaped(self.port, shape),
        });
        self
    }

    /// What clients go through.
    pub(crate) fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("it is behind a relay")
    }

    /// The words in front of a command that is to connect to it.
    pub(crate) fn near_words(&self) -> Vec<String> {
        self.link.as_ref().map(Link::near_words).unwrap_or_default()
    }

    /// Returns the address of the nth host, up to tens of thousands.
    pub(crate) fn address(&self, n: usize) -> String {
        let network = if self.link.is_some() { "10.77" } else { "127.0" };
        format!("{network}.{}.{}", 1 + n / 250, 1 + n % 250)
    }

    /// The home of one of its own accounts.
    pub(crate) fn home_of(&self, account: &Account) -> PathBuf {
        home_of(self.dir.path(), account)
    }

    /// Whatever its accounts have started and is still there: number and command line of each process.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let mark = format!("{STARTED_BY}={}", self.dir.path().display()).into_bytes();
        let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let has_mark = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark)
        };
        let with_line = |pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, String::from_utf8_lossy(&line).replace('\0', " "))
        };
        pids.filter(has_mark).map(with_line).collect()
    }

    /// Stops to answer: who connects is heard by nobody.
    pub(crate) fn pause(&self) {
        self.signal(nix::sys::signal::Signal::SIGSTOP);
    }

    /// Goes on after [`Sshd::pause`].
    pub(crate) fn go_on(&self) {
        self.signal(nix::sys::signal::Signal::SIGCONT);
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Returns the home of every account.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The port that clients connect to.
    pub(crate) fn port(&self) -> u16 {
        self.relay.as_ref().map_or(self.port, Relay::port)
    }

    /// The port behind any relay.
    pub(crate) fn inner_port(&self) -> u16 {
        self.port
    }

    /// The private key that it lets in.
    pub(crate) fn identity(&self) -> PathBuf {
        self.dir.path().join("id_ed25519")
    }

    /// Lets in whoever has the other half of this public key, and nobody else.
    pub(crate) fn let_in_only(&self, public: &Path) {
        std::fs::copy(public, self.dir.path().join("authorized_keys")).unwrap();
    }

    /// Takes processor time only when nobody else wants any, as a machine of its own would; what it starts does so too.
    pub(crate) fn step_back(&self) {
        let words = ["-n", "19", "-p", &self.child.id().to_string()];
        assert!(Command::new("renice").args(words).stdout(Stdio::null()).status_in_time().unwrap().success());
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Lets in whoever another one lets in.
    pub(crate) fn let_in(&self, other: &Sshd) {
        std::fs::copy(other.dir.path().join("authorized_keys"), self.dir.path().join("authorized_keys")).unwrap();
    }

    /// A `known_hosts` file for all of its addresses.
    pub(crate) fn known_hosts(&self) -> String {
        self.known_hosts_at(self.port())
    }

    /// Like [`Sshd::known_hosts`], for a port that leads to it.
    pub(crate) fn known_hosts_at(&self, port: u16) -> String {
        let key = std::fs::read_to_string(self.dir.path().join("host_ed25519.pub")).unwrap();
        let mut words = key.split_whitespace();
        let network = if self.link.is_some() { "10.77.*" } else { "127.*" };
        format!("[{network}]:{port} {} {}\n", words.next().unwrap(), words.next().unwrap())
    }

    /// How many connections came to its addresses but 127.0.0.1, where it was asked whether it is there.
    pub(crate) fn connections(&self) -> usize {
        let log = self.log();
        let came = log.lines().filter(|line| line.starts_with("Connection from "));
        came.filter(|line| !line.contains(" on 127.0.0.1 port ")).count()
    }

    /// How many commands it was asked to start.
    pub(crate) fn sessions(&self) -> usize {
        self.log().matches("Starting session: command").count()
    }

    /// The key in `known_hosts` as `ssh-ed25519 SHA256:…`.
    pub(crate) fn host_key(&self) -> String {
        let known = spoolgate::domain::known_hosts::KnownHosts::parse(&self.known_hosts());
        known.keys_for(&self.address(0), self.port())[0].to_string()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // The sessions are its children; without the listener nobody ends them.
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &self.child.id().to_string()]).output_in_time();
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in
            children.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default().lines()
        {
            if let Ok(pid) = pid.trim().parse() {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
            }
        }
    }
}

/// The words that start sshd, and lines that it needs in its configuration: it runs where the link's far end is, and with its
/// own list of accounts in place of the system's, which nobody else sees.
fn program(setup: &Setup, dir: &Path) -> (Vec<String>, String) {
    let mut words = setup.link.map(Link::far_words).unwrap_or_default();
    if !setup.accounts.is_empty() {
        let passwd = with_accounts(setup, dir).to_str().unwrap().to_owned();
        let swap = "mount --bind \"$0\" /etc/passwd && exec \"$@\"";
        words.extend(["unshare", "--mount", "sh", "-c", swap, &passwd].map(str::to_owned));
    }
    if !setup.newest {
        words.push("/usr/sbin/sshd".to_owned());
        return (words, String::new());
    }
    let root = Path::new("/opt/spoolgate-tests/openssh/usr");
    let parts = root.join("lib/openssh");
    assert!(parts.join("sshd-auth").exists(), "run .ci/install");
    words.push(root.join("sbin/sshd").to_str().unwrap().to_owned());
    let parts = parts.display();
    (words, format!("SshdSessionPath {parts}/sshd-session\nSshdAuthPath {parts}/sshd-auth"))
}

/// Writes a list of accounts: the system's and a server's own.
fn with_accounts(setup: &Setup, dir: &Path) -> PathBuf {
    let mut passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    for account in setup.accounts {
        let home = home_of(dir, account);
        std::fs::create_dir_all(&home).unwrap();
        let (name, shell) = (&account.name, account.shell.display());
        passwd.push_str(&format!("{name}:x:{user}:{group}::{}:{shell}\n", home.display()));
    }
    let path = dir.join("passwd");
    std::fs::write(&path, passwd).unwrap();
    path
}

fn home_of(dir: &Path, account: &Account) -> PathBuf {
    dir.join("homes").join(&account.name)
}

fn answers(child: &mut Child, port: u16, link: Option<&Link>) -> bool {
    let connects = |address: &str| std::net::TcpStream::connect((address, port)).is_ok();
    wait_at_most(Duration::from_secs(20), "sshd to answer", || {
        if child.try_wait().unwrap().is_some() {
            return Some(false);
        }
        let connected = link.map_or_else(|| connects("127.0.0.1"), |link| link.near(|| connects("10.77.1.1")));
        connected.then_some(true)
    })
}

fn keygen(path: &Path) {
    let status = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status_in_time();
    assert!(status.expect("openssh-client is installed").success());
}

/// A port to listen on. It is none that the system gives to connections, of which the tests beside this one make many.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u32 = 12_000;
    let from = std::process::id().wrapping_mul(37) % COUNT;
    let ports = (0..COUNT).map(|n| FIRST + u16::try_from((from + n) % COUNT).unwrap());
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.into_iter().find(free).expect("a free port")
}

fn sshd_config(setup: &Setup, dir: &Path, port: u16) -> String {
    let user = spoolgate::adapters::users::actor(spoolgate::adapters::users::current_uid()).user;
    let names = setup.accounts.iter().map(|account| account.name.as_str()).chain([user.as_str()]);
    let network = if setup.link.is_some() { NETWORK } else { "127.0.0.0/8" };
    let users: String = names.map(|name| format!(" {name}@{network}")).collect();
    let dir = dir.display();
    // Of this one the last line counts.
    let startups = if setup.lines.contains("MaxStartups") { "" } else { "MaxStartups 10000\n" };
    // What runners leave goes away with the server. SHLVL keeps bash from reading ~/.bashrc for every command, as it does for children of sshd.
    let variables =
        if setup.accounts.is_empty() { format!("SHLVL=1 HOME={dir}/home") } else { format!("{STARTED_BY}={dir}") };
    format!(
        "Port {port}\nListenAddress 0.0.0.0\nHostKey {dir}/host_ed25519\nPidFile none\n\
         AuthorizedKeysFile {dir}/authorized_keys\nAllowUsers{users}\nAuthenticationMethods publickey\n\
         PermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\nUseDNS no\n{startups}MaxSessions 100\n\
         LogLevel VERBOSE\nSetEnv {variables}\n"
    )
}
