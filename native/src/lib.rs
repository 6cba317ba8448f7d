//! The door between Python and the native media core: `proxy._native`.
//!
//! Nothing of the RTP path happens here, and the media threads never take the GIL: commands go in as plain calls, events
//! come out in batches when the eventfd says so.

use std::net::{IpAddr, SocketAddr};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyList, PyTuple};
use tollgate_media::codec::{self, Codec};
use tollgate_media::engine::{Engine, Settings};
use tollgate_media::event::Event;
use tollgate_media::prompt::Prompt;
use tollgate_media::remote::{Format, Remote};
use tollgate_media::srtp::{Keys, MasterKey, Suite};

fn parse_ip(what: &str, text: Option<&str>) -> PyResult<Option<IpAddr>> {
    text.map(|text| text.parse().map_err(|_| PyValueError::new_err(format!("{what}: {text:?} is no IP address"))))
        .transpose()
}

fn known_codec(name: &str) -> PyResult<Codec> {
    Codec::from_name(name).ok_or_else(|| PyValueError::new_err(format!("unknown codec {name:?}")))
}

/// An address that can be sent to; an unspecified one (RFC 3264 §5.1, old-style hold) or port 0 cannot.
fn destination(address: &str, port: u16) -> Option<SocketAddr> {
    let ip: IpAddr = address.parse().ok()?;
    (!ip.is_unspecified() && port != 0).then(|| SocketAddr::new(ip, port))
}

/// Suite, the gate's master key and salt, the peer's, and the master key identifier in the peer's packets.
type SrtpKeys = (PyBackedStr, PyBackedBytes, PyBackedBytes, PyBackedBytes);

fn srtp_keys((suite, local, remote, mki): &SrtpKeys) -> PyResult<Keys> {
    let known = Suite::from_name(suite)
        .ok_or_else(|| PyValueError::new_err(format!("unknown crypto suite {:?}", &suite[..])))?;
    let master = |material: &[u8]| {
        let wrong =
            || PyValueError::new_err(format!("a master key of {} octets does not fit {}", material.len(), &suite[..]));
        MasterKey::new(known, material).ok_or_else(wrong)
    };
    if mki.len() > tollgate_media::srtp::MKI {
        return Err(PyValueError::new_err("the master key identifier is too long"));
    }
    Ok(Keys { local: master(local)?, remote: master(remote)?, remote_mki: mki.to_vec() })
}

#[pyclass(frozen, module = "proxy._native")]
struct MediaCore {
    engine: Engine,
}

