"""Payments that providers report."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "payment",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("amount", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("credits", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=True),
        sa.Column("account_id", BIG_ID, nullable=True),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("paid_at", INSTANT, nullable=True),
        sa.Column("credited_at", INSTANT, nullable=True),
        sa.Column("reversed_at", INSTANT, nullable=True),
        sa.Column("taken", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("debt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("reversal_note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("credits > 0 and taken >= 0 and debt >= 0", name=op.f("ck_payment_amounts")),
        sa.CheckConstraint("state in ('credited', 'unassigned', 'reversed')", name=op.f("ck_payment_state")),
        sa.CheckConstraint("(state = 'reversed') = (reversed_at is not null)", name=op.f("ck_payment_reversed")),
        sa.CheckConstraint("(account_id is null) = (credited_at is null)", name=op.f("ck_payment_credited")),
        sa.CheckConstraint("state <> 'credited' or account_id is not null", name=op.f("ck_payment_account")),
        sa.CheckConstraint("state <> 'unassigned' or account_id is null", name=op.f("ck_payment_unassigned")),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name=op.f("fk_payment_subscriber_id_subscriber")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_payment_account_id_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment")),
        sa.UniqueConstraint("provider", "provider_id", name=op.f("uq_payment_provider_provider_id")),
    )
    for name, condition in (("unassigned", "state = 'unassigned'"), ("debt", "debt > 0")):
        where = sa.text(condition)
        op.create_index(f"ix_payment_{name}", "payment", ["id"], sqlite_where=where, postgresql_where=where)
    op.create_index(op.f("ix_payment_subscriber_id_id"), "payment", ["subscriber_id", "id"])
