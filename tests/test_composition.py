"""Settings become the values of the rooms; names become flows."""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path

import pytest

from proxy import composition
from proxy.call.config import (
    CallerIdPolicy,
    CodeMode,
    DigitForm,
    IdentityHeader,
    PrivacyPolicy,
    Reliability,
    Side,
    Watching,
)
from proxy.call.ports import Latching
from proxy.call.routing import RouteTable, as_trunk
from proxy.errors import ConfigurationError
from proxy.net.resolver import HostName
from proxy.settings import Address, Settings, load_settings
from proxy.sip.flow import Flow
from proxy.sip.large import LargeRequests
from proxy.sip.parser import ParserLimits
from proxy.sip.routing import Target
from proxy.sip.subscription import Interval
from tests.support.dns_server import running_dns_server

BOUND = [("192.0.2.20", 5060), ("2001:db8::20", 5060), ("192.0.2.20", 5062)]

TEXT = """
auth.realm = "example.com"
site = "Main site"
local_networks = ["192.0.2.0/24"]
sip.listen = ["udp:192.0.2.20", "udp:[2001:db8::20]:5060", "tcp:192.0.2.20:5062"]
sip.advertised = ["203.0.113.7"]
sip.local_domains = ["Gate.Example.com"]
sip.user_agent = "Gate"
sip.x_headers = ["X-CRM-*"]
timers = { t1 = 0.25, ring_timeout = 30, max_duration = 3600, session_expires = 900, min_se = 120 }
did_routes = [{ prefix = "1415", peer = "pbx" }]

[[peers]]
name = "pbx"
networks = ["192.0.2.10", "2001:db8:1::/48"]
address = "tcp:pbx.example.com:5070"
default_group = "callers"
code_mode = "early"
latching = "learning"
drop_headers = ["alert-info"]
large_requests = "udp"
reliable = "off"
digits = "info"
probe_interval = 20
codecs = ["pcma"]

[[trunks]]
name = "first"
addresses = ["udp:sip.carrier.example", "udp:198.51.100.2"]
networks = ["198.51.100.0/28"]
caller_id = "fixed"
fixed_caller_number = "+14155550100"
number_format = { style = "national", national_prefix = false, strip = 1, prepend = "8" }
max_calls = 5
emergency_calls = 2
identity_header = "preferred"
codec_order = "trunk"
privacy = "header"
from_host = "gate.example.com"
drop_headers = ["y", "diversion"]
large_requests = "tcp"
reliable = "required"
digits = "rfc4733"

[[trunks]]
name = "second"
addresses = ["udp:[2001:db8:2::1]:5080"]
host = "carrier.example"
inbound = false
"""

NAMES = {
    HostName("sip.carrier.example", None, "UDP"): (
        Target("UDP", "198.51.100.1", 5066),
        Target("UDP", "2001:db8:3::1", 5066),
    ),
    HostName("pbx.example.com", 5070, "TCP"): (Target("TCP", "192.0.2.11", 5070),),
}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in list(os.environ):
        if name.upper().startswith("TOLLGATE_"):
            monkeypatch.delenv(name)
    file = tmp_path / "gate.toml"
    file.write_text(TEXT)
    return load_settings(file)


def test_names_are_collected_for_looking_up(settings: Settings) -> None:
    assert set(composition.host_names(settings)) == set(NAMES)


def test_flows_go_over_the_socket_of_their_transport_and_ip_version(settings: Settings) -> None:
    gate = composition.gate_config(settings, BOUND, lambda name: NAMES[name])
    first, second = gate.trunks
    assert first.flows == (
        Flow("UDP", "198.51.100.1", 5066, 0),
        Flow("UDP", "2001:db8:3::1", 5066, 1),
        Flow("UDP", "198.51.100.2", 5060, 0),
    )
    assert (first.host, second.host) == ("sip.carrier.example", "carrier.example")
    assert second.flows == (Flow("UDP", "2001:db8:2::1", 5080, 1),)
    pbx = as_trunk(gate.peers[0])
    assert (pbx.flows, pbx.host) == ((Flow("TCP", "192.0.2.11", 5070, 2),), "192.0.2.11:5070")


