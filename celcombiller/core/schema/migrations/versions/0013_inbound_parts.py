"""The parts of long messages that an SMSC delivers, until all are there."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "inbound_part",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), nullable=False),
        sa.Column("group_key", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("from_number", sa.Text(), nullable=False),
        sa.Column("to_number", sa.Text(), nullable=False),
        sa.Column("data_coding", sa.Integer(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("joined_as", sa.Text(), nullable=True),
        sa.CheckConstraint("number between 1 and total", name=op.f("ck_inbound_part_number")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbound_part")),
    )
    op.create_index("ix_inbound_part_group_key_id", "inbound_part", ["group_key", "id"])
    op.create_index("ix_inbound_part_arrived_at", "inbound_part", ["arrived_at"])
