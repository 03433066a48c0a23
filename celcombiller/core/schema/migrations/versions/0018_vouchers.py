"""Vouchers: cards with a secret code, which are redeemed once."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    _add_batches()
    _add_cards()


def _add_batches() -> None:
    op.create_table(
        "voucher_batch",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cards", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("credit_days", sa.Integer(), nullable=True),
        sa.Column("offer_id", BIG_ID, nullable=True),
        sa.Column("bundle_name", sa.Text(), server_default="", nullable=False),
        sa.Column("services", sa.Text(), server_default="", nullable=False),
        sa.Column("destinations", sa.Text(), server_default="", nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("call_seconds_max", sa.Integer(), nullable=True),
        sa.Column("valid_hours", sa.Integer(), nullable=True),
        sa.Column("valid_until", INSTANT, nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("made_at", INSTANT, nullable=False),
        sa.Column("completed_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "kind in ('voice', 'data', 'sms', 'seconds', 'messages', 'octets', 'money')",
            name=op.f("ck_voucher_batch_kind"),
        ),
        sa.CheckConstraint("cards > 0 and value > 0", name=op.f("ck_voucher_batch_amounts")),
        sa.CheckConstraint(
            "(kind in ('voice', 'data', 'sms')) = (offer_id is null) and (offer_id is null) = (valid_hours is null)",
            name=op.f("ck_voucher_batch_offer"),
        ),
        sa.CheckConstraint(
            "credit_days is null or (credit_days > 0 and offer_id is null)", name=op.f("ck_voucher_batch_credit_days")
        ),
        sa.ForeignKeyConstraint(["offer_id"], ["offer.id"], name=op.f("fk_voucher_batch_offer_id_offer")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voucher_batch")),
    )
    completed = sa.text("completed_at is not null")
    for name in ("name", "reference"):
        op.create_index(
            f"uq_voucher_batch_{name}",
            "voucher_batch",
            [name],
            unique=True,
            sqlite_where=completed,
            postgresql_where=completed,
        )
    op.create_table(
        "voucher_range",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("batch_id", BIG_ID, nullable=False),
        sa.Column("first_serial", sa.Integer(), nullable=False),
        sa.Column("last_serial", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("seller_id", BIG_ID, nullable=True),
        sa.Column("price", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("state in ('active', 'revoked')", name=op.f("ck_voucher_range_state")),
        sa.CheckConstraint("first_serial >= 1 and last_serial >= first_serial", name=op.f("ck_voucher_range_serials")),
        sa.CheckConstraint("price >= 0 and (price = 0 or seller_id is not null)", name=op.f("ck_voucher_range_price")),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["voucher_batch.id"], name=op.f("fk_voucher_range_batch_id_voucher_batch")
        ),
        sa.ForeignKeyConstraint(["seller_id"], ["subscriber.id"], name=op.f("fk_voucher_range_seller_id_subscriber")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voucher_range")),
    )
    op.create_index("ix_voucher_range_batch_id_first_serial", "voucher_range", ["batch_id", "first_serial"])
    op.create_index("ix_voucher_range_seller_id", "voucher_range", ["seller_id"])


def _add_cards() -> None:
    op.create_table(
        "voucher",
        sa.Column("batch_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("serial", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("code_hash", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["voucher_batch.id"], name=op.f("fk_voucher_batch_id_voucher_batch")),
        sa.PrimaryKeyConstraint("batch_id", "serial", name=op.f("pk_voucher")),
        sa.UniqueConstraint("code_hash", name=op.f("uq_voucher_code_hash")),
    )
    op.create_table(
        "voucher_redemption",
        sa.Column("batch_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("serial", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id", "serial"],
            ["voucher.batch_id", "voucher.serial"],
            name=op.f("fk_voucher_redemption_batch_id_voucher"),
        ),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["subscriber.id"], name=op.f("fk_voucher_redemption_subscriber_id_subscriber")
        ),
        sa.PrimaryKeyConstraint("batch_id", "serial", name=op.f("pk_voucher_redemption")),
    )
    op.create_index("ix_voucher_redemption_subscriber_id_at", "voucher_redemption", ["subscriber_id", "at"])
