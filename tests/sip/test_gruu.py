"""GRUUs: made, read, and told to phones (RFC 5627 §5; appendix A for the temporary ones)."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import RemoteProtocolError
from proxy.sip.bindings import Binding
from proxy.sip.flow import Flow
from proxy.sip.gruu import Gruu, Gruus
from proxy.sip.registration import Outcome, RegistrarConfig
from proxy.sip.uri import Uri
from tests.sip.registering import CONTACT, Bench, header, listed

INSTANCE = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
PHONE = f'{CONTACT};+sip.instance="<{INSTANCE}>"'
OTHER = '<sip:204@192.0.2.21>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000a95a0e128>"'
SUPPORTED = ("Supported: gruu",)
TCP = Flow("TCP", "192.0.2.20", 41000, 1, 5)
OUTBOUND = f'<sip:204@192.0.2.20;transport=tcp>;reg-id=1;+sip.instance="<{INSTANCE}>"'


def bench(config: RegistrarConfig | None = None) -> Bench:
    return Bench(config, gruus=Gruus(b"k" * 32))


def gruus_of(outcome: Outcome, at: int = 0) -> tuple[str, str]:
    """Return the public and the temporary GRUU of a Contact in the 200."""
    found = re.findall(r';(?:pub|temp)-gruu="([^"]*)"', listed(outcome)[at])
    assert len(found) == 2, listed(outcome)
    return found[0], found[1]


def read(here: Bench, uri: str) -> Gruu:
    found = here.registrar.gruu(Uri.parse(uri))
    assert found is not None
    return found


def named(here: Bench, uri: str) -> list[str]:
    """Return the contacts that a GRUU reaches."""
    gruu = read(here, uri)
    return [binding.contact for binding in here.registrar.bindings(gruu.user) if gruu.names(binding)]


def test_rfc5627_5_3_a_phone_that_knows_gruus_is_told_both() -> None:
    here = bench()
    public, temporary = gruus_of(here.register(PHONE, headers=SUPPORTED))
    assert public == f"sip:204@example.com;gr={INSTANCE}"
    assert re.fullmatch(r"sip:tgruu\.[a-z2-7]+@example\.com;gr", temporary)
    assert "204" not in temporary.partition("@")[0]
    assert header(here.register(PHONE, headers=("Require: gruu",)), "Contact")[0].count("gruu=") == 2


@pytest.mark.parametrize(
    ("contact", "headers"), [(PHONE, ()), (CONTACT, SUPPORTED), (f'{CONTACT};+sip.instance="x"', SUPPORTED)]
)
def test_rfc5627_5_1_no_other_gets_any(contact: str, headers: tuple[str, ...]) -> None:
    assert "gruu" not in listed(bench().register(contact, headers=headers))[0]


@pytest.mark.parametrize(
    ("via", "path"),
    [
        ("SIP/2.0/UDP 192.0.2.30;branch=z9hG4bK-e, SIP/2.0/UDP 192.0.2.20;branch=z9hG4bK-r", ()),
        ("SIP/2.0/UDP 192.0.2.30;branch=z9hG4bK-e", ("Path: <sip:192.0.2.30;lr>",)),
    ],
)
def test_nor_a_phone_behind_a_proxy_which_would_send_its_requests_back(
    via: str, path: tuple[str, ...]
) -> None:
    outcome = bench().register(PHONE, headers=("Supported: gruu, path", *path), via=via)
    assert "gruu" not in listed(outcome)[0]


def test_a_registrar_without_a_key_gives_none() -> None:
    here = Bench()
    assert "gruu" not in listed(here.register(PHONE, headers=SUPPORTED))[0]
    assert here.registrar.gruu(Uri.parse(f"sip:204@example.com;gr={INSTANCE}")) is None


def test_a_gruu_of_another_domain_is_none_of_this_gates() -> None:
    here = bench()
    public, temporary = gruus_of(here.register(PHONE, headers=SUPPORTED))
    for uri in (public, temporary):
        assert read(here, uri.replace("example.com", "EXAMPLE.com")) == read(here, uri)
        assert here.registrar.gruu(Uri.parse(uri.replace("example.com", "pbx.example.com"))) is None


def test_a_phone_asks_for_what_it_has() -> None:
    here = bench()
    told = here.register(PHONE, headers=SUPPORTED)
    assert gruus_of(here.register(headers=SUPPORTED)) == gruus_of(told)


def test_what_a_phone_says_of_gruus_is_not_kept() -> None:
    here = bench()
    forged = f'{PHONE};pub-gruu="sip:205@example.com;gr=x";temp-gruu="sip:y@z;gr"'
    public, _ = gruus_of(here.register(forged, headers=SUPPORTED))
    assert public.startswith("sip:204@")
    assert "gruu" not in here.registrar.bindings("204")[0].params


def test_each_gruu_reaches_its_own_phone() -> None:
    here = bench()
    here.register(PHONE, headers=SUPPORTED)
    told = here.register(OTHER, headers=SUPPORTED, call_id="r2")
    first, second = gruus_of(told, 0), gruus_of(told, 1)
    for gruu in first:
        assert named(here, gruu) == ["sip:204@192.0.2.20:5060"]
    for gruu in second:
        assert named(here, gruu) == ["sip:204@192.0.2.21"]
    assert len({*first, *second}) == 4


def test_rfc5627_5_1_every_refresh_gives_another_temporary_one_and_the_old_stays_good() -> None:
    here = bench()
    found = [gruus_of(here.register(PHONE, headers=SUPPORTED))[1] for _ in range(3)]
    assert len(set(found)) == 3
    assert all(named(here, gruu) for gruu in found)


def test_rfc5627_5_1_another_call_id_or_the_end_of_the_registration_ends_it() -> None:
    here = bench()
    public, temporary = gruus_of(here.register(PHONE, headers=SUPPORTED))
    here.register(PHONE, headers=SUPPORTED, call_id="another")
    assert named(here, temporary) == []
    assert named(here, public)
    here.register(PHONE, headers=SUPPORTED, call_id="another", expires="0")
    assert named(here, public) == []
    assert read(here, public).user == "204", "whose it is is still known"


def test_it_is_read_in_any_case_and_by_another_scheme() -> None:
    here = bench()
    _, temporary = gruus_of(here.register(PHONE, headers=SUPPORTED))
    user = temporary.removeprefix("sip:").partition("@")[0]
    assert named(here, f"sips:{user.upper()}@example.com;gr")


def test_another_key_reads_nothing() -> None:
    here = bench()
    _, temporary = gruus_of(here.register(PHONE, headers=SUPPORTED))
    found = Gruus(b"x" * 32).read(Uri.parse(temporary))
    assert found == Gruu("")
    assert not found.names(here.registrar.bindings("204")[0])


@pytest.mark.parametrize(
    "uri",
    [
        "sip:204@example.com;gr",
        "sip:tgruu.@example.com;gr",
        "sip:tgruu.aaaa@x;gr",
        "sip:tgruu.1!@x;gr",
        "sip:x;gr",
    ],
)
def test_what_was_not_made_here_names_nobody(uri: str) -> None:
    assert Gruus(b"k").read(Uri.parse(uri)) == Gruu("")


def test_other_uris_are_no_gruus() -> None:
    for uri in ("sip:204@example.com", "tel:+1555;gr", "urn:service:sos"):
        assert Gruus(b"k").read(Uri.parse(uri)) is None


@given(st.text(max_size=300))
def test_no_user_part_makes_it_fail(user: str) -> None:
    try:
        uri = Uri.parse(f"sip:{user}@example.com;gr")
    except RemoteProtocolError:
        return
    found = Gruus(b"k" * 32).read(uri)
    assert found is None or found == Gruu("")


@given(st.integers(0, 63), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_changed_letter_names_nobody(at: int, letter: str) -> None:
    here = bench()
    _, temporary = gruus_of(here.register(PHONE, headers=SUPPORTED))
    token = temporary.removeprefix("sip:tgruu.").partition("@")[0]
    changed = token[: at % len(token)] + letter + token[at % len(token) + 1 :]
    found = Gruus(b"k" * 32).read(Uri.parse(f"sip:tgruu.{changed}@example.com;gr"))
    # The last letter holds bits that mean nothing.
    assert found is not None
    assert found.user == "" or changed == token or changed[:-1] == token[:-1]


@given(st.text("0123456789abcdefghijklmnopqrstuvwxyz-_.", min_size=1, max_size=64), st.text(max_size=40))
def test_any_user_and_call_comes_back(user: str, call_id: str) -> None:
    binding = Binding(user, "sip:x@y", "", 1.0, 0.0, call_id, 1, TCP, TCP, False, instance=f'"<{INSTANCE}>"')
    gruus = Gruus(b"k" * 32)
    _, temporary = re.findall(r'gruu="([^"]*)"', gruus.parameters(binding, "2001:db8::1"))
    found = gruus.read(Uri.parse(temporary))
    if len(temporary) < 200:
        assert found is not None
        assert found.user == user
        assert found.names(binding)
        assert not found.names(replace(binding, call_id=call_id + "x"))


def test_an_instance_of_any_kind_stands_in_a_uri() -> None:
    binding = Binding("204", "sip:x@y", "", 1.0, 0.0, "c", 1, TCP, TCP, False, instance='"<urn:x:ä;b=c>"')
    gruus = Gruus(b"k")
    public = re.findall(r'pub-gruu="([^"]*)"', gruus.parameters(binding, "example.com"))[0]
    assert public == "sip:204@example.com;gr=urn:x:%c3%a4%3bb%3dc"
    found = gruus.read(Uri.parse(public))
    assert found is not None
    assert found.names(binding)


class TestFlowTimer:
    """RFC 5626 §4.4, §6: what a phone on a connection is told about its keep-alives."""

    CONFIG = RegistrarConfig(flow_timer=120)

    def test_a_flow_over_a_connection_has_one(self) -> None:
        outcome = bench(self.CONFIG).register(OUTBOUND, source=TCP, headers=("Supported: outbound",))
        assert header(outcome, "Flow-Timer") == ["120"]
        assert header(outcome, "Require") == ["outbound"]

    def test_no_other_registration_has(self) -> None:
        over_udp = f'{CONTACT};reg-id=1;+sip.instance="<{INSTANCE}>"'
        for contact, source, headers in (
            (OUTBOUND, TCP, ()),
            (CONTACT, TCP, ("Supported: outbound",)),
            (over_udp, None, ("Supported: outbound",)),
        ):
            here = bench(self.CONFIG)
            outcome = (
                here.register(contact, headers=headers)
                if source is None
                else here.register(contact, source=source, headers=headers)
            )
            assert header(outcome, "Flow-Timer") == []
        silent = bench(RegistrarConfig()).register(OUTBOUND, source=TCP, headers=("Supported: outbound",))
        assert header(silent, "Flow-Timer") == []
