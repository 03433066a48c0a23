"""Text messages: the queue, what was charged for them, and the parts that a message centre took."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "message",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=True),
        sa.Column("account_id", BIG_ID, nullable=True),
        sa.Column("from_number", sa.Text(), nullable=False),
        sa.Column("to_number", sa.Text(), nullable=False),
        sa.Column("callee_id", BIG_ID, nullable=True),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("encoding", sa.Text(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("queued_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_try_at", INSTANT, nullable=True),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("claimed_until", INSTANT, nullable=True),
        sa.CheckConstraint("origin in ('phone', 'api', 'notice')", name=op.f("ck_message_origin")),
        sa.CheckConstraint("route in ('asterisk', 'smpp')", name=op.f("ck_message_route")),
        sa.CheckConstraint("encoding in ('gsm7', 'ucs2')", name=op.f("ck_message_encoding")),
        sa.CheckConstraint("parts >= 1", name=op.f("ck_message_parts")),
        sa.CheckConstraint("price >= 0", name=op.f("ck_message_price")),
        sa.CheckConstraint("(subscriber_id is null) = (account_id is null)", name=op.f("ck_message_payer")),
        sa.CheckConstraint(
            "state in ('queued', 'sending', 'accepted', 'delivered', 'failed', 'refused', 'expired')",
            name=op.f("ck_message_state"),
        ),
        sa.CheckConstraint("(state in ('queued', 'sending')) = (ended_at is null)", name=op.f("ck_message_ended")),
        sa.CheckConstraint("(state = 'queued') = (text is not null)", name=op.f("ck_message_text")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_message_account_id_account")),
        sa.ForeignKeyConstraint(["callee_id"], ["subscriber.id"], name=op.f("fk_message_callee_id_subscriber")),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name=op.f("fk_message_subscriber_id_subscriber")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message")),
        sa.UniqueConstraint("reference", name=op.f("uq_message_reference")),
    )
    op.create_index(
        "ix_message_queued",
        "message",
        ["route", "queued_at", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_message_open",
        "message",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("ended_at is null"),
        postgresql_where=sa.text("ended_at is null"),
    )
    op.create_index(op.f("ix_message_queued_at_id"), "message", ["queued_at", "id"], unique=False)
    op.create_index(
        op.f("ix_message_subscriber_id_queued_at_id"), "message", ["subscriber_id", "queued_at", "id"], unique=False
    )
    op.create_table(
        "message_part",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("network_id", sa.Text(), nullable=False),
        sa.Column("accepted_at", INSTANT, nullable=False),
        sa.Column("delivered_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["reference"], ["message.reference"], name=op.f("fk_message_part_reference_message")),
        sa.PrimaryKeyConstraint("reference", "part", name=op.f("pk_message_part")),
    )
    op.create_index(op.f("ix_message_part_network_id"), "message_part", ["network_id"], unique=False)
