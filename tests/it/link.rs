//! A link like real ones: two network namespaces, joined by a cable whose packets have 1500 bytes. Benchmarks use it too.
//!
//! The namespaces have no names, so the kernel removes them with the last process that uses them, however it ended.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::patience::end_of;
use crate::relay::{Relay, Shape};

/// The near end's network and the far one's hosts; they exist inside the namespaces alone.
pub(crate) const NETWORK: &str = "10.76.0.0/15";
const NEAR: &str = "10.76.0.1";
const FAR: &str = "10.76.0.2";
const HOSTS: &str = "10.77.0.0/16";
/// A variable of everything that runs in a namespace: which process made it.
const MADE_BY: &str = "LINK_MADE_BY";

/// A network namespace, held open.
struct Namespace(File);

impl Namespace {
    fn new() -> Namespace {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map(|()| File::open("/proc/thread-self/ns/net").unwrap())
        });
        let made = made.join().unwrap();
        Namespace(made.unwrap_or_else(|error| {
            panic!(
                "these tests make network namespaces, and may not ({error}): run them as root with CAP_SYS_ADMIN and \
                 CAP_NET_ADMIN (docker run --privileged)"
            )
        }))
    }

    /// Does something on a thread inside; sockets made there stay there.
    fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            act()
        };
        let done = std::thread::scope(|scope| scope.spawn(inside).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The file by which other processes find it, as long as this one lives.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// The words in front of a command that is to run inside; it keeps its process.
    fn words(&self) -> Vec<String> {
        let made_by = format!("{MADE_BY}={}", std::process::id());
        ["nsenter", &format!("--net={}", self.path()), "env", &made_by].map(str::to_owned).into()
    }

    /// Has `ip` do what the lines say.
    fn ip(&self, lines: &str) {
        self.within(|| {
            let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("iproute2");
            ip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
            let done = end_of(ip, "ip -batch").status.success();
            assert!(done, "these tests make pairs of veth devices, and may not: {lines}");
        });
    }
}

struct Ends {
    near: Namespace,
    far: Namespace,
    ports: AtomicU16,
}

/// A cable with a namespace at each end. Whoever connects is at the near one; all of 10.77.0.0/16 answers at the far one.
#[derive(Clone)]
pub(crate) struct Link(Arc<Ends>);

impl Link {
    /// Packets as on every Ethernet, and nothing in the way.
    pub(crate) fn lan() -> Link {
        end_orphans();
        let (near, far) = (Namespace::new(), Namespace::new());
        // Without a limit the kernel passes 64 kB along in one go and calls them 45 packets.
        let cable = "mtu 1500 gso_max_segs 1";
        near.ip(&format!(
            "link set lo {cable} up\nlink add near {cable} type veth peer name far {cable} netns {}\n\
             address add {NEAR}/30 dev near\nlink set near up\nroute add {HOSTS} via {FAR}\n",
            far.path()
        ));
        far.ip(&format!(
            "link set lo {cable} up\naddress add {FAR}/30 dev far\nlink set far up\nroute add local {HOSTS} dev lo\n"
        ));
        Link(Arc::new(Ends { near, far, ports: AtomicU16::new(2200) }))
    }

    /// Does something at the near end.
    pub(crate) fn near<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.0.near.within(act)
    }

    /// Does something at the far end.
    pub(crate) fn far<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.0.far.within(act)
    }

    /// The words in front of a command that is to run at the near end.
    pub(crate) fn near_words(&self) -> Vec<String> {
        self.0.near.words()
    }

    /// The words in front of a command that is to run at the far end.
    pub(crate) fn far_words(&self) -> Vec<String> {
        self.0.far.words()
    }

    /// A port that nobody has at the far end.
    pub(crate) fn free_port(&self) -> u16 {
        self.0.ports.fetch_add(1, Ordering::Relaxed)
    }

    /// Puts a relay in front of a port of the far end, at each of its addresses.
    pub(crate) fn relay(&self, to: u16, shape: Shape) -> Relay {
        let port = self.free_port();
        self.far(|| Relay::listen(TcpListener::bind(("0.0.0.0", port)).unwrap(), to, shape))
    }
}

/// Ends what runs in namespaces of tests that were killed, and so removes those.
fn end_orphans() {
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let made_by = environment.split(|byte| *byte == 0).find_map(|variable| {
            std::str::from_utf8(variable).ok()?.strip_prefix(MADE_BY)?.strip_prefix('=')?.parse::<u32>().ok()
        });
        if made_by.is_some_and(|made_by| !std::path::Path::new(&format!("/proc/{made_by}")).exists()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
