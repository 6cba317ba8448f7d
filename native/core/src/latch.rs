//! Whose packets a leg takes.
//!
//! *Strict*: from the IP address that the peer's SDP names, from nowhere else. The signalled port is the peer's at once
//! and for good; where packets come from another port of that address (RTP may be asymmetric, RFC 4961 §1), the first
//! source of [`CONSECUTIVE`] packets in a row is heard until the signalled port speaks. Packets always go to the
//! signalled port.
//!
//! *Learning*, for peers behind NAT: whoever first sends [`CONSECUTIVE`] packets of one SSRC with continuous sequence
//! numbers is it, until new remote SDP opens the latch again. A source that nobody named locks only when the known ones
//! (the address the signalling came from, that of the SDP, the source locked on before) have been silent for
//! [`KNOWN_FIRST_US`], from the opening of the latch on: a stranger who sprays the port range is not faster than the peer.
//! Before the lock a packet counts (audio or digit) only when it comes from the address the signalling came from.

use std::net::{IpAddr, SocketAddr};

use crate::rtp::Header;

/// Packets in a row that lock a learning latch.
pub const CONSECUTIVE: u8 = 3;

/// How long the sources that are known have the latch to themselves, after the opening and after each of their packets:
/// several times the longest packet time, and short beside a word.
pub const KNOWN_FIRST_US: u64 = 500_000;

/// Sources watched at a time. One alone could be starved by a stranger who sends in between.
const CANDIDATES: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Candidate {
    source: SocketAddr,
    ssrc: u32,
    next_sequence: u16,
    count: u8,
}

/// Counts the packets in a row of a few sources.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    candidates: [Option<Candidate>; CANDIDATES],
    oldest: usize,
}

impl Watch {
    /// Count a packet; says whether its source has sent enough of them in a row.
    fn count(&mut self, source: SocketAddr, header: &Header) -> bool {
        let next_sequence = header.sequence.wrapping_add(1);
        let seen = self.candidates.iter_mut().flatten().find(|c| same(c.source, source) && c.ssrc == header.ssrc);
        if let Some(candidate) = seen {
            let continuous = candidate.next_sequence == header.sequence;
            candidate.count = if continuous { candidate.count.saturating_add(1) } else { 1 };
            candidate.next_sequence = next_sequence;
            return candidate.count >= CONSECUTIVE;
        }
        self.candidates[self.oldest] = Some(Candidate { source, ssrc: header.ssrc, next_sequence, count: 1 });
        self.oldest = (self.oldest + 1) % CANDIDATES;
        false
    }
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
    /// Strict: the port beside the signalled one that the peer sends from.
    beside: Option<SocketAddr>,
    /// Until then no other source takes the place of the known ones.
    guarded_until_us: u64,
    known: Watch,
    strangers: Watch,
}

/// The same transport address, whatever an IPv6 flow label says.
pub fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip() == b.ip() && a.port() == b.port()
}

impl Latch {
    /// `signalled` is the peer's RTP address in SDP, absent when it names none that can be sent to.
    pub fn new(learning: bool, signalled: Option<SocketAddr>, signalled_from: Option<IpAddr>, now_us: u64) -> Self {
        Self {
            learning,
            signalled,
            signalled_from,
            locked: None,
            previous: None,
            beside: None,
            // Only a learning latch lets in sources that nobody named.
            guarded_until_us: if learning { now_us + KNOWN_FIRST_US } else { 0 },
            known: Watch::default(),
            strangers: Watch::default(),
        }
    }

    /// Take new remote SDP, which opens a learning latch. When it names the same address (a session refresh, hold), packets
    /// go on to the source known so far until the peer has shown itself again; a strict latch then stays as it is.
    pub fn reopen(
        &mut self,
        learning: bool,
        signalled: Option<SocketAddr>,
        signalled_from: Option<IpAddr>,
        now_us: u64,
    ) {
        let unmoved = self.learning == learning && self.signalled == signalled && self.signalled_from == signalled_from;
        if unmoved && !learning {
            return;
        }
        let previous = if unmoved { self.locked.or(self.previous) } else { None };
        *self = Self { previous, ..Self::new(learning, signalled, signalled_from, now_us) };
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
        match self.locked {
            Some(locked) => same(locked, source),
            None => self.learning || self.is_at_signalled_address(source),
        }
    }

