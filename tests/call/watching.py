"""Phones that watch: they subscribe to lines and mailboxes, and note what they are told."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from proxy.call.config import SubscriptionConfig
from proxy.call.subscriptions import Subscriptions
from proxy.policy import Snapshot
from proxy.sip.config import ALLOW, EndpointConfig
from proxy.sip.dialog import Dialog, DialogState
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import RequestReceived, ResponseReceived
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.message import Request, Response
from tests.call.phones import PhoneBench
from tests.support.gate import GATE, PBX
from tests.support.ids import CountingIds
from tests.support.network import Address
from tests.support.ua import Ua

DIALOG_INFO = "{urn:ietf:params:xml:ns:dialog-info}"


@dataclass(frozen=True, slots=True)
class Told:
    """One NOTIFY, and when it came."""

    at: float
    request: Request

    @property
    def state(self) -> str:
        return str(self.request.headers.get("Subscription-State"))

    @property
    def document(self) -> ET.Element:
        assert self.request.content_type == "application/dialog-info+xml"
        return ET.fromstring(self.request.body)

    @property
    def lamp(self) -> list[str]:
        """States of the dialogs, in order, as ``direction state``."""
        return [
            f"{dialog.get('direction')} {dialog.findtext(DIALOG_INFO + 'state')}"
            for dialog in self.document.findall(DIALOG_INFO + "dialog")
        ]

    @property
    def version(self) -> int:
        return int(self.document.get("version") or "")

    @property
    def remote(self) -> list[tuple[str, str]]:
        """Name and URI of each other party that is told of."""
        identities = self.document.iter(DIALOG_INFO + "identity")
        return [(identity.get("display") or "", identity.text or "") for identity in identities]


class Watcher(Ua):
    """A phone with lamps. ``answers`` says what each NOTIFY gets, 200 when it is used up; 0: nothing."""

    def __init__(
        self,
        host: str,
        port: int,
        now: Callable[[], float],
        *,
        gate: Address = GATE,
        transport: str = "UDP",
        name: str = "",
    ) -> None:
        super().__init__(host, port, now, gate=gate, transport=transport, name=name)
        self.told: list[Told] = []
        self.responses: list[Response] = []
        """To SUBSCRIBEs."""
        self.answers: list[tuple[int, tuple[tuple[str, str], ...]]] = []
        self.dialog: Dialog | None = None
        """That of the latest NOTIFY."""
        self.keeps_dialog = False
        """Its subscription outlives a refusal."""

    def subscribe(
        self,
        to: str,
        *,
        user: str = "205",
        event: str = "dialog",
        expires: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
        uri: str = "",
    ) -> None:
        """Subscribe to the line (or mailbox) of a user."""
        self.endpoint.send_request(
            "SUBSCRIBE",
            uri or f"sip:{to}@gate.example.com",
            from_=f"<sip:{user}@gate.example.com>",
            headers=[*_event(event), *_expires(expires), *headers],
            flow=Flow(self.transport, *self.gate),
            now=self.now(),
        )

    def refresh(
        self,
        expires: int | None = None,
        *,
        event: str = "dialog",
        method: str = "SUBSCRIBE",
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Send another SUBSCRIBE (or whatever) within the latest dialog."""
        assert self.dialog is not None
        self.endpoint.request(
            self.dialog,
            method,
            headers=[*_event(event), *_expires(expires), *headers],
            now=self.now(),
        )

    @property
    def over(self) -> bool:
        """The latest dialog has ended."""
        return self.dialog is None or self.dialog.state is DialogState.TERMINATED

    def leave(self) -> None:
        """Forget the dialog, so that nothing is left here."""
        if self.dialog is not None:
            self.endpoint.terminate(self.dialog)
            self.dialog = None

    @property
    def lamps(self) -> list[list[str]]:
        """What each NOTIFY showed."""
        return [told.lamp for told in self.told]

    @property
    def states(self) -> list[str]:
        return [told.state for told in self.told]

    def _request(self, event: RequestReceived, now: float) -> None:
        if event.request.method != "NOTIFY":
            super()._request(event, now)
            return
        self.told.append(Told(now, event.request))
        self.dialog = event.dialog or self.dialog
        status, headers = self.answers.pop(0) if self.answers else (200, ())
        if status:
            self.endpoint.respond(event.transaction, status, headers=headers, now=now)
        refused = status >= 300 and not self.keeps_dialog
        if event.dialog is not None and (refused or self.told[-1].state.startswith("terminated")):
            self.endpoint.terminate(event.dialog)

    def _response(self, event: ResponseReceived, now: float) -> None:
        if event.transaction.method == "SUBSCRIBE":
            self.responses.append(event.response)
            self.dialog = event.dialog or self.dialog
        else:
            super()._response(event, now)


def _event(event: str) -> list[tuple[str, str]]:
    return [("Event", event)] if event else []


def _expires(expires: int | None) -> list[tuple[str, str]]:
    return [] if expires is None else [("Expires", str(expires))]


