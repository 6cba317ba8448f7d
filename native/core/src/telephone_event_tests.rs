use super::*;

const LISTENING: Situation = Situation { listening: true, relaying: false, now_us: 0 };
const RELAYING: Situation = Situation { listening: false, relaying: true, now_us: 0 };

fn payload(code: u8, end: bool, duration: u16) -> [u8; 4] {
    let mut bytes = [0; 4];
    Payload { code, end, volume: 10, duration }.write(&mut bytes);
    bytes
}

/// Feeds (timestamp, code, end, duration) 20 ms apart while listening and returns what was heard.
fn hear(packets: &[(u32, u8, bool, u16)]) -> Vec<(u8, u32)> {
    let mut receiver = Receiver::default();
    let mut digits = Vec::new();
    for (n, &(timestamp, code, end, duration)) in packets.iter().enumerate() {
        let at = Situation { now_us: n as u64 * 20_000, ..LISTENING };
        let relayed = receiver.packet(1, timestamp, &payload(code, end, duration), at, &mut |heard| {
            digits.push((heard.code, heard.duration_ticks));
        });
        assert!(!relayed);
    }
    let after = packets.len() as u64 * 20_000 + EXPIRE_US;
    receiver.expire(after, true, &mut |heard| digits.push((heard.code, heard.duration_ticks)));
    receiver.expire(after + EXPIRE_US, true, &mut |_| panic!("an event is over only once"));
    digits
}

#[test]
fn rfc4733_2_5_1_4_repeated_ends_are_one_digit_heard_at_the_first() {
    let mut receiver = Receiver::default();
    let mut count = 0;
    for (n, end) in [false, false, true, true, true].into_iter().enumerate() {
        receiver.packet(1, 1000, &payload(5, end, 160 * (n as u16 + 1)), LISTENING, &mut |heard| {
            count += 1;
            assert_eq!((n, heard.code, heard.duration_ticks), (2, 5, 480));
        });
    }
    assert_eq!(count, 1);
    assert_eq!(receiver.deadline_us(), None);
}

#[test]
fn rfc4733_2_5_2_2_lost_start_still_counts() {
    assert_eq!(hear(&[(1000, 7, true, 800)]), [(7, 800)]);
    assert_eq!(hear(&[(1000, 7, false, 640), (1000, 7, true, 800)]), [(7, 800)]);
}

#[test]
fn rfc4733_2_5_2_2_lost_ends_are_made_up_by_the_next_event_or_by_time() {
    assert_eq!(hear(&[(1000, 1, false, 160), (1000, 1, false, 320), (4000, 2, true, 800)]), [(1, 320), (2, 800)]);
    assert_eq!(hear(&[(1000, 11, false, 160)]), [(11, 160)]);
}

#[test]
fn the_same_key_twice_is_two_digits() {
    assert_eq!(hear(&[(1000, 4, true, 800), (3000, 4, true, 800)]), [(4, 800), (4, 800)]);
}

#[test]
fn a_packet_reordered_past_its_end_or_past_the_next_start_is_no_second_digit() {
    let heard = hear(&[
        (1000, 4, false, 160),
        (1000, 4, true, 800),
        (1000, 4, false, 640),
        (3000, 4, false, 160),
        (1000, 4, true, 800),
        (3000, 4, true, 800),
        (3000, 4, false, 320),
    ]);
    assert_eq!(heard, [(4, 800), (4, 800)]);
}

#[test]
fn timestamps_wrap() {
    assert_eq!(hear(&[(u32::MAX - 10, 1, true, 800), (2000, 2, true, 800)]), [(1, 800), (2, 800)]);
}

#[test]
fn rfc4733_2_5_1_3_a_long_press_in_segments_is_one_digit() {
    let heard = hear(&[
        (1000, 3, false, 65000),
        (1000, 3, false, 0xFFFF),
        (1000 + 0xFFFF, 3, false, 160),
        (1000 + 0xFFFF, 3, true, 480),
        (1000 + 0xFFFF, 3, true, 480),
    ]);
    assert_eq!(heard, [(3, 0xFFFF + 480)]);
}

