//! One media leg: its sockets, what its peer signalled, what it hears and what it sends.

mod digit_sender;
mod fax;
mod sending;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use self::digit_sender::DigitSender;
use crate::allowance::Allowance;
use crate::codec::Codec;
use crate::event::{Event, EventQueue, LegId};
use crate::g711;
use crate::inband::Detector;
use crate::latch::{Latch, Verdict};
use crate::ports::PortLease;
use crate::prompt::{Player, Prompt, Step};
use crate::relay::{EventClocks, Mapped, RelayMap};
use crate::remote::{Format, Kind, Remote, COMFORT_NOISE};
use crate::rng::Rng;
use crate::rtcp;
use crate::rtp::{self, Header};
use crate::srtp::Guard;
use crate::statistics::{LegStatistics, Reception};
use crate::stream::OutStream;
use crate::sys::{self, Epoll};
use crate::telephone_event::{self, Payload, Receiver, Situation, POUND};
use crate::transcode::Transcoder;

/// After a connect, packets of others may still wait in the queue: their source is looked at for this long.
const VERIFY_US: u64 = 5_000;

/// Audio that ceased (silence suppression) ends a tone after this long.
const TONE_CEASED_US: u64 = 150_000;

/// Pause between two digits that are sent one after the other.
const DIGIT_PAUSE_US: u64 = 60_000;

/// Digits waiting to be sent on one leg at most; more is no dialling.
const DIGITS_WAITING: usize = 64;

/// Room for one datagram of any path that carries voice.
pub const BUFFER: usize = 2048;

/// What a leg needs of the thread that runs it.
pub struct Context<'a> {
    pub events: &'a EventQueue,
    pub rng: &'a mut Rng,
    pub now_us: u64,
    pub unix_us: u64,
    pub inactivity_us: u64,
}

struct Inband {
    detector: Detector,
    last: Option<u16>,
    last_us: u64,
}

pub struct Leg {
    pub id: LegId,
    pub rtp: UdpSocket,
    pub rtcp: UdpSocket,
    _lease: PortLease,
    pub partner: Option<u32>,
    /// When the wheel will next look at this leg.
    pub armed_us: u64,
    remote: Option<Remote>,
    /// Present when the leg speaks SRTP: then nothing goes or comes in the clear.
    guard: Option<Box<Guard>>,
    latch: Latch,
    allowance: Allowance,
    connected: bool,
    verify_until_us: u64,
    listening: bool,
    /// Its packets end the worker's sleep.
    urgent: bool,
    last_received_us: u64,
    /// Silence has been reported, last at this time, and no packet has come since.
    timed_out_us: Option<u64>,
    reception: Reception,
    discarded: u64,
    events: Receiver,
    inband: Option<Box<Inband>>,
    out: OutStream,
    map: RelayMap,
    transcoder: Option<Box<Transcoder>>,
    player: Option<Box<Player>>,
    /// The next packet's timestamp within a prompt: it steps evenly even when the thread was late.
    prompt_timestamp: Option<u32>,
    sender: Option<Box<DigitSender>>,
    /// SSRC and timestamp of the partner's last events that became tones here.
    toned: [Option<(u32, u32)>; 2],
    digits: VecDeque<(u8, u32)>,
    rtcp_due_us: u64,
    rtcp_source: Option<SocketAddr>,
    last_sr: Option<rtcp::LastSr>,
    /// Last round trip in 1/65536 s, from the peer's reports.
    pub round_trip: Option<u32>,
    reported_packets: u64,
    cname: [u8; 16],
}

