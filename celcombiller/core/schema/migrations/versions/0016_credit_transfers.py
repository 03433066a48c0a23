"""Transfers between subscribers."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "credit_transfer",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("payer_id", BIG_ID, nullable=False),
        sa.Column("recipient_id", BIG_ID, nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("fee", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code_hash", sa.Text(), nullable=True),
        sa.Column("codes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("coded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("made_on", sa.Date(), nullable=True),
        sa.Column("day_limit", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("amount > 0 and fee >= 0", name=op.f("ck_credit_transfer_amounts")),
        sa.CheckConstraint("state in ('asked', 'made', 'cancelled')", name=op.f("ck_credit_transfer_state")),
        sa.CheckConstraint("(state = 'asked') = (ended_at is null)", name=op.f("ck_credit_transfer_ended")),
        sa.CheckConstraint("(state = 'made') = (made_on is not null)", name=op.f("ck_credit_transfer_made")),
        sa.CheckConstraint("payer_id <> recipient_id", name=op.f("ck_credit_transfer_sides")),
        sa.ForeignKeyConstraint(["payer_id"], ["subscriber.id"], name=op.f("fk_credit_transfer_payer_id_subscriber")),
        sa.ForeignKeyConstraint(
            ["recipient_id"], ["subscriber.id"], name=op.f("fk_credit_transfer_recipient_id_subscriber")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_transfer")),
        sa.UniqueConstraint("reference", name=op.f("uq_credit_transfer_reference")),
    )
    asked = sa.text("state = 'asked'")
    op.create_index(
        "ix_credit_transfer_asked", "credit_transfer", ["expires_at"], sqlite_where=asked, postgresql_where=asked
    )
    op.create_index("ix_credit_transfer_payer_id_id", "credit_transfer", ["payer_id", "id"])
    op.create_index("ix_credit_transfer_payer_id_made_on", "credit_transfer", ["payer_id", "made_on"])
    op.create_index("ix_credit_transfer_recipient_id_id", "credit_transfer", ["recipient_id", "id"])
