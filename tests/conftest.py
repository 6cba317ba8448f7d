"""What holds for every test."""

from __future__ import annotations

import pytest
from hypothesis import settings

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
    """Say which tests that are. With two workers (pytest -n 2) one has them all, one after the other."""
    for item in items:
        if item.path.relative_to(item.config.rootpath / "tests").parts[0] in REAL_TIME:
            item.add_marker(pytest.mark.system)
        real_time = item.get_closest_marker("system") is not None
        item.add_marker(pytest.mark.xdist_group("real-time" if real_time else "all-else"))
