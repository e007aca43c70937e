"""Endpoints with a certificate, a TCP port, another service; and accounts at certificate authorities."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Kept here and not in a table of another name, whose indexes would hold the names that the new one needs.
    former = op.get_bind().execute(sa.text("SELECT app_id, host FROM endpoints")).all()
    op.drop_table("endpoints")
    made = op.create_table(
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
    now = datetime.now(UTC)
    op.bulk_insert(
        made,
        [
            {"app_id": app_id, "host": host, "managed": False, "redirect": False, "created_at": now}
            for app_id, host in former
        ],
    )
    with op.batch_alter_table("endpoints", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_endpoints_app_id"), ["app_id"], unique=False)
    op.create_table(
        "acme_accounts",
        sa.Column("directory", sa.String(length=255), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("directory", name=op.f("pk_acme_accounts")),
    )
