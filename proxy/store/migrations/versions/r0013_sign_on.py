"""An account knows the person of the provider of single sign-on who has it: names there change hands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the column: nobody has an account yet but by its name."""
    op.add_column("portal_accounts", sa.Column("sign_on", sa.String(64), nullable=False, server_default=""))
    op.create_index("ix_portal_accounts_sign_on", "portal_accounts", ["sign_on"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_portal_accounts_sign_on", "portal_accounts")
    op.drop_column("portal_accounts", "sign_on")
