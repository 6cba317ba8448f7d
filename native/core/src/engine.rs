//! The engine: ports, prompts and media threads behind one handle. Any thread may call it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::codec::Codec;
use crate::event::{Event, EventQueue, LegId};
use crate::leg::Leg;
use crate::ports::{PortAllocator, PortLease, SharedPorts};
use crate::prompt::Prompt;
use crate::remote::Remote;
use crate::rng::Rng;
use crate::statistics::LegStatistics;
use crate::sys;
use crate::worker::{Command, Inbox, Worker};

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    pub bind_ipv4: Option<IpAddr>,
    pub bind_ipv6: Option<IpAddr>,
    pub port_low: u16,
    pub port_high: u16,
    /// Port pairs kept free for emergency calls, per address family.
    pub emergency_reserve: usize,
    pub threads: usize,
    pub inactivity_ms: u64,
}

struct Thread {
    inbox: Arc<Inbox>,
    dead: Arc<AtomicBool>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

struct Family {
    address: IpAddr,
    ports: SharedPorts,
}

#[derive(Clone, Copy)]
struct Place {
    thread: usize,
    codec: Option<Codec>,
}

#[derive(Default)]
struct Table {
    places: HashMap<LegId, Place>,
    next: usize,
}

type PromptKey = (Codec, String, String);

pub struct Engine {
    ipv4: Option<Family>,
    ipv6: Option<Family>,
    threads: Vec<Thread>,
    events: Arc<EventQueue>,
    base: Instant,
    table: Mutex<Table>,
    prompts: Mutex<HashMap<PromptKey, Arc<Prompt>>>,
    rng: Mutex<Rng>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Start the media threads.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        let mut rng = Rng::new();
        let mut family = |address: Option<IpAddr>| {
            address.map(|address| {
                let (low, high) = (settings.port_low, settings.port_high);
                let allocator = PortAllocator::new(low, high, settings.emergency_reserve, rng.next_u64());
                Family { address, ports: SharedPorts::new(allocator) }
            })
        };
        let (ipv4, ipv6) = (family(settings.bind_ipv4), family(settings.bind_ipv6));
        let events = Arc::new(EventQueue::new()?);
        let base = Instant::now();
        let mut threads = Vec::new();
        for number in 0..settings.threads.max(1) {
            let inbox = Arc::new(Inbox::new()?);
            let dead = Arc::new(AtomicBool::new(false));
            let mut worker =
                Worker::new(inbox.clone(), events.clone(), base, settings.inactivity_ms.saturating_mul(1000))?;
            let (events, died) = (events.clone(), dead.clone());
            let handle = std::thread::Builder::new()
                .name(format!("media-{number}"))
                .spawn(move || run_reporting(move || worker.run(), &events, &died))?;
            threads.push(Thread { inbox, dead, handle: Mutex::new(Some(handle)) });
        }
        let (table, prompts) = (Mutex::default(), Mutex::default());
        Ok(Self { ipv4, ipv6, threads, events, base, table, prompts, rng: Mutex::new(rng) })
    }

    pub fn events(&self) -> &EventQueue {
        &self.events
    }

    /// Keep a prompt under its name; an empty group is everybody's.
    pub fn register_prompt(&self, group: &str, name: &str, prompt: Prompt) {
        let key = (prompt.codec(), group.to_owned(), name.to_owned());
        lock(&self.prompts).insert(key, Arc::new(prompt));
    }

    /// Bind a port pair and start a leg on it. Returns its RTP and RTCP ports, or why there are none.
    pub fn open_leg(&self, leg: LegId, ipv6: bool, emergency: bool) -> Result<(u16, u16), String> {
        let family = if ipv6 { &self.ipv6 } else { &self.ipv4 };
        let Some(family) = family else {
            return Err(format!("no media address is set for IPv{}", if ipv6 { 6 } else { 4 }));
        };
        let mut table = lock(&self.table);
        if table.places.contains_key(&leg) {
            return Err("the leg is open already".into());
        }
        let alive = (0..self.threads.len()).map(|n| (table.next + n) % self.threads.len());
        let alive = alive.into_iter().find(|&n| !self.threads[n].dead.load(Ordering::SeqCst));
        let Some(thread) = alive else { return Err("the media thread has died".into()) };
        let (lease, rtp, rtcp) = bind_pair(family, emergency)?;
        let port = lease.rtp;
        let now_us = self.base.elapsed().as_micros() as u64;
        let leg_state = Leg::new(leg, rtp, rtcp, lease, &mut lock(&self.rng), now_us);
        table.next = thread + 1;
        table.places.insert(leg, Place { thread, codec: None });
        self.threads[thread].inbox.push(Command::Open(Box::new(leg_state)));
        Ok((port, port + 1))
    }