impl Leg {
    pub fn new(id: LegId, rtp: UdpSocket, rtcp: UdpSocket, lease: PortLease, rng: &mut Rng, now_us: u64) -> Self {
        let mut cname = [0; 16];
        // RFC 7022 §4.2: a random name that lives as long as the session and tells nothing.
        for byte in &mut cname {
            *byte = b"0123456789abcdef"[rng.below(16) as usize];
        }
        Self {
            id,
            rtp,
            rtcp,
            _lease: lease,
            partner: None,
            armed_us: u64::MAX,
            remote: None,
            guard: None,
            latch: Latch::new(false, None, None, now_us),
            allowance: Allowance::default(),
            connected: false,
            verify_until_us: 0,
            listening: false,
            urgent: false,
            last_received_us: now_us,
            timed_out_us: None,
            reception: Reception::default(),
            discarded: 0,
            events: Receiver::default(),
            inband: None,
            out: OutStream::new(rng, 8_000, now_us),
            map: RelayMap::default(),
            transcoder: None,
            player: None,
            prompt_timestamp: None,
            sender: None,
            toned: [None; 2],
            digits: VecDeque::new(),
            rtcp_due_us: u64::MAX,
            rtcp_source: None,
            last_sr: None,
            round_trip: None,
            reported_packets: 0,
            cname,
        }
    }

    // Commands -------------------------------------------------------------------------------------------------

    pub fn configure(&mut self, remote: Remote, at: &mut Context) {
        if let Some(before) = &self.remote {
            if before.format.codec != remote.format.codec {
                self.finish_prompts(at.events);
            }
        } else {
            self.rtcp_due_us = at.now_us + rtcp::interval_us(at.rng) / 2;
        }
        let guard = self.guard.take();
        if let Some(keys) = &remote.srtp {
            let guard = match guard {
                Some(mut guard) => guard.rekey(keys).map(|()| guard),
                None => Guard::new(keys).map(Box::new),
            };
            if guard.is_none() {
                self.remote = None; // with keys that can't be used the leg is mute and deaf, never in the clear
                return;
            }
            self.guard = guard;
        }
        if remote.fax {
            self.hush(at.events);
        }
        self.out.set_clock_rate(remote.format.clock_rate, at.now_us);
        self.latch.reopen(remote.learning, remote.rtp, remote.signalled_from, at.now_us);
        if self.connected {
            // A socket that stays connected to nobody known would be deaf: the address is checked per packet then.
            self.connected = sys::disconnect(&self.rtp).is_err();
        }
        if let Some(peer) = self.latch.locked() {
            self.connect(peer, at.now_us);
        }
        self.rtcp_source = None;
        self.last_received_us = at.now_us;
        self.timed_out_us = None;
        self.remote = Some(remote);
    }

    fn connect(&mut self, peer: SocketAddr, now_us: u64) {
        // Without a route the leg stays open to all and every source is checked here instead of in the kernel.
        self.connected = self.rtp.connect(peer).is_ok();
        self.verify_until_us = now_us + VERIFY_US;
    }

    pub fn play(&mut self, play: u64, prompts: Vec<Arc<Prompt>>, repeat: bool, at: &mut Context) {
        let ptime_ms = match &self.remote {
            Some(remote) => remote.format.ptime_ms,
            None => 20,
        };
        let codec = self.remote.as_ref().filter(|remote| !remote.fax).and_then(|remote| remote.format.codec);
        let prompts = prompts.into_iter().filter(|prompt| Some(prompt.codec()) == codec).collect();
        self.prompt_timestamp = None;
        self.player = Some(Box::new(Player::new(play, prompts, repeat, ptime_ms, at.now_us)));
    }

    pub fn stop_prompts(&mut self) {
        self.player = None;
    }

    fn finish_prompts(&mut self, events: &EventQueue) {
        if let Some(player) = self.player.take() {
            events.push(Event::PromptsFinished { leg: self.id, play: player.play });
        }
    }

    pub fn listen(&mut self, listening: bool, inband: bool) {
        self.listening = listening;
        if !(listening && inband) {
            self.inband = None;
        } else if self.inband.is_none() {
            self.inband = Some(Box::new(Inband { detector: Detector::default(), last: None, last_us: 0 }));
        }
    }

