"""Messages to all members of a group."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "broadcast",
        sa.Column("id", BIG_ID, sa.Identity(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("group_id", BIG_ID, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("recipients", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("made_at", INSTANT, nullable=False),
        sa.Column("last_subscriber_id", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("queued", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("left_out", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cancelled_at", INSTANT, nullable=True),
        sa.Column("completed_at", INSTANT, nullable=True),
        sa.CheckConstraint("parts >= 1", name=op.f("ck_broadcast_parts")),
        sa.ForeignKeyConstraint(
            ["group_id"], ["subscriber_group.id"], name=op.f("fk_broadcast_group_id_subscriber_group")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_broadcast")),
        sa.UniqueConstraint("reference", name=op.f("uq_broadcast_reference")),
    )
    _where("ix_broadcast_open", "broadcast", ["id"], "completed_at is null")
    kind = "integer" if op.get_bind().dialect.name == "sqlite" else "bigint"
    name = "fk_message_broadcast_id_broadcast"  # SQLite takes the constraint only with its column
    op.execute(f"alter table message add column broadcast_id {kind} constraint {name} references broadcast (id)")
    columns = ["broadcast_id", "state", "queued_at", "id"]
    _where("ix_message_broadcast", "message", columns, "broadcast_id is not null")
    _where("ix_subscriber_of_group", "subscriber", ["group_id", "id", "enabled"], "deleted_at is null")
    op.drop_index(op.f("ix_subscriber_group_id"), "subscriber")


def _where(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
