"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# No test measures the machine: it may be busy with something else.
settings.register_profile("tollgate", deadline=None)
settings.load_profile("tollgate")
