"""Low-balance notices: which movement was told of, and how far transfers have been looked at."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "bookmark",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("transfer_id", BIG_ID, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_bookmark")),
    )
    op.create_table(
        "notice",
        sa.Column("transfer_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("account_id", BIG_ID, nullable=False),
        sa.Column("threshold", sa.BigInteger(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("(reference is null) = (note <> '')", name=op.f("ck_notice_note")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_notice_account_id_account")),
        sa.ForeignKeyConstraint(["reference"], ["message.reference"], name=op.f("fk_notice_reference_message")),
        sa.ForeignKeyConstraint(["transfer_id"], ["transfer.id"], name=op.f("fk_notice_transfer_id_transfer")),
        sa.PrimaryKeyConstraint("transfer_id", name=op.f("pk_notice")),
    )
    op.create_index(op.f("ix_notice_account_id_transfer_id"), "notice", ["account_id", "transfer_id"], unique=False)
