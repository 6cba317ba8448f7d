"""Uses of codes that calls hold: reservations of codes with a limit."""

from __future__ import annotations

from proxy.call.code_uses import CodeUses
from proxy.policy import AccountCode, CodeTable

LIMITED = AccountCode("77", max_uses=3, uses=1)


def two_reserved() -> CodeUses:
    """One of two uses is answered."""
    uses = CodeUses()
    uses.reserve("r1", LIMITED)
    uses.reserve("r2", LIMITED)
    uses.answered("r1")
    return uses


def test_unlimited_codes_are_not_kept() -> None:
    uses = CodeUses()
    uses.reserve("r1", AccountCode("77"))
    uses.answered("r1")
    uses.give_back("r1")
    assert uses.reserved("77") == 0
    assert uses.held == 0


def test_answered_use_stays_until_a_snapshot_counts_it() -> None:
    uses = two_reserved()
    uses.give_back("r1")
    assert uses.reserved("77") == 2
    uses.counted(CodeTable.of([LIMITED]))
    assert uses.reserved("77") == 2
    uses.counted(CodeTable.of([AccountCode("77", max_uses=3, uses=2)]))
    assert uses.reserved("77") == 1
    uses.give_back("r2")
    assert uses.reserved("77") == 0
    assert uses.held == 0


def test_given_back_beside_an_answered_one() -> None:
    uses = two_reserved()
    uses.give_back("r2")
    assert uses.reserved("77") == 1


def test_deleted_code_is_forgotten() -> None:
    uses = CodeUses()
    uses.reserve("r1", LIMITED)
    uses.answered("r1")
    uses.counted(CodeTable.of())
    assert uses.reserved("77") == 0
