"""Messages that try a parser, at a running gate's sockets; `script/reliability parsing` tells the figures."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from reliability.parsing import (
    HOSTILE_HEADERS,
    bombs,
    hidden_requests,
    hostile_seconds,
    limits,
    ports_of_one_invite,
    torture,
)
from reliability.wire import exposed_gate
from tests.support.corpora import require_corpora

UNFINISHED = "sip.tcp.message_timeout = 1.0\n"
"""Some torture messages never end: their connections need not be waited for longer."""


async def test_rfc4475_and_rfc5118_every_message_gets_what_it_is_due_over_udp_tcp_and_tls(
    tmp_path: Path,
) -> None:
    require_corpora()
    async with exposed_gate(tmp_path, UNFINISHED) as exposed:
        for transport in ("UDP", "TCP", "TLS"):
            try:
                assert await torture(exposed, transport) == []
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                pytest.skip(
                    "a program of this machine has a UDP port where a torture message wants its answer"
                )
            await exposed.nothing_left()


async def test_what_is_too_large_too_many_or_hidden_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async with exposed_gate(tmp_path, UNFINISHED) as exposed:
        assert await limits(exposed) == []
        assert await bombs(exposed) == []
        assert await ports_of_one_invite(exposed) == 2
        for transport in ("TCP", "TLS"):
            wrong, _ = await hidden_requests(exposed, transport)
            assert wrong == []
        await exposed.nothing_left()


@pytest.mark.parametrize("kind", HOSTILE_HEADERS)
def test_64_kb_of_hostile_header_take_20_ms_at_most_and_3_times_those_of_32_kb(kind: str) -> None:
    half, whole = float("inf"), float("inf")
    for _ in range(10):
        # The least of several: what else the machine does only adds.
        half = min(half, hostile_seconds(kind, 32_500))
        whole = min(whole, hostile_seconds(kind, 65_000))
        if whole <= 0.020 and whole <= 3.0 * half:
            return
    raise AssertionError(f"{1000 * whole:.1f} ms, {whole / half:.1f} times those of the half")
