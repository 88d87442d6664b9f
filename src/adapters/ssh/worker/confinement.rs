//! What a process that reads hostile bytes may still do. Floor 3.
//!
//! **Invariant:** each step takes rights away and none is needed for the others: what a kernel or its settings do not allow is
//! left out and said. The steps, in their order: a root directory with nothing in it but the agent's socket; an account without
//! rights, where it was root; Landlock (no file opened or made, no TCP connection, no signal to others; ABI 1 to 10 as the kernel
//! has it); limits (no core, no file written); a list of system calls (seccomp), of which every other one fails.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::adapters::ssh::agent::NOBODY;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, chroot, geteuid, setgroups, setresgid, setresuid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// How long it is tried to connect to a port that nobody should answer at.
const CONNECT_LIMIT: std::time::Duration = std::time::Duration::from_millis(100);

/// What was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// The steps, and whether the system took them.
    steps: [(&'static str, bool); 3],
    /// What was tried afterwards, and whether it was refused.
    tries: [(&'static str, bool); 3],
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |facts: [(&str, bool); 3], yes: &str, no: &str| {
            facts.map(|(what, is)| format!("{what}={}", if is { yes } else { no })).join(" ")
        };
        write!(f, "{}; {}", words(self.steps, "yes", "no"), words(self.tries, "refused", "open"))
    }
}

impl Confinement {
    /// Takes everything away from this process that it does not need. It must have one thread, and stand in the directory with
    /// the agent's socket.
    #[must_use]
    pub(super) fn enter() -> Confinement {
        let network_rules = has_network_rules();
        let root = alone_in_directory();
        let landlock = landlock();
        // They only ever get lower.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        let _ = setrlimit(Resource::RLIMIT_FSIZE, 0, 0);
        let system_calls = system_calls();
        // What was asked for is one thing, what is so another.
        let files = std::fs::File::open("/proc/self/status").is_err() && std::fs::File::open(".").is_err();
        let port = std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], 9).into(), CONNECT_LIMIT);
        let network = port.is_err_and(|error| error.kind() != std::io::ErrorKind::ConnectionRefused) && network_rules;
        let programs = std::process::Command::new("/proc/self/exe").arg("--version").spawn().is_err();
        Confinement {
            steps: [("root", root), ("landlock", landlock), ("seccomp", system_calls)],
            tries: [("files", files), ("network", network), ("programs", programs)],
        }
    }
}

/// Makes the working directory the root, and gives up being root.
fn alone_in_directory() -> bool {
    if geteuid().is_root() {
        let nobody = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        let gone = chroot(".").and_then(|()| nix::unistd::chdir("/"));
        let gone = gone.and_then(|()| setgroups(&[]));
        let gone = gone.and_then(|()| setresgid(nobody.1, nobody.1, nobody.1));
        return gone.and_then(|()| setresuid(nobody.0, nobody.0, nobody.0)).is_ok();
    }
    // A user's own namespace lets anybody change the root directory, where the system has not forbidden it.
    let gone = unshare(CloneFlags::CLONE_NEWUSER).and_then(|()| chroot("."));
    gone.and_then(|()| nix::unistd::chdir("/")).is_ok()
}

fn landlock() -> bool {
    // The agent's socket stands here.
    let Ok(here) = PathFd::new(Path::new(".")) else { return false };
    let restrict = || {
        let abi = ABI::V10;
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .create()?;
        rules.add_rule(PathBeneath::new(here, AccessFs::ResolveUnix))?.restrict_self()
    };
    let status: Result<_, landlock::RulesetError> = restrict();
    status.is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced)
}

/// Whether the kernel's rules are for connections too (ABI 4): a connection that was handed over could lead elsewhere otherwise.
fn has_network_rules() -> bool {
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    rules.handle_access(AccessNet::ConnectTcp).is_ok()
}

/// The system calls of a loop that reads and writes what it was given, with its memory, clocks and threads.
const CALLS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    libc::SYS_connect,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_close,
    libc::SYS_futex,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What else this processor's programs call for the same things.
#[cfg(target_arch = "x86_64")]
const OLDER_CALLS: &[libc::c_long] = &[libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_CALLS: &[libc::c_long] = &[];

/// What `ioctl` may do: say whether a descriptor waits.
const FIONBIO: u64 = 0x5421;
/// What `prctl` may do: name a thread (`PR_SET_NAME`).
const SET_NAME: u64 = 15;
/// What `socket` and `socketpair` may make: those of this machine (`AF_UNIX`).
const AF_UNIX: u64 = 1;
/// What `clone` makes: a thread (`CLONE_THREAD`), never a process, nor a namespace (`CLONE_NEWUSER` and its like).
const THREAD: u64 = 0x0001_0000;
const NAMESPACES: u64 = 0x7e02_0000;
/// What `fcntl` may do: duplicate, and read and change what a descriptor is like; not say who gets its signals.
const DESCRIPTOR_COMMANDS: [i32; 6] =
    [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];

fn system_calls() -> bool {
    filter().is_some_and(|filter| apply_filter(&filter).is_ok())
}

fn filter() -> Option<BpfProgram> {
    let only = |argument: u8, value: u64| -> Option<Vec<SeccompRule>> {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).ok()?;
        Some(vec![SeccompRule::new(vec![condition]).ok()?])
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.iter().chain(OLDER_CALLS).map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_ioctl, only(1, FIONBIO)?);
    rules.insert(libc::SYS_prctl, only(0, SET_NAME)?);
    rules.insert(libc::SYS_socket, only(0, AF_UNIX)?);
    rules.insert(libc::SYS_socketpair, only(0, AF_UNIX)?);
    let masked = SeccompCmpOp::MaskedEq(NAMESPACES | THREAD);
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, masked, THREAD).ok()?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![condition]).ok()?]);
    // Never with an address: TCP Fast Open would connect.
    let condition = SeccompCondition::new(4, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0).ok()?;
    rules.insert(libc::SYS_sendto, vec![SeccompRule::new(vec![condition]).ok()?]);
    rules.insert(libc::SYS_tgkill, only(0, u64::from(std::process::id()))?);
    let commands: Option<Vec<SeccompRule>> =
        DESCRIPTOR_COMMANDS.iter().map(|command| Some(only(1, u64::from(command.unsigned_abs()))?.remove(0))).collect();
    rules.insert(libc::SYS_fcntl, commands?);
    // `clone3` is none of them: what it is asked for stands in memory, where no filter can look. C libraries call `clone` where
    // it is said not to be there.
    let refused = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().ok()?;
    SeccompFilter::new(rules, refused, SeccompAction::Allow, arch).ok()?.try_into().ok()
}
