//! Tollgate's RTP path.
//!
//! Call control (Python) decides, this crate moves packets: it owns the RTP and RTCP sockets and its own threads,
//! plays prompts, hears telephone-events and tones, and relays between the two legs of a call. What it learns it
//! reports as [`event::Event`]s through one lock-free queue; what it shall do arrives as commands ([`engine::Engine`]).
//!
//! Everything except `worker`, `engine` and `sys` is pure: packets and a time go in, decisions come out.

#![deny(unsafe_code)]

pub mod allowance;
pub mod codec;
pub mod engine;
pub mod event;
pub mod event_sender;
pub mod g711;
pub mod inband;
pub mod latch;
pub mod leg;
pub mod pace;
pub mod ports;
pub mod prompt;
pub mod relay;
pub mod remote;
pub mod rng;
pub mod rtcp;
pub mod rtp;
pub mod srtp;
pub mod statistics;
pub mod stream;
pub mod sys;
pub mod telephone_event;
pub mod tone_sender;
pub mod transcode;
pub mod wheel;
pub mod worker;
