"""TLS for SIP: contexts made from files, the names in certificates, and one connection's encryption.

RFC 3261 §26.2, RFC 5922 (domain certificates), RFC 5630 §3 (sips). Nothing here opens a socket: a
`TlsStream` turns octets into octets, so that TLS shares every limit and time-out of plain connections
(`proxy.net.tcp`), and a new certificate holds for the next handshake without touching what is open.

A peer that the gate calls must always show a certificate that the authorities vouch for and that names the
domain which was called; there is no setting that gives this up.
"""

from __future__ import annotations

import enum
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

from proxy.errors import ConfigurationError, RemoteProtocolError
from proxy.sip.uri import parse_host_port

__all__ = ["ClientCertificates", "TlsConfig", "TlsContexts", "TlsStream", "certificate_names", "names_match"]

CHUNK = 65_536
"""Octets of plain text taken at once; a TLS record holds at most 16,384."""


class ClientCertificates(enum.Enum):
    """Whether peers that connect to the gate show a certificate of their own (mutual TLS)."""

    NONE = "none"
    OPTIONAL = "optional"
    """Asked for; a peer without one is let in, one with a bad one is not."""
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """The files of one gate's TLS, all PEM."""

    certificate: Path
    """The gate's own certificate, then its intermediates."""
    key: Path | None = None
    """None: the key is in the file of the certificate."""
    ca: Path | None = None
    """Authorities that peers' certificates are checked against; None: those of the system."""
    clients: ClientCertificates = ClientCertificates.NONE
    wildcards: bool = False
    """Accept ``*.example.com`` for ``sip.example.com``. RFC 5922 §7.2 forbids it; some carriers need it."""
    section: str = "sip.tls"
    """Where these files stand in the settings, for what is said of them."""


class TlsContexts:
    """What handshakes are made with. `reload` takes changed files; what is wrong with them changes
    nothing.
    """

    def __init__(self, config: TlsConfig) -> None:
        self.config = config
        self.expires: datetime
        """End of the own certificate's validity."""
        self._server: ssl.SSLContext
        self._client: ssl.SSLContext
        self.reload()

    def reload(self) -> None:
        """Read the files again. Raises ConfigurationError that names the file; then the old ones stay."""
        server, client = _server_context(self.config), _client_context(self.config)
        self.expires = _try(self.config)
        self._server, self._client = server, client

    def accept(self) -> TlsStream:
        """Return the server's side of a new connection."""
        return TlsStream(self._server, None)

    def connect(self, name: str) -> TlsStream:
        """Return the client's side of a new connection to a host or address."""
        return TlsStream(self._client, name)

    def vouches_for(self, names: Iterable[str], expected: str) -> bool:
        """Say whether a certificate with these names belongs to ``expected`` (RFC 5922 §7.2)."""
        return names_match(names, expected, wildcards=self.config.wildcards)


class TlsStream:
    """One connection: what was read goes in as cipher text, messages come out, and the other way round.

    After each call `due` holds octets for the peer. Not to be used after an error was raised, but for
    `due` (the alert).
    """

    __slots__ = ("_incoming", "_object", "_outgoing", "closed", "established", "expected")

    def __init__(self, context: ssl.SSLContext, expected: str | None) -> None:
        self.expected = expected
        """The name that was called; None on the server's side."""
        self.established = False
        self.closed = False
        """The peer said that it sends no more."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        indication = None if expected is None or _is_address(expected) else expected
        try:
            self._object = context.wrap_bio(
                self._incoming, self._outgoing, server_side=expected is None, server_hostname=indication
            )
        except ValueError as error:
            raise RemoteProtocolError(f"{expected!r} is no name of a TLS server") from error

    def start(self) -> None:
        """Begin the handshake, from the client's side."""
        self._handshake()

    def receive(self, data: bytes) -> bytes:
        """Take what was read; returns plain text, if any. Raises RemoteProtocolError with the reason."""
        self._incoming.write(data)
        if not self.established and not self._handshake():
            return b""
        plain = b""
        try:
            while True:
                chunk = self._object.read(CHUNK)
                if not chunk:
                    self.closed = True
                    return plain
                plain += chunk
                # Without this look, every read would end in an exception, which costs more than the read.
                if not self._incoming.pending and not self._object.pending():
                    return plain
        except ssl.SSLWantReadError:
            return plain
        except ssl.SSLError as error:
            raise RemoteProtocolError(_reason(error)) from None

    def encrypt(self, data: bytes) -> bytes:
        """Return ``data`` as cipher text, with whatever else is due."""
        try:
            self._object.write(data)
        except ssl.SSLError as error:
            raise RemoteProtocolError(_reason(error)) from None
        return self._outgoing.read()

    def due(self) -> bytes:
        """Take octets for the peer: handshake, alerts, the word that nothing follows."""
        return self._outgoing.read()

    def close(self) -> bytes:
        """Return the word that nothing follows (RFC 8446 §6.1)."""
        if self.established:
            try:
                self._object.unwrap()
            except ssl.SSLError:
                # It wants to read the peer's own word, for which nobody waits.
                return self._outgoing.read()
        return self._outgoing.read()

    @property
    def names(self) -> tuple[str, ...]:
        """What the peer's certificate names, once it was verified; empty when it showed none."""
        certificate = self._object.getpeercert()
        return () if not certificate else certificate_names(_alternative_names(certificate))

    @property
    def valid_until(self) -> datetime:
        """End of the validity of the peer's certificate, which must be there."""
        certificate = self._object.getpeercert()
        assert certificate  # noqa: S101  (verified)
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)

    @property
    def protocol(self) -> str:
        """Version and cipher suite, for the log."""
        cipher = self._object.cipher()
        return f"{self._object.version()} {cipher[0] if cipher else ''}"

    def _handshake(self) -> bool:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise RemoteProtocolError(_reason(error)) from None
        self.established = True
        return True


