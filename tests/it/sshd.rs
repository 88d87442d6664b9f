//! A private OpenSSH sshd on loopback: all of 127.0.0.0/8 answers, so it stands for as many hosts as a test needs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::world::wait_at_most;

pub(crate) struct Sshd {
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Sshd {
    /// Starts an sshd with keys of its own and waits until it answers.
    pub(crate) fn start() -> Sshd {
        Sshd::start_with("MaxStartups 10000")
    }

    /// Like [`Sshd::start`], with a line of configuration that comes before the others: of two, the first one counts.
    pub(crate) fn start_with(line: &str) -> Sshd {
        Sshd::launch(Path::new("/usr/sbin/sshd"), line)
    }

    /// Like [`Sshd::start_with`], of the OpenSSH (9.9 or newer) that `.ci/install` puts beside the system's.
    pub(crate) fn start_newest(line: &str) -> Sshd {
        let root = Path::new("/opt/spoolgate-tests/openssh/usr");
        let parts = root.join("lib/openssh");
        assert!(parts.join("sshd-auth").exists(), "run .ci/install");
        let parts = parts.display();
        let line = format!("SshdSessionPath {parts}/sshd-session\nSshdAuthPath {parts}/sshd-auth\n{line}");
        Sshd::launch(&root.join("sbin/sshd"), &line)
    }

    fn launch(program: &Path, line: &str) -> Sshd {
        let dir = tempfile::Builder::new().prefix("spoolgate-sshd.").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        // sshd's place for its unprivileged half; the package makes it only when its service starts.
        std::fs::create_dir_all("/run/sshd").unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        for key in ["host_ed25519", "id_ed25519"] {
            keygen(&dir.path().join(key));
        }
        std::fs::copy(dir.path().join("id_ed25519.pub"), dir.path().join("authorized_keys")).unwrap();
        loop {
            let port = free_port();
            let config = dir.path().join("sshd_config");
            std::fs::write(&config, format!("{line}\n{}", sshd_config(dir.path(), port))).unwrap();
            let log = std::fs::File::create(dir.path().join("log")).unwrap();
            let mut command = Command::new(program);
            command.arg("-D").arg("-e").arg("-f").arg(&config);
            let mut child = command.stdin(Stdio::null()).stderr(log).spawn().expect("openssh-server is installed");
            if answers(&mut child, port) {
                return Sshd { dir, port, child };
            }
            // Somebody else may have taken the port in between.
            let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
            assert!(log.contains("already in use"), "sshd does not start: {log}");
        }
    }

    /// Returns the home of every account.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn port(&self) -> u16 {
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
        assert!(Command::new("renice").args(words).stdout(Stdio::null()).status().unwrap().success());
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
        let key = std::fs::read_to_string(self.dir.path().join("host_ed25519.pub")).unwrap();
        let mut words = key.split_whitespace();
        format!("[127.*]:{} {} {}\n", self.port, words.next().unwrap(), words.next().unwrap())
    }

    /// How many commands it was asked to start.
    pub(crate) fn sessions(&self) -> usize {
        self.log().matches("Starting session: command").count()
    }

    /// The key in `known_hosts` as `ssh-ed25519 SHA256:…`.
    pub(crate) fn host_key(&self) -> String {
        let known = spoolgate::domain::known_hosts::KnownHosts::parse(&self.known_hosts());
        known.keys_for("127.0.0.1", self.port)[0].to_string()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // The sessions are its children; without the listener nobody ends them.
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &self.child.id().to_string()]).output();
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

fn answers(child: &mut Child, port: u16) -> bool {
    wait_at_most(Duration::from_secs(20), "sshd to answer", || {
        if child.try_wait().unwrap().is_some() {
            return Some(false);
        }
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(true)
    })
}

fn keygen(path: &Path) {
    let status = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
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

fn sshd_config(dir: &Path, port: u16) -> String {
    let user = spoolgate::adapters::users::actor(spoolgate::adapters::users::current_uid()).user;
    let dir = dir.display();
    // What runners leave goes away with the server. SHLVL keeps bash from reading ~/.bashrc for every command, as it does for children of sshd.
    format!(
        "Port {port}\nListenAddress 0.0.0.0\nHostKey {dir}/host_ed25519\nPidFile none\n\
         AuthorizedKeysFile {dir}/authorized_keys\nAllowUsers {user}@127.0.0.0/8\nAuthenticationMethods publickey\n\
         PermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\nUseDNS no\nMaxStartups 10000\nMaxSessions 100\n\
         LogLevel VERBOSE\nSetEnv SHLVL=1 HOME={dir}/home\n"
    )
}
