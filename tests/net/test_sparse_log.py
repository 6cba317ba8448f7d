"""A stranger does not set the pace of the log."""

from __future__ import annotations

import logging

import pytest

from proxy.net.sparse_log import SparseLog


def test_one_warning_per_interval_and_the_rest_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = SparseLog(logging.getLogger("proxy.net.test"), lambda: now[0])
    with caplog.at_level(logging.DEBUG, "proxy.net.test"):
        for tenth in range(250):
            now[0] = tenth / 10
            log.warning("connection closed: %s", "broken", peer="203.0.113.66:5060")
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        "connection closed: broken",
        "connection closed: broken (and 99 warnings about connections before it)",
        "connection closed: broken (and 99 warnings about connections before it)",
    ]
    assert len(caplog.records) == 250
