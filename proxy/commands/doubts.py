"""What `tollgate check-config` has doubts about: settings that are taken, but will not do what was meant."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

from proxy import composition
from proxy.net.addresses import why_not_own
from proxy.net.resolver import HostName, Resolver
from proxy.net.tls import TlsConfig, TlsContexts
from proxy.settings import Settings
from proxy.store import public_name

__all__ = ["doubts", "unknown_names"]

_RENEW_WITHIN = timedelta(days=21)
"""An authority that renews by itself does so a month ahead; what is later than this has failed to."""

_SQLITE = b"SQLite format 3\0"
"""The beginning of its files."""

_PATIENCE = 10
"""Seconds in which a database server answers, or does not; libpq alone would wait for minutes."""
_SECRET_OPTION = re.compile("pass|secret")


def doubts(settings: Settings, *, resolve: bool = False) -> Iterator[str]:
    """Say them one by one. Raises ConfigurationError where the gate or its portal would not start."""
    unopened = list(_unopened_store(settings))
    yield from unopened
    yield from _no_such_address(settings)
    yield from _trusting_everybody(settings)
    yield from _no_trunk(settings)
    if not unopened:
        # Nor is a server asked twice that lets its askers wait.
        yield from _unknown_names(settings)
    yield from _emergency_gaps(settings)
    yield from _nobody_sends(settings)
    yield from _certificate(composition.tls_config(settings))
    yield from _certificate(composition.portal_tls_config(settings))
    if resolve:
        yield from asyncio.run(unknown_names(settings, composition.resolver(settings)))


def _certificate(config: TlsConfig | None) -> Iterator[str]:
    """Read certificate and key, and say how long the certificate is good."""
    if config is None:
        return
    expires = TlsContexts(config).expires
    left = expires - datetime.now(UTC)
    if left < _RENEW_WITHIN:
        days = "today" if left.days < 1 else f"in {left.days} days"
        end = f"{expires:%Y-%m-%d %H:%M} UTC"
        yield f"{config.section}.certificate: {config.certificate}: ends {days} ({end}); renew it"


async def unknown_names(settings: Settings, resolver: Resolver) -> list[str]:
    """Say which names of trunks and peers have no address that the gate could send to."""
    names = list(dict.fromkeys(composition.host_names(settings)))
    found = await asyncio.gather(*(resolver.resolve(name) for name in names))
    return [
        f"{_where(settings, name)}: {name.host} has no address in DNS now"
        for name, answer in zip(names, found, strict=True)
        if answer is None
    ]


def _where(settings: Settings, name: HostName) -> str:
    """Say where in the settings a name stands first."""
    for index, trunk in enumerate(settings.trunks):
        for number, address in enumerate(trunk.addresses):
            if address.host == name.host:
                return f"trunks[{index}].addresses[{number}]"
    index = next(
        index
        for index, peer in enumerate(settings.peers)
        if peer.address is not None and peer.address.host == name.host
    )
    return f"peers[{index}].address"


def _unopened_store(settings: Settings) -> Iterator[str]:
    """Say why the store can't be opened, or made, by who asks; nothing is made or changed."""
    file = settings.store.sqlite_path
    try:
        why = _no_server(settings.store.url) if file is None else _no_file(file)
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        yield (
            f"store.url: {public_name(settings.store.url)}: {why} (asked as this user); "
            "without a store only emergency calls pass"
        )


def _no_file(file: Path) -> str:
    """Say why an SQLite file is none, or "". Past SQLite, which would leave files beside it."""
    if not file.exists():
        there = next(folder for folder in file.absolute().parents if folder.exists())
        try:
            with TemporaryDirectory(prefix=".tollgate-", dir=there):
                return ""
        except OSError as error:
            return f"no store can be made there: {error.strerror or error}"
    with file.open("r+b") as content:
        head = content.read(len(_SQLITE))
    return "" if head in {b"", _SQLITE} else "is no SQLite database"