# Names ------------------------------------------------------------------------------------------------------


def certificate_names(alternatives: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the SIP domains that a subjectAltName stands for (RFC 5922 §7.1), in lower case, and its
    addresses.

    A ``sip:`` URI without user names a domain; DNS names count only where there is no such URI. The common
    name is not looked at.
    """
    domains: list[str] = []
    hosts: list[str] = []
    addresses: list[str] = []
    for kind, value in alternatives:
        if kind == "URI":
            scheme, _, rest = value.partition(":")
            if scheme.lower() == "sip" and "@" not in rest:
                try:
                    domains.append(parse_host_port(rest.partition(";")[0].partition("?")[0])[0].lower())
                except RemoteProtocolError:
                    continue
        elif kind == "DNS":
            hosts.append(value.lower().rstrip("."))
        elif kind == "IP Address" and _is_address(value.strip()):
            addresses.append(str(ip_address(value.strip())))
    return (*(domains or hosts), *addresses)


def names_match(names: Iterable[str], expected: str, *, wildcards: bool = False) -> bool:
    """Say whether ``expected`` is among the names (RFC 5922 §7.2: whole names, without regard to case)."""
    wanted = expected.lower().rstrip(".")
    if _is_address(wanted):
        return str(ip_address(wanted)) in names
    known = set(names)
    _, dot, parent = wanted.partition(".")
    return wanted in known or (wildcards and "." in parent and f"*{dot}{parent}" in known)


def _alternative_names(certificate: object) -> list[tuple[str, str]]:
    found = certificate.get("subjectAltName", ()) if isinstance(certificate, dict) else ()
    return [(str(entry[0]), str(entry[1])) for entry in found]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


# Contexts ---------------------------------------------------------------------------------------------------


def _server_context(config: TlsConfig) -> ssl.SSLContext:
    context = _context(ssl.PROTOCOL_TLS_SERVER, config)
    if config.clients is ClientCertificates.NONE:
        return context
    _load_authorities(context, config)
    required = config.clients is ClientCertificates.REQUIRED
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def _client_context(config: TlsConfig) -> ssl.SSLContext:
    context = _context(ssl.PROTOCOL_TLS_CLIENT, config)
    context.check_hostname = False  # RFC 5922's rules are others, and are checked after the handshake.
    context.verify_mode = ssl.CERT_REQUIRED
    _load_authorities(context, config)
    return context


def _context(kind: ssl._SSLMethod, config: TlsConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(kind)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    certificate, key = config.certificate, config.key or config.certificate
    _require_readable(f"{config.section}.certificate", certificate)
    _require_readable(f"{config.section}.key", key)
    try:
        context.load_cert_chain(certificate, key, password=_no_pass_phrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = f"{config.section}.key: {key}: not the key of the certificate {certificate}"
        else:
            problem = f"{config.section}.certificate: {certificate} and key {key}: "
            problem += "no certificate and key in PEM form"
        raise ConfigurationError(problem) from None
    except _PassPhraseWantedError:
        raise ConfigurationError(
            f"{config.section}.key: {key}: encrypted with a pass phrase; decrypt it with `openssl pkey` and "
            "protect the file by its mode instead"
        ) from None
    return context


def _load_authorities(context: ssl.SSLContext, config: TlsConfig) -> None:
    if config.ca is None:
        context.load_default_certs(
            ssl.Purpose.SERVER_AUTH
            if context.protocol is ssl.PROTOCOL_TLS_CLIENT
            else ssl.Purpose.CLIENT_AUTH
        )
        return
    _require_readable(f"{config.section}.ca", config.ca)
    try:
        context.load_verify_locations(config.ca)
    except ssl.SSLError:
        raise ConfigurationError(f"{config.section}.ca: {config.ca}: no certificates in PEM form") from None


def _require_readable(setting: str, file: Path) -> None:
    try:
        with file.open("rb"):
            return
    except OSError as error:
        raise ConfigurationError(f"{setting}: {file}: cannot be read: {error.strerror}") from None


class _PassPhraseWantedError(Exception):
    pass


def _no_pass_phrase() -> NoReturn:
    raise _PassPhraseWantedError


def _try(config: TlsConfig) -> datetime:
    """Make a handshake with the own certificate, as a peer would see it; returns until when it is valid.

    So a certificate that is over, or not meant for servers, is refused at load and not call by call.
    """
    server = TlsStream(_server_context(replace(config, clients=ClientCertificates.NONE)), None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(config.certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client = TlsStream(context, "0.0.0.0")  # noqa: S104  (no name to indicate)
    client.start()
    try:
        while not client.established:
            server.receive(client.due())
            client.receive(server.due())
    except RemoteProtocolError as error:
        raise ConfigurationError(
            f"{config.section}.certificate: {config.certificate}: peers would refuse it: {error}; "
            "renew it and reload"
        ) from None
    return client.valid_until


def _reason(error: ssl.SSLError) -> str:
    """Say what went wrong in words: why a certificate is refused, or OpenSSL's name of the fault."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    return f"TLS: {(error.reason or 'failure').replace('_', ' ').lower()}"
