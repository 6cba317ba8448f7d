"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.support.postgresql import PostgresServer, postgres_server
from tests.support.run_again import RunAgain

REAL_TIME = {"browser", "media", "net", "reliability", "server", "system"}
"""Folders of tests whose sockets, threads and processes keep real time."""

# No test measures the machine: it may be busy with something else.
settings.register_profile("tollgate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tollgate")


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands work in a folder of the test's own, on a store there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLGATE_STORE__URL", "sqlite:///cli.db")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests of this process that ask for it."""
    with postgres_server() as server:
        yield server


def pytest_configure(config: pytest.Config) -> None:
    """Doubt failures of what keeps real time on a machine that others had."""
    config.pluginmanager.register(RunAgain(), "run again")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them."""
    for item in items:
        if item.path.relative_to(item.config.rootpath / "tests").parts[0] in REAL_TIME:
            item.add_marker(pytest.mark.system)


class RealTimeBeside(LoadScopeScheduling):  # type: ignore[misc]
    """One worker has all that keeps no real time; the others what does, which waits, a module at a time."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        # As they were collected: the browser and "all else", which take longest, are among the first.
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        folder = Path(nodeid).parts[1]
        if folder not in REAL_TIME:
            return "all else"
        # One browser and one site serve its whole folder.
        return folder if folder == "browser" else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> RealTimeBeside:
    """Share the tests out."""
    return RealTimeBeside(config, log)
