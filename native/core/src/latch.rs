//! Whose packets a leg takes.
//!
//! *Strict*: from the address and port that the peer's SDP names, from nowhere else. *Learning*, for peers behind
//! NAT: whoever first sends [`CONSECUTIVE`] packets of one SSRC with continuous sequence numbers is it, until new
//! remote SDP opens the latch again. Before the lock a packet counts (audio or digit) only when it comes from the
//! address the signalling came from: a stranger who sprays the port range is heard by nobody.

use std::net::{IpAddr, SocketAddr};

use crate::rtp::Header;

/// Packets in a row that lock a learning latch.
pub const CONSECUTIVE: u8 = 3;

/// Sources watched at a time. One alone could be starved by a stranger who sends in between.
const CANDIDATES: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Candidate {
    source: SocketAddr,
    ssrc: u32,
    next_sequence: u16,
    count: u8,
}

/// What to do with one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the peer's.
    Accept,
    /// It is the peer's and locks the latch on its source.
    Lock,
    /// It is a stranger's, or nobody knows yet.
    Refuse,
}

#[derive(Clone, Debug)]
pub struct Latch {
    learning: bool,
    signalled: Option<SocketAddr>,
    signalled_from: Option<IpAddr>,
    locked: Option<SocketAddr>,
    /// The source locked on before new SDP that names the same address opened the latch again.
    previous: Option<SocketAddr>,
    candidates: [Option<Candidate>; CANDIDATES],
    oldest: usize,
}

/// The same transport address, whatever an IPv6 flow label says.
pub fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip() == b.ip() && a.port() == b.port()
}

impl Latch {
    /// `signalled` is the peer's RTP address in SDP, absent when it names none that can be sent to.
    pub fn new(learning: bool, signalled: Option<SocketAddr>, signalled_from: Option<IpAddr>) -> Self {
        let locked = if learning { None } else { signalled };
        let candidates = [None; CANDIDATES];
        Self { learning, signalled, signalled_from, locked, previous: None, candidates, oldest: 0 }
    }

    /// Open the latch for new remote SDP. When it names the same address (a session refresh, hold), packets go on to
    /// the source known so far until the peer has shown itself again.
    pub fn reopen(&mut self, learning: bool, signalled: Option<SocketAddr>, signalled_from: Option<IpAddr>) {
        let unmoved = self.learning && learning && self.signalled == signalled && self.signalled_from == signalled_from;
        let previous = if unmoved { self.locked.or(self.previous) } else { None };
        *self = Self { previous, ..Self::new(learning, signalled, signalled_from) };
    }

    pub fn locked(&self) -> Option<SocketAddr> {
        self.locked
    }

