"""A usage log of many different calls, the same each time."""

from __future__ import annotations

import random

from proxy.cdr.record import CallRecord, Direction, Disposition, UsedCode
from tests.cdr.samples import START

CLASSES = ("local", "national", "international", "internal", "premium")
CODES = tuple(UsedCode(f"C-{n}", f"2{n}", f"2{n}", f"Client {n}") for n in range(30))


def many_calls(count: int, *, seed: int = 4, days: int = 60) -> list[CallRecord]:
    """Calls in order of their starts; several may start at once, and some values are rare."""
    chance = random.Random(seed)
    starts = sorted(START + chance.randrange(days * 86_400 // 30) * 30 for _ in range(count))
    return [_call(chance, number, start) for number, start in enumerate(starts)]


def _call(chance: random.Random, number: int, start: float) -> CallRecord:
    answered = chance.random() < 0.7
    user = str(200 + chance.randrange(12)) if chance.random() < 0.9 else ""
    dialled = f"+1212555{chance.randrange(2000):04d}"
    return CallRecord(
        f"r{number:06d}",
        start,
        direction=chance.choice((Direction.OUTBOUND, Direction.OUTBOUND, Direction.INBOUND)),
        answered_after=5.0 if answered else None,
        ended_after=5.0 + chance.randrange(0, 900) / 7,
        caller_number=f"+4930{chance.randrange(50):05d}",
        user=user,
        group=f"Group {chance.randrange(4)}",
        dialled_number=dialled.replace("+1", "9"),
        normalised_number=dialled,
        destination_user=str(200 + chance.randrange(12)) if chance.random() < 0.2 else "",
        call_class=chance.choice(CLASSES),
        disposition=Disposition.ANSWERED
        if answered
        else chance.choice((Disposition.BUSY, Disposition.NO_ANSWER)),
        emergency=chance.random() < 0.01,
        code=chance.choice(CODES) if chance.random() < 0.6 else None,
    )