def test_rfc3263_4_2_a_pbx_may_have_several_servers(settings: Settings) -> None:
    targets = (Target("TCP", "192.0.2.11", 5070, 1, 10), Target("TCP", "192.0.2.12", 5072, 1, 20))
    gate = composition.gate_config(settings, BOUND, lambda _name: targets)
    pbx = as_trunk(gate.peers[0])
    assert [flow.remote_host for flow in pbx.flows] == ["192.0.2.11", "192.0.2.12"]
    assert [weight for _, weight in pbx.shares] == [10, 20]
    assert pbx.host == "pbx.example.com", "the name of both"


def test_rfc2782_what_dns_shares_is_kept_apart_name_by_name(settings: Settings) -> None:
    names = {HostName("sip.carrier.example", None, "UDP"): _sharing("198.51.100.1", "198.51.100.9")}
    names[HostName("other.example", None, "UDP")] = _sharing("198.51.100.1", "198.51.100.3", "198.51.100.4")
    addresses = (*settings.trunks[0].addresses, Address("UDP", "other.example", None))
    trunk = settings.trunks[0].model_copy(update={"addresses": addresses})
    two = settings.model_copy(update={"trunks": (trunk, settings.trunks[1])})
    first, second = composition.gate_config(two, BOUND, lambda name: names.get(name, ())).trunks
    assert [flow.remote_host[-1] for flow in first.flows] == ["1", "9", "2", "3", "4"]
    groups = [group for group, _ in first.shares]
    assert groups[0] == groups[1]
    assert groups[3] == groups[4]
    assert len(set(groups)) == 3
    assert second.shares == ()


def _sharing(*hosts: str) -> tuple[Target, ...]:
    return tuple(Target("UDP", host, 5060, 1, 10) for host in hosts)


async def test_names_are_looked_up_at_the_servers_that_are_named(settings: Settings) -> None:
    async with running_dns_server() as (server, _):
        server.zone["_sip._tcp.carrier.invalid", "SRV"] = (60, ["0 0 5070 a.invalid."])
        server.zone["a.invalid", "A"] = (60, ["192.0.2.7"])
        sip = settings.sip.model_copy(update={"nameservers": (Address("UDP", "127.0.0.1", server.port),)})
        resolver = composition.resolver(settings.model_copy(update={"sip": sip}))
        found = await resolver.resolve(HostName("carrier.invalid", None, "SIP"))
    assert found is not None
    assert found.targets == (Target("TCP", "192.0.2.7", 5070),)


def test_a_name_without_address_leaves_its_peer_unreachable_for_now(settings: Settings) -> None:
    gate = composition.gate_config(settings, BOUND, lambda _name: ())
    assert gate.peers[0].flow is None
    assert gate.trunks[0].flows == (Flow("UDP", "198.51.100.2", 5060, 0),)


