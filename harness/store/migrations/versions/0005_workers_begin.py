"""When each worker entered its run, by the clock of leases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("workers") as table:
        table.add_column(sa.Column("began_at", sa.Float(), nullable=False, server_default="0"))
    # Of those before us no more is known than that it was not before the run's own beginning, nor before that of its
    # process, which was counted from the epoch.
    begun = "COALESCE((SELECT started_at FROM runs WHERE runs.id = workers.run), 0)"
    op.execute(f"UPDATE workers SET began_at = CASE WHEN born > {begun} THEN born ELSE {begun} END")
