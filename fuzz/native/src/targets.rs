//! What is fuzzed in Rust: each target takes the octets of a stranger's datagrams and may do anything but panic. What
//! the parsers promise besides is asserted.

use tollgate_media::rng::Rng;
use tollgate_media::srtp::{Guard, Keys, MasterKey, Suite, ROOM};
use tollgate_media::statistics::Reception;
use tollgate_media::telephone_event::{Receiver, Situation, DIGITS};
use tollgate_media::{rtcp as reports, rtp as header, telephone_event as events};

const SUITES: [&str; 5] = [
    "AES_CM_128_HMAC_SHA1_80",
    "AES_CM_128_HMAC_SHA1_32",
    "AES_256_CM_HMAC_SHA1_80",
    "AEAD_AES_128_GCM",
    "AEAD_AES_256_GCM",
];

/// A stream of RTP packets, each behind its length: headers stay within their packets, figures make sense.
pub fn rtp(data: &[u8]) {
    let mut reception = Reception::default();
    let mut now_us = 0;
    for (count, packet) in packets(data).enumerate() {
        let start = header::payload_start(packet);
        assert!(start.is_none_or(|start| (header::HEADER..=packet.len()).contains(&start)));
        let _ = header::is_rtcp(packet);
        let Some(found) = header::parse(packet) else { continue };
        assert_eq!(start, Some(found.start));
        assert!(found.start <= found.end && found.end <= packet.len());
        now_us += u64::from(packet[1]) * 1000;
        reception.packet(&found, packet[0] & 0x10 == 0, 8_000, now_us);
        assert!(reception.total <= count as u64 + 1);
        assert!(reception.jitter_ms(8_000) >= 0.0);
        if packet[1] & 1 != 0 {
            let _ = reception.report();
        }
        let _ = reception.lost();
    }
}

/// A compound RTCP packet. A round trip is never negative.
pub fn rtcp(data: &[u8]) {
    let Some((ssrc, rest)) = data.split_first_chunk::<4>() else { return };
    let found = reports::read(rest, u32::from_be_bytes(*ssrc), 0x8000_0000);
    assert!(found.round_trip.is_none_or(|time| time <= i32::MAX as u32));
}

/// SRTP and SRTCP: octets out of nowhere, and genuine packets of which something was changed. The latter never open.
pub fn srtp(data: &[u8]) {
    let Some((&[choice, length], junk)) = data.split_first_chunk::<2>() else { return };
    let suite = Suite::from_name(SUITES[usize::from(choice) % SUITES.len()]).expect("a known suite");
    let (mut gate, mut phone) = (guard(suite, 1, 2), guard(suite, 2, 1));
    if choice & 0x80 != 0 {
        gate.rekey(&keys(suite, 1, 2)).expect("usable keys");
    }
    for packet in packets(junk) {
        for rtcp in [false, true] {
            let mut copy = packet.to_vec();
            let opened = if rtcp { gate.open_rtcp(&mut copy) } else { gate.open(&mut copy) };
            assert!(opened.is_none_or(|end| end <= packet.len()));
        }
    }
    let mut sent = vec![0x55; header::HEADER + usize::from(length) + ROOM];
    header::write(&mut sent, false, 0, 7, 7, 77);
    let end = phone.protect(&mut sent, header::HEADER + usize::from(length)).expect("room");
    let mut changed = sent[..end].to_vec();
    for (octet, change) in changed.iter_mut().zip(junk) {
        *octet ^= change;
    }
    if changed != sent[..end] && suite.tag_length() >= 10 {
        let opened = gate.open(&mut changed);
        assert_eq!(opened, None, "a packet that was changed on its way");
    }
}

/// A stream of telephone-events: each packet has four octets that say how it comes, then its payload. No key is heard
/// that was not pressed, and none is both told and relayed.
pub fn telephone_event(data: &[u8]) {
    let mut receiver = Receiver::default();
    let (mut now_us, mut heard) = (0_u64, 0_usize);
    let mut blocks = 0;
    for packet in packets(data) {
        let Some((&[how, high, low, wait], payload)) = packet.split_first_chunk::<4>() else { continue };
        now_us += u64::from(wait) * 2_000;
        let situation = Situation { listening: how & 1 != 0, relaying: how & 2 != 0, now_us };
        let timestamp = u32::from(how >> 4) << 28 | u32::from(high) << 8 | u32::from(low);
        let mut count = |key: events::Heard| {
            assert!(usize::from(key.code) < DIGITS.len());
            heard += 1;
        };
        receiver.expire(now_us, situation.listening, &mut count);
        receiver.packet(u32::from(how & 4), timestamp, payload, situation, &mut count);
        blocks += payload.len() / 4;
        assert!(receiver.deadline_us().is_none_or(|at| at <= now_us + events::EXPIRE_US));
    }
    let mut count = |_| heard += 1;
    receiver.expire(u64::MAX, true, &mut count);
    assert!(heard <= blocks, "{heard} keys of {blocks} events");
    assert_eq!(receiver.deadline_us(), None);
}

/// Cut octets into packets: each begins with its length.
fn packets(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (&length, behind) = rest.split_first()?;
        let (packet, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        Some(packet)
    })
}

fn keys(suite: Suite, local: u8, remote: u8) -> Keys {
    let key = |fill| MasterKey::new(suite, &vec![fill; suite.key_length() + suite.salt_length()]);
    Keys {
        local: key(local).expect("the suite's length"),
        remote: key(remote).expect("the suite's length"),
        remote_mki: Vec::new(),
    }
}

fn guard(suite: Suite, local: u8, remote: u8) -> Guard {
    Guard::new(&keys(suite, local, remote)).expect("usable keys")
}

/// Octets changed at random, for those who have no libFuzzer: bits, whole octets, pieces cut out and doubled.
pub fn mutated(seed: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut octets = seed.to_vec();
    for _ in 0..=rng.below(8) {
        let at = rng.below(octets.len() as u64 + 1) as usize;
        match rng.below(4) {
            0 => octets.insert(at, rng.below(256) as u8),
            1 if at < octets.len() => octets[at] ^= 1 << rng.below(8),
            2 if at < octets.len() => octets[at] = [0, 0xFF, 0x7F, 0x80][rng.below(4) as usize],
            3 => octets.extend_from_within(at..),
            _ => octets.truncate(at),
        }
        octets.truncate(4096);
    }
    octets
}
