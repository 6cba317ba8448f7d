"""Messages that try a parser, at a running gate's sockets: torture, sizes beyond measure, hidden requests."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, cast

from proxy.errors import RemoteProtocolError
from proxy.sip.framing import StreamFramer
from proxy.sip.message import Request
from proxy.sip.parser import is_answerable, parse_datagram, validate_request
from reliability.figures import Figure
from reliability.wire import ExposedGate, Sockets, exposed_gate, request, sources
from tests.golden.torture import TORTURE, Kind
from tests.support.corpora import CORPORA

__all__ = ["HOSTILE_HEADERS", "hidden_requests", "hostile_seconds", "limits", "torture"]

TO_STRANGERS = frozenset({200, 401, 405, 481, 482, 501})
"""What a sound request of somebody unknown gets: OPTIONS its answer, the others a challenge or a refusal."""
_VIA_PORT = re.compile(rb"^(?:via|v)\s*:[^,]*?:\s*(\d+)\s*(?:[;,\r\n]|$)", re.IGNORECASE | re.MULTILINE)


# Line 1: RFC 4475, RFC 5118 ---------------------------------------------------------------------------------


async def torture(exposed: ExposedGate, transport: str) -> list[str]:
    """Send every torture message; returns what went against its verdict."""
    files = {name: (CORPORA / name).read_bytes() for name in TORTURE}
    hosts = iter(sources(exposed.random))
    if transport == "UDP":
        return await _torture_datagrams(exposed, files, next(hosts))
    wrong: list[str] = []
    pairs = list(zip(files.items(), hosts, strict=False))
    results = await asyncio.gather(
        *(_torture_stream(exposed, transport, name, data, host) for (name, data), host in pairs)
    )
    for found in results:
        wrong += found
    return wrong


async def _torture_datagrams(exposed: ExposedGate, files: dict[str, bytes], host: str) -> list[str]:
    # Answers to what has no rport go to the port of its Via.
    ports = {
        int(port) for data in files.values() for port in _VIA_PORT.findall(data) if 0 < int(port) < 65536
    }
    stranger = Sockets(host, exposed.addresses["UDP"])
    await stranger.open((5060, *sorted(ports - {5060})))
    wrong = []
    for name, data in files.items():
        statuses = [answer.status for answer in await stranger.answers_to(data)]
        wrong += _judge(f"UDP {name}", name, statuses, _answerable(data))
    stranger.close()
    return wrong


async def _torture_stream(
    exposed: ExposedGate, transport: str, name: str, data: bytes, host: str
) -> list[str]:
    stream = await exposed.stream(transport, host)
    behind = f"behind-{name}"
    stream.send(data + request("OPTIONS", transport=transport, call_id=behind))
    await stream.settled(behind)
    statuses = [answer.status for answer in stream.answers if answer.headers.get("Call-ID") != behind]
    await stream.end()
    framer = StreamFramer()
    frames = [frame for frame in framer.feed(data) if _answerable(frame)]
    if framer.failure is not None:
        # Where one message ends and the next begins is lost: an answer at most, and the end.
        answered = len(frames) + bool(framer.failure.answer)
        good = statuses == statuses[:answered] and stream.closed.is_set()
        return [] if good else [f"{transport} {name}: {statuses}, closed: {stream.closed.is_set()}"]
    if not framer.is_between_messages:
        # What follows belongs to its body, or it has no end.
        return [] if len(statuses) <= len(frames) + 1 else [f"{transport} {name}: {statuses}"]
    return _judge(f"{transport} {name}", name, statuses, len(frames))


def _answerable(data: bytes) -> int:
    """Return how many answers a message is due: none or one."""
    with suppress(RemoteProtocolError):
        message = parse_datagram(data)
        return int(isinstance(message, Request) and is_answerable(message))
    return 0


def _judge(where: str, name: str, statuses: list[int], due: int) -> list[str]:
    verdict = TORTURE[name]
    if verdict.kind in {Kind.RESPONSE, Kind.DROPPED}:
        return [f"{where}: {statuses} to what gets no answer"] if statuses else []
    allowed = set(verdict.answers)
    if verdict.kind is Kind.REQUEST:
        allowed |= TO_STRANGERS
    good = len(statuses) == due and allowed.issuperset(statuses)
    return [] if good else [f"{where}: {statuses}, {due} of {sorted(allowed)} wanted"]


# Line 3: limits ---------------------------------------------------------------------------------------------


class Oversized(NamedTuple):
    """One datagram and the only statuses that it may get, one of them exactly."""

    name: str
    data: bytes
    answers: tuple[int, ...]


def _oversized() -> list[Oversized]:
    many = {count: "a: b\r\n" * count for count in (64, 1_000, 10_000)}
    two = request("OPTIONS") + request("OPTIONS", call_id="the-second")
    return [
        Oversized("64 headers", request("OPTIONS", many[64]), (200,)),
        Oversized("1,000 headers", request("OPTIONS", many[1_000]), (513,)),
        Oversized("10,000 headers", request("OPTIONS", many[10_000]), (513,)),
        Oversized("a header of 8 kB", request("OPTIONS", f"Subject: {'x' * 8_000}\r\n"), (200,)),
        Oversized("a header of 9 kB", request("OPTIONS", f"Subject: {'x' * 9_000}\r\n"), (513,)),
        Oversized("a header of 60 kB", request("OPTIONS", f"Subject: {'x' * 60_000}\r\n"), (513,)),
        Oversized("60 kB of folds", request("OPTIONS", "Subject: a" + "\r\n b" * 15_000 + "\r\n"), (513,)),
        Oversized("a body of 60 kB", request("OPTIONS", body=b"x" * 60_000), (200,)),
        Oversized("a length that is less", request("OPTIONS", body=b"more", length="2"), (200,)),
        Oversized("a length that is more", request("OPTIONS", body=b"less", length="5"), (400,)),
        Oversized("a negative length", request("OPTIONS", length="-1"), (400,)),
        Oversized("a huge length", request("OPTIONS", length="9" * 40), (400,)),
        Oversized("a length of other digits", request("OPTIONS", length="４"), (400,)),
        Oversized("two messages in one datagram", two, (200,)),
    ]


_SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
_AUDIO = "m=audio 40000 RTP/AVP 0\r\n"


class Bomb(NamedTuple):
    """The body of an INVITE, which costs its reader more than its writer, and the answers it may get."""

    name: str
    content_type: str
    body: bytes
    answers: tuple[int, ...]


def _bombs() -> list[Bomb]:
    nested = b""
    for depth in range(1_000):
        nested = b"--b%d\r\nContent-Type: multipart/mixed;boundary=b%d\r\n\r\n" % (depth, depth + 1) + nested
    part = b"\r\n--b\r\nContent-Type: text/plain\r\n\r\nx"
    mixed, sdp = "multipart/mixed;boundary=", "application/sdp"
    # Without a description that is found, an INVITE wants the gate's own offer (RFC 3261 §13.2.1).
    unread = (200, 400, 415, 488)
    long, formats = f"a={'x' * 60_000}\r\n", "m=audio 40000 RTP/AVP" + " 96" * 2_000 + "\r\n"
    return [
        Bomb("a multipart 1,000 deep", f"{mixed}b999", nested[:60_000], unread),
        Bomb("a multipart of 1,300 parts", f"{mixed}b", part * 1_300, unread),
        Bomb("a boundary of 7 kB", mixed + "b" * 7_000, (b"\r\n--" + b"b" * 7_000) * 6, unread),
        Bomb("SDP of 8,000 lines", sdp, (_SDP + _AUDIO + "a=x\r\n" * 8_000).encode(), (488,)),
        Bomb("SDP of 2,000 media", sdp, (_SDP + _AUDIO * 2_000).encode(), (488,)),
        Bomb("SDP of a line of 60 kB", sdp, (_SDP + _AUDIO + long).encode(), (200, 488)),
        Bomb("SDP of 2,000 formats", sdp, (_SDP + formats).encode(), (200, 488)),
    ]


async def limits(exposed: ExposedGate) -> list[str]:
    """Send what goes beyond a limit in datagrams; returns what got another answer than it is due."""
    stranger = Sockets(next(iter(sources(exposed.random))), exposed.addresses["UDP"])
    await stranger.open()
    wrong = []
    for name, data, answers in _oversized():
        got = await stranger.answers_to(data)
        if len(got) != 1 or got[0].status not in answers:
            wrong.append(f"{name}: {[answer.status for answer in got]}, one of {answers} wanted")
    stranger.close()
    return wrong


def _invite(content_type: str, body: bytes, call_id: str) -> bytes:
    """Return the INVITE of a peer, who is no stranger: its body is read."""
    extra = f"Contact: <sip:204@127.0.0.1:9>\r\nContent-Type: {content_type}\r\n"
    return request("INVITE", extra, body, to="14155550123", call_id=call_id)


async def bombs(exposed: ExposedGate) -> list[str]:
    """Send the bodies that are bombs; returns what got another answer than it is due."""
    peer = Sockets("127.0.0.1", exposed.addresses["UDP"])
    await peer.open()
    wrong = []
    for bomb in _bombs():
        peer.send(_invite(bomb.content_type, bomb.body, bomb.name))
        status = await peer.final_status(bomb.name)
        if status not in bomb.answers:
            wrong.append(f"{bomb.name}: {status}, one of {bomb.answers} wanted")
    peer.close()
    await exposed.nothing_left()
    return wrong


async def ports_of_one_invite(exposed: ExposedGate) -> int:
    """Offer 30 audio streams in one INVITE, whose caller then vanishes; returns how many pairs of ports the
    call had.
    """
    peer = Sockets("127.0.0.1", exposed.addresses["UDP"])
    await peer.open()
    peer.send(_invite("application/sdp", (_SDP + _AUDIO * 30).encode(), "thirty streams"))
    assert await peer.final_status("thirty streams") == 200
    pairs = cast("int", (await exposed.gate.status())["port_pairs"])
    peer.close()
    await exposed.nothing_left()
    return pairs


def _smuggled() -> list[tuple[str, bytes]]:
    """Return heads whose end two readers may see at different places; a request hides behind each."""
    sound = request("OPTIONS", transport="TCP")
    start, _, _ = sound.rpartition(b"Content-Length: 0\r\n\r\n")
    heads = {
        "two lengths": b"Content-Length: 0\r\nContent-Length: 500\r\n",
        "two lengths, one compact": b"l: 500\r\nContent-Length: 0\r\n",
        "a list of lengths": b"Content-Length: 0, 500\r\n",
        "a negative length": b"Content-Length: -1\r\n",
        "a huge length": b"Content-Length: " + b"9" * 40 + b"\r\n",
        "a signed length": b"Content-Length: +0\r\n",
        "a hexadecimal length": b"Content-Length: 0x0\r\n",
        "other digits": "Content-Length: ٠\r\n".encode(),
        "no length": b"",
        "a bare LF behind the length": b"Content-Length: 500\nContent-Length: 0\r\n",
        "a bare CR before the length": b"X: y\rContent-Length: 500\r\nContent-Length: 0\r\n",
        "a head that ends with LF LF": b"Content-Length: 0\n\nOPTIONS sip:1@h SIP/2.0\r\nl: 0\r\n",
        "a body beyond the limit": b"Content-Length: 70000\r\n",
        "a head of 33 kB": b"X: " + b"y" * 33_000 + b"\r\nContent-Length: 0\r\n",
    }
    return [(name, start + lines + b"\r\n") for name, lines in heads.items()]


async def hidden_requests(exposed: ExposedGate, transport: str) -> tuple[list[str], float]:
    """Hide a request behind each broken head; returns those that ran, or whose connection stayed open, and
    the longest time that one took to be closed.
    """
    hosts = iter(sources(exposed.random))

    async def one(name: str, head: bytes, host: str) -> tuple[list[str], float]:
        stream = await exposed.stream(transport, host)
        hidden = request("OPTIONS", transport=transport, call_id="hidden")
        begun = time.monotonic()
        stream.send(head + hidden)
        await stream.settled("hidden")
        took, statuses = time.monotonic() - begun, stream.statuses()
        await stream.end()
        if not stream.closed.is_set() or stream.statuses("hidden"):
            return [f"{transport} {name}: the hidden request ran: {statuses}"], took
        good = all(status in {400, 513} for status in statuses) and len(statuses) <= 1
        return [] if good else [f"{transport} {name}: {statuses}"], took

    results = await asyncio.gather(
        *(one(name, head, host) for (name, head), host in zip(_smuggled(), hosts, strict=False))
    )
    return [line for lines, _ in results for line in lines], max(took for _, took in results)


# Line 2: the time that hostile headers take -----------------------------------------------------------------

HOSTILE_HEADERS: dict[str, Callable[[int], bytes]] = {
    "short lines": lambda size: b"a:\r\n" * (size // 4),
    "lines without colon": lambda size: b"a\r\n" * (size // 3),
    "folds": lambda size: b"Subject: a" + b"\r\n b" * (size // 4) + b"\r\n",
    "Vias": lambda size: b"Via: SIP/2.0/UDP h\r\n" * (size // 20),
    "commas": lambda size: (b"Contact: " + b"," * 4_000 + b"\r\n") * (size // 4_011),
    "quotes": lambda size: (b"Contact: " + b'"\\' * 2_000 + b"\r\n") * (size // 4_011),
    "brackets": lambda size: (b"Route: " + b"<" * 4_000 + b"\r\n") * (size // 4_009),
    "parameters": lambda size: (b"Record-Route: <sip:h" + b";p" * 2_000 + b">\r\n") * (size // 4_023),
    "bare line feeds": lambda size: b"X: " + b"\n " * (size // 2) + b"\r\n",
}


def hostile_seconds(kind: str, size: int, *, times: int = 5) -> float:
    """Return the least CPU time that reading and judging so large a head took."""
    sound = request("INVITE")
    data = sound[:-2] + HOSTILE_HEADERS[kind](size - len(sound)) + b"\r\n"
    least = float("inf")
    for _ in range(times):
        begun = time.process_time()
        with suppress(RemoteProtocolError):
            message = parse_datagram(data)
            if isinstance(message, Request):
                validate_request(message)
        least = min(least, time.process_time() - begun)
    return least


# The group --------------------------------------------------------------------------------------------------


async def _measure() -> list[Figure]:
    figures: list[Figure] = []

    def figure(line: int, what: str, wrong: list[str]) -> None:
        figures.append(Figure(line, what, "0 wrong", "; ".join(wrong) or "0 wrong", not wrong))

    with tempfile.TemporaryDirectory(prefix="tollgate-parsing-") as folder:
        async with exposed_gate(Path(folder), "sip.tcp.message_timeout = 1.0\n") as exposed:
            for transport in ("UDP", "TCP", "TLS"):
                if CORPORA.is_dir():
                    wrong = await torture(exposed, transport)
                    figure(1, f"{len(TORTURE)} torture messages over {transport}", wrong)
                    await exposed.nothing_left()
            figure(3, "sizes, counts, lengths", await limits(exposed))
            figure(3, "bodies that are bombs", await bombs(exposed))
            pairs = await ports_of_one_invite(exposed)
            figures.append(
                Figure(
                    3, "30 streams in one offer", "a pair of ports per leg", f"{pairs} of 2 legs", pairs <= 2
                )
            )
            for transport in ("TCP", "TLS"):
                wrong, took = await hidden_requests(exposed, transport)
                figure(3, f"requests hidden behind broken heads over {transport}", wrong)
                figures.append(
                    Figure(
                        3, f"{transport}: such a connection is closed", "1 s", f"{took:.2f} s", took <= 1.0
                    )
                )
            await exposed.nothing_left()
            took = await exposed.options_seconds()
    figures.append(Figure(3, "OPTIONS afterwards", "500 ms", f"{1000 * took:.0f} ms", took <= 0.5))
    return figures


def run(seconds: float | None = None) -> list[Figure]:
    """Send all of it once."""
    del seconds
    figures = asyncio.run(_measure())
    whole = {kind: hostile_seconds(kind, 65_000) for kind in HOSTILE_HEADERS}
    half = {kind: hostile_seconds(kind, 32_500) for kind in HOSTILE_HEADERS}
    slowest = max(whole, key=lambda kind: whole[kind])
    steepest = max(whole, key=lambda kind: whole[kind] / half[kind])
    ratio = whole[steepest] / half[steepest]
    return [
        *figures,
        Figure(
            2,
            f"64 kB of hostile header, the slowest kind ({slowest})",
            "20 ms",
            f"{1000 * whole[slowest]:.1f} ms",
            whole[slowest] <= 0.020,
        ),
        Figure(
            2, f"time of 64 kB to that of 32 kB, the steepest ({steepest})", "3", f"{ratio:.1f}", ratio <= 3.0
        ),
    ]
