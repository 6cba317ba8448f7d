"""From settings to the frozen values that the rooms take: endpoint, call core, number plan, groups.

Pure functions, but that the kernel is asked which socket a host is reached from. Names of hosts are looked up
elsewhere and come in as a function (`Lookup`), so that the same settings give new flows when an address has
changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

from proxy.call.code_guard import GuessingRules
from proxy.call.config import (
    CallerIdPolicy,
    CodeMode,
    DidRoute,
    DigitForm,
    GateConfig,
    IdentityHeader,
    Peer,
    PrivacyPolicy,
    Reliability,
    Side,
    SubscriptionConfig,
    Trunk,
    Watching,
)
from proxy.call.headers import XHeaders
from proxy.call.identity import peer_networks
from proxy.call.password_guard import BanRules
from proxy.call.ports import Latching
from proxy.errors import ConfigurationError
from proxy.media.embedded import EmbeddedConfig
from proxy.media.prompts import CODECS
from proxy.net.addresses import addresses_of_machine, source_address
from proxy.net.driver import Listener
from proxy.net.resolver import DNS_PORT, HostName, Resolver, client_of, is_literal
from proxy.net.tcp import TcpLimits
from proxy.net.tls import ClientCertificates, TlsConfig
from proxy.policy import (
    ClassOfService,
    ClassOverride,
    NumberPattern,
    NumberPlan,
    TrunkNumberFormat,
    UserGroup,
    parse_patterns,
)
from proxy.sdp import OwnSockets, SrtpPolicy
from proxy.settings import Address, PeerSettings, Settings, TrunkSettings
from proxy.settings_sides import SubscriptionSettings, TrunkAccountSettings
from proxy.sip.config import ALLOW, PHONE_METHODS, SUPPORTED, EndpointConfig
from proxy.sip.digest_client import DigestAccount
from proxy.sip.flow import DEFAULT_PORTS, Flow, ListenPoint
from proxy.sip.headers import canonical_name
from proxy.sip.inside import Inside
from proxy.sip.large import LargeRequests
from proxy.sip.parser import ParserLimits
from proxy.sip.reachability import is_within, networks_of
from proxy.sip.registration import RegistrarConfig
from proxy.sip.routing import Lookup as PeerLookup
from proxy.sip.routing import Target, nothing_known
from proxy.sip.subscription import Interval

__all__ = [
    "Lookup",
    "ban_rules",
    "endpoint_config",
    "gate_config",
    "groups",
    "host_names",
    "listeners",
    "media_config",
    "number_plan",
    "portal_tls_config",
    "prompt_codecs",
    "registrar_config",
    "resolver",
    "tcp_limits",
    "tls_config",
    "tls_names",
    "trusted_networks",
]

logger = logging.getLogger(__name__)

Lookup = Callable[[HostName], Sequence[Target]]
"""Targets of a host name, in order; empty while it is unknown."""


def listeners(settings: Settings) -> list[Listener]:
    """Return the sockets to open, in the order of their listener numbers."""
    return [Listener(address.transport, address.host, _port(address)) for address in settings.sip.listen]


def resolver(settings: Settings) -> Resolver:
    """Return who looks names up."""
    servers = [(server.host, server.port or DNS_PORT) for server in settings.sip.nameservers]
    return Resolver(client_of(servers), supported=_transports(settings))


def tcp_limits(settings: Settings) -> TcpLimits:
    """Return what TCP connections may cost."""
    tcp = settings.sip.tcp
    return TcpLimits(
        connections=tcp.connections,
        connections_per_source=tcp.connections_per_source,
        idle=tcp.idle_timeout,
        message=tcp.message_timeout,
        connect=tcp.connect_timeout,
        message_size=settings.limits.message_size,
        handshake=settings.sip.tls.handshake_timeout,
        handshakes=settings.sip.tls.handshakes,
    )


def tls_config(settings: Settings) -> TlsConfig | None:
    """Return the files of TLS, or None where no listen point needs it."""
    tls = settings.sip.tls
    if not tls.certificate:
        return None
    return TlsConfig(
        certificate=Path(tls.certificate),
        key=Path(tls.key) if tls.key else None,
        ca=Path(tls.ca) if tls.ca else None,
        clients=ClientCertificates(tls.verify_client),
        wildcards=tls.wildcards,
    )


def portal_tls_config(settings: Settings) -> TlsConfig | None:
    """Return the portal's own files of TLS, or None where it has none."""
    portal = settings.portal
    if not portal.certificate:
        return None
    key = Path(portal.key) if portal.key else None
    return TlsConfig(Path(portal.certificate), key, clients=ClientCertificates.NONE, section="portal")