class Holder(Ua):
    """A PBX that holds mailboxes: it takes subscriptions and tells what it is told to tell.

    ``refusals`` are the responses to its next SUBSCRIBEs, 0 for silence. ``granted`` is the Expires of a 200,
    None for none. ``tells`` False: no NOTIFY follows.
    """

    def __init__(self, host: str, port: int, now: Callable[[], float]) -> None:
        super().__init__(host, port, now)
        config = EndpointConfig((ListenPoint("UDP", host, port),), allow=(*ALLOW, "SUBSCRIBE"))
        self.endpoint = Endpoint(config, CountingIds(f"{host}-{port}"))
        self.summary = b"Messages-Waiting: no\r\n"
        self.subscribes: list[Request] = []
        self.refusals: list[tuple[int, tuple[tuple[str, str], ...]]] = []
        self.granted: int | None = 3600
        self.tells = True
        self.contact: list[tuple[str, str]] = []
        """The Contact that it gives in place of its own."""
        self.dialogs: list[Dialog] = []
        """Live ones, and those that were ended by the gate."""
        self.replies: list[Response] = []
        """To NOTIFYs."""

    def notify(
        self,
        state: str = "active",
        *,
        body: bytes | None = None,
        event: str = "message-summary",
        content_type: str = "application/simple-message-summary",
    ) -> None:
        """Send a NOTIFY in the latest dialog."""
        self.endpoint.request(
            self.dialogs[-1],
            "NOTIFY",
            headers=[
                *_event(event),
                *([("Subscription-State", state)] if state else []),
                *self.contact,
            ],
            body=self.summary if body is None else body,
            content_type=content_type,
            now=self.now(),
        )

    def push(
        self,
        user: str,
        *,
        body: bytes = b"Messages-Waiting: yes\r\n",
        event: str = "message-summary",
        state: str = "terminated",
        content_type: str = "application/simple-message-summary",
    ) -> None:
        """Send a NOTIFY that nobody has subscribed to."""
        self.endpoint.send_request(
            "NOTIFY",
            f"sip:{user}@gate.example.com",
            headers=[*_event(event), *([("Subscription-State", state)] if state else [])],
            body=body,
            content_type=content_type,
            flow=Flow("UDP", *self.gate),
            now=self.now(),
        )

    def _request(self, event: RequestReceived, now: float) -> None:
        if event.request.method != "SUBSCRIBE":
            super()._request(event, now)
            return
        self.subscribes.append(event.request)
        status, headers = self.refusals.pop(0) if self.refusals else (200, ())
        if status >= 300:
            self.endpoint.respond(event.transaction, status, headers=headers, now=now)
        if not 200 <= status < 300:
            return
        expires = [*self.contact, *([] if self.granted is None else [("Expires", str(self.granted))])]
        dialog = self.endpoint.respond(event.transaction, status, headers=expires, now=now) or event.dialog
        assert dialog is not None
        if dialog not in self.dialogs:
            self.dialogs.append(dialog)
        if event.request.headers.get("Expires") == "0":
            self.notify("terminated;reason=timeout")
            self.endpoint.terminate(self.dialogs.pop())
        elif self.tells:
            self.notify("active" if self.granted is None else f"active;expires={self.granted}")

    def _response(self, event: ResponseReceived, now: float) -> None:
        if event.transaction.method == "NOTIFY":
            self.replies.append(event.response)
        else:
            super()._response(event, now)


class WatchBench(PhoneBench):
    """A gate with phones 204 to 206; 205's phone on 192.0.2.25 watches."""

    def __init__(
        self,
        *,
        config: SubscriptionConfig | None = None,
        mailboxes: str = "",
        policy: Snapshot | None = None,
        pbx: bool = False,
    ) -> None:
        super().__init__(policy=policy, pbx=pbx)
        self.core.reconfigure(
            replace(
                self.core.config,
                subscriptions=config or SubscriptionConfig(),
                mailboxes=mailboxes,
                local_domains=("gate.example.com",),
            )
        )
        assert self.core.subscriptions is not None
        self.subscriptions: Subscriptions = self.core.subscriptions
        self.watcher = self.watching_phone("192.0.2.25")
        self.holder = Holder(*PBX, lambda: self.network.clock.now)
        if pbx:
            self.uas = (*self.uas, self.holder)
            self.network.attach(PBX, self.holder, self.holder.after)

    def watching_phone(
        self, host: str, *, transport: str = "UDP", seen_as: tuple[str, int] | None = None
    ) -> Watcher:
        """Put one more phone with lamps on the network."""
        watcher = Watcher(host, 5060, lambda: self.network.clock.now, transport=transport)
        self.uas = (*self.uas, watcher)
        self.network.attach(seen_as or watcher.address, watcher, watcher.after)
        return watcher

    def watch(self, to: str = "204", **kwargs: int) -> Watcher:
        """Let 205 watch a line, and forget what it is told at first."""
        self.watcher.subscribe(to, expires=kwargs.get("expires", 600))
        self.run(0.1)
        assert self.watcher.responses[-1].status == 200
        self.watcher.told.clear()
        return self.watcher

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.run(7300.0)
            for ua in self.uas:
                if isinstance(ua, Watcher):
                    ua.leave()
        super().__exit__(kind, error, trace)