#[test]
fn a_long_press_whose_duration_wraps_is_one_digit() {
    assert_eq!(hear(&[(1000, 3, false, 65500), (1000, 3, false, 100), (1000, 3, true, 260)]), [(3, 65536 + 260)]);
}

#[test]
fn rfc4733_3_2_sixteen_events_and_no_others() {
    let packets: Vec<_> = (0..=255u16).map(|code| (u32::from(code) * 2000, code as u8, true, 800)).collect();
    let codes: Vec<u8> = hear(&packets).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, (0..16).collect::<Vec<u8>>());
    assert_eq!(DIGITS.map(|digit| code_of(digit).unwrap()), std::array::from_fn(|n| n as u8));
    assert_eq!((code_of(b'd'), code_of(b'E')), (Some(15), None));
}

#[test]
fn rfc4733_2_5_1_5_a_packet_of_two_events() {
    let mut receiver = Receiver::default();
    let mut digits = Vec::new();
    let both = [payload(1, true, 800), payload(2, true, 640)].concat();
    receiver.packet(1, 1000, &both, LISTENING, &mut |heard| digits.push(heard.code));
    receiver.packet(1, 1000, &both, LISTENING, &mut |heard| digits.push(heard.code));
    assert_eq!(digits, [1, 2]);
}

#[test]
fn short_payloads_are_nothing() {
    let mut receiver = Receiver::default();
    for length in 0..4 {
        assert!(!receiver.packet(1, 0, &[0x80; 4][..length], LISTENING, &mut |_| panic!("no event")));
    }
}

#[test]
fn what_was_heard_while_listening_is_never_relayed() {
    let mut receiver = Receiver::default();
    let mut ignore = |_| ();
    assert!(!receiver.packet(1, 1000, &payload(11, false, 160), LISTENING, &mut ignore));
    assert!(!receiver.packet(1, 1000, &payload(11, true, 800), LISTENING, &mut ignore));
    // Bridged now: the repeated ends stay here, the next press goes across whole, late packets follow their event.
    assert!(!receiver.packet(1, 1000, &payload(11, true, 800), RELAYING, &mut ignore));
    assert!(receiver.packet(1, 5000, &payload(2, false, 160), RELAYING, &mut ignore));
    assert!(!receiver.packet(1, 1000, &payload(11, true, 800), RELAYING, &mut ignore));
    assert!(receiver.packet(1, 5000, &payload(2, true, 800), RELAYING, &mut ignore));
    assert!(receiver.packet(1, 9000, &payload(3, true, 800), RELAYING, &mut ignore));
    assert!(receiver.packet(1, 5000, &payload(2, true, 800), RELAYING, &mut ignore));
    assert!(!receiver.packet(1, 400, &payload(2, true, 800), RELAYING, &mut ignore));
}

#[test]
fn a_key_held_from_listening_into_the_bridge_stays_here_whole() {
    let mut receiver = Receiver::default();
    assert!(!receiver.packet(1, 1000, &payload(11, false, 65000), LISTENING, &mut |_| ()));
    assert!(!receiver.packet(1, 1000 + 0xFFFF, &payload(11, false, 160), RELAYING, &mut |_| ()));
    assert!(!receiver.packet(1, 1000 + 0xFFFF, &payload(11, true, 320), RELAYING, &mut |_| panic!("not listening")));
}

#[test]
fn a_new_ssrc_ends_the_event_of_the_one_before() {
    let mut receiver = Receiver::default();
    let mut digits = Vec::new();
    receiver.packet(1, 9000, &payload(1, false, 160), LISTENING, &mut |heard| digits.push(heard.code));
    receiver.packet(2, 1000, &payload(2, true, 800), LISTENING, &mut |heard| digits.push(heard.code));
    assert_eq!(digits, [1, 2]);
}

