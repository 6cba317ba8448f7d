"""The registrar by section: RFC 3261 §10.2, §10.3, §16.6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sip.bindings import StoredBinding
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.reachability import Surroundings
from proxy.sip.registrar import Registrar
from proxy.sip.registration import RegistrarConfig
from tests.sip.registering import (
    CONTACT,
    GATE,
    INSTANCE,
    OTHER,
    OUTBOUND,
    PATH,
    PHONE,
    PROXIED,
    START,
    TCP,
    Bench,
    flow_contact,
    header,
    listed,
    target_hosts,
)

# What is bound ----------------------------------------------------------------------------------------------


def test_rfc3261_10_3_a_contact_is_bound_and_listed_with_its_expiry() -> None:
    bench = Bench()
    outcome = bench.register(
        '"Desk" <sip:204@192.0.2.20:5060;ob>;q=0.5;methods="INVITE, BYE"', expires="1800"
    )
    assert listed(outcome) == ['<sip:204@192.0.2.20:5060;ob>;q=0.5;methods="INVITE, BYE";expires=1800']
    (binding,) = bench.registrar.bindings("204")
    assert (binding.flow, binding.source, binding.behind_nat) == (PHONE, PHONE, False)
    assert binding.expires_at == START + 1800
    assert (len(bench.registrar), bench.registrar.users) == (1, 1)


def test_rfc3261_10_3_step_6_without_contact_the_bindings_are_fetched() -> None:
    bench = Bench()
    assert bench.register().headers == ()
    bench.register(CONTACT, OTHER, expires="600")
    bench.now += 100
    assert listed(bench.register(call_id="other", cseq=1)) == [
        f"{CONTACT};expires=500",
        f"{OTHER};expires=500",
    ]


def test_rfc3261_10_2_1_1_expiry_of_the_contact_then_of_the_header_then_the_default() -> None:
    bench = Bench()
    outcome = bench.register(
        f"{CONTACT};expires=120", OTHER, "<sip:204@192.0.2.22>;expires=99999999999999", expires="900"
    )
    assert [value.rpartition("=")[2] for value in listed(outcome)] == ["120", "900", "3600"]
    outcome = bench.register("<sip:204@192.0.2.23>")
    assert listed(outcome)[-1].endswith("expires=3600")
    outcome = bench.register("<sip:204@192.0.2.24>", expires="4294967295")
    assert listed(outcome)[-1].endswith("expires=7200")
    assert listed(bench.register("<sip:204@192.0.2.25>", expires="soon"))[-1].endswith("expires=3600")


def test_rfc3261_10_3_step_7_brief_interval_gets_423() -> None:
    bench = Bench()
    outcome = bench.register(CONTACT, expires="59")
    assert (outcome.status, header(outcome, "Min-Expires")) == (423, ["60"])
    assert bench.contacts() == []
    assert bench.register(CONTACT, expires="60").status == 200


def test_rfc3261_10_3_step_7_an_hour_is_never_too_brief() -> None:
    bench = Bench(RegistrarConfig(min_expires=7200, max_expires=9000))
    assert bench.register(CONTACT, expires="3599").status == 423
    assert bench.register(CONTACT, expires="3600").status == 200


def test_rfc3261_10_3_step_7_refresh_of_the_same_contact_replaces_it() -> None:
    bench = Bench()
    bench.register(CONTACT, expires="600")
    bench.now += 300
    assert listed(bench.register(CONTACT, expires="600")) == [f"{CONTACT};expires=600"]
    assert len(bench.registrar) == 1


def test_rfc3261_19_1_4_an_equivalent_uri_is_the_same_contact() -> None:
    bench = Bench()
    bench.register("<sip:204@Phone.Example.com:5060;line=a>")
    outcome = bench.register("<sip:204@phone.example.com:5060;LINE=A>")
    assert listed(outcome) == ["<sip:204@phone.example.com:5060;LINE=A>;expires=3600"]
    bench.register("<sip:204@phone.example.com:5060;transport=tcp>")
    assert len(bench.registrar) == 2


@pytest.mark.parametrize("cseq", [4, 5])
@pytest.mark.parametrize("contact", [CONTACT, f"{CONTACT};expires=0", "*"])
def test_rfc3261_10_3_step_7_older_cseq_of_one_call_id_changes_nothing(cseq: int, contact: str) -> None:
    bench = Bench()
    bench.register(CONTACT, cseq=5)
    outcome = bench.register(contact, cseq=cseq, expires="0" if contact == "*" else "600")
    assert (outcome.status, bench.contacts()) == (500, [CONTACT.strip("<>")])


def test_rfc3261_10_3_step_7_another_call_id_has_an_order_of_its_own() -> None:
    bench = Bench()
    bench.register(CONTACT, cseq=50)
    assert bench.register(CONTACT, cseq=1, call_id="after a restart").status == 200


def test_a_phone_whose_port_changes_keeps_one_binding() -> None:
    bench = Bench(RegistrarConfig(max_contacts=2))
    bench.register(OTHER)
    for port in range(40_000, 40_010):
        assert bench.register(f"<sip:204@192.0.2.20:{port}>;{INSTANCE}").status == 200
        assert bench.contacts() == [OTHER.strip("<>"), f"sip:204@192.0.2.20:{port}"]
    late = bench.register(f"<sip:204@192.0.2.20:40005>;{INSTANCE}", cseq=3)
    assert (late.status, bench.contacts()[1]) == (500, "sip:204@192.0.2.20:40009")


@pytest.mark.parametrize(
    ("contact", "call_id"),
    [
        (f"<sip:204@192.0.2.20:5070>;{INSTANCE}", "another phone"),
        ('<sip:204@192.0.2.20:5070>;+sip.instance="<urn:uuid:1>"', "r1"),
        ("<sip:204@192.0.2.20:5070>", "r1"),
        (f"<sip:desk@192.0.2.20:5070>;{INSTANCE}", "r1"),
        (f"<sip:204@192.0.2.20:5070;transport=tcp>;{INSTANCE}", "r1"),
    ],
    ids=["call_id", "instance", "no_instance", "user", "transport"],
)
def test_what_else_may_be_another_phone_has_a_binding_of_its_own(contact: str, call_id: str) -> None:
    bench = Bench()
    bench.register(f"{CONTACT};{INSTANCE}")
    assert bench.register(contact, call_id=call_id).status == 200
    assert len(bench.contacts()) == 2


def test_of_several_contacts_of_one_request_each_stays() -> None:
    bench = Bench()
    both = (f"<sip:204@192.0.2.20:5070>;{INSTANCE}", f"<sip:204@192.0.2.21:5070>;{INSTANCE}")
    assert bench.register(*both).status == 200
    assert bench.register(*both).status == 200
    assert len(bench.contacts()) == 2
    assert bench.register(f"<sip:204@192.0.2.22:5070>;{INSTANCE};expires=0").status == 200
    assert len(bench.contacts()) == 2


def test_rfc3261_10_3_all_or_nothing() -> None:
    bench = Bench()
    bench.register(CONTACT, cseq=5)
    refused = bench.register(OTHER, f"{CONTACT};expires=0", cseq=5)
    assert (refused.status, bench.contacts()) == (500, [CONTACT.strip("<>")])
    assert bench.register(f"{CONTACT};expires=0", "<sip:204@224.0.0.1>", cseq=6).status == 403
    assert bench.contacts() == [CONTACT.strip("<>")]


def test_rfc3261_10_2_2_contacts_are_removed_one_by_one() -> None:
    bench = Bench()
    bench.register(CONTACT, OTHER)
    assert listed(bench.register(f"{CONTACT};expires=0")) == [f"{OTHER};expires=3600"]
    assert listed(bench.register(CONTACT, expires="0")) == [f"{OTHER};expires=3600"], "it was not there"
    assert listed(bench.register(OTHER, expires="0")) == []
    assert (len(bench.registrar), bench.registrar.users) == (0, 0)


def test_rfc3261_10_3_step_6_star_removes_all() -> None:
    bench = Bench()
    bench.register(CONTACT, OTHER)
    assert bench.register("*", expires="0").headers == ()
    assert bench.contacts() == []
    assert bench.register("*", expires="0").status == 200, "nothing to remove is no error"


@pytest.mark.parametrize("expires", [None, "600", "00", "0x"])
def test_rfc3261_10_3_step_6_star_only_with_expires_0(expires: str | None) -> None:
    bench = Bench()
    bench.register(CONTACT)
    assert bench.register("*", expires=expires).status == 400
    assert len(bench.registrar) == 1


def test_rfc3261_10_3_step_6_star_only_alone() -> None:
    bench = Bench()
    bench.register(CONTACT)
    assert bench.register("*", OTHER, expires="0").status == 400
    assert bench.contacts() == [CONTACT.strip("<>")]


def test_one_contact_given_twice_is_refused() -> None:
    assert Bench().register(CONTACT, CONTACT).status == 400


@pytest.mark.parametrize("q", ["2", "-1", "0.1234", "1.5", "0.x", "", "one", "1e3"])
def test_rfc3261_25_1_malformed_q(q: str) -> None:
    quoted = q or '""'
    assert Bench().register(f"{CONTACT};q={quoted}").status == 400


# Whose bindings ---------------------------------------------------------------------------------------------


def test_rfc3261_10_3_step_4_no_registration_for_somebody_else() -> None:
    bench = Bench()
    assert bench.register(CONTACT, to="sip:205@example.com").status == 403
    assert bench.register(CONTACT, to="sip:example.com").status == 403
    assert len(bench.registrar) == 0


@pytest.mark.parametrize(
    ("to", "uri"),
    [
        ("sip:204@example.net", "sip:example.com"),
        ("sip:204@example.com", "sip:example.net"),
        ("tel:204", "sip:example.com"),
    ],
)
def test_rfc3261_10_3_step_5_another_domain_gets_404(to: str, uri: str) -> None:
    assert Bench().register(CONTACT, to=to, uri=uri).status == 404


def test_rfc3261_10_3_step_5_without_domains_every_one_is_taken() -> None:
    bench = Bench(gate=replace(GATE, domains=frozenset()))
    assert bench.register(CONTACT, to="sip:204@example.net", uri="sip:example.org").status == 200


def test_the_user_part_is_compared_without_escapes_and_parameters() -> None:
    bench = Bench()
    assert bench.register(CONTACT, to="sip:%3304;x=y@example.com").status == 403
    assert bench.register(CONTACT, to="sip:%32%304;x=y@EXAMPLE.com").status == 200


# Limits -----------------------------------------------------------------------------------------------------


def test_contacts_per_user_are_limited() -> None:
    bench = Bench(RegistrarConfig(max_contacts=2))
    bench.register(CONTACT)
    assert bench.register(OTHER, "<sip:204@192.0.2.22>").status == 403
    assert bench.register(OTHER).status == 200
    assert bench.register("<sip:204@192.0.2.22>").status == 403
    assert bench.register(f"{OTHER};expires=0", "<sip:204@192.0.2.22>").status == 200
    assert bench.register(*(f"<sip:204@192.0.2.{host}>;expires=0" for host in range(3))).status == 403


def test_bindings_of_all_users_are_limited() -> None:
    bench = Bench(RegistrarConfig(max_bindings=1))
    assert bench.register(CONTACT).status == 200
    assert bench.register(CONTACT).status == 200, "a refresh is none more"
    other = "<sip:205@192.0.2.20>"
    assert bench.register(other, user="205", to="sip:205@example.com").status == 503


def test_a_contact_has_a_longest_length() -> None:
    bench = Bench()
    assert bench.register(f"{CONTACT};x={'y' * 500}").status == 403
    assert bench.register(f"{CONTACT};x={'y' * 400}").status == 200


def test_a_user_agent_is_kept_shortened() -> None:
    bench = Bench()
    bench.register(CONTACT, headers=["User-Agent: " + "a" * 100])
    assert bench.registrar.bindings("204")[0].user_agent == "a" * 64


# Contacts that nothing may be sent to -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "contact",
    [
        "<sip:204@192.0.2.1:5060>",
        "<sip:204@192.0.2.1>",
        "<sip:204@example.com:7777>",
        "<sip:204@224.0.1.75>",
        "<sip:204@[ff02::1]>",
        "<sip:204@255.255.255.255>",
        "<sip:204@0.0.0.0>",
        "<sip:204@[::]>",
        "<sip:204@127.0.0.1>",
        "<sip:204@[::1]>",
        "<sip:204@[::ffff:127.0.0.1]>",
        "<sip:204@localhost>",
        "<sip:204@127.1>",
        "<tel:+14155550123>",
        "<mailto:204@example.org>",
        "<sip:204@192.0.2.20?Subject=x>",
        "<sip:204@192.0.2.20;maddr=192.0.2.99>",
        "<sip:204@[2001:db8::20];transport=tcp>",
    ],
)
def test_unusable_contacts_are_refused(contact: str) -> None:
    bench = Bench()
    outcome = bench.register(contact)
    assert (outcome.status, bench.contacts()) == (403, [])
    assert header(outcome, "Warning")[0].startswith('399 tollgate "')


def test_an_unusable_contact_may_be_removed() -> None:
    assert Bench().register("<sip:204@224.0.1.75>;expires=0").status == 200


PEERS = replace(GATE, peers=(ip_network("192.0.2.90/31"), ip_network("2001:db8:90::/64")))
CARRIER = Flow("UDP", "192.0.2.90", 5060)


@pytest.mark.parametrize(
    ("contact", "headers"),
    [
        ("<sip:19005550123@192.0.2.90>", ()),
        ("<sip:19005550123@192.0.2.91:5080;transport=tcp>", ()),
        ("<sip:19005550123@[::ffff:192.0.2.90]>", ()),
        ("<sip:19005550123@[2001:db8:90::1]>", ()),
        (CONTACT, ("Supported: path", "Path: <sip:192.0.2.90;lr>")),
    ],
)
def test_a_contact_at_a_trunk_would_call_past_the_policy(contact: str, headers: Sequence[str]) -> None:
    bench = Bench(gate=PEERS)
    assert bench.register(contact, headers=headers).status == 403
    assert bench.contacts() == []


def test_a_phone_on_the_host_of_a_pbx_or_behind_it_is_reached_there() -> None:
    bench = Bench(gate=PEERS)
    assert bench.register("<sip:204@192.0.2.90:5070>", source=CARRIER).status == 200
    for path in ("192.0.2.90", "pbx.example.net"):
        headers = ("Supported: path", f"Path: <sip:{path};lr>")
        assert bench.register(CONTACT, headers=headers, source=CARRIER, via=PROXIED).status == 200
        assert bench.registrar.bindings("204")[-1].flow == CARRIER


def test_a_contact_whose_address_becomes_that_of_a_trunk_is_not_called() -> None:
    bench = Bench()
    bench.register("<sip:204@192.0.2.90>", CONTACT)
    bench.registrar.reconfigure(RegistrarConfig(), PEERS)
    assert [[binding.contact for binding in group] for group in bench.registrar.targets("204")] == [
        ["sip:204@192.0.2.20:5060"]
    ]


# Where calls go ---------------------------------------------------------------------------------------------


def test_rfc3261_16_6_highest_q_first_equal_ones_together() -> None:
    bench = Bench()
    assert bench.registrar.targets("204") == []
    bench.register("<sip:204@192.0.2.41>;q=0.3", "<sip:204@192.0.2.42>", "<sip:204@192.0.2.43>;q=0.3")
    bench.now += 1
    bench.register("<sip:204@192.0.2.44>;q=1.000")
    assert target_hosts(bench.registrar) == [["192.0.2.44", "192.0.2.42"], ["192.0.2.41", "192.0.2.43"]]


# Time, policy, store ----------------------------------------------------------------------------------------


def test_rfc3261_10_3_bindings_end_at_their_expiry() -> None:
    bench = Bench()
    assert bench.registrar.next_expiry() is None
    bench.register(f"{CONTACT};expires=100", f"{OTHER};expires=200")
    assert bench.registrar.bound_from("192.0.2.20")
    assert bench.registrar.next_expiry() == START + 100
    bench.registrar.expire(START + 99.999)
    assert len(bench.registrar) == 2
    bench.registrar.expire(START + 100)
    assert bench.contacts() == [OTHER.strip("<>")]
    assert bench.registrar.next_expiry() == START + 200
    bench.registrar.expire(START + 200)
    assert bench.registrar.next_expiry() is None
    assert not bench.registrar.bound_from("192.0.2.20")


def test_bindings_are_found_by_the_address_they_were_registered_from() -> None:
    bench = Bench()
    bench.register(CONTACT, OTHER)
    found = bench.registrar.registered_from("192.0.2.20")
    assert [one.contact for one in found] == bench.contacts()
    assert bench.registrar.registered_from("192.0.2.21") == ()


def test_a_refresh_moves_the_expiry() -> None:
    bench = Bench()
    bench.register(CONTACT, expires="100")
    bench.now += 50
    bench.register(CONTACT, expires="100")
    bench.registrar.expire(START + 149)
    assert bench.registrar.next_expiry() == START + 150
    assert len(bench.registrar) == 1


def test_bindings_of_deleted_users_are_dropped() -> None:
    bench = Bench()
    bench.register(CONTACT)
    bench.register("<sip:205@192.0.2.25>", user="205", to="sip:205@example.com")
    bench.registrar.retain({"205", "206"})
    assert [binding.user for binding in bench.registrar.all()] == ["205"]


def test_rfc3261_10_2_2_an_administrator_ends_one_contact_or_all() -> None:
    bench = Bench()
    bench.register(CONTACT)
    bench.register("<sip:204@192.0.2.99>", call_id="other", to="sip:204@example.com")
    first, second = (binding.contact for binding in bench.registrar.bindings("204"))
    assert bench.registrar.forget("204", "sip:nobody@192.0.2.1") == 0
    assert bench.registrar.forget("204", second) == 1
    assert [binding.contact for binding in bench.registrar.bindings("204")] == [first]
    assert bench.registrar.forget("204") == 1
    assert bench.registrar.forget("204") == 0
    assert len(bench.registrar) == 0
    assert set(bench.registrar.take_changes()) == {"204"}


def test_other_limits_hold_from_the_next_request_on() -> None:
    bench = Bench()
    bench.register(CONTACT)
    bench.registrar.reconfigure(RegistrarConfig(max_contacts=1), replace(GATE, domains=frozenset()))
    assert bench.register(OTHER, to="sip:204@example.net").status == 403
    assert len(bench.registrar) == 1


EPOCH = 1_700_000_000.0


def stored(bench: Bench) -> list[StoredBinding]:
    return [StoredBinding.of(binding, EPOCH) for binding in bench.registrar.all()]


def test_bindings_survive_a_restart() -> None:
    bench = Bench()
    bench.register(f"{CONTACT};q=0.7", expires="600", headers=["User-Agent: phone/1"])
    bench.register(flow_contact(3), headers=(*OUTBOUND, PATH[1]), via=PROXIED)
    nat = Flow("UDP", "203.0.113.7", 32000)
    bench.register("<sip:204@10.0.0.5:5060>", source=nat)
    saved = stored(bench)
    assert saved[0].expires_at == EPOCH + START + 600
    # The clock of the new process began elsewhere.
    registrar = Registrar(RegistrarConfig(), GATE)
    assert registrar.restore(saved, epoch=EPOCH + 900, now=START - 900 + 10) == 3
    old = bench.registrar.bindings("204")
    new = registrar.bindings("204")
    assert [replace(binding, expires_at=0.0) for binding in new] == [
        replace(binding, expires_at=0.0) for binding in old
    ]
    assert new[0].expires_at == START + 600 - 900
    assert registrar.take_changes() == {}, "what was read need not be written"
    assert registrar.next_expiry() == START + 600 - 900


def test_a_restored_tcp_phone_is_reached_at_its_contact() -> None:
    bench = Bench()
    via = "SIP/2.0/TCP 192.0.2.20:5070;branch=z9hG4bK-r"
    bench.register("<sip:204@192.0.2.20:5070;transport=tcp>", source=TCP, via=via)
    bench.register("<sip:204@10.0.0.5>", source=TCP, via=via)
    registrar = Registrar(RegistrarConfig(), GATE)
    registrar.restore(stored(bench), epoch=EPOCH, now=START)
    assert [binding.flow for binding in registrar.bindings("204")] == [
        Flow("TCP", "192.0.2.20", 5070, 1, 0),
        Flow("TCP", "192.0.2.20", 41000, 1, 0),
    ]


def test_what_has_ended_or_has_no_listen_point_is_not_restored() -> None:
    bench = Bench()
    bench.register(CONTACT, expires="600")
    saved = stored(bench)
    late = Registrar(RegistrarConfig(), GATE)
    assert late.restore(saved, epoch=EPOCH, now=START + 600) == 0
    tcp_only = Surroundings((ListenPoint("TCP", "192.0.2.1", 5060),))
    assert Registrar(RegistrarConfig(), tcp_only).restore(saved, epoch=EPOCH, now=START) == 0
    again = Bench()
    again.register(OTHER)
    assert again.registrar.restore(saved, epoch=EPOCH, now=START) == 0, "it has registered anew"
    assert again.contacts() == [OTHER.strip("<>")]


def test_changes_are_told_once_with_all_that_a_user_has() -> None:
    bench = Bench()
    bench.register(CONTACT)
    bench.register(OTHER)
    changes = bench.registrar.take_changes()
    assert {user: len(bindings) for user, bindings in changes.items()} == {"204": 2}
    assert bench.registrar.take_changes() == {}
    bench.register("*", expires="0")
    assert bench.registrar.take_changes() == {"204": ()}
    bench.register("*", expires="0")
    assert bench.registrar.take_changes() == {}


# Any input --------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        CONTACT,
        OTHER,
        "*",
        "sip:204@192.0.2.22",
        "<sip:204@[2001:db8::20]>",
        "<sips:204@192.0.2.20>",
        "<sip:204@127.0.0.1>",
        "<sip:@>",
        "<>",
        "tel:204",
        f"{CONTACT};expires=0",
        f"{CONTACT};expires=",
        f"{CONTACT};q=0.5;expires=61",
        flow_contact(1),
        f"{flow_contact(2)};expires=0",
        '"x <sip:204@192.0.2.22>',
    ]
)


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.lists(PIECES, max_size=3),
            st.sampled_from([None, "0", "60", "7", "x", "99999999999999999999"]),
            st.integers(1, 6),
            st.sampled_from(["r1", "r2"]),
            st.sampled_from([(), OUTBOUND, PATH, ("Path: <",)]),
            st.integers(0, 200),
        ),
        max_size=6,
    )
)
def test_any_registrations_leave_a_consistent_table(
    steps: list[tuple[list[str], str | None, int, str, tuple[str, ...], int]],
) -> None:
    bench = Bench()
    for contacts, expires, cseq, call_id, headers, pause in steps:
        before = bench.registrar.bindings("204")
        outcome = bench.register(*contacts, expires=expires, cseq=cseq, call_id=call_id, headers=headers)
        after = bench.registrar.bindings("204")
        if outcome.status != 200:
            assert after == before, "a refusal changes nothing"
        else:
            assert len(listed(outcome)) == len(after)
        keys = [binding.key for binding in after]
        assert len(set(keys)) == len(keys) == len(bench.registrar)
        rung = [binding for group in bench.registrar.targets("204") for binding in group]
        assert sorted(map(id, rung)) == sorted(map(id, after))
        bench.now += pause
        bench.registrar.expire(bench.now)
        assert all(binding.expires_at > bench.now for binding in bench.registrar.all())
    bench.registrar.expire(bench.now + 8000)
    assert (len(bench.registrar), bench.registrar.next_expiry()) == (0, None)
