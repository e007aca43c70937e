"""Endpoints with a certificate, a TCP port, another service; and accounts at certificate authorities."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.rename_table("endpoints", "former_endpoints")
    op.drop_index("ix_endpoints_app_id", table_name="former_endpoints")
    op.create_table(
        "endpoints",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("app_id", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(length=253), nullable=True),
        sa.Column("tcp_port", sa.Integer(), nullable=True),
        sa.Column("service", sa.String(length=64), nullable=True),
        sa.Column("container_port", sa.Integer(), nullable=True),
        sa.Column("certificate", sa.LargeBinary(), nullable=True),
        sa.Column("managed", sa.Boolean(), nullable=False),
        sa.Column("redirect", sa.Boolean(), nullable=False),
        sa.Column("renewal_tried_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("renewal_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["app_id"], ["apps.id"], name=op.f("fk_endpoints_app_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoints")),
        sa.UniqueConstraint("host", name=op.f("uq_endpoints_host")),
        sa.UniqueConstraint("tcp_port", name=op.f("uq_endpoints_tcp_port")),
    )
    op.execute(
        "INSERT INTO endpoints (app_id, host, managed, redirect, created_at) "
        "SELECT app_id, host, false, false, CURRENT_TIMESTAMP FROM former_endpoints"
    )
    op.drop_table("former_endpoints")
    with op.batch_alter_table("endpoints", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_endpoints_app_id"), ["app_id"], unique=False)
    op.create_table(
        "acme_accounts",
        sa.Column("directory", sa.String(length=255), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("directory", name=op.f("pk_acme_accounts")),
    )