#[test]
fn rfc3550_8_2_a_late_end_of_the_stream_before_a_new_ssrc_is_no_second_digit() {
    let mut receiver = Receiver::default();
    let mut digits = Vec::new();
    // (SSRC, timestamp, code, end): 1 of one stream, 2 of the next, the end of 1 again, then 3 and 4, and back.
    let packets = [(7, 1000, 1, true), (8, 500, 2, true), (7, 1000, 1, true), (8, 500, 2, true), (8, 2500, 3, true)];
    let back = [(7, 1000, 1, true), (7, 9000, 4, false), (8, 2500, 3, true), (7, 9000, 4, true), (7, 1000, 1, true)];
    for (ssrc, timestamp, code, end) in packets.into_iter().chain(back) {
        receiver.packet(ssrc, timestamp, &payload(code, end, 800), LISTENING, &mut |heard| digits.push(heard.code));
    }
    assert_eq!(digits, [1, 2, 3, 4]);
}

#[test]
fn a_new_ssrc_with_the_timestamp_of_the_one_before_is_another_event() {
    let mut receiver = Receiver::default();
    let mut digits = Vec::new();
    for ssrc in [7, 8] {
        receiver.packet(ssrc, 1000, &payload(5, true, 800), LISTENING, &mut |heard| digits.push(heard.code));
    }
    assert_eq!(digits, [5, 5]);
}

#[test]
fn a_late_packet_of_the_ssrc_before_goes_where_its_event_went() {
    let mut receiver = Receiver::default();
    let mut ignore = |_| ();
    assert!(!receiver.packet(7, 1000, &payload(11, true, 800), LISTENING, &mut ignore));
    assert!(receiver.packet(8, 500, &payload(2, true, 800), RELAYING, &mut ignore));
    assert!(!receiver.packet(7, 1000, &payload(11, true, 800), RELAYING, &mut ignore));
    assert!(receiver.packet(9, 500, &payload(3, true, 800), RELAYING, &mut ignore));
    assert!(receiver.packet(8, 500, &payload(2, true, 800), RELAYING, &mut ignore));
}

#[test]
fn a_sender_whose_timestamps_begin_anew_is_heard_again() {
    let mut receiver = Receiver::default();
    let mut digits = Vec::new();
    receiver.packet(1, 900_000, &payload(1, true, 800), LISTENING, &mut |heard| digits.push(heard.code));
    let later = Situation { now_us: LATE_US + 1, ..LISTENING };
    receiver.packet(1, 1000, &payload(2, true, 800), later, &mut |heard| digits.push(heard.code));
    assert_eq!(digits, [1, 2]);
}

#[test]
fn rfc4733_2_5_1_a_key_is_under_way_from_its_first_packet_to_its_first_end() {
    let mut receiver = Receiver::default();
    let mut hear = |code, end, duration, timestamp| {
        receiver.packet(1, timestamp, &payload(code, end, duration), LISTENING, &mut |_| ());
        [POUND, 1].map(|code| receiver.is_hearing(code))
    };
    assert_eq!(hear(1, false, 160, 1000), [false, true]);
    assert_eq!(hear(1, true, 320, 1000), [false, false]);
    assert_eq!(hear(POUND, false, 160, 2000), [true, false]);
    assert_eq!(hear(POUND, true, 320, 2000), [false, false]);
    assert_eq!(hear(POUND, false, 240, 2000), [false, false], "late, behind the end");
    assert_eq!(hear(POUND, false, 160, 3000), [true, false]);
    receiver.expire(EXPIRE_US, true, &mut |_| ());
    assert!(!receiver.is_hearing(POUND), "its end was lost");
}

