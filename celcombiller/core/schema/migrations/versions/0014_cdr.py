"""How far Asterisk's call detail records were read, and how they differ from the calls of the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "cdr_source",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("read_at", INSTANT, nullable=False),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("claimed_until", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cdr_source")),
    )
    op.create_table(
        "cdr_difference",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("uniqueid", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=True),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("from_number", sa.Text(), nullable=False),
        sa.Column("to_number", sa.Text(), nullable=False),
        sa.Column("cdr_ms", sa.BigInteger(), nullable=True),
        sa.Column("ledger_ms", sa.BigInteger(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("cost", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("refusal", sa.Text(), server_default="", nullable=False),
        sa.Column("found_at", INSTANT, nullable=False),
        sa.Column("settled_at", INSTANT, nullable=True),
        sa.CheckConstraint("kind in ('missing', 'open', 'duration', 'no_cdr')", name=op.f("ck_cdr_difference_kind")),
        sa.CheckConstraint("state in ('found', 'settled', 'refused')", name=op.f("ck_cdr_difference_state")),
        sa.CheckConstraint("(state = 'settled') = (settled_at is not null)", name=op.f("ck_cdr_difference_settled")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cdr_difference")),
        sa.UniqueConstraint(
            "server", "uniqueid", "kind", "started_at", name=op.f("uq_cdr_difference_server_uniqueid_kind_started_at")
        ),
    )