    pub fn configure(&self, leg: LegId, remote: Remote) {
        let mut table = lock(&self.table);
        if let Some(place) = table.places.get_mut(&leg) {
            place.codec = remote.format.codec;
            self.threads[place.thread].inbox.push(Command::Configure { leg, remote: Box::new(remote) });
        }
    }

    /// Play prompts by name: those of the group, else everybody's. Unknown names are left out and returned.
    pub fn play(&self, leg: LegId, play: u64, names: &[String], repeat: bool, group: &str) -> Vec<String> {
        let mut unknown = Vec::new();
        let mut found = Vec::new();
        let place = lock(&self.table).places.get(&leg).copied();
        if let Some(codec) = place.and_then(|place| place.codec) {
            let prompts = lock(&self.prompts);
            for name in names {
                let own = prompts.get(&(codec, group.to_owned(), name.clone()));
                match own.or_else(|| prompts.get(&(codec, String::new(), name.clone()))) {
                    Some(prompt) => found.push(prompt.clone()),
                    None => unknown.push(name.clone()),
                }
            }
        } else {
            unknown.extend_from_slice(names);
        }
        let command = Command::Play { leg, play, prompts: found, repeat };
        let alive = place.filter(|place| !self.threads[place.thread].dead.load(Ordering::SeqCst));
        match alive {
            Some(place) => self.threads[place.thread].inbox.push(command),
            None => self.events.push(Event::PromptsFinished { leg, play }),
        }
        unknown
    }

    pub fn stop_prompts(&self, leg: LegId) {
        self.send(leg, Command::StopPrompts { leg });
    }

    pub fn listen(&self, leg: LegId, listening: bool, inband: bool) {
        self.send(leg, Command::Listen { leg, listening, inband });
    }

    pub fn unbridge(&self, leg: LegId) {
        self.send(leg, Command::Unbridge { leg });
    }

    /// Send one digit (0-9 * # A-D); others are ignored and reported as `false`.
    pub fn send_digit(&self, leg: LegId, digit: u8, duration_ms: u32) -> bool {
        let Some(code) = crate::telephone_event::code_of(digit) else { return false };
        self.send(leg, Command::SendDigit { leg, code, duration_ms });
        true
    }

    /// Relay between two legs. Legs of different threads come together on the first one's.
    pub fn bridge(&self, first: LegId, second: LegId) {
        let mut table = lock(&self.table);
        let Some(one) = table.places.get(&first).copied() else { return };
        let Some(two) = table.places.get_mut(&second) else { return };
        let (home, away) = (&self.threads[one.thread], &self.threads[two.thread]);
        if one.thread != two.thread {
            two.thread = one.thread;
            home.inbox.push(Command::Expect { leg: second });
            away.inbox.push(Command::Depart { leg: second, to: home.inbox.clone() });
        }
        home.inbox.push(Command::Bridge { first, second });
    }

    /// Close a leg; `Closed` follows in any case.
    pub fn close_leg(&self, leg: LegId) {
        let place = lock(&self.table).places.remove(&leg);
        match place.filter(|place| !self.threads[place.thread].dead.load(Ordering::SeqCst)) {
            Some(place) => self.threads[place.thread].inbox.push(Command::Close { leg }),
            None => self.events.push(Event::Closed { leg, statistics: LegStatistics::default() }),
        }
    }

    fn send(&self, leg: LegId, command: Command) {
        let table = lock(&self.table);
        if let Some(place) = table.places.get(&leg) {
            self.threads[place.thread].inbox.push(command);
        }
    }

    /// Legs that were opened and not closed.
    pub fn open_legs(&self) -> usize {
        lock(&self.table).places.len()
    }

    /// Port pairs in use and in all, of both address families.
    pub fn port_pairs(&self) -> (usize, usize) {
        let families = [&self.ipv4, &self.ipv6];
        families.into_iter().flatten().fold((0, 0), |(used, all), family| {
            let ports = family.ports.allocator();
            (used + ports.in_use(), all + ports.pairs())
        })
    }