    fn is_at_signalled_address(&self, source: SocketAddr) -> bool {
        self.signalled.is_some_and(|signalled| signalled.ip() == source.ip())
    }

    /// Judge a packet. `negotiated` says that its payload type is one the leg agreed on: others lock nothing.
    #[inline]
    pub fn judge(&mut self, source: SocketAddr, header: &Header, negotiated: bool, now_us: u64) -> Verdict {
        if let Some(locked) = self.locked {
            return if same(locked, source) { Verdict::Accept } else { Verdict::Refuse };
        }
        if self.learning {
            self.learn(source, header, negotiated, now_us)
        } else {
            self.compare(source, header, negotiated, now_us)
        }
    }

    fn learn(&mut self, source: SocketAddr, header: &Header, negotiated: bool, now_us: u64) -> Verdict {
        let heard = self.signalled_from == Some(source.ip()) || self.previous.is_some_and(|known| same(known, source));
        let known = heard || self.is_at_signalled_address(source);
        let may_lock = known || now_us >= self.guarded_until_us;
        if known {
            self.guarded_until_us = now_us + KNOWN_FIRST_US;
        }
        // Each kind has its own watch, so that strangers can't crowd the peer out of it.
        let watch = if known { &mut self.known } else { &mut self.strangers };
        if negotiated && watch.count(source, header) && may_lock {
            self.locked = Some(source);
            return Verdict::Lock;
        }
        if heard {
            Verdict::Accept
        } else {
            Verdict::Refuse
        }
    }

