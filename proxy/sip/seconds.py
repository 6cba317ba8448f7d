"""Numbers of seconds in headers: delta-seconds (RFC 3261 §25.1), as in Expires and Retry-After."""

from __future__ import annotations

from proxy.sip.message import Message

__all__ = ["delta_seconds", "retry_after"]


def delta_seconds(text: str | None) -> int | None:
    """Read a number of seconds, 2**32 - 1 at most (RFC 3261 §20.19); None for anything else."""
    digits = (text or "").strip()
    if not digits.isascii() or not digits.isdigit():
        return None
    return min(int(digits[:20]), 2**32 - 1)


def retry_after(message: Message) -> int | None:
    """Return the Retry-After of a response in seconds; a comment or parameters may follow (§20.33)."""
    value = message.headers.get("Retry-After")
    return None if value is None else delta_seconds(value.partition(";")[0].partition("(")[0])
