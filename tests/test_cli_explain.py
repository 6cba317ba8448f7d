"""`tollgate explain`: the steps of a decision, codes, callers who are locked, and calls that can't leave."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from proxy.cli import run
from proxy.policy import CallerLock
from proxy.store import Store
from tests.support.commands import bad, lines_of


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLGATE_STORE__URL", "sqlite:///cli.db")
    monkeypatch.setenv("TOLLGATE_TRUNKS", '[{"name": "carrier", "addresses": ["udp:192.0.2.9:5060"]}]')


@pytest.fixture
def staffed(capsys: pytest.CaptureFixture[str]) -> None:
    run(["groups", "add", "staff", "--permissions", "internal,local", "--collection", "required"])
    run(["groups", "add", "guests", "--collection", "optional"])
    run(["users", "add", "204", "--group", "staff", "--caller-number", "+14155550104"])
    run(["codes", "add", "ACME-12/7"])
    run(["codes", "add", "1000", "--disabled"])
    capsys.readouterr()


_OUTSIDE = (
    "international numbers lie outside the call permissions of group 'staff'; an account code is required"
)


@pytest.mark.usefixtures("staffed")
def test_explain_prints_every_step_and_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "--user", "204", "--number", "011442079460000"]) == 0
    assert lines_of(capsys) == [
        "1. caller: user 204, proved by authentication",
        "2. group: 'staff'",
        "3. number: 011442079460000 is +442079460000, an international number (GB)",
        "4. class: international",
        "5. matrix: international is required code",
        "6. decision: required code, because " + _OUTSIDE,
        "number for record and trunk: +442079460000 (international)",
        "decision: required code",
        "reason: " + _OUTSIDE,
    ]


@pytest.mark.usefixtures("staffed")
@pytest.mark.parametrize(
    ("caller", "code", "ending"),
    [
        (
            ["--user", "204"],
            "2263127",
            [
                "code: accepted, the account code is valid",
                "outcome: the call is placed, with code ACME-12/7 on its record",
            ],
        ),
        (
            ["--user", "204"],
            "1000",
            [
                "code: disabled, the account code is disabled",
                "outcome: asked again; after the last try the call is refused",
            ],
        ),
        (
            ["--group", "guests"],
            "777",
            [
                "code: unknown, no account code has these digits",
                "outcome: asked again; after the last try the call is placed without a code",
            ],
        ),
        (
            ["--caller", "sip:+14155550104@pbx.example.com"],
            "911",
            [
                "code: emergency, an emergency number was dialled as a code",
                "outcome: the emergency call to 911 is placed at once",
            ],
        ),
    ],
)
def test_explain_with_a_code(
    caller: list[str], code: str, ending: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["explain", *caller, "--number", "+442079460000", "--code", code]) == 0
    assert lines_of(capsys)[-2:] == ending


@pytest.mark.usefixtures("staffed")
def test_explain_of_a_call_that_asks_for_no_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "--user", "204", "--number", "sip:reception@h", "--code", "1"]) == 0
    assert lines_of(capsys)[-3:] == [
        "decision: block",
        "reason: the number holds characters that can't be dialled",
        "code: none is asked for",
    ]


def test_explain_counts_groups_of_the_settings_that_serve_will_make(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("gate.toml").write_text('[[groups]]\nname = "callers"\npermissions = ["national"]\n')
    Path("cli.db").touch()
    assert run(["explain", "--config", "gate.toml", "--group", "callers", "--number", "4155550100"]) == 0
    assert "decision: allow" in lines_of(capsys)


# Locked callers

FREE = "outcome: the call is placed, with code ACME-12/7 on its record"
REFUSED = "outcome: the call is refused (403): who is locked may enter no code"
PEERS = """
[guessing]
shared_numbers = ["+14155550199"]
[[peers]]
name = "pbx"
networks = ["192.0.2.1"]
default_group = "staff"
[[trunks]]
name = "carrier"
addresses = ["udp:192.0.2.9:5060"]
"""
ANOTHER = """
[[peers]]
name = "branch"
networks = ["192.0.2.2"]
"""


def lock(*callers: str, until: float | None = None) -> None:
    with Store("sqlite:///cli.db") as store:
        store.locks.add([CallerLock(caller, time.time() - 10, until, 5) for caller in callers])


def outcome(capsys: pytest.CaptureFixture[str], *caller: str) -> tuple[list[str], str]:
    """Return what is said of locks, and what comes of a call abroad with a good code."""
    capsys.readouterr()
    assert run(["explain", *caller, "--number", "+442079460000", "--code", "ACME-12/7"]) == 0
    said = lines_of(capsys)
    return [line for line in said if line.startswith("lock: ")], said[-1]


@pytest.mark.usefixtures("staffed")
def test_a_locked_user_is_refused_until_the_lock_is_lifted(capsys: pytest.CaptureFixture[str]) -> None:
    until = time.time() + 900
    lock("user 204", until=until)
    [said], ending = outcome(capsys, "--user", "204")
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(until))
    assert said == (
        f"lock: user 204: may enter no code until {at}, after 5 wrong ones; "
        '`tollgate callers unlock "user 204"` lifts it'
    )
    assert ending == REFUSED
    # The same user behind a PBX, without a code, and where no code is needed.
    assert outcome(capsys, "--caller", "+14155550104")[1] == REFUSED
    assert run(["explain", "--user", "204", "--number", "+442079460000"]) == 0
    assert lines_of(capsys)[-1] == REFUSED
    assert run(["explain", "--user", "204", "--number", "911", "--code", "1"]) == 0
    assert "code: none is asked for" in lines_of(capsys)
    assert run(["callers", "unlock", "user 204"]) == 0
    assert outcome(capsys, "--user", "204") == ([], FREE)


@pytest.mark.usefixtures("staffed")
def test_a_lock_that_is_over_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    lock("user 204", until=time.time() - 1)
    assert outcome(capsys, "--user", "204") == ([], FREE)


@pytest.mark.usefixtures("staffed")
def test_who_is_locked_is_not_asked_for_an_optional_code(capsys: pytest.CaptureFixture[str]) -> None:
    run(["users", "add", "300", "--group", "guests"])
    lock("user 300")
    [said], ending = outcome(capsys, "--user", "300")
    assert "may enter no code until somebody unlocks it" in said
    assert ending == "outcome: the call is placed without asking for the optional code"


@pytest.mark.usefixtures("staffed")
@pytest.mark.parametrize(
    ("locked", "caller"),
    [
        ("peer pbx +14155550177", ("--caller", "+14155550177", "--group", "staff")),
        ("peer pbx +14155550177", ("--caller", "sip:+14155550177@192.0.2.1;user=phone", "--peer", "pbx")),
        ("nameless callers of peer pbx", ("--peer", "pbx")),
        ("nameless callers of peer pbx", ("--caller", "sip:anonymous@anonymous.invalid", "--peer", "pbx")),
        ("nameless callers of peer pbx", ("--caller", "+14155550199", "--group", "staff")),
        ("all callers of peer pbx", ("--caller", "+14155550177", "--group", "staff")),
        (
            "all callers of peer pbx",
            (
                "--caller",
                "+14155550104",
            ),
        ),
    ],
)
def test_callers_of_a_pbx_are_named_as_the_gate_names_them(
    locked: str, caller: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOLLGATE_TRUNKS")
    monkeypatch.setenv("TOLLGATE_CONFIG", "gate.toml")
    Path("gate.toml").write_text(PEERS)
    lock(locked, "peer branch +14155550177", "all callers of peer branch", "user 999")
    [said], ending = outcome(capsys, *caller)
    assert said.startswith(f"lock: {locked}: ")
    assert ending == REFUSED
    # Not a phone that proves itself.
    assert outcome(capsys, "--user", "204") == ([], FREE)
    # Of several PBXs it may be another one.
    Path("gate.toml").write_text(PEERS + ANOTHER)
    run(["callers", "unlock", "peer branch +14155550177", "all callers of peer branch"])
    [said], ending = outcome(capsys, *caller)
    assert said.endswith(
        "lifts it" if "--peer" in caller else "lifts it (meant are calls through this PBX: --peer)"
    )
    assert ending == (REFUSED if "--peer" in caller else FREE)


@pytest.mark.usefixtures("staffed")
def test_the_only_peer_counts_and_of_several_one_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOLLGATE_TRUNKS")
    monkeypatch.setenv("TOLLGATE_CONFIG", "gate.toml")
    stranger = ["explain", "--caller", "300", "--number", "4155550100"]

    def steps(*more: str) -> list[str]:
        assert run([*stranger, *more]) == 0
        return lines_of(capsys)

    Path("gate.toml").write_text(PEERS)
    said = steps()
    assert said[:2] == ["1. caller: matches no user; the peer's default group counts", "2. group: 'staff'"]
    assert said == steps("--peer", "pbx")
    assert steps("--group", "guests")[1] == "2. group: 'guests'"
    # A pair of PBXs that stand in for each other.
    Path("gate.toml").write_text(PEERS + ANOTHER + 'default_group = "staff"\n')
    assert steps() == said
    Path("gate.toml").write_text(PEERS + ANOTHER)
    refusal = "--peer: needed, as the default groups of the peers differ: pbx (staff), branch (none)"
    assert bad(capsys, *stranger) == f"tollgate: {refusal}\n"
    assert steps("--peer", "pbx") == said
    assert steps("--peer", "branch")[0] == "1. caller: matches no user, and the peer has no default group"
    Path("gate.toml").write_text("")
    assert steps()[0] == "1. caller: matches no user, and the settings have no peer"
    # A default group that is not there is told as a step: the gate refuses such calls.
    Path("gate.toml").write_text(PEERS.replace('"staff"', '"gone"'))
    assert steps()[1] == "2. group: 'gone' does not exist"
    assert run([*stranger, "--group", "gone"]) == 1
    assert "group 'gone' does not exist" in capsys.readouterr().err


def test_whose_call_it_is_has_to_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    says = "tollgate: who calls? Give --user, or for calls through a PBX --caller, --group or --peer\n"
    assert bad(capsys, "explain", "--number", "204") == says


@pytest.mark.usefixtures("staffed")
def test_a_peer_that_is_not_in_the_settings_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "--peer", "pbx", "--number", "204"]) == 1
    assert "--peer: no peer 'pbx' in the settings; there are none" in capsys.readouterr().err


# No trunk


@pytest.mark.usefixtures("staffed")
@pytest.mark.parametrize(
    ("caller", "dials", "ending"),
    [
        ("204", ["4155550100"], "outcome: the call fails for want of a trunk"),
        ("204", ["+442079460000"], "outcome: the call fails for want of a trunk"),
        ("204", ["911"], "outcome: the call fails for want of a trunk"),
        ("204", ["4155550100", "--code", "ACME-12/7"], "outcome: the call fails for want of a trunk"),
        (
            "204",
            ["+442079460000", "--code", "ACME-12/7"],
            "outcome: the call fails for want of a trunk, with code ACME-12/7 on its record",
        ),
        (
            "204",
            ["+442079460000", "--code", "911"],
            "outcome: the emergency call to 911 fails for want of a trunk at once",
        ),
        (
            "204",
            ["+442079460000", "--code", "1"],
            "outcome: asked again; after the last try the call is refused",
        ),
        (
            "300",
            ["+442079460000", "--code", "1"],
            "outcome: asked again; after the last try the call fails for want of a trunk without a code",
        ),
    ],
)
def test_without_a_trunk_no_call_leaves(
    caller: str,
    dials: list[str],
    ending: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TOLLGATE_TRUNKS")
    monkeypatch.setenv("TOLLGATE_NUMBER_PLAN__AREA_CODES", '["415"]')
    run(["users", "add", "300", "--group", "guests"])
    capsys.readouterr()
    assert run(["explain", "--user", caller, "--number", *dials]) == 0
    said = lines_of(capsys)
    assert "trunk: none is in the settings (`trunks`): no call can leave" in said
    assert said[-1] == ending


@pytest.mark.usefixtures("staffed")
def test_a_locked_caller_fails_without_a_trunk_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOLLGATE_TRUNKS")
    run(["users", "add", "300", "--group", "guests"])
    lock("user 300")
    ending = outcome(capsys, "--user", "300")[1]
    assert ending == "outcome: no code is asked for, and the call fails for want of a trunk"


@pytest.mark.usefixtures("staffed")
def test_a_call_inside_needs_no_trunk(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOLLGATE_TRUNKS")
    for number in ("204", "sip:reception@h"):
        assert run(["explain", "--user", "204", "--number", number]) == 0
        assert "trunk" not in capsys.readouterr().out.replace("number for record and trunk", "")
