"""Charts of reports, drawn on the server: what a template needs to write an SVG picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Bar", "Chart", "columns", "lying_bars"]

_WIDTH = 720
_BAR, _GAP = 22, 8
_NAMES = 200
"""Room for the names at the left."""
_VALUES = 90
_HEIGHT, _FOOT = 180, 22
_LONGEST = 26


@dataclass(frozen=True, slots=True)
class Bar:
    """One value. Everything in pixels of the picture."""

    x: float
    y: float
    width: float
    height: float
    name: str
    value: str
    title: str
    name_x: float
    name_y: float


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture."""

    width: int
    height: int
    bars: list[Bar]
    lying: bool


def lying_bars(lines: Sequence[tuple[str, float, str]]) -> Chart:
    """One lying bar per line: its name, its value and the value as people read it."""
    most = max((value for _, value, _ in lines), default=0) or 1
    room = _WIDTH - _NAMES - _VALUES
    bars = []
    for place, (name, value, text) in enumerate(lines):
        top = place * (_BAR + _GAP)
        shown = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
        width = round(room * max(value, 0) / most, 1)
        bars.append(
            Bar(_NAMES, top, width, _BAR, shown, text, f"{name}: {text}", _NAMES - 8, top + _BAR * 0.7)
        )
    return Chart(_WIDTH, max(len(lines) * (_BAR + _GAP), 1), bars, lying=True)


def columns(lines: Sequence[tuple[str, float, str]]) -> Chart:
    """One column per line, from left to right; so many names as there is room for."""
    most = max((value for _, value, _ in lines), default=0) or 1
    step = _WIDTH / max(len(lines), 1)
    every = max(1, -(-len(lines) // 16))
    bars = []
    for place, (name, value, text) in enumerate(lines):
        height = round(_HEIGHT * max(value, 0) / most, 1)
        left = round(place * step, 2)
        shown = name[-5:] if place % every == 0 else ""
        width = round(max(step * 0.8, 0.5), 2)
        bars.append(
            Bar(
                left,
                _HEIGHT - height,
                width,
                height,
                shown,
                "",
                f"{name}: {text}",
                left,
                _HEIGHT + _FOOT * 0.75,
            )
        )
    return Chart(_WIDTH, _HEIGHT + _FOOT, bars, lying=False)
