"""The REST API and schedules: sessions, tokens, trail, groups; deleted subscribers; indexes that lists page by."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)
IDENTITIES = ("username", "clid", "imsi", "cpf")


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "imported",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("row_id", BIG_ID, nullable=False),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_imported")),
    )
    op.create_table(
        "login_attempt",
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("who", name=op.f("pk_login_attempt")),
    )
    op.create_index(op.f("ix_login_attempt_last_at"), "login_attempt", ["last_at"], unique=False)
    op.create_table(
        "node",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_node")),
    )
    op.create_table(
        "schedule",
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
    )
    op.create_index(
        "ix_schedule_name",
        "schedule",
        ["name"],
        unique=False,
        sqlite_where=sa.text("deleted_at is null"),
        postgresql_where=sa.text("deleted_at is null"),
    )
    op.create_table(
        "trail",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trail")),
    )
    op.create_index(op.f("ix_trail_actor_id"), "trail", ["actor", "id"], unique=False)
    op.create_index(op.f("ix_trail_subject_id"), "trail", ["subject", "id"], unique=False)
    op.create_table(
        "membership",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("schedule_id", BIG_ID, nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("joined_on", sa.Date(), nullable=False),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.CheckConstraint("count >= 0", name=op.f("ck_membership_count")),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], name=op.f("fk_membership_schedule_id_schedule")),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["subscriber.id"], name=op.f("fk_membership_subscriber_id_subscriber")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_membership")),
    )
    op.create_index(op.f("ix_membership_subscriber_id_id"), "membership", ["subscriber_id", "id"], unique=False)
    op.create_index(
        "ix_membership_living",
        "membership",
        ["schedule_id", "id"],
        unique=False,
        sqlite_where=sa.text("ended_at is null"),
        postgresql_where=sa.text("ended_at is null"),
    )
    op.create_index(
        "uq_membership_living",
        "membership",
        ["subscriber_id", "schedule_id"],
        unique=True,
        sqlite_where=sa.text("ended_at is null"),
        postgresql_where=sa.text("ended_at is null"),
    )
    op.create_table(
        "session",
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name=op.f("fk_session_subscriber_id_subscriber")),
        sa.PrimaryKeyConstraint("secret_hash", name=op.f("pk_session")),
    )
    op.create_index(op.f("ix_session_expires_at"), "session", ["expires_at"], unique=False)
    op.create_index(op.f("ix_session_subscriber_id"), "session", ["subscriber_id"], unique=False)
    op.create_table(
        "token",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name=op.f("fk_token_subscriber_id_subscriber")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_token_secret_hash")),
    )
    op.create_index(op.f("ix_token_subscriber_id"), "token", ["subscriber_id"], unique=False)
    op.create_table(
        "contract",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("membership_id", BIG_ID, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("months", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["membership_id"], ["membership.id"], name=op.f("fk_contract_membership_id_membership")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contract")),
    )
    op.create_index(op.f("ix_contract_membership_id"), "contract", ["membership_id"], unique=False)
    op.create_table(
        "schedule_run",
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
    )
    op.create_index(
        "ix_schedule_run_open",
        "schedule_run",
        ["due_on", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "schedule_credit",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("schedule_id", BIG_ID, nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=False),
        sa.Column("due_on", sa.Date(), nullable=False),
        sa.Column("membership_id", BIG_ID, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("voice_reference", sa.Text(), nullable=True),
        sa.Column("data_reference", sa.Text(), nullable=True),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("outcome in ('credited', 'passed', 'failed')", name=op.f("ck_schedule_credit_outcome")),
        sa.CheckConstraint(
            "outcome = 'credited' or (voice_reference is null and data_reference is null)",
            name=op.f("ck_schedule_credit_nothing"),
        ),
        sa.ForeignKeyConstraint(
            ["membership_id"], ["membership.id"], name=op.f("fk_schedule_credit_membership_id_membership")
        ),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], name=op.f("fk_schedule_credit_schedule_id_schedule")),
        sa.ForeignKeyConstraint(
            ["subscriber_id"], ["subscriber.id"], name=op.f("fk_schedule_credit_subscriber_id_subscriber")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule_credit")),
        sa.UniqueConstraint(
            "schedule_id", "due_on", "subscriber_id", name=op.f("uq_schedule_credit_schedule_id_due_on_subscriber_id")
        ),
    )
    op.create_index(
        "ix_schedule_credit_odd",
        "schedule_credit",
        ["schedule_id", "due_on", "id"],
        unique=False,
        sqlite_where=sa.text("outcome <> 'credited'"),
        postgresql_where=sa.text("outcome <> 'credited'"),
    )
    op.create_index(
        op.f("ix_schedule_credit_subscriber_id_id"), "schedule_credit", ["subscriber_id", "id"], unique=False
    )
    op.create_table(
        "transfer_detail",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("to_subscriber_id", BIG_ID, nullable=True),
        sa.Column("user_ip", sa.Text(), nullable=True),
        sa.Column("connection_ip", sa.Text(), nullable=True),
        sa.Column("said_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["reference"], ["transfer.reference"], name=op.f("fk_transfer_detail_reference_transfer")
        ),
        sa.ForeignKeyConstraint(
            ["to_subscriber_id"], ["subscriber.id"], name=op.f("fk_transfer_detail_to_subscriber_id_subscriber")
        ),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_transfer_detail")),
    )
    op.drop_index(op.f("ix_call_subscriber_id"), table_name="call")
    op.create_index(
        "ix_call_expired",
        "call",
        ["started_at", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'expired'"),
        postgresql_where=sa.text("state = 'expired'"),
    )
    op.create_index(op.f("ix_call_started_at_id"), "call", ["started_at", "id"], unique=False)
    op.create_index(
        op.f("ix_call_subscriber_id_started_at_id"), "call", ["subscriber_id", "started_at", "id"], unique=False
    )
    op.drop_index("ix_call_open", "call")
    op.create_index(
        "ix_call_open",
        "call",
        ["started_at", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(op.f("ix_call_server_started_at_id"), "call", ["server", "started_at", "id"], unique=False)
    before = sa.Table(
        "subscriber",
        sa.MetaData(),
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
        *(sa.UniqueConstraint(name, name=op.f(f"uq_subscriber_{name}")) for name in IDENTITIES),
    )
    with op.batch_alter_table("subscriber", copy_from=before) as subscriber:  # SQLite copies the table
        subscriber.add_column(sa.Column("deleted_at", INSTANT, nullable=True))
        for name in IDENTITIES:
            subscriber.drop_constraint(op.f(f"uq_subscriber_{name}"), type_="unique")
    for name in IDENTITIES:
        op.create_index(
            f"uq_subscriber_{name}",
            "subscriber",
            [name],
            unique=True,
            sqlite_where=sa.text("deleted_at is null"),
            postgresql_where=sa.text("deleted_at is null"),
        )
    op.create_index(op.f("ix_transfer_at_id"), "transfer", ["at", "id"], unique=False)