def tls_names(settings: Settings, lookup: Lookup) -> dict[tuple[str, int], str]:
    """Return what the certificate at each configured TLS destination must name (RFC 5922 §7.3): the name
    that the configuration gives, never one that DNS led to.
    """
    wanted = [
        (address, trunk.tls_name, trunk.host) for trunk in settings.trunks for address in trunk.addresses
    ]
    wanted += [(peer.address, peer.tls_name, "") for peer in settings.peers if peer.address is not None]
    names: dict[tuple[str, int], str] = {}
    for address, name, host in wanted:
        if address.transport in {"TLS", "SIP", "SIPS"}:
            domain = host if is_literal(address.host) and host and not is_literal(host) else address.host
            for flow in _flows(settings, address, lookup):
                if flow.transport == "TLS":
                    names[flow.remote_host, flow.remote_port] = name or domain
    return names


def endpoint_config(
    settings: Settings,
    bound: Sequence[tuple[str, int]],
    peer_names: PeerLookup = nothing_known,
    *,
    machine: Collection[str] = (),
) -> EndpointConfig:
    """Return the endpoint's settings; ``bound`` says which port each socket really has, ``machine`` which
    addresses one has that listens at all of them."""
    advertised = {ip_address(host).version: host for host in settings.sip.advertised}
    points = [
        ListenPoint(
            address.transport,
            advertised.get(ip_address(host).version, host),
            port,
            alias=settings.sip.tcp.alias and address.transport != "UDP",
            bound=_bound(host, machine),
            own=host,
        )
        for address, (host, port) in zip(settings.sip.listen, bound, strict=True)
    ]
    timers = settings.timers
    return EndpointConfig(
        listen_points=tuple(points),
        inside=Inside(settings.sip.inside, source_address),
        t1=timers.t1,
        t2=timers.t2,
        t4=timers.t4,
        allow=(*ALLOW, *PHONE_METHODS) if settings.phones.enabled else ALLOW,
        supported=SUPPORTED,
        user_agent=settings.sip.user_agent,
        min_se=timers.min_se,
        limits=ParserLimits(settings.limits.message_size, settings.limits.header_lines),
        invites_to_tu=True,
        lookup=peer_names,
    )


def _bound(host: str, machine: Collection[str]) -> tuple[str, ...]:
    own = ip_address(host)
    if not own.is_unspecified:
        return (host,)
    return tuple(one for one in machine if ip_address(one).version == own.version)


def registrar_config(settings: Settings) -> RegistrarConfig:
    """Return the registrar's limits."""
    limits = settings.registrar
    return RegistrarConfig(
        default_expires=limits.default_expires,
        min_expires=limits.min_expires,
        max_expires=limits.max_expires,
        max_contacts=limits.max_contacts,
        max_bindings=limits.max_bindings,
        flow_timer=limits.flow_timer,
        path_needs_support=limits.path_needs_support,
    )


def media_config(settings: Settings) -> EmbeddedConfig:
    """Return how the media engine is set up."""
    media = settings.media
    return EmbeddedConfig(
        address=media.address,
        address_ipv6=media.address_ipv6,
        advertised_address=media.advertised_address,
        advertised_address_ipv6=media.advertised_address_ipv6,
        port_range=media.port_range,
        emergency_ports=media.emergency_ports,
        threads=media.threads,
        inactivity_timeout=media.inactivity_timeout,
    )


def prompt_codecs(settings: Settings) -> tuple[str, ...]:
    """Return the codecs in which prompts can be needed: a caller hears them in one that the callee takes
    too.
    """
    callers = [set(peer.codecs) for peer in settings.peers]
    callers += [set(trunk.codecs) for trunk in settings.trunks if trunk.inbound]
    if settings.phones.enabled:
        callers.append(set(settings.phones.codecs))
    callees = [set(trunk.codecs) for trunk in settings.trunks]
    callees += [set(peer.codecs) for peer in settings.peers if peer.address is not None]
    if settings.phones.enabled:
        callees.append(set(settings.phones.codecs))
    shared = {codec for caller in callers for callee in callees for codec in caller & callee}
    return tuple(codec for codec in CODECS if codec in shared or codec in {"PCMU", "PCMA"})


