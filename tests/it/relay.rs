//! A TCP relay in front of an sshd: links that break where a test wants them to.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What a relay does, changed while it runs.
#[derive(Default)]
struct Plan {
    /// Accepts nobody and forwards nothing; open links stay open and silent.
    silent: AtomicBool,
    /// Whether nobody needs it any more.
    over: AtomicBool,
    /// Cuts the first link after so many bytes from the client; 0 never.
    cut_at: AtomicU64,
    links: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

pub(crate) struct Relay {
    port: u16,
    plan: Arc<Plan>,
}

impl Relay {
    /// Relays from a port of its own to `to` on loopback.
    pub(crate) fn start(to: u16, cut_at: u64) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan = Arc::new(Plan { cut_at: AtomicU64::new(cut_at), ..Plan::default() });
        let shared = Arc::clone(&plan);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                let first = shared.links.fetch_add(1, Ordering::SeqCst) == 0;
                let cut_at = if first { shared.cut_at.load(Ordering::SeqCst) } else { 0 };
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let mut open = shared.open.lock().unwrap();
                open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                drop(open);
                let (up, down) = (Arc::clone(&shared), Arc::clone(&shared));
                let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || forward(from, into, cut_at, &up));
                std::thread::spawn(move || forward(server, client, 0, &down));
            }
        });
        Relay { port, plan }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many links there were.
    pub(crate) fn links(&self) -> usize {
        self.plan.links.load(Ordering::SeqCst)
    }

    /// Lets nothing through any more, in either direction, without closing anything; or lets it through again.
    pub(crate) fn silence(&self, silent: bool) {
        self.plan.silent.store(silent, Ordering::SeqCst);
    }

    /// Cuts every open link.
    pub(crate) fn cut(&self) {
        for stream in self.plan.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Relay {
    /// Ends the listener, so that thousands of relays can come and go.
    fn drop(&mut self) {
        self.plan.over.store(true, Ordering::SeqCst);
        self.silence(false);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn forward(mut from: TcpStream, mut into: TcpStream, cut_at: u64, plan: &Plan) {
    let mut buffer = [0; 4096];
    let mut passed = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while plan.silent.load(Ordering::SeqCst) {
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
        let room = if cut_at == 0 { count } else { usize::try_from(cut_at - passed).unwrap().min(count) };
        if into.write_all(&buffer[..room]).is_err() {
            break;
        }
        passed += room as u64;
        if cut_at > 0 && passed >= cut_at {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), into.shutdown(Shutdown::Both));
}
