//! The connections that are open, and which one is closed when there are too many.
//!
//! **Invariant:** a connection whose request is being answered is never closed for another one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::adapters::http::names::machine_of;

/// All connections, and how many there may be.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    most_per_peer: usize,
    open: Mutex<Open>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    all: HashMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    peer: Option<IpAddr>,
    /// Whether a request of it is being answered.
    works: bool,
    closing: Arc<Notify>,
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    number: u64,
    closing: Arc<Notify>,
    connections: Arc<Connections>,
}

/// A request is being answered as long as this lives.
pub(super) struct Work<'a>(&'a Slot);

impl Connections {
    pub(super) fn new(most: usize, most_per_peer: usize) -> Connections {
        Connections { most, most_per_peer, open: Mutex::default(), left: Notify::new() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Makes room for a connection; `None` when everybody who could go is being answered.
    pub(super) fn admit(self: &Arc<Connections>, peer: Option<IpAddr>) -> Option<Slot> {
        // One machine is one peer, however many addresses it has.
        let peer = peer.map(machine_of);
        let mut open = self.open();
        let of_peer = open.all.values().filter(|connection| connection.peer == peer).count();
        if of_peer >= self.most_per_peer {
            open.close_oldest(|connection| connection.peer == peer)?;
        } else if open.all.len() >= self.most {
            open.close_oldest(|_| true)?;
        }
        let number = open.next;
        open.next = open.next.saturating_add(1);
        let closing = Arc::new(Notify::new());
        open.all.insert(number, Connection { peer, works: false, closing: Arc::clone(&closing) });
        Some(Slot { number, closing, connections: Arc::clone(self) })
    }

    /// Waits until nobody is there.
    pub(super) async fn is_empty(&self) {
        loop {
            let left = self.left.notified();
            if self.open().all.is_empty() {
                return;
            }
            left.await;
        }
    }
}

impl Open {
    /// Sends the one closing that waits longest of some.
    fn close_oldest(&mut self, of: impl Fn(&Connection) -> bool) -> Option<()> {
        let waits = self.all.iter().filter(|(_, connection)| !connection.works && of(connection));
        let oldest = waits.map(|(number, _)| *number).min()?;
        let connection = self.all.remove(&oldest)?;
        connection.closing.notify_one();
        Some(())
    }
}

impl Slot {
    /// Waits until the connection has to go.
    pub(super) async fn closed_for_another(&self) {
        self.closing.notified().await;
    }

    /// Says that a request is being answered; `None` when the connection was sent closing a moment before.
    pub(super) fn works(&self) -> Option<Work<'_>> {
        self.set(true).then_some(Work(self))
    }

    fn set(&self, works: bool) -> bool {
        let mut open = self.connections.open();
        let connection = open.all.get_mut(&self.number);
        connection.map(|connection| connection.works = works).is_some()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.open().all.remove(&self.number);
        self.connections.left.notify_waiters();
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[test]
    fn addresses_of_one_machine_share_its_places() {
        let connections = Arc::new(Connections::new(4, 2));
        let all = ["127.0.0.1", "127.9.9.9", "::1"]
            .map(|address| connections.admit(Some(address.parse().expect("an address"))).expect("an idle one goes"));
        assert_eq!(connections.open().all.len(), 2);
        drop(all);
    }

    #[test]
    fn the_oldest_who_only_waits_goes_first_and_who_works_stays() {
        let connections = Arc::new(Connections::new(4, 2));
        let first = connections.admit(Some(peer(1))).expect("room");
        let second = connections.admit(Some(peer(1))).expect("room");
        let _working = first.works().expect("it is there");
        let third = connections.admit(Some(peer(1))).expect("the second goes");
        assert_eq!(connections.open().all.len(), 2);
        assert!(!connections.open().all.contains_key(&second.number));
        let _also = third.works().expect("it is there");
        assert!(second.works().is_none(), "it was sent away");
        assert!(connections.admit(Some(peer(1))).is_none(), "both of this address are being answered");
        let fourth = connections.admit(Some(peer(2))).expect("another address");
        let _fifth = connections.admit(Some(peer(3))).expect("room");
        let _sixth = connections.admit(Some(peer(4))).expect("the fourth goes");
        assert!(!connections.open().all.contains_key(&fourth.number));
        drop(second);
        assert_eq!(connections.open().all.len(), 4);
    }
}
