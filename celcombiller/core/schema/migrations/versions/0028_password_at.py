"""When the person of a session last gave their password."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.add_column("session", sa.Column("password_at", sa.DateTime(timezone=True), nullable=True))
