"""What Asterisk sent of who calls and of the number, where the call's row says it in another form."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.add_column("call", sa.Column("dialled", sa.Text(), nullable=True))
