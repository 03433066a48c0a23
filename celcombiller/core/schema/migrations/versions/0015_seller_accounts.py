"""Accounts of sellers."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    limited = sa.text("day_limit is not null or month_limit is not null")
    before = sa.Table(
        "account",
        sa.MetaData(),
        sa.Column("id", BIG_ID, sa.Identity(start=100), nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("posted", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("floor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("pot", sa.Integer(), server_default="0", nullable=False),
        sa.Column("day_limit", sa.BigInteger(), nullable=True),
        sa.Column("month_limit", sa.BigInteger(), nullable=True),
        sa.Column("spent_on", sa.Date(), nullable=True),
        sa.Column("spent_day", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("spent_month", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "kind in ('voice', 'data', 'sms', 'seconds', 'messages', 'octets', 'money')", name=op.f("ck_account_kind")
        ),
        sa.CheckConstraint("held >= 0", name=op.f("ck_account_held")),
        sa.CheckConstraint("floor <= 0", name=op.f("ck_account_floor")),
        sa.CheckConstraint("subscriber_id is not null or (posted = 0 and held = 0)", name=op.f("ck_account_system")),
        sa.CheckConstraint("kind in ('voice', 'data', 'sms') or posted >= 0", name=op.f("ck_account_bundle")),
        sa.CheckConstraint("day_limit >= 0 and month_limit >= 0", name=op.f("ck_account_limits")),
        sa.CheckConstraint("kind not in ('voice', 'data', 'sms') or pot = 0", name=op.f("ck_account_pot")),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name=op.f("fk_account_subscriber_id_subscriber")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("subscriber_id", "kind", "pot", name=op.f("uq_account_subscriber_id_kind_pot")),
        sa.Index("ix_account_limited", "spent_on", sqlite_where=limited, postgresql_where=limited),
    )
    balances = "('voice', 'data', 'sms', 'seller')"
    rules = {
        "kind": "kind in ('voice', 'data', 'sms', 'seller', 'seconds', 'messages', 'octets', 'money')",
        "bundle": f"kind in {balances} or posted >= 0",
        "pot": f"kind not in {balances} or pot = 0",
    }
    with op.batch_alter_table("account", copy_from=before) as account:  # SQLite copies the table
        for name, rule in rules.items():
            account.drop_constraint(op.f(f"ck_account_{name}"), type_="check")
            account.create_check_constraint(op.f(f"ck_account_{name}"), rule)
