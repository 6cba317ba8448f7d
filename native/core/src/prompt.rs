//! Prompts: encoded once, then only copied into packets.

use std::sync::Arc;

use crate::codec::Codec;

/// One recording in one codec.
pub struct Prompt {
    codec: Codec,
    data: Box<[u8]>,
    /// Where each 20 ms frame ends; empty for codecs whose stream may be cut anywhere.
    ends: Box<[u32]>,
}

impl Prompt {
    /// `frames` follow each other; those of Opus are 20 ms each.
    pub fn new<'a>(codec: Codec, frames: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut data = Vec::new();
        let mut ends = Vec::new();
        for frame in frames {
            data.extend_from_slice(frame);
            if codec == Codec::Opus {
                ends.push(data.len() as u32);
            }
        }
        Self { codec, data: data.into(), ends: ends.into() }
    }

    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The nth packet of `ptime_ms`; the last of a prompt may be shorter.
    fn packet(&self, n: usize, ptime_ms: u32) -> Option<&[u8]> {
        if let Some(per_ms) = self.codec.bytes_per_ms() {
            let length = per_ms * ptime_ms as usize;
            let rest = self.data.get(n * length..).filter(|rest| !rest.is_empty())?;
            return Some(&rest[..length.min(rest.len())]);
        }
        let end = *self.ends.get(n)? as usize;
        let start = if n == 0 { 0 } else { self.ends[n - 1] as usize };
        Some(&self.data[start..end])
    }
}

/// What a player does next.
pub enum Step<'a> {
    /// Send this payload; `marker` on the first packet of a talk spurt (RFC 3551 §4.1).
    Send { payload: &'a [u8], marker: bool, last: bool },
    /// There is nothing (left) to play.
    Finished,
}

/// Plays a list of prompts on one leg, one packet per packet time.
pub struct Player {
    pub play: u64,
    prompts: Vec<Arc<Prompt>>,
    repeat: bool,
    ptime_ms: u32,
    at: usize,
    packet: usize,
    started: bool,
    due_us: u64,
}

/// A schedule that is later than this begins anew instead of sending a burst.
const CATCH_UP_US: u64 = 100_000;

impl Player {
    /// Empty prompts are left out. Opus always plays packets of 20 ms.
    pub fn new(play: u64, prompts: Vec<Arc<Prompt>>, repeat: bool, ptime_ms: u32, now_us: u64) -> Self {
        let prompts: Vec<_> = prompts.into_iter().filter(|prompt| !prompt.data.is_empty()).collect();
        let opus = prompts.first().is_some_and(|prompt| prompt.codec == Codec::Opus);
        let ptime_ms = if opus { 20 } else { ptime_ms.clamp(10, 60) };
        Self { play, prompts, repeat, ptime_ms, at: 0, packet: 0, started: false, due_us: now_us }
    }

    pub fn due_us(&self) -> u64 {
        self.due_us
    }

    pub fn ptime_ms(&self) -> u32 {
        self.ptime_ms
    }

    /// Take the next packet, which was due at [`Player::due_us`].
    pub fn step(&mut self, now_us: u64) -> Step<'_> {
        let Some(prompt) = self.prompts.get(self.at) else { return Step::Finished };
        let Some(payload) = prompt.packet(self.packet, self.ptime_ms) else { return Step::Finished };
        let marker = !self.started;
        self.started = true;
        self.due_us += u64::from(self.ptime_ms) * 1000;
        if now_us > self.due_us + CATCH_UP_US {
            self.due_us = now_us + u64::from(self.ptime_ms) * 1000;
        }
        self.packet += 1;
        if prompt.packet(self.packet, self.ptime_ms).is_none() {
            self.packet = 0;
            self.at += 1;
            if self.repeat && self.at == self.prompts.len() {
                self.at = 0;
            }
        }
        let last = self.at == self.prompts.len();
        Step::Send { payload, marker, last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcmu(bytes: usize, fill: u8) -> Arc<Prompt> {
        Arc::new(Prompt::new(Codec::Pcmu, [vec![fill; bytes].as_slice()]))
    }

    fn play(player: &mut Player, most: usize) -> Vec<(usize, u8, bool, bool)> {
        let mut packets = Vec::new();
        while packets.len() < most {
            let now = player.due_us();
            match player.step(now) {
                Step::Send { payload, marker, last } => {
                    packets.push((payload.len(), payload[0], marker, last));
                    if last {
                        break;
                    }
                }
                Step::Finished => break,
            }
        }
        packets
    }

    #[test]
    fn a_list_plays_in_order_with_one_marker_and_a_short_last_packet() {
        let mut player = Player::new(1, vec![pcmu(200, 1), pcmu(160, 2)], false, 20, 0);
        let expected = [(160, 1, true, false), (40, 1, false, false), (160, 2, false, true)];
        assert_eq!(play(&mut player, 9), expected);
        assert_eq!(player.due_us(), 60_000);
        assert!(matches!(player.step(0), Step::Finished));
    }

    #[test]
    fn packet_times_of_the_leg() {
        for (ptime, count) in [(10, 48), (20, 24), (30, 16), (40, 12), (60, 8)] {
            let mut player = Player::new(1, vec![pcmu(480 * 8, 1)], false, ptime, 0);
            let packets = play(&mut player, 99);
            assert_eq!((packets.len(), packets[0].0), (count, ptime as usize * 8));
        }
    }

    #[test]
    fn a_repeated_list_never_ends() {
        let mut player = Player::new(1, vec![pcmu(160, 1), pcmu(160, 2)], true, 20, 0);
        let fills: Vec<u8> = play(&mut player, 5).into_iter().map(|packet| packet.1).collect();
        assert_eq!(fills, [1, 2, 1, 2, 1]);
    }

    #[test]
    fn rfc7587_opus_keeps_its_frames() {
        let prompt = Arc::new(Prompt::new(Codec::Opus, [&[1u8, 1, 1][..], &[2u8][..]]));
        let mut player = Player::new(1, vec![prompt], false, 60, 0);
        assert_eq!(play(&mut player, 9), [(3, 1, true, false), (1, 2, false, true)]);
        assert_eq!(player.ptime_ms(), 20);
    }

    #[test]
    fn nothing_to_play_is_finished_at_once() {
        for prompts in [vec![], vec![pcmu(0, 0)]] {
            assert!(matches!(Player::new(1, prompts, true, 20, 0).step(0), Step::Finished));
        }
    }

    #[test]
    fn a_late_schedule_catches_up_a_very_late_one_begins_anew() {
        let mut player = Player::new(1, vec![pcmu(1600, 1)], false, 20, 0);
        player.step(50_000);
        assert_eq!(player.due_us(), 20_000);
        player.step(500_000);
        assert_eq!(player.due_us(), 520_000);
    }
}
