"""A gate whose ports are sprayed by a stranger, in short; `script/reliability spray` lasts a minute. What the
stranger hears and types in a call with sound, is in tests/server/test_spray.py.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from reliability.spray import BYE_SECONDS, hung_up_under_spray


async def test_a_bye_is_answered_within_200_ms_while_a_stranger_sprays_every_port(tmp_path: Path) -> None:
    found = await hung_up_under_spray(tmp_path, seconds=1.0, rate=20.0)
    assert found.sprayed.sent > 1_000
    assert found.sprayed.heard == 0
    assert len(found.waits) == found.calls > 5
    # Single ones wait for whatever else the machine does.
    assert statistics.median(found.waits) <= BYE_SECONDS
