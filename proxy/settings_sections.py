"""The sections of the settings file, one class each; `proxy.settings` puts them together.

Field names are the names in the file. Validators say what is wrong without the path: it is added where the
error is shown. Times are in seconds.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    field_validator,
    model_validator,
)

from proxy.policy import CallClass, CodeCollection, Treatment
from proxy.sip.digest import Algorithm

__all__ = [
    "Address",
    "AddressText",
    "AuthSettings",
    "Codec",
    "ControlSettings",
    "GroupSettings",
    "JournalSettings",
    "LimitSettings",
    "LogSettings",
    "MediaSettings",
    "MetricsSettings",
    "Network",
    "NumberPlanSettings",
    "PromptSettings",
    "Seconds",
    "Section",
    "SipSettings",
    "StoreSettings",
    "TimerSettings",
    "TlsSettings",
]


class Address(NamedTuple):
    """A SIP address as it is written in the file: ``udp:192.0.2.1:5060``, ``tls:[2001:db8::1]:5061``.

    The port may be left out where a name stands (then DNS SRV is asked) or 5060 (TLS: 5061) is meant.
    ``sip:carrier.example`` leaves the transport to DNS as well (RFC 3263), ``sips:`` is that over TLS only.
    """

    transport: str
    host: str
    port: int | None

    @property
    def socket_transport(self) -> str:
        """Transport of the socket that an IP address is reached from."""
        return {"SIP": "UDP", "SIPS": "TLS"}.get(self.transport, self.transport)

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport.lower()}:{host}{port}"


def _parse_address(text: object) -> object:
    """Read ``transport:host[:port]``; raises ValueError with an example."""
    if isinstance(text, Address):
        return text
    problem = f"{text!r} is no SIP address; write it like udp:192.0.2.1:5060 or tcp:[2001:db8::1]:5060"
    if not isinstance(text, str):
        raise ValueError(problem)
    transport, colon, rest = text.partition(":")
    if not colon or transport.upper() not in {"UDP", "TCP", "TLS", "SIP", "SIPS"}:
        raise ValueError(f"{problem}; allowed transports: udp, tcp, tls, sip, sips")
    if rest.startswith("["):
        host, bracket, port_text = rest[1:].partition("]")
        if not bracket or (port_text and not port_text.startswith(":")):
            raise ValueError(problem)
        port_text = port_text[1:]
    else:
        host, _, port_text = rest.partition(":")
    if not host or any(c.isspace() for c in host):
        raise ValueError(problem)
    if not port_text:
        return Address(transport.upper(), host, None)
    if not (port_text.isascii() and port_text.isdigit() and int(port_text) <= 65_535):
        raise ValueError(problem)
    return Address(transport.upper(), host, int(port_text))


def _parse_network(text: object) -> object:
    """Read an address or a network; raises ValueError with an example."""
    if isinstance(text, IPv4Network | IPv6Network):
        return text
    try:
        return ip_network(text if isinstance(text, str) else "")
    except ValueError:
        message = f"{text!r} is no network; write it like 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32"
        raise ValueError(message) from None


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Network = Annotated[IPv4Network | IPv6Network, PlainValidator(_parse_network)]
AddressText = Annotated[Address, BeforeValidator(_parse_address)]
Codec = Annotated[Literal["PCMU", "PCMA", "G722", "OPUS"], BeforeValidator(_upper)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Section(BaseModel):
    """A table of the file: no setting but those that are named, and none changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TcpSettings(Section):
    """Limits of SIP connections."""

    connections: int = Field(default=2_000, ge=1)
    """In all; one more closes the oldest that no phone and no call uses. Peers and trunks are let in beyond
    it."""
    connections_per_source: int = Field(default=50, ge=1)
    """From one address that is neither peer nor trunk; ten times as many from one of which phones are
    registered, and from one IPv6 network (/64)."""
    idle_timeout: Seconds = 600.0
    """A connection that no phone and no call uses is closed after so long without traffic; keep-alives
    count."""
    message_timeout: Seconds = 10.0
    """A message that has begun must be whole by then."""
    connect_timeout: Seconds = 4.0
    """Opening a connection, its TLS handshake included, fails after so long."""
    alias: bool = False
    """Offer peers to send their requests over connections that the gate opened (RFC 5923)."""


