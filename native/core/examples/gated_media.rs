//! What the media of a gated call costs: `gated_media RATE SECONDS`, the engine on one core, its phones on the other.
//!
//! Each call is the one of bench/calls.py without its signalling: a prompt plays, the caller streams PCMU and presses five
//! keys as RFC 4733 from 300 ms on, the first stops the prompt, the last bridges the legs, and all ends after 1.9 s.
//! Between two calls the engine's core works through a megabyte, as call control would, so that its caches are cold.
//! One line of figures as JSON: CPU of the media threads per call, how often they slept, and how late the last digit was.

use std::collections::{BinaryHeap, HashMap};
use std::io::{self, BufRead, Write};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tollgate_media::codec::Codec;
use tollgate_media::engine::{Engine, Settings};
use tollgate_media::event::Event;
use tollgate_media::prompt::Prompt;
use tollgate_media::remote::{Format, Remote};
use tollgate_media::rtp;

const CALL_US: u64 = 1_900_000;
const KEYS: [u8; 5] = [1, 2, 3, 4, 11];
const KEYS_AT_US: u64 = 300_000;
/// When the last key's first end packet is sent.
const DECIDED_US: u64 = KEYS_AT_US + 4 * 100_000 + 40_000;
const WARM_UP: Duration = Duration::from_millis(2_500);

/// Microseconds of the clock that all processes share.
fn now_us() -> u64 {
    // SAFETY: all-zero bytes are a valid timespec, which the kernel fills.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time);
        time
    };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

fn pin(core: usize) {
    // SAFETY: all-zero bytes are an empty cpu_set_t; a refused call leaves the thread where it was.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// What a caller sends: microseconds from the start, and the packet.
fn stream() -> Vec<(u64, Vec<u8>)> {
    let mut packets = Vec::new();
    let mut sequence = 0u16;
    let mut add = |at_us: u64, marker: bool, kind: u8, timestamp: u32, payload: &[u8]| {
        let mut packet = vec![0; rtp::HEADER];
        rtp::write(&mut packet, marker, kind, sequence, timestamp, 0x7011_0A7E);
        packet.extend_from_slice(payload);
        packets.push((at_us, packet));
        sequence = sequence.wrapping_add(1);
    };
    for n in 0..CALL_US / 20_000 {
        let (at_us, timestamp) = (n * 20_000, (n * 160) as u32);
        let key = at_us.checked_sub(KEYS_AT_US).map(|since| ((since / 100_000) as usize, since % 100_000 / 20_000));
        match key {
            Some((key, part @ 0..3)) if key < KEYS.len() => {
                let begun = timestamp - part as u32 * 160;
                let duration = ((part + 1) * 160) as u16;
                let end = u8::from(part == 2);
                for _ in 0..1 + 2 * end {
                    let [high, low] = duration.to_be_bytes();
                    add(at_us, part == 0, 101, begun, &[KEYS[key], end << 7 | 10, high, low]);
                }
            }
            _ => add(at_us, n == 0, 0, timestamp, &[0xFF; 160]),
        }
    }
    packets
}

/// The phones: ports of N callers and N callees on stdout, `CALLER PORT START_US` on stdin.
fn phones(count: usize) -> io::Result<()> {
    pin(1);
    let bind = |_| UdpSocket::bind("127.0.0.1:0");
    let sockets: Vec<UdpSocket> = (0..2 * count).map(bind).collect::<Result<_, _>>()?;
    for socket in &sockets {
        print!("{} ", socket.local_addr()?.port());
    }
    println!();
    io::stdout().flush()?;
    let packets = stream();
    let (calls, begun) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let parts: Vec<u64> = line.split_whitespace().filter_map(|part| part.parse().ok()).collect();
            if let [phone, port, start_us] = parts[..] {
                let _ = calls.send((phone as usize, port as u16, start_us));
            }
        }
        std::process::exit(0);
    });
    let mut due = BinaryHeap::new();
    loop {
        while let Ok((phone, port, start_us)) = begun.try_recv() {
            due.push(std::cmp::Reverse((start_us, phone, port, 0usize, start_us)));
        }
        let now = now_us();
        let Some(&std::cmp::Reverse((at_us, phone, port, n, start_us))) = due.peek() else {
            std::thread::sleep(Duration::from_micros(500));
            continue;
        };
        if at_us > now {
            std::thread::sleep(Duration::from_micros((at_us - now).min(500)));
            continue;
        }
        due.pop();
        let _ = sockets[phone].send_to(&packets[n].1, ("127.0.0.1", port));
        if let Some((next_us, _)) = packets.get(n + 1) {
            due.push(std::cmp::Reverse((start_us + next_us, phone, port, n + 1, start_us)));
        }
    }
}

fn remote(port: u16) -> Remote {
    let at = |port| Some(([127, 0, 0, 1], port).into());
    Remote {
        rtp: at(port),
        rtcp: at(port + 1),
        rtcp_mux: false,
        format: Format {
            codec: Some(Codec::Pcmu),
            payload_type: 0,
            heard: 0,
            clock_rate: 8000,
            ptime_ms: 20,
            event: Some((101, 8000)),
            heard_event: Some(101),
        },
        peer_sends: true,
        peer_receives: true,
        learning: false,
        signalled_from: Some([127, 0, 0, 1].into()),
        srtp: None,
        fax: false,
    }
}

/// Nanoseconds of CPU and voluntary sleeps of the media threads so far.
fn media_threads() -> (u64, u64) {
    let mut sum = (0, 0);
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if read("comm").starts_with("media-") {
            sum.0 += read("schedstat").split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            let status = read("status");
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
            sum.1 += line.and_then(|line| line.split_whitespace().last()?.parse().ok()).unwrap_or(0);
        }
    }
    sum
}

