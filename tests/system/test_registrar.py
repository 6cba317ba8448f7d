"""The registrar, and phones that try everything: limits, replays, proxies between, GRUUs; on real sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.policy import User
from proxy.sip.message import Response
from proxy.store import digest_credentials
from tests.call.transfers import told
from tests.support.ua import ANSWER, Step, Ua, UaCall
from tests.system.gate import (
    CARRIER_ADDRESSES,
    GATE_ADDRESS,
    PBX_ADDRESS,
    STRANGER_ADDRESS,
    Gate,
    running_gate,
)
from tests.system.live_uas import LiveUas, authorization, challenges
from tests.system.test_baresip import PASSWORD

OTHER_ADDRESS = "127.0.0.8"
EDGES = ("127.0.0.30", "127.0.0.31")
SETTINGS = "[registrar]\nmax_contacts = 2\n"
INSTANCES = ("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "urn:uuid:00000000-0000-1000-8000-000a95a0e128")


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with running_gate(tmp_path_factory.mktemp("gate"), extra=SETTINGS) as running:
        for extension in (str(number) for number in range(210, 222)):
            credentials = digest_credentials(extension, "tollgate", PASSWORD)
            running.store.users.add(User(extension, "required", credentials=credentials))
        md5_only = tuple(
            one for one in digest_credentials("222", "tollgate", PASSWORD) if one.algorithm == "MD5"
        )
        running.store.users.add(User("222", "required", credentials=md5_only))
        sha_only = digest_credentials("223", "tollgate", PASSWORD, md5=False)
        running.store.users.add(User("223", "required", credentials=sha_only))
        credentials = digest_credentials("224", "tollgate", PASSWORD)
        running.store.users.add(
            User("224", "required", name="Desk", caller_number="+12025550224", credentials=credentials)
        )
        running.wait_for_policy()
        yield running
        assert "faults: 0" in running.tollgate("status").splitlines()


@pytest.fixture
def uas(gate: Gate) -> Iterator[LiveUas]:
    with LiveUas(gate) as running:
        yield running


def contact(ua: Ua, user: str, parameters: str = "") -> str:
    return f"<sip:{user}@{ua.host}:{ua.port}>{parameters}"


def bound(response: Response) -> list[str]:
    """Return the URIs of the Contacts of a 200, without parameters."""
    assert response.status == 200
    return [value.partition(">")[0].strip("<") for value in response.headers.get_all("Contact")]


def is_stale(response: Response) -> bool:
    assert response.status == 401
    (stale,) = {parameters.get("stale", "") for parameters in challenges(response).values()}
    return stale.lower() == "true"


# Who registers ----------------------------------------------------------------------------------------------


def test_rfc7616_3_4_credentials_are_good_once_and_from_where_they_were_asked_for(uas: LiveUas) -> None:
    phone, thief = uas.add(STRANGER_ADDRESS), uas.add(OTHER_ADDRESS)
    wanted = ("Contact", contact(phone, "210"))
    challenged = uas.ask(phone, "REGISTER", "210", [wanted])
    assert not is_stale(challenged)
    assert list(challenges(challenged)) == ["SHA-256", "MD5"], "RFC 8760 §2.4: the strongest first"

    def proof(count: int, password: str = PASSWORD) -> tuple[str, str]:
        return ("Authorization", authorization(challenged, "210", password, count=count))

    assert uas.ask(phone, "REGISTER", "210", [wanted, proof(1)]).status == 200
    replayed = uas.ask(phone, "REGISTER", "210", [("Contact", contact(thief, "210")), proof(1)])
    assert is_stale(replayed), "the password was right, so nobody need be asked for it"
    assert bound(uas.ask(phone, "REGISTER", "210", [wanted, proof(3)])) == [
        f"sip:210@{phone.host}:{phone.port}"
    ]
    assert is_stale(uas.ask(phone, "REGISTER", "210", [wanted, proof(2)])), "less than the count before"
    assert is_stale(uas.ask(thief, "REGISTER", "210", [wanted, proof(4)])), "from elsewhere"
    assert not is_stale(uas.ask(phone, "REGISTER", "210", [wanted, proof(5, "wrong")]))
    challenged = replayed
    assert uas.ask(phone, "REGISTER", "210", [wanted, proof(1)]).status == 200, "the stale one's nonce"


@pytest.mark.parametrize(("user", "right", "wrong"), [("222", "MD5", "SHA-256"), ("223", "SHA-256", "MD5")])
def test_rfc8760_2_4_a_user_may_have_one_hash_only(uas: LiveUas, user: str, right: str, wrong: str) -> None:
    phone = uas.add(STRANGER_ADDRESS)
    refused = uas.register(phone, user, PASSWORD, contact(phone, user), algorithm=wrong)
    assert refused.status == 401
    assert len(challenges(refused)) == 2, "nobody learns which hashes a user has"
    assert bound(uas.register(phone, user, PASSWORD, contact(phone, user), algorithm=right))


def test_rfc3261_10_3_nobody_registers_for_somebody_else(uas: LiveUas) -> None:
    phone = uas.add(STRANGER_ADDRESS)
    assert uas.register(phone, "211", PASSWORD, contact(phone, "211"), to="212").status == 403
    assert bound(uas.register(phone, "212", PASSWORD)) == []


# Limits -----------------------------------------------------------------------------------------------------


def test_rfc3261_10_3_expiries_contacts_and_what_a_star_may_say(uas: LiveUas) -> None:
    phone = uas.add(STRANGER_ADDRESS)
    first, second, third = (f"<sip:213@{STRANGER_ADDRESS}:{port}>" for port in (7001, 7002, 7003))
    brief = uas.register(phone, "213", PASSWORD, first, headers=[("Expires", "59")])
    assert (brief.status, brief.headers.get("Min-Expires")) == (423, "60")
    assert bound(uas.register(phone, "213", PASSWORD)) == []
    assert len(bound(uas.register(phone, "213", PASSWORD, first, second))) == 2
    assert uas.register(phone, "213", PASSWORD, third).status == 403
    assert uas.register(phone, "213", PASSWORD, "*").status == 400, "without Expires: 0"
    assert uas.register(phone, "213", PASSWORD, "*", headers=[("Expires", "60")]).status == 400
    star_and_more = [("Contact", "*"), ("Contact", first), ("Expires", "0")]
    assert uas.ask(phone, "REGISTER", "213", star_and_more).status == 400, "malformed, whoever sends it"
    kept = bound(uas.register(phone, "213", PASSWORD))
    assert kept == [first.strip("<>"), second.strip("<>")], "what was refused has changed nothing"
    swapped = uas.register(phone, "213", PASSWORD, f"{first};expires=0", third)
    assert bound(swapped) == [second.strip("<>"), third.strip("<>")]
    assert bound(uas.register(phone, "213", PASSWORD, "*", headers=[("Expires", "0")])) == []


def test_rfc3261_10_3_no_contact_leads_to_the_gate_a_peer_or_everybody(gate: Gate, uas: LiveUas) -> None:
    phone = uas.add(STRANGER_ADDRESS)
    for host in (f"{GATE_ADDRESS}:{gate.port}", f"{PBX_ADDRESS}:{gate.pbx_port}", "224.0.1.75", "0.0.0.0"):
        assert uas.register(phone, "220", PASSWORD, f"<sip:+19005550123@{host}>").status == 403, host
    assert bound(uas.register(phone, "220", PASSWORD)) == []


def test_a_phone_whose_port_changes_is_not_shut_out_by_itself(uas: LiveUas) -> None:
    phone = uas.add(STRANGER_ADDRESS)
    for turn in range(4):
        new = f"<sip:221@{STRANGER_ADDRESS}:{7011 + turn}>"
        named = f'{new};+sip.instance="<{INSTANCES[0]}>"'
        answer = uas.register(phone, "221", PASSWORD, named, call_id="one-phone", cseq=2 * turn + 1)
        assert bound(answer) == [new.strip("<>")], "two contacts are all that a user may have"


def test_rfc3325_5_help_is_told_whose_phone_it_is_and_of_others_asserted_nothing(
    gate: Gate, uas: LiveUas
) -> None:
    carrier = uas.add(CARRIER_ADDRESSES[0], port=gate.carrier_ports[0], script=ANSWER)
    desk, neighbour, stranger = (uas.add(STRANGER_ADDRESS) for _ in range(3))
    for phone, user in ((desk, "224"), (neighbour, "218")):
        assert uas.register(phone, user, PASSWORD, contact(phone, user)).status == 200
    lies = [("P-Asserted-Identity", "<sip:+13105550000@x>"), ("P-Charge-Info", "<sip:+13105550000@x>")]

    def told_of(phone: Ua) -> tuple[str | None, str, str, str]:
        """Return From and what is asserted at the carrier, user and number in the record."""
        known = {record.record_id for record in gate.records()}
        call = phone.call("911", caller="+13125559999", headers=lies)
        uas.until(lambda: call.connected)
        invite = carrier.calls[-1].invite
        assert invite is not None
        assert "3105550000" not in "".join(invite.headers.lines())
        call.bye()
        uas.until(carrier.calls[-1].has_ended)
        record = gate.wait_for_record(known)
        asserted = invite.headers.get("P-Asserted-Identity") or ""
        return invite.from_.uri.user, asserted.partition("@")[0], record.user, record.caller_number

    assert told_of(desk) == ("+12025550224", "<sip:+12025550224", "224", "+12025550224")
    assert told_of(stranger) == ("+13125559999", "", "", "+13125559999")


# Proxies between --------------------------------------------------------------------------------------------


def path(edge: Ua) -> str:
    return f"<sip:{edge.host}:{edge.port};lr;ob>"


def test_rfc3327_5_3_a_call_goes_back_by_the_path(gate: Gate, uas: LiveUas) -> None:
    edge, pbx = uas.add(EDGES[0], script=ANSWER), uas.add(PBX_ADDRESS, port=gate.pbx_port)
    phone = "<sip:214@192.0.2.77:5060>"  # behind the edge, on a network that the gate has no way to
    way = ("Path", path(edge))
    assert uas.register(edge, "214", PASSWORD, phone, headers=[way]).status == 420
    told_back = uas.register(edge, "214", PASSWORD, phone, headers=[way, ("Supported", "path")])
    assert told_back.headers.get_all("Path") == [path(edge)]
    call = pbx.call("214", uri=f"sip:214@{GATE_ADDRESS}")
    uas.until(lambda: call.connected)
    invite = edge.calls[0].invite
    assert invite is not None
    assert invite.uri == "sip:214@192.0.2.77:5060"
    assert invite.headers.get("Route") == path(edge)
    call.bye()
    uas.until(lambda: edge.calls[0].ended)


def test_rfc5626_5_3_1_430_ends_a_flow_and_the_phones_next_one_is_tried(gate: Gate, uas: LiveUas) -> None:
    pbx = uas.add(PBX_ADDRESS, port=gate.pbx_port)
    works = uas.add(EDGES[0], script=ANSWER)
    fails = uas.add(EDGES[1], script=(Step(0.0, 430),))
    for reg_id, edge in enumerate((works, fails), 1):
        phone = f'<sip:215@192.0.2.77:5060>;+sip.instance="<{INSTANCES[0]}>";reg-id={reg_id}'
        headers = [("Path", path(edge)), ("Supported", "path, outbound")]
        assert uas.register(edge, "215", PASSWORD, phone, headers=headers).status == 200
    call = pbx.call("215", uri=f"sip:215@{GATE_ADDRESS}")
    uas.until(lambda: call.connected)
    assert len(fails.calls) == len(works.calls) == 1
    call.bye()
    uas.until(lambda: works.calls[0].ended)
    left = uas.register(works, "215", PASSWORD).headers.get_all("Contact")
    assert len(left) == 1
    assert "reg-id=1" in left[0]


# GRUUs ------------------------------------------------------------------------------------------------------


def two_phones(uas: LiveUas, user: str) -> tuple[tuple[Ua, Ua], list[str]]:
    """Register two phones of one user; returns them, and public and temporary GRUU of the second."""
    phones = uas.add(STRANGER_ADDRESS, script=ANSWER), uas.add(OTHER_ADDRESS, script=ANSWER)
    lines: list[str] = []
    for phone, instance in zip(phones, INSTANCES, strict=True):
        where = contact(phone, user, f';+sip.instance="<{instance}>"')
        answer = uas.register(phone, user, PASSWORD, where, headers=[("Supported", "gruu")])
        lines = answer.headers.get_all("Contact")
    (own,) = [line for line in lines if INSTANCES[1] in line.partition("gruu=")[0]]
    return phones, [part.partition('"')[0] for part in own.split('gruu="')[1:]]


def test_rfc5627_5_4_calls_transfers_and_forwards_to_a_gruu_ring_one_phone(gate: Gate, uas: LiveUas) -> None:
    (other, named), (public, temporary) = two_phones(uas, "216")
    assert temporary.startswith("sip:tgruu.")
    pbx = uas.add(PBX_ADDRESS, port=gate.pbx_port)
    desk = uas.add(STRANGER_ADDRESS, script=ANSWER)
    uas.register(desk, "217", PASSWORD, contact(desk, "217"))

    def called(uri: str) -> UaCall:
        call = pbx.call("", uri=uri)
        uas.until(lambda: call.connected)
        return call

    def referred(gruu: str) -> UaCall:
        """Let 217 refer its caller; returns its side of the call, when all is told."""
        call = called(f"sip:217@{GATE_ADDRESS}")
        transferor = desk.calls[-1]
        transferor.request("REFER", headers=[("Refer-To", f"<{gruu}>")])
        uas.until(lambda: any(word.endswith("terminated") for word in told(transferor)))
        call.bye()
        uas.until(transferor.has_ended)
        return transferor

    for number, gruu in enumerate((public, temporary)):
        called(gruu).bye()
        uas.until(named.calls[-1].has_ended)
        desk.script = (Step(0.0, 302, headers=[("Contact", f"<{gruu}>")]),)
        called(f"sip:217@{GATE_ADDRESS}").bye()
        uas.until(named.calls[-1].has_ended)
        desk.script = ANSWER
        assert told(referred(gruu))[-1] == "200 terminated"
        uas.until(named.calls[-1].has_ended)
        assert len(named.calls) == 3 * (number + 1)
    assert not other.calls
    nobodys = f"sip:tgruu.aaaaaaaa@{GATE_ADDRESS};gr"
    assert told(referred(nobodys))[-1] == "404 terminated"
