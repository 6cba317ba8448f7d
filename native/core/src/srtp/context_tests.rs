use super::super::{hex, Suite};
use super::*;

const SUITES: [Suite; 6] = [
    Suite::AesCm128Sha1Tag80,
    Suite::AesCm128Sha1Tag32,
    Suite::AesCm256Sha1Tag80,
    Suite::AesCm256Sha1Tag32,
    Suite::AeadAes128Gcm,
    Suite::AeadAes256Gcm,
];

fn master(suite: Suite, fill: u8) -> MasterKey {
    MasterKey::new(suite, &vec![fill; suite.key_length() + suite.salt_length()]).unwrap()
}

fn keys(suite: Suite, mki: &[u8]) -> Keys {
    Keys { local: master(suite, 1), remote: master(suite, 2), remote_mki: mki.to_vec() }
}

struct Pair {
    out: Outbound,
    into: Inbound,
}

impl Pair {
    fn new(suite: Suite) -> Self {
        let keys = keys(suite, &[]);
        Self { out: Outbound::new(&keys.remote).unwrap(), into: Inbound::new(&keys).unwrap() }
    }

    fn protected(&mut self, index: u64, ssrc: u32) -> Option<Vec<u8>> {
        let mut buffer = plain(index, ssrc);
        let end = buffer.len();
        buffer.resize(end + ROOM, 0);
        let length = self.out.protect(&mut buffer, end)?;
        buffer.truncate(length);
        Some(buffer)
    }

    fn opened(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut packet = packet.to_vec();
        let length = self.into.open(&mut packet)?;
        packet.truncate(length);
        Some(packet)
    }
}

fn plain(index: u64, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![(index * 7) as u8; 172];
    rtp::write(&mut packet, false, 0, index as u16, index as u32 * 160, ssrc);
    packet
}

fn rtcp() -> Vec<u8> {
    hex("81C8000D4D6172734E5450314E545032525450200000042A0000E9304C756E61DEADBEEFDEADBEEFDEADBEEFDEADBEEFDEADBEEF")
}

#[test]
fn rfc3711_3_3_what_is_protected_is_opened_in_every_suite() {
    for suite in SUITES {
        let mut pair = Pair::new(suite);
        for index in 65_500..65_600 {
            let packet = pair.protected(index, 9).unwrap();
            assert_eq!(packet.len(), 172 + suite.tag_length());
            assert_ne!(packet[12..172], plain(index, 9)[12..]);
            assert_eq!(pair.opened(&packet).unwrap(), plain(index, 9));
        }
    }
}

#[test]
fn header_extension_and_csrcs_stay_in_the_clear() {
    let mut packet = hex("9180 0001 00000000 00000007 0000000A BEDE0001 01020304 AABBCCDD");
    let whole = packet.clone();
    let mut pair = Pair::new(Suite::AesCm128Sha1Tag80);
    let end = packet.len();
    packet.resize(end + ROOM, 0);
    let length = pair.out.protect(&mut packet, end).unwrap();
    assert_eq!(packet[..24], whole[..24]);
    assert_ne!(packet[24..28], whole[24..]);
    assert_eq!(pair.opened(&packet[..length]).unwrap(), whole);
}

#[test]
fn every_changed_bit_is_noticed() {
    for suite in SUITES {
        let mut pair = Pair::new(suite);
        let packet = pair.protected(40, 9).unwrap();
        for byte in 0..packet.len() {
            let mut changed = packet.clone();
            changed[byte] ^= 0x10;
            assert_eq!(pair.opened(&changed), None, "octet {byte}");
        }
        for length in 0..packet.len() {
            assert_eq!(pair.opened(&packet[..length]), None);
        }
        assert!(pair.opened(&packet).is_some(), "the forgeries changed nothing");
    }
}

#[test]
fn rfc3711_3_3_2_a_replayed_packet_is_dropped_and_a_late_one_is_not() {
    let mut pair = Pair::new(Suite::AesCm128Sha1Tag80);
    let packets: Vec<_> = (65_530..65_545).map(|index| pair.protected(index, 9).unwrap()).collect();
    for n in [0, 2, 1, 14, 7, 5] {
        assert!(pair.opened(&packets[n]).is_some(), "packet {n}");
        assert_eq!(pair.opened(&packets[n]), None, "packet {n} again");
    }
}

#[test]
fn no_keystream_is_used_twice() {
    let mut pair = Pair::new(Suite::AeadAes128Gcm);
    assert!(pair.protected(300, 9).is_some());
    assert!(pair.protected(302, 9).is_some());
    assert!(pair.protected(301, 9).is_some());
    assert_eq!(pair.protected(301, 9), None);
    assert_eq!(pair.protected(302, 9), None);
    assert_eq!(pair.protected(100, 9), None, "too old to tell");
}

