"""Sellers, receipts and PINs."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "seller",
        sa.Column("subscriber_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("account_id", BIG_ID, nullable=False),
        sa.Column("parent_id", BIG_ID, nullable=True),
        sa.Column("seller_class", sa.Text(), server_default="", nullable=False),
        sa.Column("commission", sa.Text(), nullable=False),
        sa.Column("commission_rate", sa.Integer(), nullable=False),
        sa.Column("sale_max", sa.BigInteger(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.CheckConstraint("commission in ('none', 'discount', 'bonus')", name=op.f("ck_seller_commission")),
        sa.CheckConstraint("commission_rate between 0 and 10000", name=op.f("ck_seller_commission_rate")),
        sa.CheckConstraint("sale_max > 0", name=op.f("ck_seller_sale_max")),
        sa.CheckConstraint("parent_id <> subscriber_id", name=op.f("ck_seller_parent")),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name=op.f("fk_seller_subscriber_id_subscriber")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_seller_account_id_account")),
        sa.ForeignKeyConstraint(["parent_id"], ["seller.subscriber_id"], name=op.f("fk_seller_parent_id_seller")),
        sa.PrimaryKeyConstraint("subscriber_id", name=op.f("pk_seller")),
        sa.UniqueConstraint("account_id", name=op.f("uq_seller_account_id")),
    )
    op.create_index("ix_seller_parent_id", "seller", ["parent_id"])
    op.create_table(
        "receipt_series",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seller_id", BIG_ID, nullable=True),
        sa.Column("last_number", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("last_number >= 0", name=op.f("ck_receipt_series_last_number")),
        sa.ForeignKeyConstraint(
            ["seller_id"], ["seller.subscriber_id"], name=op.f("fk_receipt_series_seller_id_seller")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_receipt_series")),
        sa.UniqueConstraint("seller_id", name=op.f("uq_receipt_series_seller_id")),
    )
    op.create_table(
        "receipt",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("giver_id", BIG_ID, nullable=True),
        sa.Column("taker_id", BIG_ID, nullable=False),
        sa.Column("to_number", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("commission", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("paid", sa.BigInteger(), nullable=True),
        sa.Column("tax_rate", sa.Integer(), server_default="0", nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("voided_at", INSTANT, nullable=True),
        sa.CheckConstraint("kind in ('sale', 'refill', 'return', 'credit')", name=op.f("ck_receipt_kind")),
        sa.CheckConstraint(
            "number > 0 and amount > 0 and commission >= 0 and tax_rate >= 0", name=op.f("ck_receipt_amounts")
        ),
        sa.ForeignKeyConstraint(["series"], ["receipt_series.name"], name=op.f("fk_receipt_series_receipt_series")),
        sa.ForeignKeyConstraint(["giver_id"], ["seller.subscriber_id"], name=op.f("fk_receipt_giver_id_seller")),
        sa.ForeignKeyConstraint(["taker_id"], ["subscriber.id"], name=op.f("fk_receipt_taker_id_subscriber")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipt")),
        sa.UniqueConstraint("reference", name=op.f("uq_receipt_reference")),
        sa.UniqueConstraint("series", "number", name=op.f("uq_receipt_series_number")),
    )
    for columns in (["giver_id", "id"], ["taker_id", "id"], ["at", "id"]):
        op.create_index(f"ix_receipt_{'_'.join(columns)}", "receipt", columns)
    op.create_table(
        "pin",
        sa.Column("subscriber_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("pin_hash", sa.Text(), nullable=False),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name=op.f("fk_pin_subscriber_id_subscriber")),
        sa.PrimaryKeyConstraint("subscriber_id", name=op.f("pk_pin")),
    )
