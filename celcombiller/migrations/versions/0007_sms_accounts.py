"""Sms as a kind of credit: a third account of each subscriber, and the operator's side of its movements."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    before = sa.Table(
        "account",
        sa.MetaData(),
        sa.Column("id", BIG_ID, sa.Identity(start=100), nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("posted", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("floor", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("kind in ('voice', 'data')", name=op.f("ck_account_kind")),
        sa.CheckConstraint("floor <= 0", name=op.f("ck_account_floor")),
        sa.CheckConstraint("held >= 0", name=op.f("ck_account_held")),
        sa.CheckConstraint("subscriber_id is not null or (posted = 0 and held = 0)", name=op.f("ck_account_system")),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name=op.f("fk_account_subscriber_id_subscriber")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("subscriber_id", "kind", name=op.f("uq_account_subscriber_id_kind")),
    )
    with op.batch_alter_table("account", copy_from=before) as account:  # SQLite makes the table anew
        account.drop_constraint(op.f("ck_account_kind"), type_="check")
        account.create_check_constraint(op.f("ck_account_kind"), "kind in ('voice', 'data', 'sms')")
    # The operator's own; schema.OPERATOR_ACCOUNT_IDS says why it is 0.
    op.execute("insert into account (id, kind, posted, held) values (0, 'sms', 0, 0)")
    op.execute(
        "insert into account (subscriber_id, kind, posted, held) select id, 'sms', 0, 0 from subscriber order by id"
    )
