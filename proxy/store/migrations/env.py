"""Alembic's entry: runs the revisions on the connection that `proxy.store.database` holds open."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from proxy.store.models import metadata


def _run() -> None:
    connection = context.config.attributes["connection"]
    if not isinstance(connection, Connection):
        raise TypeError("migrations are run by proxy.store.database only")
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


_run()
