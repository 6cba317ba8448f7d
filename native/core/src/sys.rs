//! The only module that talks to the kernel through raw calls: what the standard library does not offer.
#![allow(unsafe_code)]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// How many ready sockets one harvest returns at most.
pub const HARVEST: usize = 1024;

/// A level-triggered epoll set whose entries are told apart by a 64-bit token.
pub struct Epoll {
    fd: OwnedFd,
    ready: Vec<libc::epoll_event>,
    count: usize,
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 takes no pointers; the descriptor it returns is ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        let ready = vec![libc::epoll_event { events: 0, u64: 0 }; HARVEST];
        Ok(Self { fd, ready, count: 0 })
    }

    /// Watch a descriptor for input. Closing the descriptor removes it.
    pub fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token)
    }

    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: `event` outlives the call and the kernel copies it.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &mut event) })?;
        Ok(())
    }

    /// Harvest ready sockets; `None` waits without end. Returns how many there are; an interrupted wait returns 0.
    pub fn wait(&mut self, timeout: Option<Duration>) -> usize {
        let timeout_ms = match timeout {
            None => -1,
            // Rounded up: waking a little late beats spinning until the time has come.
            Some(time) => time.as_micros().div_ceil(1000).min(60_000) as libc::c_int,
        };
        // SAFETY: the buffer holds HARVEST entries and lives as long as `self`.
        let count = unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), self.ready.as_mut_ptr(), HARVEST as libc::c_int, timeout_ms)
        };
        self.count = usize::try_from(count).unwrap_or(0);
        self.count
    }

    /// Sleep to the microsecond; returns `true` when input at one of the descriptors ended it early.
    pub fn sleep(&self, time: Duration) -> bool {
        let mut set = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let time =
            libc::timespec { tv_sec: time.as_secs() as libc::time_t, tv_nsec: time.subsec_nanos() as libc::c_long };
        // SAFETY: `set` and `time` outlive the call; no signal mask is given.
        unsafe { libc::ppoll(&raw mut set, 1, &raw const time, std::ptr::null()) > 0 }
    }

    /// Token of the nth entry of the last harvest.
    pub fn token(&self, index: usize) -> u64 {
        self.ready[..self.count][index].u64
    }
}

/// A kernel counter that wakes whoever waits on its descriptor.
pub struct EventFd(OwnedFd);

impl EventFd {
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers; the descriptor it returns is ours alone.
        let fd = unsafe { check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))? };
        // SAFETY: as above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn notify(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes. A full counter (EAGAIN) already wakes the reader.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub fn clear(&self) {
        let mut value = [0u8; 8];
        // SAFETY: eight writable bytes. EAGAIN means there was nothing to clear.
        unsafe { libc::read(self.0.as_raw_fd(), value.as_mut_ptr().cast(), value.len()) };
    }

    pub fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Receive buffer of a media socket in octets, of which the kernel makes twice as many.
///
/// A media thread that can't keep up must shed packets, not queue them: with the kernel's default of 208 KiB each
/// socket holds five seconds of speech, and a call that is late by that much is worse than one with gaps. A packet of
/// speech takes 832 octets of it, or 2304 where a driver spends half a page on each, so this is room for 49 packets, or
/// 17: a second, or a third of one. Less would lose keys when the machine itself stands still for a moment.
const RECEIVE_BUFFER: libc::c_int = 20_480;

/// Bind a non-blocking UDP socket with a short queue; an IPv6 one takes IPv6 only.
pub fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => UdpSocket::bind(address)?,
        SocketAddr::V6(v6) => {
            let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
            // SAFETY: socket takes no pointers; the descriptor it returns is ours alone.
            let socket = unsafe { UdpSocket::from_raw_fd(check(libc::socket(libc::AF_INET6, kind, 0))?) };
            set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
            // SAFETY: all-zero bytes are a valid sockaddr_in6.
            let mut name: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = v6.port().to_be();
            name.sin6_addr.s6_addr = v6.ip().octets();
            name.sin6_scope_id = v6.scope_id();
            let length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            // SAFETY: `name` is a readable sockaddr_in6 of the length given.
            check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const name).cast(), length) })?;
            socket
        }
    };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn set_option(socket: &UdpSocket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is a readable c_int of the length given.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) })?;
    Ok(())
}

/// Undo `connect` of a UDP socket, so that it takes datagrams from anyone again. The bound port stays.
pub fn disconnect(socket: &UdpSocket) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid sockaddr.
    let mut name: libc::sockaddr = unsafe { std::mem::zeroed() };
    name.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: `name` is a readable sockaddr of the length given.
    check(unsafe { libc::connect(socket.as_raw_fd(), &raw const name, length) })?;
    Ok(())
}

