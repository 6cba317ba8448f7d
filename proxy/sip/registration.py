"""One REGISTER as the registrar reads it: who, by which way, for how long, under which identity.

RFC 3261 §10.2.1, §10.3; RFC 3327 §5.3 (Path); RFC 5626 §6 (instance-id and reg-id). Pure: nothing here knows
what is bound already; `proxy.sip.registrar` does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from proxy.errors import RemoteProtocolError
from proxy.sip.address import NameAddr
from proxy.sip.bindings import Binding
from proxy.sip.flow import Flow
from proxy.sip.headers import Headers
from proxy.sip.message import Request
from proxy.sip.reachability import NextHop, Surroundings, address_problem, contact_problem, hop_to

__all__ = ["Identity", "Outcome", "RegistrarConfig", "Registration", "RegistrationRefused", "check_target"]

_MAX_SECONDS: Final = 2**32 - 1
_MALFORMED_EXPIRES: Final = 3600
"""What a malformed expiry counts as (RFC 3261 §20.10, §20.19)."""
_HOUR: Final = 3600
"""An interval of an hour or more is never too brief (§10.3 step 7)."""
_AGENT_LENGTH: Final = 64
_NOT_KEPT: Final = frozenset({"expires", "pub-gruu", "temp-gruu"})
"""Parameters of a Contact that the registrar says anew in each answer."""


@dataclass(frozen=True, slots=True)
class RegistrarConfig:
    """The registrar's limits. Times are in seconds."""

    default_expires: int = 3600
    """For a contact that names no expiry (§10.2.1.1)."""
    min_expires: int = 60
    """Less gets 423 with Min-Expires (§10.2.8)."""
    max_expires: int = 7200
    """More is shortened to this."""
    max_contacts: int = 10
    """Bindings per user; a REGISTER that would make more gets 403."""
    max_bindings: int = 100_000
    """Bindings of all users; a REGISTER that would make more gets 503."""
    max_contact_length: int = 512
    """Characters of a Contact with its parameters, or of all Path values; longer ones get 403."""
    max_path: int = 8
    """Path values of one binding; more get 403."""
    flow_timer: int = 0
    """What phones on connections are told about their keep-alives (RFC 5626 §4.4); 0: nothing."""
    path_needs_support: bool = True
    """Path without ``Supported: path`` gets 420; otherwise it is kept, but not told to the phone (RFC 3327
    §5.3)."""


