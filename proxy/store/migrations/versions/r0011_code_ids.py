"""No account code gets the number that a deleted one had: schedules, the audit log and open pages name it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision: str | None = "0010"
branch_labels: str | None = None
depends_on: str | None = None

_ID = re.compile(r'"(?:code_)?id": ?(\d{1,15})[,}]')
"""In facts as JSON; within a text its quotes would be escaped."""


def upgrade() -> None:
    """Make the table anew with SQLite's AUTOINCREMENT, going on after all numbers that are known anywhere."""
    if op.get_bind().dialect.name != "sqlite":
        return  # a server's sequences never go back
    _make_anew(autoincrement=True)
    op.execute("DELETE FROM sqlite_sequence WHERE name = 'account_codes'")
    last = max(_known_ids(op.get_bind()), default=0)
    numbers = sa.table("sqlite_sequence", sa.column("name"), sa.column("seq"))
    op.execute(sa.insert(numbers).values(name="account_codes", seq=last))


def downgrade() -> None:
    """Make it as it was."""
    if op.get_bind().dialect.name == "sqlite":
        _make_anew(autoincrement=False)


def _make_anew(*, autoincrement: bool) -> None:
    options = {"sqlite_autoincrement": True} if autoincrement else {}
    with op.batch_alter_table("account_codes", recreate="always", table_kwargs=options):
        pass


def _known_ids(connection: sa.Connection) -> Iterator[int]:
    yield int(connection.exec_driver_sql("SELECT coalesce(max(id), 0) FROM account_codes").scalar_one())
    for query in (
        'SELECT "before", "after" FROM audit_log WHERE kind = \'code\'',
        "SELECT filters, NULL FROM report_schedules",
    ):
        for facts in connection.exec_driver_sql(query):
            for text in filter(None, facts):
                yield from map(int, _ID.findall(str(text)))