def _no_server(url: str) -> str:
    """Say why a database server can't be reached, or ""."""
    try:
        return _no_connection(make_url(url))
    except (ImportError, NoSuchModuleError):
        return "its driver is not installed"
    except (SQLAlchemyError, AssertionError, TypeError, ValueError) as error:
        # Nothing of what it says: it may repeat the URL, password included.
        return f"it can't be used ({type(error).__name__})"


def _no_connection(url: URL) -> str:
    by_libpq = url.get_driver_name().startswith("psycopg")
    engine = create_engine(url, connect_args={"connect_timeout": _PATIENCE} if by_libpq else {})
    try:
        with engine.connect():
            return ""
    except DBAPIError as error:
        said = str(error.orig).partition("\n")[0] or type(error.orig).__name__
        return _without_secrets(said, url)
    finally:
        engine.dispose()


def _without_secrets(said: str, url: URL) -> str:
    """What a driver says, which may repeat what it was told to connect with."""
    secrets = [url.password or ""]
    for option, values in url.normalized_query.items():
        secrets += values if _SECRET_OPTION.search(option) else ()
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        said = said.replace(secret, "***")
    return said


def _no_such_address(settings: Settings) -> Iterator[str]:
    """Say which addresses of the gate and its portal this machine has not; on another one that may be as it
    should.
    """
    named = [("sip.listen", listen.host) for listen in settings.sip.listen]
    named += [(f"media.{name}", getattr(settings.media, name)) for name in ("address", "address_ipv6")]
    named.append(("portal.listen", settings.portal.address[0]))
    for where, host in dict.fromkeys(named):
        if host and (why := why_not_own(host)):
            yield f"{where}: {host}: {why}: is it an address of this machine?"


def _trusting_everybody(settings: Settings) -> Iterator[str]:
    for index, peer in enumerate(settings.peers):
        for network in peer.networks:
            if not network.prefixlen and not peer.certificate_names:
                yield (
                    f"peers[{index}].networks: {network}: whoever reaches the gate calls as this PBX, "
                    "without a password; name the PBX's own address"
                )


def _no_trunk(settings: Settings) -> Iterator[str]:
    if not settings.trunks:
        yield "trunks: there is none: every call to the outside is refused, emergency calls too"


def _unknown_names(settings: Settings) -> list[str]:
    """Say which default groups neither the file names nor the store holds, and which users it does not."""
    from proxy.store.people import known_names

    named = [(f"peers[{index}]", peer.default_group) for index, peer in enumerate(settings.peers)]
    named.append(("phones", settings.phones.default_group))
    in_file = {group.name for group in settings.groups}
    missing = [(where, name) for where, name in named if name is not None and name not in in_file]
    routes = [
        (f"did_routes[{index}]", route) for index, route in enumerate(settings.did_routes) if route.user
    ]
    if not missing and not routes:
        return []
    known = known_names(settings.store.url)
    if known is None:
        return []
    groups, users = known
    return [
        f"{where}.default_group: there is no group {name!r} in the file or the store; its callers are refused"
        for where, name in missing
        if name not in groups
    ] + [
        f"{where}.user: there is no user {route.user} in the store; calls to {route.prefix}... are refused"
        for where, route in routes
        if route.user not in users
    ]


def _emergency_gaps(settings: Settings) -> list[str]:
    """Say which emergency calls the gate would refuse although it could know better.

    What proves a phone is in the store. With none that can be read since the start, only a peer's calls and
    those from `local_networks` are known.
    """
    if settings.local_networks or not settings.phones.enabled:
        return []
    problem = (
        "local_networks is empty: an emergency call of a phone that can't prove who it is gets 401, every "
        "phone's while the store can't be read; name the networks of your phones"
    )
    return [problem]


def _nobody_sends(settings: Settings) -> Iterator[str]:
    """Say that e-mail waits for a portal: the gate sends none by itself."""
    if settings.notify.mail.server and not settings.portal.enabled:
        yield (
            "notify.mail: the portal's process sends it, and portal.enabled is false: run `tollgate portal` "
            "on the same store, or nothing is sent"
        )
