"""What lamps show of calls: RFC 4235."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from proxy.call.config import CodeMode, SubscriptionConfig
from proxy.call.dialog_info import DialogInfo, DialogStatus, document
from tests.call.transfers import SLOW, refer
from tests.call.watching import DIALOG_INFO, WatchBench
from tests.support.gate import NUMBER, PBX
from tests.support.ua import Step, Ua

RINGS = (Step(0.0, 180),)


def test_rfc4235_4_1_a_document() -> None:
    dialogs = [
        DialogInfo("1a", DialogStatus.CONFIRMED, True),
        DialogInfo("2b", DialogStatus.EARLY, False, "sip:+12125550100@example.com", 'Ann "A" <&>'),
    ]
    root = ET.fromstring(document("sip:204@[2001:db8::1]", 7, dialogs))
    assert root.tag == DIALOG_INFO + "dialog-info"
    assert root.attrib == {"version": "7", "state": "full", "entity": "sip:204@[2001:db8::1]"}
    first, second = root
    assert first.attrib == {"id": "1a", "direction": "initiator"}
    assert [child.tag for child in first] == [DIALOG_INFO + "state"]
    assert second.attrib == {"id": "2b", "direction": "recipient"}
    identity = second.find(f"{DIALOG_INFO}remote/{DIALOG_INFO}identity")
    assert identity is not None
    assert (identity.text, identity.get("display")) == ("sip:+12125550100@example.com", 'Ann "A" <&>')


@pytest.mark.parametrize("name", ["a\x00b", "a\x1bb", "a\ud8ffb", "a\ufffeb", "a\nb"])
def test_xml_1_0_2_2_what_a_document_cannot_hold_is_left_out(name: str) -> None:
    dialog = DialogInfo("1a", DialogStatus.TRYING, False, f"sip:{name}@x", name)
    identity = ET.fromstring(document(f"sip:{name}@x", 0, [dialog])).find(f".//{DIALOG_INFO}identity")
    assert identity is not None
    assert (identity.text, identity.get("display")) == ("sip:ab@x", "ab")


def test_rfc4235_3_7_1_the_lamp_of_who_is_called() -> None:
    with WatchBench() as bench:
        bench.register(bench.desk, "204")
        bench.desk.script = (Step(1.0, 180), Step(3.0, 200, with_sdp=True))
        watcher = bench.watch("204")
        call = bench.stranger.call("204", caller="206")
        bench.run(2.0)
        assert not bench.core.idle
        assert watcher.lamps == [["recipient trying"], ["recipient early"]]
        bench.run(4.0)
        assert watcher.lamps[2:] == [["recipient confirmed"]]
        call.bye()
        bench.run(2.0)
        assert watcher.lamps[3:] == [["recipient terminated"]]
        watcher.refresh(600)
        bench.run(0.1)
        assert watcher.lamps[4:] == [[]], "an ended dialog is told once"
        assert [told.version for told in watcher.told] == [1, 2, 3, 4, 5]
        assert all(told.remote == [] for told in watcher.told)


def test_rfc4235_3_7_1_the_lamp_of_who_calls() -> None:
    with WatchBench() as bench:
        bench.register(bench.desk, "204")
        bench.desk.script = (Step(1.0, 180), Step(3.0, 200, with_sdp=True))
        watcher = bench.watch("206")
        call = bench.stranger.call("204", caller="206")
        bench.run(6.0)
        assert watcher.lamps == [["initiator trying"], ["initiator early"], ["initiator confirmed"]]
        call.bye()
        bench.run(2.0)
        assert watcher.lamps[3:] == [["initiator terminated"]]


def test_a_caller_at_the_prompt_is_busy() -> None:
    with WatchBench() as bench:
        watcher = bench.watch("204")
        call = bench.desk.call(NUMBER, caller="204")
        bench.run(1.0)
        assert watcher.lamps == [["initiator confirmed"]]
        call.bye()
        bench.run(1.0)
        assert watcher.lamps[1:] == [["initiator terminated"]]


def test_a_caller_at_the_early_prompt_is_in_an_early_dialog() -> None:
    with WatchBench() as bench:
        config = bench.core.config
        assert config.phones is not None
        bench.core.reconfigure(replace(config, phones=replace(config.phones, code_mode=CodeMode.EARLY)))
        watcher = bench.watch("204")
        call = bench.desk.call(NUMBER, caller="204")
        bench.run(1.0)
        bench.press("1234#")
        bench.run(1.0)
        assert watcher.lamps[0] == ["initiator early"]
        assert watcher.lamps[-1] == ["initiator confirmed"]
        assert ["initiator trying"] not in watcher.lamps
        call.bye()


def test_who_calls_itself_is_told_once_of_it() -> None:
    with WatchBench() as bench:
        bench.register(bench.desk, "204")
        bench.desk.script = RINGS
        watcher = bench.watch("204")
        call = bench.stranger.call("204", caller="204")
        bench.run(1.0)
        assert watcher.lamps[-1] == ["initiator early"]
        call.cancel()
        bench.run(3.0)
        assert watcher.lamps[-1] == ["initiator terminated"]


def test_rfc6665_4_2_1_a_new_watcher_is_told_of_calls_that_are_under_way() -> None:
    with WatchBench() as bench:
        bench.register(bench.desk, "204")
        bench.desk.script = RINGS
        calls = [bench.stranger.call("204", caller=caller) for caller in ("206", "205")]
        bench.run(1.0)
        bench.watcher.subscribe("204", expires=600)
        bench.run(1.0)
        assert bench.watcher.lamps == [["recipient early", "recipient early"]]
        for call in calls:
            call.cancel()
        bench.run(1.0)


def test_dialogs_of_one_notify_are_limited() -> None:
    with WatchBench(config=SubscriptionConfig(max_dialogs=2)) as bench:
        bench.register(bench.desk, "204")
        bench.desk.script = RINGS
        calls = [bench.stranger.call("204", caller="206") for _ in range(4)]
        bench.run(1.0)
        watcher = bench.watcher
        watcher.subscribe("204", expires=600)
        bench.run(1.0)
        assert len(watcher.lamps[0]) == 2
        calls[0].cancel()
        bench.run(2.0)
        assert watcher.lamps[-1] == ["recipient terminated", "recipient early", "recipient early"]
        for call in calls[1:]:
            call.cancel()
        bench.run(5.0)


def test_a_change_is_told_to_nobody_else() -> None:
    with WatchBench() as bench:
        bench.register(bench.desk, "204")
        bench.desk.script = RINGS
        watcher = bench.watch("205")
        call = bench.stranger.call("204", caller="206")
        bench.run(1.0)
        call.cancel()
        bench.run(1.0)
        assert watcher.told == []


@pytest.mark.parametrize(
    ("privacy", "seen"),
    [
        ("", [("Bob", "sip:206@gate.example.com")]),
        ("none", [("Bob", "sip:206@gate.example.com")]),
        ("id", []),
        ("user;critical", []),
    ],
)
def test_rfc3323_4_2_with_whom_is_told_where_it_may_be(privacy: str, seen: list[tuple[str, str]]) -> None:
    with WatchBench(config=SubscriptionConfig(show_remote=True)) as bench:
        bench.register(bench.desk, "204")
        bench.desk.script = RINGS
        for user in ("204", "206"):
            bench.watcher.subscribe(user, expires=600)
        bench.run(0.1)
        bench.watcher.told.clear()
        call = bench.stranger.call("204", caller="206", headers=[("Privacy", privacy)] if privacy else [])
        for live in bench.core.calls.values():
            live.record.caller_name = "Bob"
        bench.run(1.0)
        callee, caller = (
            next(told for told in bench.watcher.told if told.lamp == [f"{direction} early"])
            for direction in ("recipient", "initiator")
        )
        assert [uri for _, uri in callee.remote] == [uri for _, uri in seen]
        assert caller.remote == [("", "sip:204@gate.example.com")]
        call.cancel()
        bench.run(1.0)


def test_rfc4235_3_7_1_lamps_follow_a_transfer() -> None:
    with WatchBench() as bench:
        second, third = bench.phone("192.0.2.35"), bench.phone("192.0.2.36", script=SLOW)
        bench.register(bench.desk, "204")
        bench.register(second, "205")
        bench.register(third, "206")
        call = bench.desk.call("205", caller="204")
        bench.run(2.0)
        shown: dict[str, str] = {}
        for user in ("204", "205", "206"):
            bench.watcher.subscribe(user, user="206", expires=3600)

        def look() -> dict[str, str]:
            bench.run(1.5)
            for told in bench.watcher.told:
                entity = told.document.get("entity") or ""
                shown[entity[4:7]] = " + ".join(lamp for lamp in told.lamp if "terminated" not in lamp)
            bench.watcher.told.clear()
            return shown

        assert look() == {"204": "initiator confirmed", "205": "recipient confirmed", "206": ""}
        refer(call, "206")
        bench.run(0.2)
        assert look() == {
            "204": "initiator confirmed",
            "205": "initiator confirmed",
            "206": "recipient early",
        }, "who transfers is still there"
        bench.run(2.0)
        assert look() == {"204": "", "205": "initiator confirmed", "206": "recipient confirmed"}
        second.calls[0].bye()
        assert look() == {"204": "", "205": "", "206": ""}


def test_rfc4235_3_7_1_the_callee_transfers_a_call_of_the_carrier() -> None:
    with WatchBench() as bench:
        second = bench.phone("192.0.2.35", script=SLOW)
        bench.register(bench.desk, "204")
        bench.register(second, "205")
        watcher = bench.watch("204")
        call = bench.carrier.call("+12125550204", caller="+13125550100")
        bench.run(3.0)
        refer(bench.desk.calls[0], "205")
        bench.run(1.0)
        assert watcher.lamps[-1] == ["recipient confirmed"]
        bench.run(3.0)
        assert watcher.lamps[-1] == ["recipient terminated"]
        call.bye()


def test_rfc4235_3_7_1_a_caller_behind_a_pbx_is_transferred() -> None:
    with WatchBench(pbx=True) as bench:
        second, third = bench.phone("192.0.2.35"), bench.phone("192.0.2.36")
        bench.register(second, "205")
        bench.register(third, "206")
        watcher = bench.watch("204")
        caller = Ua(*PBX, lambda: bench.now)
        bench.network.attach(PBX, caller, caller.after)
        call = caller.call("205", caller="204")
        bench.run(2.0)
        assert watcher.lamps[-1] == ["initiator confirmed"]
        refer(second.calls[0], "206")
        bench.run(3.0)
        assert watcher.lamps[-1] == ["initiator terminated", "initiator confirmed"]
        call.bye()
        bench.run(1.0)
        assert watcher.lamps[-1] == ["initiator terminated"]
