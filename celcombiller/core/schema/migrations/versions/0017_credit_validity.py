"""How long credit is valid, and what of it expired."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "credit_validity_terms",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("looked_at", INSTANT, nullable=False),
        sa.Column("paused_until", INSTANT, nullable=True),
        sa.Column("opened_until", BIG_ID, server_default="0", nullable=False),
        sa.CheckConstraint("days >= 1", name=op.f("ck_credit_validity_terms_days")),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_credit_validity_terms")),
    )
    op.create_table(
        "credit_validity",
        sa.Column("account_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("topped_up_at", INSTANT, nullable=False),
        sa.Column("counted_before", INSTANT, nullable=True),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.Column("warned_at", INSTANT, nullable=True),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_credit_validity_account_id_account")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_credit_validity")),
    )
    for name, condition in (("due", "ended_at is null"), ("warn", "ended_at is null and warned_at is null")):
        op.create_index(
            f"ix_credit_validity_{name}",
            "credit_validity",
            ["kind", "topped_up_at"],
            sqlite_where=sa.text(condition),
            postgresql_where=sa.text(condition),
        )
    op.create_table(
        "credit_expiry",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("account_id", BIG_ID, nullable=False),
        sa.Column("topped_up_at", INSTANT, nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("top_ups", sa.Text(), nullable=False),
        sa.Column("valid_until", sa.Date(), nullable=False),
        sa.Column("ended_at", INSTANT, nullable=False),
        sa.CheckConstraint("days >= 1", name=op.f("ck_credit_expiry_days")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_credit_expiry_account_id_account")),
        sa.ForeignKeyConstraint(
            ["reference"], ["transfer.reference"], name=op.f("fk_credit_expiry_reference_transfer")
        ),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_credit_expiry")),
    )
    op.create_index(op.f("ix_credit_expiry_account_id"), "credit_expiry", ["account_id"])
