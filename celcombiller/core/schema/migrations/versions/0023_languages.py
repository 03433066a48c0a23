"""The language of each subscriber."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.add_column("subscriber", sa.Column("language", sa.Text(), server_default="", nullable=False))
