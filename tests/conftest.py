"""What holds for every test."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.support.run_again import RunAgain

# No test measures the machine: it may be busy with something else.
settings.register_profile("tollgate", deadline=None)
settings.load_profile("tollgate")


def pytest_configure(config: pytest.Config) -> None:
    """Doubt failures of real phones on a machine that others had."""
    config.pluginmanager.register(RunAgain(), "run again")