def test_an_ip_version_without_socket_is_said(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    sip = settings.sip.model_copy(update={"listen": settings.sip.listen[:1]})
    gate = composition.gate_config(settings.model_copy(update={"sip": sip}), BOUND[:1], lambda _name: ())
    assert gate.trunks[1].flows == ()
    assert "2001:db8:2::1" in caplog.text


def test_peers_and_trunks_carry_their_settings(settings: Settings) -> None:
    gate = composition.gate_config(settings, BOUND, lambda name: NAMES[name])
    pbx, carrier = gate.peers
    assert (pbx.side, pbx.code_mode, pbx.latching) == (Side.PBX, CodeMode.EARLY, Latching.LEARNING)
    assert (pbx.codecs, pbx.default_group) == (("PCMA",), "callers")
    assert as_trunk(pbx).probe_interval == 20.0
    assert (carrier.side, carrier.name) == (Side.TRUNK, "first")
    assert {str(network) for network in carrier.networks} == {
        "198.51.100.1/32",
        "198.51.100.2/32",
        "2001:db8:3::1/128",
        "198.51.100.0/28",
    }
    trunk = gate.trunks[0]
    assert (trunk.caller_id, trunk.fixed_caller_number, trunk.max_calls, trunk.room) == (
        CallerIdPolicy.FIXED,
        "+14155550100",
        5,
        3,
    )
    form = trunk.number_format
    assert (form.style.value, form.national_prefix, form.strip, form.prepend) == ("national", False, 1, "8")
    assert gate.phones is not None
    assert not gate.phones.trusted
    assert (gate.realm, gate.ring_timeout, gate.max_duration) == ("example.com", 30, 3600)
    assert (gate.session_expires, gate.min_se) == (900, 120)
    assert composition.endpoint_config(settings, BOUND).min_se == 120
    assert gate.site == "Main site"
    assert gate.local_domains[0] == "gate.example.com"
    assert "203.0.113.7" in gate.local_domains
    assert [route.prefix for route in gate.did_routes] == ["1415"]


def test_what_is_said_about_callers_and_how(settings: Settings) -> None:
    gate = composition.gate_config(settings, BOUND, lambda name: NAMES[name])
    pbx, carrier = gate.peers
    first, second = gate.trunks
    assert (first.identity_header, first.privacy) == (IdentityHeader.PREFERRED, PrivacyPolicy.HEADER)
    assert (second.identity_header, second.privacy) == (IdentityHeader.ASSERTED, PrivacyPolicy.ANONYMOUS)
    assert (first.orders_codecs, second.orders_codecs) == (True, False)
    assert (first.from_host, second.from_host) == ("gate.example.com", "")
    assert first.drop_headers == carrier.drop_headers == {"Identity", "Diversion"}
    assert pbx.drop_headers == {"Alert-Info"}
    assert first.large_requests is carrier.large_requests is LargeRequests.TCP
    assert (second.large_requests, pbx.large_requests) == (LargeRequests.TCP_FIRST, LargeRequests.UDP)
    assert gate.phones is not None
    assert gate.phones.large_requests is LargeRequests.UDP
    for side in (pbx, carrier, gate.phones):
        assert side.x_headers.allow("x-crm-id")
        assert not side.x_headers.allow("X-Other")


def test_how_provisional_responses_and_keys_are_exchanged(settings: Settings) -> None:
    gate = composition.gate_config(settings, BOUND, lambda name: NAMES[name])
    pbx, carrier = gate.peers
    first, second = gate.trunks
    assert gate.phones is not None
    line = RouteTable(gate).line
    assert line is not None
    assert (pbx.reliable, pbx.digits) == (Reliability.OFF, DigitForm.INFO)
    assert (as_trunk(pbx).reliable, as_trunk(pbx).digits) == (Reliability.OFF, DigitForm.INFO)
    for side in (first, carrier):
        assert (side.reliable, side.digits) == (Reliability.REQUIRED, DigitForm.EVENTS)
    for side in (second, gate.phones, line):
        assert (side.reliable, side.digits) == (Reliability.SUPPORTED, DigitForm.AUTO)


def test_numbers_that_many_share_reach_the_guard(settings: Settings) -> None:
    shared = settings.model_copy(
        update={"guessing": settings.guessing.model_copy(update={"shared_numbers": ("+14155550100",)})}
    )
    gate = composition.gate_config(shared, BOUND, lambda name: NAMES[name])
    assert gate.guessing.shared_numbers == {"+14155550100"}


def test_only_configured_sources_are_trusted(settings: Settings) -> None:
    trusts = composition.trusted_networks(composition.gate_config(settings, BOUND, lambda name: NAMES[name]))
    assert trusts("192.0.2.10")
    assert trusts("2001:db8:1::5")
    assert not trusts("192.0.2.12")
    assert not trusts("fe80::1%eth0")
    assert not trusts("not an address")


def test_via_and_contact_say_the_advertised_address(settings: Settings) -> None:
    config = composition.endpoint_config(settings, BOUND)
    assert [(point.transport, point.host, point.port) for point in config.listen_points] == [
        ("UDP", "203.0.113.7", 5060),
        ("UDP", "2001:db8::20", 5060),
        ("TCP", "203.0.113.7", 5062),
    ]
    assert (config.t1, config.user_agent) == (0.25, "Gate")


def test_the_gate_knows_the_addresses_behind_the_advertised_ones(settings: Settings) -> None:
    machine = ("127.0.0.1", "192.0.2.20", "::1")
    bound = [("0.0.0.0", 5060), ("::", 5060), ("192.0.2.20", 5062)]
    points = composition.endpoint_config(settings, bound, machine=machine).listen_points
    assert [point.bound for point in points] == [machine[:2], machine[2:], ("192.0.2.20",)]


def test_who_is_inside_is_told_the_sockets_own_addresses(settings: Settings) -> None:
    assert not composition.endpoint_config(settings, BOUND).inside.networks, "nobody, unless it is set"
    sip = settings.sip.model_copy(update={"inside": (ip_network("192.0.2.0/24"),)})
    config = composition.endpoint_config(settings.model_copy(update={"sip": sip}), BOUND)
    assert config.point(Flow("UDP", "192.0.2.10", 5060)).sent_by == "192.0.2.20:5060"
    assert config.point(Flow("UDP", "198.51.100.1", 5060)).sent_by == "203.0.113.7:5060"
    wildcard = composition.endpoint_config(
        settings.model_copy(update={"sip": sip.model_copy(update={"inside": (ip_network("127.0.0.0/8"),)})}),
        [("0.0.0.0", 5060), *BOUND[1:]],
    )
    assert wildcard.point(Flow("UDP", "127.0.0.2", 5060)).sent_by == "127.0.0.1:5060"


def test_of_two_sockets_a_peer_gets_calls_from_the_one_that_routes_lead_from(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    beyond, beside = Address("UDP", "198.51.100.20", 5060), Address("UDP", "192.0.2.20", 5060)
    sip = settings.sip.model_copy(update={"listen": (beyond, beside)})
    trunks = tuple(
        settings.trunks[0].model_copy(update={"name": host, "addresses": (Address("UDP", host, 5060),)})
        for host in ("192.0.2.10", "198.51.100.1", "203.0.113.9")
    )
    routes = {"192.0.2.10": "192.0.2.20", "198.51.100.1": "198.51.100.20", "203.0.113.9": ""}
    monkeypatch.setattr(composition, "source_address", routes.__getitem__)
    two = settings.model_copy(update={"sip": sip, "trunks": trunks, "peers": ()})
    gate = composition.gate_config(two, [("198.51.100.20", 5060), ("192.0.2.20", 5060)], lambda _name: ())
    assert [trunk.flows[0].listener for trunk in gate.trunks] == [1, 0, 0]


def test_limits_reach_sockets_and_parser(settings: Settings) -> None:
    limits = settings.limits.model_copy(update={"message_size": 8_000, "header_lines": 100})
    settings = settings.model_copy(update={"limits": limits})
    assert composition.endpoint_config(settings, BOUND).limits == ParserLimits(8_000, 100)
    assert composition.tcp_limits(settings).message_size == 8_000


def test_prompts_are_encoded_for_codecs_that_both_sides_take(settings: Settings) -> None:
    assert composition.prompt_codecs(settings) == ("PCMU", "PCMA", "G722", "OPUS"), "phones call phones"
    no_phones = settings.phones.model_copy(update={"enabled": False})
    settings = settings.model_copy(update={"phones": no_phones})
    assert composition.prompt_codecs(settings) == ("PCMU", "PCMA")
    wide = settings.trunks[0].model_copy(update={"codecs": ("G722",)})
    assert composition.prompt_codecs(settings.model_copy(update={"trunks": (wide,)})) == (
        "PCMU",
        "PCMA",
        "G722",
    )


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        ({"classes": [{"pattern": "(", "class": "premium"}]}, r"number_plan\.classes\[0\]"),
        ({"classes": [{"pattern": "911", "class": "emergency"}]}, r"number_plan\.classes\[0\]"),
        ({"extensions": ["(("]}, r"number_plan\.extensions"),
        ({"country": "XX"}, "country"),
    ],
)
def test_a_bad_number_plan_is_named(settings: Settings, update: dict[str, object], expected: str) -> None:
    plan = type(settings.number_plan).model_validate(update)
    with pytest.raises(ConfigurationError, match=expected):
        composition.number_plan(settings.model_copy(update={"number_plan": plan}))


def test_a_gate_with_phones_takes_register(settings: Settings) -> None:
    assert {"REGISTER", "SUBSCRIBE", "NOTIFY"} < {*composition.endpoint_config(settings, BOUND).allow}
    no_phones = settings.phones.model_copy(update={"enabled": False})
    settings = settings.model_copy(update={"phones": no_phones})
    assert "REGISTER" not in composition.endpoint_config(settings, BOUND).allow


def test_subscriptions_reach_the_gate(settings: Settings) -> None:
    given = settings.subscriptions.model_copy(
        update={
            "watching": "group",
            "mailboxes": "pbx",
            "min_expires": 30,
            "max_per_user": 7,
            "show_remote": True,
        }
    )
    settings = settings.model_copy(update={"subscriptions": given})
    config = composition.gate_config(settings, BOUND, lambda name: [])
    assert config.mailboxes == "pbx"
    wanted = config.subscriptions
    assert (wanted.watching, wanted.interval) == (Watching.GROUP, Interval(3600, 30, 7200))
    assert (wanted.max_per_user, wanted.show_remote) == (7, True)