struct Call {
    caller: u64,
    phone: usize,
    start_us: u64,
    digits: usize,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, count] = &arguments[..] {
        if first == "--phones" {
            return phones(count.parse().expect("a number"));
        }
    }
    let numbers: Vec<f64> = arguments.iter().map(|text| text.parse().expect("a number")).collect();
    let [rate, seconds] = numbers[..] else { panic!("usage: gated_media RATE SECONDS") };
    pin(0);
    let count = (rate * 2.5) as usize + 2;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--phones", &count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let outcome = run(rate, Duration::from_secs_f64(seconds), count, &mut child);
    child.kill()?;
    child.wait()?;
    println!("{}", outcome?);
    Ok(())
}

fn run(rate: f64, length: Duration, count: usize, child: &mut Child) -> io::Result<String> {
    let (mut tell, heard) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    io::BufReader::new(heard).read_line(&mut line)?;
    let ports: Vec<u16> = line.split_whitespace().map(|port| port.parse().expect("a port")).collect();
    let engine = Engine::start(&Settings {
        bind_ipv4: Some([127, 0, 0, 1].into()),
        bind_ipv6: None,
        port_low: 20_000,
        port_high: 29_999,
        emergency_reserve: 0,
        threads: 1,
        inactivity_ms: 60_000,
    })?;
    engine.register_prompt("", "enter", Prompt::new(Codec::Pcmu, [vec![0xFF; 16_000].as_slice()]));
    let prompt = ["enter".to_owned()];
    let mut noise = vec![0u64; 1 << 17];
    let mut calls: HashMap<u64, Call> = HashMap::new();
    let (mut late_us, mut sent, mut received) = (Vec::new(), 0, 0);
    let (mut next, mut closed, start) = (0u64, 0u64, Instant::now());
    let mut begin: Option<(u64, (u64, u64))> = None;
    loop {
        let elapsed = start.elapsed();
        if elapsed >= WARM_UP && begin.is_none() {
            begin = Some((closed, media_threads()));
            (sent, received) = (0, 0);
            late_us.clear();
        }
        if elapsed >= WARM_UP + length {
            break;
        }
        if elapsed.as_secs_f64() * rate >= next as f64 {
            let (caller, phone) = (next * 2, next as usize % count);
            next += 1;
            let (port, _) = engine.open_leg(caller, false, false).map_err(io::Error::other)?;
            engine.configure(caller, remote(ports[phone]));
            engine.listen(caller, true, false);
            engine.play(caller, 1, &prompt, false, "");
            engine.open_leg(caller + 1, false, false).map_err(io::Error::other)?;
            // At any phase, as callers do.
            let start_us = now_us() + 5_000 + next.wrapping_mul(7_919) % 20_000;
            writeln!(tell, "{phone} {port} {start_us}")?;
            calls.insert(caller, Call { caller, phone, start_us, digits: 0 });
            for _ in 0..2 {
                noise.iter_mut().for_each(|word| *word = word.wrapping_mul(3).wrapping_add(next));
            }
        }
        for event in engine.events().drain() {
            match event {
                Event::Digit { leg, .. } => {
                    let Some(call) = calls.get_mut(&leg) else { continue };
                    call.digits += 1;
                    if call.digits == 1 {
                        engine.stop_prompts(leg);
                    } else if call.digits == KEYS.len() {
                        late_us.push(now_us().saturating_sub(call.start_us + DECIDED_US));
                        engine.listen(leg, false, false);
                        engine.configure(leg + 1, remote(ports[count + call.phone]));
                        engine.bridge(leg, leg + 1);
                    }
                }
                Event::Closed { leg, statistics } => {
                    closed += u64::from(leg % 2 == 0);
                    sent += statistics.packets_sent;
                    received += statistics.packets_received;
                }
                _ => {}
            }
        }
        let now = now_us();
        let over: Vec<u64> =
            calls.values().filter(|call| now > call.start_us + CALL_US).map(|call| call.caller).collect();
        for leg in over {
            calls.remove(&leg);
            engine.close_leg(leg);
            engine.close_leg(leg + 1);
        }
        // Woken by an event, as the event loop is, or for the next call.
        let until_next = (next as f64 / rate - start.elapsed().as_secs_f64()).max(0.0);
        let mut poll = libc::pollfd { fd: engine.events().fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: `poll` is one writable pollfd.
        unsafe { libc::poll(&mut poll, 1, (until_next * 1000.0).min(10.0) as i32) };
    }
    let Some((before, (ns, sleeps))) = begin else { return Ok(String::new()) };
    let (ns_after, sleeps_after) = media_threads();
    let ended = (closed - before).max(1) as f64;
    late_us.sort_unstable();
    let late = |q: f64| {
        late_us.get((late_us.len().saturating_sub(1) as f64 * q) as usize).map_or(0.0, |&us| us as f64 / 1000.0)
    };
    Ok(format!(
        r#"{{"calls": {ended}, "media_us_per_call": {:.0}, "received": {:.1}, "sent": {:.1}, "sleeps_per_second": {:.0}, "digit_p50_ms": {:.2}, "digit_p99_ms": {:.2}, "decided": {}}}"#,
        (ns_after - ns) as f64 / 1000.0 / ended,
        received as f64 / ended,
        sent as f64 / ended,
        (sleeps_after - sleeps) as f64 / length.as_secs_f64(),
        late(0.5),
        late(0.99),
        late_us.len(),
    ))
}