class Outcome(NamedTuple):
    """The response to a REGISTER: status and headers of the registrar."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


class RegistrationRefused(Exception):  # noqa: N818 - it says what is the case; never leaves the registrar
    """The request changes nothing and gets this response."""

    def __init__(self, status: int, why: str, *headers: tuple[str, str]) -> None:
        super().__init__(why)
        self.outcome = Outcome(status, (*headers, ("Warning", f'399 tollgate "{why}"')))


class Identity(NamedTuple):
    """What names a binding besides its Contact URI (RFC 5626 §6)."""

    reg_id: int
    """0: Outbound does not apply, the URI alone counts."""
    instance: str


class Registration:
    """A REGISTER with Contacts, of an authenticated user."""

    __slots__ = (
        "_config",
        "_direct",
        "_gate",
        "_outbound",
        "_path",
        "_path_hop",
        "_request",
        "_source",
        "call_id",
        "cseq",
        "domain",
        "gruu_supported",
        "now",
        "over_connection",
        "path_supported",
        "user",
    )

    def __init__(
        self,
        request: Request,
        source: Flow,
        *,
        user: str,
        config: RegistrarConfig,
        gate: Surroundings,
        now: float,
    ) -> None:
        """Read what holds for all contacts; refuses a Path that can't be used."""
        headers = request.headers
        self._request = request
        self._source = source
        self._config = config
        self._gate = gate
        self._direct = not headers.is_repeated("Via") and "," not in (headers.get("Via") or "")
        self._path: tuple[str, ...] = ()
        self._path_hop: NextHop | None = None
        self.user = user
        self.call_id = request.call_id
        self.cseq = request.cseq.number
        self.now = now
        supported: Collection[str] = ()
        if "Supported" in headers:
            supported = [tag.lower() for tag in headers.values("Supported")]
        self._outbound = "outbound" in supported
        through_proxy = not self._direct or "Path" in headers
        # A proxy on the route of a call would send requests to a GRUU back to the gate, which passes none on.
        self.gruu_supported = not through_proxy and ("gruu" in supported or "gruu" in _required(headers))
        self.domain = request.to.uri.host
        """Host part of the address-of-record, as the phone calls it."""
        self.over_connection = source.reliable
        self.path_supported = "path" in supported
        if "Path" in headers:
            self._read_path(headers.values("Path"))

    def _read_path(self, path: Sequence[str]) -> None:
        """Keep the way back through the proxies that the REGISTER came by (RFC 3327 §5.3)."""
        config = self._config
        if config.path_needs_support and not self.path_supported:
            raise RegistrationRefused(420, "Path that the phone does not support", ("Unsupported", "path"))
        if len(path) > config.max_path or sum(map(len, path)) > config.max_contact_length:
            raise RegistrationRefused(403, "Path too long")
        uris = [NameAddr.parse(value).uri for value in path]
        if not uris or not all(uri.is_sip and "lr" in uri.params for uri in uris):
            raise RegistrationRefused(400, "Path entry that is no loose route")
        if problem := address_problem(uris[0], self._source, self._gate):
            raise RegistrationRefused(403, f"Path: {problem}")
        self._path = tuple(path)
        self._path_hop = hop_to(uris[0], self._source, self._request.top_via, direct=False, gate=self._gate)

    def expiry(self, contact: NameAddr) -> int:
        """Return the interval that a contact gets in seconds, 0 to remove it (§10.2.1.1, §10.3 step 7)."""
        config = self._config
        text = contact.params.get("expires")
        if text is None:
            text = self._request.headers.get("Expires")
        seconds = config.default_expires if text is None else _seconds(text)
        if not seconds:
            return 0
        if seconds < config.min_expires and seconds < _HOUR:
            raise RegistrationRefused(423, "interval too brief", ("Min-Expires", str(config.min_expires)))
        return min(seconds, config.max_expires)

    def identity(self, contact: NameAddr, *, alone: bool) -> Identity:
        """Read instance-id and reg-id, which counts where Outbound applies only (RFC 5626 §6).

        ``alone``: no more than one contact of the request has an expiry above zero.
        """
        instance = contact.params.get("+sip.instance") or ""
        text = contact.params.get("reg-id")
        if text is None or not instance or not self._outbound:
            return Identity(0, instance)
        if not text.isascii() or not text.isdigit() or len(text) > 10 or not 0 < int(text) < 2**31:
            raise RegistrationRefused(400, "malformed reg-id")
        if not alone:
            raise RegistrationRefused(400, "reg-id beside another Contact")
        if not self._direct and not self._first_hop_does_outbound:
            raise RegistrationRefused(439, "first hop lacks Outbound support")
        return Identity(int(text), instance)

    @property
    def _first_hop_does_outbound(self) -> bool:
        """The proxy next to the phone, whose Path entry is the last, has said so (RFC 5626 §5.1, §6)."""
        return bool(self._path) and "ob" in NameAddr.parse(self._path[-1]).uri.params

    def bind(self, contact: NameAddr, seconds: int, identity: Identity) -> Binding:
        """Make the binding of one contact; refuses one that nothing may be sent to."""
        if len(str(contact)) > self._config.max_contact_length:
            raise RegistrationRefused(403, "Contact too long")
        request, source, gate, uri = self._request, self._source, self._gate, contact.uri
        if problem := contact_problem(uri, source, gate):
            raise RegistrationRefused(403, problem)
        hop = self._path_hop
        if not self._path:
            hop = hop_to(uri, source, request.top_via, direct=self._direct, gate=gate)
        if hop is None:
            raise RegistrationRefused(403, "no way to this Contact from here")
        if gate.is_led_to_peer(hop.flow.remote_host, source.remote_host):
            raise RegistrationRefused(403, "address of a trunk or PBX")
        return Binding(
            self.user,
            contact.uri_text,
            "".join(
                f";{name}" if value is None else f";{name}={value}"
                for name, value in contact.params.items()
                if name not in _NOT_KEPT
            ),
            _quality(contact.params.get("q")),
            self.now + seconds,
            self.call_id,
            self.cseq,
            hop.flow,
            source,
            hop.behind_nat,
            self._path,
            identity.instance,
            identity.reg_id,
            (request.headers.get("User-Agent") or "")[:_AGENT_LENGTH],
        )


def check_target(request: Request, names: Collection[str], gate: Surroundings) -> None:
    """Check whose bindings a REGISTER means: the authenticated user's own (§10.3 steps 1, 4 and 5)."""
    domains = gate.domains
    address = request.to.uri
    if not address.is_sip:
        raise RegistrationRefused(404, "To of a scheme without bindings here")
    if domains and (address.host.lower() not in domains or request.request_uri.host.lower() not in domains):
        raise RegistrationRefused(404, "domain that is not served here")
    if (address.user or "").partition(";")[0] not in names:
        raise RegistrationRefused(403, "registration for somebody else")


def _required(headers: Headers) -> Collection[str]:
    return [tag.lower() for tag in headers.values("Require")] if "Require" in headers else ()


def _seconds(text: str) -> int:
    text = text.strip()
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        return _MALFORMED_EXPIRES
    return min(int(text), _MAX_SECONDS)


def _quality(text: str | None) -> float:
    """Read a q-value of 0 to 1 with at most three decimals (§25.1 qvalue); 1 without one."""
    if text is None:
        return 1.0
    whole, _, decimals = text.partition(".")
    if whole not in {"0", "1"} or len(decimals) > 3 or decimals.strip("0123456789"):
        raise RemoteProtocolError("malformed q")
    value = float(text)
    if value > 1.0:
        raise RemoteProtocolError("malformed q")
    return value