class TlsSettings(Section):
    """SIP over TLS: PEM files, read again on reload."""

    certificate: str = ""
    """The gate's certificate and its intermediates; needed with a ``tls:`` address in ``listen``."""
    key: str = ""
    """Empty: the key is in the file of the certificate."""
    ca: str = ""
    """Authorities for peers' certificates; empty: those of the system."""
    verify_client: Literal["none", "optional", "required"] = "none"
    """Whether those who connect show a certificate."""
    wildcards: bool = False
    """Accept ``*.example.com`` in certificates, which RFC 5922 forbids."""
    handshake_timeout: Seconds = 5.0
    """A handshake that a peer began must be over by then."""
    handshakes: int = Field(default=200, ge=1)
    """Under way at once with sources that are neither peer nor trunk."""

    @model_validator(mode="after")
    def _checkable(self) -> Self:
        if self.verify_client != "none" and not self.ca:
            raise ValueError(f'ca: needed with verify_client = "{self.verify_client}"')
        return self


class SipSettings(Section):
    """The gate's own sockets and what it says about itself."""

    listen: tuple[AddressText, ...] = Field(
        default=(Address("UDP", "127.0.0.1", 5060), Address("TCP", "127.0.0.1", 5060)), min_length=1
    )
    """The gate's sockets."""
    advertised: tuple[str, ...] = ()
    """Addresses in Via and Contact instead of the bound ones (behind NAT), one per IP version at most."""
    inside: tuple[Network, ...] = ()
    """Networks that no NAT parts from the gate: SIP and SDP say the gate's own addresses there, not the
    advertised ones."""
    local_domains: tuple[str, ...] = ()
    """Names that mean the gate in URIs, besides its addresses. With none, any domain of a REGISTER is
    taken."""
    x_headers: tuple[Annotated[str, Field(pattern=r"^[Xx]-[A-Za-z0-9-]{0,62}\*?$")], ...] = ()
    """Headers beginning with ``X-`` that cross between caller and callee; ``*`` at the end stands for any
    more."""
    nameservers: tuple[AddressText, ...] = ()
    """DNS servers that names are looked up at, such as ``udp:192.0.2.53``; empty: those of the system."""
    user_agent: str = "Tollgate"
    """What requests and the answers to known callers call this software; empty: nothing."""
    tcp: TcpSettings = TcpSettings()
    tls: TlsSettings = TlsSettings()

    @field_validator("listen")
    @classmethod
    def _literal(cls, listen: tuple[Address, ...]) -> tuple[Address, ...]:
        for address in listen:
            _require_ip(address.host)
            if address.transport in {"SIP", "SIPS"}:
                raise ValueError(f"{address} names no transport; allowed here: udp, tcp, tls")
        return listen

    @field_validator("nameservers")
    @classmethod
    def _servers(cls, nameservers: tuple[Address, ...]) -> tuple[Address, ...]:
        for address in nameservers:
            _require_ip(address.host)
            if address.transport != "UDP":
                raise ValueError(f"{address} is no DNS server; write it like udp:192.0.2.53")
        return nameservers

    @model_validator(mode="after")
    def _has_certificate(self) -> Self:
        for address in self.listen:
            if address.transport == "TLS" and not self.tls.certificate:
                raise ValueError(f"tls.certificate: needed with {address}")
        return self

    @model_validator(mode="after")
    def _known_to_peers(self) -> Self:
        versions = {ip_address(host).version for host in self.advertised}
        for address in self.listen:
            own = ip_address(address.host.partition("%")[0])
            if own.is_unspecified and own.version not in versions:
                raise ValueError(
                    f"advertised: needed with {address}: peers cannot answer to a wildcard address"
                )
        return self

    @field_validator("advertised")
    @classmethod
    def _one_per_version(cls, advertised: tuple[str, ...]) -> tuple[str, ...]:
        versions = [_require_ip(host) for host in advertised]
        if len(set(versions)) != len(versions):
            raise ValueError("at most one IPv4 and one IPv6 address")
        return advertised


