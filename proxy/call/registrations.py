"""REGISTER at the gate: who asks is proved, the registrar decides, phones behind a NAT are kept reachable.

RFC 3261 §10.3 and §22 (a stranger gets a challenge and nothing more), RFC 5626 §4.4, RFC 4787 §4.3 (why the
phone has to be made to answer: many NATs keep a mapping open for what goes out only).
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from proxy.call.identity import Authenticator, Challenge
from proxy.policy import Snapshot
from proxy.sip.bindings import Binding, Bindings, StoredBinding
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import RequestReceived
from proxy.sip.gruu import Gruu
from proxy.sip.registrar import Registrar
from proxy.sip.uri import Uri

__all__ = ["KeepAlive", "Registrations", "sip_date"]


class KeepAlive(enum.Enum):
    """What is sent to phones behind a NAT over UDP, again and again."""

    OPTIONS = "options"
    """An OPTIONS: its response comes out of the NAT and renews the mapping there."""
    CRLF = "crlf"
    """An empty datagram: cheaper, for NATs that renew a mapping for what comes in too."""
    OFF = "off"


class Registrations:
    """The TU of REGISTER."""

    __slots__ = (
        "_authenticator",
        "_endpoint",
        "_kept_open",
        "_next",
        "_wall_clock",
        "interval",
        "keep_alive",
        "registrar",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        registrar: Registrar,
        authenticator: Authenticator,
        *,
        wall_clock: Callable[[], datetime],
        keep_alive: KeepAlive = KeepAlive.OPTIONS,
        interval: float = 25.0,
    ) -> None:
        """``interval`` is in seconds: below the 30 s after which the shortest-lived NATs forget."""
        self._endpoint = endpoint
        self._authenticator = authenticator
        self._wall_clock = wall_clock
        self.registrar = registrar
        self.keep_alive = keep_alive
        self.interval = interval
        self._next: deque[tuple[float, str]] = deque()  # in order: every entry comes an interval later
        self._kept_open: set[str] = set()

    # REGISTER -----------------------------------------------------------------------------------------------

    def request(self, event: RequestReceived, policy: Snapshot, now: float) -> None:
        """Answer a REGISTER."""
        request, flow = event.request, event.flow
        user = self._authenticator.authenticate(request, flow, policy, now)
        if isinstance(user, Challenge):
            self._endpoint.reject_stateless(event.transaction, user.status, headers=user.headers)
            return
        names = {user.extension, user.digest_name}
        outcome = self.registrar.register(request, flow, user=user.extension, names=names, now=now)
        headers = outcome.headers
        if outcome.status == 200:
            # §10.3 step 8: phones without a clock take the time from here.
            headers += (("Date", sip_date(self._wall_clock())),)
            self._keep_open(user.extension, now)
        self._endpoint.respond(event.transaction, outcome.status, headers=headers, now=now)

    # What calls ask -----------------------------------------------------------------------------------------

    def targets(self, user: str) -> tuple[Bindings, ...]:
        """Return the contacts of a user: groups to ring one after the other, each in parallel."""
        return tuple(self.registrar.targets(user))

    def located(self, binding: Binding) -> Binding:
        """Return a binding with the way that DNS gives for its name, as far as that is known."""
        flow = self.registrar.located(binding, self._endpoint.config.lookup)
        return binding if flow == binding.flow else replace(binding, flow=flow)

    def gruu(self, uri: Uri) -> Gruu | None:
        """Return which phone of which user a GRUU names (RFC 5627); None for any other URI."""
        return self.registrar.gruu(uri)

    def bound_from(self, host: str) -> bool:
        """Tell whether a phone is registered from this address (DESIGN 1.4)."""
        return self.registrar.bound_from(host)

    def bound_over(self, connection: int) -> bool:
        """Tell whether a phone is reached over this connection."""
        return self.registrar.bound_over(connection)

    def registered_from(self, host: str) -> Bindings:
        """Return the bindings of the phones that are registered from this address."""
        return self.registrar.registered_from(host)

    # Time, connections, store -------------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """Return when `handle_timer` is to be called next."""
        expiry = self.registrar.next_expiry()
        if not self._next:
            return expiry
        due = self._next[0][0]
        return due if expiry is None else min(due, expiry)

    def handle_timer(self, now: float) -> None:
        """Drop what has ended, ping what is due."""
        self.registrar.expire(now)
        while self._next and self._next[0][0] <= now:
            _, user = self._next.popleft()
            self._kept_open.discard(user)
            if self._ping(user):
                self._kept_open.add(user)
                self._next.append((now + self.interval, user))

    def connection_lost(self, connection: int) -> None:
        """Give up what was reached over this connection."""
        self.registrar.connection_lost(connection)

    def flow_failed(self, binding: Binding) -> None:
        """Give up one way to a phone, which the proxy at its other end says is gone (RFC 5626 §7)."""
        self.registrar.flow_failed(binding)

    def retain(self, users: Collection[str]) -> None:
        """Drop the bindings of all but these users."""
        self.registrar.retain(users)

    def forget(self, user: str, contact: str = "") -> int:
        """Drop the bindings of a user, or one of them; returns how many there were (`Registrar.forget`)."""
        return self.registrar.forget(user, contact)

    def restore(self, stored: Iterable[StoredBinding], *, epoch: float, now: float) -> int:
        """Take over the bindings of an earlier run; returns how many are still good (`Registrar.restore`)."""
        count = self.registrar.restore(stored, epoch=epoch, now=now)
        users = [binding.user for binding in self.registrar.all() if _is_pinged(binding)]
        new = [user for user in dict.fromkeys(users) if user not in self._kept_open]
        if self.keep_alive is not KeepAlive.OFF:
            # Evenly over the interval: all at once would be a burst, again and again.
            dues = [(now + self.interval * (at + 1) / len(new), user) for at, user in enumerate(new)]
            self._next = deque(sorted((*self._next, *dues)))
            self._kept_open.update(new)
        return count

    def _keep_open(self, user: str, now: float) -> None:
        if self.keep_alive is KeepAlive.OFF or user in self._kept_open:
            return
        if any(map(_is_pinged, self.registrar.bindings(user))):
            self._kept_open.add(user)
            self._next.append((now + self.interval, user))

    def _ping(self, user: str) -> bool:
        """Ping the contacts of a user behind a NAT; returns whether there are any."""
        found = False
        for binding in self.registrar.bindings(user):
            if _is_pinged(binding):
                found = True
                if self.keep_alive is KeepAlive.OPTIONS:
                    self._endpoint.ping(binding.contact, binding.flow)
                else:
                    self._endpoint.keep_open(binding.flow)
        return found


def _is_pinged(binding: Binding) -> bool:
    """Over TCP and TLS the phone pings (RFC 5626 §4.4.1), and a NAT keeps a connection for hours."""
    return binding.behind_nat and not binding.flow.reliable


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def sip_date(moment: datetime) -> str:
    """Print a Date value: in GMT and English, whatever the locale (RFC 3261 §20.17)."""
    utc = moment.astimezone(UTC)
    return (
        f"{_DAYS[utc.weekday()]}, {utc.day:02d} {_MONTHS[utc.month - 1]} {utc.year} "
        f"{utc.hour:02d}:{utc.minute:02d}:{utc.second:02d} GMT"
    )
