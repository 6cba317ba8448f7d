"""An engine for each test that wants one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.media.embedded_bench import CONFIG, Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with Bench(CONFIG) as running:
        yield running
