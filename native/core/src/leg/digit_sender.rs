//! One digit on its way to the peer: as telephone-events, or as a tone where the peer takes none.

use crate::event_sender::EventSender;
use crate::remote::Format;
use crate::stream::OutStream;
use crate::tone_sender::ToneSender;

pub enum DigitSender {
    Events(EventSender),
    Tone(Box<ToneSender>),
}

impl DigitSender {
    /// Nothing when the peer can be told by neither: it takes no events, and the gate makes no audio of its codec.
    pub fn new(code: u8, duration_ms: u32, format: &Format, out: &OutStream, now_us: u64) -> Option<Self> {
        let Some((_, clock_rate)) = format.event else {
            let timestamp = out.fresh_timestamp(now_us);
            let tone = ToneSender::new(code, duration_ms, format.codec?, timestamp, now_us)?;
            return Some(Self::Tone(Box::new(tone)));
        };
        let timestamp =
            if clock_rate == out.clock_rate() { out.fresh_timestamp(now_us) } else { out.clock_in(clock_rate, now_us) };
        Some(Self::Events(EventSender::new(code, duration_ms, clock_rate, timestamp, now_us)))
    }

    /// Can it go on now that the peer has signalled this?
    pub fn fits(&self, format: &Format) -> bool {
        match self {
            Self::Events(_) => format.event.is_some(),
            Self::Tone(tone) => format.event.is_none() && format.codec == Some(tone.codec()),
        }
    }

    pub fn due_us(&self) -> u64 {
        match self {
            Self::Events(events) => events.due_us(),
            Self::Tone(tone) => tone.due_us(),
        }
    }

    pub fn is_over(&self) -> bool {
        match self {
            Self::Events(events) => events.is_over(),
            Self::Tone(tone) => tone.is_over(),
        }
    }
}
