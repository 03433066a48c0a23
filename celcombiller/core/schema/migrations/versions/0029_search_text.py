"""What subscribers are searched by, in small letters without accents."""

import sqlalchemy as sa
from alembic import op

from celcombiller.core.model.subscribers import make_search_text

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

CHUNK_ROWS = 10_000


def upgrade() -> None:
    """Bring the tables from the version before to this one."""
    op.add_column("subscriber", sa.Column("search_text", sa.Text(), server_default="", nullable=False))
    tx, last = op.get_bind(), 0
    rows = sa.text(
        "select id, username, name, clid, imsi, cpf from subscriber where id > :last order by id limit :most"
    )
    change = sa.text("update subscriber set search_text = :search_text where id = :id")
    while found := tx.execute(rows, {"last": last, "most": CHUNK_ROWS}).mappings().all():
        last = found[-1]["id"]
        tx.execute(change, [{"id": row["id"], "search_text": make_search_text({**row})} for row in found])
