"""Live calls: the renewals of their grants, what operators want of them, and whose are to be looked at again."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "call_renewal",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("seconds_before", sa.Integer(), nullable=False),
        sa.Column("seconds_after", sa.Integer(), nullable=False),
        sa.Column("held_before", sa.BigInteger(), nullable=False),
        sa.Column("held_after", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("reason in ('renewal', 'credit', 'sharing', 'limit')", name=op.f("ck_call_renewal_reason")),
        sa.ForeignKeyConstraint(["reference"], ["call.reference"], name=op.f("fk_call_renewal_reference_call")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_call_renewal")),
    )
    op.create_index("ix_call_renewal_reference_id", "call_renewal", ["reference", "id"])
    op.create_table(
        "call_order",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("made_at", INSTANT, nullable=False),
        sa.Column("done_at", INSTANT, nullable=True),
        sa.Column("result", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("kind in ('hangup', 'say')", name=op.f("ck_call_order_kind")),
        sa.CheckConstraint("(done_at is null) = (result = '')", name=op.f("ck_call_order_result")),
        sa.ForeignKeyConstraint(["reference"], ["call.reference"], name=op.f("fk_call_order_reference_call")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_call_order")),
    )
    op.create_index("ix_call_order_reference_id", "call_order", ["reference", "id"])
    where = sa.text("done_at is null")
    op.create_index("ix_call_order_waiting", "call_order", ["id"], sqlite_where=where, postgresql_where=where)
    op.create_table(
        "live_change",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=True),
        sa.Column("at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["subscriber.id"], name=op.f("fk_live_change_subscriber_id_subscriber")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_live_change")),
    )
    op.create_index("ix_live_change_at", "live_change", ["at"])
