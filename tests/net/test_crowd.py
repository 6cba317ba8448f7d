"""More datagrams than there is time for: what goes first, and who is told so."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from proxy.net import crowd as module
from proxy.net.crowd import LATE, PATIENCE, STANDING, TURN, Crowd
from proxy.sip.flow import Flow

FLOW = Flow("UDP", "192.0.2.10", 5060)
STRANGER = Flow("UDP", "203.0.113.66", 5060)
REGISTER = b"REGISTER sip:x SIP/2.0"
INVITE, HELP = b"INVITE sip:1@x SIP/2.0", b"INVITE sip:911@x SIP/2.0"
BYE = b"BYE sip:1@x SIP/2.0\r\nTo: <sip:1@x>;tag=a1\r\n"


class Loop:
    """An event loop whose time passes when a datagram is taken."""

    def __init__(
        self,
        *,
        invite: float = 0.0,
        other: float = 0.0,
        declining: float | None = 0.0,
        strangers: float | None = None,
    ) -> None:
        self.now = 100.0
        self.taken: list[bytes] = []
        self.declined: list[tuple[bytes, float]] = []
        self.costs = {INVITE: invite, HELP: invite, REGISTER: invite, BYE: other}
        self._declining = declining
        self._strangers = strangers
        self.soon: list[Callable[[], None]] = []
        self.crowd = Crowd(
            self._take,
            self._decline,
            lambda host: host == FLOW.remote_host,
            lambda: self.now,
            self.soon.append,
        )

    def _take(self, data: bytes, flow: Flow) -> None:
        self.taken.append(data)
        cost = self.costs.get(data, 0.0)
        self.now += cost if flow is not STRANGER or self._strangers is None else self._strangers

    def _decline(self, data: bytes, flow: Flow) -> bool:
        if data == HELP or self._declining is None:
            self._take(data, flow)
            return False
        self.now += self._declining
        self.declined.append((data, self.now))
        return True

    def add(self, data: bytes, count: int = 1, flow: Flow = FLOW) -> None:
        for _ in range(count):
            self.crowd.add(data, flow)

    def run(self, seconds: float, *, offered: int, upkeep: float = 0.0, elsewhere: float = 0.001) -> int:
        """Let so many INVITEs come each second, and the loop do something else between two turns:
        ``elsewhere`` seconds, and ``upkeep`` for each call that the turn has taken; returns how many were
        taken."""
        before, end, owed = len(self.taken), self.now + seconds, 0.0
        last = self.now
        while self.now < end:
            owed += (self.now - last) * offered
            last = self.now
            self.add(INVITE, int(owed))
            owed -= int(owed)
            up = len(self.taken)
            self.crowd.turn()
            self.now += elsewhere + upkeep * (len(self.taken) - up)
        return len(self.taken) - before


def test_what_belongs_to_calls_goes_before_new_ones() -> None:
    loop = Loop()
    for _ in range(3):
        loop.add(INVITE)
        loop.add(BYE)
    loop.crowd.turn()
    assert loop.taken == [BYE] * 3 + [INVITE] * 3
    assert loop.crowd.calm


@pytest.mark.parametrize(
    "data",
    [
        b"SIP/2.0 200 OK\r\n",
        b"ACK sip:1@x SIP/2.0\r\n",
        b"\r\nBYE sip:1@x SIP/2.0\r\nt: <sip:1@x> ; TAG = a1\r\n",
        b"INVITE sip:1@x SIP/2.0\r\nFrom: <sip:2@x>;tag=b\r\nTO : <sip:1@x>;tag=a1\r\n",
    ],
    ids=["response", "ACK", "BYE", "re-INVITE"],
)
def test_of_whom_is_known_responses_and_what_is_within_a_dialog_go_first(data: bytes) -> None:
    loop = Loop()
    loop.add(INVITE)
    loop.add(data, flow=STRANGER)
    loop.add(data)
    loop.crowd.turn()
    sent = data.lstrip()
    assert loop.taken == [sent, INVITE, sent], "strangers are last, whatever they say"


@pytest.mark.parametrize(
    "data",
    [
        b"MESSAGE sip:1@x SIP/2.0\r\nFrom: <sip:2@x>;tag=b\r\nTo: <sip:1@x>\r\n",
        b"BYE sip:1@x SIP/2.0\r\nTo: <sip:1@x>\r\nContact: <sip:1@x;tag=a>\r\n",
        b"FOO sip:1@x SIP/2.0\r\n",
        b"\r\n\r\n",
    ],
    ids=["MESSAGE", "BYE", "FOO", "keep-alive"],
)
def test_what_begins_something_waits_whatever_its_method(data: bytes) -> None:
    loop = Loop()
    loop.add(data)
    loop.add(BYE)
    loop.crowd.turn()
    assert loop.taken[0] == BYE


def test_rfc3261_9_1_a_cancel_stays_behind_its_invite() -> None:
    cancel = b"CANCEL sip:1@x SIP/2.0\r\nTo: <sip:1@x>\r\n"
    loop = Loop()
    loop.add(INVITE)
    loop.add(cancel)
    loop.crowd.turn()
    assert loop.taken == [INVITE, cancel]


@pytest.mark.parametrize(
    "junk",
    [INVITE, b"MESSAGE sip:1@x SIP/2.0", b"BYE sip:1@x SIP/2.0", BYE, b"\r\nINVITE sip:1@x SIP/2.0"],
    ids=["INVITE", "MESSAGE", "BYE", "BYE with a tag", "CRLF, INVITE"],
)
@pytest.mark.parametrize("declinable", [True, False])
def test_no_junk_of_strangers_keeps_a_phones_requests_from_their_turn(junk: bytes, declinable: bool) -> None:
    # 8,000 a second of 0.17 ms each beside 50 of 2 ms each: the loop has time for two thirds of it.
    loop = Loop(strangers=0.00017, invite=0.002, declining=0.0001 if declinable else None)
    sent = owed = 0
    mine = b"INVITE sip:2@x SIP/2.0"
    loop.costs[mine] = 0.002
    last, end = loop.now, loop.now + 10.0
    while loop.now < end:
        owed += round((loop.now - last) * 8_000)
        last = loop.now
        loop.add(junk, owed, flow=STRANGER)
        owed = 0
        while sent < (loop.now - end + 10.0) * 50:
            loop.add(mine)
            sent += 1
        loop.crowd.turn()
        loop.now += 0.0005
    assert loop.taken.count(mine) >= sent - 5
    assert mine not in [data for data, _ in loop.declined]
    assert loop.crowd.dropped > 0 or declinable


def test_strangers_have_half_of_the_room_by_number_and_by_octets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 20)
    monkeypatch.setattr(module, "MOST_OCTETS", 2_000)
    loop = Loop()
    loop.add(INVITE, 15, flow=STRANGER)
    assert (len(loop.crowd), loop.crowd.dropped) == (10, 5)
    loop.add(INVITE, 5)
    assert len(loop.crowd) == 15
    assert loop.crowd.has_room()
    loop.crowd.turn()
    loop.add(b"x" * 500, 5, flow=STRANGER)
    assert (len(loop.crowd), loop.crowd.dropped) == (2, 8)
    loop.add(b"x" * 500, 2)
    assert not loop.crowd.has_room()
    loop.crowd.turn()
    assert loop.crowd.has_room()
    loop.add(b"x" * 500, 1, flow=STRANGER)
    assert (len(loop.crowd), loop.crowd.dropped) == (1, 8)


def test_a_turn_comes_once_however_often_it_is_asked_for_and_again_while_anybody_waits() -> None:
    loop = Loop(invite=0.001)
    backlog = [INVITE] * 3
    seen: list[int] = []

    def gather() -> bool:
        seen.append(len(loop.taken))
        loop.add(backlog.pop())
        return bool(backlog)

    loop.crowd.gatherers.append(gather)
    loop.crowd.hasten()
    loop.crowd.hasten()
    while loop.soon:
        (turn,) = loop.soon
        loop.soon.clear()
        turn()
    assert seen == [0, 1, 2]
    assert loop.taken == [INVITE] * 3
    assert loop.crowd.calm


def test_a_message_that_breaks_the_gate_keeps_no_other_from_its_turn() -> None:
    loop = Loop()
    take = loop.crowd.deliver

    def break_once(data: bytes, flow: Flow) -> None:
        loop.crowd.deliver = take
        raise ZeroDivisionError(data, flow)

    loop.crowd.deliver = break_once
    loop.add(INVITE, 3)
    loop.crowd.hasten()
    with pytest.raises(ZeroDivisionError):
        loop.soon.pop()()
    loop.soon.pop()()
    assert loop.taken == [INVITE] * 2
    assert not loop.soon


def test_who_waits_of_a_connection_is_counted_until_its_turn_or_the_end() -> None:
    loop = Loop()
    flow = STRANGER._replace(connection=7)
    loop.add(INVITE, 2, flow=flow)
    loop.add(INVITE, 1)
    assert (loop.crowd.waits_for(7), loop.crowd.waits_for(8)) == (2, 0)
    loop.crowd.turn()
    assert loop.crowd.waits_for(7) == 0
    loop.add(INVITE, 2, flow=flow)
    loop.crowd.clear()
    assert (loop.crowd.waits_for(7), len(loop.crowd)) == (0, 0)


def test_the_ack_of_what_was_declined_is_nothing_to_deliver() -> None:
    loop = Loop()
    loop.add(b"ACK sip:1@x SIP/2.0\r\nTo: <sip:1@x>;tag=declined.4711\r\n")
    assert loop.crowd.calm


def test_peers_and_phones_go_before_strangers() -> None:
    loop = Loop()
    loop.add(REGISTER, flow=STRANGER)
    loop.add(INVITE)
    loop.crowd.turn()
    assert loop.taken == [INVITE, REGISTER]


def test_strangers_are_declined_while_there_is_time_for_others() -> None:
    loop = Loop(invite=0.0005, declining=0.00003)
    for _ in range(200):
        loop.add(REGISTER, 400, flow=STRANGER)
        loop.add(INVITE, 5)
        loop.crowd.turn()
        loop.now += 0.01
    assert loop.taken.count(INVITE) == 200 * 5
    assert {data for data, _ in loop.declined} == {REGISTER}


def test_a_crowd_that_goes_again_is_late_and_nobody_is_declined() -> None:
    loop = Loop(invite=0.002)
    loop.add(INVITE, 400)
    while len(loop.crowd):
        loop.crowd.turn()
    assert loop.now < 100.0 + STANDING
    assert len(loop.taken) == 400
    assert loop.declined == []


def test_a_crowd_that_stands_while_nobody_waits_for_long_is_declined_nobody() -> None:
    # As many as there is time for, behind a stall: it never ends, and is never so late that it matters.
    loop = Loop(invite=0.0005)
    loop.add(INVITE, 150)
    for _ in range(int(3 * STANDING / 0.032)):
        loop.crowd.turn()
        assert len(loop.crowd), "it stands"
        loop.add(INVITE, 64)
    assert loop.now > 100.0 + 2 * STANDING
    assert loop.declined == []


def test_two_late_crowds_are_no_overload_between_which_there_was_none() -> None:
    loop = Loop(invite=0.001)
    for _ in range(3):
        loop.add(INVITE, 50)
        loop.now += 2 * LATE
        loop.crowd.turn()
        assert loop.crowd.calm
        loop.now += 2 * STANDING
    assert loop.declined == []


def test_in_overload_the_work_of_capacity_is_done(caplog: pytest.LogCaptureFixture) -> None:
    # A call costs 0.5 ms when it comes and 0.5 ms later: what is declined leaves time for 1,000 a second.
    loop = Loop(invite=0.0005, declining=0.00003)
    loop.run(2 * STANDING, offered=20_000, upkeep=0.0005)
    assert "overload" in caplog.text
    before = len(loop.declined)
    taken = loop.run(5.0, offered=20_000, upkeep=0.0005)
    declined = len(loop.declined) - before
    assert declined > 50_000
    assert taken >= 0.8 * 1_000 * (5.0 - 0.00003 * declined)


def test_a_loop_that_has_no_time_takes_some_new_calls_all_the_same() -> None:
    loop = Loop(invite=0.0005, declining=0.00003)
    loop.run(2 * STANDING, offered=20_000)
    assert loop.run(5.0, offered=20_000, elsewhere=2 * TURN) >= 5 * 100


def test_nobody_waits_longer_than_50_ms_in_overload() -> None:
    loop = Loop(invite=0.0005, declining=0.00003)
    loop.run(2 * STANDING, offered=8_000)
    waits: list[float] = []
    taken, declined = len(loop.taken), len(loop.declined)
    for _ in range(200):
        loop.add(INVITE, 160)
        came = loop.now
        while loop.now < came + 0.02:
            loop.crowd.turn()
            loop.now += 0.001
        waits += [at - came for _, at in loop.declined[declined:]]
        declined = len(loop.declined)
    assert len(loop.taken) > taken
    assert waits
    assert max(waits) <= 0.05


def test_who_is_not_declined_is_taken_instead() -> None:
    loop = Loop(invite=0.001)
    loop.run(2 * STANDING, offered=5_000)
    loop.add(HELP)
    declined = loop.crowd.declined
    for _ in range(100):
        loop.crowd.turn()
        loop.now += 0.02
    assert loop.taken.count(HELP) == 1
    assert HELP not in [data for data, _ in loop.declined]
    assert loop.crowd.declined == len(loop.declined) > declined


def test_what_belongs_to_calls_leaves_the_loop_its_turn_too() -> None:
    loop = Loop(other=0.005)
    loop.add(BYE, 200)
    loop.crowd.turn()
    assert len(loop.taken) == module.FEW
    assert not loop.crowd.calm
    while len(loop.crowd):
        loop.crowd.turn()
    assert len(loop.taken) == 200


def test_overload_is_over_when_nobody_had_to_be_declined_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    loop = Loop(invite=0.0005)
    loop.run(2 * STANDING, offered=20_000)
    for _ in range(int(3 * STANDING / TURN)):
        loop.crowd.turn()
        loop.now += TURN
    assert loop.crowd.calm
    assert f"the overload is over; {loop.crowd.declined} requests" in caplog.text
    # The next crowd has its second again.
    declined = loop.crowd.declined
    loop.add(INVITE, 100)
    loop.now += 2 * PATIENCE
    loop.crowd.turn()
    loop.crowd.turn()
    assert loop.crowd.declined == declined
