"""The door to the media engine: what an engine must do for `call`, whichever engine it is.

Call control decides, the engine moves packets (DESIGN contract 2). All it is told is a `MediaCommand`, all it
says is a `MediaAnswer` of `proxy.call.ports`. An engine in another process (rtpengine over its ng protocol)
fits behind the same door: nothing here says how or when an answer comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from proxy.call.ports import MediaAnswer, MediaCommand

__all__ = ["AnswerHandler", "MediaEngine"]

AnswerHandler = Callable[[MediaAnswer], None]
"""Takes one answer, on the event loop's thread. May be called before the `submit` that caused it returns."""


class MediaEngine(Protocol):
    """A media engine. All methods are called on the event loop's thread."""

    def start(self) -> None:
        """Begin to report to the running event loop."""
        ...

    def stop(self) -> None:
        """End everything; legs that are still open are closed without an answer. May be called again."""
        ...

    def submit(self, command: MediaCommand) -> None:
        """Carry out a command. Never raises for what a peer or a call did: a refusal is an answer."""
        ...

    def register_prompt(self, key: str, codec: str, frames: Sequence[bytes]) -> None:
        """Keep a prompt for `PlayPrompts`, encoded once in one codec; frames of 20 ms.

        ``codec`` is PCMU, PCMA, G722 or OPUS. ``key`` is the prompt's name, or ``name@group`` for a user
        group's own recording. A key given before is replaced; what plays now goes on playing the old one.
        """
        ...
