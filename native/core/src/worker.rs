//! One media thread: harvests ready sockets, relays, runs timers, takes commands.
//!
//! At light load it waits in epoll and wakes with each packet, so a digit is reported within microseconds. Under load
//! waking costs more than the packets do, so it then sleeps for a tick (`pace.rs`) and harvests what has come: that adds
//! a millisecond at most on average and more than halves the cost of a packet. The end of a `#` waits for no tick: it ends
//! an entry, and somebody listens to the silence behind it.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::event::{Event, EventQueue, LegId};
use crate::leg::{Context, Leg, BUFFER};
use crate::pace::Pace;
use crate::prompt::Prompt;
use crate::remote::Remote;
use crate::rng::Rng;
use crate::sys::{self, Epoll, EventFd};
use crate::wheel::{Key, Wheel};

/// Packets of one harvest that take long enough to look again at once.
const LARGE_HARVEST: usize = 48;
/// Stands for the wake-up of the inbox in the epoll set.
const WAKE_TOKEN: u64 = u64::MAX;

/// What a worker is told.
pub enum Command {
    Open(Box<Leg>),
    Configure {
        leg: LegId,
        remote: Box<Remote>,
    },
    Play {
        leg: LegId,
        play: u64,
        prompts: Vec<Arc<Prompt>>,
        repeat: bool,
    },
    StopPrompts {
        leg: LegId,
    },
    Listen {
        leg: LegId,
        listening: bool,
        inband: bool,
    },
    Bridge {
        first: LegId,
        second: LegId,
    },
    Unbridge {
        leg: LegId,
    },
    SendDigit {
        leg: LegId,
        code: u8,
        duration_ms: u32,
    },
    Close {
        leg: LegId,
    },
    /// The leg goes to another worker, which has been told to expect it.
    Depart {
        leg: LegId,
        to: Arc<Inbox>,
    },
    /// Commands for this leg wait until it arrives.
    Expect {
        leg: LegId,
    },
    Arrive {
        leg: LegId,
        moved: Option<Box<Leg>>,
    },
    Shutdown,
}

impl Command {
    /// The legs a command speaks of.
    fn legs(&self) -> [Option<LegId>; 2] {
        match *self {
            Self::Configure { leg, .. }
            | Self::Play { leg, .. }
            | Self::StopPrompts { leg }
            | Self::Listen { leg, .. }
            | Self::Unbridge { leg }
            | Self::SendDigit { leg, .. }
            | Self::Close { leg }
            | Self::Depart { leg, .. } => [Some(leg), None],
            Self::Bridge { first, second } => [Some(first), Some(second)],
            Self::Open(_) | Self::Expect { .. } | Self::Arrive { .. } | Self::Shutdown => [None, None],
        }
    }
}

/// The way into a worker from other threads.
pub struct Inbox {
    commands: Mutex<Vec<Command>>,
    pending: AtomicBool,
    waiting: AtomicBool,
    wake: EventFd,
}

impl Inbox {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            commands: Mutex::new(Vec::new()),
            pending: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            wake: EventFd::new()?,
        })
    }

    /// Add a command. The worker is only woken when it waits; a ticking one looks by itself.
    pub fn push(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.pending.store(true, Ordering::SeqCst);
        if self.waiting.swap(false, Ordering::SeqCst) {
            self.wake.notify();
        }
    }

    fn take(&self) -> Vec<Command> {
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Default)]
struct Slot {
    generation: u32,
    leg: Option<Box<Leg>>,
}

pub struct Worker {
    inbox: Arc<Inbox>,
    events: Arc<EventQueue>,
    epoll: Epoll,
    /// Sockets of the legs that hear a `#`: their packets end the sleep between two harvests.
    urgent: Epoll,
    wheel: Wheel,
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: HashMap<LegId, u32>,
    parked: HashMap<LegId, Vec<Command>>,
    rng: Rng,
    base: Instant,
    inactivity_us: u64,
    buffer: Box<[u8; BUFFER]>,
    pace: Pace,
    next_tick: Instant,
    last_harvest: usize,
}