def number_plan(settings: Settings) -> NumberPlan:
    """Return the number plan. Raises ConfigurationError that names the setting."""
    plan = settings.number_plan
    overrides = []
    for index, entry in enumerate(plan.classes):
        try:
            overrides.append(ClassOverride(NumberPattern(entry.pattern), entry.call_class))
        except ConfigurationError as error:
            raise ConfigurationError(f"number_plan.classes[{index}]: {error}") from None
    try:
        extensions = parse_patterns(plan.extensions)
    except ConfigurationError as error:
        raise ConfigurationError(f"number_plan.extensions: {error}") from None
    return NumberPlan(
        country=plan.country,
        area_codes=plan.area_codes,
        outside_prefix=plan.outside_prefix,
        extensions=extensions,
        emergency_numbers=frozenset(plan.emergency_numbers),
        sos_number=plan.sos_number,
        international_prefix=plan.international_prefix,
        home_regions=frozenset(plan.home_regions),
        overrides=tuple(overrides),
    )


def groups(settings: Settings) -> list[UserGroup]:
    """Return the groups that the file names. Raises ConfigurationError."""
    return [
        UserGroup(
            group.name,
            permissions=ClassOfService(frozenset(group.permissions)),
            collection=group.collection,
            unlock=ClassOfService(frozenset(group.unlock)),
            edited=group.treatments,
        )
        for group in settings.groups
    ]


def host_names(settings: Settings) -> list[HostName]:
    """Return the names that are to be looked up before and while calls are placed."""
    addresses = [address for trunk in settings.trunks for address in trunk.addresses]
    addresses += [peer.address for peer in settings.peers if peer.address is not None]
    return [_host_name(address) for address in addresses if not is_literal(address.host)]


def gate_config(settings: Settings, bound: Sequence[tuple[str, int]], lookup: Lookup) -> GateConfig:
    """Return what the call core is to know."""
    timers = settings.timers
    own = {host for host, _ in bound} | set(settings.sip.advertised)
    peers = [_peer(settings, peer, lookup) for peer in settings.peers]
    peers += [_trunk_side(settings, trunk, lookup) for trunk in settings.trunks if trunk.inbound]
    return GateConfig(
        peers=tuple(peers),
        trunks=tuple(_trunk(settings, trunk, lookup) for trunk in settings.trunks),
        did_routes=tuple(DidRoute(route.prefix, route.peer, route.user) for route in settings.did_routes),
        local_domains=tuple(name.lower() for name in (*settings.sip.local_domains, *sorted(own))),
        own_sockets=_own_sockets(settings, bound),
        site=settings.site,
        callback=settings.notify.callback,
        realm=settings.auth.realm,
        phones=_phones(settings) if settings.phones.enabled else None,
        local_networks=settings.local_networks,
        max_calls=settings.limits.max_calls,
        emergency_response_timeout=timers.emergency_response_timeout,
        phone_response_timeout=settings.phones.response_timeout,
        phone_ring_time=settings.phones.ring_time,
        ring_timeout=timers.ring_timeout,
        subscriptions=_subscriptions(settings.subscriptions),
        mailboxes=settings.subscriptions.mailboxes,
        early_gate_bound=timers.early_gate_bound,
        early_repeat=timers.early_repeat,
        max_duration=timers.max_duration,
        session_expires=timers.session_expires,
        min_se=timers.min_se,
        silence_window=settings.media.inactivity_timeout,
        guessing=_guessing(settings),
    )


def _own_sockets(settings: Settings, bound: Sequence[tuple[str, int]]) -> OwnSockets:
    """Return where SIP over UDP comes to the gate: at its sockets, and at what it says they are."""
    machine = addresses_of_machine()
    sockets = []
    for address, (own, port) in zip(settings.sip.listen, bound, strict=True):
        if address.transport != "UDP":
            continue
        for host in (own, *settings.sip.advertised):
            # All of 127.0.0.0/8 is this machine, of which it lists one.
            every = ("127.0.0.0/8",) if host == "0.0.0.0" else ()  # noqa: S104  (compared, not bound)
            sockets += [(ip_network(one.partition("%")[0]), port) for one in (*_bound(host, machine), *every)]
    return OwnSockets(tuple(dict.fromkeys(sockets)))


