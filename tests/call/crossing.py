"""Calls that show what crosses from the caller to the carrier."""

from __future__ import annotations

from proxy.call.config import Trunk
from proxy.sip.flow import Flow
from proxy.sip.message import Request
from tests.support.gate import CARRIER, GateBench, default_config
from tests.support.ua import Ua

__all__ = ["TOLL_FREE", "crossed", "sent_to_carrier", "trunk"]

TOLL_FREE = "918005550123"


def sent_to_carrier(
    headers: list[tuple[str, str]], *, trunk: Trunk | None = None, caller: str = "204"
) -> Request:
    config = default_config() if trunk is None else default_config(trunks=(trunk,))
    with GateBench(config=config) as bench:
        return crossed(bench, bench.pbx, headers, caller=caller)


def crossed(bench: GateBench, ua: Ua, headers: list[tuple[str, str]], *, caller: str = "204") -> Request:
    """Place a call and hang up; returns the INVITE that the carrier got."""
    call = ua.call(TOLL_FREE, headers=headers, caller=caller)
    bench.run(0.5)
    invite = bench.carrier.calls[0].invite
    assert invite is not None
    call.bye()
    return invite


def trunk(**changes: object) -> Trunk:
    made = Trunk("carrier", (Flow("UDP", *CARRIER),), "carrier.example.com")
    for name, value in changes.items():
        object.__setattr__(made, name, value)
    return made
