//! What guards one leg's media: both directions, and the change from one key to the next.

use super::{Inbound, Keys, Outbound};

/// Protects what the leg sends and opens what it receives.
pub struct Guard {
    out: Outbound,
    into: Inbound,
    /// The receiving side before the last change of keys: packets under way still have its key.
    before: Option<Inbound>,
}

impl Guard {
    /// Nothing when the keys can't be used.
    pub fn new(keys: &Keys) -> Option<Self> {
        Some(Self { out: Outbound::new(&keys.local)?, into: Inbound::new(keys)?, before: None })
    }

    /// Take the keys of a new offer/answer. A key that stays keeps its roll-over counter and replay list; a new one
    /// begins anew (RFC 4568 §7.1.4), and the peer's old one is heard until the new one is.
    pub fn rekey(&mut self, keys: &Keys) -> Option<()> {
        if !self.out.is_keyed_with(&keys.local) {
            self.out = Outbound::new(&keys.local)?;
        }
        if !self.into.is_keyed_with(keys) {
            self.before = Some(std::mem::replace(&mut self.into, Inbound::new(keys)?));
        }
        Some(())
    }

    /// Protect the RTP packet in the first `end` octets of a buffer with [`super::ROOM`] behind it.
    #[inline]
    pub fn protect(&mut self, buffer: &mut [u8], end: usize) -> Option<usize> {
        self.out.protect(buffer, end)
    }

    /// Protect a compound RTCP packet likewise.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], end: usize) -> Option<usize> {
        self.out.protect_rtcp(buffer, end)
    }

    /// Open an SRTP packet in place and return its length, or nothing when it is not genuine.
    #[inline]
    pub fn open(&mut self, packet: &mut [u8]) -> Option<usize> {
        if self.before.is_none() {
            return self.into.open(packet);
        }
        self.open_in_change(packet, Inbound::open)
    }

    /// Open an SRTCP packet likewise.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Option<usize> {
        if self.before.is_none() {
            return self.into.open_rtcp(packet);
        }
        self.open_in_change(packet, Inbound::open_rtcp)
    }

    fn open_in_change(
        &mut self,
        packet: &mut [u8],
        open: impl Fn(&mut Inbound, &mut [u8]) -> Option<usize>,
    ) -> Option<usize> {
        // A failed try may garble, so the new key gets a copy; this lasts until the peer's first packet with it.
        let mut copy = [0; crate::leg::BUFFER];
        let copy = copy.get_mut(..packet.len())?;
        copy.copy_from_slice(packet);
        if let Some(length) = open(&mut self.into, copy) {
            packet.copy_from_slice(copy);
            self.before = None;
            return Some(length);
        }
        self.before.as_mut().and_then(|before| open(before, packet))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MasterKey, Suite, ROOM};
    use super::*;
    use crate::rtp;

    fn key(suite: Suite, fill: u8) -> MasterKey {
        MasterKey::new(suite, &vec![fill; suite.key_length() + suite.salt_length()]).unwrap()
    }

    fn guards(suite: Suite, one: u8, other: u8) -> (Keys, Keys) {
        let (one, other) = (key(suite, one), key(suite, other));
        let here = Keys { local: one.clone(), remote: other.clone(), remote_mki: Vec::new() };
        (here, Keys { local: other, remote: one, remote_mki: Vec::new() })
    }

    fn packet(guard: &mut Guard, sequence: u16) -> Vec<u8> {
        let mut buffer = vec![5; 32 + ROOM];
        rtp::write(&mut buffer, false, 0, sequence, 0, 77);
        let length = guard.protect(&mut buffer, 32).unwrap();
        buffer.truncate(length);
        buffer
    }

    fn report(guard: &mut Guard) -> Vec<u8> {
        let mut buffer = vec![0; 8 + ROOM];
        buffer[..8].copy_from_slice(&[0x80, 201, 0, 1, 0, 0, 0, 77]);
        let length = guard.protect_rtcp(&mut buffer, 8).unwrap();
        buffer.truncate(length);
        buffer
    }

    #[test]
    fn rfc4568_7_1_4_a_new_key_begins_anew_and_the_old_one_is_heard_until_then() {
        for suite in [Suite::AesCm128Sha1Tag80, Suite::AeadAes128Gcm] {
            let (gate, phone) = guards(suite, 1, 2);
            let (new_gate, new_phone) = guards(suite, 3, 4);
            let (mut gate, mut old_phone) = (Guard::new(&gate).unwrap(), Guard::new(&phone).unwrap());
            let mut new_phone = Guard::new(&new_phone).unwrap();
            assert!(gate.open(&mut packet(&mut old_phone, 40_000)).is_some());
            gate.rekey(&new_gate).unwrap();
            assert_eq!(gate.open(&mut packet(&mut old_phone, 40_001)), Some(32), "under way");
            assert_eq!(gate.open_rtcp(&mut report(&mut old_phone)), Some(8));
            assert_eq!(gate.open_rtcp(&mut report(&mut new_phone)), Some(8));
            assert_eq!(gate.open(&mut packet(&mut old_phone, 40_002)), None, "the new key has been heard");
            assert_eq!(gate.open_rtcp(&mut report(&mut old_phone)), None);
            assert_eq!(gate.open(&mut packet(&mut new_phone, 40_003)), Some(32));
            assert_eq!(new_phone.open(&mut packet(&mut gate, 7)), Some(32));
        }
    }

    #[test]
    fn the_same_keys_keep_counters_and_replay_list() {
        let (keys, phone) = guards(Suite::AesCm128Sha1Tag80, 1, 2);
        let (mut gate, mut phone) = (Guard::new(&keys).unwrap(), Guard::new(&phone).unwrap());
        let first = packet(&mut phone, 1);
        assert!(gate.open(&mut first.clone()).is_some());
        let sent = packet(&mut gate, 9);
        gate.rekey(&keys).unwrap();
        assert_eq!(gate.open(&mut first.clone()), None);
        assert_eq!(gate.protect(&mut sent.clone(), 32), None, "index 9 has been used");
    }

    #[test]
    fn a_packet_too_long_for_any_path_is_refused_in_the_change() {
        let (keys, _) = guards(Suite::AesCm128Sha1Tag80, 1, 2);
        let (others, _) = guards(Suite::AesCm128Sha1Tag80, 1, 3);
        let mut gate = Guard::new(&keys).unwrap();
        gate.rekey(&others).unwrap();
        assert_eq!(gate.open(&mut vec![0x80; crate::leg::BUFFER + 1]), None);
    }
}