#[pymethods]
impl MediaCore {
    #[new]
    #[pyo3(signature = (*, bind_ipv4, bind_ipv6, port_low, port_high, emergency_reserve, threads, inactivity_ms))]
    #[allow(clippy::too_many_arguments)] // the constructor's keywords are the settings
    fn new(
        bind_ipv4: Option<&str>,
        bind_ipv6: Option<&str>,
        port_low: u16,
        port_high: u16,
        emergency_reserve: usize,
        threads: usize,
        inactivity_ms: u64,
    ) -> PyResult<Self> {
        let settings = Settings {
            bind_ipv4: parse_ip("bind_ipv4", bind_ipv4)?,
            bind_ipv6: parse_ip("bind_ipv6", bind_ipv6)?,
            port_low,
            port_high,
            emergency_reserve,
            threads,
            inactivity_ms,
        };
        let engine = Engine::start(&settings).map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self { engine })
    }

    fn fileno(&self) -> i32 {
        self.engine.events().fd()
    }

    #[pyo3(signature = (name, codec, frames, group=""))]
    fn register_prompt(&self, name: &str, codec: &str, frames: Vec<Bound<'_, PyBytes>>, group: &str) -> PyResult<()> {
        let prompt = Prompt::new(known_codec(codec)?, frames.iter().map(|frame| frame.as_bytes()));
        self.engine.register_prompt(group, name, prompt);
        Ok(())
    }

    fn open_leg(&self, py: Python<'_>, leg: u64, ipv6: bool, emergency: bool) -> PyResult<(u16, u16)> {
        py.detach(|| self.engine.open_leg(leg, ipv6, emergency)).map_err(PyOSError::new_err)
    }

    #[pyo3(signature = (leg, *, address, rtp_port, rtcp_port, rtcp_mux, codec, payload_type, clock_rate, ptime_ms,
        event_payload_type, event_clock_rate, peer_sends, peer_receives, learning, signalled_from, srtp=None,
        heard_payload_type=None, heard_event_payload_type=None, fax=false))]
    #[allow(clippy::too_many_arguments)] // one keyword per field of RemoteMedia
    fn configure_leg(
        &self,
        leg: u64,
        address: &str,
        rtp_port: u16,
        rtcp_port: u16,
        rtcp_mux: bool,
        codec: &str,
        payload_type: u8,
        clock_rate: u32,
        ptime_ms: u32,
        event_payload_type: Option<u8>,
        event_clock_rate: u32,
        peer_sends: bool,
        peer_receives: bool,
        learning: bool,
        signalled_from: &str,
        srtp: Option<SrtpKeys>,
        heard_payload_type: Option<u8>,
        heard_event_payload_type: Option<u8>,
        fax: bool,
    ) -> PyResult<()> {
        let format = Format {
            codec: Codec::from_name(codec),
            payload_type,
            heard: heard_payload_type.unwrap_or(payload_type),
            clock_rate: clock_rate.max(1000),
            ptime_ms: ptime_ms.clamp(10, 60) / 10 * 10,
            event: event_payload_type.map(|payload_type| (payload_type, event_clock_rate.max(1000))),
            heard_event: heard_event_payload_type.or(event_payload_type),
        };
        let remote = Remote {
            rtp: destination(address, rtp_port),
            rtcp: destination(address, rtcp_port),
            rtcp_mux,
            format,
            peer_sends,
            peer_receives,
            learning,
            signalled_from: signalled_from.parse().ok(),
            srtp: srtp.as_ref().map(srtp_keys).transpose()?,
            fax,
        };
        self.engine.configure(leg, remote);
        Ok(())
    }

    fn play(&self, leg: u64, play: u64, names: Vec<String>, repeat: bool, group: &str) -> Vec<String> {
        self.engine.play(leg, play, &names, repeat, group)
    }

    fn stop_prompts(&self, leg: u64) {
        self.engine.stop_prompts(leg);
    }

    fn listen(&self, leg: u64, listening: bool, inband: bool) {
        self.engine.listen(leg, listening, inband);
    }

    fn bridge(&self, first: u64, second: u64) {
        self.engine.bridge(first, second);
    }

    fn unbridge(&self, leg: u64) {
        self.engine.unbridge(leg);
    }

    fn send_digit(&self, leg: u64, digit: &str, duration_ms: u32) -> bool {
        match *digit.as_bytes() {
            [digit] => self.engine.send_digit(leg, digit, duration_ms),
            _ => false,
        }
    }

    fn close_leg(&self, leg: u64) {
        self.engine.close_leg(leg);
    }

    fn drain_events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let events = PyList::empty(py);
        for event in self.engine.events().drain() {
            events.append(tuple(py, event)?)?;
        }
        Ok(events)
    }

    #[getter]
    fn open_legs(&self) -> usize {
        self.engine.open_legs()
    }

    #[getter]
    fn port_pairs(&self) -> (usize, usize) {
        self.engine.port_pairs()
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.engine.stop());
    }
}

fn tuple(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyTuple>> {
    match event {
        Event::Digit { leg, digit, inband, duration_ms } => {
            ("digit", leg, char::from(digit), inband, duration_ms).into_pyobject(py)
        }
        Event::PromptsFinished { leg, play } => ("finished", leg, play).into_pyobject(py),
        Event::Latched { leg, source } => ("latched", leg, source.ip().to_string(), source.port()).into_pyobject(py),
        Event::TimedOut { leg } => ("timed_out", leg).into_pyobject(py),
        Event::Resumed { leg } => ("resumed", leg).into_pyobject(py),
        Event::Closed { leg, statistics } => (
            "closed",
            leg,
            statistics.packets_received,
            statistics.packets_sent,
            statistics.packets_lost,
            statistics.jitter_ms,
            statistics.packets_discarded,
        )
            .into_pyobject(py),
        Event::Failed { reason } => ("failed", reason).into_pyobject(py),
    }
}

/// Encode little-endian 16-bit mono samples; slow, so without the GIL.
#[pyfunction]
#[pyo3(signature = (pcm, sample_rate, codec, ptime_ms=20))]
fn encode_prompt<'py>(
    py: Python<'py>,
    pcm: &[u8],
    sample_rate: u32,
    codec: &str,
    ptime_ms: u32,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let codec = known_codec(codec)?;
    if pcm.len() % 2 != 0 {
        return Err(PyValueError::new_err("16-bit samples need an even number of bytes"));
    }
    let samples: Vec<i16> = pcm.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    let frames = py.detach(|| codec::encode(&samples, sample_rate, codec, ptime_ms)).map_err(PyValueError::new_err)?;
    Ok(frames.iter().map(|frame| PyBytes::new(py, frame)).collect())
}

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::encode_prompt;
    #[pymodule_export]
    use super::MediaCore;
}
