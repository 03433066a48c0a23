"""Tariffs, bundles, groups, trunks and routes; what each call was priced by, and the limits of accounts."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    _add_tariffs()
    _add_reratings()
    _add_groups_and_routes()
    _add_bundles()
    _widen_subscribers()
    _widen_accounts()
    _widen_usage()
    op.execute("insert into catalogue_change (id, number) values (1, 0)")
    accounts = sa.table("account", *map(sa.column, ("id", "kind", "posted", "held")))
    for number, kind in ((-1, "seconds"), (-2, "messages"), (-3, "octets"), (-4, "money")):
        op.execute(sa.insert(accounts).values(id=number, kind=kind, posted=0, held=0))


def _where(name: str, table: str, columns: list[str], condition: str, *, unique: bool = False) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=unique, sqlite_where=where, postgresql_where=where)


def _refer(table: str, column: str, target: str) -> None:
    """Add a column that refers to a row of another table; SQLite takes the constraint only with its column."""
    kind = "integer" if op.get_bind().dialect.name == "sqlite" else "bigint"
    name = f"fk_{table}_{column}_{target}"
    op.execute(f'alter table "{table}" add column {column} {kind} constraint {name} references {target} (id)')


def _add_tariffs() -> None:
    op.create_table(
        "tariff",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), server_default="", nullable=False),
        sa.Column("credits_per_unit", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("deleted_at", INSTANT, nullable=True),
        sa.CheckConstraint("credits_per_unit >= 1", name=op.f("ck_tariff_credits_per_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tariff")),
    )
    _where("uq_tariff_default", "tariff", ["is_default"], "is_default and deleted_at is null", unique=True)
    _where("uq_tariff_name", "tariff", ["name"], "deleted_at is null", unique=True)
    op.create_table(
        "tariff_version",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("tariff_id", BIG_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("effective_at", INSTANT, nullable=True),
        sa.Column("holidays", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name=op.f("fk_tariff_version_tariff_id_tariff")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tariff_version")),
        sa.UniqueConstraint("tariff_id", "number", name=op.f("uq_tariff_version_tariff_id_number")),
    )
    op.create_table(
        "rate",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("tariff_id", BIG_ID, nullable=False),
        sa.Column("since_version", sa.Integer(), nullable=False),
        sa.Column("until_version", sa.Integer(), nullable=True),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("on_net", sa.Boolean(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("window", sa.Text(), server_default="", nullable=False),
        sa.Column("valid_from", INSTANT, nullable=True),
        sa.Column("valid_until", INSTANT, nullable=True),
        sa.Column("connect_fee", sa.BigInteger(), nullable=False),
        sa.Column("minimum_charge", sa.BigInteger(), nullable=False),
        sa.Column("grace", sa.BigInteger(), nullable=False),
        sa.Column("steps", sa.Text(), nullable=False),
        sa.CheckConstraint("not on_net or prefix = ''", name=op.f("ck_rate_on_net")),
        sa.CheckConstraint("service in ('voice', 'sms', 'data')", name=op.f("ck_rate_service")),
        sa.CheckConstraint("connect_fee >= 0 and minimum_charge >= 0 and grace >= 0", name=op.f("ck_rate_amounts")),
        sa.CheckConstraint("until_version > since_version", name=op.f("ck_rate_versions")),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name=op.f("fk_rate_tariff_id_tariff")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rate")),
    )
    op.create_index(
        op.f("ix_rate_tariff_id_service_prefix_id"),
        "rate",
        ["tariff_id", "service", "prefix", "id"],
    )
    op.create_index(op.f("ix_rate_tariff_id_since_version"), "rate", ["tariff_id", "since_version"])
    _where("ix_rate_until_version", "rate", ["tariff_id", "until_version"], "until_version is not null")
    op.create_table(
        "catalogue_change",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_catalogue_change_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_catalogue_change")),
    )


def _add_reratings() -> None:
    op.create_table(
        "rerating",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("call_reference", sa.Text(), nullable=False),
        sa.Column("version_id", BIG_ID, nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("difference", sa.BigInteger(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.CheckConstraint("price >= 0 and difference <> 0", name=op.f("ck_rerating_amounts")),
        sa.ForeignKeyConstraint(["call_reference"], ["call.reference"], name=op.f("fk_rerating_call_reference_call")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["tariff_version.id"], name=op.f("fk_rerating_version_id_tariff_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rerating")),
        sa.UniqueConstraint("call_reference", "version_id", name=op.f("uq_rerating_call_reference_version_id")),
    )


def _add_groups_and_routes() -> None:
    op.create_table(
        "subscriber_group",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tariff_id", BIG_ID, nullable=True),
        sa.Column("calls_max", sa.Integer(), nullable=True),
        sa.Column("subscriber_calls_max", sa.Integer(), nullable=True),
        sa.Column("barred", sa.Text(), server_default="", nullable=False),
        sa.Column("allowed", sa.Text(), server_default="", nullable=False),
        sa.Column("call_seconds_max", sa.Integer(), nullable=True),
        sa.Column("call_cost_max", sa.BigInteger(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("deleted_at", INSTANT, nullable=True),
        sa.CheckConstraint("calls_max >= 0 and subscriber_calls_max >= 0", name=op.f("ck_subscriber_group_calls_max")),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name=op.f("fk_subscriber_group_tariff_id_tariff")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriber_group")),
    )
    _where("uq_subscriber_group_name", "subscriber_group", ["name"], "deleted_at is null", unique=True)
    op.create_table(
        "trunk",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("dial", sa.Text(), nullable=False),
        sa.Column("strip", sa.Text(), server_default="", nullable=False),
        sa.Column("prepend", sa.Text(), server_default="", nullable=False),
        sa.Column("caller_id", sa.Text(), server_default="", nullable=False),
        sa.Column("tariff_id", BIG_ID, nullable=True),
        sa.Column("calls_max", sa.Integer(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("deleted_at", INSTANT, nullable=True),
        sa.CheckConstraint("calls_max >= 0", name=op.f("ck_trunk_calls_max")),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name=op.f("fk_trunk_tariff_id_tariff")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trunk")),
    )
    _where("uq_trunk_name", "trunk", ["name"], "deleted_at is null", unique=True)
    op.create_table(
        "route",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("choose", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("deleted_at", INSTANT, nullable=True),
        sa.CheckConstraint("choose in ('order', 'weight', 'cost')", name=op.f("ck_route_choose")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_route")),
    )
    _where("uq_route_prefix", "route", ["prefix"], "deleted_at is null", unique=True)
    op.create_table(
        "route_trunk",
        sa.Column("route_id", BIG_ID, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("trunk_id", BIG_ID, nullable=False),
        sa.Column("weight", sa.Integer(), server_default="1", nullable=False),
        sa.CheckConstraint("weight >= 1", name=op.f("ck_route_trunk_weight")),
        sa.ForeignKeyConstraint(["route_id"], ["route.id"], name=op.f("fk_route_trunk_route_id_route")),
        sa.ForeignKeyConstraint(["trunk_id"], ["trunk.id"], name=op.f("fk_route_trunk_trunk_id_trunk")),
        sa.PrimaryKeyConstraint("route_id", "position", name=op.f("pk_route_trunk")),
    )


def _add_bundles() -> None:
    op.create_table(
        "offer",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("services", sa.Text(), server_default="", nullable=False),
        sa.Column("destinations", sa.Text(), server_default="", nullable=False),
        sa.Column("valid_hours", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("renews", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("deleted_at", INSTANT, nullable=True),
        sa.CheckConstraint("kind in ('seconds', 'messages', 'octets', 'money')", name=op.f("ck_offer_kind")),
        sa.CheckConstraint("price >= 0 and amount > 0 and valid_hours > 0", name=op.f("ck_offer_amounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offer")),
    )
    _where("uq_offer_name", "offer", ["name"], "deleted_at is null", unique=True)
    op.create_table(
        "bundle",
        sa.Column("account_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("subscriber_id", BIG_ID, nullable=False),
        sa.Column("offer_id", BIG_ID, nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("services", sa.Text(), server_default="", nullable=False),
        sa.Column("destinations", sa.Text(), server_default="", nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("valid_from", INSTANT, nullable=False),
        sa.Column("valid_until", INSTANT, nullable=False),
        sa.Column("renews", sa.Boolean(), nullable=False),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.CheckConstraint("valid_until > valid_from", name=op.f("ck_bundle_validity")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_bundle_account_id_account")),
        sa.ForeignKeyConstraint(["offer_id"], ["offer.id"], name=op.f("fk_bundle_offer_id_offer")),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name=op.f("fk_bundle_subscriber_id_subscriber")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_bundle")),
        sa.UniqueConstraint("reference", name=op.f("uq_bundle_reference")),
    )
    _where("ix_bundle_due", "bundle", ["valid_until"], "ended_at is null")
    op.create_index(op.f("ix_bundle_subscriber_id_account_id"), "bundle", ["subscriber_id", "account_id"])
    _where("ix_bundle_living", "bundle", ["subscriber_id", "valid_until"], "ended_at is null")


def _widen_subscribers() -> None:
    _refer("subscriber", "tariff_id", "tariff")
    _refer("subscriber", "group_id", "subscriber_group")
    op.add_column("subscriber", sa.Column("calls_max", sa.Integer(), nullable=True))
    op.add_column("subscriber", sa.Column("barred", sa.Text(), nullable=True))
    op.add_column("subscriber", sa.Column("allowed", sa.Text(), nullable=True))
    op.create_index(op.f("ix_subscriber_group_id"), "subscriber", ["group_id"])


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
        sa.CheckConstraint("kind in ('voice', 'data', 'sms')", name=op.f("ck_account_kind")),
        sa.CheckConstraint("floor <= 0", name=op.f("ck_account_floor")),
        sa.CheckConstraint("held >= 0", name=op.f("ck_account_held")),
        sa.CheckConstraint("subscriber_id is not null or (posted = 0 and held = 0)", name=op.f("ck_account_system")),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name=op.f("fk_account_subscriber_id_subscriber")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("subscriber_id", "kind", name=op.f("uq_account_subscriber_id_kind")),
    )
    with op.batch_alter_table("account", copy_from=before) as account:  # SQLite copies the table
        account.drop_constraint(op.f("ck_account_kind"), type_="check")
        account.drop_constraint(op.f("uq_account_subscriber_id_kind"), type_="unique")
        account.create_check_constraint(
            op.f("ck_account_kind"), "kind in ('voice', 'data', 'sms', 'seconds', 'messages', 'octets', 'money')"
        )
        account.create_check_constraint(op.f("ck_account_bundle"), "kind in ('voice', 'data', 'sms') or posted >= 0")
        account.add_column(sa.Column("pot", sa.Integer(), server_default="0", nullable=False))
        account.add_column(sa.Column("day_limit", sa.BigInteger(), nullable=True))
        account.add_column(sa.Column("month_limit", sa.BigInteger(), nullable=True))
        account.add_column(sa.Column("spent_on", sa.Date(), nullable=True))
        account.add_column(sa.Column("spent_day", sa.BigInteger(), server_default="0", nullable=False))
        account.add_column(sa.Column("spent_month", sa.BigInteger(), server_default="0", nullable=False))
        account.create_check_constraint(op.f("ck_account_limits"), "day_limit >= 0 and month_limit >= 0")
        account.create_check_constraint(op.f("ck_account_pot"), "kind not in ('voice', 'data', 'sms') or pot = 0")
        account.create_unique_constraint(op.f("uq_account_subscriber_id_kind_pot"), ["subscriber_id", "kind", "pot"])
    _where("ix_account_limited", "account", ["spent_on"], "day_limit is not null or month_limit is not null")


def _widen_usage() -> None:
    op.add_column("call", sa.Column("rate_detail", sa.Text(), nullable=True))
    _refer("call", "tariff_version_id", "tariff_version")
    op.add_column("call", sa.Column("bundles", sa.Text(), nullable=True))
    _refer("call", "group_id", "subscriber_group")
    _refer("call", "trunk_id", "trunk")
    op.add_column("call", sa.Column("trunks_tried", sa.Text(), nullable=True))
    op.add_column("call", sa.Column("trunk_rate", sa.Text(), nullable=True))
    op.add_column("call", sa.Column("trunk_cost", sa.BigInteger(), nullable=True))
    _where("ix_call_open_group", "call", ["group_id"], "state = 'open' and group_id is not null")
    _where("ix_call_open_subscriber", "call", ["subscriber_id"], "state = 'open'")
    _where("ix_call_open_trunk", "call", ["trunk_id"], "state = 'open' and trunk_id is not null")
    op.add_column("data_session", sa.Column("rate_detail", sa.Text(), nullable=True))
    _refer("data_session", "tariff_version_id", "tariff_version")
    op.add_column("data_session", sa.Column("shares", sa.Text(), nullable=True))
    op.add_column("data_session", sa.Column("pieces", sa.Text(), nullable=True))
    _refer("message", "tariff_version_id", "tariff_version")
    op.add_column("message", sa.Column("charge", sa.BigInteger(), nullable=True))
    op.add_column("message", sa.Column("bundles", sa.Text(), nullable=True))
    _refer("schedule", "offer_id", "offer")
    _refer("schedule_run", "offer_id", "offer")
    op.add_column("schedule_credit", sa.Column("bundle_reference", sa.Text(), nullable=True))
