"""Log records: one line each, with context, without secrets."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest

from proxy import log

logger = logging.getLogger("proxy.some_room")


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    root.setLevel(level)


def _stream(level: str = "INFO", log_format: log.LogFormat = "text") -> io.StringIO:
    stream = io.StringIO()
    log.configure(level, log_format, stream=stream)
    return stream


def test_a_record_says_level_logger_event_and_context_in_order() -> None:
    stream = _stream()
    logger.info(
        "call %s", "answered", extra={"leg": "A", "call_id": "a84b@example.com", "reason": "two words"}
    )
    line = stream.getvalue()
    assert line.endswith(
        'info proxy.some_room "call answered" call_id=a84b@example.com leg=A reason="two words"\n'
    )


def test_json_lines_carry_the_same() -> None:
    stream = _stream(log_format="json")
    logger.warning("lost", extra={"branch": "z9hG4bK1"})
    record = json.loads(stream.getvalue())
    assert (record["event"], record["level"], record["branch"]) == ("lost", "warning", "z9hG4bK1")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_uvicorn_adds_for_terminals_is_not_printed(log_format: log.LogFormat) -> None:
    stream = _stream(log_format=log_format)
    logger.info("Started [%d]", 7, extra={"color_message": "Started [\x1b[36m%d\x1b[0m]"})
    assert "color" not in stream.getvalue()
    assert "36m" not in stream.getvalue()
    assert "Started [7]" in stream.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("key", ["password", "digits", "ha1"])
def test_secrets_are_masked(key: str, log_format: log.LogFormat) -> None:
    stream = _stream(log_format=log_format)
    logger.error("x", extra={key: "98765"})
    assert "98765" not in stream.getvalue()
    assert "***" in stream.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_hostile_value_cannot_forge_a_line(log_format: log.LogFormat) -> None:
    stream = _stream(log_format=log_format)
    logger.info("dialled %s", "1\n2026 info forged\x1b[2J", extra={"peer": "p\r\nq"})
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_a_level_that_is_off_writes_nothing() -> None:
    stream = _stream("WARNING")
    logger.info("state")
    assert not logger.isEnabledFor(logging.INFO)
    assert stream.getvalue() == ""


def test_a_traceback_stays_in_its_record() -> None:
    stream = _stream()
    try:
        raise ValueError("boom")
    except ValueError:
        logger.exception("handling failed")
    assert stream.getvalue().count("\n") == 1
    assert "ValueError: boom" in stream.getvalue()


def test_a_long_value_is_cut() -> None:
    stream = _stream()
    logger.info("x" * 50_000)
    assert len(stream.getvalue()) < log.MAX_VALUE_LENGTH + 200


class _Stuck(logging.Handler):
    """A target that blocks until it is let go, as a full pipe does."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.go.wait(5.0)
        self.seen.append(record.getMessage())


def test_a_stuck_target_costs_records_not_the_caller() -> None:
    target = _Stuck()
    thread = log.LogThread(target, limit=10)
    for number in range(100):
        thread.emit(logging.LogRecord("x", logging.INFO, "", 0, "n %d", (number,), None))
    target.go.set()
    thread.close()
    assert "n 0" in target.seen
    assert "n 99" not in target.seen
    assert any("log records lost" in line for line in target.seen)
    assert len(target.seen) < 15


def test_threaded_records_are_written_by_the_end() -> None:
    stream = io.StringIO()
    log.configure("INFO", threaded=True, stream=stream)
    logger.info("one")
    for handler in logging.getLogger().handlers:
        if isinstance(handler, log.LogThread):
            handler.close()
    assert '"one"' in stream.getvalue()
