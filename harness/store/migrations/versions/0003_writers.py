"""What each writer has committed, so that a batch whose commit was in doubt is never written twice."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "writers",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
    )
