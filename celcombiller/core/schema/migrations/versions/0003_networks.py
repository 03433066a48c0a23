"""Radio networks: what each should know of every IMSI, and the queue that brings it there."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "network",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("added_at", INSTANT, nullable=False),
        sa.Column("answered_at", INSTANT, nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_try_at", INSTANT, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("done_total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed_total", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_network")),
    )
    op.create_table(
        "network_entry",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("imsi", sa.Text(), nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=True),
        sa.Column("msisdn", sa.Text(), nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("queued_at", INSTANT, nullable=False),
        sa.Column("done_at", INSTANT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_try_at", INSTANT, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("claimed_until", INSTANT, nullable=True),
        sa.CheckConstraint("wanted = (msisdn <> '')", name=op.f("ck_network_entry_msisdn")),
        sa.CheckConstraint("not wanted or subscriber_id is not null", name=op.f("ck_network_entry_subscriber")),
        sa.ForeignKeyConstraint(["network"], ["network.name"], name=op.f("fk_network_entry_network_network")),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["subscriber.id"], name=op.f("fk_network_entry_subscriber_id_subscriber")
        ),
        sa.PrimaryKeyConstraint("network", "imsi", name=op.f("pk_network_entry")),
    )
    op.create_index(op.f("ix_network_entry_imsi"), "network_entry", ["imsi"], unique=False)
    op.create_index(op.f("ix_network_entry_subscriber_id"), "network_entry", ["subscriber_id"], unique=False)
    op.create_index(
        "ix_network_entry_waiting",
        "network_entry",
        ["network", "queued_at"],
        unique=False,
        sqlite_where=sa.text("done_at is null"),
        postgresql_where=sa.text("done_at is null"),
    )