    fn compare(&mut self, source: SocketAddr, header: &Header, negotiated: bool, now_us: u64) -> Verdict {
        if self.signalled.is_some_and(|signalled| same(signalled, source)) {
            self.locked = Some(source);
            return Verdict::Lock;
        }
        if !self.is_at_signalled_address(source) {
            return Verdict::Refuse;
        }
        if !self.beside.is_some_and(|beside| same(beside, source)) {
            if !negotiated || now_us < self.guarded_until_us || !self.strangers.count(source, header) {
                return Verdict::Refuse;
            }
            self.beside = Some(source);
        }
        self.guarded_until_us = now_us + KNOWN_FIRST_US;
        Verdict::Accept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER_US: u64 = KNOWN_FIRST_US;

    fn header(sequence: u16, ssrc: u32) -> Header {
        Header { marker: false, payload_type: 0, sequence, timestamp: 0, ssrc, start: 12, end: 172 }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn learning() -> Latch {
        Latch::new(true, Some(at("192.0.2.1:4000")), Some("198.51.100.7".parse().unwrap()), 0)
    }

    fn strict() -> Latch {
        Latch::new(false, Some(at("192.0.2.1:4000")), Some("192.0.2.1".parse().unwrap()), 0)
    }

    #[test]
    fn strict_locks_on_the_signalled_address_and_port() {
        let mut latch = strict();
        assert_eq!(latch.destination(), Some(at("192.0.2.1:4000")));
        assert_eq!(latch.judge(at("192.0.2.2:4000"), &header(3, 1), true, LATER_US), Verdict::Refuse);
        assert!(latch.may_come_from(at("192.0.2.1:4002")) && !latch.may_come_from(at("192.0.2.2:4000")));
        assert_eq!(latch.judge(at("192.0.2.1:4000"), &header(1, 1), true, 0), Verdict::Lock);
        assert_eq!(latch.judge(at("192.0.2.1:4000"), &header(2, 1), true, 0), Verdict::Accept);
        for n in 0..4 {
            assert_eq!(latch.judge(at("192.0.2.1:4002"), &header(n, 2), true, LATER_US), Verdict::Refuse);
        }
        assert!(latch.may_come_from(at("192.0.2.1:4000")) && !latch.may_come_from(at("192.0.2.1:4002")));
        assert!(learning().may_come_from(at("192.0.2.2:4000")));
    }

    #[test]
    fn rfc4961_strict_hears_a_peer_that_sends_from_another_port_and_sends_to_the_signalled_one() {
        let (mut latch, odd) = (strict(), at("192.0.2.1:7000"));
        let verdicts = [1, 2, 3, 4].map(|n| latch.judge(odd, &header(n, 1), true, 0));
        assert_eq!(verdicts, [Verdict::Refuse, Verdict::Refuse, Verdict::Accept, Verdict::Accept]);
        assert_eq!((latch.locked(), latch.destination()), (None, Some(at("192.0.2.1:4000"))));
        // A third port doesn't mix in; after a silence the peer may have moved there.
        for n in 0..3 {
            assert_eq!(latch.judge(at("192.0.2.1:9000"), &header(n, 2), true, 0), Verdict::Refuse);
        }
        let moved = [7, 8, 9].map(|n| latch.judge(at("192.0.2.1:9000"), &header(n, 2), true, LATER_US));
        assert_eq!(moved, [Verdict::Refuse, Verdict::Refuse, Verdict::Accept]);
        // The signalled port speaks at last: that is what was signalled.
        assert_eq!(latch.judge(at("192.0.2.1:4000"), &header(1, 3), true, LATER_US), Verdict::Lock);
        assert_eq!(latch.judge(odd, &header(5, 1), true, 9 * LATER_US), Verdict::Refuse);
    }

    #[test]
    fn new_sdp_of_a_strict_peer_keeps_the_latch_unless_it_moved() {
        let (mut latch, from) = (strict(), Some("192.0.2.1".parse().unwrap()));
        latch.judge(at("192.0.2.1:4000"), &header(1, 1), true, 0);
        latch.reopen(false, Some(at("192.0.2.1:4000")), from, 0);
        assert_eq!(latch.locked(), Some(at("192.0.2.1:4000")));
        latch.reopen(false, Some(at("192.0.2.1:5000")), from, 0);
        assert_eq!((latch.locked(), latch.destination()), (None, Some(at("192.0.2.1:5000"))));
    }

    #[test]
    fn strict_without_an_address_takes_nothing() {
        let mut latch = Latch::new(false, None, Some("192.0.2.1".parse().unwrap()), 0);
        assert_eq!(latch.judge(at("192.0.2.1:4000"), &header(1, 1), true, 0), Verdict::Refuse);
        assert_eq!(latch.destination(), None);
    }

    #[test]
    fn learning_locks_on_three_consecutive_packets_and_stays() {
        let mut latch = learning();
        let nat = at("198.51.100.7:31000");
        assert_eq!(latch.destination(), Some(at("192.0.2.1:4000")));
        assert_eq!(latch.judge(nat, &header(65534, 9), true, 0), Verdict::Accept);
        assert_eq!(latch.judge(nat, &header(65535, 9), true, 0), Verdict::Accept);
        assert_eq!(latch.judge(nat, &header(0, 9), true, 0), Verdict::Lock);
        assert_eq!(latch.destination(), Some(nat));
        for n in 0..5 {
            assert_eq!(latch.judge(at("203.0.113.5:5"), &header(n, 4), true, LATER_US), Verdict::Refuse);
        }
        assert_eq!(latch.judge(nat, &header(3, 10), true, 0), Verdict::Accept);
    }

    #[test]
    fn before_the_lock_a_stranger_is_not_heard_but_may_lock_after_a_while() {
        let mut latch = learning();
        let gateway = at("203.0.113.5:5000");
        for n in 1..9 {
            assert_eq!(latch.judge(gateway, &header(n, 4), true, LATER_US - 1), Verdict::Refuse);
        }
        assert_eq!(latch.judge(gateway, &header(9, 4), true, LATER_US), Verdict::Lock);
    }

    #[test]
    fn a_stranger_never_overtakes_a_known_source_that_is_sending() {
        for known in ["198.51.100.7:31000", "192.0.2.1:4000", "192.0.2.1:4444"] {
            let mut latch = learning();
            let stranger = at("203.0.113.5:5");
            for n in 0..40u16 {
                // Every other packet of the peer is lost, so that it never counts to three.
                let now_us = LATER_US + u64::from(n) * 40_000;
                assert_ne!(latch.judge(at(known), &header(n * 2, 9), true, now_us), Verdict::Lock);
                assert_eq!(latch.judge(stranger, &header(n, 4), true, now_us + 20_000), Verdict::Refuse);
            }
            let silent = LATER_US + 39 * 40_000 + KNOWN_FIRST_US;
            assert_eq!(latch.judge(stranger, &header(40, 4), true, silent), Verdict::Lock);
        }
    }

    #[test]
    fn a_session_refresh_gives_strangers_no_opening() {
        let mut latch = learning();
        let (gateway, stranger) = (at("203.0.113.5:5000"), at("203.0.113.66:6"));
        for n in 0..3 {
            latch.judge(gateway, &header(n, 4), true, LATER_US);
        }
        assert_eq!(latch.locked(), Some(gateway));
        let now_us = 60 * LATER_US;
        latch.reopen(true, Some(at("192.0.2.1:4000")), Some("198.51.100.7".parse().unwrap()), now_us);
        for n in 0..4 {
            assert_eq!(latch.judge(stranger, &header(n, 5), true, now_us), Verdict::Refuse);
        }
        assert_eq!(latch.judge(gateway, &header(3, 4), true, now_us + 400_000), Verdict::Accept);
        assert_eq!(latch.judge(stranger, &header(4, 5), true, now_us + 600_000), Verdict::Refuse);
    }

    #[test]
    fn gaps_new_ssrcs_and_foreign_payload_types_begin_the_count_anew() {
        let mut latch = learning();
        let nat = at("198.51.100.7:31000");
        for (sequence, ssrc, negotiated) in [(1, 1, true), (2, 1, true), (4, 1, true), (5, 2, true), (6, 1, false)] {
            assert_eq!(latch.judge(nat, &header(sequence, ssrc), negotiated, 0), Verdict::Accept);
        }
        assert_eq!(latch.judge(nat, &header(5, 1), true, 0), Verdict::Accept);
        assert_eq!(latch.judge(nat, &header(6, 1), true, 0), Verdict::Lock);
    }

    #[test]
    fn new_sdp_opens_the_latch_again_and_an_unmoved_peer_is_not_lost_meanwhile() {
        let mut latch = learning();
        let gateway = at("203.0.113.5:5000");
        for n in 0..3 {
            latch.judge(gateway, &header(n, 4), true, LATER_US);
        }
        let (signalled, from) = (Some(at("192.0.2.1:4000")), Some("198.51.100.7".parse().unwrap()));
        latch.reopen(true, signalled, from, LATER_US);
        assert_eq!((latch.locked(), latch.destination()), (None, Some(gateway)));
        assert_eq!(latch.judge(gateway, &header(9, 4), true, LATER_US), Verdict::Accept);
        let moved = at("198.51.100.7:99");
        for n in 0..2 {
            assert_eq!(latch.judge(moved, &header(n, 5), true, LATER_US), Verdict::Accept);
        }
        assert_eq!(latch.judge(moved, &header(2, 5), true, LATER_US), Verdict::Lock);
        latch.reopen(true, Some(at("192.0.2.9:4000")), from, LATER_US);
        assert_eq!(latch.destination(), Some(at("192.0.2.9:4000")));
        latch.reopen(false, signalled, from, LATER_US);
        assert_eq!((latch.locked(), latch.destination()), (None, signalled));
    }

    #[test]
    fn strangers_in_between_cannot_starve_the_peer() {
        let mut latch = learning();
        let nat = at("198.51.100.7:31000");
        let mut locked = false;
        for n in 0..3u16 {
            for other in 0..9 {
                let source = SocketAddr::new("203.0.113.5".parse().unwrap(), other + 1);
                assert_ne!(latch.judge(source, &header(n * 7, u32::from(n)), true, 0), Verdict::Lock);
            }
            locked = latch.judge(nat, &header(n, 9), true, 0) == Verdict::Lock;
        }
        assert!(locked);
    }
}
