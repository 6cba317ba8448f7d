//! Load for the relay bench: both ends of N calls, 50 packets a second each way, with the latency of every packet.
//!
//! `relay_load CALLS SECONDS` prints its ports, reads the engine's ports for them (one line each, separated by spaces), sends
//! for a second to warm up, prints `begin`, sends for SECONDS, prints `end` and then one line of figures as JSON.
//! A packet's latency is the kernel's receive timestamp less the time right before it was sent, so a generator that is
//! late measures nothing wrong.

use std::io::{self, BufRead, Write};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tollgate_media::sys::Epoll;

const INTERVAL: Duration = Duration::from_millis(20);
const WARM_UP: Duration = Duration::from_secs(1);
const PACKET: usize = 172;

fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

/// Ask for receive timestamps of the kernel.
fn stamp_arrivals(socket: &UdpSocket) {
    let one: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `one` is a readable c_int of the length given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, (&raw const one).cast(), length)
    };
    assert_eq!(result, 0, "no receive timestamps");
}

/// One datagram and when the kernel got it, in nanoseconds since 1970.
fn receive(socket: &UdpSocket, buffer: &mut [u8; 2048]) -> Option<(usize, u64)> {
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero bytes are a valid msghdr; the buffers outlive the call; CMSG_* walk what the kernel wrote.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let length = libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_DONTWAIT);
        let length = usize::try_from(length).ok()?;
        let header = libc::CMSG_FIRSTHDR(&message);
        if header.is_null() || (*header).cmsg_type != libc::SCM_TIMESTAMPNS {
            return None;
        }
        let time = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast::<libc::timespec>());
        Some((length, time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64))
    }
}

fn cpu_time() -> Duration {
    // SAFETY: all-zero bytes are a valid rusage, which the kernel fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let of = |time: libc::timeval| Duration::from_micros(time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64);
    of(usage.ru_utime) + of(usage.ru_stime)
}

struct Phone {
    socket: UdpSocket,
    due: Instant,
    sequence: u16,
}

#[derive(Default)]
struct Figures {
    sent: u64,
    received: u64,
    latencies_ns: Vec<u32>,
}

fn main() -> io::Result<()> {
    let arguments: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let [calls, seconds] = arguments[..] else { panic!("usage: relay_load CALLS SECONDS") };
    let sockets: Vec<UdpSocket> = (0..2 * calls).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    for socket in &sockets {
        let port = socket.local_addr()?.port();
        print!("{port} ");
    }
    println!();
    io::stdout().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let mut epoll = Epoll::new()?;
    let start = Instant::now() + Duration::from_millis(100);
    let mut phones = Vec::new();
    for (n, (socket, port)) in sockets.into_iter().zip(line.split_whitespace()).enumerate() {
        socket.connect(("127.0.0.1", port.parse().expect("a port")))?;
        socket.set_nonblocking(true)?;
        stamp_arrivals(&socket);
        epoll.add(socket.as_raw_fd(), n as u64)?;
        // Calls begin at any time, so the packets of all are spread over the interval.
        let due = start + INTERVAL * (n as u32 * 7 % (2 * calls as u32)) / (2 * calls as u32);
        phones.push(Phone { socket, due, sequence: 0 });
    }
    let figures = run(&mut phones, &mut epoll, start, Duration::from_secs(seconds))?;
    report(figures);
    Ok(())
}

fn run(phones: &mut [Phone], epoll: &mut Epoll, start: Instant, length: Duration) -> io::Result<(Figures, f64)> {
    let begin = start + WARM_UP;
    let end = begin + length;
    let (mut began, mut begin_ns, mut cpu) = (false, u64::MAX, Duration::ZERO);
    let mut figures = Figures::default();
    let mut packet = [0u8; PACKET];
    let mut buffer = [0u8; 2048];
    let mut order: Vec<usize> = (0..phones.len()).collect();
    order.sort_by_key(|&n| phones[n].due);
    let mut next = 0;
    let mut ended = None;
    loop {
        let now = Instant::now();
        if !began && now >= begin {
            (began, begin_ns, cpu) = (true, unix_ns(), cpu_time());
            println!("begin");
            io::stdout().flush()?;
        }
        if now >= end && ended.is_none() {
            ended = Some(now);
            cpu = cpu_time() - cpu;
            println!("end");
            io::stdout().flush()?;
        }
        if ended.is_some_and(|ended| now > ended + Duration::from_millis(300)) {
            return Ok((figures, cpu.as_secs_f64() / length.as_secs_f64()));
        }
        let mut idle = true;
        while ended.is_none() && phones[order[next]].due <= now {
            let phone = &mut phones[order[next]];
            next = (next + 1) % order.len();
            let sent_ns = unix_ns();
            tollgate_media::rtp::write(&mut packet, false, 0, phone.sequence, u32::from(phone.sequence) * 160, 1);
            packet[12..20].copy_from_slice(&sent_ns.to_be_bytes());
            phone.sequence = phone.sequence.wrapping_add(1);
            phone.due += INTERVAL;
            if phone.socket.send(&packet).is_ok() && sent_ns >= begin_ns {
                figures.sent += 1;
            }
            idle = false;
        }
        let ready = epoll.wait(Some(Duration::ZERO));
        for n in 0..ready {
            let socket = &phones[epoll.token(n) as usize].socket;
            if let Some((PACKET, arrived_ns)) = receive(socket, &mut buffer) {
                let sent_ns = u64::from_be_bytes(buffer[12..20].try_into().expect("eight bytes"));
                if sent_ns >= begin_ns {
                    figures.received += 1;
                    figures.latencies_ns.push(arrived_ns.saturating_sub(sent_ns).min(u64::from(u32::MAX)) as u32);
                }
            }
        }
        if idle && ready < 16 {
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

fn report((mut figures, share): (Figures, f64)) {
    figures.latencies_ns.sort_unstable();
    let quantile = |q: f64| {
        let last = figures.latencies_ns.len().saturating_sub(1);
        figures.latencies_ns.get((last as f64 * q) as usize).map_or(0.0, |&ns| f64::from(ns) / 1000.0)
    };
    println!(
        r#"{{"sent": {}, "received": {}, "p50_us": {:.1}, "p99_us": {:.1}, "max_us": {:.1}, "generator_share": {share:.3}}}"#,
        figures.sent,
        figures.received,
        quantile(0.5),
        quantile(0.99),
        quantile(1.0),
    );
}
