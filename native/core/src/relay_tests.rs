use super::*;
use crate::rng::Rng;

const ONE_CLOCK: EventClocks = EventClocks { from: 8000, to: 8000, audio: 8000 };

fn header(sequence: u16, timestamp: u32, ssrc: u32) -> Header {
    Header { marker: false, payload_type: 0, sequence, timestamp, ssrc, start: 12, end: 172 }
}

struct Far {
    map: RelayMap,
    out: OutStream,
    now_us: u64,
}

impl Far {
    fn new() -> Self {
        Self { map: RelayMap::default(), out: OutStream::new(&mut Rng::seeded(3), 8000, 0), now_us: 0 }
    }

    fn audio(&mut self, sequence: u16, timestamp: u32, ssrc: u32) -> Option<Mapped> {
        self.now_us += 20_000;
        let mapped = self.map.audio(&header(sequence, timestamp, ssrc), 160, &self.out, self.now_us)?;
        self.out.passed(mapped.sequence);
        self.out.sent(mapped.timestamp, 160, 160);
        Some(mapped)
    }

    fn event(&mut self, sequence: u16, timestamp: u32, clocks: EventClocks) -> Option<Mapped> {
        self.now_us += 20_000;
        let mapped = self.map.event(&header(sequence, timestamp, 1), clocks, &self.out, self.now_us)?;
        self.out.passed(mapped.sequence);
        self.out.sent(mapped.timestamp, 0, 4);
        Some(mapped)
    }

    fn prompt(&mut self) -> (u16, u32) {
        self.now_us += 20_000;
        let timestamp = self.out.fresh_timestamp(self.now_us);
        let sequence = self.out.take_sequence();
        self.out.sent(timestamp, 160, 160);
        (sequence, timestamp)
    }
}

#[test]
fn rfc3550_prompt_then_relay_is_one_continuous_stream() {
    let mut far = Far::new();
    far.prompt();
    let (sequence, timestamp) = far.prompt();
    let first = far.audio(40_000, 99, 1).unwrap();
    assert_eq!((first.marker, first.sequence), (true, sequence.wrapping_add(1)));
    assert_eq!(first.timestamp.wrapping_sub(timestamp), 160);
    let second = far.audio(40_001, 259, 1).unwrap();
    assert_eq!((second.marker, second.sequence), (false, sequence.wrapping_add(2)));
    assert_eq!(second.timestamp.wrapping_sub(first.timestamp), 160);
    let (own, own_timestamp) = far.prompt();
    assert_eq!(own, sequence.wrapping_add(3));
    assert_eq!(own_timestamp.wrapping_sub(second.timestamp), 160);
}

#[test]
fn loss_and_reordering_stay_visible() {
    let mut far = Far::new();
    let first = far.audio(65_534, 0, 1).unwrap();
    let third = far.audio(0, 320, 1).unwrap();
    let second = far.audio(65_535, 160, 1).unwrap();
    assert_eq!(third.sequence.wrapping_sub(first.sequence), 2);
    assert_eq!(second.sequence.wrapping_sub(first.sequence), 1);
    assert_eq!(far.prompt().0.wrapping_sub(first.sequence), 3);
}

#[test]
fn a_new_ssrc_or_a_jump_goes_on_where_the_stream_stands() {
    let mut far = Far::new();
    let first = far.audio(100, 50_000, 1).unwrap();
    let other = far.audio(9, 7, 2).unwrap();
    assert_eq!((other.marker, other.sequence.wrapping_sub(first.sequence)), (true, 1));
    assert_eq!(other.timestamp.wrapping_sub(first.timestamp), 160);
    let jumped = far.audio(30_000, 1_000_000, 2).unwrap();
    assert_eq!(jumped.sequence.wrapping_sub(other.sequence), 1);
    assert_eq!(jumped.timestamp.wrapping_sub(other.timestamp), 160);
}

#[test]
fn a_packet_from_before_a_digit_of_the_gate_is_dropped() {
    let mut far = Far::new();
    let first = far.audio(10, 0, 1).unwrap();
    let (own, _) = far.prompt();
    assert_eq!(far.audio(9, 0, 1), None);
    let next = far.audio(12, 480, 1).unwrap();
    assert_eq!((own.wrapping_sub(first.sequence), next.sequence.wrapping_sub(own)), (1, 1));
    assert!(next.marker);
    assert_eq!(far.audio(11, 320, 1), None);
}

#[test]
fn a_packet_left_out_leaves_no_gap() {
    let mut far = Far::new();
    let first = far.audio(10, 0, 1).unwrap();
    far.map.skip(&header(11, 160, 1));
    far.map.skip(&header(11, 160, 1));
    assert_eq!(far.audio(12, 320, 1).unwrap().sequence.wrapping_sub(first.sequence), 1);
}

#[test]
fn rfc4733_2_1_events_of_one_clock_share_the_audio_timeline() {
    let mut far = Far::new();
    let audio = far.audio(10, 1000, 1).unwrap();
    let start = far.event(11, 1160, ONE_CLOCK).unwrap();
    let end = far.event(12, 1160, ONE_CLOCK).unwrap();
    assert_eq!(start.timestamp.wrapping_sub(audio.timestamp), 160);
    assert_eq!((end.timestamp, end.sequence), (start.timestamp, start.sequence.wrapping_add(1)));
    assert_eq!(far.audio(13, 1480, 1).unwrap().timestamp.wrapping_sub(audio.timestamp), 480);
}

#[test]
fn rfc4733_events_of_different_clocks_keep_one_timestamp_each() {
    let clocks = EventClocks { from: 8000, to: 48_000, audio: 48_000 };
    assert_eq!((clocks.duration(160), clocks.duration(65_000), ONE_CLOCK.duration(7)), (960, u16::MAX, 7));
    let mut far = Far::new();
    far.audio(10, 1000, 1).unwrap();
    let one = [far.event(11, 5000, clocks).unwrap().timestamp, far.event(12, 5000, clocks).unwrap().timestamp];
    let two = far.event(13, 9000, clocks).unwrap().timestamp;
    assert_eq!(one[0], one[1]);
    assert_ne!(one[0], two);
    assert_eq!(far.event(14, 5000, clocks).unwrap().timestamp, one[0]);
    let other_way = EventClocks { from: 48_000, to: 8000, audio: 48_000 };
    assert!(far.event(15, 12_000, other_way).is_some());
}

#[test]
fn a_long_call_of_wrapping_sequence_numbers_stays_in_step() {
    let mut far = Far::new();
    let first = far.audio(0, 0, 1).unwrap();
    for n in 1..200_000u32 {
        let mapped = far.audio(n as u16, n * 160, 1).unwrap();
        assert_eq!(mapped.sequence, first.sequence.wrapping_add(n as u16));
    }
}
