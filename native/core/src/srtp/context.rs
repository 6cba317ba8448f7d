//! The cryptographic contexts of one leg (RFC 3711 §3.2): what was sent, and what came from each SSRC.

use super::replay::Window;
use super::suite::MasterKey;
use super::transform::{Index, Transform, RTCP_CLEAR};
use super::{Keys, MKI};
use crate::rtp;

/// What protection adds to a packet at most: tag, and the flag and index of RTCP.
pub const ROOM: usize = super::transform::TAG + 4;

/// Streams of one peer told apart at a time: audio, telephone-events of their own SSRC, and both before a change.
const STREAMS: usize = 4;

/// The flag of an encrypted SRTCP packet (RFC 3711 §3.4).
const ENCRYPTED: u32 = 0x8000_0000;

/// Length of an RTP header with CSRCs and extension: what stays in the clear.
fn clear_part(packet: &[u8]) -> Option<usize> {
    let clear = rtp::payload_start(packet)?;
    (clear <= packet.len()).then_some(clear)
}

fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|word| u32::from_be_bytes(*word))
}

/// The sending side. It has one SSRC, the leg's own, for its whole life.
pub struct Outbound {
    master: MasterKey,
    rtp: Transform,
    rtcp: Transform,
    /// No index is used twice: a keystream that is used again gives away what it hides.
    window: Window,
    rtcp_index: u32,
}

impl Outbound {
    pub fn new(master: &MasterKey) -> Option<Self> {
        let (rtp, rtcp) = (Transform::new(master, false)?, Transform::new(master, true)?);
        Some(Self { master: master.clone(), rtp, rtcp, window: Window::default(), rtcp_index: 0 })
    }

    pub fn is_keyed_with(&self, master: &MasterKey) -> bool {
        self.master == *master
    }

    /// Protect the RTP packet in the first `end` octets; the buffer has [`ROOM`] behind it. Returns its new length.
    #[inline]
    pub fn protect(&mut self, buffer: &mut [u8], end: usize) -> Option<usize> {
        let packet = buffer.get_mut(..end)?;
        let clear = clear_part(packet)?;
        let index = self.window.estimate(u16::from_be_bytes([packet[2], packet[3]]))?;
        if !self.window.is_fresh(index) {
            return None;
        }
        let ssrc = word(&packet[8..])?;
        let roll_over = ((index >> 16) as u32).to_be_bytes();
        let tag = self.rtp.seal(Index { ssrc, index }, packet, clear, roll_over)?;
        let length = self.rtp.tag_length();
        buffer.get_mut(end..end + length)?.copy_from_slice(&tag[..length]);
        self.window.take(index);
        Some(end + length)
    }

    /// Protect a compound RTCP packet likewise (RFC 3711 §3.4).
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], end: usize) -> Option<usize> {
        let ssrc = word(buffer.get(4..end)?)?;
        if self.rtcp_index >= ENCRYPTED - 1 {
            return None; // §9.2: 2^31 packets, and the key is used up
        }
        self.rtcp_index += 1;
        let at = Index { ssrc, index: u64::from(self.rtcp_index) };
        let trailer = (ENCRYPTED | self.rtcp_index).to_be_bytes();
        let tag = self.rtcp.seal(at, buffer.get_mut(..end)?, RTCP_CLEAR, trailer)?;
        let tag = &tag[..self.rtcp.tag_length()];
        let (first, second) = if self.rtcp.is_aead() { (tag, &trailer[..]) } else { (&trailer[..], tag) };
        let whole = end + first.len() + second.len();
        let rest = buffer.get_mut(end..whole)?;
        rest[..first.len()].copy_from_slice(first);
        rest[first.len()..].copy_from_slice(second);
        Some(whole)
    }
}

#[derive(Default)]
struct Stream {
    ssrc: u32,
    rtp: Window,
    rtcp: Window,
}

/// The receiving side under one master key.
pub struct Inbound {
    master: MasterKey,
    rtp: Transform,
    rtcp: Transform,
    mki: [u8; MKI],
    mki_length: usize,
    streams: [Option<Stream>; STREAMS],
    oldest: usize,
}