/// The captures of SIPp lie beside the project, not in it; without them there is nothing to check here.
#[test]
fn rfc4733_real_captures_give_one_digit_each() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpora/dtmf_pcap/sipp");
    if !std::path::Path::new(folder).is_dir() {
        eprintln!("skipped: no captures at ../shared/corpora/dtmf_pcap");
        return;
    }
    let names = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "star", "pound"];
    for (code, name) in names.into_iter().enumerate() {
        let file = std::fs::read(format!("{folder}/dtmf_2833_{name}.pcap")).unwrap();
        let mut receiver = Receiver::default();
        let mut digits = Vec::new();
        for (n, packet) in udp_payloads(&file).into_iter().enumerate() {
            let header = crate::rtp::parse(packet).unwrap();
            let at = Situation { now_us: n as u64 * 20_000, ..LISTENING };
            let body = &packet[header.start..header.end];
            receiver.packet(header.ssrc, header.timestamp, body, at, &mut |heard| digits.push(heard.code));
        }
        assert_eq!(digits, [code as u8], "{name}");
    }
}

/// UDP payloads of a pcap file in the machine's byte order, Ethernet or raw IPv4.
fn udp_payloads(file: &[u8]) -> Vec<&[u8]> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let link = match word(20) {
        1 => 14,
        113 => 16,
        _ => 0,
    };
    let mut payloads = Vec::new();
    let mut at = 24;
    while at + 16 <= file.len() {
        let length = word(at + 8);
        let packet = &file[at + 16..at + 16 + length];
        let ip = &packet[link..];
        let udp = &ip[usize::from(ip[0] & 0x0F) * 4..];
        let end = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
        payloads.push(&udp[8..end]);
        at += 16 + length;
    }
    payloads
}

/// A sequence of numbers that is the same each time (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Types so many codes of eight keys, each a tone of 40 ms every 100 ms, over a line that loses and reorders (30 ms of
/// jitter); returns how many arrived whole, and how many with a key that was not typed or in another order.
fn codes_over_a_bad_line(loss_percent: u64, codes: usize) -> (usize, usize) {
    let mut chance = Chance(0x5851_F42D_4C95_7F2D);
    let (mut whole, mut wrong) = (0, 0);
    for _ in 0..codes {
        let typed: Vec<u8> = (0..8).map(|_| chance.below(12) as u8).collect();
        let mut packets = Vec::new();
        for (place, &code) in typed.iter().enumerate() {
            let began = place as u64 * 100_000;
            // One update, then the end three times (RFC 4733 §2.5.1.4).
            for (n, (end, duration)) in [(false, 160), (true, 320), (true, 320), (true, 320)].into_iter().enumerate() {
                let arrives = began + (n as u64 + 1) * 20_000 + chance.below(30_000);
                if chance.below(100) >= loss_percent {
                    packets.push((arrives, (began / 125) as u32, code, end, duration));
                }
            }
        }
        packets.sort_unstable();
        let mut receiver = Receiver::default();
        let mut heard = Vec::new();
        for (now_us, timestamp, code, end, duration) in packets {
            receiver.expire(now_us, true, &mut |digit| heard.push(digit.code));
            let at = Situation { now_us, ..LISTENING };
            receiver.packet(1, timestamp, &payload(code, end, duration), at, &mut |digit| heard.push(digit.code));
        }
        receiver.expire(10_000_000, true, &mut |digit| heard.push(digit.code));
        let mut left = typed.iter();
        whole += usize::from(heard == typed);
        wrong += usize::from(!heard.iter().all(|digit| left.any(|typed| typed == digit)));
    }
    (whole, wrong)
}

#[test]
fn rfc4733_codes_of_40_ms_tones_survive_loss_and_no_digit_is_ever_wrong() {
    for (loss_percent, least_of_10_000) in [(0, 10_000), (1, 10_000), (5, 9_990), (10, 9_900)] {
        let (whole, wrong) = codes_over_a_bad_line(loss_percent, 10_000);
        assert!(whole >= least_of_10_000, "{whole} of 10,000 at {loss_percent} %");
        assert_eq!(wrong, 0, "at {loss_percent} %");
    }
}
