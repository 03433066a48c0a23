"""Data sessions that NASes tell of by RADIUS."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "data_session",
        sa.Column("id", BIG_ID, sa.Identity(always=False), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("nas", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=False),
        sa.Column("account_id", BIG_ID, nullable=False),
        sa.Column("octets_per_credit", sa.BigInteger(), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("heard_at", INSTANT, nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("nas_address", sa.Text(), nullable=False),
        sa.Column("framed_address", sa.Text(), nullable=False),
        sa.Column("station", sa.Text(), nullable=False),
        sa.Column("octets_in", sa.BigInteger(), nullable=False),
        sa.Column("octets_out", sa.BigInteger(), nullable=False),
        sa.Column("octets", sa.BigInteger(), nullable=False),
        sa.Column("charged", sa.BigInteger(), nullable=False),
        sa.Column("holds", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("dated_at", INSTANT, nullable=True),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("disconnect", sa.Text(), nullable=False),
        sa.Column("disconnect_at", INSTANT, nullable=True),
        sa.Column("disconnect_tries", sa.Integer(), nullable=False),
        sa.Column("disconnect_said", sa.Text(), nullable=False),
        sa.CheckConstraint("(state = 'open') = (closed_by is null)", name=op.f("ck_data_session_closed_by")),
        sa.CheckConstraint("(state = 'open') = (ended_at is null)", name=op.f("ck_data_session_ended")),
        sa.CheckConstraint("state in ('open', 'closed')", name=op.f("ck_data_session_state")),
        sa.CheckConstraint("octets >= 0 and charged >= 0 and holds >= 1", name=op.f("ck_data_session_counts")),
        sa.CheckConstraint("octets_per_credit > 0", name=op.f("ck_data_session_octets_per_credit")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_data_session_account_id_account")),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["subscriber.id"], name=op.f("fk_data_session_subscriber_id_subscriber")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_session")),
        sa.UniqueConstraint("key", "generation", name=op.f("uq_data_session_key_generation")),
        sa.UniqueConstraint("reference", name=op.f("uq_data_session_reference")),
    )
    op.create_index(
        "ix_data_session_disconnect",
        "data_session",
        ["disconnect_at"],
        unique=False,
        sqlite_where=sa.text("disconnect_at is not null"),
        postgresql_where=sa.text("disconnect_at is not null"),
    )
    op.create_index(
        op.f("ix_data_session_nas_started_at_id"), "data_session", ["nas", "started_at", "id"], unique=False
    )
    op.create_index(
        "ix_data_session_open",
        "data_session",
        ["started_at", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "ix_data_session_silent",
        "data_session",
        ["heard_at"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(op.f("ix_data_session_started_at_id"), "data_session", ["started_at", "id"], unique=False)
    op.create_index(
        op.f("ix_data_session_subscriber_id_started_at_id"),
        "data_session",
        ["subscriber_id", "started_at", "id"],
        unique=False,
    )
