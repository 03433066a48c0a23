"""Fees: schedules that take, who is suspended because of one, and bundles that pay a part of each call."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.add_column("subscriber", sa.Column("suspended_at", INSTANT, nullable=True))
    op.add_column("schedule", sa.Column("when_short", sa.Text(), nullable=True))
    op.add_column("schedule", sa.Column("joining", sa.Text(), nullable=True))
    op.add_column("schedule", sa.Column("remind_days", sa.Text(), nullable=True))
    op.add_column("schedule", sa.Column("suspend_days", sa.Integer(), nullable=True))
    op.add_column("schedule_run", sa.Column("when_short", sa.Text(), nullable=True))
    op.add_column("schedule_run", sa.Column("undone_at", INSTANT, nullable=True))
    op.add_column("offer", sa.Column("call_seconds_max", sa.Integer(), nullable=True))
    op.add_column("bundle", sa.Column("call_seconds_max", sa.Integer(), nullable=True))
    op.create_table(
        "fee_period",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("schedule_id", BIG_ID, nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=False),
        sa.Column("due_on", sa.Date(), nullable=False),
        sa.Column("membership_id", BIG_ID, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("paid", sa.BigInteger(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("when_short", sa.Text(), nullable=False),
        sa.Column("offer_id", BIG_ID, nullable=True),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("ends_at", INSTANT, nullable=True),
        sa.Column("suspend_at", INSTANT, nullable=True),
        sa.Column("suspended_at", INSTANT, nullable=True),
        sa.Column("seen_transfer_id", BIG_ID, nullable=False),
        sa.Column("bundle_reference", sa.Text(), nullable=True),
        sa.Column("closed_at", INSTANT, nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("outcome in ('credited', 'passed', 'failed')", name=op.f("ck_fee_period_outcome")),
        sa.CheckConstraint(
            "state in ('owed', 'paid', 'waived', 'passed', 'cancelled', 'undone')", name=op.f("ck_fee_period_state")
        ),
        sa.CheckConstraint("(state = 'owed') = (closed_at is null)", name=op.f("ck_fee_period_closed")),
        sa.CheckConstraint(
            "amount >= 0 and paid >= 0 and paid <= amount and parts >= 0", name=op.f("ck_fee_period_amounts")
        ),
        sa.CheckConstraint("state <> 'paid' or paid = amount", name=op.f("ck_fee_period_paid")),
        sa.CheckConstraint("state <> 'owed' or paid < amount", name=op.f("ck_fee_period_owed")),
        sa.CheckConstraint("when_short in ('retry', 'part', 'wait')", name=op.f("ck_fee_period_when_short")),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], name=op.f("fk_fee_period_schedule_id_schedule")),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["subscriber.id"], name=op.f("fk_fee_period_subscriber_id_subscriber")
        ),
        sa.ForeignKeyConstraint(
            ["membership_id"], ["membership.id"], name=op.f("fk_fee_period_membership_id_membership")
        ),
        sa.ForeignKeyConstraint(["offer_id"], ["offer.id"], name=op.f("fk_fee_period_offer_id_offer")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fee_period")),
        sa.UniqueConstraint(
            "schedule_id", "due_on", "subscriber_id", name=op.f("uq_fee_period_schedule_id_due_on_subscriber_id")
        ),
    )
    is_owed = sa.text("state = 'owed'")
    op.create_index(
        "ix_fee_period_owed",
        "fee_period",
        ["subscriber_id", "due_at"],
        unique=False,
        sqlite_where=is_owed,
        postgresql_where=is_owed,
    )
    op.create_index(op.f("ix_fee_period_subscriber_id_id"), "fee_period", ["subscriber_id", "id"], unique=False)
    op.create_table(
        "fee_reminder",
        sa.Column("schedule_id", BIG_ID, nullable=False),
        sa.Column("due_on", sa.Date(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("last_membership_id", BIG_ID, nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], name=op.f("fk_fee_reminder_schedule_id_schedule")),
        sa.PrimaryKeyConstraint("schedule_id", "due_on", "days", name=op.f("pk_fee_reminder")),
    )
