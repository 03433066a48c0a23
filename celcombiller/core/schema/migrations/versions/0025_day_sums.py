"""Sums of transfers by day, which a job of the biller adds up, those of before too."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.create_table(
        "day_sum",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("movement", sa.Text(), nullable=False),
        sa.Column("account_kind", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("transfers", sa.BigInteger(), nullable=False),
        sa.Column("credits", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("direction in ('in', 'out', 'between')", name=op.f("ck_day_sum_direction")),
        sa.CheckConstraint("transfers > 0 and credits > 0", name=op.f("ck_day_sum_amounts")),
        sa.PrimaryKeyConstraint("day", "movement", "account_kind", "direction", name=op.f("pk_day_sum")),
    )
