"""What open pages are told without asking: server-sent events (HTML Living Standard §9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from proxy.portal.gate_link import LiveCall
from proxy.portal.pages import emergencies_of, part
from proxy.portal.permissions import Permission
from proxy.portal.visit import Visit
from proxy.store import Role

__all__ = ["Figures", "calls_for", "events", "figures"]

_VALUES = {"down": "down", "alert": "emergencies", "figures": "figures", "calls": "calls"}
"""The parts of a page, and what each of their templates is given."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How many calls there are, and in what they are."""

    calls: int
    asking: int
    ringing: int
    talking: int


def figures(calls: tuple[LiveCall, ...]) -> Figures:
    """Count calls."""
    states = [call.state for call in calls]
    ringing = sum(state in {"dialling", "ringing"} for state in states)
    talking = sum(state in {"confirming", "talking", "transferring"} for state in states)
    return Figures(len(states), states.count("asking"), ringing, talking)


def calls_for(visit: Visit, calls: tuple[LiveCall, ...]) -> tuple[LiveCall, ...]:
    """Leave of all calls those that who comes may see: users see their own."""
    if visit.who.role is Role.USER:
        return tuple(call for call in calls if call.belongs_to(visit.who.extension))
    return calls


async def events(visit: Visit) -> AsyncIterator[str]:
    """Tell of each change, for a while or as long as there is a gate; then the browser comes again, and is
    asked anew who it is.
    """
    portal = visit.portal
    told: dict[str, object] = {}
    yield "retry: 1000\n\n"
    silent = 0.0
    for _ in range(max(1, round(portal.feed.lasts / portal.feed.every))):
        found = await run_in_threadpool(portal.gate.calls)
        calls = None if found is None else calls_for(visit, found)
        silent += portal.feed.every
        shown: dict[str, object] = {
            # Timers run in the browser: a second that passes is no change.
            "down": calls is None,
            "alert": await run_in_threadpool(emergencies_of, visit, calls),
            "figures": None if calls is None else figures(calls),
            "calls": calls,
        }
        for name in [name for name in shown if name not in told or told[name] != shown[name]]:
            told[name] = shown[name]
            silent = 0.0
            yield _event(name, await run_in_threadpool(_rendered, visit, name, shown[name]))
        if calls is None:
            return
        if silent >= portal.feed.quiet:
            silent = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(portal.feed.every)


def _rendered(visit: Visit, name: str, seen: object) -> str:
    """Return one part of the page, which is the same for all who may see the same."""
    portal, now = visit.portal, visit.portal.clock()
    rights = visit.may(Permission.CODES_VIEW), visit.may(Permission.CALLS_HANG_UP)
    own = visit.who.extension if visit.who.role is Role.USER else ""
    return portal.rendered.get(
        (name, rights, own, visit.texts.language),
        seen,
        lambda: part(visit, f"live_{name}.html", now=now, **{_VALUES[name]: seen}),
        now=now,
        good_for=portal.feed.every,
    )


def _event(name: str, html: str) -> str:
    lines = "".join(f"data: {line}\n" for line in html.splitlines() if line.strip()) or "data:\n"
    return f"event: {name}\n{lines}\n"
