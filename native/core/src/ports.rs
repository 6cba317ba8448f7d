//! Which RTP port pairs are free: RTP even, RTCP the odd one above it (RFC 3550 §11).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The pairs of one range. Pairs are handed out round robin from a random start, so that a pair just freed, to which
/// late packets of its last call may still come, is the last to be used again.
pub struct PortAllocator {
    first: u16,
    used: Vec<bool>,
    cursor: usize,
    free: usize,
    reserve: usize,
}

impl PortAllocator {
    /// Pairs that lie wholly in `low..=high`. The last `reserve` of them go to emergency calls only.
    pub fn new(low: u16, high: u16, reserve: usize, start: u64) -> Self {
        let first = u32::from(low) + u32::from(low) % 2;
        let pairs = ((u32::from(high) + 1).saturating_sub(first) / 2) as usize;
        let cursor = if pairs == 0 { 0 } else { (start % pairs as u64) as usize };
        Self { first: first.min(65534) as u16, used: vec![false; pairs], cursor, free: pairs, reserve }
    }

    /// The RTP port of a free pair.
    pub fn take(&mut self, emergency: bool) -> Option<u16> {
        let kept = if emergency { 0 } else { self.reserve };
        if self.free <= kept {
            return None;
        }
        while self.used[self.cursor] {
            self.cursor = (self.cursor + 1) % self.used.len();
        }
        self.used[self.cursor] = true;
        self.free -= 1;
        let port = self.first + 2 * self.cursor as u16;
        self.cursor = (self.cursor + 1) % self.used.len();
        Some(port)
    }

    fn give_back(&mut self, port: u16) {
        let index = usize::from(port.wrapping_sub(self.first) / 2);
        if self.used.get(index) == Some(&true) {
            self.used[index] = false;
            self.free += 1;
        }
    }

    pub fn pairs(&self) -> usize {
        self.used.len()
    }

    pub fn in_use(&self) -> usize {
        self.used.len() - self.free
    }
}

/// An allocator that many threads take from.
#[derive(Clone)]
pub struct SharedPorts(Arc<Mutex<PortAllocator>>);

impl SharedPorts {
    pub fn new(allocator: PortAllocator) -> Self {
        Self(Arc::new(Mutex::new(allocator)))
    }

    /// A pair for as long as the lease lives.
    pub fn lease(&self, emergency: bool) -> Option<PortLease> {
        let rtp = self.allocator().take(emergency)?;
        Some(PortLease { rtp, ports: self.clone() })
    }

    pub fn allocator(&self) -> MutexGuard<'_, PortAllocator> {
        // A panic elsewhere cannot leave the table half written: each change is one assignment and a count.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pair in use; dropping it frees the pair.
pub struct PortLease {
    pub rtp: u16,
    ports: SharedPorts,
}

impl Drop for PortLease {
    fn drop(&mut self) {
        self.ports.allocator().give_back(self.rtp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3550_11_rtp_is_even_and_the_pair_lies_in_the_range() {
        let mut ports = PortAllocator::new(10_001, 10_006, 0, 0);
        assert_eq!(ports.pairs(), 2); // 10002/3 and 10004/5; 10006 has no partner
        assert_eq!((ports.take(false), ports.take(false), ports.take(false)), (Some(10_002), Some(10_004), None));
    }

    #[test]
    fn the_whole_space_and_empty_ranges() {
        assert_eq!(PortAllocator::new(0, 65535, 0, 0).pairs(), 32768);
        assert_eq!(PortAllocator::new(65535, 65535, 0, 7).pairs(), 0);
        assert_eq!(PortAllocator::new(65534, 65535, 0, 7).take(false), Some(65534));
        assert_eq!(PortAllocator::new(20, 10, 0, 7).take(true), None);
    }

    #[test]
    fn the_start_is_spread_and_a_freed_pair_comes_last() {
        let mut ports = PortAllocator::new(100, 107, 0, 2);
        assert_eq!(ports.take(false), Some(104));
        ports.give_back(104);
        let next: Vec<_> = (0..4).map(|_| ports.take(false).unwrap()).collect();
        assert_eq!(next, [106, 100, 102, 104]);
    }

    #[test]
    fn the_reserve_is_for_emergency_calls() {
        let mut ports = PortAllocator::new(100, 107, 2, 0);
        assert!(ports.take(false).is_some() && ports.take(false).is_some());
        assert_eq!(ports.take(false), None);
        assert!(ports.take(true).is_some() && ports.take(true).is_some());
        assert_eq!(ports.take(true), None);
    }

    #[test]
    fn a_dropped_lease_frees_its_pair_once() {
        let shared = SharedPorts::new(PortAllocator::new(100, 101, 0, 0));
        let lease = shared.lease(false).unwrap();
        assert!(shared.lease(true).is_none());
        assert_eq!(shared.allocator().in_use(), 1);
        drop(lease);
        assert_eq!(shared.allocator().in_use(), 0);
        shared.allocator().give_back(100);
        shared.allocator().give_back(50);
        assert_eq!(shared.allocator().in_use(), 0);
    }
}