class MediaSettings(Section):
    """RTP."""

    address: str = "127.0.0.1"
    """Where RTP is sent from and received; empty: no IPv4 media."""
    address_ipv6: str = ""
    """Likewise for IPv6; empty: no IPv6 media."""
    advertised_address: str = ""
    """What SDP says instead (behind NAT)."""
    advertised_address_ipv6: str = ""
    """Likewise for IPv6."""
    ports: str = "10000-19999"
    """UDP ports for RTP and RTCP; a call takes four."""
    threads: int = Field(default=1, ge=1, le=64)
    """Threads that relay; one for each core that is to do so."""
    inactivity_timeout: Seconds = 60.0
    """A call whose two sides send nothing for so long is ended."""
    emergency_ports: int = Field(default=40, ge=0)
    """Ports of the range that only emergency calls may use (four per call)."""

    @field_validator("address", "advertised_address")
    @classmethod
    def _ipv4(cls, host: str) -> str:
        if host and _require_ip(host) != 4:
            raise ValueError(f"{host!r} is no IPv4 address; IPv6 has a setting of its own")
        return host

    @field_validator("address_ipv6", "advertised_address_ipv6")
    @classmethod
    def _ipv6(cls, host: str) -> str:
        if host and _require_ip(host) != 6:
            raise ValueError(f"{host!r} is no IPv6 address")
        return host

    @field_validator("ports")
    @classmethod
    def _range(cls, ports: str) -> str:
        low, dash, high = ports.partition("-")
        if not (dash and low.isdigit() and high.isdigit() and 1024 <= int(low) < int(high) <= 65_535):
            raise ValueError(f"{ports!r} is no range of ports; write it like 10000-19999 (1024 to 65535)")
        if int(high) - int(low) < 7:
            raise ValueError("one call takes four ports; give the range at least eight")
        return ports

    @model_validator(mode="after")
    def _room(self) -> Self:
        low, high = self.port_range
        for name, own, advertised in (
            ("advertised_address", self.address, self.advertised_address),
            ("advertised_address_ipv6", self.address_ipv6, self.advertised_address_ipv6),
        ):
            if own and ip_address(own).is_unspecified and not advertised:
                raise ValueError(f"{name}: needed with {own}: peers cannot send to a wildcard address")
        if not (self.address or self.address_ipv6):
            raise ValueError("address or address_ipv6 must be given")
        if self.emergency_ports > (high - low + 1) // 2:
            raise ValueError("emergency_ports: more than half of the range")
        return self

    @property
    def port_range(self) -> tuple[int, int]:
        """First and last port."""
        low, _, high = self.ports.partition("-")
        return int(low), int(high)


class StoreSettings(Section):
    """The database of policy and usage log."""

    url: str = Field(default="sqlite:///tollgate.db", repr=False)
    """May hold a password."""

    @field_validator("url")
    @classmethod
    def _known(cls, url: str) -> str:
        if not url.startswith(("sqlite:///", "postgresql://", "postgresql+")):
            raise ValueError(
                "not a store; write it like sqlite:///tollgate.db or postgresql://user@host/tollgate"
            )
        return url

    @property
    def sqlite_path(self) -> Path | None:
        """File of an SQLite store."""
        return Path(self.url.removeprefix("sqlite:///")) if self.url.startswith("sqlite:///") else None


class JournalSettings(Section):
    """Where call records are made durable."""

    folder: str = ""
    """Empty: beside the SQLite file, with ``.journal`` at its end."""


class PromptSettings(Section):
    """What callers hear."""

    folder: str = ""
    """Own WAV files that replace prompts; empty: none."""
    country: str = ""
    """Country of the ringback, busy and reorder tones; empty: that of the number plan."""


class ClassOverrideSettings(Section):
    """Numbers of this pattern have this class."""

    pattern: str
    """Numbers, written as in the pattern lists of groups."""
    call_class: Annotated[CallClass, Field(alias="class")]
    """The class they have."""


class NumberPlanSettings(Section):
    """How numbers are dialled here."""

    country: str = "US"
    """Where the gate stands, as two letters (ISO 3166)."""
    area_codes: tuple[str, ...] = ()
    """Area codes of local calls, without national prefix; the first one completes a shorter number."""
    outside_prefix: str = ""
    """What is dialled before outside numbers, such as ``9``; empty: nothing."""
    extensions: tuple[str, ...] = ()
    """Patterns of internal numbers, such as ``2XX``."""
    emergency_numbers: tuple[str, ...] = ()
    """Emergency numbers besides those of the country, 112, 911 and 999."""
    sos_number: str = ""
    """What ``urn:service:sos`` and other countries' emergency numbers become; empty: the country's own."""
    international_prefix: str = ""
    """What is dialled before a country code; empty: the country's own."""
    home_regions: tuple[str, ...] = ()
    """Countries whose numbers count as national, as two letters."""
    classes: tuple[ClassOverrideSettings, ...] = ()
    """Classes of single numbers and ranges."""


