"""Real stores for the tests of this room: an SQLite file, and a database of a PostgreSQL server.

Whatever needs a store runs on both, but for what is marked `sqlite`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from proxy.policy import NumberPlan
from proxy.store import Store
from tests.support.postgresql import PostgresServer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Say on which kinds of store a test runs."""
    if "kind" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("sqlite")
        metafunc.parametrize("kind", ["sqlite"] if only else ["sqlite", "postgresql"], scope="module")


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store of the test's own."""
    with _place(kind, request, tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def common_url(
    kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A store that the tests of a module only read."""
    with _place(kind, request, tmp_path_factory.mktemp("common")) as found:
        yield found


def _place(kind: str, request: pytest.FixtureRequest, folder: Path) -> AbstractContextManager[str]:
    if kind == "sqlite":
        return nullcontext(f"sqlite:///{folder}/tollgate.db")
    server: PostgresServer = request.getfixturevalue("postgresql")
    return server.database()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store(url) as opened:
        yield opened


@pytest.fixture
def plan() -> NumberPlan:
    return NumberPlan()