fn token(index: u32, generation: u32, rtcp: bool) -> u64 {
    u64::from(generation) << 32 | u64::from(index) << 1 | u64::from(rtcp)
}

fn unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}

macro_rules! context {
    ($worker:ident, $now:expr) => {
        Context {
            events: &$worker.events,
            rng: &mut $worker.rng,
            now_us: $now,
            unix_us: 0,
            inactivity_us: $worker.inactivity_us,
        }
    };
}

impl Worker {
    /// `base` is time zero of the whole engine, the same for all workers: legs move between them.
    pub fn new(inbox: Arc<Inbox>, events: Arc<EventQueue>, base: Instant, inactivity_us: u64) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(inbox.wake.as_raw_fd(), WAKE_TOKEN)?;
        Ok(Self {
            inbox,
            events,
            epoll,
            urgent: Epoll::new()?,
            wheel: Wheel::default(),
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            parked: HashMap::new(),
            rng: Rng::new(),
            base,
            inactivity_us,
            buffer: Box::new([0; BUFFER]),
            pace: Pace::default(),
            next_tick: base,
            last_harvest: 0,
        })
    }

    fn now_us(&self) -> u64 {
        self.base.elapsed().as_micros() as u64
    }

    /// Work until told to shut down.
    pub fn run(&mut self) {
        sys::hurry();
        let mut due = Vec::new();
        loop {
            let now_us = self.now_us();
            self.wheel.run(now_us, &mut due);
            for (key, time) in due.drain(..) {
                self.timer(key, time, now_us);
            }
            let ready = self.harvest();
            // Between the harvest and its packets, so that what was told before a packet came holds for the packet.
            if self.inbox.pending.swap(false, Ordering::SeqCst) {
                for command in self.inbox.take() {
                    if matches!(command, Command::Shutdown) {
                        return;
                    }
                    self.dispatch(command);
                }
            }
            let now_us = self.now_us();
            for n in 0..ready {
                let token = self.epoll.token(n);
                if token == WAKE_TOKEN {
                    self.inbox.wake.clear();
                } else {
                    self.socket_ready(token, now_us);
                }
            }
            self.last_harvest = ready;
            self.pace.count(ready, now_us);
        }
    }

    fn harvest(&mut self) -> usize {
        if let Some(tick) = self.pace.tick() {
            // To the next tick; not at all when the last harvest took longer than one, or was so large that more has
            // come meanwhile.
            let now = Instant::now();
            if self.last_harvest < LARGE_HARVEST || now >= self.next_tick {
                let early = self.urgent.sleep(self.next_tick.saturating_duration_since(now));
                if !early {
                    self.next_tick = self.next_tick.max(now) + tick;
                }
            }
            return self.epoll.wait(Some(Duration::ZERO));
        }
        let now_us = self.now_us();
        let timeout = self.wheel.next_us().map(|due| Duration::from_micros(due.saturating_sub(now_us)));
        self.inbox.waiting.store(true, Ordering::SeqCst);
        let timeout = if self.inbox.pending.load(Ordering::SeqCst) { Some(Duration::ZERO) } else { timeout };
        let ready = self.epoll.wait(timeout);
        self.inbox.waiting.store(false, Ordering::SeqCst);
        ready
    }

    // Packets ----------------------------------------------------------------------------------------------------

    #[inline]
    fn socket_ready(&mut self, token: u64, now_us: u64) {
        let index = (token as u32) >> 1;
        let generation = (token >> 32) as u32;
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if slot.generation != generation || slot.leg.is_none() {
            return;
        }
        if token & 1 == 0 {
            self.rtp_ready(index, false, now_us);
        } else if let Some(leg) = &mut slot.leg {
            let mut at = Context { unix_us: unix_us(), ..context!(self, now_us) };
            if let Ok((length, source)) = leg.rtcp.recv_from(&mut self.buffer[..]) {
                leg.rtcp_packet(&mut self.buffer[..length], source, &mut at);
            }
        }
    }

    #[inline]
    fn rtp_ready(&mut self, index: u32, to_the_end: bool, now_us: u64) {
        // One packet per readiness: what is left is ready again in the next harvest. Only a queue that may hold packets
        // from before the connect, or one that nobody will read again, is emptied at once.
        for _ in 0..64 {
            let Some(leg) = &mut self.slots[index as usize].leg else { return };
            let (length, source) = match leg.receive(&mut self.buffer[..]) {
                Ok(received) => received,
                Err(error) => {
                    if error.kind() == io::ErrorKind::WouldBlock {
                        leg.drained(now_us);
                    }
                    return; // an ICMP error of the peer's host ends nothing
                }
            };
            let again = to_the_end || leg.is_verifying();
            let mut at = context!(self, now_us);
            let forward = leg.packet(&mut self.buffer[..length], source, &mut at);
            leg.watch_pound(&self.urgent);
            let (partner, from, hearing) = (leg.partner, leg.format(), leg.hearing_us());
            if let Some(due_us) = hearing {
                self.arm(index, due_us);
            }
            if let (Some((header, kind)), Some(partner), Some(from)) = (forward, partner, from) {
                if let Some(other) = &mut self.slots[partner as usize].leg {
                    other.relay(&mut self.buffer[..], &header, kind, &from, now_us);
                    if other.has_digits() {
                        let due_us = other.due_us(self.inactivity_us);
                        self.arm(partner, due_us);
                    }
                }
            }
            if !again {
                return;
            }
        }
    }

    // Timers -----------------------------------------------------------------------------------------------------

    fn timer(&mut self, key: Key, time: u64, now_us: u64) {
        let Some(slot) = self.slots.get_mut(key.index as usize) else { return };
        if slot.generation != key.generation {
            return;
        }
        let Some(leg) = &mut slot.leg else { return };
        if leg.armed_us != time {
            return; // an earlier timer has been set since, and has come
        }
        leg.armed_us = u64::MAX;
        let mut at = Context { unix_us: unix_us(), ..context!(self, now_us) };
        let due_us = leg.run_timers(&mut at);
        leg.watch_pound(&self.urgent);
        self.arm(key.index, due_us);
    }

    fn arm(&mut self, index: u32, due_us: u64) {
        let slot = &mut self.slots[index as usize];
        let Some(leg) = &mut slot.leg else { return };
        if due_us < leg.armed_us {
            leg.armed_us = self.wheel.insert(due_us, Key { index, generation: slot.generation });
        }
    }

    // Commands ---------------------------------------------------------------------------------------------------

    fn dispatch(&mut self, command: Command) {
        if !self.parked.is_empty() {
            let awaited = command.legs().into_iter().flatten().find(|leg| self.parked.contains_key(leg));
            if let Some(waiting) = awaited.and_then(|leg| self.parked.get_mut(&leg)) {
                waiting.push(command);
                return;
            }
        }
        self.execute(command);
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Open(leg) => self.adopt(leg),
            Command::Configure { leg, remote } => self.with(leg, |leg, at| leg.configure(*remote, at)),
            Command::Play { leg: id, play, prompts, repeat } => {
                if self.index.contains_key(&id) {
                    self.with(id, |leg, at| leg.play(play, prompts, repeat, at));
                } else {
                    self.events.push(Event::PromptsFinished { leg: id, play });
                }
            }
            Command::StopPrompts { leg } => self.with(leg, |leg, _| leg.stop_prompts()),
            Command::Listen { leg, listening, inband } => self.with(leg, |leg, _| leg.listen(listening, inband)),
            Command::Bridge { first, second } => self.bridge(first, second),
            Command::Unbridge { leg } => {
                if let Some(&index) = self.index.get(&leg) {
                    self.unbridge(index);
                }
            }
            Command::SendDigit { leg, code, duration_ms } => self.with(leg, |leg, _| leg.send_digit(code, duration_ms)),
            Command::Close { leg } => self.close(leg),
            Command::Depart { leg, to } => {
                let moved = self.index.remove(&leg).and_then(|index| self.remove(index));
                to.push(Command::Arrive { leg, moved });
            }
            Command::Expect { leg } => {
                self.parked.entry(leg).or_default();
            }
            Command::Arrive { leg, moved } => {
                if let Some(moved) = moved {
                    self.adopt(moved);
                }
                for command in self.parked.remove(&leg).unwrap_or_default() {
                    self.dispatch(command);
                }
            }
            Command::Shutdown => {}
        }
    }

    /// Run a change on a leg and look at its timers again.
    fn with(&mut self, id: LegId, change: impl FnOnce(&mut Leg, &mut Context)) {
        let Some(&index) = self.index.get(&id) else { return };
        let now_us = self.now_us();
        let Some(leg) = &mut self.slots[index as usize].leg else { return };
        let mut at = Context { unix_us: unix_us(), ..context!(self, now_us) };
        change(leg, &mut at);
        let due_us = leg.due_us(self.inactivity_us);
        self.arm(index, due_us);
    }

    fn adopt(&mut self, mut leg: Box<Leg>) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        leg.armed_us = u64::MAX;
        leg.partner = None;
        self.index.insert(leg.id, index);
        for (socket, rtcp) in [(&leg.rtp, false), (&leg.rtcp, true)] {
            use std::os::fd::AsRawFd;
            if let Err(error) = self.epoll.add(socket.as_raw_fd(), token(index, slot.generation, rtcp)) {
                self.events.push(Event::Failed { reason: format!("a socket cannot be watched: {error}") });
            }
        }
        let due_us = leg.due_us(self.inactivity_us);
        slot.leg = Some(leg);
        self.arm(index, due_us);
    }

    fn remove(&mut self, index: u32) -> Option<Box<Leg>> {
        use std::os::fd::AsRawFd;
        self.unbridge(index);
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let mut leg = slot.leg.take()?;
        leg.leave(&self.urgent);
        self.free.push(index);
        for socket in [&leg.rtp, &leg.rtcp] {
            // Only a leg that moves to another thread needs this: closing removes by itself.
            let _ = self.epoll.remove(socket.as_raw_fd());
        }
        Some(leg)
    }

    fn bridge(&mut self, first: LegId, second: LegId) {
        let (Some(&a), Some(&b)) = (self.index.get(&first), self.index.get(&second)) else { return };
        if a == b {
            return;
        }
        let partner = |worker: &Self, index: u32| worker.slots[index as usize].leg.as_ref().and_then(|leg| leg.partner);
        if partner(self, a) != Some(b) {
            self.unbridge(a);
            self.unbridge(b);
        }
        for (index, other) in [(a, b), (b, a)] {
            if let Some(leg) = &mut self.slots[index as usize].leg {
                leg.bridge(other);
            }
        }
    }

    fn unbridge(&mut self, index: u32) {
        let partner = self.slots[index as usize].leg.as_mut().and_then(|leg| leg.partner.take());
        if let Some(other) = partner.and_then(|index| self.slots[index as usize].leg.as_mut()) {
            other.partner = None;
        }
    }

    fn close(&mut self, id: LegId) {
        let now_us = self.now_us();
        if let Some(&index) = self.index.get(&id) {
            self.rtp_ready(index, true, now_us); // what has come counts
        }
        let removed = self.index.remove(&id).and_then(|index| self.remove(index));
        let statistics = removed.map_or_else(Default::default, |mut leg| {
            let mut at = Context { unix_us: unix_us(), ..context!(self, now_us) };
            leg.close(&mut at)
            // The leg ends here, so its ports are free before anybody hears of it.
        });
        self.events.push(Event::Closed { leg: id, statistics });
    }
}
