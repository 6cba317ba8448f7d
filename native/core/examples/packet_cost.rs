//! What protecting and transcoding one packet costs, in microseconds of one core: `cargo run --release --example packet_cost`.
//!
//! A packet is 20 ms of a codec of 64 kbit/s. Sockets are left out: compare with the relay's cost in bench/.

use std::hint::black_box;
use std::time::Instant;

use tollgate_media::codec::Codec;
use tollgate_media::rtp;
use tollgate_media::srtp::{Guard, Keys, MasterKey, Suite, ROOM};
use tollgate_media::transcode::Transcoder;

const ROUNDS: u32 = 200_000;

fn measure(name: &str, mut packet: impl FnMut(u32)) {
    let begun = Instant::now();
    for n in 0..ROUNDS {
        packet(n);
    }
    println!("{name:<32} {:6.3} us", begun.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
}

fn main() {
    for name in ["AES_CM_128_HMAC_SHA1_80", "AES_256_CM_HMAC_SHA1_80", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"] {
        let Some(suite) = Suite::from_name(name) else { continue };
        let key = |fill: u8| MasterKey::new(suite, &vec![fill; suite.key_length() + suite.salt_length()]);
        let (Some(one), Some(other)) = (key(1), key(2)) else { continue };
        let here = Keys { local: one.clone(), remote: other.clone(), remote_mki: Vec::new() };
        let there = Keys { local: other, remote: one, remote_mki: Vec::new() };
        let (Some(mut out), Some(mut into)) = (Guard::new(&here), Guard::new(&there)) else { continue };
        let mut sent = Vec::with_capacity(ROUNDS as usize * (172 + ROOM));
        measure(&format!("protect {name}"), |n| {
            let mut buffer = [7; 172 + ROOM];
            rtp::write(&mut buffer, false, 0, n as u16, n * 160, 1);
            let length = out.protect(&mut buffer, 172).unwrap_or(0);
            sent.extend_from_slice(&buffer);
            black_box(length);
        });
        let length = 172 + suite.tag_length();
        measure(&format!("open {name}"), |n| {
            let at = n as usize * (172 + ROOM);
            assert!(into.open(&mut sent[at..at + length]).is_some());
        });
    }
    for (from, to) in [(Codec::Pcmu, Codec::Pcma), (Codec::Pcmu, Codec::G722), (Codec::G722, Codec::Pcmu)] {
        let Some(mut transcoder) = Transcoder::new(from, to) else { continue };
        let mut payload = [0u8; 160];
        payload.iter_mut().zip(0u8..).for_each(|(octet, n)| *octet = n.wrapping_mul(37));
        measure(&format!("transcode {from:?} to {to:?}"), |n| {
            transcoder.push(&payload, n * 160, false, 160, |_, packet| {
                black_box(packet.end);
            });
        });
    }
}
