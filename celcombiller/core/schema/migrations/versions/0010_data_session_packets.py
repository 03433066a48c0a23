"""What tells a counter of octets that wrapped from one that was set back: the packets of a data session."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    for name in ("packets_in", "packets_out"):
        op.add_column("data_session", sa.Column(name, sa.BigInteger(), nullable=True))