#[test]
fn each_ssrc_has_its_own_roll_over_counter() {
    let mut pair = Pair::new(Suite::AesCm128Sha1Tag32);
    let mut others = Pair::new(Suite::AesCm128Sha1Tag32);
    for index in 65_530..65_540 {
        let packet = pair.protected(index, 9).unwrap();
        assert!(pair.opened(&packet).is_some());
        let other = others.protected(index - 65_000, 10).unwrap();
        assert!(pair.opened(&other).is_some());
    }
    // A sender that changes its SSRC again and again is followed; the table stays small.
    for ssrc in 100..120 {
        let packet = Pair::new(Suite::AesCm128Sha1Tag32).protected(1, ssrc).unwrap();
        assert!(pair.opened(&packet).is_some());
    }
}

#[test]
fn rfc3711_3_1_a_master_key_identifier_is_taken_off_and_checked() {
    for suite in SUITES {
        let mki = [0, 0, 1, 7];
        let mut pair = Pair::new(suite);
        pair.into = Inbound::new(&keys(suite, &mki)).unwrap();
        let mut packet = pair.protected(1, 9).unwrap();
        assert_eq!(pair.opened(&packet), None);
        let at = if suite.is_aead() { packet.len() } else { packet.len() - suite.tag_length() };
        packet.splice(at..at, mki);
        assert_eq!(pair.opened(&packet).unwrap(), plain(1, 9));
        let mut packet = pair.protected(2, 9).unwrap();
        let at = if suite.is_aead() { packet.len() } else { packet.len() - suite.tag_length() };
        packet.splice(at..at, [9, 9, 9, 9]);
        assert_eq!(pair.opened(&packet), None);
    }
    assert!(Inbound::new(&keys(Suite::AesCm128Sha1Tag80, &[0; MKI + 1])).is_none());
}

#[test]
fn rfc3711_3_4_srtcp() {
    for suite in SUITES {
        let mut pair = Pair::new(suite);
        let mut earlier = None;
        for index in 1..5u32 {
            let mut packet = rtcp();
            let end = packet.len();
            packet.resize(end + ROOM, 0);
            let length = pair.out.protect_rtcp(&mut packet, end).unwrap();
            assert_eq!(length, end + 4 + suite.rtcp_tag_length());
            packet.truncate(length);
            let at = if suite.is_aead() { length - 4 } else { end };
            assert_eq!(packet[at..at + 4], (ENCRYPTED | index).to_be_bytes());
            for byte in 0..length {
                let mut changed = packet.clone();
                changed[byte] ^= 0x80;
                assert_eq!(pair.into.open_rtcp(&mut changed), None, "octet {byte}");
            }
            let mut opened = packet.clone();
            assert_eq!(pair.into.open_rtcp(&mut opened), Some(end));
            assert_eq!(opened[..end], rtcp());
            assert_eq!(pair.into.open_rtcp(&mut packet.clone()), None, "replayed");
            earlier = Some(packet);
        }
        for length in 0..earlier.as_ref().map_or(0, Vec::len) {
            assert_eq!(pair.into.open_rtcp(&mut vec![0x81; length]), None);
        }
    }
}

#[test]
fn rfc3711_9_2_a_used_up_rtcp_index_sends_nothing_more() {
    let mut pair = Pair::new(Suite::AesCm128Sha1Tag80);
    pair.out.rtcp_index = ENCRYPTED - 2;
    let mut packet = [rtcp(), vec![0; ROOM]].concat();
    assert!(pair.out.protect_rtcp(&mut packet, 52).is_some());
    assert_eq!(pair.out.protect_rtcp(&mut packet, 52), None);
}

#[test]
fn a_packet_without_room_or_header_is_not_protected() {
    let mut pair = Pair::new(Suite::AesCm128Sha1Tag80);
    assert_eq!(pair.out.protect(&mut [0x80; 11], 11), None);
    assert_eq!(pair.out.protect(&mut plain(1, 1), 172), None);
    assert_eq!(pair.out.protect_rtcp(&mut [0x80; 7], 7), None);
}

#[test]
fn the_same_key_is_known_again() {
    let keys = keys(Suite::AesCm128Sha1Tag80, &[1]);
    let other = self::keys(Suite::AesCm128Sha1Tag80, &[2]);
    let (into, out) = (Inbound::new(&keys).unwrap(), Outbound::new(&keys.local).unwrap());
    assert!(into.is_keyed_with(&keys) && !into.is_keyed_with(&other));
    assert!(out.is_keyed_with(&keys.local) && !out.is_keyed_with(&keys.remote));
}
