//! The process that speaks SSH with some hosts. Floor 3.
//!
//! **Invariant:** it has connections and nothing else: no file, no key, no way to open another connection or to touch another
//! process, as far as the kernel can say so ([`Confinement`]). It ends with the process that started it, and says every few
//! seconds that its loop goes round.

mod confinement;
mod connection;
mod conversation;
mod inlet;
mod login;
mod methods;
mod overtime;
mod serve;
mod socket;
mod tunnel;

use std::collections::HashMap;
use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::sync::mpsc;

use crate::adapters::ssh::frame::Wire;
use crate::adapters::ssh::worker::serve::serve;
use crate::adapters::ssh::worker::socket::Socket;
use crate::adapters::ssh::worker::tunnel::FarEnd;
use crate::adapters::ssh::workers::{HandOver, VERB};

pub use confinement::Confinement;

/// How often it says that it lives.
const BEAT: Duration = Duration::from_secs(5);
/// The longest message with descriptors: the keys that a host is known by are some lines.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// How many ways may wait for one connection.
const WAYS_WAITING_MAX: usize = 64;

/// Is such a process, where the arguments of this one say so; returns how it ends. To be asked before anything else is done.
#[must_use]
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let asked = arguments.next().is_some_and(|verb| verb == VERB) && arguments.next().is_none();
    asked.then(run)
}

/// Closes what the daemon was started with and let this process inherit: files that hosts' bytes have nothing to do with. Nothing
/// here has opened anything yet.
fn close_inherited() {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // The one that listed them is closed already.
        let _ = nix::unistd::close(number);
    }
}

/// Runs until the process that started this one is gone.
fn run() -> ExitCode {
    close_inherited();
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    // Both open what they need when they begin: the library its settings, the loop its own pair of sockets.
    let warmed = ssh2::Session::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Ok(_), Ok(runtime)) = (warmed, runtime) else { return ExitCode::FAILURE };
    let confinement = Confinement::enter();
    if say(&confinement.to_string()).is_err() {
        return ExitCode::FAILURE;
    }
    let (given, mut hand_overs) = mpsc::channel(64);
    let receiver = std::thread::Builder::new().name("hand-overs".to_owned()).spawn(move || {
        while let Some(message) = receive(&socket) {
            if given.blocking_send(message).is_err() {
                break;
            }
        }
    });
    if receiver.is_err() {
        return ExitCode::FAILURE;
    }
    runtime.block_on(async {
        let mut beat = tokio::time::interval(BEAT);
        let mut connections: HashMap<u64, mpsc::Sender<FarEnd>> = HashMap::new();
        loop {
            tokio::select! {
                message = hand_overs.recv() => match message {
                    Some((words, descriptors)) => begin(words, descriptors, &mut connections),
                    // Nobody is there any more.
                    None => return,
                },
                _ = beat.tick() => if say(".").is_err() { return },
            }
        }
    });
    // Threads that wait for something are not waited for.
    runtime.shutdown_background();
    ExitCode::SUCCESS
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Begins what was handed over. What does not fit is dropped, and whoever handed it over finds the other end closed.
fn begin(words: HandOver, descriptors: Vec<OwnedFd>, connections: &mut HashMap<u64, mpsc::Sender<FarEnd>>) {
    let mut descriptors = descriptors.into_iter();
    match words {
        HandOver::Connection { number, to, explain } => {
            let (Some(wire), Some(connection)) = (descriptors.next(), descriptors.next()) else { return };
            let Ok(wire) = Wire::new(UnixStream::from(wire)) else { return };
            let socket = if to.tcp {
                Socket::Tcp(std::net::TcpStream::from(connection))
            } else {
                Socket::Unix(UnixStream::from(connection))
            };
            connections.retain(|_, ways| !ways.is_closed());
            let (ways, wished) = mpsc::channel(WAYS_WAITING_MAX);
            connections.insert(number, ways);
            tokio::spawn(serve(wire, socket, to, explain, wished));
        }
        HandOver::Way { connection, number, address, port } => {
            let Some(end) = descriptors.next() else { return };
            if let Some(ways) = connections.get(&connection) {
                // One too many finds its end closed.
                let _ = ways.try_send(FarEnd { number, address, port, end: UnixStream::from(end) });
            }
        }
    }
}

/// Waits for the next message; nothing when the other side is gone or says what it should not.
fn receive(socket: &OwnedFd) -> Option<(HandOver, Vec<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.ok()?,
        }
    };
    let words = serde_json::from_slice(bytes.get(..message.bytes)?).ok()?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = part {
            descriptors.extend(some);
        }
    }
    Some((words, descriptors))
}
