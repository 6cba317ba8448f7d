//! The RTP header (RFC 3550 §5.1), read and written in place.

/// Length of the header without CSRCs and extension.
pub const HEADER: usize = 12;

/// What one RTP packet says of itself. `start..end` is its payload, padding taken off (§5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub marker: bool,
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub start: usize,
    pub end: usize,
}

/// Where the payload begins, behind CSRCs and extension (§5.3.1), or nothing when this is not RTP version 2.
#[inline]
pub fn payload_start(packet: &[u8]) -> Option<usize> {
    let (fixed, _) = packet.split_first_chunk::<HEADER>()?;
    if fixed[0] >> 6 != 2 {
        return None;
    }
    let mut start = HEADER + usize::from(fixed[0] & 0x0F) * 4;
    if fixed[0] & 0x10 != 0 {
        let extension = packet.get(start..start + 4)?;
        start += 4 + usize::from(u16::from_be_bytes([extension[2], extension[3]])) * 4;
    }
    (start <= packet.len()).then_some(start)
}

/// Read a header, or nothing when the datagram is not RTP version 2 with all that its header promises.
#[inline]
pub fn parse(packet: &[u8]) -> Option<Header> {
    let start = payload_start(packet)?;
    let (fixed, _) = packet.split_first_chunk::<HEADER>()?;
    let mut end = packet.len();
    if fixed[0] & 0x20 != 0 {
        let padding = usize::from(packet[end - 1]);
        if padding == 0 || padding > end - start {
            return None;
        }
        end -= padding;
    }
    Some(Header {
        marker: fixed[1] & 0x80 != 0,
        payload_type: fixed[1] & 0x7F,
        sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
        timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        start,
        end,
    })
}

/// Write a plain header (no CSRC, extension or padding) into the first twelve bytes of `packet`.
#[inline]
pub fn write(packet: &mut [u8], marker: bool, payload_type: u8, sequence: u16, timestamp: u32, ssrc: u32) {
    packet[0] = 0x80;
    packet[1] = u8::from(marker) << 7 | (payload_type & 0x7F);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
}

/// Is this datagram of a multiplexed port RTCP? (RFC 5761 §4: packet types 192 to 223.)
#[inline]
pub fn is_rtcp(packet: &[u8]) -> bool {
    packet.len() >= 2 && (192..=223).contains(&packet[1])
}

/// Is sequence number `a` after `b`, modulo 2^16?
#[inline]
pub fn after(a: u16, b: u16) -> bool {
    (a.wrapping_sub(b) as i16) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        write(&mut bytes, true, 101, 65535, 0xDEAD_BEEF, 7);
        bytes[0] = first;
        bytes
    }

    #[test]
    fn rfc3550_5_1_header_round_trips() {
        let mut bytes = packet(0x80);
        bytes.extend([1, 2, 3]);
        let header = parse(&bytes).unwrap();
        assert_eq!(
            header,
            Header {
                marker: true,
                payload_type: 101,
                sequence: 65535,
                timestamp: 0xDEAD_BEEF,
                ssrc: 7,
                start: 12,
                end: 15
            }
        );
    }

    #[test]
    fn rfc3550_5_1_csrcs_extension_and_padding_are_not_payload() {
        let mut bytes = packet(0x80 | 0x20 | 0x10 | 2);
        bytes.extend([0; 8]); // two CSRCs
        bytes.extend([0xBE, 0xDE, 0, 1, 9, 9, 9, 9]); // an extension of one word
        bytes.extend([42, 0, 0, 3]); // one byte of payload, three of padding
        let header = parse(&bytes).unwrap();
        assert_eq!(&bytes[header.start..header.end], &[42]);
    }

    #[test]
    fn rfc3550_5_1_a_header_that_promises_more_than_there_is_is_refused() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&packet(0x80)[..11]), None);
        assert_eq!(parse(&packet(0x40)), None); // version 1
        assert_eq!(parse(&packet(0x81)), None); // a CSRC that is not there
        assert_eq!(parse(&packet(0x90)), None); // an extension that is not there
        let mut extension = packet(0x90);
        extension.extend([0, 0, 0xFF, 0xFF]);
        assert_eq!(parse(&extension), None);
        assert_eq!(parse(&packet(0xA0)), None); // padding without payload (last byte 7)
        let mut padding = packet(0xA0);
        padding.push(0);
        assert_eq!(parse(&padding), None);
    }

    #[test]
    fn rfc5761_4_rtcp_is_told_from_rtp() {
        assert!(is_rtcp(&[0x80, 200]));
        assert!(is_rtcp(&[0x80, 223]));
        assert!(!is_rtcp(&[0x80, 0]));
        assert!(!is_rtcp(&[0x80, 0x80 | 101]));
        assert!(!is_rtcp(&[0x80]));
    }

    #[test]
    fn sequence_numbers_compare_across_the_wrap() {
        assert!(after(0, 65535));
        assert!(!after(65535, 0));
        assert!(!after(5, 5));
    }
}
