"""Passwords and access tokens, and numbers for services."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "passwords",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_passwords_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_passwords")),
        sa.UniqueConstraint("email", name=op.f("uq_passwords_email")),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tokens_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
    )
    op.create_index(op.f("ix_tokens_user_id"), "tokens", ["user_id"], unique=False)

    # SQLite cannot change a primary key, so the table is made anew.
    op.rename_table("services", "services_without_numbers")
    op.create_table(
        "services",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("app_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("container_count", sa.Integer(), nullable=False),
        sa.Column("container_memory_mb", sa.Integer(), nullable=False),
        sa.Column("cpu_limit", sa.Float(), nullable=False),
        sa.Column("force_zero_downtime", sa.Boolean(), nullable=False),
        sa.Column("simple_health_check", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["app_id"], ["apps.id"], name=op.f("fk_services_app_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_services")),
        sa.UniqueConstraint("app_id", "name", name=op.f("uq_services_app_id")),
        sqlite_autoincrement=True,
    )
    op.execute(
        "INSERT INTO services (app_id, name, container_count, container_memory_mb, cpu_limit, force_zero_downtime, "
        "simple_health_check, created_at) SELECT app_id, name, container_count, container_memory_mb, cpu_limit, "
        "force_zero_downtime, simple_health_check, CURRENT_TIMESTAMP FROM services_without_numbers"
    )
    op.drop_table("services_without_numbers")
