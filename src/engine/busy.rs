//! Which hosts are occupied, and by how many tasks.
//!
//! **Invariant:** a host is never taken by more tasks at once than it allows; what went on over a restart is counted, whatever
//! it allows now.

use std::collections::BTreeMap;

use crate::base::ids::HostName;

/// The hosts that are occupied.
#[derive(Debug, Default)]
pub(super) struct Busy {
    hosts: BTreeMap<HostName, u32>,
    all: usize,
}

impl Busy {
    /// Whether one more task may run on a host that allows `most` at once.
    pub(super) fn has_room(&self, host: &HostName, most: u32) -> bool {
        self.hosts.get(host).is_none_or(|count| *count < most.max(1))
    }

    /// Occupies a host; false when it allows no more.
    pub(super) fn take(&mut self, host: HostName, most: u32) -> bool {
        let room = self.has_room(&host, most);
        if room {
            self.resume(host);
        }
        room
    }

    /// Occupies a host for what runs there already.
    pub(super) fn resume(&mut self, host: HostName) {
        let count = self.hosts.entry(host).or_insert(0);
        *count = count.saturating_add(1);
        self.all = self.all.saturating_add(1);
    }

    /// Frees a host of one task.
    pub(super) fn free(&mut self, host: &HostName) {
        let Some(count) = self.hosts.get_mut(host) else { return };
        *count = count.saturating_sub(1);
        self.all = self.all.saturating_sub(1);
        if *count == 0 {
            self.hosts.remove(host);
        }
    }

    /// Returns how many hosts are in flight, each as often as tasks are on it.
    pub(super) fn len(&self) -> usize {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_takes_as_many_as_it_allows_and_no_more() {
        let (mut busy, host) = (Busy::default(), |name: &str| name.parse::<HostName>().unwrap());
        assert!(busy.take(host("a"), 2) && busy.take(host("a"), 2) && !busy.take(host("a"), 2));
        assert!(!busy.has_room(&host("a"), 1) && busy.take(host("b"), 0) && !busy.take(host("b"), 0));
        assert_eq!(busy.len(), 3);
        busy.free(&host("a"));
        assert!(busy.has_room(&host("a"), 2) && !busy.has_room(&host("a"), 1));
        busy.free(&host("a"));
        busy.free(&host("a"));
        assert!(busy.has_room(&host("a"), 1));
        assert_eq!(busy.len(), 1);
    }
}
