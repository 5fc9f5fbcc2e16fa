"""What a person does to a run while it goes on: notes to agents, attempts that carry on, budgets of single tickets, sandboxes kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("agents") as table:
        table.add_column(sa.Column("carries_on", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("keep_until", sa.Float(), nullable=True))
        table.add_column(sa.Column("limits", sa.Text(), nullable=False, server_default="{}"))
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("ticket", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("told_at", sa.Float(), nullable=True),
    )
    op.create_index("notes_by_ticket", "notes", ["run", "ticket"])