    /// Where packets for the peer go: the learnt source, until then the signalled address.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.locked.or(self.previous).or(self.signalled)
    }

    /// May a packet of this source be the peer's at all? What is asked before a cipher is spent on it.
    #[inline]
    pub fn may_come_from(&self, source: SocketAddr) -> bool {
        self.locked.map_or(self.learning, |locked| same(locked, source))
    }

    /// Judge a packet. `negotiated` says that its payload type is one the leg agreed on: others lock nothing.
    #[inline]
    pub fn judge(&mut self, source: SocketAddr, header: &Header, negotiated: bool) -> Verdict {
        if let Some(locked) = self.locked {
            return if same(locked, source) { Verdict::Accept } else { Verdict::Refuse };
        }
        if !self.learning {
            return Verdict::Refuse;
        }
        if negotiated && self.watch(source, header) {
            self.locked = Some(source);
            return Verdict::Lock;
        }
        if self.signalled_from == Some(source.ip()) || self.previous.is_some_and(|known| same(known, source)) {
            Verdict::Accept
        } else {
            Verdict::Refuse
        }
    }

    fn watch(&mut self, source: SocketAddr, header: &Header) -> bool {
        let next_sequence = header.sequence.wrapping_add(1);
        let seen = self.candidates.iter_mut().flatten().find(|c| same(c.source, source) && c.ssrc == header.ssrc);
        if let Some(candidate) = seen {
            let continuous = candidate.next_sequence == header.sequence;
            candidate.count = if continuous { candidate.count + 1 } else { 1 };
            candidate.next_sequence = next_sequence;
            return candidate.count >= CONSECUTIVE;
        }
        let fresh = Candidate { source, ssrc: header.ssrc, next_sequence, count: 1 };
        self.candidates[self.oldest] = Some(fresh);
        self.oldest = (self.oldest + 1) % CANDIDATES;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sequence: u16, ssrc: u32) -> Header {
        Header { marker: false, payload_type: 0, sequence, timestamp: 0, ssrc, start: 12, end: 172 }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn learning() -> Latch {
        Latch::new(true, Some(at("192.0.2.1:4000")), Some("198.51.100.7".parse().unwrap()))
    }

    #[test]
    fn strict_takes_the_signalled_address_and_port_only() {
        let mut latch = Latch::new(false, Some(at("192.0.2.1:4000")), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(latch.judge(at("192.0.2.1:4000"), &header(1, 1), true), Verdict::Accept);
        assert_eq!(latch.judge(at("192.0.2.1:4002"), &header(2, 1), true), Verdict::Refuse);
        assert_eq!(latch.judge(at("192.0.2.2:4000"), &header(3, 1), true), Verdict::Refuse);
        assert!(latch.may_come_from(at("192.0.2.1:4000")) && !latch.may_come_from(at("192.0.2.2:4000")));
        assert!(learning().may_come_from(at("192.0.2.2:4000")));
    }

    #[test]
    fn strict_without_an_address_takes_nothing() {
        let mut latch = Latch::new(false, None, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(latch.judge(at("192.0.2.1:4000"), &header(1, 1), true), Verdict::Refuse);
        assert_eq!(latch.destination(), None);
    }

    #[test]
    fn learning_locks_on_three_consecutive_packets_and_stays() {
        let mut latch = learning();
        let nat = at("198.51.100.7:31000");
        assert_eq!(latch.destination(), Some(at("192.0.2.1:4000")));
        assert_eq!(latch.judge(nat, &header(65534, 9), true), Verdict::Accept);
        assert_eq!(latch.judge(nat, &header(65535, 9), true), Verdict::Accept);
        assert_eq!(latch.judge(nat, &header(0, 9), true), Verdict::Lock);
        assert_eq!(latch.destination(), Some(nat));
        for n in 0..5 {
            assert_eq!(latch.judge(at("203.0.113.5:5"), &header(n, 4), true), Verdict::Refuse);
        }
        assert_eq!(latch.judge(nat, &header(3, 10), true), Verdict::Accept);
    }

    #[test]
    fn before_the_lock_a_stranger_is_not_heard_but_may_lock() {
        let mut latch = learning();
        let gateway = at("203.0.113.5:5000");
        assert_eq!(latch.judge(gateway, &header(1, 4), true), Verdict::Refuse);
        assert_eq!(latch.judge(gateway, &header(2, 4), true), Verdict::Refuse);
        assert_eq!(latch.judge(gateway, &header(3, 4), true), Verdict::Lock);
    }

    #[test]
    fn gaps_new_ssrcs_and_foreign_payload_types_begin_the_count_anew() {
        let mut latch = learning();
        let nat = at("198.51.100.7:31000");
        for (sequence, ssrc, negotiated) in [(1, 1, true), (2, 1, true), (4, 1, true), (5, 2, true), (6, 1, false)] {
            assert_eq!(latch.judge(nat, &header(sequence, ssrc), negotiated), Verdict::Accept);
        }
        assert_eq!(latch.judge(nat, &header(5, 1), true), Verdict::Accept);
        assert_eq!(latch.judge(nat, &header(6, 1), true), Verdict::Lock);
    }

    #[test]
    fn new_sdp_opens_the_latch_again_and_an_unmoved_peer_is_not_lost_meanwhile() {
        let mut latch = learning();
        let gateway = at("203.0.113.5:5000");
        for n in 0..3 {
            latch.judge(gateway, &header(n, 4), true);
        }
        let (signalled, from) = (Some(at("192.0.2.1:4000")), Some("198.51.100.7".parse().unwrap()));
        latch.reopen(true, signalled, from);
        assert_eq!((latch.locked(), latch.destination()), (None, Some(gateway)));
        assert_eq!(latch.judge(gateway, &header(9, 4), true), Verdict::Accept);
        let moved = at("198.51.100.7:99");
        for n in 0..2 {
            assert_eq!(latch.judge(moved, &header(n, 5), true), Verdict::Accept);
        }
        assert_eq!(latch.judge(moved, &header(2, 5), true), Verdict::Lock);
        latch.reopen(true, Some(at("192.0.2.9:4000")), from);
        assert_eq!(latch.destination(), Some(at("192.0.2.9:4000")));
        latch.reopen(false, signalled, from);
        assert_eq!(latch.locked(), signalled);
    }

    #[test]
    fn a_stranger_in_between_cannot_starve_the_peer() {
        let mut latch = learning();
        let nat = at("198.51.100.7:31000");
        let mut locked = false;
        for n in 0..3u16 {
            assert_ne!(latch.judge(at("203.0.113.5:5"), &header(n * 7, u32::from(n)), true), Verdict::Lock);
            locked = latch.judge(nat, &header(n, 9), true) == Verdict::Lock;
        }
        assert!(locked);
    }
}
