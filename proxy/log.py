"""Logging set-up: every record of the process, as key=value or JSON lines on stderr.

The rooms log with the standard library (``logging.getLogger(__name__)``), so a record of a level that is off
costs one comparison. What is on is rendered by structlog: time, level, logger and event first, then the
context that came as ``extra=`` (`CONTEXT_KEYS`), then the rest.

The process that serves calls renders and writes in a thread of its own: a stuck terminal or a full pipe must
not delay a call. Its queue is bounded; what does not fit is counted and the count is logged, so a flood of
records costs records, never memory or calls.

Values under a key that names a secret are masked, whatever a caller passed (DESIGN 1.6: wrong digits appear
nowhere); control characters are escaped, so a hostile header cannot forge a second line.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from collections.abc import MutableMapping
from typing import Literal, TextIO

import structlog

__all__ = ["CONTEXT_KEYS", "LogThread", "configure"]

CONTEXT_KEYS = ("call_id", "leg", "branch", "peer", "trunk")
"""What a record may carry about its call, in the order in which it is printed."""

SECRET_KEYS = frozenset(
    {"password", "secret", "ha1", "digits", "digit", "code", "account_code", "nonce", "authorization"}
)
"""Values under these keys are never printed."""

MASK = "***"
MAX_VALUE_LENGTH = 8_000
"""Characters of one value; a longer one is cut (a trace of a message fits)."""

LogFormat = Literal["text", "json"]
_EventDict = MutableMapping[str, object]

_ESCAPES = {code: f"\\x{code:02x}" for code in [*range(32), 127]} | {9: "\\t", 10: "\\n", 13: "\\r"}


def _drop_formatter_keys(_logger: object, _method: str, event: _EventDict) -> _EventDict:
    """Remove what `logging.Formatter` left on the record and what uvicorn adds for terminals: both repeat the
    event."""
    for key in ("message", "asctime", "color_message"):
        event.pop(key, None)
    return event


def _mask_secrets(_logger: object, _method: str, event: _EventDict) -> _EventDict:
    for key in event.keys() & SECRET_KEYS:
        event[key] = MASK
    return event


def _clean(value: object) -> object:
    if not isinstance(value, str):
        return value
    if len(value) > MAX_VALUE_LENGTH:
        value = value[:MAX_VALUE_LENGTH] + "..."
    return value.encode("utf-8", "backslashreplace").decode().translate(_ESCAPES)


def _escape_controls(_logger: object, _method: str, event: _EventDict) -> _EventDict:
    for key, value in event.items():
        event[key] = _clean(value)
    return event


def _render_text(_logger: object, _method: str, event: _EventDict) -> str:
    """Print ``time level logger "event" key=value ...``, quoted where the value needs it."""
    parts = [str(event.pop("timestamp", "")), str(event.pop("level", "")), str(event.pop("logger", ""))]
    parts.append(_quote(str(event.pop("event", "")), always=True))
    context = ((key, event.pop(key, None)) for key in CONTEXT_KEYS)
    parts.extend(f"{key}={_quote(str(value))}" for key, value in context if value is not None)
    parts.extend(f"{key}={_quote(str(value))}" for key, value in event.items())
    return " ".join(parts)


def _quote(text: str, *, always: bool = False) -> str:
    if always or not text or " " in text or '"' in text or "=" in text:
        return '"' + text.replace('"', '\\"') + '"'
    return text


def _formatter(log_format: LogFormat) -> logging.Formatter:
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _drop_formatter_keys,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _mask_secrets,
    ]
    final: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format == "json":
        final.append(structlog.processors.JSONRenderer(default=str))
    else:
        final += [_escape_controls, _render_text]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final)


class LogThread(logging.Handler):
    """Hands records to a thread that renders and writes them."""

    def __init__(self, target: logging.Handler, *, limit: int = 10_000) -> None:
        super().__init__()
        self._target = target
        self._limit = limit
        self._queue: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="tollgate-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record, or count it as lost; never waits."""
        if self._queue.qsize() >= self._limit:
            self._lost += 1
            return
        # Arguments are merged here, while they still say what they said; the rendering is left to the thread.
        record.msg, record.args = record.getMessage(), None
        self._queue.put(record)

    def close(self) -> None:
        """Write what is queued and end the thread."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(timeout=2.0)
        super().close()

    def _run(self) -> None:
        while (record := self._queue.get()) is not None:
            if self._lost:
                lost, self._lost = self._lost, 0
                self._target.handle(
                    logging.LogRecord(
                        __name__,
                        logging.WARNING,
                        __file__,
                        0,
                        "%d log records lost: too many at once",
                        (lost,),
                        None,
                    )
                )
            self._target.handle(record)


def configure(
    level: str = "INFO",
    log_format: LogFormat = "text",
    *,
    threaded: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Send every record of the process at ``level`` and above to ``stream`` (stderr); safe to call again.

    ``threaded`` gives the writing to a `LogThread`; `logging.shutdown` (at exit) waits until it is written.
    """
    target: logging.Handler = logging.StreamHandler(stream or sys.stderr)
    target.setFormatter(_formatter(log_format))
    handler = LogThread(target) if threaded else target
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, LogThread) or type(old) is logging.StreamHandler:
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(level)
    # Libraries below WARNING say nothing that an administrator of calls needs.
    for noisy in ("asyncio", "alembic", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _mask_secrets,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