class GroupSettings(Section):
    """A user group that `serve` makes when the store has none of this name; later changes are the store's."""

    name: str
    """Its name."""
    permissions: tuple[CallClass, ...] = (CallClass.INTERNAL,)
    """Classes that may be dialled without a code."""
    collection: CodeCollection = CodeCollection.OFF
    """Whether other classes are blocked, or an account code is asked for them."""
    unlock: tuple[CallClass, ...] = tuple(CallClass)
    """Classes that a code may unlock."""
    treatments: dict[CallClass, Treatment] = {}
    """Cells of the matrix that differ from what the pair gives."""


class LimitSettings(Section):
    """How much at once."""

    max_calls: int = Field(default=2_000, ge=1)
    """Beyond it calls get 503, emergency calls excepted."""
    message_size: int = Field(default=65_535, ge=4_096, le=65_535)
    """Bytes of one SIP message; a longer one gets 513."""
    header_lines: int = Field(default=256, ge=64, le=1_024)
    """Header lines of one SIP message; one with more gets 513."""


class TimerSettings(Section):
    """SIP timers and the gate's own."""

    t1: Seconds = 0.5
    """Round-trip time estimate (RFC 3261 §17.1.1.1)."""
    t2: Seconds = 4.0
    """Longest interval between retransmissions."""
    t4: Seconds = 5.0
    """Longest time a message stays in the network."""
    ring_timeout: Seconds = 180.0
    """A call that nobody answers for so long fails."""
    emergency_response_timeout: Seconds = 1.0
    """An emergency call goes to the next trunk after so long without any response. When all have failed,
    those that were only silent are tried once more, and get the time that any call gives them."""
    early_gate_bound: Seconds = 120.0
    """Asking for a code in early media lasts so long at most."""
    early_repeat: Seconds = 60.0
    """A provisional response is repeated so often."""
    max_duration: float = Field(default=0.0, ge=0)
    """Talk time after which a call is ended, emergency calls excepted; 0: no limit."""
    session_expires: int = Field(default=1_800, ge=0, le=86_400)
    """Seconds in which each side of a call has to show that it is there (RFC 4028); 0: not asked for."""
    min_se: int = Field(default=90, ge=90, le=3_600)
    """The shortest such interval that is taken from a peer."""
    checkpoint_interval: Seconds = 3.0
    """So often the journal notes which calls are up."""
    drain: float = Field(default=60.0, ge=0, le=86_400)
    """How long calls may go on after SIGTERM."""

    @model_validator(mode="after")
    def _session_is_no_shorter_than_taken(self) -> Self:
        if 0 < self.session_expires < self.min_se:
            raise ValueError("session_expires is 0, or at least min_se")
        return self


class AuthSettings(Section):
    """Digest authentication of phones."""

    realm: str = Field(default="tollgate", min_length=1, pattern=r'^[^"\\\r\n]*$')
    """Realm of the challenges; the hashes of SIP passwords hold it."""
    algorithms: tuple[Algorithm, ...] = Field(default=tuple(Algorithm), min_length=1)
    """What phones are challenged with, strongest first; ``["MD5"]`` where some phone gives up at the sight of
    a challenge that it doesn't know, which RFC 8760 §2.4 tells it to skip (baresip 1 does)."""
    secret: SecretStr = SecretStr("")
    """Key of the temporary GRUUs of phones; empty: a new one at every start, which those that were given
    before do not survive."""

    @field_validator("algorithms")
    @classmethod
    def _strongest_first(cls, algorithms: tuple[Algorithm, ...]) -> tuple[Algorithm, ...]:
        return tuple(algorithm for algorithm in Algorithm if algorithm in algorithms)

    @field_validator("secret")
    @classmethod
    def _long(cls, secret: SecretStr) -> SecretStr:
        if 0 < len(secret.get_secret_value()) < 16:
            raise ValueError("at least 16 characters, or empty")
        return secret


class LogSettings(Section):
    """What is logged, and how."""

    level: LogLevel = "INFO"
    """Least important lines that are logged."""
    format: Literal["text", "json"] = "text"
    """Lines for people, or JSON."""


class ControlSettings(Section):
    """The socket through which the command and the portal speak with the gate."""

    socket: str = ""
    """Empty: beside the SQLite file, with ``.sock`` at its end."""


class MetricsSettings(Section):
    """Prometheus metrics over HTTP."""

    port: int = Field(default=0, ge=0, le=65_535)
    """On 127.0.0.1; 0: off."""


def _require_ip(host: str) -> int:
    """Return the IP version of a literal; raises ValueError for anything else."""
    try:
        return ip_address(host.partition("%")[0]).version
    except ValueError:
        raise ValueError(f"{host!r} is no IP address") from None
