//! What a peer signalled: where and how it wants its media.

use std::net::{IpAddr, SocketAddr};

use crate::codec::Codec;
use crate::srtp;

/// RFC 3551 §6: comfort noise beside codecs of an 8 kHz clock.
pub const COMFORT_NOISE: u8 = 13;

/// The audio of a leg as it stands on the wire. `codec` is absent for one that is only relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub codec: Option<Codec>,
    /// What the peer's SDP calls the codec: the type of packets to the peer.
    pub payload_type: u8,
    /// What the gate's SDP calls it: the type of packets from the peer (RFC 3264 §6.1).
    pub heard: u8,
    pub clock_rate: u32,
    pub ptime_ms: u32,
    /// Payload type towards the peer and clock rate of telephone-event.
    pub event: Option<(u8, u32)>,
    /// Payload type of telephone-event from the peer.
    pub heard_event: Option<u8>,
}

impl Format {
    /// What a payload type of the peer's packets carries. The gate's own numbers count first; many peers that
    /// renumbered them in their answer then send their own, so those are understood where they are free.
    pub fn kind(&self, payload_type: u8) -> Option<Kind> {
        if payload_type == self.heard {
            Some(Kind::Audio)
        } else if self.heard_event == Some(payload_type) {
            Some(Kind::Event)
        } else if payload_type == self.payload_type {
            Some(Kind::Audio)
        } else if self.event.is_some_and(|(event, _)| event == payload_type) {
            Some(Kind::Event)
        } else if payload_type == COMFORT_NOISE && self.clock_rate == 8_000 {
            Some(Kind::ComfortNoise)
        } else {
            None
        }
    }

    /// RTP ticks that an audio payload lasts.
    pub fn ticks(&self, payload: usize) -> u32 {
        match self.codec.and_then(Codec::bytes_per_ms) {
            Some(per_ms) => (payload / per_ms) as u32 * (self.clock_rate / 1000),
            None => self.ptime_ms * (self.clock_rate / 1000),
        }
    }
}

/// What a packet of a negotiated payload type carries. Others are counted and go no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Audio,
    Event,
    ComfortNoise,
    /// A whole datagram of UDPTL.
    Fax,
}

/// Where and how the peer wants its media.
#[derive(Clone, Debug)]
pub struct Remote {
    pub rtp: Option<SocketAddr>,
    pub rtcp: Option<SocketAddr>,
    pub rtcp_mux: bool,
    pub format: Format,
    pub peer_sends: bool,
    pub peer_receives: bool,
    pub learning: bool,
    pub signalled_from: Option<IpAddr>,
    /// Absent for plain RTP.
    pub srtp: Option<srtp::Keys>,
    /// UDPTL instead of RTP: fax. The format is that of the audio before and after.
    pub fax: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(codec: Option<Codec>, clock_rate: u32) -> Format {
        let (event, heard_event) = (Some((101, 8_000)), Some(101));
        Format { codec, payload_type: 96, heard: 96, clock_rate, ptime_ms: 20, event, heard_event }
    }

    #[test]
    fn rfc3264_6_1_payload_types_may_differ_by_direction() {
        // Offered Opus as 96 and events as 101; the answer calls them 101 and 97.
        let (event, heard_event) = (Some((97, 48_000)), Some(101));
        let swapped = Format { payload_type: 101, event, heard_event, ..format(Some(Codec::Opus), 48_000) };
        let kinds = [96, 97, 101].map(|payload_type| swapped.kind(payload_type));
        assert_eq!(kinds, [Some(Kind::Audio), Some(Kind::Event), Some(Kind::Event)]);
        let renumbered = Format { payload_type: 98, ..swapped };
        assert_eq!((renumbered.kind(96), renumbered.kind(98)), (Some(Kind::Audio), Some(Kind::Audio)));
    }

    #[test]
    fn only_negotiated_payload_types_mean_something() {
        let narrow = format(Some(Codec::Pcmu), 8_000);
        assert_eq!((narrow.kind(96), narrow.kind(101)), (Some(Kind::Audio), Some(Kind::Event)));
        assert_eq!((narrow.kind(13), narrow.kind(0)), (Some(Kind::ComfortNoise), None));
        // RFC 3389 §4: the static type 13 has a clock of 8 kHz.
        assert_eq!(format(Some(Codec::Opus), 48_000).kind(13), None);
        assert_eq!(Format { event: None, heard_event: None, ..narrow }.kind(101), None);
    }

    #[test]
    fn rfc3551_4_5_2_packets_last_as_long_as_their_bytes() {
        assert_eq!(format(Some(Codec::G722), 8_000).ticks(240), 240);
        assert_eq!(format(Some(Codec::Opus), 48_000).ticks(77), 960);
        assert_eq!(format(None, 16_000).ticks(77), 320);
    }
}
