//! What a leg sends: relayed packets, prompts, digits and reports, all of one stream.

use super::*;
use crate::srtp;
use crate::transcode::{Ready, Transcoder};

/// A tone begins with the first packet of an event, so how long the key is held is not known yet.
const RELAYED_TONE_MS: u32 = 100;

impl Leg {
    /// Pass on a packet that the partner (of format `from`) received. It is rewritten in its buffer, which has room behind it.
    #[inline]
    pub fn relay(&mut self, buffer: &mut [u8], header: &Header, kind: Kind, from: &Format, now_us: u64) {
        let Some(remote) = &self.remote else { return };
        let format = remote.format;
        if !remote.peer_receives || remote.fax != (kind == Kind::Fax) {
            return; // while one side has changed to fax or back and the other one not yet, the two can't be told
        }
        if kind == Kind::Fax {
            self.relay_fax(&buffer[header.start..header.end]);
            return;
        }
        if kind == Kind::Event && format.event.is_none() {
            self.map.skip(header);
            self.tone_of_event(header, &buffer[header.start..header.end]);
            return;
        }
        if self.sender.is_some() || self.player.is_some() {
            return; // what the gate itself has to say comes first
        }
        let payload = header.end - header.start;
        let same_codec = format.codec == from.codec && format.clock_rate == from.clock_rate;
        let mapped = match (kind, format.event, from.event) {
            (Kind::Event, Some((payload_type, to)), Some((_, rate))) => {
                let clocks = EventClocks { from: rate, to, audio: format.clock_rate };
                if rate != to {
                    for block in buffer[header.start..header.end].chunks_exact_mut(4) {
                        if let Some(event) = Payload::parse(block) {
                            Payload { duration: clocks.duration(event.duration), ..event }.write(block);
                        }
                    }
                }
                self.map.event(header, clocks, &self.out, now_us).map(|mapped| (payload_type, 0, mapped))
            }
            (Kind::Audio, ..) if same_codec => {
                let ticks = format.ticks(payload);
                self.map.audio(header, ticks, &self.out, now_us).map(|mapped| (format.payload_type, ticks, mapped))
            }
            (Kind::Audio, ..) if format.clock_rate == from.clock_rate => {
                self.transcode(&buffer[header.start..header.end], header, from, &format, now_us);
                return;
            }
            (Kind::ComfortNoise, ..) if same_codec => {
                let ticks = format.ptime_ms * 8;
                self.map.audio(header, ticks, &self.out, now_us).map(|mapped| (COMFORT_NOISE, ticks, mapped))
            }
            _ => {
                self.map.skip(header);
                return;
            }
        };
        let Some((payload_type, ticks, Mapped { marker, sequence, timestamp })) = mapped else { return };
        // The new header ends where the payload begins: CSRCs and extensions were agreed with the other peer only.
        let packet = &mut buffer[header.start - rtp::HEADER..];
        rtp::write(packet, marker, payload_type, sequence, timestamp, self.out.ssrc);
        self.out.passed(sequence);
        if self.transmit(packet, rtp::HEADER + payload) {
            self.out.sent(timestamp, ticks, payload);
        }
    }

    /// Pass on audio in the codec and packet time of this leg's peer. Codecs that can't be are left out.
    fn transcode(&mut self, payload: &[u8], header: &Header, from: &Format, to: &Format, now_us: u64) {
        let (Some(from), Some(codec)) = (from.codec, to.codec) else { return self.map.skip(header) };
        let kept = self.transcoder.take().filter(|kept| kept.is_between(from, codec));
        let Some(mut transcoder) = kept.or_else(|| Transcoder::new(from, codec).map(Box::new)) else {
            return self.map.skip(header);
        };
        let mapped = if transcoder.is_late(header) {
            None
        } else {
            self.map.audio(header, payload.len() as u32, &self.out, now_us)
        };
        if let Some(Mapped { marker, sequence, timestamp }) = mapped {
            let length = to.ptime_ms as usize * 8;
            let count = transcoder.push(payload, timestamp, marker, length, |n, packet| {
                let Ready { buffer, end, marker, timestamp } = packet;
                let sequence = sequence.wrapping_add(n as u16);
                rtp::write(buffer, marker, to.payload_type, sequence, timestamp, self.out.ssrc);
                self.out.passed(sequence);
                let octets = end - rtp::HEADER;
                if self.transmit(buffer, end) {
                    self.out.sent(timestamp, octets as u32, octets);
                }
            });
            self.map.became(count);
        }
        self.transcoder = Some(transcoder);
    }

    /// The partner's peer presses a key and this leg's takes no telephone-events: say it with a tone, once per event.
    fn tone_of_event(&mut self, header: &Header, payload: &[u8]) {
        let event = (header.ssrc, header.timestamp);
        let Some(Payload { code, .. }) = Payload::parse(payload) else { return };
        if !self.toned.contains(&Some(event)) {
            self.toned = [Some(event), self.toned[0]];
            self.send_digit(code, RELAYED_TONE_MS);
        }
    }

    /// A packet of the partner that is not passed on by choice.
    pub fn relay_nothing(&mut self, header: &Header) {
        self.map.skip(header);
    }

    /// Send the RTP packet in the first `end` octets, protected when the leg speaks SRTP.
    #[inline]
    fn transmit(&mut self, buffer: &mut [u8], end: usize) -> bool {
        let end = match &mut self.guard {
            None => Some(end),
            Some(guard) => guard.protect(buffer, end),
        };
        end.is_some_and(|end| self.send(&buffer[..end]))
    }