    /// Stop the threads and close every leg.
    pub fn stop(&self) {
        for thread in &self.threads {
            thread.inbox.push(Command::Shutdown);
        }
        for thread in &self.threads {
            if let Some(handle) = lock(&thread.handle).take() {
                // A thread that panicked has said so in its `Failed` event.
                let _ = handle.join();
            }
            thread.dead.store(true, Ordering::SeqCst);
        }
        lock(&self.table).places.clear();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Work until done; a panic becomes an event instead of a silent end.
fn run_reporting(work: impl FnOnce(), events: &EventQueue, dead: &AtomicBool) {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    dead.store(true, Ordering::SeqCst);
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown panic");
        events.push(Event::Failed { reason: format!("a media thread died: {text}") });
    }
}

type Pair = (PortLease, std::net::UdpSocket, std::net::UdpSocket);

/// Lease pairs until both ports of one can be bound: other programs may sit in the range.
fn bind_pair(family: &Family, emergency: bool) -> Result<Pair, String> {
    let mut taken = Vec::new(); // held until the search ends, so that no pair is tried twice
    while let Some(lease) = family.ports.lease(emergency) {
        let rtp = sys::bind_udp(SocketAddr::new(family.address, lease.rtp));
        let pair = rtp.and_then(|rtp| Ok((rtp, sys::bind_udp(SocketAddr::new(family.address, lease.rtp + 1))?)));
        match pair {
            Ok((rtp, rtcp)) => return Ok((lease, rtp, rtcp)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken.push(lease),
            Err(error) => return Err(format!("cannot bind {} port {}: {error}", family.address, lease.rtp)),
        }
    }
    Err("no free port pair in the media range".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Format;

    fn settings(threads: usize) -> Settings {
        Settings {
            bind_ipv4: Some(IpAddr::from([127, 0, 0, 1])),
            bind_ipv6: None,
            port_low: 32_000,
            port_high: 32_099,
            emergency_reserve: 0,
            threads,
            inactivity_ms: 60_000,
        }
    }

    fn wait_for(engine: &Engine, mut wanted: impl FnMut(&Event) -> bool) -> bool {
        let patience = Instant::now() + std::time::Duration::from_secs(20);
        while Instant::now() < patience {
            if engine.events().drain().iter().any(&mut wanted) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    #[test]
    fn a_panic_of_a_media_thread_is_reported_and_its_legs_can_still_be_closed() {
        let engine = Engine::start(&settings(1)).unwrap();
        engine.open_leg(7, false, false).unwrap();
        run_reporting(|| panic!("broken on purpose"), engine.events(), &engine.threads[0].dead);
        assert!(wait_for(&engine, |event| matches!(event, Event::Failed { reason } if reason.contains("on purpose"))));
        assert!(engine.open_leg(8, false, false).is_err());
        engine.play(7, 1, &[], false, "");
        assert!(wait_for(&engine, |event| *event == Event::PromptsFinished { leg: 7, play: 1 }));
        engine.close_leg(7);
        assert!(wait_for(&engine, |event| matches!(event, Event::Closed { leg: 7, .. })));
    }

    #[test]
    fn legs_that_lead_to_each_other_fall_silent() {
        let engine = Engine::start(&Settings { inactivity_ms: 500, port_low: 31_900, ..settings(1) }).unwrap();
        let ports = [1, 2].map(|leg| engine.open_leg(leg, false, false).unwrap().0);
        let format = Format {
            codec: Some(Codec::Pcmu),
            payload_type: 0,
            heard: 0,
            clock_rate: 8_000,
            ptime_ms: 20,
            event: None,
            heard_event: None,
        };
        for (leg, port) in [(1, ports[1]), (2, ports[0])] {
            let remote = Remote {
                rtp: Some(SocketAddr::from(([127, 0, 0, 1], port))),
                rtcp: None,
                rtcp_mux: true,
                format,
                peer_sends: true,
                peer_receives: true,
                learning: false,
                signalled_from: Some(IpAddr::from([127, 0, 0, 1])),
                srtp: None,
                fax: false,
            };
            engine.configure(leg, remote);
        }
        engine.bridge(1, 2);
        let injector = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for sequence in 0..40u8 {
            let mut packet = [0; 172];
            (packet[0], packet[3]) = (0x80, sequence);
            for port in ports {
                injector.send_to(&packet, ("127.0.0.1", port)).unwrap();
            }
        }
        let mut silent = [false; 3];
        assert!(wait_for(&engine, |event| {
            if let Event::TimedOut { leg } = event {
                silent[*leg as usize] = true;
            }
            silent == [false, true, true]
        }));
        for id in [1, 2] {
            engine.close_leg(id);
            let mut received = 0;
            assert!(wait_for(&engine, |event| {
                let Event::Closed { leg, statistics } = event else { return false };
                received = statistics.packets_received;
                *leg == id
            }));
            assert!((1_000..3_000).contains(&received), "{received} packets went round");
        }
    }

    #[test]
    fn legs_come_and_go_on_several_threads() {
        let engine = Engine::start(&settings(3)).unwrap();
        for round in 0..50u64 {
            let (a, b) = (round * 2, round * 2 + 1);
            engine.open_leg(a, false, false).unwrap();
            engine.open_leg(b, false, false).unwrap();
            engine.bridge(a, b);
            engine.bridge(b, a);
            engine.unbridge(b);
            engine.close_leg(b);
            engine.bridge(a, b);
            engine.close_leg(a);
            assert!(wait_for(&engine, |event| matches!(event, Event::Closed { leg, .. } if *leg == a)));
        }
        let patience = Instant::now() + std::time::Duration::from_secs(20);
        while engine.port_pairs().0 > 0 && Instant::now() < patience {
            std::thread::yield_now();
        }
        assert_eq!((engine.port_pairs().0, engine.open_legs()), (0, 0));
    }
}
