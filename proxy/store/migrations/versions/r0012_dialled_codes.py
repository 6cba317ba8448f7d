"""Calls of a ``?`` code are found and added up by the digits that were dialled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision: str | None = "0011"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Put the digits in the place of the code, and add the codes of all months up again."""
    # The form of such a code in a record is what was dialled; a corrected call has the code it was given.
    changed = op.get_bind().execute(
        sa.text(
            "UPDATE call_records SET code_key = code_form WHERE code_key LIKE '%?%' AND NOT corrected "
            "AND code_form NOT LIKE '%?%' AND length(code_form) = length(code_key)"
        )
    )
    if changed.rowcount == 0:
        return
    op.execute("DELETE FROM usage_totals WHERE dimension = 'code_month'")
    op.execute(
        "INSERT INTO usage_totals SELECT 'code_month', substr(day, 1, 7), code_key, COUNT(*), "
        "SUM(CASE WHEN talk_time > 0.0005 THEN 1 ELSE 0 END), "
        "SUM(CAST(ROUND(talk_time * 1000) AS BIGINT)) "
        "FROM call_records WHERE code_key <> '' GROUP BY 2, 3"
    )


def downgrade() -> None:
    """Leave them: what was dialled is what the log shows."""
