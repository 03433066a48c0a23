"""Sms as a kind of credit: an account of each subscriber, the operator's side of it, and schedules that give it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    _widen_accounts()
    # The operator's own; schema.OPERATOR_ACCOUNT_IDS says why it is 0.
    op.execute("insert into account (id, kind, posted, held) values (0, 'sms', 0, 0)")
    op.execute(
        "insert into account (subscriber_id, kind, posted, held) select id, 'sms', 0, 0 from subscriber order by id"
    )
    _widen_schedules()
    _widen_runs()
    # As a constraint of the column, so that SQLite need not make this table anew: it is as long as the history.
    op.execute(
        "alter table schedule_credit add column sms_reference text"
        " constraint ck_schedule_credit_no_sms check (outcome = 'credited' or sms_reference is null)"
    )


def _widen_accounts() -> None:
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
    with op.batch_alter_table("account", copy_from=before) as account:  # SQLite copies the table
        account.drop_constraint(op.f("ck_account_kind"), type_="check")
        account.create_check_constraint(op.f("ck_account_kind"), "kind in ('voice', 'data', 'sms')")


def _widen_schedules() -> None:
    before = sa.Table(
        "schedule",
        sa.MetaData(),
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("recurrence", sa.Text(), nullable=False),
        sa.Column("day", sa.SmallInteger(), nullable=True),
        sa.Column("interval_days", sa.Integer(), nullable=True),
        sa.Column("first_on", sa.Date(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("catch_up", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("done_until", sa.Date(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("deleted_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "(recurrence = 'days') = (interval_days is not null)", name=op.f("ck_schedule_interval_days")
        ),
        sa.CheckConstraint(
            "(recurrence = 'monthly' and day between 1 and 31) or (recurrence = 'weekly' and day between 1 and 7)"
            " or (recurrence in ('days', 'once') and day is null)",
            name=op.f("ck_schedule_day"),
        ),
        sa.CheckConstraint("catch_up in ('all', 'last', 'none')", name=op.f("ck_schedule_catch_up")),
        sa.CheckConstraint("recurrence in ('monthly', 'weekly', 'days', 'once')", name=op.f("ck_schedule_recurrence")),
        sa.CheckConstraint("count >= 0", name=op.f("ck_schedule_count")),
        sa.CheckConstraint("interval_days >= 1", name=op.f("ck_schedule_interval_days_least")),
        sa.CheckConstraint("kind in (1, 2, 3)", name=op.f("ck_schedule_kind")),
        sa.CheckConstraint("value >= 0", name=op.f("ck_schedule_value")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule")),
        sa.Index(
            "ix_schedule_name",
            "name",
            sqlite_where=sa.text("deleted_at is null"),
            postgresql_where=sa.text("deleted_at is null"),
        ),
    )
    _widen_kind(before)


def _widen_runs() -> None:
    before = sa.Table(
        "schedule_run",
        sa.MetaData(),
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("schedule_id", BIG_ID, nullable=False),
        sa.Column("due_on", sa.Date(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("opened_at", INSTANT, nullable=False),
        sa.Column("closed_at", INSTANT, nullable=True),
        sa.Column("last_membership_id", BIG_ID, server_default="0", nullable=False),
        sa.Column("credited", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("passed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("(state = 'open') = (closed_at is null)", name=op.f("ck_schedule_run_closed")),
        sa.CheckConstraint("kind in (1, 2, 3)", name=op.f("ck_schedule_run_kind")),
        sa.CheckConstraint("state in ('open', 'done', 'skipped')", name=op.f("ck_schedule_run_state")),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], name=op.f("fk_schedule_run_schedule_id_schedule")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule_run")),
        sa.UniqueConstraint("schedule_id", "due_on", name=op.f("uq_schedule_run_schedule_id_due_on")),
        sa.Index(
            "ix_schedule_run_open",
            "due_on",
            "id",
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        ),
    )
    _widen_kind(before)


def _widen_kind(before: sa.Table) -> None:
    constraint = op.f(f"ck_{before.name}_kind")
    with op.batch_alter_table(before.name, copy_from=before) as table:
        table.drop_constraint(constraint, type_="check")
        table.create_check_constraint(constraint, "kind in (1, 2, 3, 4)")
