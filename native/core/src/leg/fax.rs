//! Fax over UDPTL (T.38, RFC 3362): whole datagrams between two legs that carry it. Nothing of it is read but what the
//! latch needs: the sequence number that every one begins with (T.38 §9.1).

use super::*;

/// A sequence number, and the length of the primary packet: less is no UDPTL.
const SHORTEST: usize = 3;

/// What the latch is told of a datagram: all of one peer are of one stream.
fn header(packet: &[u8]) -> Option<Header> {
    let &[high, low, ..] = packet else { return None };
    let sequence = u16::from_be_bytes([high, low]);
    let whole = (SHORTEST..BUFFER).contains(&packet.len());
    whole.then_some(Header {
        marker: false,
        payload_type: 0,
        sequence,
        timestamp: 0,
        ssrc: 0,
        start: 0,
        end: packet.len(),
    })
}

impl Leg {
    /// Look at one datagram. Returns what the other leg shall get.
    pub(super) fn fax_packet(
        &mut self,
        packet: &[u8],
        source: Option<SocketAddr>,
        at: &mut Context,
    ) -> Option<(Header, Kind)> {
        let Some(header) = header(packet) else {
            self.discarded += 1;
            return None;
        };
        if !self.admit(source, &header, true, at) {
            return None;
        }
        self.reception.packet(&header, false, 8_000, at.now_us);
        self.partner.is_some().then_some((header, Kind::Fax))
    }

    /// Pass on a datagram that the partner received, as it came.
    pub(super) fn relay_fax(&mut self, datagram: &[u8]) {
        if self.send(datagram) {
            self.out.packets += 1;
            self.out.octets += datagram.len() as u64;
        }
    }

    /// What the gate itself was about to say has no place among fax.
    pub(super) fn hush(&mut self, events: &EventQueue) {
        self.finish_prompts(events);
        self.sender = None;
        self.digits.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::header;

    #[test]
    fn t38_9_1_a_datagram_begins_with_its_sequence_number() {
        let whole = header(&[0x01, 0x02, 0x00, 0xff]).unwrap();
        assert_eq!((whole.sequence, whole.start, whole.end), (0x0102, 0, 4));
        assert_eq!(header(&[0x01, 0x02]), None);
        assert_eq!(header(&[]), None);
        assert_eq!(header(&[0; super::BUFFER]), None, "it may have been cut off");
    }
}
