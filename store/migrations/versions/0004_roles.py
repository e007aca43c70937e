"""Roles, per environment and per app. Whoever was a member of an environment could do everything there."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("memberships", schema=None) as batch_op:
        batch_op.add_column(sa.Column("role", sa.String(length=8), nullable=False, server_default="admin"))
    with op.batch_alter_table("memberships", schema=None) as batch_op:
        # From now on a role is always named: one that is forgotten must not be the highest.
        batch_op.alter_column("role", server_default=None)
    op.create_table(
        "app_roles",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("app_id", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.ForeignKeyConstraint(["app_id"], ["apps.id"], name=op.f("fk_app_roles_app_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_app_roles_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "app_id", name=op.f("pk_app_roles")),
    )
    with op.batch_alter_table("app_roles", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_app_roles_app_id"), ["app_id"], unique=False)