impl Inbound {
    /// Nothing when the master key identifier is longer than is taken.
    pub fn new(keys: &Keys) -> Option<Self> {
        let master = keys.remote.clone();
        let (rtp, rtcp) = (Transform::new(&master, false)?, Transform::new(&master, true)?);
        let mut mki = [0; MKI];
        mki.get_mut(..keys.remote_mki.len())?.copy_from_slice(&keys.remote_mki);
        let mki_length = keys.remote_mki.len();
        Some(Self { master, rtp, rtcp, mki, mki_length, streams: Default::default(), oldest: 0 })
    }

    pub fn is_keyed_with(&self, keys: &Keys) -> bool {
        self.master == keys.remote && self.mki[..self.mki_length] == keys.remote_mki
    }

    /// Open an SRTP packet in place (RFC 3711 §3.3). Returns the length of the RTP packet, or nothing when it is not
    /// genuine, was had before, or is too old to tell.
    #[inline]
    pub fn open(&mut self, packet: &mut [u8]) -> Option<usize> {
        let clear = clear_part(packet)?;
        let tag_length = self.rtp.tag_length();
        let text = packet.len().checked_sub(tag_length + self.mki_length).filter(|&end| end >= clear)?;
        let ssrc = word(&packet[8..])?;
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let stream = self.streams.iter_mut().flatten().find(|stream| stream.ssrc == ssrc);
        let index = match &stream {
            Some(stream) => stream.rtp.estimate(sequence).filter(|&index| stream.rtp.is_fresh(index))?,
            None => u64::from(sequence),
        };
        let (packet, rest) = packet.split_at_mut(text);
        let (tag, mki) = if self.rtp.is_aead() {
            rest.split_at(tag_length)
        } else {
            let (mki, tag) = rest.split_at(self.mki_length);
            (tag, mki)
        };
        let roll_over = ((index >> 16) as u32).to_be_bytes();
        if mki != &self.mki[..self.mki_length] || !self.rtp.open(Index { ssrc, index }, packet, clear, roll_over, tag) {
            return None;
        }
        match stream {
            Some(stream) => stream.rtp.take(index),
            None => self.begin(ssrc).rtp.take(index),
        }
        Some(text)
    }

    /// Open an SRTCP packet in place (RFC 3711 §3.4). One that is not encrypted was never agreed on and is refused.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Option<usize> {
        let tag_length = self.rtcp.tag_length();
        let text = packet.len().checked_sub(tag_length + self.mki_length + 4).filter(|&end| end >= RTCP_CLEAR)?;
        let ssrc = word(&packet[4..])?;
        let (packet, rest) = packet.split_at_mut(text);
        let (tag, trailer, mki) = if self.rtcp.is_aead() {
            let (tag, rest) = rest.split_at(tag_length);
            let (trailer, mki) = rest.split_at(4);
            (tag, trailer, mki)
        } else {
            let (trailer, rest) = rest.split_at(4);
            let (mki, tag) = rest.split_at(self.mki_length);
            (tag, trailer, mki)
        };
        let flag_and_index = word(trailer)?;
        if flag_and_index & ENCRYPTED == 0 || mki != &self.mki[..self.mki_length] {
            return None;
        }
        let index = u64::from(flag_and_index & !ENCRYPTED);
        let stream = self.streams.iter_mut().flatten().find(|stream| stream.ssrc == ssrc);
        if stream.as_ref().is_some_and(|stream| !stream.rtcp.is_fresh(index)) {
            return None;
        }
        if !self.rtcp.open(Index { ssrc, index }, packet, RTCP_CLEAR, flag_and_index.to_be_bytes(), tag) {
            return None;
        }
        match stream {
            Some(stream) => stream.rtcp.take(index),
            None => self.begin(ssrc).rtcp.take(index),
        }
        Some(text)
    }

    /// Make room for a new SSRC, whose first packet was genuine: nobody without the key can push others out.
    fn begin(&mut self, ssrc: u32) -> &mut Stream {
        let place = self.oldest;
        self.oldest = (place + 1) % STREAMS;
        self.streams[place].insert(Stream { ssrc, ..Stream::default() })
    }
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
