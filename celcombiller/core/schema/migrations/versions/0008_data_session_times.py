"""What tells a late report of a data session from one of another session with the same id: its times."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    for name in ("began_at", "reported_at"):
        op.add_column("data_session", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.add_column("data_session", sa.Column("session_seconds", sa.BigInteger(), nullable=True))
