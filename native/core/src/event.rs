//! What the core tells call control: one lock-free queue and an eventfd.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::SegQueue;

use crate::statistics::LegStatistics;
use crate::sys::EventFd;

/// Names a leg; chosen by call control.
pub type LegId = u64;

/// No `Debug`: a digit of an account code must not end up in a log.
#[derive(Clone, PartialEq)]
pub enum Event {
    Digit {
        leg: LegId,
        digit: u8,
        inband: bool,
        duration_ms: u32,
    },
    PromptsFinished {
        leg: LegId,
        play: u64,
    },
    Latched {
        leg: LegId,
        source: SocketAddr,
    },
    /// Again after each further inactivity time without a packet.
    TimedOut {
        leg: LegId,
    },
    /// A packet came after `TimedOut`.
    Resumed {
        leg: LegId,
    },
    Closed {
        leg: LegId,
        statistics: LegStatistics,
    },
    /// A media thread died. Its legs are gone.
    Failed {
        reason: String,
    },
}

pub struct EventQueue {
    events: SegQueue<Event>,
    signalled: AtomicBool,
    wake: EventFd,
}

impl EventQueue {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { events: SegQueue::new(), signalled: AtomicBool::new(false), wake: EventFd::new()? })
    }

    /// Add an event; the reader is woken once until it drains.
    pub fn push(&self, event: Event) {
        self.events.push(event);
        if !self.signalled.swap(true, Ordering::SeqCst) {
            self.wake.notify();
        }
    }

    /// Take everything that is there.
    pub fn drain(&self) -> Vec<Event> {
        self.wake.clear();
        // Cleared before the queue is read: an event pushed meanwhile signals again.
        self.signalled.store(false, Ordering::SeqCst);
        std::iter::from_fn(|| self.events.pop()).collect()
    }

    pub fn fd(&self) -> i32 {
        self.wake.as_raw_fd()
    }
}