def _guessing(settings: Settings) -> GuessingRules:
    guessing = settings.guessing
    return GuessingRules(
        wrong_codes=guessing.wrong_codes,
        window=guessing.window,
        lock=guessing.lock,
        many_wrong_codes=guessing.many_wrong_codes,
        many_callers=guessing.many_callers,
        slow_prompt=guessing.slow_prompt,
        shared_numbers=frozenset(guessing.shared_numbers),
        nameless_wrong_codes=guessing.nameless_wrong_codes,
        peer_wrong_codes=guessing.peer_wrong_codes,
        wider_window=guessing.wider_window,
    )


def ban_rules(settings: Settings) -> BanRules:
    """Return what counts as guessing a phone's password."""
    guessing = settings.guessing
    return BanRules(guessing.wrong_passwords, guessing.password_window, guessing.ban)


def _subscriptions(settings: SubscriptionSettings) -> SubscriptionConfig:
    return SubscriptionConfig(
        interval=Interval(settings.default_expires, settings.min_expires, settings.max_expires),
        watching=Watching(settings.watching),
        max_per_user=settings.max_per_user,
        max_subscriptions=settings.max_subscriptions,
        max_dialogs=settings.max_dialogs,
        notify_interval=settings.notify_interval,
        show_remote=settings.show_remote,
    )


def trusted_networks(config: GateConfig) -> Callable[[str], bool]:
    """Return a function that tells whether an address is that of a peer or trunk."""
    networks = peer_networks(config)
    return lambda host: is_within(host, networks)


def _peer(settings: Settings, peer: PeerSettings, lookup: Lookup) -> Peer:
    addresses = () if peer.address is None else (peer.address,)
    flows, shares = _destinations(settings, addresses, lookup)
    return Peer(
        name=peer.name,
        side=Side.PBX,
        networks=peer.networks,
        certificate_names=tuple(name.lower() for name in peer.certificate_names),
        flow=flows[0] if flows else None,
        further_flows=flows[1:],
        shares=shares,
        # Each of several servers knows the name that is theirs together; another one's address it need not.
        host=peer.address.host if peer.address is not None and len(flows) > 1 else "",
        default_group=peer.default_group,
        trusted=peer.trusted,
        code_mode=CodeMode(peer.code_mode),
        pass_refer=peer.pass_refer,
        latching=Latching(peer.latching),
        srtp=SrtpPolicy(peer.srtp),
        codecs=peer.codecs,
        drop_headers=_names(peer.drop_headers),
        x_headers=XHeaders.of(settings.sip.x_headers),
        large_requests=LargeRequests(peer.large_requests),
        reliable=Reliability(peer.reliable),
        digits=DigitForm(peer.digits),
        probe_interval=peer.probe_interval,
    )


def _names(headers: Sequence[str]) -> frozenset[str]:
    return frozenset(map(canonical_name, headers))


def _phones(settings: Settings) -> Peer:
    phones = settings.phones
    return Peer(
        name="phones",
        side=Side.PHONES,
        default_group=phones.default_group,
        trusted=False,
        code_mode=CodeMode(phones.code_mode),
        latching=Latching(phones.latching),
        srtp=SrtpPolicy(phones.srtp),
        codecs=phones.codecs,
        x_headers=XHeaders.of(settings.sip.x_headers),
        large_requests=LargeRequests.UDP,
        reliable=Reliability(phones.reliable),
        digits=DigitForm(phones.digits),
    )


def _trunk_side(settings: Settings, trunk: TrunkSettings, lookup: Lookup) -> Peer:
    """Return the trunk as a caller: its addresses, and the networks that are named for it."""
    own = networks_of(_destinations(settings, trunk.addresses, lookup)[0])
    return Peer(
        name=trunk.name,
        side=Side.TRUNK,
        allow_refer=trunk.allow_refer,
        auto_answer=trunk.auto_answer,
        networks=trunk.networks if trunk.certificate_names else tuple(dict.fromkeys((*own, *trunk.networks))),
        certificate_names=tuple(name.lower() for name in trunk.certificate_names),
        trusted=trunk.trusted,
        latching=Latching(trunk.latching),
        srtp=SrtpPolicy(trunk.srtp),
        codecs=trunk.codecs,
        drop_headers=_names(trunk.drop_headers),
        x_headers=XHeaders.of(settings.sip.x_headers),
        large_requests=LargeRequests(trunk.large_requests),
        reliable=Reliability(trunk.reliable),
        digits=DigitForm(trunk.digits),
    )


