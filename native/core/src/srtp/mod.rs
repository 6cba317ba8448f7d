//! SRTP and SRTCP (RFC 3711, RFC 6188, RFC 7714) of one leg, keyed by SDP (RFC 4568).
//!
//! Each direction has a master key of its own, whose sender is whoever wrote it into SDP. Packets are protected and
//! opened in place, without allocation. A packet that fails is dropped and counted; it never ends anything.

mod context;
mod guard;
mod replay;
mod suite;
mod transform;

pub use context::{Inbound, Outbound, ROOM};
pub use guard::Guard;
pub use suite::{MasterKey, Suite};

/// Octets of the longest master key identifier that is taken (RFC 4568 §6.1 allows up to 128).
pub const MKI: usize = 16;

/// What a leg needs to speak SRTP with its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// What the gate encrypts with.
    pub local: MasterKey,
    /// What the peer encrypts with.
    pub remote: MasterKey,
    /// The master key identifier in the peer's packets, empty when it has none (RFC 3711 §3.1).
    pub remote_mki: Vec<u8>,
}

#[cfg(test)]
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
