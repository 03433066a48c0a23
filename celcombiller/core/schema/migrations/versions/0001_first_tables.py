"""First tables: subscribers, ledger, calls."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "server",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_server")),
    )
    op.create_table(
        "subscriber",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("clid", sa.Text(), nullable=False),
        sa.Column("imsi", sa.Text(), nullable=False),
        sa.Column("cpf", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.CheckConstraint("level in (0, 1, 2)", name=op.f("ck_subscriber_level")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriber")),
        sa.UniqueConstraint("clid", name=op.f("uq_subscriber_clid")),
        sa.UniqueConstraint("cpf", name=op.f("uq_subscriber_cpf")),
        sa.UniqueConstraint("imsi", name=op.f("uq_subscriber_imsi")),
        sa.UniqueConstraint("username", name=op.f("uq_subscriber_username")),
    )
    op.create_table(
        "account",
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
    op.create_table(
        "call",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("uniqueid", sa.Text(), nullable=False),
        sa.Column("leg", sa.Integer(), nullable=False),
        sa.Column("authorization", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=False),
        sa.Column("account_id", BIG_ID, nullable=False),
        sa.Column("from_number", sa.Text(), nullable=False),
        sa.Column("to_number", sa.Text(), nullable=False),
        sa.Column("callee_id", BIG_ID, nullable=True),
        sa.Column("rate_prefix", sa.Text(), nullable=False),
        sa.Column("rate_name", sa.Text(), nullable=False),
        sa.Column("connect_fee", sa.BigInteger(), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("increment_seconds", sa.Integer(), nullable=False),
        sa.Column("granted_seconds", sa.Integer(), nullable=False),
        sa.Column("answered_early", sa.Boolean(), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("answered_at", INSTANT, nullable=True),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("talk_ms", sa.BigInteger(), nullable=True),
        sa.Column("cost", sa.BigInteger(), nullable=True),
        sa.Column("witness", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), server_default="", nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("(state = 'open') = (witness is null)", name=op.f("ck_call_witness")),
        sa.CheckConstraint("state <> 'settled' or (cost >= 0 and talk_ms >= 0)", name=op.f("ck_call_settled")),
        sa.CheckConstraint("state in ('open', 'settled', 'released', 'expired')", name=op.f("ck_call_state")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_call_account_id_account")),
        sa.ForeignKeyConstraint(["callee_id"], ["subscriber.id"], name=op.f("fk_call_callee_id_subscriber")),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name=op.f("fk_call_subscriber_id_subscriber")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_call")),
        sa.UniqueConstraint("reference", name=op.f("uq_call_reference")),
    )
    op.create_index(
        "ix_call_open",
        "call",
        ["server"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(op.f("ix_call_subscriber_id"), "call", ["subscriber_id"], unique=False)
    op.create_index(op.f("ix_call_uniqueid"), "call", ["uniqueid"], unique=False)
    op.create_table(
        "hold",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("account_id", BIG_ID, nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("opened_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.CheckConstraint("(state = 'open') = (ended_at is null)", name=op.f("ck_hold_ended")),
        sa.CheckConstraint("state in ('open', 'settled', 'released', 'expired')", name=op.f("ck_hold_state")),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_hold_amount")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_hold_account_id_account")),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_hold")),
    )
    op.create_index(
        "ix_hold_open",
        "hold",
        ["account_id"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "transfer",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("debit_account_id", BIG_ID, nullable=False),
        sa.Column("credit_account_id", BIG_ID, nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("debit_posted", sa.BigInteger(), nullable=True),
        sa.Column("credit_posted", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_transfer_amount")),
        sa.CheckConstraint("debit_account_id <> credit_account_id", name=op.f("ck_transfer_sides")),
        sa.ForeignKeyConstraint(
            ["credit_account_id"], ["account.id"], name=op.f("fk_transfer_credit_account_id_account")
        ),
        sa.ForeignKeyConstraint(
            ["debit_account_id"], ["account.id"], name=op.f("fk_transfer_debit_account_id_account")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfer")),
        sa.UniqueConstraint("reference", name=op.f("uq_transfer_reference")),
    )
    op.create_index(op.f("ix_transfer_credit_account_id_id"), "transfer", ["credit_account_id", "id"], unique=False)
    op.create_index(op.f("ix_transfer_debit_account_id_id"), "transfer", ["debit_account_id", "id"], unique=False)
    op.create_table(
        "testimony",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("witness", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("answered", sa.Boolean(), nullable=False),
        sa.Column("talk_ms", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("difference_ms", sa.BigInteger(), nullable=True),
        sa.Column("discrepancy", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["reference"], ["call.reference"], name=op.f("fk_testimony_reference_call")),
        sa.PrimaryKeyConstraint("reference", "witness", name=op.f("pk_testimony")),
    )
    op.create_index(
        "ix_testimony_discrepancy",
        "testimony",
        ["reference"],
        unique=False,
        sqlite_where=sa.text("discrepancy"),
        postgresql_where=sa.text("discrepancy"),
    )
    # The operator's own accounts, the other side of every movement; schema.OPERATOR_ACCOUNT_IDS knows their ids.
    op.execute("insert into account (id, kind, posted, held) values (1, 'voice', 0, 0), (2, 'data', 0, 0)")
