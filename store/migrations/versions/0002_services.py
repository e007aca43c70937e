"""Scale and settings of services."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "services",
        sa.Column("app_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("container_count", sa.Integer(), nullable=False),
        sa.Column("container_memory_mb", sa.Integer(), nullable=False),
        sa.Column("cpu_limit", sa.Float(), nullable=False),
        sa.Column("force_zero_downtime", sa.Boolean(), nullable=False),
        sa.Column("simple_health_check", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["app_id"], ["apps.id"], name=op.f("fk_services_app_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("app_id", "name", name=op.f("pk_services")),
    )