def _trunk(settings: Settings, trunk: TrunkSettings, lookup: Lookup) -> Trunk:
    form, account = trunk.number_format, trunk.account
    flows, shares = _destinations(settings, trunk.addresses, lookup)
    return Trunk(
        name=trunk.name,
        flows=flows,
        shares=shares,
        host=trunk.host or trunk.addresses[0].host,
        codecs=trunk.codecs,
        orders_codecs=trunk.codec_order == "trunk",
        number_format=TrunkNumberFormat(form.style, form.national_prefix, form.strip, form.prepend),
        caller_id=CallerIdPolicy(trunk.caller_id),
        fixed_caller_number=trunk.fixed_caller_number,
        user_phone=trunk.user_phone,
        allow_refer=trunk.allow_refer,
        from_host=trunk.from_host,
        identity_header=IdentityHeader(trunk.identity_header),
        privacy=PrivacyPolicy(trunk.privacy),
        drop_headers=_names(trunk.drop_headers),
        large_requests=LargeRequests(trunk.large_requests),
        reliable=Reliability(trunk.reliable),
        digits=DigitForm(trunk.digits),
        trusted=trunk.trusted,
        latching=Latching(trunk.latching),
        srtp=SrtpPolicy(trunk.srtp),
        emergency_calls=trunk.emergency_calls,
        max_calls=trunk.max_calls,
        priority=trunk.priority,
        weight=trunk.weight,
        account=None if account is None else _account(account),
        register=trunk.register_here,
        register_expires=trunk.register_expires,
        probe_interval=trunk.probe_interval,
        response_timeout=trunk.response_timeout,
        progress_timeout=trunk.progress_timeout,
    )


def _account(account: TrunkAccountSettings) -> DigestAccount:
    password = account.password.get_secret_value()
    return DigestAccount(account.username, password, account.realm, account.own_user)


def _port(address: Address) -> int:
    return DEFAULT_PORTS[address.socket_transport] if address.port is None else address.port


def _transports(settings: Settings) -> tuple[str, ...]:
    """Return the transports of the gate's sockets, the safest first: what DNS may choose from."""
    own = {address.transport for address in settings.sip.listen}
    return tuple(name for name in ("TLS", "TCP", "UDP") if name in own)


def _host_name(address: Address) -> HostName:
    return HostName(address.host, address.port, address.transport)


def _flows(settings: Settings, address: Address, lookup: Lookup) -> tuple[Flow, ...]:
    """Return the ways to an address."""
    return _destinations(settings, (address,), lookup)[0]


def _destinations(
    settings: Settings, addresses: Sequence[Address], lookup: Lookup
) -> tuple[tuple[Flow, ...], tuple[tuple[int, int], ...]]:
    """Return the ways to these addresses, each over an own socket of its transport and IP version, and which
    of them share the calls: a group and a weight for each, nothing where none does."""
    ways: dict[Flow, tuple[int, int]] = {}
    for number, address in enumerate(addresses):
        for target in _targets(address, lookup):
            transport, host, port, group, weight = target
            listener = _listener_for(settings, transport, host)
            if listener is None:
                logger.warning(
                    "no own %s socket of the IP version of %s: add one to sip.listen", transport, host
                )
            else:
                # Two names of one trunk share nothing: one is tried after the other.
                group = group and (number << 16) + group
                ways.setdefault(Flow(transport, host, port, listener, 0), (group, weight))
    shared = any(weight for _, weight in ways.values())
    return tuple(ways), tuple(ways.values()) if shared else ()


def _targets(address: Address, lookup: Lookup) -> Sequence[Target]:
    if is_literal(address.host):
        return (Target(address.socket_transport, address.host, _port(address)),)
    return lookup(_host_name(address))


def _listener_for(settings: Settings, transport: str, host: str) -> int | None:
    """Return the first socket that fits; of several that at the address which this machine sends from to
    the host."""
    version = ip_address(host.partition("%")[0]).version
    fitting = {
        index: str(ip_address(own.host.partition("%")[0]))
        for index, own in enumerate(settings.sip.listen)
        if own.transport == transport and ip_address(own.host.partition("%")[0]).version == version
    }
    source = source_address(host) if len(fitting) > 1 else ""
    return next((index for index, own in fitting.items() if own == source), next(iter(fitting), None))