    pub fn bridge(&mut self, partner: u32) {
        self.partner = Some(partner);
        self.player = None;
    }

    /// Digits wait to be sent: the timers are to be looked at.
    #[inline]
    pub fn has_digits(&self) -> bool {
        !self.digits.is_empty()
    }

    pub fn send_digit(&mut self, code: u8, duration_ms: u32) {
        let fax = self.remote.as_ref().is_some_and(|remote| remote.fax);
        if !fax && self.digits.len() < DIGITS_WAITING {
            self.digits.push_back((code, duration_ms));
        }
    }

    /// Say goodbye and give the last figures.
    pub fn close(&mut self, at: &mut Context) -> LegStatistics {
        self.send_rtcp(true, at);
        self.statistics()
    }

    pub fn statistics(&self) -> LegStatistics {
        let clock_rate = self.remote.as_ref().map_or(8_000, |remote| remote.format.clock_rate);
        LegStatistics {
            packets_received: self.reception.total,
            packets_sent: self.out.packets,
            packets_lost: self.reception.lost(),
            jitter_ms: self.reception.jitter_ms(clock_rate),
            packets_discarded: self.discarded,
        }
    }

    pub fn format(&self) -> Option<Format> {
        self.remote.as_ref().map(|remote| remote.format)
    }

    // Receiving --------------------------------------------------------------------------------------------------