/// Random bits from the kernel.
pub fn random_u64() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: eight writable bytes; up to 256 bytes getrandom never returns short once seeded.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == 8 {
        Ok(u64::from_ne_bytes(bytes))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ask the scheduler to run this thread soon after it wakes: it works for microseconds at a time, and what it moves is late
/// at once. Every step may be refused (older kernels, no CAP_SYS_NICE); that costs latency under load and nothing else.
pub fn hurry() {
    #[repr(C)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    /// Three times the share of the threads that call control runs on: neither starves the other.
    const NICE: i32 = -5;
    /// Nanoseconds at a time (since Linux 6.12 a shorter slice means an earlier turn).
    const SLICE_NS: u64 = 300_000;

    // The kernel's default slack of 50 us adds up at a tick of 1 ms.
    // SAFETY: PR_SET_TIMERSLACK takes an integer.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000 as libc::c_ulong, 0, 0, 0) };
    for nice in [NICE, 0] {
        let size = size_of::<SchedAttr>() as u32;
        let policy = libc::SCHED_OTHER as u32;
        let attr = SchedAttr { size, policy, flags: 0, nice, priority: 0, runtime: SLICE_NS, deadline: 0, period: 0 };
        // SAFETY: `attr` is a readable sched_attr of the size it says; pid 0 is this thread.
        if unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) } == 0 {
            return;
        }
    }
}

/// Sample rate in Hz of what is encoded with Opus: wideband.
pub const OPUS_RATE: u32 = 16_000;

/// Encode mono audio with libopus in 20 ms frames (RFC 6716), complexity and bit rate set for speech.
///
/// `samples` are at [`OPUS_RATE`] and a whole number of frames. Used at load only: complexity 5 costs half of 10, and nobody
/// hears the difference in speech at this bit rate.
pub fn opus_encode(samples: &[i16]) -> Result<Vec<Vec<u8>>, String> {
    const FRAME: usize = OPUS_RATE as usize / 50;
    let mut error: libc::c_int = 0;
    // SAFETY: `error` is writable; the encoder is destroyed below on every path.
    let encoder = unsafe { opus::opus_encoder_create(OPUS_RATE as i32, 1, opus::APPLICATION_VOIP, &mut error) };
    if encoder.is_null() || error != opus::OK {
        return Err(format!("libopus gave no encoder (error {error})"));
    }
    let settings = [(opus::SET_BITRATE, 32_000), (opus::SET_COMPLEXITY, 5), (opus::SET_SIGNAL, opus::SIGNAL_VOICE)];
    for (request, value) in settings {
        // SAFETY: each of these requests takes one opus_int32; a refused one leaves the default.
        unsafe { opus::opus_encoder_ctl(encoder, request, value) };
    }
    let mut frames = Vec::with_capacity(samples.len() / FRAME);
    let mut outcome = Ok(());
    for frame in samples.chunks_exact(FRAME) {
        let mut packet = [0u8; 1275];
        let room = packet.len() as i32;
        // SAFETY: `frame` holds FRAME samples of one channel and `packet` has `room` writable bytes.
        let length =
            unsafe { opus::opus_encode(encoder, frame.as_ptr(), FRAME as libc::c_int, packet.as_mut_ptr(), room) };
        match usize::try_from(length) {
            Ok(length) => frames.push(packet[..length].to_vec()),
            Err(_) => {
                outcome = Err(format!("libopus refused a frame (error {length})"));
                break;
            }
        }
    }
    // SAFETY: created above and not used afterwards.
    unsafe { opus::opus_encoder_destroy(encoder) };
    outcome.map(|()| frames)
}

mod opus {
    use libc::{c_int, c_uchar};

    pub const OK: c_int = 0;
    pub const APPLICATION_VOIP: c_int = 2048;
    pub const SET_BITRATE: c_int = 4002;
    pub const SET_COMPLEXITY: c_int = 4010;
    pub const SET_SIGNAL: c_int = 4024;
    pub const SIGNAL_VOICE: c_int = 3001;

    #[repr(C)]
    pub struct Encoder {
        _opaque: [u8; 0],
    }

    #[link(name = "opus")]
    extern "C" {
        pub fn opus_encoder_create(rate: i32, channels: c_int, application: c_int, error: *mut c_int) -> *mut Encoder;
        pub fn opus_encoder_ctl(encoder: *mut Encoder, request: c_int, ...) -> c_int;
        pub fn opus_encode(
            encoder: *mut Encoder,
            pcm: *const i16,
            frame_size: c_int,
            data: *mut c_uchar,
            max_data_bytes: i32,
        ) -> i32;
        pub fn opus_encoder_destroy(encoder: *mut Encoder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_at_a_watched_socket_ends_a_sleep_and_nothing_else_does() {
        let (epoll, socket) = (Epoll::new().unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        epoll.add(socket.as_raw_fd(), 0).unwrap();
        assert!(!epoll.sleep(Duration::from_micros(1_500)));
        socket.send_to(b"#", socket.local_addr().unwrap()).unwrap();
        assert!(epoll.sleep(Duration::from_secs(3_600)));
        epoll.remove(socket.as_raw_fd()).unwrap();
        assert!(!epoll.sleep(Duration::ZERO), "input is left, but nobody waits for it");
    }

    #[test]
    fn a_socket_that_is_not_read_keeps_a_second_of_speech_at_most() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let socket = bind_udp(host.parse().unwrap()).unwrap();
            let sender = UdpSocket::bind(host).unwrap();
            for _ in 0..1000 {
                sender.send_to(&[0; 172], socket.local_addr().unwrap()).unwrap();
            }
            let mut buffer = [0; 256];
            let kept = std::iter::from_fn(|| socket.recv(&mut buffer).ok()).count();
            assert!((10..=50).contains(&kept), "{host} kept {kept} packets");
        }
    }
}
