"""Phones that register with the gate on the fake network, and are called there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

from proxy.call.config import DidRoute, Peer, Side
from proxy.call.identity import Challenge
from proxy.call.ports import Latching
from proxy.call.registrations import Registrations
from proxy.policy import CodeTable, Snapshot, User
from proxy.sip.flow import Flow
from proxy.sip.message import Request, Response
from tests.support.gate import GateBench, default_config, default_policy
from tests.support.ua import RING_AND_ANSWER, Step, Ua

PHONES = Peer("phones", Side.PHONES, trusted=False, latching=Latching.LEARNING)


class BelievesFrom:
    """Takes the user of From for proved, where there is one: what digest does is tested elsewhere."""

    def authenticate(self, request: Request, flow: Flow, policy: Snapshot, now: float) -> User | Challenge:
        del flow, now
        user = policy.users.get(request.from_.uri.user or "")
        return user or Challenge((("WWW-Authenticate", 'Digest realm="tollgate", nonce="n"'),))


def phone_policy() -> Snapshot:
    plain = default_policy()
    users = [User("204", "staff", name="Desk 204", caller_number="+12125550204")]
    users += [User(extension, "staff") for extension in ("205", "206")]
    return Snapshot(plain.plan, plain.groups.values(), users, CodeTable.of(plain.codes))


class PhoneBench(GateBench):
    """A gate with phones: 204 on 192.0.2.24, and whatever a test adds."""

    def __init__(
        self,
        *,
        did_routes: Sequence[DidRoute] = (),
        pbx: bool = False,
        policy: Snapshot | None = None,
        ring_timeout: float = 180.0,
        phone_ring_time: float = 20.0,
        seed: int = 1,
    ) -> None:
        config = default_config(
            phones=PHONES,
            did_routes=tuple(did_routes),
            ring_timeout=ring_timeout,
            phone_ring_time=phone_ring_time,
        )
        if not pbx:
            config = replace(config, peers=config.peers[1:])
        super().__init__(
            config=config, policy=policy or phone_policy(), authenticator=BelievesFrom(), seed=seed
        )
        assert self.core.registrations is not None
        self.registrations: Registrations = self.core.registrations
        self.desk = self.phone("192.0.2.24")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Bindings outlive calls on purpose.
        self.registrations.retain(())
        super().__exit__(kind, error, trace)

    def phone(
        self,
        host: str,
        *,
        script: Sequence[Step] = RING_AND_ANSWER,
        seen_as: tuple[str, int] | None = None,
    ) -> Ua:
        """Put a phone on the network; ``seen_as`` is the address that a NAT gives it."""
        ua = Ua(host, 5060, lambda: self.network.clock.now, script=script)
        self.uas = (*self.uas, ua)
        self.network.attach(seen_as or ua.address, ua, ua.after)
        return ua

    def register(self, ua: Ua, extension: str, *, contact: str = "", headers: Sequence[str] = ()) -> Response:
        """Register a phone; returns the final response."""
        contact = contact or f"<sip:{extension}@{ua.host}:5060>"
        ua.endpoint.send_request(
            "REGISTER",
            "sip:gate.example.com",
            from_=f"<sip:{extension}@gate.example.com>",
            to=f"<sip:{extension}@gate.example.com>",
            headers=[("Contact", contact), *(_header(line) for line in headers)],
            flow=Flow("UDP", *ua.gate),
            now=self.now,
        )
        self.run(0.1)
        return ua.other_responses[-1]


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name, value
