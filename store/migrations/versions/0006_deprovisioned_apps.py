"""Deprovisioned apps keep their row, and give their handle back."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("apps", schema=None) as batch_op:
        batch_op.add_column(sa.Column("deleted_at", sa.DateTime(timezone=True)))
        batch_op.drop_constraint(op.f("uq_apps_handle"), type_="unique")
    live = sa.text("deleted_at IS NULL")
    op.create_index("ix_apps_live_handle", "apps", ["handle"], unique=True, sqlite_where=live, postgresql_where=live)