    /// Take one datagram from the RTP socket. The source is absent when the kernel has checked it.
    #[inline]
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Option<SocketAddr>)> {
        if self.connected && self.verify_until_us == 0 {
            return Ok((self.rtp.recv(buffer)?, None));
        }
        let (length, source) = self.rtp.recv_from(buffer)?;
        Ok((length, Some(source)))
    }

    /// Is the queue still to be emptied of what came before the socket was connected?
    #[inline]
    pub fn is_verifying(&self) -> bool {
        self.verify_until_us != 0
    }

    /// The queue was found empty.
    pub fn drained(&mut self, now_us: u64) {
        if now_us >= self.verify_until_us {
            self.verify_until_us = 0;
        }
    }

    /// Look at one datagram. Returns the header of a packet that the other leg shall get; of an SRTP packet the buffer
    /// then holds the plain one.
    #[inline]
    pub fn packet(
        &mut self,
        packet: &mut [u8],
        source: Option<SocketAddr>,
        at: &mut Context,
    ) -> Option<(Header, Kind)> {
        let Some(remote) = &self.remote else {
            self.discarded += 1;
            return None;
        };
        if remote.fax {
            return self.fax_packet(packet, source, at);
        }
        if rtp::is_rtcp(packet) {
            if remote.rtcp_mux && source.is_none_or(|source| self.latch.may_come_from(source)) {
                self.read_rtcp(packet, at);
            }
            return None;
        }
        let whole = packet.len() < BUFFER;
        let packet = match &mut self.guard {
            None => Some(packet),
            Some(guard) if source.is_none_or(|source| self.latch.may_come_from(source)) => {
                guard.open(packet).map(|length| &mut packet[..length])
            }
            Some(_) => None,
        };
        let packet = packet.map(|packet| &*packet);
        let header = packet.filter(|_| whole).and_then(|packet| Some((packet, rtp::parse(packet)?)));
        let Some((packet, header)) = header else {
            self.discarded += 1;
            return None;
        };
        let kind = remote.format.kind(header.payload_type);
        if !self.admit(source, &header, kind.is_some(), at) {
            return None;
        }
        let format = self.remote.as_ref().map(|remote| remote.format)?;
        self.reception.packet(&header, kind == Some(Kind::Audio), format.clock_rate, at.now_us);
        let bridged = self.partner.is_some();
        match kind? {
            Kind::Event => {
                // Keys that are reported are told to the other side by whoever asked for them.
                let relaying = bridged && !self.listening;
                let payload = &packet[header.start..header.end];
                let relayed = self.hear_event(&header, payload, relaying, at);
                (relaying && relayed).then_some((header, Kind::Event))
            }
            kind => {
                if self.listening && kind == Kind::Audio {
                    self.hear_tone(&header, &packet[header.start..header.end], format.codec, at);
                }
                // Tones that are listened for would reach the other side within the audio.
                (bridged && self.inband.is_none()).then_some((header, kind))
            }
        }
    }

    /// Ask the latch whether a packet is the peer's, and note that it is heard unless there are too many. `negotiated` as
    /// [`Latch::judge`] has it.
    #[inline]
    fn admit(&mut self, source: Option<SocketAddr>, header: &Header, negotiated: bool, at: &mut Context) -> bool {
        if let Some(source) = source {
            match self.latch.judge(source, header, negotiated, at.now_us) {
                Verdict::Accept => {}
                Verdict::Lock => {
                    self.connect(source, at.now_us);
                    if self.remote.as_ref().is_some_and(|remote| remote.learning) {
                        at.events.push(Event::Latched { leg: self.id, source });
                    }
                }
                Verdict::Refuse => {
                    self.discarded += 1;
                    return false;
                }
            }
        }
        if !self.allowance.take(at.now_us) {
            self.discarded += 1;
            return false;
        }
        self.last_received_us = at.now_us;
        if self.timed_out_us.is_some() {
            self.timed_out_us = None;
            at.events.push(Event::Resumed { leg: self.id });
        }
        true
    }

    fn hear_event(&mut self, header: &Header, payload: &[u8], relaying: bool, at: &mut Context) -> bool {
        let situation = Situation { listening: self.listening, relaying, now_us: at.now_us };
        let mut heard = Self::reporter(self.id, self.remote.as_ref(), at.events);
        self.events.packet(header.ssrc, header.timestamp, payload, situation, &mut heard)
    }

    fn reporter<'a>(
        leg: LegId,
        remote: Option<&Remote>,
        events: &'a EventQueue,
    ) -> impl FnMut(telephone_event::Heard) + use<'a> {
        let rate = remote.and_then(|remote| remote.format.event).map_or(8_000, |(_, rate)| rate.max(1));
        move |heard| {
            let digit = telephone_event::DIGITS[usize::from(heard.code) % 16];
            let duration_ms = (u64::from(heard.duration_ticks) * 1000 / u64::from(rate)) as u32;
            events.push(Event::Digit { leg, digit, inband: false, duration_ms });
        }
    }

    fn hear_tone(&mut self, header: &Header, payload: &[u8], codec: Option<Codec>, at: &mut Context) {
        let Some(inband) = &mut self.inband else { return };
        let table = match codec {
            Some(Codec::Pcmu) => &g711::ULAW,
            Some(Codec::Pcma) => &g711::ALAW,
            _ => return,
        };
        if inband.last.is_some_and(|last| !rtp::after(header.sequence, last)) {
            return; // a repeated packet would sound like a longer tone, a late one like a broken one
        }
        if inband.last.is_some_and(|last| header.sequence != last.wrapping_add(1)) {
            inband.detector.gap();
        }
        inband.last = Some(header.sequence);
        inband.last_us = at.now_us;
        let (leg, events) = (self.id, at.events);
        inband.detector.samples(payload.iter().map(|&code| table[usize::from(code)]), &mut |tone| {
            events.push(Event::Digit { leg, digit: tone.digit, inband: true, duration_ms: tone.duration_ms });
        });
    }

    /// Take one datagram from the RTCP socket.
    pub fn rtcp_packet(&mut self, packet: &mut [u8], source: SocketAddr, at: &mut Context) {
        if self.latch.destination().is_some_and(|peer| peer.ip() == source.ip()) && self.read_rtcp(packet, at) {
            self.rtcp_source = Some(source);
        }
    }

    /// Take a compound packet; says whether it was the peer's, which only SRTCP can tell.
    fn read_rtcp(&mut self, packet: &mut [u8], at: &mut Context) -> bool {
        let packet = match &mut self.guard {
            None => packet,
            Some(guard) => match guard.open_rtcp(packet) {
                Some(length) => &mut packet[..length],
                None => {
                    self.discarded += 1;
                    return false;
                }
            },
        };
        let now_middle = (rtcp::ntp(at.unix_us) >> 16) as u32;
        let received = rtcp::read(packet, self.out.ssrc, now_middle);
        if let Some(middle) = received.sr {
            self.last_sr = Some(rtcp::LastSr { middle, at_us: at.now_us });
        }
        self.round_trip = received.round_trip.or(self.round_trip);
        true
    }

    // Time -------------------------------------------------------------------------------------------------------

    /// Do what is due and say when to come back.
    pub fn run_timers(&mut self, at: &mut Context) -> u64 {
        self.run_sender(at.now_us);
        self.run_player(at);
        let mut heard = Self::reporter(self.id, self.remote.as_ref(), at.events);
        self.events.expire(at.now_us, self.listening, &mut heard);
        self.run_tone(at);
        if self.rtcp_due_us <= at.now_us {
            self.send_rtcp(false, at);
            self.rtcp_due_us = at.now_us + rtcp::interval_us(at.rng);
        }
        if self.inactive_at(at.inactivity_us).is_some_and(|due| due <= at.now_us) {
            self.timed_out_us = Some(at.now_us);
            at.events.push(Event::TimedOut { leg: self.id });
        }
        self.due_us(at.inactivity_us)
    }

    /// When [`Leg::run_timers`] has something to do.
    pub fn due_us(&self, inactivity_us: u64) -> u64 {
        let due = [
            self.player.as_ref().map(|player| player.due_us()),
            self.sender.as_ref().map(|sender| sender.due_us()),
            (self.sender.is_none() && !self.digits.is_empty()).then_some(0),
            self.hearing_us(),
            self.inactive_at(inactivity_us),
        ];
        due.into_iter().flatten().fold(self.rtcp_due_us, u64::min)
    }

    /// When a digit that is being heard would be over without a further packet.
    #[inline]
    pub fn hearing_us(&self) -> Option<u64> {
        let tone = self.inband.as_ref().filter(|inband| inband.detector.is_down());
        let tone = tone.map(|inband| inband.last_us + TONE_CEASED_US);
        self.events.deadline_us().into_iter().chain(tone).min()
    }

    /// Let packets of this leg end the worker's sleep while a `#` is under way, and no longer.
    #[inline]
    pub fn watch_pound(&mut self, urgent: &Epoll) {
        match (self.urgent, self.listening && self.events.is_hearing(POUND)) {
            (false, true) => self.urgent = urgent.add(self.rtp.as_raw_fd(), 0).is_ok(),
            (true, false) => self.leave(urgent),
            _ => {}
        }
    }

    /// Go from a worker, or on without its hurry.
    pub fn leave(&mut self, urgent: &Epoll) {
        if std::mem::take(&mut self.urgent) {
            let _ = urgent.remove(self.rtp.as_raw_fd());
        }
    }

    fn inactive_at(&self, inactivity_us: u64) -> Option<u64> {
        let waits = self.remote.as_ref().is_some_and(|remote| remote.peer_sends);
        waits.then_some(self.timed_out_us.unwrap_or(self.last_received_us) + inactivity_us)
    }

    fn run_tone(&mut self, at: &mut Context) {
        let Some(inband) = &mut self.inband else { return };
        if inband.detector.is_down() && inband.last_us + TONE_CEASED_US <= at.now_us {
            let (leg, events) = (self.id, at.events);
            inband.detector.stop(&mut |tone| {
                events.push(Event::Digit { leg, digit: tone.digit, inband: true, duration_ms: tone.duration_ms });
            });
        }
    }
}