    #[inline]
    pub(super) fn send(&self, packet: &[u8]) -> bool {
        let once = || {
            if self.connected {
                self.rtp.send(packet)
            } else if let Some(peer) = self.latch.destination() {
                self.rtp.send_to(packet, peer)
            } else {
                Err(io::ErrorKind::NotConnected.into())
            }
        };
        match once() {
            Ok(_) => true,
            // The ICMP error of an earlier packet was reported instead of sending this one; it ends nothing.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => once().is_ok(),
            Err(_) => false,
        }
    }

    pub(super) fn run_sender(&mut self, now_us: u64) {
        let Some(remote) = &self.remote else { return };
        let (format, receives) = (remote.format, remote.peer_receives);
        self.sender = self.sender.take().filter(|sender| sender.fits(&format));
        if self.sender.is_none() {
            let Some((code, duration_ms)) = self.digits.pop_front() else { return };
            self.sender = DigitSender::new(code, duration_ms, &format, &self.out, now_us).map(Box::new);
        }
        let Some(mut sender) = self.sender.take() else { return };
        match (&mut *sender, format.event) {
            (DigitSender::Events(events), Some((payload_type, _))) => {
                while let Some((marker, event)) = events.poll(now_us) {
                    let mut payload = [0; 4];
                    event.write(&mut payload);
                    if receives {
                        self.send_frame(&payload, marker, payload_type, events.timestamp, 0);
                    }
                }
            }
            (DigitSender::Events(_), None) => {}
            (DigitSender::Tone(tone), _) => {
                while let Some((marker, timestamp, payload)) = tone.poll(now_us, format.ptime_ms) {
                    if receives {
                        self.send_frame(payload, marker, format.payload_type, timestamp, payload.len() as u32);
                    }
                }
            }
        }
        if !sender.is_over() || now_us < sender.due_us() + DIGIT_PAUSE_US && !self.digits.is_empty() {
            self.sender = Some(sender);
        }
    }

    pub(super) fn run_player(&mut self, at: &mut Context) {
        let Some(mut player) = self.player.take() else { return };
        let format = self.format();
        let receives = self.remote.as_ref().is_some_and(|remote| remote.peer_receives);
        while player.due_us() <= at.now_us {
            let ptime_ms = player.ptime_ms();
            let (Some(format), Step::Send { payload, marker, last }) = (format, player.step(at.now_us)) else {
                at.events.push(Event::PromptsFinished { leg: self.id, play: player.play });
                return;
            };
            let ticks = ptime_ms * (format.clock_rate / 1000);
            if self.sender.is_some() {
                self.prompt_timestamp = None; // a digit of the gate takes this time; the prompt goes on after it
            } else {
                let timestamp = self.prompt_timestamp.unwrap_or_else(|| self.out.fresh_timestamp(at.now_us));
                self.prompt_timestamp = Some(timestamp.wrapping_add(ticks));
                if receives {
                    self.send_frame(payload, marker, format.payload_type, timestamp, ticks);
                }
            }
            if last {
                at.events.push(Event::PromptsFinished { leg: self.id, play: player.play });
                return;
            }
        }
        self.player = Some(player);
    }

    fn send_frame(&mut self, payload: &[u8], marker: bool, payload_type: u8, timestamp: u32, ticks: u32) {
        let mut packet = [0; BUFFER];
        let end = rtp::HEADER + payload.len();
        let Some(room) = packet.get_mut(rtp::HEADER..end) else { return };
        room.copy_from_slice(payload);
        let sequence = self.out.take_sequence();
        rtp::write(&mut packet, marker, payload_type, sequence, timestamp, self.out.ssrc);
        if self.transmit(&mut packet, end) {
            self.out.sent(timestamp, ticks, payload.len());
        }
    }

    pub(super) fn send_rtcp(&mut self, bye: bool, at: &mut Context) {
        let Some(remote) = self.remote.as_ref().filter(|remote| !remote.fax) else { return };
        let active = self.out.packets != self.reported_packets;
        self.reported_packets = self.out.packets;
        let sent = active.then(|| rtcp::Sent {
            ntp: rtcp::ntp(at.unix_us),
            timestamp: self.out.clock(at.now_us),
            packets: self.out.packets as u32,
            octets: self.out.octets as u32,
        });
        let report = self.reception.report();
        let compound =
            rtcp::Compound { ssrc: self.out.ssrc, cname: &self.cname, sent, report, last_sr: self.last_sr, bye };
        let mut bytes = [0; rtcp::MAX + srtp::ROOM];
        let Some(room) = bytes.first_chunk_mut() else { return };
        let length = compound.write(room, at.now_us);
        let length = match &mut self.guard {
            None => Some(length),
            Some(guard) => guard.protect_rtcp(&mut bytes, length),
        };
        let Some(length) = length else { return };
        if remote.rtcp_mux {
            self.send(&bytes[..length]);
        } else if let Some(peer) = self.rtcp_destination(remote) {
            // Reports are best effort; a lost one is followed by the next.
            let _ = self.rtcp.send_to(&bytes[..length], peer);
        }
    }

    /// Where reports go: their learnt source, else the signalled port, on the address that media really comes from.
    fn rtcp_destination(&self, remote: &Remote) -> Option<SocketAddr> {
        let moved = self.latch.locked().filter(|locked| remote.rtp.is_none_or(|rtp| rtp.ip() != locked.ip()));
        let beside = moved.and_then(|m| Some(SocketAddr::new(m.ip(), m.port().checked_add(1)?)));
        self.rtcp_source.or(beside).or(remote.rtcp)
    }
}
