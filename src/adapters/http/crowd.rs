//! The connections that are open, and who has to go when there are too many.
//!
//! **Invariant:** a connection whose request is being answered is never sent away.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

/// All connections.
#[derive(Debug)]
pub(super) struct Crowd {
    most: usize,
    most_per_peer: usize,
    guests: Mutex<Guests>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    all: HashMap<u64, Guest>,
}

#[derive(Debug)]
struct Guest {
    peer: Option<IpAddr>,
    /// Whether a request of it is being answered.
    works: bool,
    away: Arc<Notify>,
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    away: Arc<Notify>,
    crowd: Arc<Crowd>,
}

/// A request is being answered as long as this lives.
pub(super) struct Work<'a>(&'a Seat);

impl Crowd {
    pub(super) fn new(most: usize, most_per_peer: usize) -> Crowd {
        Crowd { most, most_per_peer, guests: Mutex::default(), left: Notify::new() }
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Makes room for a connection; `None` when everybody who could go is being answered.
    pub(super) fn admit(self: &Arc<Crowd>, peer: Option<IpAddr>) -> Option<Seat> {
        let mut guests = self.guests();
        let of_peer = guests.all.values().filter(|guest| guest.peer == peer).count();
        if of_peer >= self.most_per_peer {
            guests.send_away(|guest| guest.peer == peer)?;
        } else if guests.all.len() >= self.most {
            guests.send_away(|_| true)?;
        }
        let number = guests.next;
        guests.next = guests.next.saturating_add(1);
        let away = Arc::new(Notify::new());
        guests.all.insert(number, Guest { peer, works: false, away: Arc::clone(&away) });
        Some(Seat { number, away, crowd: Arc::clone(self) })
    }

    /// Waits until nobody is there.
    pub(super) async fn is_empty(&self) {
        loop {
            let left = self.left.notified();
            if self.guests().all.is_empty() {
                return;
            }
            left.await;
        }
    }
}

impl Guests {
    /// Sends the one away that waits longest of some.
    fn send_away(&mut self, of: impl Fn(&Guest) -> bool) -> Option<()> {
        let waits = self.all.iter().filter(|(_, guest)| !guest.works && of(guest));
        let oldest = waits.map(|(number, _)| *number).min()?;
        let guest = self.all.remove(&oldest)?;
        guest.away.notify_one();
        Some(())
    }
}

impl Seat {
    /// Waits until the connection has to go.
    pub(super) async fn sent_away(&self) {
        self.away.notified().await;
    }

    /// Says that a request is being answered; `None` when the connection was sent away a moment before.
    pub(super) fn works(&self) -> Option<Work<'_>> {
        self.set(true).then_some(Work(self))
    }

    fn set(&self, works: bool) -> bool {
        let mut guests = self.crowd.guests();
        let guest = guests.all.get_mut(&self.number);
        guest.map(|guest| guest.works = works).is_some()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.guests().all.remove(&self.number);
        self.crowd.left.notify_waiters();
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
    fn the_oldest_who_only_waits_goes_first_and_who_works_stays() {
        let crowd = Arc::new(Crowd::new(4, 2));
        let first = crowd.admit(Some(peer(1))).expect("room");
        let second = crowd.admit(Some(peer(1))).expect("room");
        let _working = first.works().expect("it is there");
        let third = crowd.admit(Some(peer(1))).expect("the second goes");
        assert_eq!(crowd.guests().all.len(), 2);
        assert!(!crowd.guests().all.contains_key(&second.number));
        let _also = third.works().expect("it is there");
        assert!(second.works().is_none(), "it was sent away");
        assert!(crowd.admit(Some(peer(1))).is_none(), "both of this address are being answered");
        let fourth = crowd.admit(Some(peer(2))).expect("another address");
        let _fifth = crowd.admit(Some(peer(3))).expect("room");
        let _sixth = crowd.admit(Some(peer(4))).expect("the fourth goes");
        assert!(!crowd.guests().all.contains_key(&fourth.number));
        drop(second);
        assert_eq!(crowd.guests().all.len(), 4);
    }
}
