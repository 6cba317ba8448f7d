"""What holds for every test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.support.run_again import RunAgain

REAL_TIME = {"browser", "media", "net", "reliability", "server", "system"}
"""Folders of tests whose sockets, threads and processes keep real time."""

# No test measures the machine: it may be busy with something else.
settings.register_profile("tollgate", deadline=None)
settings.load_profile("tollgate")


def pytest_configure(config: pytest.Config) -> None:
    """Doubt failures of what keeps real time on a machine that others had."""
    config.pluginmanager.register(RunAgain(), "run again")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them."""
    for item in items:
        if item.path.relative_to(item.config.rootpath / "tests").parts[0] in REAL_TIME:
            item.add_marker(pytest.mark.system)


class TwoHalves(LoadScopeScheduling):  # type: ignore[misc]
    """Of two workers (pytest -n 2) one has all that keeps real time, test after test, the other all else."""

    def _split_scope(self, nodeid: str) -> str:
        return "real time" if Path(nodeid).parts[1] in REAL_TIME else "all else"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TwoHalves:
    """Share the tests out."""
    return TwoHalves(config, log)
